/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef KEY_H
#define KEY_H
/*
 * Canonical URLs and their digests: the identity of an object. The scheme is
 * part of it (a clear-text object never answers for a TLS one), credentials
 * never are.
 */
#include <stdbool.h>
#include <stdint.h>

#include "include/obj.h"
#include "include/reason.h"
#include "include/slice.h"

#define KEY_BYTES 32
#define KEY_HEX_BYTES 65	/* with NUL */

struct key {
	uint8_t b[KEY_BYTES];
};

/* A canonical URL; all text lives in the arena it was built in. */
struct url {
	struct slice text;	/* https://host[:port]/path[?query], NUL-terminated */
	struct slice host;	/* lower case, IPv6 without brackets */
	struct slice authority;	/* host[:port] as in text */
	struct slice path;	/* from the slash after the authority, query included */
	uint16_t port;		/* the one to connect to; 80 or 443 when none was named */
	bool tls;
};

/* Takes http:// or https:// off the front, in any letter case; false: neither is there. */
bool url_take_scheme(struct slice *text, bool *tls) MUSTCHECK;

/* Cuts what follows "://" into user:password, host[:port] and path with query; any may be empty. */
void url_split(struct slice rest, struct slice *userinfo, struct slice *authority,
    struct slice *path);

/*
 * Cuts host[:port] into a host, as it was written but without brackets and
 * trailing dot, and a port, 0 when none is named. False: no valid host or port.
 */
bool url_split_authority(struct slice authority, struct slice *host, uint16_t *port) MUSTCHECK;

/* The host in lower case, IPv6 in its shortest form, in the arena; p == NULL when that is full. */
struct slice url_host_copy(struct arena *a, struct slice host);

/*
 * Builds the canonical URL from an authority (host[:port], IPv6 in brackets,
 * userinfo already taken off) and a path with optional query as the client
 * sent them. Lower-cases the host, drops the default port, removes /./ and
 * duplicate slashes in the path, resolves ".." without leaving the host,
 * decodes %2b and %7e (nothing else, nothing twice), upper-cases hex digits,
 * drops a fragment, keeps the query as it is. REASON_TARGET when there is no
 * valid host or port, REASON_REQ_URI_TOO_LONG when the arena is full.
 */
enum reason url_build(struct url *u, struct arena *a, bool tls, struct slice authority,
    struct slice path) MUSTCHECK;

/* Parses an absolute http:// or https:// URL (a Location, a stored text) into canonical form. */
enum reason url_parse(struct url *u, struct arena *a, struct slice text) MUSTCHECK;

/* Resolves a Location against the URL that sent it (RFC 9110 10.2.2, RFC 3986 5.2). */
enum reason url_resolve(struct url *u, struct arena *a, const struct url *base,
    struct slice location) MUSTCHECK;

/* Decodes each %XX, once; out has room for text.n bytes. Returns how many it got. */
size_t url_decode(struct slice text, char *out);

/* The path as origins understand it best: `+` as %2b (S3-style origins read + as space). */
struct slice url_upstream_path(const struct url *u, struct arena *a);

void key_of_url(const struct url *u, struct key *k);	/* SHA-256 of u->text */
void key_of_text(struct slice text, struct key *k);
void key_hex(const uint8_t *digest32, char out[KEY_HEX_BYTES]);
void key_hex_of(const uint8_t *bytes, size_t n, char *out);	/* of any length; 2n + 1 chars */
bool key_from_hex(struct slice hex, uint8_t *digest32);	/* 64 hex digits, either case */

#endif
