/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Sessions over a socket pair, one inside of the other or alone, with a
 * client that reads and writes as it likes: every byte arrives, in order,
 * whatever the socket takes at a time.
 */
#include <check.h>
#include <errno.h>
#include <ftw.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "include/clock.h"
#include "proxy/ca.h"
#include "proxy/mint.h"
#include "proxy/tls.h"

Suite *check_tls_suite(void);

enum { BULK_BYTES = 6 << 20, TURNS_MAX = 2000000 };

static struct {
	char dir[64];
	struct globset hosts;
	struct ca *ca;
	struct mint *mint;
	SSL_CTX *ctx, *client_ctx;
	int fds[2];			/* ours, the client's */
	struct tls *t;
	SSL *client[2];			/* the inner one last */
	unsigned depth;
	uint32_t random;
	char why[256];
} env;

/* The same numbers each time. */
static uint32_t
env_random(uint32_t below)
{
	env.random = env.random * 1664525 + 1013904223;
	return (env.random >> 8) % below;
}

static void
env_start(void)
{
	char *why = NULL;
	int size = 16384;

	memset(&env, 0, sizeof(env));
	(void)strcpy(env.dir, "/tmp/check-tls-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(env.dir));
	ck_assert(globset_add(&env.hosts, SLICE("*.example")));
	env.ca = ca_open(env.dir, &env.hosts, NULL, true, &why);
	ck_assert_ptr_nonnull(env.ca);
	env.mint = mint_new(env.ca);
	env.ctx = SSL_CTX_new(TLS_server_method());
	ck_assert(tls_prepare_context(env.ctx));
	env.client_ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_mode(env.client_ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
	    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	AZ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, env.fds));
	(void)setsockopt(env.fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static int
env_remove_cb(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void
env_stop(void)
{
	tls_free(&env.t);
	SSL_free(env.client[1]);
	SSL_free(env.client[0]);
	(void)close(env.fds[0]);
	(void)close(env.fds[1]);
	SSL_CTX_free(env.ctx);
	SSL_CTX_free(env.client_ctx);
	mint_free(&env.mint);
	ca_free(&env.ca);
	globset_fini(&env.hosts);
	(void)nftw(env.dir, env_remove_cb, 16, FTW_DEPTH | FTW_PHYS);
}

/* The innermost session of the client. */
static SSL *
env_client(void)
{
	return env.client[env.depth - 1];
}

/* Puts one more session on both ends and does its handshake. */
static enum tls_progress
env_add_session(const char *name)
{
	enum tls_progress progress = TLS_WAITS;
	char *early = NULL;
	SSL *ssl = SSL_new(env.client_ctx);
	struct tls *t;
	unsigned i;
	BIO *bio;

	t = tls_new(env.ctx, env.fds[0], &env.t, &early, 0);
	ck_assert_ptr_nonnull(t);
	ck_assert_ptr_null(env.t);
	env.t = t;
	ck_assert(tls_pin(t, SLICE("cuda.example"), 443));
	ck_assert(mint_dress(env.mint, tls_session(t), SLICE("cuda.example"), clock_wall_s()));
	if (env.depth > 0) {
		bio = BIO_new(BIO_f_ssl());
		BIO_set_ssl(bio, env.client[0], BIO_NOCLOSE);
		SSL_set_bio(ssl, bio, bio);
	} else
		ck_assert_int_eq(SSL_set_fd(ssl, env.fds[1]), 1);
	ck_assert_int_eq(SSL_set_tlsext_host_name(ssl, name), 1);
	SSL_set_connect_state(ssl);
	env.client[env.depth++] = ssl;
	for (i = 0; i < 100 && progress == TLS_WAITS; i++) {
		(void)SSL_do_handshake(ssl);
		progress = tls_handshake(t, env.why, sizeof(env.why));
	}
	(void)SSL_do_handshake(ssl);
	return progress;
}

/* Bytes that tell their place in the stream. */
static void
bulk_fill(char *buf, size_t at, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++, at++)
		buf[i] = (char)((at >> 16) * 31 + (at >> 8) * 7 + at);
}

/* Offers the next bytes as a connection does: what was not taken again, perhaps with more. */
static size_t
bulk_send(size_t at, size_t *offered)
{
	static char buf[300000];
	size_t n = *offered > 0 ? *offered : env_random(sizeof(buf)) + 1;
	ssize_t k;

	if (n < sizeof(buf) / 2)
		n += env_random(sizeof(buf) / 2);
	/* A session of its own also bears less: it has sent, or keeps, what it was given. */
	if (env.depth == 1 && env_random(4) == 0)
		n = env_random((uint32_t)n) + 1;
	if (n > BULK_BYTES - at)
		n = BULK_BYTES - at;
	bulk_fill(buf, at, n);
	k = tls_send(env.t, buf, n);
	if (k < 0)
		ck_assert_int_eq(errno, EAGAIN);
	else
		ck_assert_uint_le((size_t)k, n);
	if (k < 0)
		k = 0;
	*offered = n - (size_t)k;
	return at + (size_t)k;
}

/* The client takes a little. */
static size_t
bulk_receive(size_t at)
{
	static char got[65536], want[65536];
	int k = SSL_read(env_client(), got, (int)env_random(sizeof(got)) + 1);

	if (k <= 0)
		return at;
	bulk_fill(want, at, (size_t)k);
	ck_assert_mem_eq(got, want, (size_t)k);
	return at + (size_t)k;
}

/* _i: sessions inside of one another. */
START_TEST(tls_brings_every_byte)
{
	size_t sent = 0, got = 0, offered = 0;
	unsigned i;
	int depth;

	for (depth = 0; depth <= _i; depth++)
		ck_assert_int_eq(env_add_session("cuda.example"), TLS_READY);
	for (i = 0; i < TURNS_MAX && got < BULK_BYTES; i++) {
		if (sent < BULK_BYTES && env_random(3) != 0)
			sent = bulk_send(sent, &offered);
		if (env_random(3) != 0)
			got = bulk_receive(got);
	}
	ck_assert_uint_eq(sent, BULK_BYTES);
	ck_assert_uint_eq(got, BULK_BYTES);
}
END_TEST

/* The other way, record by record, until the client says that this was all. */
START_TEST(tls_reads_every_byte)
{
	static char buf[65536], want[65536];
	size_t sent = 0, got = 0, n;
	unsigned i;
	ssize_t k = -1;
	int depth, w;

	for (depth = 0; depth <= _i; depth++)
		ck_assert_int_eq(env_add_session("cuda.example"), TLS_READY);
	for (i = 0; i < TURNS_MAX && got < BULK_BYTES; i++) {
		n = BULK_BYTES - sent < 50000 ? BULK_BYTES - sent : 50000;
		if (n > 0) {
			bulk_fill(buf, sent, n);
			w = SSL_write(env_client(), buf, (int)n);
			sent += w > 0 ? (size_t)w : 0;
		}
		k = tls_recv(env.t, buf, env_random(sizeof(buf)) + 1);
		if (k < 0) {
			ck_assert(errno == EAGAIN || errno == EINTR);
			continue;
		}
		bulk_fill(want, got, (size_t)k);
		ck_assert_mem_eq(buf, want, (size_t)k);
		got += (size_t)k;
	}
	ck_assert_uint_eq(got, BULK_BYTES);
	(void)SSL_shutdown(env_client());
	k = tls_recv(env.t, buf, sizeof(buf));
	ck_assert_int_eq(k, 0);
}
END_TEST

START_TEST(tls_refuses_another_name)
{
	ck_assert_int_eq(env_add_session("deb.example"), TLS_FAILED);
	ck_assert_msg(strstr(env.why, "another host") != NULL, "%s", env.why);
}
END_TEST

START_TEST(tls_tells_other_protocols)
{
	static const char *const rows[] = {"GET / HTTP/1.1\r\n\r\n", "SSH-2.0-x\r\n", "\1\2\3\4\5\6\7"};
	enum tls_progress p = TLS_WAITS;
	char *early = strdup(rows[_i]);
	size_t n = strlen(rows[_i]);

	/* As early bytes, which must be freed, too. */
	env.t = tls_new(env.ctx, env.fds[0], &env.t, &early, n);
	ck_assert_ptr_null(early);
	p = tls_handshake(env.t, env.why, sizeof(env.why));
	ck_assert_int_eq(p, TLS_IS_OTHER);
}
END_TEST

/* Records that carry nothing for us: no end of file, no error, and the data behind them comes. */
START_TEST(tls_reads_past_key_updates)
{
	char buf[100];
	unsigned i;
	ssize_t k = -1;

	ck_assert_int_eq(env_add_session("cuda.example"), TLS_READY);
	for (i = 0; i < 20; i++) {
		ck_assert_int_eq(SSL_key_update(env_client(), SSL_KEY_UPDATE_REQUESTED), 1);
		ck_assert_int_eq(SSL_write(env_client(), "data", 4), 4);
		do
			k = tls_recv(env.t, buf, sizeof(buf));
		while (k < 0 && errno == EINTR);
		ck_assert_int_eq(k, 4);
		ck_assert_int_eq(tls_send(env.t, "answer", 6), 6);
		ck_assert_int_eq(SSL_read(env_client(), buf, sizeof(buf)), 6);
	}
}
END_TEST

Suite *
check_tls_suite(void)
{
	Suite *s = suite_create("tls");
	TCase *tc = tcase_create("tls");

	tcase_add_checked_fixture(tc, env_start, env_stop);
	tcase_set_timeout(tc, 30);
	tcase_add_loop_test(tc, tls_brings_every_byte, 0, 2);
	tcase_add_loop_test(tc, tls_reads_every_byte, 0, 2);
	tcase_add_test(tc, tls_refuses_another_name);
	tcase_add_loop_test(tc, tls_tells_other_protocols, 0, 3);
	tcase_add_test(tc, tls_reads_past_key_updates);
	suite_add_tcase(s, tc);
	return s;
}
