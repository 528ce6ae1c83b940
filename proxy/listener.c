/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Listening sockets and the hand-over of what they accept; see listener.h. */
#include "proxy/listener.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "include/counter.h"
#include "include/log.h"
#include "proxy/holder.h"
#include "proxy/worker.h"

#define LISTENER_MAGIC 0x115e0001u

enum {
	LISTENER_MAX = 32,
	LISTENER_BATCH = 64,		/* accepts a turn */
	LISTENER_BACKLOG = 4096,
	/* over max_connections are told 503; the rest just closed */
	LISTENER_TOLD_MAX = 128,
	LISTENER_PAUSE_MS = 100,	/* when descriptors ran out */
	LISTENER_WARN_MS = 60 * 1000,	/* and that is said again, if it lasts */
};

struct listener_sock {
	int fd;
	enum conn_way way;
	struct event *event;
	struct listener *l;
	struct sockaddr_storage sa;
	char unix_path[108];		/* "" for TCP */
};

struct listener {
	uint32_t magic;
	struct depot *depot;
	const char *key;		/* while opening: the option that is being read */
	enum conn_way way;		/* and what it makes of connections */
	struct mail start_mail;
	struct event *resume;		/* accepting goes on after a pause */
	int64_t warned_ms;		/* when a pause was last logged; 0: never */
	_Atomic bool stopped;
	unsigned socks_n;
	struct listener_sock socks[LISTENER_MAX];
};

/* Splits address:port, [v6]:port or :port. */
static bool
listener_split(const char *text, char *host, size_t host_cap, char *port, size_t port_cap)
{
	const char *colon = strrchr(text, ':'), *h = text;
	size_t n;

	if (colon == NULL || strlen(colon + 1) >= port_cap || colon[1] == '\0')
		return false;
	n = (size_t)(colon - text);
	if (n >= 2 && h[0] == '[' && h[n - 1] == ']') {
		h++;
		n -= 2;
	}
	if (n >= host_cap)
		return false;
	memcpy(host, h, n);
	host[n] = '\0';
	(void)snprintf(port, port_cap, "%s", colon + 1);
	return true;
}

/* The port of a TCP address in host order; 0 for others. */
static uint16_t
listener_sa_port(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)(const void *)sa)->sin_port);
	if (sa->sa_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)(const void *)sa)->sin6_port);
	return 0;
}

/* Port of a bound socket in host order; 0 for a unix socket. */
static uint16_t
listener_sock_port(const struct listener_sock *s)
{
	return listener_sa_port((const struct sockaddr *)&s->sa);
}

/* One bound, listening TCP socket. */
static enum reason
listener_bind_tcp(struct listener *l, const struct addrinfo *ai, const char *text, char **why)
{
	struct listener_sock *s = &l->socks[l->socks_n];
	int one = 1, zero = 0;
	socklen_t n;

	s->fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0) {
		(void)!asprintf(why, "%s = %s: cannot make a socket: %s", l->key, text,
		    strerror(errno));
		return REASON_NO_DESCRIPTORS;
	}
	s->way = l->way;
	l->socks_n++;
	(void)setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* Set here it is inherited: no system call per connection. */
	(void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (ai->ai_family == AF_INET6)
		(void)setsockopt(s->fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(s->fd, ai->ai_addr, ai->ai_addrlen) != 0 || listen(s->fd, LISTENER_BACKLOG) != 0) {
		int err = errno;
		char holder[128];

		holder_of_port(listener_sa_port(ai->ai_addr), holder, sizeof(holder));
		if (err == EADDRINUSE)
			(void)!asprintf(why, "%s = %s: %s has it: stop it, or set %s to another "
			    "port", l->key, text, holder, l->key);
		else
			(void)!asprintf(why, "%s = %s: %s: set %s to an address of this machine "
			    "and a port that this user may open", l->key, text, strerror(err), l->key);
		return err == EADDRINUSE ? REASON_LOCKED : REASON_DISK_ERROR;
	}
	n = sizeof(s->sa);
	(void)getsockname(s->fd, (struct sockaddr *)&s->sa, &n);
	return REASON_OK;
}

/* Who listens on the other end of this connection? 0: not known. */
static pid_t
listener_unix_holder(int fd)
{
	struct ucred who = {0};
	socklen_t n = sizeof(who);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) == 0 ? who.pid : 0;
}

/* A unix socket; a left-over one that nobody listens on is replaced, and nothing else. */
static enum reason
listener_bind_unix(struct listener *l, const char *path, char **why)
{
	struct listener_sock *s = &l->socks[l->socks_n];
	struct sockaddr_un *un = (struct sockaddr_un *)&s->sa;
	struct stat st;
	int probe, err;

	un->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(un->sun_path)) {
		(void)!asprintf(why, "%s = unix:%s: the path is too long", l->key, path);
		return REASON_DISK_ERROR;
	}
	memcpy(un->sun_path, path, strlen(path) + 1);
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	err = probe < 0 || connect(probe, (struct sockaddr *)un, sizeof(*un)) != 0 ? errno : 0;
	if (err == 0) {
		(void)!asprintf(why, "%s = unix:%s: process %ld has it: stop it, or set %s to another "
		    "path", l->key, path, (long)listener_unix_holder(probe), l->key);
		(void)close(probe);
		return REASON_LOCKED;
	}
	if (probe >= 0)
		(void)close(probe);
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
		/* EAGAIN: its queue is full; EPROTOTYPE: of another kind; EACCES: not ours. */
		if (err != ECONNREFUSED) {
			(void)!asprintf(why, "%s = unix:%s: somebody may have it: %s: stop who has it and "
			    "remove it, or set %s to another path", l->key, path, strerror(err), l->key);
			return REASON_LOCKED;
		}
		(void)unlink(path);
	}
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	s->way = l->way;
	if (s->fd >= 0)
		l->socks_n++;
	if (s->fd < 0 || bind(s->fd, (struct sockaddr *)un, sizeof(*un)) != 0 ||
	    listen(s->fd, LISTENER_BACKLOG) != 0) {
		(void)!asprintf(why, "%s = unix:%s: %s: set %s to a new path in a directory that this "
		    "user may write to", l->key, path, strerror(errno), l->key);
		return REASON_DISK_ERROR;
	}
	(void)chmod(path, 0666);	/* who may use it is the directory's business */
	(void)snprintf(s->unix_path, sizeof(s->unix_path), "%s", path);
	return REASON_OK;
}

/* Everything that one entry of `listen` names. */
static enum reason
listener_add(struct listener *l, const char *text, char **why)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
	    .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *list = NULL, *ai;
	char host[256], port[8];
	unsigned had_n = l->socks_n;
	enum reason r = REASON_OK;
	int err;

	if (l->socks_n >= LISTENER_MAX) {
		(void)!asprintf(why, "%s: more than %d addresses", l->key, LISTENER_MAX);
		return REASON_DISK_ERROR;
	}
	if (strncmp(text, "unix:", 5) == 0)
		return listener_bind_unix(l, text + 5, why);
	if (!listener_split(text, host, sizeof(host), port, sizeof(port))) {
		(void)!asprintf(why, "%s = %s: write address:port, [v6]:port, :port or unix:/path",
		    l->key, text);
		return REASON_DISK_ERROR;
	}
	/* :port is one socket for both families where the machine has IPv6. */
	if (host[0] == '\0')
		hints.ai_family = AF_INET6;
	err = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &list);
	if (err != 0) {
		(void)!asprintf(why, "%s = %s: %s", l->key, text, gai_strerror(err));
		return REASON_DISK_ERROR;
	}
	for (ai = list; ai != NULL && r == REASON_OK && l->socks_n < LISTENER_MAX; ai = ai->ai_next)
		r = listener_bind_tcp(l, ai, text, why);
	freeaddrinfo(list);
	if (r != REASON_OK && r != REASON_LOCKED && host[0] == '\0') {
		char any[32];

		/* A machine without IPv6. */
		while (l->socks_n > had_n)
			(void)close(l->socks[--l->socks_n].fd);
		free(*why);
		*why = NULL;
		(void)snprintf(any, sizeof(any), "0.0.0.0:%s", port);
		return listener_add(l, any, why);
	}
	return r;
}

/* Every entry of one of the options. */
static enum reason
listener_add_all(struct listener *l, const char *key, const struct strlist *addresses,
    enum conn_way way, char **why)
{
	enum reason r = REASON_OK;
	size_t i;

	l->key = key;
	l->way = way;
	for (i = 0; i < addresses->n && r == REASON_OK; i++)
		r = listener_add(l, addresses->v[i], why);
	return r;
}

enum reason
listener_open(struct listener **l_p, const struct config *c, char **why)
{
	struct listener *l;
	enum reason r;

	*why = NULL;
	OBJ_NEW(l, LISTENER_MAGIC);
	if (l == NULL)
		return REASON_NO_MEMORY;
	r = listener_add_all(l, "listen", &c->listen, WAY_PLAIN, why);
	if (r == REASON_OK)
		r = listener_add_all(l, "listen_tls", &c->listen_tls, WAY_TLS, why);
	if (r == REASON_OK)
		r = listener_add_all(l, "listen_transparent", &c->listen_transparent,
		    WAY_REDIRECTED, why);
	if (r == REASON_OK && l->socks_n == 0) {
		(void)!asprintf(why, "listen names no address: nothing would reach the depot");
		r = REASON_DISK_ERROR;
	}
	if (r != REASON_OK)
		listener_close(&l);
	*l_p = l;
	return r;
}

/* The worker with the fewest connections; on a tie the earlier one. */
static struct worker *
listener_least_loaded(const struct depot *d, unsigned *total)
{
	struct worker *best = d->workers[0];
	unsigned i, n, best_n = UINT32_MAX;

	*total = 0;
	for (i = 0; i < d->workers_n; i++) {
		n = atomic_load_explicit(&d->workers[i]->conns_n, memory_order_relaxed);
		*total += n;
		if (n < best_n) {
			best_n = n;
			best = d->workers[i];
		}
	}
	return best;
}

/* Descriptors ran out: look again in a moment instead of spinning. */
static void
listener_pause(struct listener *l, int err)
{
	struct timeval tv = {0, LISTENER_PAUSE_MS * 1000};
	int64_t now_ms = l->depot->workers[0]->now_ms;
	unsigned i;

	if (l->warned_ms == 0 || now_ms - l->warned_ms >= LISTENER_WARN_MS) {
		l->warned_ms = now_ms;
		log_warning("accept: %s: trying again every %d ms", strerror(err), LISTENER_PAUSE_MS);
	}
	for (i = 0; i < l->socks_n; i++)
		(void)event_del(l->socks[i].event);
	(void)event_add(l->resume, &tv);
}

/* Connections are waiting to be accepted. */
static void
listener_accept_cb(evutil_socket_t fd, short what, void *arg)
{
	struct listener_sock *s = arg;
	struct listener *l = s->l;
	struct sockaddr_storage sa;
	struct worker *w;
	socklen_t n;
	unsigned i, total;
	bool over;
	int client;

	(void)what;
	CHECK_OBJ(l, LISTENER_MAGIC);
	if (atomic_load(&l->stopped)) {
		(void)event_del(s->event);
		return;
	}
	worker_update_clock(l->depot->workers[0]);
	for (i = 0; i < LISTENER_BATCH; i++) {
		n = sizeof(sa);
		client = accept4(fd, (struct sockaddr *)&sa, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (client < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
				listener_pause(l, errno);
			return;
		}
		w = listener_least_loaded(l->depot, &total);
		over = total >= l->depot->max_connections;
		if (over)
			COUNT(connections_refused_total);
		if (total >= l->depot->max_connections + LISTENER_TOLD_MAX) {
			(void)close(client);
			continue;
		}
		COUNT(connections_accepted_total);
		worker_adopt(w, client, (struct sockaddr *)&sa, n, s->way, over);
	}
}

/* After a pause. */
static void
listener_resume_cb(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;
	unsigned i;

	(void)fd;
	(void)what;
	CHECK_OBJ(l, LISTENER_MAGIC);
	for (i = 0; i < l->socks_n && !atomic_load(&l->stopped); i++)
		(void)event_add(l->socks[i].event, NULL);
}

/* On the first worker's loop, which alone may touch its events. */
static void
listener_start_mail(struct mail *m)
{
	struct listener *l = CONTAINER_OF(m, struct listener, start_mail);
	struct event_base *base = l->depot->workers[0]->base;
	unsigned i;

	CHECK_OBJ(l, LISTENER_MAGIC);
	l->resume = event_new(base, -1, 0, listener_resume_cb, l);
	AN(l->resume);
	for (i = 0; i < l->socks_n; i++) {
		l->socks[i].l = l;
		l->socks[i].event = event_new(base, l->socks[i].fd, EV_READ | EV_PERSIST,
		    listener_accept_cb, &l->socks[i]);
		AN(l->socks[i].event);
		AZ(event_add(l->socks[i].event, NULL));
	}
}

void
listener_start(struct listener *l, struct depot *d)
{
	CHECK_OBJ(l, LISTENER_MAGIC);
	l->depot = d;
	l->start_mail.deliver = listener_start_mail;
	mailbox_post(&d->workers[0]->mailbox, &l->start_mail);
}

void
listener_stop(struct listener *l)
{
	unsigned i;

	CHECK_OBJ(l, LISTENER_MAGIC);
	atomic_store(&l->stopped, true);
	/* A shut-down listening socket refuses at once; its event notices `stopped`. */
	for (i = 0; i < l->socks_n; i++)
		(void)shutdown(l->socks[i].fd, SHUT_RDWR);
}

void
listener_close(struct listener **l_p)
{
	struct listener *l = *l_p;
	unsigned i;

	*l_p = NULL;
	if (l == NULL)
		return;
	CHECK_OBJ(l, LISTENER_MAGIC);
	for (i = 0; i < l->socks_n; i++) {
		if (l->socks[i].event != NULL)
			event_free(l->socks[i].event);
		if (l->socks[i].fd >= 0)
			(void)close(l->socks[i].fd);
		if (l->socks[i].unix_path[0] != '\0')
			(void)unlink(l->socks[i].unix_path);
	}
	if (l->resume != NULL)
		event_free(l->resume);
	OBJ_FREE(l);
}

/* Is it an address of this machine? Asked for our own ports only. */
static bool
listener_is_local(const struct sockaddr *sa)
{
	char text[INET6_ADDRSTRLEN], mine[INET6_ADDRSTRLEN];
	struct ifaddrs *list, *ifa;
	bool found;

	access_address_text(sa, text, sizeof(text));
	/* Connecting to no address at all reaches this machine, too. */
	found = strncmp(text, "127.", 4) == 0 || strcmp(text, "::1") == 0 ||
	    strcmp(text, "::") == 0 || strcmp(text, "0.0.0.0") == 0;
	if (found || getifaddrs(&list) != 0)
		return found;
	for (ifa = list; ifa != NULL && !found; ifa = ifa->ifa_next) {
		if (ifa->ifa_addr == NULL || (ifa->ifa_addr->sa_family != AF_INET &&
		    ifa->ifa_addr->sa_family != AF_INET6))
			continue;
		access_address_text(ifa->ifa_addr, mine, sizeof(mine));
		found = strcmp(text, mine) == 0;
	}
	freeifaddrs(list);
	return found;
}

bool
listener_is_own_address(const struct listener *l, const struct sockaddr *sa)
{
	char text[INET6_ADDRSTRLEN], mine[INET6_ADDRSTRLEN];
	uint16_t port = listener_sa_port(sa);
	unsigned i;

	for (i = 0; i < l->socks_n && port != 0; i++) {
		if (listener_sock_port(&l->socks[i]) != port)
			continue;
		access_address_text((const struct sockaddr *)&l->socks[i].sa, mine, sizeof(mine));
		access_address_text(sa, text, sizeof(text));
		if (strcmp(mine, text) == 0)
			return true;
		if ((strcmp(mine, "::") == 0 || strcmp(mine, "0.0.0.0") == 0) &&
		    listener_is_local(sa))
			return true;
	}
	return false;
}

/* A name that means this machine, whatever the configuration says. */
static bool
listener_is_machine_name(struct slice host)
{
	char name[256] = "";

	return access_is_localhost(host) || (gethostname(name, sizeof(name) - 1) == 0 &&
	    slice_caseeq(host, slice_of(name)));
}

bool
listener_is_self(const struct listener *l, struct slice host, uint16_t port)
{
	struct sockaddr_storage sa;
	unsigned i;

	/* Hardly any request is for a port of ours: the rest costs system calls. */
	for (i = 0; i < l->socks_n && listener_sock_port(&l->socks[i]) != port; i++)
		;
	if (i == l->socks_n)
		return false;
	if (listener_is_machine_name(host))
		return true;
	if (!access_parse_host(host, &sa))
		return false;
	if (sa.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&sa)->sin6_port = htons(port);
	else
		((struct sockaddr_in *)&sa)->sin_port = htons(port);
	return listener_is_own_address(l, (const struct sockaddr *)&sa);
}

uint16_t
listener_port(const struct listener *l)
{
	unsigned i;

	for (i = 0; i < l->socks_n; i++)
		if (listener_sock_port(&l->socks[i]) != 0)
			return listener_sock_port(&l->socks[i]);
	return 0;
}
