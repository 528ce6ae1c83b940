/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CLOCK_H
#define CLOCK_H
/*
 * Time. Durations and deadlines use the monotonic clock in milliseconds;
 * what is stored or told to others uses the wall clock. Event loops read the
 * clock once a turn and hand `now_ms` down.
 */
#include <stdint.h>

int64_t clock_mono_ms(void);	/* monotonic, milliseconds */
int64_t clock_wall_ms(void);	/* since 1970, milliseconds */
int64_t clock_wall_s(void);	/* since 1970, seconds */

/* Tests move both clocks forward by this much. */
void clock_test_advance(int64_t ms);

#endif
