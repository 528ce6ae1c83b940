/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * How a stage thread waits for flights: it attaches to them as a reader, and
 * each rings the thread's bell when something happened. Used by the set and by
 * what stores a Release.
 */
#include "cache/stage_priv.h"

#include <errno.h>

#include "include/clock.h"

void
stage_wait_ring(struct flight_reader *r)
{
	struct stage_bell *bell = CONTAINER_OF(r, struct stage_reader, reader)->bell;

	AZ(pthread_mutex_lock(&bell->lock));
	bell->ringing = true;
	AZ(pthread_cond_signal(&bell->rung));
	AZ(pthread_mutex_unlock(&bell->lock));
}

void
stage_wait_init(struct stage_bell *bell)
{
	AZ(pthread_mutex_init(&bell->lock, NULL));
	clock_cond_init(&bell->rung);
	bell->ringing = false;
}

void
stage_wait_fini(struct stage_bell *bell)
{
	AZ(pthread_cond_destroy(&bell->rung));
	AZ(pthread_mutex_destroy(&bell->lock));
}

/* Sleeps until it rings or the time comes. */
static void
stage_wait_sleep(struct stage_bell *bell, int64_t until_ms)
{
	struct timespec ts = clock_deadline(until_ms - clock_mono_ms());

	AZ(pthread_mutex_lock(&bell->lock));
	while (!bell->ringing &&
	    pthread_cond_timedwait(&bell->rung, &bell->lock, &ts) != ETIMEDOUT)
		;
	bell->ringing = false;
	AZ(pthread_mutex_unlock(&bell->lock));
}

/* Is there nothing more to wait for? If so far not, the bell will ring. */
static bool
stage_wait_settled(struct stage_reader *sr)
{
	struct flight *f = sr->reader.f;

	/* Its state may move between the two looks: then it would not ring. */
	while (!flight_wait(&sr->reader, UINT64_MAX, flight_state(f)))
		;
	return flight_state(f) == FLIGHT_FAILED || flight_state(f) == FLIGHT_CONFIRMED ||
	    flight_is_settled(f);
}

bool
stage_wait_all(struct stage_bell *bell, struct stage_reader *v, unsigned n, int64_t until_ms)
{
	for (;;) {
		unsigned open_n = 0;

		for (unsigned i = 0; i < n; i++)
			open_n += v[i].reader.f != NULL && !stage_wait_settled(&v[i]);
		if (open_n == 0)
			return true;
		if (clock_mono_ms() >= until_ms)
			return false;
		stage_wait_sleep(bell, until_ms);
	}
}
