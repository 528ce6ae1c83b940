/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What each client address has in use. A connection enters when its address
 * is known and leaves when it ends; in between it holds its address' entry,
 * which cannot go meanwhile. The lock of an entry's set is taken for these
 * two alone, and for a few instructions: requests and bytes are accounted for
 * with atomics.
 *
 * Rate and bandwidth keep one number each: the time up to which the client
 * has used its share. It may run ahead of the clock by a burst.
 */
#include "proxy/limits.h"

#include <netinet/in.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdatomic.h>

#include "include/counter.h"

#define LIMITS_MAGIC 0x11a17501u

enum {
	LIMITS_WAYS = 8,		/* entries in a set */
	LIMITS_SETS = 4096,		/* so: 32768 addresses */
	LIMITS_LOCKS = 64,
	LIMITS_TOLD_MAX = 16,		/* connections that are told that they are too many */
	LIMITS_RATE_BURST_US = 1000000,	/* a second's requests may come at once */
	LIMITS_BYTES_BURST_US = 250000,
};
static const uint64_t LIMITS_PIECE_BYTES = 16 << 10;	/* smaller ones are not worth a call */

struct limits_client {
	uint8_t addr[16];		/* IPv6, or IPv4 mapped; under the lock */
	bool used;			/* under the lock */
	unsigned conns_n, told_n;	/* served, only told; under the lock */
	int64_t left_us;		/* how far its share was used then; under the lock */
	_Atomic int64_t rate_us, bytes_us;	/* used up to then */
	unsigned lock;			/* of its set */
};

struct limits {
	uint32_t magic;
	_Atomic uint64_t connections, rate, bandwidth;	/* a reload changes them */
	uint64_t seed;
	pthread_mutex_t locks[LIMITS_LOCKS];
	struct limits_client *clients;	/* LIMITS_SETS * LIMITS_WAYS */
};

/* The limit as it is now. */
static uint64_t
limits_get(const _Atomic uint64_t *limit)
{
	return atomic_load_explicit(limit, memory_order_relaxed);
}

void
limits_set(struct limits *l, const struct limits_conf *conf)
{
	CHECK_OBJ(l, LIMITS_MAGIC);
	atomic_store_explicit(&l->connections, conf->connections, memory_order_relaxed);
	atomic_store_explicit(&l->rate, conf->rate, memory_order_relaxed);
	atomic_store_explicit(&l->bandwidth, conf->bandwidth, memory_order_relaxed);
}

struct limits *
limits_new(const struct limits_conf *conf)
{
	struct limits *l;
	unsigned i;

	OBJ_NEW(l, LIMITS_MAGIC);
	if (l != NULL)
		l->clients = calloc((size_t)LIMITS_SETS * LIMITS_WAYS, sizeof(*l->clients));
	if (l == NULL || l->clients == NULL) {
		free(l);
		return NULL;
	}
	limits_set(l, conf);
	/* Nobody shall choose addresses that meet in one set. */
	if (RAND_bytes((unsigned char *)&l->seed, sizeof(l->seed)) != 1)
		l->seed = (uintptr_t)l;
	for (i = 0; i < LIMITS_LOCKS; i++)
		AZ(pthread_mutex_init(&l->locks[i], NULL));
	return l;
}

void
limits_free(struct limits **l_p)
{
	struct limits *l = *l_p;
	unsigned i;

	*l_p = NULL;
	if (l == NULL)
		return;
	CHECK_OBJ(l, LIMITS_MAGIC);
	for (i = 0; i < LIMITS_LOCKS; i++)
		AZ(pthread_mutex_destroy(&l->locks[i]));
	free(l->clients);
	OBJ_FREE(l);
}

/* The address without its port; false: not one of the internet's families. */
static bool
limits_addr(const struct sockaddr *sa, uint8_t addr[16])
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	memset(addr, 0, 16);
	if (sa->sa_family == AF_INET) {
		memcpy(&v4, sa, sizeof(v4));
		addr[10] = addr[11] = 0xff;
		memcpy(addr + 12, &v4.sin_addr, 4);
		return true;
	}
	if (sa->sa_family != AF_INET6)
		return false;
	memcpy(&v6, sa, sizeof(v6));
	memcpy(addr, &v6.sin6_addr, 16);
	return true;
}

/* Which set an address belongs to. */
static unsigned
limits_set_of(const struct limits *l, const uint8_t addr[16])
{
	uint64_t h = l->seed, part;
	unsigned i;

	for (i = 0; i < 2; i++) {
		memcpy(&part, addr + 8 * i, 8);
		h = (h ^ part) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 29;
	}
	return (unsigned)(h % LIMITS_SETS);
}

/* The address' entry in its set, or one that can become it; NULL: all are in use. */
static struct limits_client *
limits_find(struct limits *l, unsigned set, const uint8_t addr[16])
{
	struct limits_client *lc, *best = NULL;
	unsigned i;

	for (i = 0; i < LIMITS_WAYS; i++) {
		lc = &l->clients[set * LIMITS_WAYS + i];
		if (lc->used && memcmp(lc->addr, addr, 16) == 0)
			return lc;
		if (lc->conns_n + lc->told_n == 0 && (best == NULL || lc->left_us < best->left_us))
			best = lc;
	}
	if (best == NULL)
		return NULL;
	memcpy(best->addr, addr, 16);
	best->used = true;
	best->lock = set % LIMITS_LOCKS;
	atomic_store_explicit(&best->rate_us, 0, memory_order_relaxed);
	atomic_store_explicit(&best->bytes_us, 0, memory_order_relaxed);
	return best;
}

/* Counts one more connection of this address, or says why not. */
static enum limits_verdict
limits_admit(const struct limits *l, struct limits_client *lc)
{
	uint64_t limit = limits_get(&l->connections);

	if (limit == 0 || lc->conns_n < limit) {
		lc->conns_n++;
		return LIMITS_WELCOME;
	}
	if (lc->told_n >= LIMITS_TOLD_MAX)
		return LIMITS_CLOSE;
	lc->told_n++;
	return LIMITS_TELL;
}

enum limits_verdict
limits_enter(struct limits *l, const struct sockaddr *sa, struct limits_client **out)
{
	enum limits_verdict v = LIMITS_WELCOME;
	struct limits_client *lc;
	uint8_t addr[16];
	unsigned set;

	CHECK_OBJ(l, LIMITS_MAGIC);
	*out = NULL;
	if ((limits_get(&l->connections) | limits_get(&l->rate) | limits_get(&l->bandwidth)) == 0 ||
	    !limits_addr(sa, addr))
		return v;
	set = limits_set_of(l, addr);
	AZ(pthread_mutex_lock(&l->locks[set % LIMITS_LOCKS]));
	lc = limits_find(l, set, addr);
	if (lc != NULL)
		v = limits_admit(l, lc);
	AZ(pthread_mutex_unlock(&l->locks[set % LIMITS_LOCKS]));
	if (lc == NULL)
		COUNT(client_limits_full_total);
	if (v != LIMITS_WELCOME)
		COUNT(client_connections_refused_total);
	if (v != LIMITS_CLOSE)
		*out = lc;
	return v;
}

void
limits_leave(struct limits *l, struct limits_client **lc_p, bool told)
{
	struct limits_client *lc = *lc_p;
	int64_t rate_us, bytes_us;

	*lc_p = NULL;
	if (lc == NULL)
		return;
	CHECK_OBJ(l, LIMITS_MAGIC);
	AZ(pthread_mutex_lock(&l->locks[lc->lock]));
	AN(told ? lc->told_n : lc->conns_n);
	lc->conns_n -= !told;
	lc->told_n -= told;
	/* Who has used up the most is forgotten last. */
	rate_us = atomic_load_explicit(&lc->rate_us, memory_order_relaxed);
	bytes_us = atomic_load_explicit(&lc->bytes_us, memory_order_relaxed);
	lc->left_us = rate_us > bytes_us ? rate_us : bytes_us;
	AZ(pthread_mutex_unlock(&l->locks[lc->lock]));
}

unsigned
limits_take_request(struct limits *l, struct limits_client *lc, int64_t now_ms)
{
	int64_t now = now_ms * 1000, step, used, from;
	uint64_t rate = limits_get(&l->rate);

	CHECK_OBJ(l, LIMITS_MAGIC);
	if (rate == 0)
		return 0;
	step = 1000000 / (int64_t)rate;
	used = atomic_load_explicit(&lc->rate_us, memory_order_relaxed);
	do {
		from = used > now ? used : now;
		if (from + step > now + LIMITS_RATE_BURST_US) {
			COUNT(client_rate_refused_total);
			return (unsigned)((from + step - now - LIMITS_RATE_BURST_US) / 1000000 + 1);
		}
	} while (!atomic_compare_exchange_weak_explicit(&lc->rate_us, &used, from + step,
	    memory_order_relaxed, memory_order_relaxed));
	return 0;
}

uint64_t
limits_allowance(const struct limits *l, struct limits_client *lc, int64_t now_ms)
{
	int64_t now = now_ms * 1000, used;
	uint64_t bandwidth = limits_get(&l->bandwidth), bytes, least;

	CHECK_OBJ(l, LIMITS_MAGIC);
	if (bandwidth == 0)
		return UINT64_MAX;
	used = atomic_load_explicit(&lc->bytes_us, memory_order_relaxed);
	if (used < now)
		used = now;
	if (used >= now + LIMITS_BYTES_BURST_US)
		return 0;
	/* At most 2^40 bytes a second times 2^18: fits. */
	bytes = (uint64_t)(now + LIMITS_BYTES_BURST_US - used) * bandwidth / 1000000;
	least = bandwidth / 8 + 1 < LIMITS_PIECE_BYTES ? bandwidth / 8 + 1 : LIMITS_PIECE_BYTES;
	if (bytes >= least)
		return bytes;
	return used == now ? 1 : 0;	/* a share of less than four bytes a second is one, too */
}

void
limits_sent(struct limits *l, struct limits_client *lc, uint64_t bytes, int64_t now_ms)
{
	int64_t now = now_ms * 1000, used, from, cost;
	uint64_t bandwidth = limits_get(&l->bandwidth);

	CHECK_OBJ(l, LIMITS_MAGIC);
	if (bandwidth == 0)
		return;
	cost = (int64_t)(bytes * 1000000 / bandwidth);
	used = atomic_load_explicit(&lc->bytes_us, memory_order_relaxed);
	do
		from = used > now ? used : now;
	while (!atomic_compare_exchange_weak_explicit(&lc->bytes_us, &used, from + cost,
	    memory_order_relaxed, memory_order_relaxed));
}
