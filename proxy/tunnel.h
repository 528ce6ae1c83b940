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

struct conn;
struct req;
struct tunnel;

/*
 * Begins to connect to the request's host and port; conn_run is called when
 * that is settled. False: out of memory. On the connection's worker.
 */
bool tunnel_begin(struct conn *c, struct req *req);
/* Still connecting, connected, or failed (then the request's reason and detail say why)? */
enum tunnel_progress { TUNNEL_CONNECTING, TUNNEL_READY, TUNNEL_FAILED };
enum tunnel_progress tunnel_progress(struct conn *c, struct req *req);
/* Sends the 200 and starts relaying; the request is over. */
void tunnel_open(struct conn *c);
void tunnel_run(struct tunnel *t);
void tunnel_check_timeout(struct tunnel *t);
/* Frees it; *t_p may be NULL. A connect under way is called off. */
void tunnel_end(struct tunnel **t_p);

#endif
