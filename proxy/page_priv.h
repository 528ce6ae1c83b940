/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef PAGE_PRIV_H
#define PAGE_PRIV_H
/* Between page.c, which knows the numbers, page_html.c, which knows how they look, and commands. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "include/cache.h"
#include "include/inspect.h"
#include "include/slice.h"
#include "proxy/trouble.h"
#include "proxy/upstream.h"

enum {
	PAGE_FLIGHTS_MAX = 64,
	PAGE_HOST_BYTES = 288,		/* host[:port] and NUL */
};

struct ca;
struct depot;
struct globset;
struct req;

/* What a page shows; made for one request. */
struct page_facts {
	const struct req *req;		/* NULL: for a command */
	const char *version;
	char host[PAGE_HOST_BYTES];	/* host:port as the client wrote it, or our best guess */
	bool loopback;			/* that host means "this machine" only */
	bool stopping;
	bool connect;			/* CONNECT is tunnelled */
	bool tls;			/* this client speaks TLS to us */
	const struct ca *ca;		/* what clients of intercepted hosts must trust; NULL: none */
	const struct globset *intercept_hosts;
	bool paused;			/* ?refresh=0: the page does not reload itself */
	int64_t now_s, started_s;
	struct cache_totals cache;
	struct flight_info *flights;	/* flights_shown of them, NULL: none */
	unsigned flights_n, flights_shown;
	struct trouble trouble[TROUBLE_MAX];
	unsigned trouble_n;
	struct cache_view *view;	/* of the calling thread; NULL: repositories are not shown */
	struct upstream_avoided avoided[UPSTREAM_AVOIDED_MAX];
	unsigned avoided_n;
	int64_t now_ms;			/* of the monotonic clock */
};

/* What a URL of the depot begins with for this client. */
static inline const char *
page_scheme(const struct page_facts *f)
{
	return f->tls ? "https://" : "http://";
}

/* Everything but what a request brings. */
void page_facts_init(struct page_facts *f, const struct depot *d, int64_t now_s);
void page_facts_fini(struct page_facts *f);

/* The share of lookups that needed no body from upstream, in 1/1000; -1: nothing was asked yet. */
int page_hit_permille(void);
/* URL text for HTML or JSON, with what is not printable ASCII percent-encoded. */
void page_put_url(FILE *out, const char *url, bool html);
/* A JSON string, quotes included. */
void page_put_json(FILE *out, const char *text);
/* Escapes text for HTML, attribute values included. */
void page_put_html(FILE *out, struct slice text);

void page_print_status(FILE *out, const struct page_facts *f);	/* as JSON */
void page_put_gen(FILE *out, const struct inspect_gen *g);	/* the same */

/* What stands before and behind a page's own content. refresh_s 0: it stays as it is. */
void page_put_top(FILE *out, const char *title, unsigned refresh_s);
void page_put_bottom(FILE *out);
/* A number of bytes with three digits that matter; a span of time in its two largest units. */
void page_put_bytes(FILE *out, double bytes);
void page_put_span(FILE *out, int64_t s);
void page_html_usage(FILE *out, const struct page_facts *f);
void page_html_dashboard(FILE *out, const struct page_facts *f);

#endif
