/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The upstream thread: its loop, the queue before libcurl, and everything
 * about the way to an origin (CA, parent proxy, addresses, limits). libcurl's
 * own queue is first come first served; ours lets indexes overtake bulk and
 * keeps two slots per host for them. What a transfer does is in fetch.c.
 */
#include <fcntl.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <unistd.h>

#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"
#include "proxy/upstream_priv.h"

enum {
	UPSTREAM_FLUSH_MS = 3,		/* received bytes wait no longer for more */
	UPSTREAM_IDLE_MAX = 64,		/* kept-alive connections */
	UPSTREAM_HOSTS_KEPT = 64,	/* records of origins that nobody asks */
	UPSTREAM_IDLE_S = 12,		/* and for how long: below any server's own limit */
};

/* A CA store: the system's, and what a ca_file adds. */
struct upstream_ca {
	struct upstream_ca *next;
	char *file;			/* NULL: the system's only */
	X509_STORE *store;
};

/* ---- the queue ---- */

/* Indexes are small and clients wait for them one by one. */
static bool
upstream_is_bulk(const struct fetch *ft)
{
	switch (flight_aptfile(ft->f)->class) {
	case APTFILE_RELEASE:
	case APTFILE_INDEX:
	case APTFILE_BYHASH:
		return false;
	case APTFILE_PACKAGE:
	case APTFILE_OTHER:
		return true;
	}
	WRONG("file class");
}

bool
upstream_is_no_proxy(const struct config *config, struct slice host)
{
	size_t i;

	for (i = 0; i < config->no_proxy.n; i++) {
		struct slice entry = slice_of(config->no_proxy.v[i]), rest;

		if (slice_eq(entry, SLICE("*")))
			return true;
		if (slice_starts(entry, SLICE("*")))
			entry = slice_skip(entry, 1);
		if (slice_starts(entry, SLICE(".")))
			entry = slice_skip(entry, 1);
		if (entry.n == 0 || host.n < entry.n)
			continue;
		rest = slice_skip(host, host.n - entry.n);
		if (slice_caseeq(rest, entry) && (host.n == entry.n || rest.p[-1] == '.'))
			return true;
	}
	return false;
}

/* The record of this origin, made at first use; NULL: out of memory. */
static struct uphost *
upstream_host(struct upstream *u, const struct url *url)
{
	struct uphost *h;
	char name[sizeof(h->authority)];
	size_t i;

	(void)snprintf(name, sizeof(name), "%s://%.*s", url->tls ? "https" : "http",
	    SLICE_ARG(url->authority));
	TAILQ_FOREACH(h, &u->hosts, link)
		if (strcmp(h->authority, name) == 0)
			return h;
	h = calloc(1, sizeof(*h));
	if (h == NULL)
		return NULL;
	(void)strcpy(h->authority, name);
	h->conf = config_for_upstream(u->depot->config, url->host);
	h->no_proxy = upstream_is_no_proxy(u->depot->config, url->host);
	for (i = 0; i < h->conf->connect_to.n; i++)
		h->connect_to = curl_slist_append(h->connect_to, h->conf->connect_to.v[i]);
	TAILQ_INIT(&h->waiting[0]);
	TAILQ_INIT(&h->waiting[1]);
	TAILQ_INSERT_TAIL(&u->hosts, h, link);
	return h;
}

/* Has this host (and the depot as a whole) a slot for one more of the kind? */
static bool
upstream_has_slot(const struct upstream *u, const struct uphost *h, bool bulk)
{
	uint64_t limit = h->conf->upstream_connections, total =
	    u->depot->config->upstream_connections_total;
	uint64_t bulk_limit = limit > UPSTREAM_INDEX_SLOTS ? limit - UPSTREAM_INDEX_SLOTS : 1;

	if (u->active_n >= total || h->active_n >= limit)
		return false;
	return !bulk || h->bulk_n < bulk_limit;
}

/* Gives the fetch its slot and sets it going. */
static void
upstream_take_slot(struct upstream *u, struct uphost *h, struct fetch *ft)
{
	ft->host = h;
	h->active_n++;
	h->bulk_n += ft->bulk;
	u->active_n++;
	COUNT(upstream_active);
	fetch_start(ft);
}

void
upstream_queue(struct fetch *ft)
{
	struct upstream *u = ft->u;
	struct uphost *h = upstream_host(u, &ft->url);

	ft->state = FETCH_QUEUED;
	ft->state_ms = u->now_ms;
	ft->bulk = upstream_is_bulk(ft);
	ft->host = NULL;
	if (h != NULL && TAILQ_EMPTY(&h->waiting[ft->bulk]) && upstream_has_slot(u, h, ft->bulk)) {
		upstream_take_slot(u, h, ft);
		return;
	}
	if (h == NULL || u->waiting_n >= UPSTREAM_QUEUE_MAX) {
		fetch_abort(ft, REASON_UP_OVERLOAD);
		return;
	}
	ft->waiting_at = h;
	TAILQ_INSERT_TAIL(&h->waiting[ft->bulk], ft, wait_link);
	u->waiting_n++;
	COUNT(upstream_queued);
}

void
upstream_unqueue(struct fetch *ft)
{
	struct uphost *h = ft->waiting_at;

	if (h == NULL)
		return;
	TAILQ_REMOVE(&h->waiting[ft->bulk], ft, wait_link);
	ft->waiting_at = NULL;
	ft->u->waiting_n--;
	COUNT_DOWN(upstream_queued);
}

/* Starts one that waits and may go, indexes first; hosts take turns. */
static bool
upstream_start_waiting(struct upstream *u)
{
	struct uphost *h;
	struct fetch *ft;
	int bulk;

	for (bulk = 0; bulk < 2; bulk++)
		TAILQ_FOREACH(h, &u->hosts, link) {
			ft = TAILQ_FIRST(&h->waiting[bulk]);
			if (ft == NULL || !upstream_has_slot(u, h, bulk))
				continue;
			TAILQ_REMOVE(&u->hosts, h, link);
			TAILQ_INSERT_TAIL(&u->hosts, h, link);
			upstream_unqueue(ft);
			upstream_take_slot(u, h, ft);
			return true;
		}
	return false;
}

void
upstream_leave_slot(struct fetch *ft)
{
	struct upstream *u = ft->u;
	struct uphost *h = ft->host;

	if (h == NULL)
		return;
	AN(h->active_n);
	h->active_n--;
	h->bulk_n -= ft->bulk;
	u->active_n--;
	ft->host = NULL;
	COUNT_DOWN(upstream_active);
	/* Who waits is started from the loop, not from inside this one's end. */
	if (u->waiting_n > 0)
		event_active(u->start_event, EV_TIMEOUT, 0);
}

/* Slots became free. */
static void
upstream_start_cb(evutil_socket_t fd, short what, void *arg)
{
	struct upstream *u = arg;

	(void)fd;
	(void)what;
	CHECK_OBJ(u, UPSTREAM_MAGIC);
	u->now_ms = clock_mono_ms();
	while (u->waiting_n > 0 && upstream_start_waiting(u))
		;
}

/* ---- received bytes ---- */

char *
upstream_buffer_get(struct upstream *u)
{
	if (u->spare_buffers_n > 0)
		return u->spare_buffers[--u->spare_buffers_n];
	return malloc(FETCH_BUFFER_BYTES);
}

void
upstream_buffer_put(struct upstream *u, char **buf_p)
{
	char *buf = *buf_p;

	*buf_p = NULL;
	if (buf != NULL && u->spare_buffers_n < NELEM(u->spare_buffers))
		u->spare_buffers[u->spare_buffers_n++] = buf;
	else
		free(buf);
}

void
upstream_flush_later(struct upstream *u)
{
	struct timeval tv = {0, UPSTREAM_FLUSH_MS * 1000};

	if (u->flush_armed)
		return;
	u->flush_armed = true;
	(void)event_add(u->flush_event, &tv);
}

/* What was received a moment ago has waited long enough for more. */
static void
upstream_flush_cb(evutil_socket_t fd, short what, void *arg)
{
	struct upstream *u = arg;
	struct fetch *ft;

	(void)fd;
	(void)what;
	CHECK_OBJ(u, UPSTREAM_MAGIC);
	u->now_ms = clock_mono_ms();
	u->flush_armed = false;
	while ((ft = TAILQ_FIRST(&u->dirty)) != NULL)
		fetch_flush(ft);
}

/* ---- the way to an origin ---- */

/* The CA store for a ca_file, made once: parsing a bundle costs more than a handshake. */
static X509_STORE *
upstream_ca_store(struct upstream *u, const char *file)
{
	struct upstream_ca *ca;

	for (ca = u->cas; ca != NULL; ca = ca->next)
		if ((file == NULL) == (ca->file == NULL) &&
		    (file == NULL || strcmp(file, ca->file) == 0))
			return ca->store;
	ca = calloc(1, sizeof(*ca));
	if (ca == NULL)
		return NULL;
	ca->file = file != NULL ? strdup(file) : NULL;
	ca->store = X509_STORE_new();
	if (ca->store != NULL) {
		/*
		 * The system's directory is searched by hash when needed, its bundle not read at
		 * once.
		 */
		(void)X509_STORE_set_default_paths(ca->store);
		(void)X509_STORE_set_flags(ca->store,
		    X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
		if (file != NULL && X509_STORE_load_file(ca->store, file) != 1)
			log_error("ca_file %s cannot be read: certificates signed by it are refused", file);
	}
	ca->next = u->cas;
	u->cas = ca;
	return ca->store;
}

/* libcurl has made the TLS context of a new connection: give it our store. */
static CURLcode
upstream_ssl_ctx_cb(CURL *curl, void *ssl_ctx, void *arg)
{
	(void)curl;
	if (arg != NULL)
		SSL_CTX_set1_cert_store(ssl_ctx, arg);
	return CURLE_OK;
}

/* libcurl is about to connect: is this address allowed? */
static curl_socket_t
upstream_open_socket_cb(void *arg, curlsocktype purpose, struct curl_sockaddr *addr)
{
	struct upstream_guard *guard = arg;

	(void)purpose;
	if (!access_address_ok(&guard->config->allow_addresses, &guard->config->deny_addresses,
	    &addr->addr)) {
		guard->denied = true;
		return CURL_SOCKET_BAD;
	}
	guard->allowed = true;
	return socket(addr->family, addr->socktype | SOCK_CLOEXEC, addr->protocol);
}

const char *
upstream_parent(const struct uphost *h, unsigned tries_n)
{
	const struct strlist *list = &h->conf->parent_proxy;
	const char *proxy;

	if (list->n == 0 || h->no_proxy)
		return NULL;
	proxy = list->v[tries_n < list->n ? tries_n : list->n - 1];
	return strcmp(proxy, "direct") == 0 ? NULL : proxy;
}

/* Through a parent proxy, or directly (false). */
static bool
upstream_set_proxy(CURL *curl, const struct uphost *h, unsigned tries_n)
{
	const char *proxy = upstream_parent(h, tries_n);

	/* Never from the environment: the depot may itself be what http_proxy names. */
	(void)curl_easy_setopt(curl, CURLOPT_PROXY, proxy != NULL ? proxy : "");
	if (proxy == NULL)
		return false;
	(void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "");
	(void)curl_easy_setopt(curl, CURLOPT_PROXYAUTH, (long)CURLAUTH_BASIC);
	(void)curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	return true;
}

bool
upstream_prepare(struct upstream *u, CURL *curl, const struct uphost *h, unsigned tries_n,
    struct upstream_guard *guard)
{
	const struct config *config = u->depot->config;
	const struct config_upstream *conf = h->conf;
	X509_STORE *store = upstream_ca_store(u, conf->ca_file);

	if (store == NULL)
		return false;
	*guard = (struct upstream_guard){.config = config};
	(void)curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	(void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
	(void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)conf->connect_timeout);
	(void)curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 65536L);
	(void)curl_easy_setopt(curl, CURLOPT_MAXAGE_CONN, (long)UPSTREAM_IDLE_S);
#if LIBCURL_VERSION_NUM >= 0x075500
	(void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	(void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	/* Our store instead of libcurl's defaults, which it would parse for each connection. */
	(void)curl_easy_setopt(curl, CURLOPT_CAINFO, NULL);
	(void)curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
	(void)curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, upstream_ssl_ctx_cb);
	(void)curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, store);
	(void)curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (conf->client_cert != NULL)
		(void)curl_easy_setopt(curl, CURLOPT_SSLCERT, conf->client_cert);
	if (conf->client_key != NULL)
		(void)curl_easy_setopt(curl, CURLOPT_SSLKEY, conf->client_key);
	if (conf->auth != NULL) {
		(void)curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_OPTIONAL);
		(void)curl_easy_setopt(curl, CURLOPT_NETRC_FILE, conf->auth);
	}
	if (conf->address_family != FAMILY_ANY)
		(void)curl_easy_setopt(curl, CURLOPT_IPRESOLVE, conf->address_family == FAMILY_4 ?
		    (long)CURL_IPRESOLVE_V4 : (long)CURL_IPRESOLVE_V6);
	if (h->connect_to != NULL)
		(void)curl_easy_setopt(curl, CURLOPT_CONNECT_TO, h->connect_to);
	/* Behind a parent proxy addresses are the parent's business; its own is always allowed. */
	if (!upstream_set_proxy(curl, h, tries_n)) {
		(void)curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, upstream_open_socket_cb);
		(void)curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, guard);
	}
	return true;
}

void
upstream_way_text(const struct uphost *h, unsigned tries_n, char *out, size_t cap)
{
	const char *proxy = upstream_parent(h, tries_n);
	struct slice rest = slice_of(proxy), userinfo, authority, path;
	bool tls;

	out[0] = '\0';
	if (proxy == NULL || !url_take_scheme(&rest, &tls))
		return;
	url_split(rest, &userinfo, &authority, &path);
	(void)snprintf(out, cap, " through the parent proxy %.*s", SLICE_ARG(authority));
}

/* ---- connections for tunnels ---- */

#define DIAL_MAGIC 0xd1a10001u

/* libcurl connects, through a parent proxy where there is one, and hands the socket over. */
struct dial {
	uint32_t magic;
	struct upstream *u;
	struct upstream_dial *d;
	TAILQ_ENTRY(dial) link;
	CURL *curl;
	struct upstream_guard guard;
	char error[CURL_ERROR_SIZE];
};

/* Tells the owner, for better or worse. */
static void
dial_over(struct dial *dl, enum reason r, const char *detail)
{
	struct upstream_dial *d = dl->d;

	d->reason = r;
	(void)snprintf(d->detail, sizeof(d->detail), "%s:%u: %s", d->host, d->port, detail);
	curlev_release(dl->u->curlev, &dl->curl);
	TAILQ_REMOVE(&dl->u->dials, dl, link);
	OBJ_FREE(dl);
	mailbox_post(d->home, &d->mail);
}

/* Connected or not: the socket must be taken while libcurl still holds it. */
static void
dial_peek(struct dial *dl, CURLcode result)
{
	curl_socket_t fd = CURL_SOCKET_BAD;

	if (result != CURLE_OK)
		return;
	if (curl_easy_getinfo(dl->curl, CURLINFO_ACTIVESOCKET, &fd) == CURLE_OK &&
	    fd != CURL_SOCKET_BAD)
		dl->d->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

/* libcurl is done with it. */
static void
dial_done(struct dial *dl, CURLcode result)
{
	long connect_status = 0;
	enum reason r = REASON_OK;

	(void)curl_easy_getinfo(dl->curl, CURLINFO_HTTP_CONNECTCODE, &connect_status);
	if (result == CURLE_OK)
		r = dl->d->fd >= 0 ? REASON_OK : REASON_NO_DESCRIPTORS;
	else if (dl->guard.denied && !dl->guard.allowed)
		r = REASON_DENIED_ADDRESS;
	else if (connect_status >= 300)
		r = REASON_UP_PROXY;
	else if (result == CURLE_COULDNT_RESOLVE_HOST)
		r = REASON_UP_RESOLVE;
	else if (result == CURLE_OPERATION_TIMEDOUT)
		r = REASON_UP_TIMEOUT;
	else
		r = REASON_UP_CONNECT;
	dial_over(dl, r, dl->error[0] != '\0' && r != REASON_DENIED_ADDRESS ? dl->error :
	    reason_text(r));
}

/* A worker wants a connection. */
static void
dial_order_mail(struct mail *m)
{
	struct upstream_dial *d = CONTAINER_OF(m, struct upstream_dial, order);
	struct upstream *u = d->upstream;
	struct dial *dl;
	struct uphost *h;
	struct url url = {.host = slice_of(d->host), .port = d->port};
	char authority[300];

	u->now_ms = clock_mono_ms();
	(void)snprintf(authority, sizeof(authority), strchr(d->host, ':') != NULL ?
	    "[%s]:%u" : "%s:%u", d->host, d->port);
	url.authority = slice_of(authority);
	h = upstream_host(u, &url);
	OBJ_NEW(dl, DIAL_MAGIC);
	if (dl == NULL) {
		d->reason = REASON_NO_MEMORY;
		mailbox_post(d->home, &d->mail);
		return;
	}
	dl->u = u;
	dl->d = d;
	TAILQ_INSERT_TAIL(&u->dials, dl, link);
	dl->curl = curlev_handle(u->curlev, dl);
	if (h == NULL || dl->curl == NULL || !upstream_prepare(u, dl->curl, h, 0, &dl->guard) ||
	    curl_easy_setopt(dl->curl, CURLOPT_URL, h->authority) != CURLE_OK ||
	    curl_easy_setopt(dl->curl, CURLOPT_CONNECT_ONLY, 1L) != CURLE_OK ||
	    curl_easy_setopt(dl->curl, CURLOPT_HTTPPROXYTUNNEL, 1L) != CURLE_OK ||
	    curl_easy_setopt(dl->curl, CURLOPT_ERRORBUFFER, dl->error) != CURLE_OK ||
	    curlev_add(u->curlev, dl->curl) != CURLM_OK)
		dial_over(dl, REASON_NO_MEMORY, reason_text(REASON_NO_MEMORY));
}

void
upstream_dial(struct upstream *u, struct upstream_dial *d)
{
	CHECK_OBJ(u, UPSTREAM_MAGIC);
	d->fd = -1;
	d->upstream = u;
	d->order.deliver = dial_order_mail;
	mailbox_post(&u->mailbox, &d->order);
}

/* ---- the thread ---- */

/* Whose transfer it was stands at the start of its owner. */
static void
upstream_done(void *owner, CURL *curl, CURLcode result)
{
	uint32_t magic;

	(void)curl;
	memcpy(&magic, owner, sizeof(magic));
	if (magic == DIAL_MAGIC)
		dial_done(owner, result);
	else {
		struct fetch *ft = owner;

		CHECK_OBJ(ft, FETCH_MAGIC);
		ft->u->now_ms = clock_mono_ms();
		fetch_done(ft, result);
	}
}

static void
upstream_peek(void *owner, CURL *curl, CURLcode result)
{
	uint32_t magic;

	(void)curl;
	memcpy(&magic, owner, sizeof(magic));
	if (magic == DIAL_MAGIC)
		dial_peek(owner, result);
}

/* Orders from workers, news from flights. */
static void
upstream_mail_cb(evutil_socket_t fd, short what, void *arg)
{
	struct upstream *u = arg;

	(void)fd;
	(void)what;
	CHECK_OBJ(u, UPSTREAM_MAGIC);
	u->now_ms = clock_mono_ms();
	mailbox_drain(&u->mailbox);
}

void
upstream_note_bad_address(struct upstream *u, const struct url *url, const char *ip)
{
	struct uphost *h = upstream_host(u, url);
	unsigned i, at = 0;

	if (h == NULL)
		return;
	/* Its own place, or the one of the oldest. */
	for (i = 0; i < UPSTREAM_BAD_MAX; i++) {
		if (strcmp(h->bad[i].ip, ip) == 0) {
			at = i;
			break;
		}
		if (h->bad[i].at_ms < h->bad[at].at_ms)
			at = i;
	}
	(void)snprintf(h->bad[at].ip, sizeof(h->bad[at].ip), "%s", ip);
	h->bad[at].at_ms = u->now_ms;
}

/* Origins nobody asks at the moment are forgotten, but for a few. */
static void
upstream_forget_hosts(struct upstream *u)
{
	struct uphost *h, *next;
	unsigned n = 0;

	for (h = TAILQ_FIRST(&u->hosts); h != NULL; h = next) {
		next = TAILQ_NEXT(h, link);
		if (h->active_n > 0 || !TAILQ_EMPTY(&h->waiting[0]) ||
		    !TAILQ_EMPTY(&h->waiting[1]) || ++n <= UPSTREAM_HOSTS_KEPT)
			continue;
		TAILQ_REMOVE(&u->hosts, h, link);
		curl_slist_free_all(h->connect_to);
		free(h);
	}
}

/* Time passes for every fetch. */
static void
upstream_tick_cb(evutil_socket_t fd, short what, void *arg)
{
	struct upstream *u = arg;
	struct fetch *ft, *next;

	(void)fd;
	(void)what;
	CHECK_OBJ(u, UPSTREAM_MAGIC);
	u->now_ms = clock_mono_ms();
	for (ft = TAILQ_FIRST(&u->fetches); ft != NULL; ft = next) {
		next = TAILQ_NEXT(ft, link);
		fetch_tick(ft);
	}
	if (TAILQ_EMPTY(&u->dials))
		upstream_forget_hosts(u);
}

/* Told to stop: every fetch ends, and keeps what can be continued. */
static void
upstream_stop_mail(struct mail *m)
{
	struct upstream *u = CONTAINER_OF(m, struct upstream, stop_mail);
	struct dial *dl;

	CHECK_OBJ(u, UPSTREAM_MAGIC);
	while (!TAILQ_EMPTY(&u->fetches))
		fetch_abort(TAILQ_FIRST(&u->fetches), REASON_SHUTDOWN);
	while ((dl = TAILQ_FIRST(&u->dials)) != NULL) {
		curlev_remove(u->curlev, dl->curl);
		dial_over(dl, REASON_SHUTDOWN, reason_text(REASON_SHUTDOWN));
	}
	(void)event_base_loopbreak(u->base);
}

/* The thread. */
static void *
upstream_main(void *arg)
{
	struct upstream *u = arg;

	CHECK_OBJ(u, UPSTREAM_MAGIC);
	(void)pthread_setname_np(pthread_self(), "upstream");
	u->now_ms = clock_mono_ms();
	(void)event_base_loop(u->base, EVLOOP_NO_EXIT_ON_EMPTY);
	return NULL;
}

/* Frees what upstream_start made; the thread is gone or never was. */
static void
upstream_free(struct upstream **u_p)
{
	struct upstream *u = *u_p;
	struct upstream_ca *ca;
	struct uphost *h;

	*u_p = NULL;
	if (u->base != NULL)
		mailbox_drain(&u->mailbox);
	curlev_free(&u->curlev);
	while ((h = TAILQ_FIRST(&u->hosts)) != NULL) {
		TAILQ_REMOVE(&u->hosts, h, link);
		curl_slist_free_all(h->connect_to);
		free(h);
	}
	while ((ca = u->cas) != NULL) {
		u->cas = ca->next;
		X509_STORE_free(ca->store);
		free(ca->file);
		free(ca);
	}
	while (u->spare_buffers_n > 0)
		free(u->spare_buffers[--u->spare_buffers_n]);
	if (u->mail_event != NULL)
		event_free(u->mail_event);
	if (u->tick_event != NULL)
		event_free(u->tick_event);
	if (u->flush_event != NULL)
		event_free(u->flush_event);
	if (u->start_event != NULL)
		event_free(u->start_event);
	if (u->base != NULL)
		event_base_free(u->base);
	mailbox_fini(&u->mailbox);
	OBJ_FREE(u);
}

/* The loop and what wakes it. */
static bool
upstream_make_loop(struct upstream *u)
{
	struct event_config *cfg = event_config_new();
	struct timeval tick = {UPSTREAM_TICK_MS / 1000, UPSTREAM_TICK_MS % 1000 * 1000};

	if (cfg == NULL || mailbox_init(&u->mailbox) != 0)
		return false;
	(void)event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
	u->base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	if (u->base == NULL)
		return false;
	u->curlev = curlev_new(u->base, UPSTREAM_IDLE_MAX, upstream_done, upstream_peek);
	u->mail_event = event_new(u->base, u->mailbox.event_fd, EV_READ | EV_PERSIST,
	    upstream_mail_cb, u);
	u->tick_event = event_new(u->base, -1, EV_PERSIST, upstream_tick_cb, u);
	u->flush_event = event_new(u->base, -1, 0, upstream_flush_cb, u);
	u->start_event = event_new(u->base, -1, 0, upstream_start_cb, u);
	return u->curlev != NULL && u->mail_event != NULL && u->tick_event != NULL &&
	    u->flush_event != NULL && u->start_event != NULL &&
	    event_add(u->mail_event, NULL) == 0 && event_add(u->tick_event, &tick) == 0;
}

struct upstream *
upstream_start(struct depot *d)
{
	struct upstream *u;

	OBJ_NEW(u, UPSTREAM_MAGIC);
	if (u == NULL)
		return NULL;
	u->depot = d;
	u->mailbox.event_fd = -1;
	u->stop_mail.deliver = upstream_stop_mail;
	TAILQ_INIT(&u->fetches);
	TAILQ_INIT(&u->dirty);
	TAILQ_INIT(&u->hosts);
	TAILQ_INIT(&u->dials);
	if (!upstream_make_loop(u) || pthread_create(&u->thread, NULL, upstream_main, u) != 0)
		upstream_free(&u);
	return u;
}

void
upstream_stop(struct upstream **u_p)
{
	struct upstream *u = *u_p;

	if (u == NULL)
		return;
	CHECK_OBJ(u, UPSTREAM_MAGIC);
	mailbox_post(&u->mailbox, &u->stop_mail);
	AZ(pthread_join(u->thread, NULL));
	upstream_free(u_p);
}

void
upstream_fetch(struct upstream *u, struct flight *f, const struct upstream_ask *ask)
{
	struct fetch *ft;

	CHECK_OBJ(u, UPSTREAM_MAGIC);
	ft = fetch_new(u, f, ask);
	if (ft == NULL) {
		flight_fail(f, REASON_NO_MEMORY, 0, false, "%s", reason_text(REASON_NO_MEMORY));
		return;
	}
	mailbox_post(&u->mailbox, &ft->order);
}
