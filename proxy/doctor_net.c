/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The hops of doctor between this machine and the origin: is it allowed, how
 * does its name resolve, can it be connected to, and what do parent proxies
 * say. Sockets of its own, so that each hop can be looked at by itself; the
 * fetches behind it (doctor_repo.c) go through libcurl as the depot's do.
 */
#include <errno.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "include/clock.h"
#include "proxy/authfile.h"
#include "proxy/depot.h"
#include "proxy/doctor_priv.h"
#include "proxy/upway.h"

enum {
	DOCTOR_ADDRESSES_MAX = 32,
	DOCTOR_HEAD_MAX = 8192,
};

/* Where a hop really goes to. */
struct doctor_place {
	char host[300];
	uint16_t port;
};

/* What may be connected to, after the access rules. */
struct doctor_addresses {
	struct addrinfo *list;
	bool refused[DOCTOR_ADDRESSES_MAX];
	unsigned n, allowed_n;
};

bool
doctor_wait(const struct doctor_socket *s, short events)
{
	struct pollfd p = {.fd = s->fd, .events = events};
	int64_t left;
	int n;

	do {
		left = s->until_ms - clock_mono_ms();
		n = left > 0 ? poll(&p, 1, (int)left) : 0;
	} while (n < 0 && errno == EINTR);
	return n > 0;
}

/* ---- connect_to ---- */

/* The next member of HOST:PORT:ADDR:PORT, brackets taken off. */
static struct slice
doctor_next_member(struct slice *rest)
{
	bool bracket = rest->n > 0 && rest->p[0] == '[';
	const char *end = rest->n > 0 ? memchr(rest->p, bracket ? ']' : ':', rest->n) : NULL;
	struct slice m = {rest->p, end != NULL ? (size_t)(end - rest->p) : rest->n};

	*rest = slice_skip(*rest, m.n + 1);
	if (bracket) {
		m = slice_skip(m, 1);
		*rest = slice_skip(*rest, 1);	/* the colon behind it */
	}
	return m;
}

static uint16_t
doctor_port(struct slice s)
{
	uint64_t value;

	return slice_read_number(s, UINT16_MAX, &value) ? (uint16_t)value : 0;
}

/* Puts in the place what connect_to has for it, as curl's --connect-to does; true: there was. */
static bool
doctor_apply_connect_to(const struct doctor *d, struct doctor_place *at)
{
	size_t i;

	for (i = 0; i < d->up->connect_to.n; i++) {
		struct slice rest = slice_of(d->up->connect_to.v[i]);
		struct slice host = doctor_next_member(&rest), port = doctor_next_member(&rest);
		struct slice to_host = doctor_next_member(&rest), to_port = doctor_next_member(&rest);

		if ((host.n > 0 && !slice_caseeq(host, slice_of(at->host))) ||
		    (port.n > 0 && doctor_port(port) != at->port))
			continue;
		if (to_host.n > 0)
			(void)snprintf(at->host, sizeof(at->host), "%.*s", SLICE_ARG(to_host));
		if (doctor_port(to_port) != 0)
			at->port = doctor_port(to_port);
		return true;
	}
	return false;
}

/* ---- names and connections ---- */

/* Resolves, and says what came of it. judge: the access rules hold for the addresses. */
static bool
doctor_resolve(struct doctor *d, const char *check, const struct doctor_place *at, bool judge,
    struct doctor_addresses *out)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
	    .ai_family = d->up->address_family == FAMILY_4 ? AF_INET :
	    d->up->address_family == FAMILY_6 ? AF_INET6 : AF_UNSPEC};
	struct addrinfo *ai;
	char port[8], text[1024] = "", one[INET6_ADDRSTRLEN + 16], mend[128] = "";
	enum access_verdict v;
	size_t n = 0;
	int err;

	memset(out, 0, sizeof(*out));
	(void)snprintf(port, sizeof(port), "%u", at->port);
	err = getaddrinfo(at->host, port, &hints, &out->list);
	if (err != 0) {
		doctor_say(d, DOCTOR_FAIL, check, d->up->address_family != FAMILY_ANY ?
		    "address_family = any, if it has no address of that family" :
		    "/etc/resolv.conf; or, behind a proxy that resolves for us: parent_proxy = "
		    "http://proxy.example:3128", "%s: %s", at->host, gai_strerror(err));
		return false;
	}
	for (ai = out->list; ai != NULL && out->n < DOCTOR_ADDRESSES_MAX; ai = ai->ai_next, out->n++) {
		v = judge ? access_judge_address(&d->config->allow_addresses,
		    &d->config->deny_addresses, ai->ai_addr) : ACCESS_OK;
		out->refused[out->n] = v != ACCESS_OK;
		out->allowed_n += v == ACCESS_OK;
		access_address_text(ai->ai_addr, one, sizeof(one));
		if (v != ACCESS_OK)
			(void)snprintf(mend, sizeof(mend), v == ACCESS_DENIED ? "deny_addresses "
			    "without %s" : "allow_addresses = %s", one);
		if (n < sizeof(text))
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s%s", n > 0 ? ", " : "",
			    one, out->refused[out->n] ? " (refused)" : "");
	}
	if (out->allowed_n == 0) {
		doctor_say(d, DOCTOR_FAIL, check, mend, "%s is %s: private, loopback or in "
		    "deny_addresses", at->host, text);
		freeaddrinfo(out->list);
		return false;
	}
	doctor_say(d, DOCTOR_OK, check, NULL, "%s is %s", at->host, text);
	return true;
}

/* One address; the socket's time runs. 0 or errno. */
static int
doctor_connect_one(const struct addrinfo *ai, struct doctor_socket *s)
{
	int err = 0;
	socklen_t n = sizeof(err);

	s->fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		return errno;
	if (connect(s->fd, ai->ai_addr, ai->ai_addrlen) == 0)
		return 0;
	err = errno;
	if (err == EINPROGRESS) {
		if (!doctor_wait(s, POLLOUT))
			err = ETIMEDOUT;
		else if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &n) != 0)
			err = errno;
	}
	if (err != 0) {
		(void)close(s->fd);
		s->fd = -1;
	}
	return err;
}

/* Connects to the first address that lets us; each that does not is a line. */
static bool
doctor_connect(struct doctor *d, const char *check, const struct doctor_addresses *a,
    struct doctor_socket *s)
{
	const struct addrinfo *ai = a->list;
	char text[INET6_ADDRSTRLEN + 16];
	int64_t began_ms;
	unsigned i;
	int err;

	for (i = 0; i < a->n; i++, ai = ai->ai_next) {
		if (a->refused[i])
			continue;
		access_address_text(ai->ai_addr, text, sizeof(text));
		began_ms = clock_mono_ms();
		s->until_ms = began_ms + d->up->connect_timeout;
		err = doctor_connect_one(ai, s);
		if (err == 0) {
			doctor_say(d, DOCTOR_OK, check, NULL, "%s after %lld ms", text,
			    (long long)(clock_mono_ms() - began_ms));
			return true;
		}
		doctor_say(d, DOCTOR_WARN, check, ai->ai_family == AF_INET6 && a->n > 1 ?
		    "address_family = 4, if IPv6 does not work here" : NULL, "%s: %s", text,
		    strerror(err));
	}
	doctor_say(d, DOCTOR_FAIL, check, "the firewall; or parent_proxy = "
	    "http://proxy.example:3128 where only a proxy may go out", "no address could be "
	    "connected to");
	return false;
}

/* Both; the rules for addresses hold for origins, not for parent proxies. */
static bool
doctor_reach(struct doctor *d, const char *check, const struct doctor_place *at, bool judge,
    struct doctor_socket *s)
{
	struct doctor_addresses a;
	bool ok;

	s->fd = -1;
	if (!doctor_resolve(d, judge ? "resolve" : check, at, judge, &a))
		return false;
	ok = doctor_connect(d, check, &a, s);
	freeaddrinfo(a.list);
	return ok;
}

/* ---- parent proxies ---- */

/* A member of parent_proxy, taken apart. */
struct doctor_parent {
	struct doctor_place at;
	bool tls;
	char basic[1024];		/* the Proxy-Authorization line, or "" */
};

static bool
doctor_parse_parent(const char *text, struct doctor_parent *p)
{
	struct slice rest = slice_of(text), userinfo, authority, path, host;
	char *basic = NULL;

	memset(p, 0, sizeof(*p));
	if (!url_take_scheme(&rest, &p->tls))
		return false;
	url_split(rest, &userinfo, &authority, &path);
	if (!url_split_authority(authority, &host, &p->at.port))
		return false;
	if (p->at.port == 0)
		p->at.port = p->tls ? 443 : 80;
	(void)snprintf(p->at.host, sizeof(p->at.host), "%.*s", SLICE_ARG(host));
	if (userinfo.n > 0 && (basic = authfile_basic(userinfo)) != NULL)
		(void)snprintf(p->basic, sizeof(p->basic), "Proxy-Authorization: %s\r\n", basic);
	free(basic);
	return true;
}

static const char doctor_mend_parent[] = "parent_proxy = http://host:port of an HTTP proxy, or "
    "https://host:port where it speaks TLS";

/* What the parent said to CONNECT. */
static bool
doctor_judge_connect(struct doctor *d, const struct doctor_parent *p, const char *head)
{
	int status = 0;
	char line[256];

	(void)snprintf(line, sizeof(line), "%.*s", (int)strcspn(head, "\r\n"), head);
	if (sscanf(head, "HTTP/1.%*d %d", &status) != 1)
		doctor_say(d, DOCTOR_FAIL, "parent", doctor_mend_parent, "%s:%u is no HTTP proxy: it "
		    "said \"%s\"", p->at.host, p->at.port, line);
	else if (status / 100 == 2)
		return true;
	else if (status == 407)
		doctor_say(d, DOCTOR_FAIL, "parent", "parent_proxy = http://USER:PASSWORD@host:port "
		    "(escape : / @ in them as %3A %2F %40)", "%s %s: \"%s\"", p->at.host,
		    p->basic[0] != '\0' ? "does not accept user and password" :
		    "wants user and password", line);
	else if (status >= 500 && status != 501)
		doctor_say(d, DOCTOR_FAIL, "parent", "ask who runs that proxy; or name another one in "
		    "parent_proxy", "%s does not get through to %.*s:%u: \"%s\"", p->at.host,
		    SLICE_ARG(d->url.host), d->url.port, line);
	else if (status == 403)
		doctor_say(d, DOCTOR_FAIL, "parent", "ask who runs it to let CONNECT to this host "
		    "and port through; or no_proxy = HOST where there is a direct way", "%s refuses "
		    "CONNECT to %.*s:%u: \"%s\"", p->at.host, SLICE_ARG(d->url.host), d->url.port, line);
	else
		doctor_say(d, DOCTOR_FAIL, "parent", doctor_mend_parent, "%s:%u does not know CONNECT, "
		    "as a proxy would: \"%s\"", p->at.host, p->at.port, line);
	return false;
}

/* Asks for a tunnel; the socket then speaks with the origin. */
static bool
doctor_ask_tunnel(struct doctor *d, const struct doctor_parent *p, const struct doctor_socket *s,
    struct ssl_st *ssl)
{
	char ask[2048], head[DOCTOR_HEAD_MAX] = "";
	bool v6 = memchr(d->url.host.p, ':', d->url.host.n) != NULL;
	int got = 0, n = snprintf(ask, sizeof(ask), "CONNECT %s%.*s%s:%u HTTP/1.1\r\nHost: %s%.*s%s:%u"
	    "\r\n%s\r\n", v6 ? "[" : "", SLICE_ARG(d->url.host), v6 ? "]" : "", d->url.port,
	    v6 ? "[" : "", SLICE_ARG(d->url.host), v6 ? "]" : "", d->url.port, p->basic);

	if (n < 0 || (size_t)n >= sizeof(ask) || doctor_write(s, ssl, ask, (size_t)n) != 0) {
		doctor_say(d, DOCTOR_FAIL, "parent", doctor_mend_parent, "%s:%u took no request",
		    p->at.host, p->at.port);
		return false;
	}
	/* A byte at a time: what follows the head is the origin's. */
	while (strstr(head, "\r\n\r\n") == NULL && got < (int)sizeof(head) - 1) {
		n = doctor_read(s, ssl, head + got, 1);
		if (n <= 0)
			break;
		head[++got] = '\0';
	}
	if (got == 0) {
		doctor_say(d, DOCTOR_FAIL, "parent", n == 0 ? doctor_mend_parent : "ask who runs that "
		    "proxy, or name another one in parent_proxy", "%s:%u says nothing to CONNECT",
		    p->at.host, p->at.port);
		return false;
	}
	return doctor_judge_connect(d, p, head);
}

/* One parent proxy, and what is behind it. */
static void
doctor_check_parent(struct doctor *d, const char *text)
{
	struct doctor_socket s;
	struct doctor_parent p;
	struct ssl_st *ssl = NULL;
	bool ok;

	if (!doctor_parse_parent(text, &p)) {
		doctor_say(d, DOCTOR_FAIL, "parent", "parent_proxy = http://user:password@host:port",
		    "a member of parent_proxy is no URL of a proxy");
		return;
	}
	if (!doctor_reach(d, "parent", &p.at, false, &s))
		return;
	s.until_ms = clock_mono_ms() + d->up->connect_timeout;
	if (p.tls)
		ssl = doctor_tls_to_parent(d, &s, p.at.host);
	ok = !p.tls || ssl != NULL;
	if (ok && d->url.tls) {
		ok = doctor_ask_tunnel(d, &p, &s, ssl);
		if (ok)
			doctor_say(d, DOCTOR_OK, "parent", NULL, "%s makes a tunnel to %.*s:%u",
			    p.at.host, SLICE_ARG(d->url.host), d->url.port);
	}
	if (ok && d->parent == NULL && !d->direct) {
		d->parent = text;
		d->reached = true;
		if (d->url.tls)
			doctor_check_tls(d, &s, ssl);
		else
			d->trusted = true;
	}
	SSL_free(ssl);
	(void)close(s.fd);
}

/* ---- the whole way ---- */

/* By name and port, before anything is asked. */
static bool
doctor_check_allowed(struct doctor *d)
{
	enum reason r = depot_check_target(d->config, d->url.host, d->url.port,
	    &d->config->allow_ports);
	char mend[400];

	if (d->config->offline)
		doctor_say(d, DOCTOR_WARN, "allowed", "offline = no", "the depot asks no upstream "
		    "(offline = yes); the way is looked at all the same");
	if (r == REASON_OK) {
		doctor_say(d, DOCTOR_OK, "allowed", NULL, "%.*s", SLICE_ARG(d->url.text));
		return true;
	}
	if (r == REASON_DENIED_PORT)
		(void)snprintf(mend, sizeof(mend), "allow_ports = 80, 443, %u", d->url.port);
	else if (r == REASON_DENIED_ADDRESS)
		(void)snprintf(mend, sizeof(mend), "allow_addresses = %.*s", SLICE_ARG(d->url.host));
	else
		(void)snprintf(mend, sizeof(mend), "allow_upstreams = %.*s, and not in deny_upstreams",
		    SLICE_ARG(d->url.host));
	doctor_say(d, DOCTOR_FAIL, "allowed", mend, "%.*s: %s", SLICE_ARG(d->url.text),
	    reason_text(r));
	return false;
}

/* Without a parent proxy. */
static void
doctor_check_direct(struct doctor *d)
{
	struct doctor_place at = {.port = d->url.port};
	struct doctor_socket s;

	(void)snprintf(at.host, sizeof(at.host), "%.*s", SLICE_ARG(d->url.host));
	if (doctor_apply_connect_to(d, &at))
		doctor_say(d, DOCTOR_OK, "connect_to", NULL, "goes to %s:%u instead", at.host, at.port);
	if (!doctor_reach(d, "connect", &at, true, &s))
		return;
	if (d->parent == NULL) {
		d->direct = true;
		d->reached = true;
		s.until_ms = clock_mono_ms() + d->up->connect_timeout;
		if (d->url.tls)
			doctor_check_tls(d, &s, NULL);
		else
			d->trusted = true;
	}
	(void)close(s.fd);
}

void
doctor_check_way(struct doctor *d)
{
	const struct strlist *parents = &d->up->parent_proxy;
	size_t i;

	if (!doctor_check_allowed(d))
		return;
	if (parents->n == 0 || upway_is_no_proxy(d->config, d->url.host)) {
		doctor_check_direct(d);
		return;
	}
	for (i = 0; i < parents->n; i++)
		if (strcmp(parents->v[i], "direct") == 0)
			doctor_check_direct(d);
		else
			doctor_check_parent(d, parents->v[i]);
}
