/* SPDX-License-Identifier: MIT */
/* cmocka and the headers it must be preceded by. */
#ifndef SILT_TESTS_BASE_CMOCKA_ALL_H
#define SILT_TESTS_BASE_CMOCKA_ALL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
