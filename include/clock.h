/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CLOCK_H
#define CLOCK_H
/*
 * Time. Durations and deadlines use the monotonic clock in milliseconds;
 * what is stored or told to others uses the wall clock. Event loops read the
 * clock once a turn and hand `now_ms` down.
 */
#include <pthread.h>
#include <stdint.h>
#include <time.h>

int64_t clock_mono_ms(void);	/* monotonic, milliseconds */
int64_t clock_wall_ms(void);	/* since 1970, milliseconds */
int64_t clock_wall_s(void);	/* since 1970, seconds */

/* For waits that no setting of the wall clock shortens or prolongs: the condition, its deadline. */
void clock_cond_init(pthread_cond_t *cond);
struct timespec clock_deadline(int64_t in_ms);

/* Tests move both clocks forward by this much. */
void clock_test_advance(int64_t ms);

#endif
