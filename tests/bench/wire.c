/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * A long, narrow wire on the loopback: relays TCP connections to an origin with
 * a round-trip time and a rate per connection, as a content delivery network
 * shows to a build machine. It sees only bytes, so TLS goes through untouched.
 *
 *     bench-wire LISTEN-PORT ORIGIN-PORT RTT-MS BYTES-PER-SECOND
 *
 * Prints "ready" when it listens; runs until it is killed (tests/bench/run.py).
 *
 * Each direction of a connection is a struct pipe: bytes are read as they come,
 * queued with the time at which they may leave, and written then. A connection's
 * first bytes wait one round trip more, for the handshake that a relay hides.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WIRE_CHUNK_BYTES 16384
#define WIRE_QUEUE_N 256           /* chunks on the way; over 20 MB/s x 100 ms */

/* Bytes on their way, and when they arrive. */
struct chunk {
	uint64_t due_us;
	size_t n, off;
	char byte[WIRE_CHUNK_BYTES];
};

/* One direction. The queue is a ring. */
struct pipe {
	int from, to;
	uint64_t rate_bytes;       /* per second; 0: no limit */
	uint64_t free_us;          /* when the wire has carried what was put on it */
	bool eof, eof_sent, fresh;
	unsigned first, n;
	struct chunk *queue;
};

/* One relayed connection: up to the origin and down to the client. */
struct relay {
	struct pipe up, down;
	struct relay *next;
};

static struct relay *wire_relays;
static uint64_t wire_rtt_us, wire_rate_bytes;
static struct sockaddr_in wire_origin;

/* Say what failed and stop. */
__attribute__((noreturn)) static void
wire_die(const char *what)
{
	fprintf(stderr, "bench-wire: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* Microseconds on a clock that never steps. */
static uint64_t
wire_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((uint64_t)ts.tv_sec * 1000000U + (uint64_t)ts.tv_nsec / 1000U);
}

/* Prepare one direction. */
static void
pipe_init(struct pipe *p, int from, int to, uint64_t rate_bytes, bool fresh)
{
	p->from = from;
	p->to = to;
	p->rate_bytes = rate_bytes;
	p->fresh = fresh;
	p->queue = malloc(WIRE_QUEUE_N * sizeof *p->queue);
	if (p->queue == NULL)
		wire_die("malloc");
}

/* Take what the sender has while there is room. False: this connection broke. */
static bool
pipe_read(struct pipe *p, uint64_t now_us)
{
	struct chunk *c;
	ssize_t n;

	while (!p->eof && p->n < WIRE_QUEUE_N) {
		c = &p->queue[(p->first + p->n) % WIRE_QUEUE_N];
		n = recv(p->from, c->byte, sizeof c->byte, MSG_DONTWAIT);
		if (n < 0)
			return (errno == EAGAIN || errno == EINTR);
		if (n == 0) {
			p->eof = true;
			break;
		}
		if (p->free_us < now_us)
			p->free_us = now_us;
		if (p->rate_bytes != 0)
			p->free_us += (uint64_t)n * 1000000U / p->rate_bytes;
		c->due_us = p->free_us + wire_rtt_us / 2 + (p->fresh ? wire_rtt_us : 0);
		p->fresh = false;
		c->n = (size_t)n;
		c->off = 0;
		p->n++;
	}
	return (true);
}

/* Hand over what has arrived by now. False: this connection broke. */
static bool
pipe_write(struct pipe *p, uint64_t now_us)
{
	struct chunk *c;
	ssize_t n;

	while (p->n > 0) {
		c = &p->queue[p->first];
		if (c->due_us > now_us)
			return (true);
		n = send(p->to, c->byte + c->off, c->n - c->off, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return (errno == EAGAIN || errno == EINTR);
		c->off += (size_t)n;
		if (c->off < c->n)
			return (true);
		p->first = (p->first + 1) % WIRE_QUEUE_N;
		p->n--;
	}
	if (p->eof && !p->eof_sent) {
		shutdown(p->to, SHUT_WR);
		p->eof_sent = true;
	}
	return (true);
}

/* Accept one client and connect it to the origin. */
static void
relay_open(int listener, int epoll)
{
	int one = 1, client, origin;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	struct relay *r;

	client = accept(listener, NULL, NULL);
	if (client < 0)
		return;
	origin = socket(AF_INET, SOCK_STREAM, 0);
	if (origin < 0 || connect(origin, (struct sockaddr *)&wire_origin,
	    sizeof wire_origin) != 0) {
		close(client);
		if (origin >= 0)
			close(origin);
		return;
	}
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(origin, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	r = calloc(1, sizeof *r);
	if (r == NULL)
		wire_die("calloc");
	pipe_init(&r->up, client, origin, 0, true);
	pipe_init(&r->down, origin, client, wire_rate_bytes, false);
	r->next = wire_relays;
	wire_relays = r;
	/* Only to be woken: every turn looks at every relay, there are a few dozen. */
	ev.data.fd = client;
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, client, &ev) != 0)
		wire_die("epoll_ctl");
	ev.data.fd = origin;
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, origin, &ev) != 0)
		wire_die("epoll_ctl");
}

/* Move bytes in both directions; false when the connection is over. */
static bool
relay_step(struct relay *r, uint64_t now_us)
{
	if (!pipe_read(&r->up, now_us) || !pipe_read(&r->down, now_us) ||
	    !pipe_write(&r->up, now_us) || !pipe_write(&r->down, now_us))
		return (false);
	return (!(r->up.eof_sent && r->down.eof_sent));
}

/* Close both ends and forget the connection. */
static void
relay_close(struct relay **at)
{
	struct relay *r = *at;

	*at = r->next;
	close(r->up.from);
	close(r->down.from);
	free(r->up.queue);
	free(r->down.queue);
	free(r);
}

/* The earliest moment at which queued bytes are due, as epoll's timeout. */
static int
wire_timeout_ms(uint64_t now_us)
{
	uint64_t due_us = now_us + 1000000U;
	const struct pipe *p;

	for (const struct relay *r = wire_relays; r != NULL; r = r->next)
		for (int i = 0; i < 2; i++) {
			p = i == 0 ? &r->up : &r->down;
			if (p->n > 0 && p->queue[p->first].due_us < due_us)
				due_us = p->queue[p->first].due_us;
		}
	return (due_us <= now_us ? 1 : (int)((due_us - now_us) / 1000U) + 1);
}

/* Listen, then relay until killed. */
int
main(int argc, char **argv)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	struct epoll_event ev = { .events = EPOLLIN }, got[64];
	int listener, epoll, one = 1, n;
	uint64_t now_us;

	if (argc != 5) {
		fputs("usage: bench-wire LISTEN-PORT ORIGIN-PORT RTT-MS BYTES-PER-SECOND\n", stderr);
		return (2);
	}
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	wire_origin = addr;
	addr.sin_port = htons((uint16_t)atoi(argv[1]));
	wire_origin.sin_port = htons((uint16_t)atoi(argv[2]));
	wire_rtt_us = strtoull(argv[3], NULL, 10) * 1000U;
	wire_rate_bytes = strtoull(argv[4], NULL, 10);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&addr, sizeof addr) != 0 || listen(listener, 512) != 0)
		wire_die("listen");
	epoll = epoll_create1(0);
	ev.data.fd = listener;
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev) != 0)
		wire_die("epoll");
	puts("ready");
	fflush(stdout);
	for (;;) {
		n = epoll_wait(epoll, got, 64, wire_timeout_ms(wire_now_us()));
		for (int i = 0; i < n; i++)
			if (got[i].data.fd == listener)
				relay_open(listener, epoll);
		now_us = wire_now_us();
		for (struct relay **at = &wire_relays; *at != NULL;) {
			if (relay_step(*at, now_us))
				at = &(*at)->next;
			else
				relay_close(at);
		}
	}
}
