/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef ENTRY_H
#define ENTRY_H
/*
 * What lies between an accepted socket and its first request, where there is
 * anything: a load balancer's PROXY header, a TLS handshake, finding out where
 * a redirected connection was to go. Plain connections never come here.
 */
#include <stdbool.h>
#include <stdint.h>

#include "include/slice.h"

struct conn;

/* Does this connection begin with anything but a request? Then sets its state; from conn_new. */
void entry_begin(struct conn *c);
/*
 * Goes on as far as it can without waiting. True: requests may be read now.
 * False: it waits, became a tunnel, or is closed.
 */
bool entry_run(struct conn *c);
/* The client has gone: as one does that looked at our certificate and did not trust it? */
void entry_note_gone(const struct conn *c);
/* After the 200 to a CONNECT: what follows is TLS with the host, played by us. */
void entry_intercept(struct conn *c, struct slice host, uint16_t port);

#endif
