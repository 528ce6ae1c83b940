/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The depot's own pages. req_step.c calls page_make once for a request whose
 * route is one of ours; the answer is put together in memory, and its body
 * goes with the request. Text pages are here, HTML is in page_html.c.
 */
#include "proxy/page.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "include/clock.h"
#include "include/counter.h"
#include "include/key.h"
#include "proxy/ca.h"
#include "proxy/explain.h"
#include "proxy/page_priv.h"
#include "proxy/tlsconf.h"
#include "proxy/worker.h"

static const char page_type_html[] = "text/html; charset=utf-8";
static const char page_type_text[] = "text/plain; charset=utf-8";

/* One page below /-/. */
struct page_entry {
	const char *name, *what;
	void (*make)(FILE *out, const struct page_facts *f, struct page *page);
};

/* ---- text for others' formats ---- */

void
page_put_html(FILE *out, struct slice text)
{
	size_t i;

	for (i = 0; i < text.n; i++)
		switch (text.p[i]) {
		case '&':
			(void)fputs("&amp;", out);
			break;
		case '<':
			(void)fputs("&lt;", out);
			break;
		case '>':
			(void)fputs("&gt;", out);
			break;
		case '"':
			(void)fputs("&quot;", out);
			break;
		case '\'':
			(void)fputs("&#39;", out);
			break;
		default:
			(void)putc(text.p[i], out);
		}
}

void
page_put_url(FILE *out, const char *url, bool html)
{
	for (; *url != '\0'; url++) {
		unsigned char ch = (unsigned char)*url;

		if (ch <= ' ' || ch >= 0x7f)
			(void)fprintf(out, "%%%02X", ch);
		else if (html)
			page_put_html(out, (struct slice){url, 1});
		else if (ch == '"' || ch == '\\')
			(void)fprintf(out, "\\%c", ch);
		else
			(void)putc(ch, out);
	}
}

void
page_put_json(FILE *out, const char *text)
{
	(void)putc('"', out);
	for (; *text != '\0'; text++) {
		unsigned char ch = (unsigned char)*text;

		if (ch == '"' || ch == '\\')
			(void)fprintf(out, "\\%c", ch);
		else if (ch < ' ' || ch >= 0x7f)
			(void)fprintf(out, "\\u%04x", ch);	/* a peer's bytes may be no UTF-8 */
		else
			(void)putc(ch, out);
	}
	(void)putc('"', out);
}

int
page_hit_permille(void)
{
	int64_t shared = counter_read(COUNTER_hits_total) + counter_read(COUNTER_joins_total);
	int64_t hits = shared + counter_read(COUNTER_revalidated_total);
	int64_t all = shared + counter_read(COUNTER_revalidations_total) +
	    counter_read(COUNTER_misses_total);

	if (hits > all)
		hits = all;	/* the counters are not read at one instant */
	return all > 0 ? (int)(hits * 1000 / all) : -1;
}

/* ---- what the client calls us ---- */

/* The port that this client has connected to. */
static unsigned
page_local_port(int fd)
{
	struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
	socklen_t n = sizeof(sa);

	if (getsockname(fd, (struct sockaddr *)&sa, &n) != 0)
		return 0;
	if (sa.ss_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)&sa)->sin_port);
	if (sa.ss_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)&sa)->sin6_port);
	return 0;
}

/*
 * Is this Host field fit to be shown as our address? It must be a plain
 * host[:port], and not the marker that apt puts there for HTTPS sources.
 */
static bool
page_host_is_sane(struct slice field)
{
	struct slice host;
	uint16_t port;
	size_t i;

	if (field.n == 0 || field.n >= PAGE_HOST_BYTES ||
	    !url_split_authority(field, &host, &port) || slice_caseeq(host, SLICE("HTTPS")))
		return false;
	for (i = 0; i < field.n; i++)
		if (!isalnum((unsigned char)field.p[i]) && strchr(".-_:[]", field.p[i]) == NULL)
			return false;
	return true;
}

/* Does the name mean something else in a container or on another machine? */
static bool
page_host_is_loopback(const char *host)
{
	size_t n = strcspn(host, host[0] == '[' ? "]" : ":");

	return (n == 9 && strncasecmp(host, "localhost", n) == 0) || strncmp(host, "[::1]", 5) == 0 ||
	    (strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == n);
}

/* The address for client configurations: the one this client used, if that can be told. */
static void
page_find_host(const struct req *req, struct page_facts *f)
{
	struct slice host = req->http.host;
	char name[256] = "";
	unsigned port;

	if (page_host_is_sane(host)) {
		(void)snprintf(f->host, sizeof(f->host), "%.*s", SLICE_ARG(host));
	} else {
		if (gethostname(name, sizeof(name) - 1) != 0 || !page_host_is_sane(slice_of(name)))
			(void)strcpy(name, "localhost");
		port = page_local_port(req->c->fd);
		(void)snprintf(f->host, sizeof(f->host), "%s:%u", name, port != 0 ? port : 3142);
	}
	f->loopback = page_host_is_loopback(f->host);
}

/* ---- pages in text ---- */

static void
page_make_dashboard(FILE *out, const struct page_facts *f, struct page *page)
{
	page->type = page_type_html;
	page_html_dashboard(out, f);
}

/* For probes: alive, and not about to go. */
static void
page_make_health(FILE *out, const struct page_facts *f, struct page *page)
{
	page->status = f->stopping ? 503 : 200;
	(void)fputs(f->stopping ? "stopping\n" : "ok\n", out);
}

/* One metric that is no counter of ours. */
static void
page_put_metric(FILE *out, const char *name, const char *kind, const char *help)
{
	(void)fprintf(out, "# HELP apt_depot_%s %s\n# TYPE apt_depot_%s %s\n", name, help, name,
	    kind);
}

static void
page_make_metrics(FILE *out, const struct page_facts *f, struct page *page)
{
	unsigned i;

	page->type = "text/plain; version=0.0.4; charset=utf-8";
	for (i = 0; i < COUNTER__N; i++) {
		enum counter c = (enum counter)i;

		page_put_metric(out, counter_name(c),
		    counter_kind_of(c) == COUNTER_TOTAL ? "counter" : "gauge", counter_text(c));
		(void)fprintf(out, "apt_depot_%s %" PRId64 "\n", counter_name(c), counter_read(c));
	}
	page_put_metric(out, "cache_max_bytes", "gauge", "Bytes of bodies that may be stored.");
	(void)fprintf(out, "apt_depot_cache_max_bytes %" PRIu64 "\n", f->cache.max_bytes);
	page_put_metric(out, "start_time_seconds", "gauge", "When the depot started, Unix time.");
	(void)fprintf(out, "apt_depot_start_time_seconds %" PRId64 "\n", f->started_s);
	page_put_metric(out, "build_info", "gauge", "Always 1; the label says which version runs.");
	(void)fprintf(out, "apt_depot_build_info{version=");
	page_put_json(out, f->version);
	(void)fputs("} 1\n", out);
}

void
page_print_apt_conf(FILE *out, const char *host, bool tls, bool connect)
{
	const char *scheme = tls ? "https" : "http";

	(void)fprintf(out,
	    "// Packages through apt-depot. Save as /etc/apt/apt.conf.d/01apt-depot:\n"
	    "//   curl -o /etc/apt/apt.conf.d/01apt-depot %s://%s/-/apt.conf\n"
	    "// To have an https:// source cached, write https://HOST/... as "
	    "http://HTTPS///HOST/...\n"
	    "Acquire::http::Proxy \"%s://%s\";\n", scheme, host, scheme, host);
	/* apt falls back on the http proxy for https:// sources, and would be refused. */
	if (!connect)
		(void)fputs("Acquire::https::Proxy \"DIRECT\";\n", out);
}

static void
page_make_apt_conf(FILE *out, const struct page_facts *f, struct page *page)
{
	(void)page;
	page_print_apt_conf(out, f->host, f->tls, f->connect);
}

/* The authority that intercepted hosts are signed by, for clients to trust. */
static void
page_make_ca(FILE *out, const struct page_facts *f, struct page *page)
{
	char url[PAGE_HOST_BYTES + 16];

	if (f->ca != NULL) {
		page->type = "application/x-pem-file";
		(void)snprintf(url, sizeof(url), "%s%s", page_scheme(f), f->host);
		ca_print(out, f->ca, f->intercept_hosts, url);
		return;
	}
	page->reason = REASON_NOT_FOUND_LOCAL;
	(void)fputs("There is no authority to trust: this depot intercepts no host (see "
	    "intercept_hosts in its configuration).\n", out);
}

/* One flight of the JSON status. */
static void
page_put_flight(FILE *out, const struct flight_info *fi)
{
	(void)fprintf(out, "{\"id\":%" PRIu64 ",\"url\":\"", fi->id);
	page_put_url(out, fi->url, false);
	(void)fputs("\",\"state\":", out);
	page_put_json(out, flight_state_name(fi->state));
	(void)fprintf(out, ",\"bytes\":%" PRIu64 ",\"total_bytes\":", fi->visible_bytes);
	if (fi->total_bytes >= 0)
		(void)fprintf(out, "%" PRId64, fi->total_bytes);
	else
		(void)fputs("null", out);
	(void)fprintf(out, ",\"readers\":%u,\"age_ms\":%" PRId64 "}", fi->readers_n, fi->age_ms);
}

/* One entry of the latest trouble. */
static void
page_put_trouble_json(FILE *out, const struct trouble *t)
{
	(void)fprintf(out, "{\"at_s\":%" PRId64 ",\"times\":%u,\"request\":%" PRIu64
	    ",\"status\":%d,\"reason\":\"%s\",\"url\":\"", t->at_s, t->times_n, t->req_id, t->status,
	    reason_name(t->reason));
	page_put_url(out, t->url, false);
	(void)fputs("\",\"what\":", out);
	page_put_json(out, t->what);
	(void)putc('}', out);
}

void
page_print_status(FILE *out, const struct page_facts *f)
{
	unsigned i;
	int hit = page_hit_permille();

	(void)fputs("{\"version\":", out);
	page_put_json(out, f->version);
	(void)fprintf(out, ",\"started_s\":%" PRId64 ",\"uptime_s\":%" PRId64 ",\"stopping\":%s",
	    f->started_s, f->now_s - f->started_s, f->stopping ? "true" : "false");
	(void)fprintf(out, ",\"cache\":{\"blobs\":%" PRIu64 ",\"bytes\":%" PRIu64
	    ",\"max_bytes\":%" PRIu64 ",\"partial_bytes\":%" PRIu64 "}", f->cache.blobs_n,
	    f->cache.blob_bytes, f->cache.max_bytes, f->cache.partial_bytes);
	(void)fputs(",\"hit_ratio\":", out);
	if (hit < 0)
		(void)fputs("null", out);
	else
		(void)fprintf(out, "%d.%03d", hit / 1000, hit % 1000);
	(void)fprintf(out, ",\"flights_n\":%u,\"flights\":[", f->flights_n);
	for (i = 0; i < f->flights_shown; i++) {
		if (i > 0)
			(void)putc(',', out);
		page_put_flight(out, &f->flights[i]);
	}
	(void)fputs("],\"trouble\":[", out);
	for (i = 0; i < f->trouble_n; i++) {
		if (i > 0)
			(void)putc(',', out);
		page_put_trouble_json(out, &f->trouble[i]);
	}
	(void)fputs("],\"avoided_addresses\":[", out);
	for (i = 0; i < f->avoided_n; i++) {
		(void)fprintf(out, "%s{\"origin\":", i > 0 ? "," : "");
		page_put_json(out, f->avoided[i].origin);
		(void)fputs(",\"address\":", out);
		page_put_json(out, f->avoided[i].address);
		(void)fputs(",\"why\":", out);
		page_put_json(out, f->avoided[i].why);
		(void)fprintf(out, ",\"left_ms\":%" PRId64 "}", f->avoided[i].until_ms - f->now_ms);
	}
	(void)fputs("],\"counters\":{", out);
	for (i = 0; i < COUNTER__N; i++)
		(void)fprintf(out, "%s\"%s\":%" PRId64, i > 0 ? "," : "",
		    counter_name((enum counter)i), counter_read((enum counter)i));
	(void)fputs("}}\n", out);
}

/* A time in JSON; INT64_MIN: there is none. */
static void
page_put_time(FILE *out, const char *name, int64_t s)
{
	if (s == INT64_MIN)
		(void)fprintf(out, ",\"%s\":null", name);
	else
		(void)fprintf(out, ",\"%s\":%" PRId64, name, s);
}

void
page_put_gen(FILE *out, const struct inspect_gen *g)
{
	char hex[KEY_HEX_BYTES];

	key_hex(g->digest, hex);
	(void)fputs("{\"repository\":", out);
	page_put_json(out, g->root);
	(void)fprintf(out, ",\"generation\":%" PRIu64 ",\"current\":%s", g->number,
	    g->current ? "true" : "false");
	page_put_time(out, "adopted_at", g->adopted_at_s);
	page_put_time(out, "date", g->date_s);
	page_put_time(out, "valid_until", g->valid_until_s);
	(void)fprintf(out, ",\"sha256\":\"%s\",\"files\":%u,\"tables\":%u,\"packages\":%" PRIu64
	    ",\"origin\":", hex, g->files_n, g->tables_n, g->packages_n);
	page_put_json(out, g->origin);
	(void)fputs(",\"suite\":", out);
	page_put_json(out, g->suite);
	(void)fputs(",\"pins\":", out);
	page_put_json(out, g->pins);
	(void)putc('}', out);
}

/* All generations that are kept, the newest first for each repository. */
static void
page_make_generations(FILE *out, const struct page_facts *f, struct page *page)
{
	struct inspect_gen *list;
	size_t n, i;

	page->type = "application/json";
	if (inspect_generations(f->view, SLICE(""), &list, &n) != REASON_OK) {
		page->reason = REASON_NO_MEMORY;
		return;
	}
	(void)putc('[', out);
	for (i = 0; i < n; i++) {
		(void)fputs(i > 0 ? ",\n" : "", out);
		page_put_gen(out, &list[i]);
	}
	(void)fputs("]\n", out);
	inspect_generations_free(&list, n);
}

/* The dashboard's numbers for scripts. */
static void
page_make_status(FILE *out, const struct page_facts *f, struct page *page)
{
	page->type = "application/json";
	page_print_status(out, f);
}

/* ---- explain ---- */

/* The rest of the query behind "url=", decoded; "" when there is none. */
static void
page_query_url(struct slice query, char out[HTTPREQ_TARGET_MAX + 1])
{
	size_t n = 0;

	MUST(query.n <= HTTPREQ_TARGET_MAX);
	if (slice_starts(query, SLICE("url=")))
		n = url_decode(slice_skip(query, 4), out);
	out[n] = '\0';
}

/* What is known of ?url=; with a form to ask for it. */
static void
page_make_explain_as(FILE *out, const struct page_facts *f, struct page *page, bool json)
{
	const struct worker *w = f->req->c->w;
	struct explain_ask ask = {.depot = w->depot, .view = w->view, .now_ms = w->now_ms,
	    .now_s = f->now_s, .req_id = f->req->id};
	char word[HTTPREQ_TARGET_MAX + 1];
	struct explain *e;

	page->type = json ? "application/json" : page_type_html;
	page_query_url(f->req->route.query, word);
	e = explain_new(&ask, word);
	if (e == NULL) {
		page->reason = REASON_NO_MEMORY;
		return;
	}
	/* Without a word the HTML page is the form. */
	if ((word[0] != '\0' || json) && !explain_understood(e))
		page->status = 400;
	if (json)
		explain_print_json(e, out);
	else
		explain_print_html(e, out);
	explain_free(&e);
}

static void
page_make_explain(FILE *out, const struct page_facts *f, struct page *page)
{
	page_make_explain_as(out, f, page, false);
}

static void
page_make_explain_json(FILE *out, const struct page_facts *f, struct page *page)
{
	page_make_explain_as(out, f, page, true);
}

static const struct page_entry page_entries[] = {
	{"", "dashboard", page_make_dashboard},
	{"healthz", "\"ok\" while the depot runs", page_make_health},
	{"readyz", "the same, for load balancers", page_make_health},
	{"metrics", "counters for Prometheus", page_make_metrics},
	{"apt.conf", "ready-made client configuration", page_make_apt_conf},
	{"ca.pem", "authority for clients of intercepted hosts", page_make_ca},
	{"explain", "?url=URL: what is known of it", page_make_explain},
	{"api/v1/status", "the dashboard's numbers as JSON", page_make_status},
	{"api/v1/generations", "kept publications of repositories as JSON", page_make_generations},
	{"api/v1/explain", "?url=URL: the same as JSON", page_make_explain_json},
};

/* A name that no page has: which names are there? */
static void
page_make_unknown(FILE *out, struct page *page)
{
	unsigned i;

	page->reason = REASON_NOT_FOUND_LOCAL;
	(void)fputs("There are:\n", out);
	for (i = 0; i < NELEM(page_entries); i++)
		(void)fprintf(out, "  /-/%-18s %s\n", page_entries[i].name, page_entries[i].what);
	(void)fputs("  /                     how to configure a client\n", out);
}

/* ---- which one ---- */

void
page_facts_init(struct page_facts *f, const struct depot *d, int64_t now_s)
{
	unsigned room;

	memset(f, 0, sizeof(*f));
	f->version = depot_version;
	f->stopping = atomic_load(&d->stopping);
	f->connect = d->config->connect == CONNECT_TUNNEL;
	f->ca = d->tls != NULL ? tlsconf_ca(d->tls) : NULL;
	f->intercept_hosts = &d->config->intercept_hosts;
	f->now_s = now_s;
	f->started_s = d->started_s;
	cache_totals(d->cache, &f->cache);
	f->flights = calloc(PAGE_FLIGHTS_MAX, sizeof(*f->flights));
	room = f->flights != NULL ? PAGE_FLIGHTS_MAX : 0;
	f->flights_n = cache_flights(d->cache, f->flights, room);
	f->flights_shown = f->flights_n < room ? f->flights_n : room;
	f->trouble_n = trouble_list(f->trouble);
	f->now_ms = clock_mono_ms();
	f->avoided_n = upstream_list_avoided(d->upstream, f->avoided, NELEM(f->avoided));
}

void
page_facts_fini(struct page_facts *f)
{
	free(f->flights);
	f->flights = NULL;
}

/* What is shown, read once, so that a page agrees with itself. */
static void
page_gather(const struct req *req, struct page_facts *f)
{
	page_facts_init(f, req->c->w->depot, req->c->w->now_s);
	f->req = req;
	f->view = req->c->w->view;
	f->tls = req->c->tls != NULL;
	page_find_host(req, f);
	f->paused = slice_eq(req->route.query, SLICE("refresh=0"));
}

/* A page below /-/. */
static void
page_make_named(FILE *out, const struct req *req, const struct page_facts *f, struct page *page)
{
	unsigned i;

	for (i = 0; i < NELEM(page_entries); i++)
		if (slice_eq(req->route.page, slice_of(page_entries[i].name))) {
			page_entries[i].make(out, f, page);
			return;
		}
	page_make_unknown(out, page);
}

void
page_make(const struct req *req, struct page *out)
{
	struct page_facts f;
	bool failed;
	FILE *text;

	*out = (struct page){.status = 200, .type = page_type_text};
	text = open_memstream(&out->body, &out->body_n);
	if (text == NULL)
		return;
	page_gather(req, &f);
	switch (req->route.kind) {
	case ROUTE_USAGE:
		/* auto-apt-proxy knows a cache by this status and phrase. */
		out->status = 406;
		out->phrase = "Usage Information";
		out->type = page_type_html;
		page_html_usage(text, &f);
		break;
	case ROUTE_REPORT:
		out->status = 302;
		out->location = "/-/";
		(void)fputs("The report is at /-/\n", text);
		break;
	case ROUTE_PAGE:
		page_make_named(text, req, &f, out);
		break;
	case ROUTE_OBJECT:
	case ROUTE_TUNNEL:
		WRONG("route is no page");
	}
	page_facts_fini(&f);
	failed = ferror(text) != 0;
	if (fclose(text) != 0 || failed) {
		free(out->body);
		out->body = NULL;
	}
}
