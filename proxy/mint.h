/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef MINT_H
#define MINT_H
/*
 * Certificates for intercepted hosts: made when first needed, remembered in
 * memory, made anew before they end. One key for all, which never leaves the
 * process. From any thread; a mint takes about 0.2 ms of the caller's time.
 */
#include <stdint.h>

#include "include/obj.h"
#include "include/slice.h"

struct ca;
struct mint;
struct ssl_st;
struct x509_st;

enum {
	MINT_DAYS = 7,			/* how long a certificate is good */
	MINT_REMEMBERED_MAX = 1024,	/* hosts; the least recently used goes */
};

/* The authority stays the caller's, and outlives it. */
struct mint *mint_new(const struct ca *ca) MUSTCHECK;
void mint_free(struct mint **m_p);
/* A reference to the host's certificate; NULL: it could not be made. */
struct x509_st *mint_certificate(struct mint *m, struct slice host, int64_t now_s) MUSTCHECK;
/* Makes the session show the host's certificate, with its key and chain. */
bool mint_dress(struct mint *m, struct ssl_st *ssl, struct slice host, int64_t now_s) MUSTCHECK;

#endif
