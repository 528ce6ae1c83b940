/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef TLSCONF_H
#define TLSCONF_H
/* What TLS towards clients is made from: one of it, owned by main. */
#include <stdbool.h>

#include "include/config.h"
#include "include/obj.h"

struct ca;
struct mint;
struct ssl_ctx_st;
struct tlsconf;

/*
 * Reads what is configured: tls_cert and tls_key, and a given authority.
 * While still root. NULL: *why (malloced) says what is wrong.
 */
struct tlsconf *tlsconf_open(const struct config *c, char **why) MUSTCHECK;
/* An authority of our own, where one is needed; makes it in cache_dir. As who we will stay. */
bool tlsconf_open_own_ca(struct tlsconf *t, const struct config *c, char **why) MUSTCHECK;
/* tls_cert and tls_key again, for connections from now on. False: the old ones stay, and why. */
bool tlsconf_reload(struct tlsconf *t, const struct config *c, char **why) MUSTCHECK;
void tlsconf_close(struct tlsconf **t_p);

/* A reference to what listen_tls sessions are made from; from any thread. */
struct ssl_ctx_st *tlsconf_server(struct tlsconf *t);
/* The same for intercepted ones, borrowed; their certificate comes from the mint. */
struct ssl_ctx_st *tlsconf_intercept(const struct tlsconf *t);
struct mint *tlsconf_mint(const struct tlsconf *t);	/* NULL: nothing is intercepted */
const struct ca *tlsconf_ca(const struct tlsconf *t);	/* NULL: the same */

#endif
