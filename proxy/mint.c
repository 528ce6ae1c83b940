/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The mint: host name in, certificate out. entry.c asks for one when a
 * connection begins to be intercepted; tlsconf.c owns it, for the life of the
 * process. What was made is found again by host; a lock guards that table
 * alone, never the signing, so that two workers that need the same new host
 * at once may both make it, and the second one's is forgotten.
 */
#include "proxy/mint.h"

#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/queue.h>
#include <time.h>

#include "include/counter.h"
#include "include/log.h"
#include "proxy/ca.h"

#define MINT_MAGIC 0x314e7001u

enum {
	MINT_BACKDATE_S = 3600,		/* for clients whose clock is behind */
	MINT_RENEW_S = 24 * 3600,	/* made anew so long before its end */
	MINT_BUCKETS = 512,
	MINT_CN_MAX = 64,		/* X.520's bound on a common name */
};

/* A remembered certificate. */
struct minted {
	TAILQ_ENTRY(minted) used;	/* the most recently used first */
	struct minted *next;		/* in its bucket */
	X509 *cert;
	int64_t renew_s;
	size_t host_n;
	char host[];
};

struct mint {
	uint32_t magic;
	const struct ca *ca;
	EVP_PKEY *key;
	X509_EXTENSION *constraints, *usage, *purpose, *authority;	/* the same for all */
	pthread_mutex_t lock;		/* over the rest */
	TAILQ_HEAD(minted_list, minted) used;
	struct minted *buckets[MINT_BUCKETS];
	unsigned minted_n;
};

/* FNV-1a over a host that is in lower case already. */
static unsigned
mint_bucket(struct slice host)
{
	uint32_t h = 2166136261u;
	size_t i;

	for (i = 0; i < host.n; i++)
		h = (h ^ (unsigned char)host.p[i]) * 16777619u;
	return h % MINT_BUCKETS;
}

/* ---- signing ---- */

/* An extension in OpenSSL's words. */
static X509_EXTENSION *
mint_extension(const struct mint *m, int nid, const char *text)
{
	X509V3_CTX ctx;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, ca_cert(m->ca), NULL, NULL, NULL, 0);
	return X509V3_EXT_conf_nid(NULL, &ctx, nid, text);
}

/* The bytes of a host that is an address: 4 or 16 of them; 0: it is a name. */
static int
mint_address(struct slice host, uint8_t addr[16])
{
	char text[INET6_ADDRSTRLEN];

	if (host.n >= sizeof(text))
		return 0;
	memcpy(text, host.p, host.n);
	text[host.n] = '\0';
	if (inet_pton(AF_INET, text, addr) == 1)
		return 4;
	return inet_pton(AF_INET6, text, addr) == 1 ? 16 : 0;
}

/* The name that the certificate is for. */
static bool
mint_add_name(X509 *x, struct slice host)
{
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	GENERAL_NAME *name = GENERAL_NAME_new();
	uint8_t addr[16];
	int ip_n = mint_address(host, addr);
	ASN1_STRING *value = ip_n > 0 ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();
	bool ok = false;

	if (names != NULL && name != NULL && value != NULL &&
	    ASN1_STRING_set(value, ip_n > 0 ? (const void *)addr : host.p, ip_n > 0 ? ip_n :
	    (int)host.n) == 1) {
		GENERAL_NAME_set0_value(name, ip_n > 0 ? GEN_IPADD : GEN_DNS, value);
		value = NULL;
		if (sk_GENERAL_NAME_push(names, name) > 0) {
			name = NULL;
			ok = X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0,
			    X509V3_ADD_DEFAULT) == 1;
		}
	}
	ASN1_STRING_free(value);
	GENERAL_NAME_free(name);
	GENERAL_NAMES_free(names);
	return ok;
}

/* Serial number, subject, issuer and times. */
static bool
mint_fill(const struct mint *m, X509 *x, struct slice host, int64_t now_s, int64_t end_s)
{
	unsigned char serial[16], addr[16];
	/* Constraints on names are also held against a common name that could be one. */
	bool fits = host.n <= MINT_CN_MAX && mint_address(host, addr) == 0;
	struct slice cn = fits ? host : SLICE("apt-depot");
	BIGNUM *bn;
	bool ok;

	if (RAND_bytes(serial, sizeof(serial)) != 1)
		return false;
	serial[0] = (unsigned char)((serial[0] & 0x7f) | 0x40);
	bn = BN_bin2bn(serial, sizeof(serial), NULL);
	ok = bn != NULL && X509_set_version(x, X509_VERSION_3) == 1 &&
	    BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(x)) != NULL &&
	    X509_NAME_add_entry_by_NID(X509_get_subject_name(x), NID_commonName, MBSTRING_UTF8,
	    (const unsigned char *)cn.p, (int)cn.n, -1, 0) == 1 &&
	    X509_set_issuer_name(x, X509_get_subject_name(ca_cert(m->ca))) == 1 &&
	    ASN1_TIME_set(X509_getm_notBefore(x), (time_t)(now_s - MINT_BACKDATE_S)) != NULL &&
	    ASN1_TIME_set(X509_getm_notAfter(x), (time_t)end_s) != NULL &&
	    X509_set_pubkey(x, m->key) == 1;
	BN_free(bn);
	return ok;
}

/* Makes and signs one. */
static X509 *
mint_make(const struct mint *m, struct slice host, int64_t now_s, int64_t end_s)
{
	X509 *x = X509_new();

	if (x != NULL && mint_fill(m, x, host, now_s, end_s) &&
	    X509_add_ext(x, m->constraints, -1) == 1 && X509_add_ext(x, m->usage, -1) == 1 &&
	    X509_add_ext(x, m->purpose, -1) == 1 &&
	    (m->authority == NULL || X509_add_ext(x, m->authority, -1) == 1) &&
	    mint_add_name(x, host) && X509_sign(x, ca_key(m->ca), EVP_sha256()) > 0) {
		COUNT(certificates_minted_total);
		return x;
	}
	log_error("interception: no certificate for %.*s: %s", SLICE_ARG(host), ca_openssl_words());
	ERR_clear_error();
	X509_free(x);
	return NULL;
}

/* ---- remembering ---- */

/* Forgets one. Under the lock. */
static void
mint_forget(struct mint *m, struct minted *d)
{
	struct minted **at = &m->buckets[mint_bucket((struct slice){d->host, d->host_n})];

	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	TAILQ_REMOVE(&m->used, d, used);
	m->minted_n--;
	X509_free(d->cert);
	free(d);
}

/* A reference to what is remembered for the host; NULL: nothing that is still good. */
static X509 *
mint_recall(struct mint *m, struct slice host, int64_t now_s)
{
	struct minted *d;
	X509 *x = NULL;

	AZ(pthread_mutex_lock(&m->lock));
	for (d = m->buckets[mint_bucket(host)]; d != NULL; d = d->next)
		if (slice_eq(host, (struct slice){d->host, d->host_n}))
			break;
	if (d != NULL && now_s >= d->renew_s)
		mint_forget(m, d);
	else if (d != NULL) {
		TAILQ_REMOVE(&m->used, d, used);
		TAILQ_INSERT_HEAD(&m->used, d, used);
		x = d->cert;
		(void)X509_up_ref(x);
	}
	AZ(pthread_mutex_unlock(&m->lock));
	return x;
}

/* Remembers it; without memory, the next one makes it again. */
static void
mint_remember(struct mint *m, struct slice host, X509 *x, int64_t renew_s)
{
	struct minted *d = calloc(1, sizeof(*d) + host.n), *old;
	unsigned bucket = mint_bucket(host);

	if (d == NULL)
		return;
	d->renew_s = renew_s;
	d->host_n = host.n;
	memcpy(d->host, host.p, host.n);
	(void)X509_up_ref(x);
	d->cert = x;
	AZ(pthread_mutex_lock(&m->lock));
	for (old = m->buckets[bucket]; old != NULL; old = old->next)
		if (slice_eq(host, (struct slice){old->host, old->host_n}))
			break;
	if (old != NULL)
		mint_forget(m, old);
	else if (m->minted_n >= MINT_REMEMBERED_MAX)
		mint_forget(m, TAILQ_LAST(&m->used, minted_list));
	d->next = m->buckets[bucket];
	m->buckets[bucket] = d;
	TAILQ_INSERT_HEAD(&m->used, d, used);
	m->minted_n++;
	AZ(pthread_mutex_unlock(&m->lock));
}

X509 *
mint_certificate(struct mint *m, struct slice host, int64_t now_s)
{
	int64_t end_s = now_s + (int64_t)MINT_DAYS * 86400;
	X509 *x;

	CHECK_OBJ(m, MINT_MAGIC);
	AN(host.n);
	x = mint_recall(m, host, now_s);
	if (x != NULL)
		return x;
	/* Nothing is good for longer than what signed it. */
	if (end_s > ca_not_after_s(m->ca))
		end_s = ca_not_after_s(m->ca);
	x = mint_make(m, host, now_s, end_s);
	if (x != NULL)
		mint_remember(m, host, x, end_s - MINT_RENEW_S);
	return x;
}

bool
mint_dress(struct mint *m, SSL *ssl, struct slice host, int64_t now_s)
{
	X509 *x = mint_certificate(m, host, now_s), *up;
	unsigned i;
	bool ok;

	ERR_clear_error();
	ok = x != NULL && SSL_use_certificate(ssl, x) == 1 && SSL_use_PrivateKey(ssl, m->key) == 1;
	for (i = 0; ok && (up = ca_chain(m->ca, i)) != NULL; i++)
		ok = SSL_add1_chain_cert(ssl, up) == 1;
	X509_free(x);
	ERR_clear_error();
	return ok;
}

/* ---- birth and end ---- */

struct mint *
mint_new(const struct ca *ca)
{
	struct mint *m;

	OBJ_NEW(m, MINT_MAGIC);
	if (m == NULL)
		return NULL;
	m->ca = ca;
	TAILQ_INIT(&m->used);
	AZ(pthread_mutex_init(&m->lock, NULL));
	m->key = EVP_EC_gen("P-256");
	m->constraints = mint_extension(m, NID_basic_constraints, "critical,CA:FALSE");
	m->usage = mint_extension(m, NID_key_usage, "critical,digitalSignature");
	m->purpose = mint_extension(m, NID_ext_key_usage, "serverAuth");
	/* An authority without a key identifier is found by its name alone. */
	m->authority = mint_extension(m, NID_authority_key_identifier, "keyid");
	ERR_clear_error();
	if (m->key == NULL || m->constraints == NULL || m->usage == NULL || m->purpose == NULL)
		mint_free(&m);
	return m;
}

void
mint_free(struct mint **m_p)
{
	struct mint *m = *m_p;
	struct minted *d;

	*m_p = NULL;
	if (m == NULL)
		return;
	CHECK_OBJ(m, MINT_MAGIC);
	while ((d = TAILQ_FIRST(&m->used)) != NULL)
		mint_forget(m, d);
	AZ(pthread_mutex_destroy(&m->lock));
	EVP_PKEY_free(m->key);
	X509_EXTENSION_free(m->constraints);
	X509_EXTENSION_free(m->usage);
	X509_EXTENSION_free(m->purpose);
	X509_EXTENSION_free(m->authority);
	OBJ_FREE(m);
}
