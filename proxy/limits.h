/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef LIMITS_H
#define LIMITS_H
/*
 * Limits for one client address (client_connections, client_rate,
 * client_bandwidth), shared by the workers. A connection that began while none
 * was set has no struct limits_client: that is all the hit path looks at.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "include/obj.h"

struct limits;
struct limits_client;

struct limits_conf {
	uint64_t connections, rate, bandwidth;	/* 0: no limit */
};

struct limits *limits_new(const struct limits_conf *conf) MUSTCHECK;
/* Others hold from here on; a first one for connections that begin from here on. */
void limits_set(struct limits *l, const struct limits_conf *conf);
void limits_free(struct limits **l_p);
enum limits_verdict {
	LIMITS_WELCOME,
	LIMITS_TELL,		/* one too many: is told so */
	LIMITS_CLOSE,		/* too many are being told already */
};
/*
 * A connection from this address begins. *out is what it holds until
 * limits_leave; NULL for one that is closed, and where nothing is limited (no
 * limit is set; a unix socket; more clients than the table has room for).
 */
enum limits_verdict limits_enter(struct limits *l, const struct sockaddr *sa,
    struct limits_client **out) MUSTCHECK;
/* told: it was one of those. */
void limits_leave(struct limits *l, struct limits_client **lc_p, bool told);
/* May it make a request now? 0: yes; else: in how many seconds. */
unsigned limits_take_request(struct limits *l, struct limits_client *lc, int64_t now_ms) MUSTCHECK;
/* How many bytes it may be sent now; 0: none for a moment; UINT64_MAX: any number. */
uint64_t limits_allowance(const struct limits *l, struct limits_client *lc, int64_t now_ms);
/* So many were. */
void limits_sent(struct limits *l, struct limits_client *lc, uint64_t bytes, int64_t now_ms);

#endif
