/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef AUTHFILE_H
#define AUTHFILE_H
/*
 * Credentials for upstreams, in the form of apt's auth.conf (netrc with URLs):
 *
 *   machine [http://|https://]HOST[:PORT][/PATH] login USER password WORD
 *
 * The first entry that fits a URL counts. Without a scheme an entry is good
 * over TLS alone; http:// says that it may go in clear text.
 */
#include <stdio.h>

#include "include/key.h"

struct authfile;

enum { AUTHFILE_WHY_BYTES = 256, AUTHFILE_ENTRIES_MAX = 4096 };

/* What a file says of a URL. */
enum authfile_match {
	AUTHFILE_NONE,
	AUTHFILE_FOUND,
	AUTHFILE_CLEAR,		/* an entry would fit, but not in clear text */
};

/*
 * Reads a file to its end; NULL: `why` says in which line what is wrong and
 * what to write. It never quotes a login or a password.
 */
struct authfile *authfile_read(FILE *in, char why[AUTHFILE_WHY_BYTES]) MUSTCHECK;
void authfile_free(struct authfile **af_p);
/* The value of Authorization for this URL; borrowed. */
enum authfile_match authfile_find(const struct authfile *af, const struct url *url,
    const char **value);

/*
 * The value of Authorization that user:password of a URL mean (RFC 9110 11.4, RFC 7617), each
 * escape decoded once; malloced, NULL: out of memory.
 */
char *authfile_basic(struct slice userinfo) MUSTCHECK;

#endif
