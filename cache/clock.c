/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The two clocks of include/clock.h, and the offset by which tests move them. */
#include "include/clock.h"

#include <stdatomic.h>

#include "include/obj.h"

static _Atomic int64_t clock_offset_ms;

static int64_t
clock_read_ms(clockid_t id)
{
	struct timespec ts;

	(void)clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000 +
	    atomic_load_explicit(&clock_offset_ms, memory_order_relaxed);
}

int64_t
clock_mono_ms(void)
{
	return clock_read_ms(CLOCK_MONOTONIC);
}

int64_t
clock_wall_ms(void)
{
	return clock_read_ms(CLOCK_REALTIME);
}

int64_t
clock_wall_s(void)
{
	return clock_wall_ms() / 1000;
}

void
clock_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t monotonic;

	AZ(pthread_condattr_init(&monotonic));
	AZ(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC));
	AZ(pthread_cond_init(cond, &monotonic));
	AZ(pthread_condattr_destroy(&monotonic));
}

struct timespec
clock_deadline(int64_t in_ms)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	if (in_ms <= 0)
		return ts;
	ts.tv_sec += (time_t)(in_ms / 1000);
	ts.tv_nsec += (long)(in_ms % 1000) * 1000000;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000;
	}
	return ts;
}

void
clock_test_advance(int64_t ms)
{
	atomic_fetch_add(&clock_offset_ms, ms);
}
