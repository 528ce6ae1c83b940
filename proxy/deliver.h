/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef DELIVER_H
#define DELIVER_H
/*
 * Puts an answer's bytes on the client's socket, at the client's speed: the
 * head, then [req->at, req->end) of a text, a stored body, or a flight's body
 * as it grows. Bounded bytes per turn. How bytes leave is decided here and
 * nowhere else.
 */
#include "proxy/conn.h"

enum deliver_result {
	DELIVER_DONE,		/* every byte is with the kernel */
	DELIVER_BLOCKED,	/* the socket is full */
	DELIVER_STARVED,	/* the flight has no more at the moment */
	DELIVER_COLD,		/* the next bytes are not in memory: read them elsewhere first */
	DELIVER_TURN,		/* enough for one turn */
	DELIVER_PACED,		/* enough for its client at the moment: it is run again */
	DELIVER_CUT,		/* the rest will never come */
	DELIVER_GONE,		/* the client is gone */
};

/* Sends a head that stands at the start of the worker's out buffer, and goes on with the body. */
enum deliver_result deliver_start(struct req *req, size_t head_bytes);
/* Goes on with what is left. */
enum deliver_result deliver_more(struct req *req);
/* How far the read-ahead for a cold body should go. */
uint64_t deliver_window_end(const struct req *req);

#endif
