/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Contexts, certificates and keys for TLS towards clients. main makes one
 * before any thread runs and frees it after the last; workers take contexts
 * from it for new connections. Only the listener's context ever changes, on
 * SIGHUP, under the lock: sessions hold on to the one that they began with.
 */
#include "proxy/tlsconf.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <pthread.h>
#include <stdio.h>

#include "proxy/ca.h"
#include "proxy/mint.h"
#include "proxy/tls.h"

#define TLSCONF_MAGIC 0x7150c001u

struct tlsconf {
	uint32_t magic;
	pthread_mutex_t lock;		/* over server */
	SSL_CTX *server;		/* NULL: no listen_tls */
	SSL_CTX *intercept;		/* NULL: nothing is intercepted */
	struct ca *ca;
	struct mint *mint;
};

/* A context as all of ours are. */
static SSL_CTX *
tlsconf_new_context(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (ctx != NULL && !tls_prepare_context(ctx)) {
		SSL_CTX_free(ctx);
		ctx = NULL;
	}
	if (ctx != NULL)
		SSL_CTX_set_default_passwd_cb(ctx, ca_no_passphrase_cb);
	return ctx;
}

/* The listener's, with its certificate chain and key. */
static SSL_CTX *
tlsconf_load_server(const struct config *c, char **why)
{
	static const unsigned char id[] = "apt-depot";
	const char *key = c->tls_key != NULL ? c->tls_key : c->tls_cert, *what = c->tls_cert;
	SSL_CTX *ctx;

	ERR_clear_error();
	ctx = tlsconf_new_context();
	if (ctx != NULL && SSL_CTX_set_session_id_context(ctx, id, sizeof(id) - 1) == 1 &&
	    SSL_CTX_use_certificate_chain_file(ctx, c->tls_cert) == 1) {
		what = key;
		if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == 1 &&
		    SSL_CTX_check_private_key(ctx) == 1)
			return ctx;
	}
	(void)!asprintf(why, "listen_tls: %s can't be used: %s: check tls_cert and tls_key", what,
	    ca_openssl_words());
	ERR_clear_error();
	SSL_CTX_free(ctx);
	return NULL;
}

/* What interception needs, once there is an authority. */
static bool
tlsconf_begin_interception(struct tlsconf *t, char **why)
{
	t->intercept = tlsconf_new_context();
	t->mint = t->intercept != NULL ? mint_new(t->ca) : NULL;
	if (t->mint != NULL)
		return true;
	(void)!asprintf(why, "interception: OpenSSL: %s", ca_openssl_words());
	return false;
}

struct tlsconf *
tlsconf_open(const struct config *c, char **why)
{
	struct tlsconf *t;

	*why = NULL;
	OBJ_NEW(t, TLSCONF_MAGIC);
	if (t == NULL)
		return NULL;
	AZ(pthread_mutex_init(&t->lock, NULL));
	if (c->listen_tls.n > 0) {
		t->server = tlsconf_load_server(c, why);
		if (t->server == NULL)
			goto fail;
	}
	if (c->intercept_hosts.patterns.n > 0 && c->intercept_ca_cert != NULL) {
		t->ca = ca_load(c->intercept_ca_cert, c->intercept_ca_key, why);
		if (t->ca == NULL || !tlsconf_begin_interception(t, why))
			goto fail;
	}
	return t;
fail:
	tlsconf_close(&t);
	return NULL;
}

bool
tlsconf_open_own_ca(struct tlsconf *t, const struct config *c, char **why)
{
	CHECK_OBJ(t, TLSCONF_MAGIC);
	*why = NULL;
	if (c->intercept_hosts.patterns.n == 0 || t->ca != NULL)
		return true;
	t->ca = ca_of_config(c, true, why);
	return t->ca != NULL && tlsconf_begin_interception(t, why);
}

bool
tlsconf_reload(struct tlsconf *t, const struct config *c, char **why)
{
	SSL_CTX *now, *was;

	CHECK_OBJ(t, TLSCONF_MAGIC);
	*why = NULL;
	if (t->server == NULL || c->tls_cert == NULL)
		return true;	/* a listener comes and goes with a restart only */
	now = tlsconf_load_server(c, why);
	if (now == NULL)
		return false;
	AZ(pthread_mutex_lock(&t->lock));
	was = t->server;
	t->server = now;
	AZ(pthread_mutex_unlock(&t->lock));
	SSL_CTX_free(was);
	return true;
}

void
tlsconf_close(struct tlsconf **t_p)
{
	struct tlsconf *t = *t_p;

	*t_p = NULL;
	if (t == NULL)
		return;
	CHECK_OBJ(t, TLSCONF_MAGIC);
	SSL_CTX_free(t->server);
	SSL_CTX_free(t->intercept);
	mint_free(&t->mint);
	ca_free(&t->ca);
	AZ(pthread_mutex_destroy(&t->lock));
	OBJ_FREE(t);
}

SSL_CTX *
tlsconf_server(struct tlsconf *t)
{
	SSL_CTX *ctx;

	CHECK_OBJ(t, TLSCONF_MAGIC);
	AZ(pthread_mutex_lock(&t->lock));
	ctx = t->server;
	if (ctx != NULL)
		(void)SSL_CTX_up_ref(ctx);
	AZ(pthread_mutex_unlock(&t->lock));
	return ctx;
}

SSL_CTX *
tlsconf_intercept(const struct tlsconf *t)
{
	CHECK_OBJ(t, TLSCONF_MAGIC);
	return t->intercept;
}

struct mint *
tlsconf_mint(const struct tlsconf *t)
{
	CHECK_OBJ(t, TLSCONF_MAGIC);
	return t->mint;
}

const struct ca *
tlsconf_ca(const struct tlsconf *t)
{
	CHECK_OBJ(t, TLSCONF_MAGIC);
	return t->ca;
}
