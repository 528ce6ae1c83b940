/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef TUNNEL_H
#define TUNNEL_H
/*
 * CONNECT pass-through: bytes between a client and a host, unchanged. Two
 * halves, each with its own buffer while bytes are in it; one side's end of
 * file is passed on as such while the other goes on; a side that does not
 * read stops the other from being read.
 */
#include <stdbool.h>
#include <stdint.h>

#include "include/reason.h"
#include "include/slice.h"

struct conn;
struct req;
struct tunnel;

/*
 * Begins to connect to the host and port, for the request of that number (0:
 * for none, a redirected connection); conn_run is called when that is settled.
 * False: out of memory. On the connection's worker.
 */
bool tunnel_begin(struct conn *c, uint64_t req_id, struct slice host, uint16_t port,
    struct slice via);
/*
 * Still connecting, connected, or failed? Then the request's reason and detail
 * say why; without a request (NULL), tunnel_failure does.
 */
enum tunnel_progress { TUNNEL_CONNECTING, TUNNEL_READY, TUNNEL_FAILED };
enum tunnel_progress tunnel_progress(struct conn *c, struct req *req);
enum reason tunnel_failure(const struct tunnel *t, const char **detail);
struct slice tunnel_host(const struct tunnel *t);
/* Starts relaying; the request is over. answered: it was a CONNECT, which gets its 200 first. */
void tunnel_open(struct conn *c, bool answered);
void tunnel_run(struct tunnel *t);
void tunnel_check_timeout(struct tunnel *t);
/* Frees it; *t_p may be NULL. A connect under way is called off. */
void tunnel_end(struct tunnel **t_p);

#endif
