/* SPDX-License-Identifier: MIT */
/* Dying on demand, for the tests that prove that a target survives it: see docs/HOWTO_TEST.md. */
#include "capture/attach/fault.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

void silt_fault_point(void)
{
	static unsigned long passed;
	const char *at = getenv("SILT_FAULT");

	if (at && ++passed == strtoul(at, NULL, 10))
		kill(getpid(), SIGKILL);
}
