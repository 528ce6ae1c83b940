/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * A load client for what wrk cannot measure: bodies of gigabytes thrown away
 * inside the kernel (so that the client is not the limit), time to the first
 * body byte, readers at a fixed pace beside readers at full speed, thousands of
 * idle connections, pipelines as apt sends them, a new connection each time.
 *
 *     bench-load [-T s] ADDR:PORT GROUP... [-- GROUP...]...
 *
 * A group is a number of connections with the same behaviour; groups run at the
 * same time. One line of JSON per group goes to stdout. tests/bench/run.py is
 * the only caller.
 *
 * Life of a connection: load_conn_open -> (load_conn_send, load_conn_read)* ->
 * load_conn_close, and again from the start while its group has requests left.
 * One thread. A request is repeated only where every client would: on a kept
 * connection that the server closed before the answer's first byte ("retried");
 * everything else that fails is counted as an error.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LOAD_PIPELINE_MAX 32
#define LOAD_HEAD_BYTES 16384
#define LOAD_HEAD_READ 2048        /* little, since what arrives with a head is copied */
#define LOAD_BODY_READ (4U << 20)  /* one turn, so that connections share the thread */
#define LOAD_TICK_MS 10            /* how often paced connections are looked at */
#define LOAD_PACED_READ 16384      /* at once, as a program reads: ten bytes a tick cost only us */
#define LOAD_CONNECTING_MAX 512    /* at once, to stay below any server's backlog */

/* One thing to ask for; length_bytes is what the answer must announce, -1 any. */
struct target {
	char *path;
	int64_t length_bytes;
};

/* Growing list of microseconds, sorted when the run is over. */
struct samples {
	uint32_t *us;
	size_t n, room;
};

/* Connections of one behaviour, and what they saw. Lives from options to report. */
struct group {
	const char *name;
	struct target *target;
	size_t target_n, next_target;
	char *header;              /* extra header lines, each with CRLF */
	uint64_t conn_n;
	uint64_t limit_n;          /* requests in all; 0: until for_ms */
	uint64_t for_ms;           /* stop after this time; 0: after limit_n */
	uint64_t pace_bytes;       /* per second and connection; 0: as fast as it comes */
	int rcvbuf_bytes;
	int pipeline_n;
	int status;                /* the one that counts as good */
	bool close_each, background, hold;

	uint64_t claimed_n, done_n, error_n, retried_n, bytes, opened_n, live_n;
	const struct target **again; /* to be asked once more, before the others */
	size_t again_n, again_room;
	uint64_t status_n[600];
	uint64_t conn_wall_min_us, conn_wall_max_us;
	uint64_t start_us, last_us;
	struct samples first, whole;
	char first_error[160];
};

/* One connection; belongs to its group, registered in the one epoll set. */
struct conn {
	struct group *g;
	int fd;
	uint32_t events;           /* what epoll was last told */
	bool connecting, last_answer, counted_open, first_seen;
	bool proven;               /* has answered before: may close between requests */
	uint64_t opened_us, begun_us, paced_bytes;
	/* Requests sent and not yet answered, oldest first. */
	struct {
		const struct target *t;
		uint64_t at_us;
	} ask[LOAD_PIPELINE_MAX];
	int ask_n;
	char *out;                 /* request bytes the socket has not taken */
	size_t out_n, out_off, out_room;
	char head[LOAD_HEAD_BYTES];
	size_t head_n;
	bool in_body;
	uint64_t body_left;
	int status;
};

static struct sockaddr_in load_addr;
static char load_host[64];
static int load_epoll = -1;
static struct group load_group[8];
static int load_group_n;
static struct conn **load_conn;
static uint64_t load_conn_n, load_connecting_n;
static uint64_t load_limit_ms = 300000;

/* Say what is wrong with the call or the machine and stop. */
__attribute__((noreturn, format(printf, 1, 2))) static void
load_die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("bench-load: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(2);
}

/* Memory or the end. */
static void *
load_realloc(void *p, size_t bytes)
{
	p = realloc(p, bytes);
	if (p == NULL)
		load_die("out of memory");
	return (p);
}

/* Microseconds on a clock that never steps. */
static uint64_t
load_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((uint64_t)ts.tv_sec * 1000000U + (uint64_t)ts.tv_nsec / 1000U);
}

/* Remember one duration. */
static void
samples_add(struct samples *s, uint64_t us)
{
	if (s->n == s->room) {
		s->room = s->room == 0 ? 4096 : s->room * 2;
		s->us = load_realloc(s->us, s->room * sizeof *s->us);
	}
	s->us[s->n++] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

/* qsort order for durations. */
static int
samples_compare(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return ((*x > *y) - (*x < *y));
}

/* The duration below which `share` of a sorted list lies, in milliseconds. */
static double
samples_quantile_ms(const struct samples *s, double share)
{
	size_t i;

	if (s->n == 0)
		return (0);
	i = (size_t)(share * (double)s->n);
	return (s->us[i >= s->n ? s->n - 1 : i] / 1000.0);
}

/* Count a failed request; the first reason is kept for the report. */
__attribute__((format(printf, 3, 4))) static void
group_fail(struct group *g, uint64_t requests_n, const char *fmt, ...)
{
	va_list ap;

	g->error_n += requests_n;
	if (g->first_error[0] != '\0' || requests_n == 0)
		return;
	va_start(ap, fmt);
	vsnprintf(g->first_error, sizeof g->first_error, fmt, ap);
	va_end(ap);
}

/* Take the next request of the group, or NULL when it has had its share. */
static const struct target *
group_claim(struct group *g, uint64_t now_us)
{
	const struct target *t;

	if (g->limit_n != 0 && g->claimed_n >= g->limit_n)
		return (NULL);
	if (g->for_ms != 0 && now_us >= g->start_us + g->for_ms * 1000U)
		return (NULL);
	if (g->again_n > 0) {
		g->claimed_n++;
		return (g->again[--g->again_n]);
	}
	t = &g->target[g->next_target];
	g->next_target = (g->next_target + 1) % g->target_n;
	g->claimed_n++;
	return (t);
}

/* Take a request back that its connection's end left unanswered. */
static void
group_ask_again(struct group *g, const struct target *t)
{
	if (g->again_n == g->again_room) {
		g->again_room = g->again_room == 0 ? 64 : g->again_room * 2;
		g->again = load_realloc(g->again, g->again_room * sizeof *g->again);
	}
	g->again[g->again_n++] = t;
	g->claimed_n--;
	g->retried_n++;
}

/* Whether nothing is left to do for this group. */
static bool
group_is_done(const struct group *g, uint64_t now_us)
{
	if (g->for_ms != 0 && now_us >= g->start_us + g->for_ms * 1000U)
		return (true);
	return (g->limit_n != 0 && g->done_n + g->error_n >= g->limit_n);
}

/* Tell epoll what this connection waits for, when that has changed. */
static void
load_conn_watch(struct conn *c, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = c };

	if (c->events == events)
		return;
	if (epoll_ctl(load_epoll, EPOLL_CTL_MOD, c->fd, &ev) != 0)
		load_die("epoll_ctl: %s", strerror(errno));
	c->events = events;
}

/* End the connection; what it still waited for counts as failed. */
static void
load_conn_close(struct conn *c, const char *why)
{
	struct group *g = c->g;
	uint64_t now_us = load_now_us(), wall_us = now_us - c->begun_us;

	if (c->fd < 0)
		return;
	if (c->connecting)
		load_connecting_n--;
	if (c->ask_n > 0 && c->proven && c->head_n == 0 && !c->in_body && !g->close_each)
		while (c->ask_n > 0)
			group_ask_again(g, c->ask[--c->ask_n].t);
	else if (c->ask_n > 0)
		group_fail(g, (uint64_t)c->ask_n, "%s", why);
	else if (c->begun_us != 0) {
		if (g->conn_wall_min_us == 0 || wall_us < g->conn_wall_min_us)
			g->conn_wall_min_us = wall_us;
		if (wall_us > g->conn_wall_max_us)
			g->conn_wall_max_us = wall_us;
	}
	if (c->counted_open)
		g->live_n--;
	close(c->fd);
	c->fd = -1;
	c->connecting = c->last_answer = c->counted_open = false;
	c->in_body = c->first_seen = c->proven = false;
	c->ask_n = 0;
	c->out_n = c->out_off = c->head_n = 0;
	c->begun_us = 0;
}

/* Put one request behind what is already waiting to be sent. */
static void
load_conn_ask(struct conn *c, const struct target *t, uint64_t now_us)
{
	struct group *g = c->g;
	size_t need = strlen(t->path) + strlen(g->header) + 256;

	if (c->out_n + need > c->out_room) {
		c->out_room = c->out_n + need;
		c->out = load_realloc(c->out, c->out_room);
	}
	c->out_n += (size_t)snprintf(c->out + c->out_n, need,
	    "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Debian APT-HTTP/1.3 (2.6.1)\r\n%s%s\r\n",
	    t->path, load_host, g->header, g->close_each ? "Connection: close\r\n" : "");
	c->ask[c->ask_n].t = t;
	c->ask[c->ask_n].at_us = now_us;
	c->ask_n++;
	if (c->begun_us == 0)
		c->begun_us = now_us;
}

/* Fill the pipeline and write what the socket takes. False: the connection is gone. */
static bool
load_conn_send(struct conn *c)
{
	const struct target *t;
	uint64_t now_us = load_now_us();
	ssize_t n;

	while (!c->last_answer && c->ask_n < c->g->pipeline_n &&
	    (t = group_claim(c->g, now_us)) != NULL) {
		load_conn_ask(c, t, now_us);
		/* -i: each connection asks once; -C: the server is to close. */
		if (c->g->close_each || c->g->hold)
			c->last_answer = true;
	}
	while (c->out_off < c->out_n) {
		n = send(c->fd, c->out + c->out_off, c->out_n - c->out_off, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			load_conn_watch(c, EPOLLIN | EPOLLOUT);
			return (true);
		}
		if (n < 0) {
			load_conn_close(c, strerror(errno));
			return (false);
		}
		c->out_off += (size_t)n;
	}
	c->out_n = c->out_off = 0;
	if (c->events != 0)
		load_conn_watch(c, EPOLLIN);
	return (true);
}

/* Start a connection; a connect that fails costs its group one request. */
static void
load_conn_open(struct conn *c)
{
	struct group *g = c->g;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c };
	int one = 1, mss_bytes = 1448;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		load_die("socket: %s", strerror(errno));
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (g->rcvbuf_bytes != 0) {
		/* With loopback's segments of 64 KiB a small window would open in jerks of 200 ms. */
		setsockopt(c->fd, IPPROTO_TCP, TCP_MAXSEG, &mss_bytes, sizeof mss_bytes);
		setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &g->rcvbuf_bytes, sizeof g->rcvbuf_bytes);
	}
	c->opened_us = load_now_us();
	c->paced_bytes = 0;
	c->connecting = true;
	load_connecting_n++;
	g->opened_n++;
	if (connect(c->fd, (struct sockaddr *)&load_addr, sizeof load_addr) != 0 &&
	    errno != EINPROGRESS) {
		const char *why = strerror(errno);

		if (group_claim(g, c->opened_us) != NULL)
			group_fail(g, 1, "connect: %s", why);
		load_conn_close(c, why);
		return;
	}
	c->events = ev.events;
	if (epoll_ctl(load_epoll, EPOLL_CTL_ADD, c->fd, &ev) != 0)
		load_die("epoll_ctl: %s", strerror(errno));
}

/* The connect has ended one way or the other. False: the connection is gone. */
static bool
load_conn_connected(struct conn *c)
{
	int err = 0;
	socklen_t len = sizeof err;

	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	if (err != 0) {
		if (group_claim(c->g, c->opened_us) != NULL)
			group_fail(c->g, 1, "connect: %s", strerror(err));
		load_conn_close(c, strerror(err));
		return (false);
	}
	c->connecting = false;
	load_connecting_n--;
	c->counted_open = true;
	c->g->live_n++;
	if (!load_conn_send(c))
		return (false);
	/* A new connection's cost is part of its first request. */
	if (c->ask_n > 0)
		c->ask[0].at_us = c->opened_us;
	return (true);
}

/* The value of a header field in a head that ends in NUL, or NULL. */
static const char *
load_head_field(const char *head, const char *name)
{
	size_t len = strlen(name);
	const char *p;

	for (p = strchr(head, '\n'); p != NULL; p = strchr(p + 1, '\n'))
		if (strncasecmp(p + 1, name, len) == 0 && p[1 + len] == ':') {
			p += 2 + len;
			return (p + strspn(p, " \t"));
		}
	return (NULL);
}

/* Read status and framing of a whole head; NULL, or what is wrong with it. */
static const char *
load_conn_parse(struct conn *c, char *head)
{
	const struct target *t;
	const char *value;
	int64_t length = -1;

	if (c->ask_n == 0)
		return ("answer without a request");
	t = c->ask[0].t;
	if (strncmp(head, "HTTP/1.", 7) != 0 || strlen(head) < 12)
		return ("not HTTP");
	c->status = atoi(head + 9);
	if (c->status < 100 || c->status > 599)
		return ("bad status");
	if (load_head_field(head, "Transfer-Encoding") != NULL)
		return ("answer without Content-Length");
	value = load_head_field(head, "Content-Length");
	if (value != NULL)
		length = strtoll(value, NULL, 10);
	if (c->status == 304 || c->status == 204)
		c->body_left = 0;
	else if (length < 0)
		return ("answer without Content-Length");
	else
		c->body_left = (uint64_t)length;
	if (c->status == 200 && t->length_bytes >= 0 && length != t->length_bytes)
		return ("answer of another length");
	value = load_head_field(head, "Connection");
	if (value != NULL && strncasecmp(value, "close", 5) == 0)
		c->last_answer = true;
	return (NULL);
}

/* One answer is complete: take its times and make room for the next request. */
static void
load_conn_answered(struct conn *c, uint64_t now_us)
{
	struct group *g = c->g;

	g->status_n[c->status]++;
	if (c->status == g->status) {
		g->done_n++;
		samples_add(&g->whole, now_us - c->ask[0].at_us);
	} else
		group_fail(g, 1, "status %d for %.90s", c->status, c->ask[0].t->path);
	g->last_us = now_us;
	c->proven = true;
	c->ask_n--;
	memmove(&c->ask[0], &c->ask[1], (size_t)c->ask_n * sizeof c->ask[0]);
	c->in_body = c->first_seen = false;
}

/* Body bytes are here: the first of an answer stop its first-byte clock. */
static void
load_conn_first(struct conn *c, uint64_t now_us)
{
	if (!c->first_seen)
		samples_add(&c->g->first, now_us - c->ask[0].at_us);
	c->first_seen = true;
}

/* Use up n body bytes that have arrived. */
static void
load_conn_body(struct conn *c, uint64_t n, uint64_t now_us)
{
	c->body_left -= n;
	c->g->bytes += n;
	if (c->body_left == 0)
		load_conn_answered(c, now_us);
}

/* Work through what lies in the head buffer. NULL, or why the peer is wrong. */
static const char *
load_conn_consume(struct conn *c, uint64_t now_us)
{
	const char *why;
	char *end, kept;
	size_t used, n;

	while (c->head_n > 0) {
		if (!c->in_body) {
			end = memmem(c->head, c->head_n, "\r\n\r\n", 4);
			if (end == NULL)
				return (c->head_n == sizeof c->head ? "head too long" : NULL);
			used = (size_t)(end - c->head) + 4;
			kept = end[2];
			end[2] = '\0';
			why = load_conn_parse(c, c->head);
			end[2] = kept;
			if (why != NULL)
				return (why);
			c->in_body = true;
			if (c->body_left == 0 || used < c->head_n)
				load_conn_first(c, now_us);
			n = c->head_n - used < c->body_left ? c->head_n - used : c->body_left;
			used += n;
		} else {
			n = c->head_n < c->body_left ? c->head_n : c->body_left;
			used = n;
		}
		c->head_n -= used;
		memmove(c->head, c->head + used, c->head_n);
		load_conn_body(c, n, now_us);
	}
	return (NULL);
}

/* How many bytes a paced connection may take now. */
static uint64_t
load_conn_allowance(const struct conn *c, uint64_t now_us)
{
	uint64_t due;

	if (c->g->pace_bytes == 0)
		return (LOAD_BODY_READ);
	due = (now_us - c->opened_us) * c->g->pace_bytes / 1000000U;
	if (due <= c->paced_bytes)
		return (0);
	due -= c->paced_bytes;
	if (c->in_body && due < LOAD_PACED_READ && due < c->body_left)
		return (0);
	return (due < LOAD_BODY_READ ? due : LOAD_BODY_READ);
}

/* Take one portion from the socket. 1: more may be there, 0: wait, -1: connection gone. */
static int
load_conn_read(struct conn *c)
{
	uint64_t now_us = load_now_us(), room = load_conn_allowance(c, now_us);
	const char *why;
	ssize_t n;

	if (room == 0) {
		load_conn_watch(c, 0);
		return (0);
	}
	if (c->in_body) {
		if (room > c->body_left)
			room = c->body_left;
		/* MSG_TRUNC: the kernel drops the bytes, nothing is copied. */
		n = recv(c->fd, c->head, room, MSG_TRUNC);
	} else {
		room = sizeof c->head - c->head_n;
		n = recv(c->fd, c->head + c->head_n,
		    room < LOAD_HEAD_READ ? room : LOAD_HEAD_READ, 0);
	}
	if (n < 0)
		return (errno == EAGAIN || errno == EINTR ? 0 :
		    (load_conn_close(c, strerror(errno)), -1));
	if (n == 0) {
		load_conn_close(c, "closed before the answer was whole");
		return (-1);
	}
	c->paced_bytes += (uint64_t)n;
	now_us = load_now_us();
	if (!c->in_body) {
		c->head_n += (size_t)n;
		why = load_conn_consume(c, now_us);
		if (why != NULL) {
			load_conn_close(c, why);
			return (-1);
		}
		return (1);
	}
	load_conn_first(c, now_us);
	load_conn_body(c, (uint64_t)n, now_us);
	return (1);
}

/* Whether the connection has said and heard all it should. */
static bool
load_conn_is_spent(struct conn *c)
{
	struct group *g = c->g;

	/* An answer that said close: its end belongs to it, wait for the server's FIN. */
	if (c->ask_n > 0 || c->last_answer)
		return (false);
	return (g->limit_n != 0 && g->claimed_n >= g->limit_n);
}

/* Everything that one event on one connection brings. */
static void
load_conn_event(struct conn *c, uint32_t events)
{
	int turns = 4, more = 1;

	if (c->connecting && !load_conn_connected(c))
		return;
	if ((events & EPOLLOUT) != 0 && c->out_n > 0 && !load_conn_send(c))
		return;
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0)
		return;
	while (turns-- > 0 && more > 0) {
		more = load_conn_read(c);
		if (more < 0)
			return;
		if (!c->last_answer && c->ask_n < c->g->pipeline_n && !load_conn_send(c))
			return;
		if (load_conn_is_spent(c)) {
			load_conn_close(c, "");
			return;
		}
		/* Nothing asked: the next read could only say EAGAIN. */
		if (c->ask_n == 0 && !c->last_answer)
			return;
	}
}

/* Open connections that should exist and do not, a bounded number at a time. */
static void
load_open_missing(uint64_t now_us)
{
	struct group *g;

	for (uint64_t i = 0; i < load_conn_n && load_connecting_n < LOAD_CONNECTING_MAX; i++) {
		g = load_conn[i]->g;
		if (load_conn[i]->fd >= 0 || group_is_done(g, now_us) ||
		    (g->limit_n != 0 && g->claimed_n >= g->limit_n) ||
		    (g->hold && g->opened_n >= g->conn_n))
			continue;
		/* Each connection under way will claim one: no more of them than requests. */
		if (g->limit_n != 0 && g->claimed_n + load_connecting_n >= g->limit_n)
			continue;
		load_conn_open(load_conn[i]);
	}
}

/* Let paced connections that have earned bytes read again. */
static void
load_wake_paced(uint64_t now_us)
{
	for (uint64_t i = 0; i < load_conn_n; i++)
		if (load_conn[i]->fd >= 0 && load_conn[i]->events == 0 &&
		    load_conn_allowance(load_conn[i], now_us) > 0)
			load_conn_watch(load_conn[i], EPOLLIN);
}

/* Whether every group that is not in the background has finished. */
static bool
load_is_done(uint64_t now_us)
{
	for (int i = 0; i < load_group_n; i++)
		if (!load_group[i].background && !group_is_done(&load_group[i], now_us))
			return (false);
	return (true);
}

/* Run all groups to their end or to the limit of time. */
static void
load_run(void)
{
	struct epoll_event ev[256];
	uint64_t now_us = load_now_us(), start_us = now_us, tick_us = now_us;
	bool missing = true;
	int n;

	for (int i = 0; i < load_group_n; i++)
		load_group[i].start_us = now_us;
	while (!load_is_done(now_us)) {
		if (now_us > start_us + load_limit_ms * 1000U) {
			for (uint64_t i = 0; i < load_conn_n; i++)
				load_conn_close(load_conn[i], "not finished in time");
			for (int i = 0; i < load_group_n; i++)
				if (load_group[i].limit_n > load_group[i].claimed_n)
					group_fail(&load_group[i], load_group[i].limit_n -
					    load_group[i].claimed_n, "not asked in time");
			break;
		}
		if (missing)
			load_open_missing(now_us);
		missing = false;
		n = epoll_wait(load_epoll, ev, 256, LOAD_TICK_MS);
		if (n < 0 && errno != EINTR)
			load_die("epoll_wait: %s", strerror(errno));
		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;

			if (c->fd < 0)
				continue;
			load_conn_event(c, ev[i].events);
			missing = missing || c->fd < 0;
		}
		now_us = load_now_us();
		if (now_us > tick_us + LOAD_TICK_MS * 1000U) {
			tick_us = now_us;
			load_wake_paced(now_us);
			missing = true;
		}
	}
	for (int i = 0; i < load_group_n; i++)
		if (load_group[i].background || load_group[i].for_ms != 0 ||
		    load_group[i].last_us == 0)
			load_group[i].last_us = now_us;
}

/* Print a string as JSON; anything unusual becomes a question mark. */
static void
load_print_string(const char *s)
{
	putchar('"');
	for (; *s != '\0'; s++)
		putchar((unsigned char)*s < 32 || (unsigned char)*s > 126 || *s == '"' ||
		    *s == '\\' ? '?' : *s);
	putchar('"');
}

/* One line of JSON about one group. */
static void
load_report(struct group *g)
{
	const char *comma = "";

	qsort(g->first.us, g->first.n, sizeof *g->first.us, samples_compare);
	qsort(g->whole.us, g->whole.n, sizeof *g->whole.us, samples_compare);
	printf("{\"name\":");
	load_print_string(g->name);
	printf(",\"requests\":%" PRIu64 ",\"errors\":%" PRIu64
	    ",\"retried\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"wall_s\":%.6f,\"open\":%" PRIu64,
	    g->done_n, g->error_n, g->retried_n, g->bytes,
	    (double)(g->last_us - g->start_us) / 1e6, g->live_n);
	printf(",\"first_ms\":{\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f}",
	    samples_quantile_ms(&g->first, 0.5), samples_quantile_ms(&g->first, 0.99),
	    samples_quantile_ms(&g->first, 1));
	printf(",\"whole_ms\":{\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f}",
	    samples_quantile_ms(&g->whole, 0.5), samples_quantile_ms(&g->whole, 0.99),
	    samples_quantile_ms(&g->whole, 1));
	printf(",\"conn_wall_s\":{\"min\":%.6f,\"max\":%.6f}",
	    (double)g->conn_wall_min_us / 1e6, (double)g->conn_wall_max_us / 1e6);
	printf(",\"status\":{");
	for (int i = 0; i < 600; i++)
		if (g->status_n[i] != 0) {
			printf("%s\"%d\":%" PRIu64, comma, i, g->status_n[i]);
			comma = ",";
		}
	printf("},\"first_error\":");
	load_print_string(g->first_error);
	printf("}\n");
	fflush(stdout);
}

/* Add one target to a group. */
static void
group_add_target(struct group *g, const char *path, int64_t length_bytes)
{
	if ((g->target_n & (g->target_n - 1)) == 0)
		g->target = load_realloc(g->target,
		    (g->target_n == 0 ? 1 : g->target_n * 2) * sizeof *g->target);
	g->target[g->target_n].path = strdup(path);
	g->target[g->target_n].length_bytes = length_bytes;
	g->target_n++;
}

/* Read a list of targets: a request target and optionally its length a line. */
static void
group_read_list(struct group *g, const char *file)
{
	char line[4096], path[4096];
	long long length;
	FILE *f = fopen(file, "r");

	if (f == NULL)
		load_die("%s: %s", file, strerror(errno));
	while (fgets(line, sizeof line, f) != NULL) {
		length = -1;
		if (sscanf(line, "%4095s %lld", path, &length) >= 1)
			group_add_target(g, path, length);
	}
	fclose(f);
}

/* Append one header line to what each request of the group carries. */
static void
group_add_header(struct group *g, const char *line)
{
	size_t old = strlen(g->header), bytes = old + strlen(line) + 3;

	g->header = load_realloc(g->header, bytes);
	snprintf(g->header + old, bytes - old, "%s\r\n", line);
}

static const char load_usage[] =
    "usage: bench-load [-T s] ADDR:PORT GROUP... [-- GROUP...]\n"
    "  -N name  -c connections  -u target  -l list-file  -L length of -u's answer\n"
    "  -n requests in all  -t seconds  -p pipeline depth  -C new connection each\n"
    "  -H 'Name: value'  -s expected status  -R bytes/s per connection  -r SO_RCVBUF\n"
    "  -b background: stops with the others  -i keep connections open until stdin ends";

/* Read one group's options; returns how many arguments it took. */
static int
group_read_options(struct group *g, int argc, char **argv)
{
	const char *target = NULL;
	int64_t length = -1;
	int opt;

	g->name = "load";
	g->conn_n = 1;
	g->pipeline_n = 1;
	g->status = 200;
	g->header = load_realloc(NULL, 1);
	g->header[0] = '\0';
	optind = 0;
	while ((opt = getopt(argc, argv, "+N:c:u:l:L:n:t:p:CH:s:R:r:bi")) != -1)
		switch (opt) {
		case 'N': g->name = optarg; break;
		case 'c': g->conn_n = strtoull(optarg, NULL, 10); break;
		case 'u': target = optarg; break;
		case 'l': group_read_list(g, optarg); break;
		case 'L': length = strtoll(optarg, NULL, 10); break;
		case 'n': g->limit_n = strtoull(optarg, NULL, 10); break;
		case 't': g->for_ms = (uint64_t)(strtod(optarg, NULL) * 1000); break;
		case 'p': g->pipeline_n = atoi(optarg); break;
		case 'C': g->close_each = true; break;
		case 'H': group_add_header(g, optarg); break;
		case 's': g->status = atoi(optarg); break;
		case 'R': g->pace_bytes = strtoull(optarg, NULL, 10); break;
		case 'r': g->rcvbuf_bytes = atoi(optarg); break;
		case 'b': g->background = true; break;
		case 'i': g->hold = true; break;
		default: load_die("%s", load_usage);
		}
	if (target != NULL)
		group_add_target(g, target, length);
	if (g->target_n == 0 || g->conn_n == 0 || g->pipeline_n < 1 ||
	    g->pipeline_n > LOAD_PIPELINE_MAX)
		load_die("%s", load_usage);
	if (g->limit_n == 0 && g->for_ms == 0 && !g->background)
		g->limit_n = target != NULL ? g->conn_n : g->target_n;
	return (optind);
}

/* Make the connections of one group, none of them open yet. */
static void
group_make_conns(struct group *g)
{
	load_conn = load_realloc(load_conn, (load_conn_n + g->conn_n) * sizeof(struct conn *));
	for (uint64_t i = 0; i < g->conn_n; i++) {
		struct conn *c = calloc(1, sizeof *c);

		if (c == NULL)
			load_die("out of memory");
		c->g = g;
		c->fd = -1;
		load_conn[load_conn_n++] = c;
	}
}

/* Options, run, report. */
int
main(int argc, char **argv)
{
	struct rlimit rl;
	bool hold = false;
	char *colon, byte;
	int i = 1;

	if (argc > 3 && strcmp(argv[1], "-T") == 0) {
		load_limit_ms = (uint64_t)(strtod(argv[2], NULL) * 1000);
		i = 3;
	}
	if (i >= argc)
		load_die("%s", load_usage);
	snprintf(load_host, sizeof load_host, "%s", argv[i]);
	colon = strrchr(argv[i], ':');
	if (colon == NULL)
		load_die("%s", load_usage);
	*colon = '\0';
	load_addr.sin_family = AF_INET;
	load_addr.sin_port = htons((uint16_t)atoi(colon + 1));
	if (inet_pton(AF_INET, argv[i], &load_addr.sin_addr) != 1)
		load_die("%s is no IPv4 address", argv[i]);
	/* getopt skips argv[0], here the address or the "--" before a group. */
	while (i < argc && load_group_n < 8) {
		int used = group_read_options(&load_group[load_group_n], argc - i, argv + i);

		hold = hold || load_group[load_group_n].hold;
		load_group_n++;
		i += used;
		/* getopt has stepped over the "--" that ended this group. */
		if (i < argc && strcmp(argv[i - 1], "--") == 0)
			i--;
		else if (i < argc)
			load_die("%s", load_usage);
	}
	for (i = 0; i < load_group_n; i++)
		group_make_conns(&load_group[i]);
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
	load_epoll = epoll_create1(EPOLL_CLOEXEC);
	if (load_epoll < 0)
		load_die("epoll_create1: %s", strerror(errno));
	load_run();
	for (i = 0; i < load_group_n; i++)
		load_report(&load_group[i]);
	/* The caller looks at the server now, and closes our stdin when it has seen enough. */
	while (hold && read(STDIN_FILENO, &byte, 1) > 0)
		;
	return (0);
}
