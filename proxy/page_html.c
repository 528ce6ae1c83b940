/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The two HTML pages: how to configure a client (/), and the dashboard (/-/).
 * page.c calls them with what is to be shown. Each page is whole in itself: no
 * script, no font, no image, so that it also works where only the depot can be
 * reached.
 */
#include "proxy/page_priv.h"

#include <inttypes.h>

#include "include/counter.h"

enum {
	PAGE_REFRESH_BUSY_S = 5,	/* while something is being fetched */
	PAGE_REFRESH_IDLE_S = 30,
	PAGE_ROOTS_MAX = 30,		/* repositories on the dashboard */
};

/* The source that most come for, as the example. */
#define PAGE_CUDA_URL                                                          \
	"http://HTTPS///developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64"

static const char page_style[] =
    ":root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--text:#1b2027;--dim:#5b6572;"
    "--line:#dde1e7;--accent:#0b6bcb;--bar:#e4e8ee;--ok:#1a7f37;--bad:#b42318}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#0f1216;--card:#181c22;--text:#d5dae1;"
    "--dim:#8b95a3;--line:#2a3039;--accent:#5aa9f5;--bar:#2a3039;--ok:#4fbf67;--bad:#f0806f}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;max-width:62rem;padding:1rem;background:var(--bg);color:var(--text);"
    "font:16px/1.5 system-ui,sans-serif}\n"
    "a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}\n"
    "header{display:flex;flex-wrap:wrap;gap:.25rem 1rem;align-items:baseline}\n"
    "h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}\n"
    "h3{font-size:1rem;margin:1.2rem 0 .3rem}p{margin:.4rem 0}\n"
    "nav{display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:.3rem 0 1rem}\n"
    ".dim,small{color:var(--dim)}small{font-size:.85rem}\n"
    ".ok{color:var(--ok)}.bad{color:var(--bad)}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(10.5rem,1fr));gap:.75rem}\n"
    ".card{background:var(--card);border:1px solid var(--line);border-radius:8px;"
    "padding:.75rem .9rem}\n"
    ".card b{display:block;font-size:1.45rem;font-weight:600;line-height:1.3;"
    "font-variant-numeric:tabular-nums}\n"
    ".tiles small{display:block}.tiles b small{display:inline;font-weight:400}\n"
    ".strip{margin-top:.75rem;display:flex;flex-wrap:wrap;gap:0 1.2rem}\n"
    ".bar{height:8px;border-radius:4px;background:var(--bar);overflow:hidden;margin:.35rem 0}\n"
    ".bar i{display:block;height:100%;background:var(--accent)}\n"
    ".flight{margin-bottom:.5rem}.url{overflow-wrap:anywhere;font-family:ui-monospace,monospace;"
    "font-size:.85rem}\n"
    "pre{background:var(--card);border:1px solid var(--line);border-radius:8px;margin:.3rem 0;"
    "padding:.6rem .8rem;white-space:pre-wrap;overflow-wrap:anywhere;user-select:all;"
    "font:.85rem/1.5 ui-monospace,monospace}\n"
    "code{font:.9em ui-monospace,monospace;overflow-wrap:anywhere}\n"
    "td{padding:.15rem 1rem .15rem 0;vertical-align:top}\n"
    "@media(max-width:42rem){td{display:block;padding:0}td+td{margin-bottom:.6rem;"
    "color:var(--dim)}}\n"
    "footer{margin:2rem 0 1rem}\n";

/* ---- pieces ---- */

void
page_put_top(FILE *out, const char *title, unsigned refresh_s)
{
	(void)fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
	    "<link rel=\"icon\" href=\"data:,\">\n", out);
	if (refresh_s > 0)
		(void)fprintf(out, "<meta http-equiv=\"refresh\" content=\"%u\">\n", refresh_s);
	(void)fprintf(out, "<title>%s</title>\n<style>\n%s</style>\n</head>\n<body>\n", title,
	    page_style);
}

void
page_put_bottom(FILE *out)
{
	(void)fputs("</body>\n</html>\n", out);
}

void
page_put_bytes(FILE *out, double bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned i = 0;

	while (bytes >= 999.5 && i + 1 < NELEM(units)) {
		bytes /= 1024;
		i++;
	}
	(void)fprintf(out, "%.*f %s", i == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2, bytes,
	    units[i]);
}

/* A counter's value, thousands apart. */
static void
page_put_count(FILE *out, int64_t n)
{
	char digits[24];
	int i, len = snprintf(digits, sizeof(digits), "%" PRId64, n);

	for (i = 0; i < len; i++) {
		(void)putc(digits[i], out);
		if (i + 1 < len && (len - 1 - i) % 3 == 0 && digits[i] != '-')
			(void)fputs("&#8239;", out);
	}
}

void
page_put_span(FILE *out, int64_t s)
{
	if (s < 0)
		s = 0;
	if (s < 60)
		(void)fprintf(out, "%" PRId64 " s", s);
	else if (s < 3600)
		(void)fprintf(out, "%" PRId64 " min %" PRId64 " s", s / 60, s % 60);
	else if (s < 86400)
		(void)fprintf(out, "%" PRId64 " h %" PRId64 " min", s / 3600, s / 60 % 60);
	else
		(void)fprintf(out, "%" PRId64 " d %" PRId64 " h", s / 86400, s / 3600 % 24);
}

/* A bar, filled in 1/1000. */
static void
page_put_bar(FILE *out, double part, double whole)
{
	double permille = whole > 0 ? part / whole * 1000 : 0;

	if (permille > 1000)
		permille = 1000;
	(void)fprintf(out, "<div class=\"bar\"><i style=\"width:%.1f%%\"></i></div>\n",
	    permille / 10);
}

/* ---- the dashboard ---- */

static void
page_put_header(FILE *out, const struct page_facts *f)
{
	(void)fputs("<header><h1>apt-depot</h1><span class=\"dim\">version ", out);
	page_put_html(out, slice_of(f->version));
	(void)fputs(", up ", out);
	page_put_span(out, f->now_s - f->started_s);
	(void)fputs("</span>", out);
	if (f->stopping)
		(void)fputs("<span class=\"bad\">stopping</span>", out);
	(void)fputs("</header>\n<nav><a href=\"/\">Client setup</a>"
	    "<a href=\"/-/apt.conf\">apt.conf</a>"
	    "<a href=\"/-/explain\">Explain a URL</a>"
	    "<a href=\"/-/metrics\">Metrics</a><a href=\"/-/api/v1/status\">Status as JSON</a>"
	    "<a href=\"/-/healthz\">Health</a>", out);
	(void)fputs(f->paused ? "<a href=\"/-/\">Refresh by itself</a></nav>\n" :
	    "<a href=\"/-/?refresh=0\">Stop refreshing</a></nav>\n", out);
}

static void
page_put_tile_cached(FILE *out, const struct page_facts *f)
{
	(void)fputs("<div class=\"card\"><small>Stored</small><b>", out);
	page_put_bytes(out, (double)f->cache.blob_bytes);
	(void)fputs("</b>", out);
	page_put_bar(out, (double)f->cache.blob_bytes, (double)f->cache.max_bytes);
	(void)fputs("<small>", out);
	page_put_count(out, (int64_t)f->cache.blobs_n);
	(void)fputs(f->cache.blobs_n == 1 ? " file, at most " : " files, at most ", out);
	page_put_bytes(out, (double)f->cache.max_bytes);
	(void)fputs("</small>", out);
	if (f->cache.partial_bytes > 0) {
		(void)fputs("<small>and ", out);
		page_put_bytes(out, (double)f->cache.partial_bytes);
		(void)fputs(" in unfinished files</small>", out);
	}
	(void)fputs("</div>\n", out);
}

static void
page_put_tile_hits(FILE *out)
{
	int hit = page_hit_permille();

	(void)fputs("<div class=\"card\"><small>Hit rate</small><b>", out);
	if (hit < 0)
		(void)fputs("&ndash;", out);
	else
		(void)fprintf(out, "%d.%d %%", hit / 10, hit % 10);
	(void)fputs("</b><small>", out);
	page_put_count(out, counter_read(COUNTER_hits_total));
	(void)fputs(" from the cache</small><small>", out);
	page_put_count(out, counter_read(COUNTER_joins_total));
	(void)fputs(" joined a running fetch</small><small>", out);
	page_put_count(out, counter_read(COUNTER_revalidated_total));
	(void)fputs(" confirmed by upstream</small><small>", out);
	page_put_count(out, counter_read(COUNTER_misses_total));
	(void)fputs(" started a fetch</small></div>\n", out);
}

static void
page_put_tile_bytes(FILE *out)
{
	int64_t sent = counter_read(COUNTER_sent_body_bytes_total);
	int64_t fetched = counter_read(COUNTER_upstream_body_bytes_total);

	(void)fputs("<div class=\"card\"><small>Served</small><b>", out);
	page_put_bytes(out, (double)sent);
	(void)fputs("</b><small>", out);
	page_put_bytes(out, (double)fetched);
	(void)fputs(" fetched from upstream", out);
	if (fetched > 0 && sent > fetched)
		(void)fprintf(out, ": each byte served %.1f times", (double)sent / (double)fetched);
	(void)fputs("</small></div>\n", out);
}

static void
page_put_tile_now(FILE *out)
{
	int64_t queued = counter_read(COUNTER_upstream_queued);

	(void)fputs("<div class=\"card\"><small>Now</small><b>", out);
	page_put_count(out, counter_read(COUNTER_connections_open));
	(void)fputs(" <small>clients</small></b><small>", out);
	page_put_count(out, counter_read(COUNTER_upstream_active));
	(void)fputs(" upstream transfers", out);
	if (queued > 0) {
		(void)fputs(", ", out);
		page_put_count(out, queued);
		(void)fputs(" waiting", out);
	}
	(void)fputs("</small><small>", out);
	page_put_count(out, counter_read(COUNTER_tunnels_open));
	(void)fputs(" tunnels</small>", out);
	if (counter_read(COUNTER_prefetch_started_total) > 0) {
		(void)fputs("<small>", out);
		page_put_count(out, counter_read(COUNTER_prefetch_started_total));
		(void)fputs(" fetched ahead, ", out);
		page_put_count(out, counter_read(COUNTER_prefetch_used_total));
		(void)fputs(" used, ", out);
		page_put_count(out, counter_read(COUNTER_prefetch_wasted_total));
		(void)fputs(" not (", out);
		page_put_bytes(out, (double)counter_read(COUNTER_prefetch_wasted_bytes_total));
		(void)fputs(")</small>", out);
	}
	(void)fputs("</div>\n", out);
}

/* What an operator should look into, if there is anything. */
static void
page_put_trouble(FILE *out, const struct page_facts *f)
{
	static const struct {
		enum counter c;
		const char *what;
	} signs[] = {
		{COUNTER_store_failures_total, "files not stored"},
		{COUNTER_blobs_damaged_total, "damaged files dropped"},
		{COUNTER_index_errors_total, "failed index writes"},
		{COUNTER_index_lost, "cache_dir/index removed: restart"},
		{COUNTER_upstream_failures_total, "failed fetches"},
		{COUNTER_digest_mismatches_total, "wrong digests"},
		{COUNTER_upstream_slow_replaced_total, "stalled connections replaced"},
		{COUNTER_upstream_addresses_avoided_total, "addresses avoided"},
		{COUNTER_cut_answers_total, "answers cut short"},
		{COUNTER_stale_served_total, "stale answers"},
		{COUNTER_refused_total, "refused requests"},
	};
	unsigned i, n = 0;

	(void)fputs("<div class=\"card strip\"><small>Trouble since start</small>", out);
	for (i = 0; i < NELEM(signs); i++)
		if (counter_read(signs[i].c) > 0) {
			(void)fprintf(out, "<small class=\"bad\">%s: ", signs[i].what);
			page_put_count(out, counter_read(signs[i].c));
			(void)fputs("</small>", out);
			n++;
		}
	for (i = 0; i < f->avoided_n; i++) {
		(void)fputs("<small class=\"bad\">avoided: ", out);
		page_put_html(out, slice_of(f->avoided[i].address));
		(void)fputs(" of ", out);
		page_put_html(out, slice_of(f->avoided[i].origin));
		(void)fprintf(out, ", which %s</small>", f->avoided[i].why);
		n++;
	}
	(void)fputs(n == 0 ? "<small class=\"ok\">none</small></div>\n" : "</div>\n", out);
}

/* The latest of it in words, so that nobody has to find the log first. */
static void
page_put_latest(FILE *out, const struct page_facts *f)
{
	unsigned i;

	if (f->trouble_n > 0)
		(void)fputs("<h2>Latest trouble</h2>\n", out);
	for (i = 0; i < f->trouble_n; i++) {
		const struct trouble *t = &f->trouble[i];

		(void)fputs("<div class=\"card flight\"><div class=\"url\">", out);
		page_put_url(out, t->url, true);
		(void)fputs("</div>\n<div class=\"bad\">", out);
		page_put_html(out, slice_of(t->what));
		(void)fputs("</div>\n<small>", out);
		page_put_span(out, f->now_s - t->at_s);
		(void)fputs(" ago &middot; ", out);
		if (t->status != 0)
			(void)fprintf(out, "%d", t->status);
		else
			(void)fputs("cut short", out);
		(void)fprintf(out, " %s &middot; request %" PRIu64, reason_name(t->reason), t->req_id);
		if (t->times_n > 1)
			(void)fprintf(out, " &middot; %u times", t->times_n);
		(void)fputs("</small></div>\n", out);
	}
}

/* One repository: its current generation, and how many others are kept. */
static void
page_put_repository(FILE *out, const struct page_facts *f, const struct inspect_gen *g,
    unsigned kept_n)
{
	(void)fputs("<div class=\"card flight\"><div class=\"url\">", out);
	page_put_url(out, g->root, true);
	(void)fputs("</div>\n<small>", out);
	if (g->date_s != INT64_MIN) {
		(void)fputs("published ", out);
		page_put_span(out, f->now_s - g->date_s);
		(void)fputs(" ago, ", out);
	}
	(void)fputs("adopted ", out);
	page_put_span(out, f->now_s - g->adopted_at_s);
	(void)fputs(" ago &middot; ", out);
	page_put_count(out, (int64_t)g->packages_n);
	(void)fprintf(out, " %s &middot; %u kept", g->packages_n == 1 ? "package" : "packages", kept_n);
	if (g->valid_until_s != INT64_MIN && g->valid_until_s < f->now_s)
		(void)fputs(" &middot; <span class=\"bad\">no longer valid</span>", out);
	(void)fputs("</small></div>\n", out);
}

static void
page_put_repositories(FILE *out, const struct page_facts *f)
{
	struct inspect_gen *list;
	unsigned roots_n = 0;
	size_t n, i, j;

	if (f->view == NULL || inspect_generations(f->view, SLICE(""), &list, &n) != REASON_OK)
		return;
	if (n > 0)
		(void)fputs("<h2>Repositories</h2>\n", out);
	for (i = 0; i < n; i = j) {
		const struct inspect_gen *shown = &list[i];

		for (j = i; j < n && strcmp(list[j].root, list[i].root) == 0; j++)
			if (list[j].current)
				shown = &list[j];
		if (++roots_n <= PAGE_ROOTS_MAX)
			page_put_repository(out, f, shown, (unsigned)(j - i));
	}
	if (roots_n > PAGE_ROOTS_MAX)
		(void)fprintf(out, "<p class=\"dim\">and %u more: apt-depot generations</p>\n",
		    roots_n - PAGE_ROOTS_MAX);
	inspect_generations_free(&list, n);
}

static void
page_put_flight_card(FILE *out, const struct flight_info *fi)
{
	bool known = fi->total_bytes >= 0;

	(void)fputs("<div class=\"card flight\"><div class=\"url\">", out);
	page_put_url(out, fi->url, true);
	(void)fputs("</div>\n", out);
	if (known)
		page_put_bar(out, (double)fi->visible_bytes, (double)fi->total_bytes);
	(void)fputs("<small>", out);
	if (fi->state == FLIGHT_WAITING)
		(void)fputs("waiting for upstream", out);
	else
		page_put_bytes(out, (double)fi->visible_bytes);
	if (known) {
		(void)fputs(" of ", out);
		page_put_bytes(out, (double)fi->total_bytes);
	}
	if (fi->state == FLIGHT_STREAMING && fi->age_ms > 0) {
		(void)fputs(", ", out);
		page_put_bytes(out, (double)fi->visible_bytes * 1000 / (double)fi->age_ms);
		(void)fputs("/s", out);
	}
	if (fi->state == FLIGHT_COMPLETE)
		(void)fputs(", being stored", out);
	if (fi->state == FLIGHT_FAILED)
		(void)fputs(", failed", out);
	(void)fprintf(out, " &middot; %u %s &middot; since ", fi->readers_n,
	    fi->readers_n == 1 ? "reader" : "readers");
	page_put_span(out, fi->age_ms / 1000);
	(void)fputs("</small></div>\n", out);
}

static void
page_put_flights(FILE *out, const struct page_facts *f)
{
	unsigned i;

	(void)fputs("<h2>Being fetched now</h2>\n", out);
	for (i = 0; i < f->flights_shown; i++)
		page_put_flight_card(out, &f->flights[i]);
	if (f->flights_n == 0)
		(void)fputs("<p class=\"dim\">Nothing.</p>\n", out);
	else if (f->flights_n > f->flights_shown)
		(void)fprintf(out, "<p class=\"dim\">and %u more</p>\n",
		    f->flights_n - f->flights_shown);
}

/* Where this client reaches the depot, as a URL without a path. */
static void
page_put_address(FILE *out, const struct page_facts *f)
{
	(void)fputs(page_scheme(f), out);
	page_put_html(out, slice_of(f->host));
}

/* The lines that every client needs. */
static void
page_put_setup(FILE *out, const struct page_facts *f)
{
	(void)fputs("<h3>apt, one line</h3>\n"
	    "<pre>echo &#39;Acquire::http::Proxy &quot;", out);
	page_put_address(out, f);
	(void)fputs("&quot;;&#39; | sudo tee /etc/apt/apt.conf.d/01apt-depot</pre>\n"
	    "<h3>CUDA&#39;s repository, cached</h3>\n<pre>deb "
	    "[signed-by=/usr/share/keyrings/cuda-archive-keyring.gpg] "
	    PAGE_CUDA_URL "/ /</pre>\n"
	    "<h3>docker build</h3>\n<pre>docker build --build-arg http_proxy=", out);
	page_put_address(out, f);
	(void)fputs(" .</pre>\n", out);
	if (f->loopback)
		(void)fputs("<p class=\"dim\">In a build container this address means the "
		    "container itself: use this machine&#39;s name or address there, or "
		    "<code>--network host</code>.</p>\n", out);
}

void
page_html_dashboard(FILE *out, const struct page_facts *f)
{
	page_put_top(out, "apt-depot", f->paused ? 0 : f->flights_n > 0 ? PAGE_REFRESH_BUSY_S :
	    PAGE_REFRESH_IDLE_S);
	page_put_header(out, f);
	(void)fputs("<div class=\"tiles\">\n", out);
	page_put_tile_cached(out, f);
	page_put_tile_hits(out);
	page_put_tile_bytes(out);
	page_put_tile_now(out);
	(void)fputs("</div>\n", out);
	page_put_trouble(out, f);
	page_put_latest(out, f);
	page_put_flights(out, f);
	page_put_repositories(out, f);
	(void)fputs("<h2>Configure a client</h2>\n", out);
	page_put_setup(out, f);
	(void)fputs("<p><a href=\"/\">All ways to ask, and Dockerfiles</a></p>\n", out);
	page_put_bottom(out);
}

/* ---- usage ---- */

/* A row of the table of URL forms. */
static void
page_put_form(FILE *out, const char *before, const char *host, const char *after, const char *what)
{
	(void)fprintf(out, "<tr><td><code>%s", before);
	page_put_html(out, slice_of(host));
	(void)fprintf(out, "%s</code></td><td>%s</td></tr>\n", after, what);
}

static void
page_put_forms(FILE *out, const struct page_facts *f)
{
	(void)fputs("<h2>What to write for a source</h2>\n<table>\n", out);
	page_put_form(out, "http://HTTPS///", "host", "/path",
	    "How to write https://host/path: fetched over TLS and cached. Needs the proxy line.");
	page_put_form(out, "http://", "host", "/path",
	    "Fetched over plain http and cached. Needs the proxy line.");
	page_put_form(out, page_scheme(f), f->host, "/HTTPS///host/path",
	    "Fetched over TLS and cached, without a proxy line.");
	page_put_form(out, page_scheme(f), f->host, "/host/path",
	    "Fetched over plain http and cached, without a proxy line.");
	if (f->ca != NULL)
		page_put_form(out, "https://", "intercepted host", "/path",
		    "Cached too, for the hosts that this depot is told to intercept, with the proxy "
		    "line and with <a href=\"/-/ca.pem\">its authority</a> trusted.");
	page_put_form(out, "https://", f->ca != NULL ? "other host" : "host", "/path", f->connect ?
	    "Passed through in a tunnel with the proxy line: works, but is not cached." :
	    "Not through this depot: tunnels are refused here.");
	(void)fputs("</table>\n", out);
}

static void
page_put_dockerfile(FILE *out, const struct page_facts *f)
{
	(void)fputs("<h2>In a Dockerfile</h2>\n"
	    "<p>Nothing of the depot stays in the image with the build argument "
	    "<code>http_proxy</code>, which docker knows without an <code>ARG</code> line:</p>\n"
	    "<pre>docker build --build-arg http_proxy=", out);
	page_put_address(out, f);
	(void)fputs(" .</pre>\n<p>Or for apt alone:</p>\n<pre>RUN echo &#39;Acquire::http::Proxy "
	    "&quot;", out);
	page_put_address(out, f);
	(void)fputs("&quot;;&#39; &gt; /etc/apt/apt.conf.d/01apt-depot</pre>\n"
	    "<p>And the source:</p>\n<pre>RUN echo &quot;deb "
	    "[signed-by=/usr/share/keyrings/cuda-archive-keyring.gpg] "
	    PAGE_CUDA_URL "/ /&quot; "
	    "&gt; /etc/apt/sources.list.d/cuda.list \\\n &amp;&amp; apt-get update "
	    "&amp;&amp; apt-get install -y cuda</pre>\n", out);
	if (f->loopback)
		(void)fputs("<p>You asked for this page under an address that means something else "
		    "inside a build container: use this machine&#39;s name or address there, or "
		    "<code>docker build --network host</code>.</p>\n", out);
}

void
page_html_usage(FILE *out, const struct page_facts *f)
{
	page_put_top(out, "apt-depot: usage information", 0);
	(void)fputs("<header><h1>apt-depot</h1><span class=\"dim\">a cache for apt repositories, "
	    "TLS ones included</span></header>\n<nav><a href=\"/-/\">Dashboard</a>"
	    "<a href=\"/-/apt.conf\">apt.conf</a></nav>\n<p>This is a proxy for package "
	    "managers, not a web site. It runs; this page says how to use it.</p>\n"
	    "<h2>Point apt here</h2>\n"
	    "<pre>echo &#39;Acquire::http::Proxy &quot;", out);
	page_put_address(out, f);
	(void)fputs("&quot;;&#39; | sudo tee /etc/apt/apt.conf.d/01apt-depot</pre>\n", out);
	page_put_forms(out, f);
	page_put_dockerfile(out, f);
	(void)fputs("<h2>See that it works</h2>\n<p>Run <code>apt-get update</code> and look at "
	    "the <a href=\"/-/\">dashboard</a>, or ask for one file and read the "
	    "<code>Cache-Status</code> field:</p>\n<pre>curl -sI -x ", out);
	page_put_address(out, f);
	(void)fputs(" " PAGE_CUDA_URL "/InRelease</pre>\n"
	    "<footer class=\"dim\"><small>apt-depot ", out);
	page_put_html(out, slice_of(f->version));
	(void)fputs("</small></footer>\n", out);
	page_put_bottom(out);
}
