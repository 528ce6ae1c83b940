/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef PAGE_PRIV_H
#define PAGE_PRIV_H
/* Between page.c, which knows the numbers, and page_html.c, which knows how they look. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "include/cache.h"
#include "include/slice.h"

enum {
	PAGE_FLIGHTS_MAX = 64,
	PAGE_HOST_BYTES = 288,		/* host[:port] and NUL */
};

/* What a page shows; made for one request. */
struct page_facts {
	const char *version;
	char host[PAGE_HOST_BYTES];	/* host:port as the client wrote it, or our best guess */
	bool loopback;			/* that host means "this machine" only */
	bool stopping;
	bool connect;			/* CONNECT is tunnelled */
	bool paused;			/* ?refresh=0: the page does not reload itself */
	int64_t now_s, started_s;
	struct cache_totals cache;
	struct flight_info *flights;	/* flights_shown of them, NULL: none */
	unsigned flights_n, flights_shown;
};

/* The share of lookups that needed no body from upstream, in 1/1000; -1: nothing was asked yet. */
int page_hit_permille(void);
/* URL text for HTML or JSON, with what is not printable ASCII percent-encoded. */
void page_put_url(FILE *out, const char *url, bool html);
/* Escapes text for HTML, attribute values included. */
void page_put_html(FILE *out, struct slice text);

void page_html_usage(FILE *out, const struct page_facts *f);
void page_html_dashboard(FILE *out, const struct page_facts *f);

#endif
