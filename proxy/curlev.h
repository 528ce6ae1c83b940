/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CURLEV_H
#define CURLEV_H
/*
 * libcurl's multi interface on a libevent loop: sockets, timer, completions.
 * Knows nothing of HTTP policy. One thread.
 */
#include <curl/curl.h>
#include <event2/event.h>
#include <stdbool.h>

#include "include/obj.h"

struct curlev;

/*
 * A transfer ended; the handle is out of the multi already. Called from the loop, never from
 * inside libcurl.
 */
typedef void curlev_done_f(void *owner, CURL *curl, CURLcode result);
/*
 * A transfer ended and its handle is still in the multi: the moment to take a CONNECT_ONLY socket.
 * True: it stays there, its owner uses the connection and calls curlev_remove in the end; done is
 * not called. May be NULL.
 */
typedef bool curlev_peek_f(void *owner, CURL *curl, CURLcode result);

/* A transfer reads from this socket now. From inside libcurl: may only take note. */
typedef void curlev_watch_f(void *owner, curl_socket_t fd);

struct curlev *curlev_new(struct event_base *base, long max_idle, curlev_done_f *done,
    curlev_peek_f *peek, curlev_watch_f *watch) MUSTCHECK;
void curlev_free(struct curlev **ce_p);
/*
 * A fresh handle with what every transfer needs set; its owner comes back in done. NULL: no
 * memory.
 */
CURL *curlev_handle(struct curlev *ce, void *owner) MUSTCHECK;
/* Gives a handle back that is not in the multi. */
void curlev_release(struct curlev *ce, CURL **curl_p);
CURLMcode curlev_add(struct curlev *ce, CURL *curl) MUSTCHECK;
/* Takes a running transfer out; done is not called. Never from inside a libcurl callback. */
void curlev_remove(struct curlev *ce, CURL *curl);

#endif
