/* SPDX-License-Identifier: MIT */
/** silt doctor: how names are looked up here. */
#ifndef SILT_CLI_DOCTOR_SYMBOLS_H
#define SILT_CLI_DOCTOR_SYMBOLS_H

/** Prints each setting with the place it comes from, then what it leads to. */
void silt_doctor_symbols(void);

#endif
