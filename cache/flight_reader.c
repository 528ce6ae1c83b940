/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Who follows a flight: the requests that wait for it and read from it. See
 * include/flight.h for what each of them may do when. The list of readers is
 * under the flight's lock; what one reads it looks at without it.
 */
#include "cache/flight_priv.h"

#include "include/counter.h"

void
flight_wake_reader(struct flight_reader *r)
{
	if (!r->waiting)
		return;
	r->waiting = false;
	r->wake(r);
}

void
flight_wake_readers(struct flight *f, uint64_t upto)
{
	struct flight_reader *r;

	TAILQ_FOREACH(r, &f->readers, link)
		if (r->seen_bytes < upto || upto == UINT64_MAX)
			flight_wake_reader(r);
}

/*
 * The reader turns away from its body. One that is shown no more is closed with its last reader
 * (lock held).
 */
static void
flight_leave_body(struct flight *f, struct flight_reader *r)
{
	struct flight_body *b = r->body;

	r->body = NULL;
	AN(b->readers_n);
	if (--b->readers_n == 0 && b != flight_shown(f))
		flight_body_close(f, b);
}

void
flight_attach(struct flight *f, struct flight_reader *r, bool owner)
{
	bool news;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	AZ(r->f);
	r->f = flight_ref(f);
	r->waiting = false;
	r->owner = owner;
	r->begun = false;
	atomic_store(&r->at, 0);
	atomic_store(&r->in_use, false);
	r->want_first = 0;
	r->want_end = UINT64_MAX;
	r->slow_ms = 0;
	AZ(pthread_mutex_lock(&f->lock));
	TAILQ_INSERT_TAIL(&f->readers, r, link);
	r->body = flight_shown(f);
	r->body->readers_n++;
	r->late = f->closed;
	atomic_store(&r->left_behind, !flight_ring_has_start(r->body));
	news = f->readers_n == 0 || (!r->ahead && f->readers_n == f->ahead_n);
	f->readers_n++;
	f->ahead_n += r->ahead;
	if (news && f->driver.crowd != NULL)
		f->driver.crowd(f->driver.arg);
	AZ(pthread_mutex_unlock(&f->lock));
	COUNT(flight_readers_open);
}

void
flight_detach(struct flight_reader *r)
{
	struct flight *f = r->f;

	if (f == NULL)
		return;
	CHECK_OBJ(f, FLIGHT_MAGIC);
	AZ(pthread_mutex_lock(&f->lock));
	TAILQ_REMOVE(&f->readers, r, link);
	flight_leave_body(f, r);
	flight_ring_moved(f);
	AN(f->readers_n);
	f->ahead_n -= r->ahead;
	if (--f->readers_n == 0 && f->driver.crowd != NULL)
		f->driver.crowd(f->driver.arg);
	AZ(pthread_mutex_unlock(&f->lock));
	COUNT_DOWN(flight_readers_open);
	r->waiting = false;
	flight_unref(&r->f);
}

void
flight_reader_front(struct flight_reader *r)
{
	struct flight *f = r->f;

	if (!r->ahead || f == NULL) {
		r->ahead = false;
		return;
	}
	CHECK_OBJ(f, FLIGHT_MAGIC);
	AZ(pthread_mutex_lock(&f->lock));
	r->ahead = false;
	AN(f->ahead_n);
	f->ahead_n--;
	if (f->readers_n - f->ahead_n == 1 && f->driver.crowd != NULL)
		f->driver.crowd(f->driver.arg);
	AZ(pthread_mutex_unlock(&f->lock));
}

bool
flight_wait(struct flight_reader *r, uint64_t seen_bytes, enum flight_state seen_state)
{
	struct flight *f = r->f;
	bool wait;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	AZ(pthread_mutex_lock(&f->lock));
	wait = flight_readable_locked(f, seen_bytes) <= seen_bytes && flight_state(f) == seen_state &&
	    !(r->begun && atomic_load(&r->body->lost)) && !atomic_load(&r->left_behind);
	r->waiting = wait;
	r->seen_bytes = seen_bytes;
	AZ(pthread_mutex_unlock(&f->lock));
	return wait;
}

bool
flight_refresh(struct flight_reader *r)
{
	struct flight *f = r->f;
	bool start;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	MUST(!r->begun);
	if (atomic_load(&r->left_behind)) {
		/* Who asks again is not to find this one again before its writer sees that, too. */
		AZ(pthread_mutex_lock(&f->lock));
		start = flight_ring_has_start(r->body);
		AZ(pthread_mutex_unlock(&f->lock));
		if (!start)
			cache_unlist(f);
		return false;
	}
	if (r->body == flight_shown(f))
		return true;
	AZ(pthread_mutex_lock(&f->lock));
	flight_leave_body(f, r);
	r->body = flight_shown(f);
	r->body->readers_n++;
	AZ(pthread_mutex_unlock(&f->lock));
	return true;
}

/* The reader is done with all before `at`: a writer may wait for that. */
static void
flight_pass(struct flight_reader *r, uint64_t at)
{
	struct flight *f = r->f;

	if (atomic_load_explicit(&r->at, memory_order_relaxed) == at)
		return;
	atomic_store(&r->at, at);
	if (!flight_ring_is_full(r->body))
		return;
	AZ(pthread_mutex_lock(&f->lock));
	flight_ring_moved(f);
	AZ(pthread_mutex_unlock(&f->lock));
}

enum flight_follow
flight_follow(struct flight_reader *r, uint64_t at)
{
	struct flight *f = r->f;
	struct flight_body *was = r->body, *now = flight_shown(f);
	bool fits;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	r->begun = true;
	/* In this order: either we see that it was left behind, or flight_ring.c that it reads. */
	atomic_store(&r->in_use, true);
	if (atomic_load(&was->lost) || atomic_load(&r->left_behind))
		return FLIGHT_LOST;
	if (was == now) {
		flight_pass(r, at);
		return FLIGHT_ON;
	}
	/* Its client may know a length, and has the bytes before `at`, from where its part begins. */
	fits = (at <= atomic_load(&f->diverges_at) || at == r->want_first) &&
	    (was->head.total_bytes < 0 || was->head.total_bytes == now->head.total_bytes);
	if (!fits)
		return FLIGHT_LOST;
	AZ(pthread_mutex_lock(&f->lock));
	flight_leave_body(f, r);
	r->body = now;
	now->readers_n++;
	AZ(pthread_mutex_unlock(&f->lock));
	return FLIGHT_MOVED;
}

void
flight_rest(struct flight_reader *r)
{
	atomic_store_explicit(&r->in_use, false, memory_order_release);
}

bool
flight_left_behind(const struct flight_reader *r)
{
	return r->f != NULL && atomic_load(&r->left_behind);
}

struct flight_span
flight_reader_span(const struct flight_reader *r, uint64_t at, uint64_t n)
{
	/* Moved to memory since it was readable: not there any more. */
	if (atomic_load(&r->body->ring) != NULL && at >= flight_committed(r->f))
		n = 0;
	return flight_body_span(r->body, at, n);
}

const struct flight_head *
flight_reader_head(const struct flight_reader *r)
{
	AN(flight_head(r->f));
	return &r->body->head;
}

int64_t
flight_reader_total(const struct flight_reader *r)
{
	return atomic_load_explicit(&r->body->total, memory_order_acquire);
}
