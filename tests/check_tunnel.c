/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Tunnels over socket pairs: a real connection on a loop that the test turns
 * by hand, with a dial that the test answers. The module is compiled in here
 * so that nothing but the dial is replaced.
 */
#include "proxy/upstream.h"

void check_tunnel_dial(struct upstream *u, struct upstream_dial *d);
#define upstream_dial(u, d) check_tunnel_dial(u, d)
#include "proxy/tunnel.c"
#undef upstream_dial

#include <check.h>
#include <fcntl.h>
#include <stdio.h>

#include "include/clock.h"
#include "include/config.h"
#include "proxy/tlsconf.h"

Suite *check_tunnel_suite(void);

#define ASK "CONNECT origin.example:443 HTTP/1.1\r\nHost: origin.example:443\r\n\r\n"
#define ANSWER "HTTP/1.1 200 Connection established\r\n\r\n"

enum { BULK_BYTES = 8 << 20, TURNS_MAX = 200000, IDLE_TURNS = 20 };

static struct {
	struct depot depot;
	struct worker w;
	struct upstream_dial *dial;	/* asked for, not answered yet */
	int client, origin;		/* the test's ends */
	int64_t tunnels_was, bytes_was;	/* counters before the test */
} env;

void
check_tunnel_dial(struct upstream *u, struct upstream_dial *d)
{
	(void)u;
	AZ(env.dial);
	env.dial = d;
}

static void
env_run_cb(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c;

	(void)fd;
	(void)what;
	(void)arg;
	if ((c = TAILQ_FIRST(&env.w.runnable)) == NULL)
		return;
	TAILQ_REMOVE(&env.w.runnable, c, run_link);
	c->runnable = false;
	if (!TAILQ_EMPTY(&env.w.runnable))
		event_active(env.w.run_event, EV_TIMEOUT, 0);
	conn_run(c);
}

/* One turn of the worker. */
static void
env_turn(void)
{
	worker_update_clock(&env.w);
	mailbox_drain(&env.w.mailbox);
	(void)event_base_loop(env.w.base, EVLOOP_NONBLOCK);
	conn_reap(&env.w);
}

/* Until nothing happens any more. */
static void
env_settle(void)
{
	unsigned i;

	for (i = 0; i < IDLE_TURNS; i++)
		env_turn();
}

static void
env_start(void)
{
	struct sockaddr sa = {.sa_family = AF_UNIX};
	struct event_config *cfg = event_config_new();
	struct worker *w = &env.w;
	char *settings[1] = {NULL};
	struct strlist none = {settings, 0};
	int pair[2];
	unsigned i;

	memset(&env, 0, sizeof(env));
	env.depot.config = config_load(NULL, &none, stderr, stderr);
	ck_assert_ptr_nonnull(env.depot.config);
	w->magic = WORKER_MAGIC;
	w->depot = &env.depot;
	ck_assert_int_eq(mailbox_init(&w->mailbox), 0);
	ck_assert_int_eq(event_config_require_features(cfg, EV_FEATURE_ET), 0);
	w->base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	w->run_event = event_new(w->base, -1, 0, env_run_cb, NULL);
	TAILQ_INIT(&w->runnable);
	TAILQ_INIT(&w->dead);
	for (i = 0; i < CONN_STATE_N; i++)
		TAILQ_INIT(&w->conns[i]);
	w->in = malloc(WORKER_IN_BYTES);
	w->out = malloc(WORKER_HEAD_BYTES + WORKER_BODY_BYTES);
	worker_update_clock(w);
	env.tunnels_was = counter_read(COUNTER_tunnels_total);
	env.bytes_was = counter_read(COUNTER_tunnel_bytes_total);
	AZ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair));
	env.client = pair[0];
	env.origin = -1;
	atomic_store(&w->conns_n, 1);
	conn_new(w, pair[1], &sa, sizeof(sa), WAY_PLAIN, false);
}

static void
env_stop(void)
{
	struct config *config = (struct config *)(uintptr_t)env.depot.config;
	struct req *req;
	struct conn *c;
	unsigned i;

	for (i = 0; i < CONN_STATE_N; i++)
		while ((c = TAILQ_FIRST(&env.w.conns[i])) != NULL)
			conn_close(c, REASON_SHUTDOWN);
	env_turn();
	ck_assert_int_eq(counter_read(COUNTER_tunnels_open), 0);
	while ((req = env.w.free_reqs) != NULL) {
		env.w.free_reqs = req->next_free;
		free(req);
	}
	event_free(env.w.run_event);
	event_base_free(env.w.base);
	mailbox_fini(&env.w.mailbox);
	free(env.w.in);
	free(env.w.out);
	if (env.client >= 0)
		(void)close(env.client);
	if (env.origin >= 0)
		(void)close(env.origin);
	config_free(&config);
}

/* Sends all of it from one of the test's ends. */
static void
env_send(int fd, const char *text, size_t n)
{
	ck_assert_int_eq(send(fd, text, n, MSG_NOSIGNAL), (ssize_t)n);
}

/* Receives exactly this at one of the test's ends. */
static void
env_expect(int fd, const char *text, size_t n)
{
	char got[4096];
	size_t have = 0;
	unsigned i;
	ssize_t k;

	for (i = 0; i < TURNS_MAX && have < n; i++) {
		env_turn();
		k = recv(fd, got + have, n - have, 0);
		have += k > 0 ? (size_t)k : 0;
	}
	ck_assert_uint_eq(have, n);
	ck_assert_mem_eq(got, text, n);
}

/* The peer's end of file, and nothing before it. */
static void
env_expect_end(int fd)
{
	ssize_t k = -1;
	char byte;
	unsigned i;

	for (i = 0; i < TURNS_MAX && k < 0; i++) {
		env_turn();
		k = recv(fd, &byte, 1, 0);
	}
	ck_assert_int_eq(k, 0);
}

static void
env_expect_silence(int fd)
{
	char byte;

	env_settle();
	ck_assert_int_eq(recv(fd, &byte, 1, 0), -1);
	ck_assert_int_eq(errno, EAGAIN);
}

/* Upstream has connected. */
static void
env_dial_done(void)
{
	int pair[2];

	ck_assert_ptr_nonnull(env.dial);
	AZ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	env.origin = pair[0];
	AZ(fcntl(env.origin, F_SETFL, O_NONBLOCK));
	env.dial->fd = pair[1];
	mailbox_post(env.dial->home, &env.dial->mail);
	env.dial = NULL;
}

/* A tunnel that stands, its answer read. */
static void
env_open(void)
{
	env_send(env.client, ASK, sizeof(ASK) - 1);
	env_settle();
	env_dial_done();
	env_expect(env.client, ANSWER, sizeof(ANSWER) - 1);
}

static bool
env_conn_is_gone(void)
{
	unsigned i;

	env_turn();
	for (i = 0; i < CONN_STATE_N; i++)
		if (!TAILQ_EMPTY(&env.w.conns[i]))
			return false;
	return true;
}

/* Bytes that tell their place in the stream. */
static void
bulk_fill(char *buf, size_t at, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++, at++)
		buf[i] = (char)((at >> 16) * 31 + (at >> 8) * 7 + at);
}

/* Sends what the socket takes of the bulk; returns how far it is. */
static size_t
bulk_send(int fd, size_t at)
{
	char buf[8192];
	size_t n;
	ssize_t k;

	while (at < BULK_BYTES) {
		n = BULK_BYTES - at < sizeof(buf) ? BULK_BYTES - at : sizeof(buf);
		bulk_fill(buf, at, n);
		k = send(fd, buf, n, MSG_NOSIGNAL);
		if (k <= 0)
			break;
		at += (size_t)k;
	}
	return at;
}

/* Receives what is there of it and compares. */
static size_t
bulk_receive(int fd, size_t at, size_t most)
{
	char buf[8192], want[8192];
	size_t got = 0;
	ssize_t k;

	while (got < most && (k = recv(fd, buf, sizeof(buf), 0)) > 0) {
		bulk_fill(want, at, (size_t)k);
		ck_assert_mem_eq(buf, want, (size_t)k);
		at += (size_t)k;
		got += (size_t)k;
	}
	return at;
}

START_TEST(tunnel_relays_both_ways)
{
	env_send(env.client, ASK, sizeof(ASK) - 1);
	env_expect_silence(env.client);
	ck_assert_str_eq(env.dial->host, "origin.example");
	ck_assert_uint_eq(env.dial->port, 443);
	env_dial_done();
	env_expect(env.client, ANSWER, sizeof(ANSWER) - 1);
	env_expect_silence(env.client);
	env_send(env.client, "hello", 5);
	env_expect(env.origin, "hello", 5);
	env_send(env.origin, "world", 5);
	env_expect(env.client, "world", 5);
	ck_assert_int_eq(counter_read(COUNTER_tunnels_total) - env.tunnels_was, 1);
	ck_assert_int_eq(counter_read(COUNTER_tunnels_open), 1);
	ck_assert_int_eq(counter_read(COUNTER_tunnel_bytes_total) - env.bytes_was, 10);
}
END_TEST

/* What a client may send without waiting for the answer; none of it is a request. */
static const struct slice early_rows[] = {
	{"\x16\x03\x01\x00\x05hello", 10},
	{"\x16\x03\x01 \r\n\r\n GET / HTTP/1.1\r\n\r\n", 27},
	{"GET / HTTP/1.1\r\nHost: origin.example\r\n\r\n", 40},
};

START_TEST(tunnel_takes_early_bytes)
{
	char text[256];
	size_t n = sizeof(ASK) - 1;

	memcpy(text, ASK, n);
	memcpy(text + n, early_rows[_i].p, early_rows[_i].n);
	env_send(env.client, text, n + early_rows[_i].n);
	env_settle();
	env_send(env.client, "more", 4);
	env_settle();
	env_dial_done();
	env_expect(env.client, ANSWER, sizeof(ANSWER) - 1);
	env_expect(env.origin, early_rows[_i].p, early_rows[_i].n);
	env_expect(env.origin, "more", 4);
}
END_TEST

START_TEST(tunnel_passes_half_close)
{
	size_t sent = 0, got = 0;
	unsigned i;

	env_open();
	env_send(env.client, "last", 4);
	AZ(shutdown(env.client, SHUT_WR));
	env_expect(env.origin, "last", 4);
	env_expect_end(env.origin);
	for (i = 0; i < TURNS_MAX && got < BULK_BYTES; i++) {
		sent = bulk_send(env.origin, sent);
		env_turn();
		got = bulk_receive(env.client, got, BULK_BYTES);
	}
	ck_assert_uint_eq(got, BULK_BYTES);
	AZ(shutdown(env.origin, SHUT_WR));
	env_expect_end(env.client);
	ck_assert(env_conn_is_gone());
}
END_TEST

START_TEST(tunnel_passes_half_close_of_upstream)
{
	env_open();
	env_send(env.origin, "last", 4);
	AZ(shutdown(env.origin, SHUT_WR));
	env_expect(env.client, "last", 4);
	env_expect_end(env.client);
	env_send(env.client, "more", 4);
	env_expect(env.origin, "more", 4);
	AZ(shutdown(env.client, SHUT_WR));
	env_expect_end(env.origin);
	ck_assert(env_conn_is_gone());
}
END_TEST

START_TEST(tunnel_holds_back_a_fast_sender)
{
	size_t sent = 0, before, got = 0;
	struct conn *c;
	unsigned i;

	env_open();
	do {
		before = sent;
		sent = bulk_send(env.origin, sent);
		env_settle();
	} while (sent > before);
	/* Two socket buffers and what a tunnel keeps, not the whole of it. */
	ck_assert_uint_lt(sent, BULK_BYTES / 4);
	for (i = 0; i < TURNS_MAX && got < BULK_BYTES; i++) {
		got = bulk_receive(env.client, got, 100000);
		sent = bulk_send(env.origin, sent);
		env_turn();
	}
	ck_assert_uint_eq(got, BULK_BYTES);
	/* Idle again, it holds no buffer. */
	c = TAILQ_FIRST(&env.w.conns[CONN_TUNNEL]);
	ck_assert_ptr_nonnull(c);
	ck_assert_ptr_null(c->tunnel->halves[TUNNEL_DOWN].kept);
}
END_TEST

START_TEST(tunnel_moves_both_ways_at_once)
{
	size_t sent[2] = {0, 0}, got[2] = {0, 0};
	unsigned i;

	env_open();
	for (i = 0; i < TURNS_MAX && (got[0] < BULK_BYTES || got[1] < BULK_BYTES); i++) {
		sent[0] = bulk_send(env.client, sent[0]);
		sent[1] = bulk_send(env.origin, sent[1]);
		env_turn();
		got[0] = bulk_receive(env.origin, got[0], BULK_BYTES);
		got[1] = bulk_receive(env.client, got[1], BULK_BYTES);
	}
	ck_assert_uint_eq(got[0], BULK_BYTES);
	ck_assert_uint_eq(got[1], BULK_BYTES);
	ck_assert_int_eq(counter_read(COUNTER_tunnel_bytes_total) - env.bytes_was,
	    2 * BULK_BYTES);
}
END_TEST

START_TEST(tunnel_says_why_not)
{
	char got[4096];
	ssize_t k;

	env_send(env.client, ASK, sizeof(ASK) - 1);
	env_settle();
	ck_assert_ptr_nonnull(env.dial);
	env.dial->reason = REASON_UP_RESOLVE;
	(void)strcpy(env.dial->detail, "no address for origin.example");
	mailbox_post(env.dial->home, &env.dial->mail);
	env.dial = NULL;
	env_settle();
	k = recv(env.client, got, sizeof(got) - 1, 0);
	ck_assert_int_gt(k, 0);
	got[k] = '\0';
	ck_assert_int_eq(strncmp(got, "HTTP/1.1 502 ", 13), 0);
	ck_assert_ptr_nonnull(strstr(got, "no address for origin.example"));
	/* The connection is good for another try. */
	env_open();
}
END_TEST

START_TEST(tunnel_survives_a_client_that_left)
{
	env_send(env.client, ASK, sizeof(ASK) - 1);
	env_settle();
	/* Unread bytes make the close a reset. */
	conn_close(TAILQ_FIRST(&env.w.conns[CONN_FLIGHT]), REASON_CLIENT_RESET);
	env_expect_end(env.client);
	env_dial_done();
	env_expect_end(env.origin);
}
END_TEST

/* A unix socket closed with bytes unread resets its peer. */
START_TEST(tunnel_ends_with_a_reset)
{
	int *gone = _i == 0 ? &env.client : &env.origin;
	int other;

	env_open();
	other = _i == 0 ? env.origin : env.client;
	env_send(other, "unread", 6);
	env_settle();
	env_send(*gone, "last words", 10);
	(void)close(*gone);
	*gone = -1;
	env_expect(other, "last words", 10);
	env_expect_end(other);
	if (_i == 1) {
		(void)close(env.client);
		env.client = -1;
	}
	env_settle();
	ck_assert(env_conn_is_gone());
}
END_TEST

/* Moves the clock and lets the worker look. */
static void
env_pass(int64_t ms)
{
	clock_test_advance(ms);
	worker_update_clock(&env.w);
	conn_check_timeouts(&env.w);
}

START_TEST(tunnel_ends_when_idle)
{
	env_open();
	env_pass(10 * 60 * 1000);
	env_send(env.origin, "x", 1);
	env_expect(env.client, "x", 1);
	env_pass(10 * 60 * 1000);
	ck_assert(!env_conn_is_gone());
	env_pass(6 * 60 * 1000);
	ck_assert(env_conn_is_gone());
}
END_TEST

START_TEST(tunnel_ends_when_half_closed_and_quiet)
{
	env_open();
	AZ(shutdown(_i == 0 ? env.client : env.origin, SHUT_WR));
	env_expect_end(_i == 0 ? env.origin : env.client);
	env_pass(50 * 1000);
	ck_assert(!env_conn_is_gone());
	env_pass(11 * 1000);
	ck_assert(env_conn_is_gone());
}
END_TEST

START_TEST(tunnel_ends_when_stuck)
{
	unsigned i;
	int from;

	env_open();
	from = _i == 0 ? env.origin : env.client;
	for (i = 0; i < 4; i++) {
		(void)bulk_send(from, 0);
		env_settle();
	}
	env_pass(50 * 1000);
	ck_assert(!env_conn_is_gone());
	env_pass(11 * 1000);
	ck_assert(env_conn_is_gone());
}
END_TEST

START_TEST(tunnel_ends_soon_when_stopping)
{
	env_open();
	env.w.stopping = true;
	env_pass(500);
	ck_assert(!env_conn_is_gone());
	env_pass(600);
	ck_assert(env_conn_is_gone());
}
END_TEST

/* The connection goes, and its CONNECT with it, once. */
START_TEST(connect_ends_where_no_session_can_be_made)
{
	struct config *config = (struct config *)(uintptr_t)env.depot.config;
	char hosts[] = "intercept_hosts=origin.example", *settings[] = {hosts};
	struct strlist list = {settings, 1};
	char *why;

	/* Of a configuration without hosts: no context, as when memory is short. */
	env.depot.tls = tlsconf_open(config, &why);
	ck_assert_ptr_nonnull(env.depot.tls);
	config_free(&config);
	env.depot.config = config_load(NULL, &list, stderr, stderr);
	ck_assert_ptr_nonnull(env.depot.config);
	env_send(env.client, ASK "more", sizeof(ASK "more") - 1);
	env_expect(env.client, ANSWER, sizeof(ANSWER) - 1);
	ck_assert(env_conn_is_gone());
	tlsconf_close(&env.depot.tls);
}
END_TEST

Suite *
check_tunnel_suite(void)
{
	Suite *s = suite_create("tunnel");
	TCase *tc = tcase_create("tunnel");

	tcase_add_checked_fixture(tc, env_start, env_stop);
	tcase_add_test(tc, tunnel_relays_both_ways);
	tcase_add_loop_test(tc, tunnel_takes_early_bytes, 0, (int)NELEM(early_rows));
	tcase_add_test(tc, tunnel_passes_half_close);
	tcase_add_test(tc, tunnel_passes_half_close_of_upstream);
	tcase_add_test(tc, tunnel_holds_back_a_fast_sender);
	tcase_add_test(tc, tunnel_moves_both_ways_at_once);
	tcase_add_test(tc, tunnel_says_why_not);
	tcase_add_test(tc, tunnel_survives_a_client_that_left);
	tcase_add_loop_test(tc, tunnel_ends_with_a_reset, 0, 2);
	tcase_add_test(tc, tunnel_ends_when_idle);
	tcase_add_loop_test(tc, tunnel_ends_when_half_closed_and_quiet, 0, 2);
	tcase_add_loop_test(tc, tunnel_ends_when_stuck, 0, 2);
	tcase_add_test(tc, tunnel_ends_soon_when_stopping);
	tcase_add_test(tc, connect_ends_where_no_session_can_be_made);
	suite_add_tcase(s, tc);
	return s;
}
