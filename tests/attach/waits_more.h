/* SPDX-License-Identifier: MIT */
/** More kinds of waits: 0, or -1 when one did not end as it should. */
#ifndef WAITS_MORE_H
#define WAITS_MORE_H

long wait_uring(int seconds);
long wait_vectors(int seconds);
long wait_tiles(int seconds);

#endif
