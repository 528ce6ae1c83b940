/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The wiring between libcurl and libevent. libcurl says which sockets to
 * watch and when to call it next; the loop calls curl_multi_socket_action;
 * completions are collected afterwards, outside of libcurl, so that their
 * owners may add and remove transfers freely. Easy handles are reused:
 * making one costs as much as a small transfer.
 */
#include "proxy/curlev.h"

#define CURLEV_MAGIC 0xc091e001u

enum { CURLEV_SPARE_MAX = 64 };

struct curlev {
	uint32_t magic;
	struct event_base *base;
	struct event *timer;
	CURLM *multi;
	CURLSH *share;
	curlev_done_f *done;
	curlev_peek_f *peek;
	curlev_watch_f *watch;
	CURL *spare[CURLEV_SPARE_MAX];
	unsigned spare_n;
};

/* Tells the owners of finished transfers. */
static void
curlev_collect(struct curlev *ce)
{
	CURLMsg *msg;
	CURLcode result;
	CURL *curl;
	void *owner;
	int left;

	while ((msg = curl_multi_info_read(ce->multi, &left)) != NULL) {
		if (msg->msg != CURLMSG_DONE)
			continue;
		curl = msg->easy_handle;
		result = msg->data.result;
		owner = NULL;
		(void)curl_easy_getinfo(curl, CURLINFO_PRIVATE, (char **)&owner);
		if (ce->peek != NULL && ce->peek(owner, curl, result))
			continue;
		(void)curl_multi_remove_handle(ce->multi, curl);
		ce->done(owner, curl, result);
	}
}

/* libcurl's time has come. */
static void
curlev_timer_cb(evutil_socket_t fd, short what, void *arg)
{
	struct curlev *ce = arg;
	int running;

	(void)fd;
	(void)what;
	CHECK_OBJ(ce, CURLEV_MAGIC);
	(void)curl_multi_socket_action(ce->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	curlev_collect(ce);
}

/* One of libcurl's sockets is ready. */
static void
curlev_socket_cb(evutil_socket_t fd, short what, void *arg)
{
	struct curlev *ce = arg;
	int running, action = 0;

	CHECK_OBJ(ce, CURLEV_MAGIC);
	if (what & EV_READ)
		action |= CURL_CSELECT_IN;
	if (what & EV_WRITE)
		action |= CURL_CSELECT_OUT;
	(void)curl_multi_socket_action(ce->multi, fd, action, &running);
	curlev_collect(ce);
}

/* libcurl's wish: call me in so many milliseconds, or not at all. */
static int
curlev_set_timer(CURLM *multi, long timeout_ms, void *arg)
{
	struct curlev *ce = arg;
	struct timeval tv = {timeout_ms / 1000, timeout_ms % 1000 * 1000};

	(void)multi;
	if (timeout_ms < 0)
		(void)event_del(ce->timer);
	else
		(void)event_add(ce->timer, &tv);
	return 0;
}

/* libcurl's wish: watch this socket for these events. */
static int
curlev_set_socket(CURL *curl, curl_socket_t fd, int want, void *arg, void *socket_arg)
{
	struct curlev *ce = arg;
	struct event *ev = socket_arg;
	short what = EV_PERSIST;
	void *owner = NULL;

	if (ev != NULL)
		event_free(ev);
	ev = NULL;
	if (want != CURL_POLL_REMOVE) {
		(void)curl_easy_getinfo(curl, CURLINFO_PRIVATE, (char **)&owner);
		if (owner != NULL)
			ce->watch(owner, fd);
		if (want & CURL_POLL_IN)
			what |= EV_READ;
		if (want & CURL_POLL_OUT)
			what |= EV_WRITE;
		ev = event_new(ce->base, fd, what, curlev_socket_cb, ce);
		if (ev != NULL)
			(void)event_add(ev, NULL);
	}
	(void)curl_multi_assign(ce->multi, fd, ev);
	return 0;
}

struct curlev *
curlev_new(struct event_base *base, long max_idle, curlev_done_f *done, curlev_peek_f *peek,
    curlev_watch_f *watch)
{
	struct curlev *ce;

	OBJ_NEW(ce, CURLEV_MAGIC);
	if (ce == NULL)
		return NULL;
	ce->base = base;
	ce->done = done;
	ce->peek = peek;
	ce->watch = watch;
	ce->timer = event_new(base, -1, 0, curlev_timer_cb, ce);
	ce->multi = curl_multi_init();
	ce->share = curl_share_init();
	if (ce->timer == NULL || ce->multi == NULL || ce->share == NULL) {
		curlev_free(&ce);
		return NULL;
	}
	/* TLS sessions are resumed across handles only through a share. */
	(void)curl_share_setopt(ce->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	(void)curl_multi_setopt(ce->multi, CURLMOPT_SOCKETFUNCTION, curlev_set_socket);
	(void)curl_multi_setopt(ce->multi, CURLMOPT_SOCKETDATA, ce);
	(void)curl_multi_setopt(ce->multi, CURLMOPT_TIMERFUNCTION, curlev_set_timer);
	(void)curl_multi_setopt(ce->multi, CURLMOPT_TIMERDATA, ce);
	(void)curl_multi_setopt(ce->multi, CURLMOPT_MAXCONNECTS, max_idle);
	(void)curl_multi_setopt(ce->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	return ce;
}

void
curlev_free(struct curlev **ce_p)
{
	struct curlev *ce = *ce_p;

	*ce_p = NULL;
	if (ce == NULL)
		return;
	CHECK_OBJ(ce, CURLEV_MAGIC);
	while (ce->spare_n > 0)
		curl_easy_cleanup(ce->spare[--ce->spare_n]);
	if (ce->multi != NULL)
		(void)curl_multi_cleanup(ce->multi);
	if (ce->share != NULL)
		(void)curl_share_cleanup(ce->share);
	if (ce->timer != NULL)
		event_free(ce->timer);
	OBJ_FREE(ce);
}

CURL *
curlev_handle(struct curlev *ce, void *owner)
{
	CURL *curl = ce->spare_n > 0 ? ce->spare[--ce->spare_n] : curl_easy_init();

	CHECK_OBJ(ce, CURLEV_MAGIC);
	if (curl == NULL)
		return NULL;
	(void)curl_easy_setopt(curl, CURLOPT_PRIVATE, owner);
	(void)curl_easy_setopt(curl, CURLOPT_SHARE, ce->share);
	(void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* A name server that hangs must not hold the loop when its transfer is called off. */
	(void)curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L);
#endif
	return curl;
}

void
curlev_release(struct curlev *ce, CURL **curl_p)
{
	CURL *curl = *curl_p;

	*curl_p = NULL;
	if (curl == NULL)
		return;
	if (ce->spare_n >= CURLEV_SPARE_MAX) {
		curl_easy_cleanup(curl);
		return;
	}
	curl_easy_reset(curl);
	ce->spare[ce->spare_n++] = curl;
}

CURLMcode
curlev_add(struct curlev *ce, CURL *curl)
{
	CHECK_OBJ(ce, CURLEV_MAGIC);
	return curl_multi_add_handle(ce->multi, curl);
}

void
curlev_remove(struct curlev *ce, CURL *curl)
{
	CHECK_OBJ(ce, CURLEV_MAGIC);
	(void)curl_multi_remove_handle(ce->multi, curl);
}
