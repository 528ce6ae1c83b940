/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef DOCTOR_PRIV_H
#define DOCTOR_PRIV_H
/*
 * The command doctor: doctor.c (report, this machine), doctor_net.c (names,
 * connections, parent proxies), doctor_tls.c (certificates), doctor_repo.c
 * (HTTP, Release, Packages). One process, one thread, no running depot needed.
 */
#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "include/config.h"
#include "include/key.h"
#include "include/obj.h"

enum doctor_result { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL, DOCTOR_NOTE };

struct ssl_st;				/* OpenSSL's SSL */

struct doctor {
	const struct config *config;
	const struct config_upstream *up;	/* for the URL's host */
	FILE *out;
	bool json;
	const char *save_ca;			/* NULL: not asked for */
	unsigned counts[4];			/* by result */

	/* What is looked at. */
	struct url url;
	char url_memory[32 << 10];

	/* What the hops so far have shown. */
	bool direct;				/* no parent proxy is asked */
	const char *parent;			/* the first that lets us through; NULL: none, or direct */
	bool reached;				/* a connection to the origin was possible */
	const char *authorization;		/* what `auth` has for the URL; NULL: nothing */
	struct authfile *auth;
	bool trusted;				/* its certificate is accepted, or it speaks no TLS */
};

/*
 * One line: the check, how it went, what was seen. mend: the line of the
 * configuration (or command) that mends it, NULL: none. A NOTE belongs to the
 * line before it.
 */
PRINTF_LIKE(5, 6)
void doctor_say(struct doctor *d, enum doctor_result r, const char *check, const char *mend,
    const char *fmt, ...);
#define doctor_note(d, check, ...) doctor_say((d), DOCTOR_NOTE, (check), NULL, __VA_ARGS__)

/* ---- doctor_net.c ---- */
/* Every hop up to the origin's TLS; sets direct, parent, reached and trusted. */
void doctor_check_way(struct doctor *d);

/* A socket, and until when something has to come of it. */
struct doctor_socket {
	int fd;				/* -1: none */
	int64_t until_ms;
};
/* Waits for POLLIN or POLLOUT; false: too late. */
bool doctor_wait(const struct doctor_socket *s, short events);

/* ---- doctor_tls.c ---- */
/* Are there any public CAs on this machine? */
void doctor_check_store(struct doctor *d);
/*
 * The handshake on a fresh connection, or inside of the session with a parent proxy; the chain
 * as seen, and what is wrong with it.
 */
void doctor_check_tls(struct doctor *d, const struct doctor_socket *s, struct ssl_st *under);
/* What mends such an error of OpenSSL's; NULL: not known. */
const char *doctor_mend_tls(const char *error);
/*
 * A TLS session with a parent proxy, for what is said inside of it; NULL: after a line that
 * says why.
 */
struct ssl_st *doctor_tls_to_parent(struct doctor *d, const struct doctor_socket *s,
    const char *host);
/* All n bytes sent, or at least one byte read; with ssl NULL on the bare socket. -1: failed. */
int doctor_write(const struct doctor_socket *s, struct ssl_st *ssl, const char *p, size_t n);
int doctor_read(const struct doctor_socket *s, struct ssl_st *ssl, char *p, size_t n);

/* ---- doctor_repo.c ---- */
/* Is `auth` readable, and has it an entry for the URL? Sets auth and authorization. */
void doctor_check_auth(struct doctor *d);
/* The answer to the URL, the clock, the repository's Release and one of its Packages. */
void doctor_check_repo(struct doctor *d);

#endif
