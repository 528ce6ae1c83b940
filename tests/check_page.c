/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The depot's own pages: what each says, and that no peer's text gets out unescaped. */
#include "proxy/page.h"

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "include/counter.h"
#include "proxy/page_priv.h"
#include "proxy/worker.h"

Suite *check_page_suite(void);

static struct {
	char dir[64];
	struct depot depot;
	struct worker w;
	struct conn c;
	struct req *req;
} env;

static void
env_start(void)
{
	struct strlist none = {NULL, 0};
	struct cache_conf conf = {.max_bytes = 1 << 30, .test_no_sync = true};
	char *why = NULL;

	memset(&env, 0, sizeof(env));
	(void)strcpy(env.dir, "/tmp/check-page-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(env.dir));
	conf.dir = env.dir;
	ck_assert_int_eq(cache_open(&env.depot.cache, &conf, &why), REASON_OK);
	env.depot.config = config_load(NULL, &none, stderr, stderr);
	ck_assert_ptr_nonnull(env.depot.config);
	env.depot.started_s = 1000;
	env.w.depot = &env.depot;
	env.w.now_s = 1000 + 2 * 86400 + 3 * 3600;
	env.c.w = &env.w;
	env.c.fd = -1;
	env.req = calloc(1, sizeof(*env.req));
	env.req->c = &env.c;
}

static int
env_remove_cb(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void
env_stop(void)
{
	struct config *config = (struct config *)(uintptr_t)env.depot.config;

	free(env.req);
	config_free(&config);
	cache_close(&env.depot.cache);
	(void)nftw(env.dir, env_remove_cb, 16, FTW_DEPTH | FTW_PHYS);
}

/* Makes a page; the caller frees its body. */
static struct page
env_get(enum route_kind kind, const char *name, const char *host)
{
	struct page page;

	memset(&page, 0xff, sizeof(page));
	env.req->route.kind = kind;
	env.req->route.page = slice_of(name);
	env.req->http.host = slice_of(host);
	page_make(env.req, &page);
	ck_assert_ptr_nonnull(page.body);
	ck_assert_uint_eq(strlen(page.body), page.body_n);
	return page;
}

#define HTML "text/html; charset=utf-8"
#define TEXT "text/plain; charset=utf-8"

static const struct {
	enum route_kind kind;
	const char *name;
	int status;
	const char *phrase, *type, *location, *says;
} page_rows[] = {
	{ROUTE_USAGE, "", 406, "Usage Information", HTML, NULL,
	    "http://depot.example:3142/HTTPS///"},
	{ROUTE_REPORT, "", 302, NULL, TEXT, "/-/", "/-/"},
	{ROUTE_PAGE, "", 200, NULL, HTML, NULL, "http_proxy=http://depot.example:3142 "},
	{ROUTE_PAGE, "", 200, NULL, HTML, NULL, "up 2 d 3 h"},
	{ROUTE_PAGE, "", 200, NULL, HTML, NULL, "0 files, at most 1.00 GiB"},
	{ROUTE_PAGE, "healthz", 200, NULL, TEXT, NULL, "ok\n"},
	{ROUTE_PAGE, "readyz", 200, NULL, TEXT, NULL, "ok\n"},
	{ROUTE_PAGE, "metrics", 200, NULL, "text/plain; version=0.0.4; charset=utf-8", NULL,
	    "\napt_depot_start_time_seconds 1000\n"},
	{ROUTE_PAGE, "metrics", 200, NULL, "text/plain; version=0.0.4; charset=utf-8", NULL,
	    "\napt_depot_cache_max_bytes 1073741824\n"},
	{ROUTE_PAGE, "apt.conf", 200, NULL, TEXT, NULL,
	    "\nAcquire::http::Proxy \"http://depot.example:3142\";\n"},
	{ROUTE_PAGE, "api/v1/status", 200, NULL, "application/json", NULL, "\"uptime_s\":183600,"},
};

START_TEST(page_answers)
{
	struct page page;
	unsigned i;

	/* In one test: the cache behind the pages takes a while to open. */
	for (i = 0; i < NELEM(page_rows); i++) {
		page = env_get(page_rows[i].kind, page_rows[i].name, "depot.example:3142");
		ck_assert_int_eq(page.reason, REASON_OK);
		ck_assert_int_eq(page.status, page_rows[i].status);
		ck_assert_pstr_eq(page.phrase, page_rows[i].phrase);
		ck_assert_str_eq(page.type, page_rows[i].type);
		ck_assert_pstr_eq(page.location, page_rows[i].location);
		ck_assert_msg(strstr(page.body, page_rows[i].says) != NULL, "row %u: %s", i,
		    page.body);
		free(page.body);
	}
}
END_TEST

/* No page: an error, with what there is instead. */
START_TEST(page_that_is_not_there)
{
	static const struct {
		const char *name, *says;
	} rows[] = {
		{"nothing", "/-/metrics"}, {"metrics/", "/-/apt.conf"}, {"api/v2/status", "api/v1/status"},
		{"ca.pem", "intercept_hosts"},
	};
	struct page page;
	unsigned i;

	for (i = 0; i < NELEM(rows); i++) {
		page = env_get(ROUTE_PAGE, rows[i].name, NULL);
		ck_assert_int_eq(page.reason, REASON_NOT_FOUND_LOCAL);
		ck_assert_msg(strstr(page.body, rows[i].says) != NULL, "row %u: %s", i, page.body);
		free(page.body);
	}
}
END_TEST

START_TEST(page_health_tells_of_the_end)
{
	struct page page;

	atomic_store(&env.depot.stopping, true);
	page = env_get(ROUTE_PAGE, "healthz", NULL);
	ck_assert_int_eq(page.status, 503);
	ck_assert_str_eq(page.body, "stopping\n");
	free(page.body);
}
END_TEST

/* Every counter once, each with its help and type before it, nothing else. */
START_TEST(page_metrics_are_whole)
{
	struct page page;
	char line[512];
	unsigned i, lines_n = 0;
	const char *p;

	COUNT_ADD(hits_total, 12 - counter_read(COUNTER_hits_total));
	page = env_get(ROUTE_PAGE, "metrics", NULL);
	for (i = 0; i < COUNTER__N; i++) {
		enum counter c = (enum counter)i;

		(void)snprintf(line, sizeof(line), "# HELP apt_depot_%s %s\n"
		    "# TYPE apt_depot_%s %s\napt_depot_%s ", counter_name(c), counter_text(c),
		    counter_name(c), counter_kind_of(c) == COUNTER_TOTAL ? "counter" : "gauge",
		    counter_name(c));
		p = strstr(page.body, line);
		ck_assert_msg(p != NULL, "missing: %s", line);
		ck_assert_ptr_null(strstr(p + 1, line));
	}
	for (p = page.body; *p != '\0'; p++)
		lines_n += *p == '\n';
	ck_assert_uint_eq(lines_n, 3 * (COUNTER__N + 3));
	ck_assert_ptr_nonnull(strstr(page.body, "\napt_depot_hits_total 12\n"));
	free(page.body);
}
END_TEST

/* What a client calls us, and whether we repeat it. */
static const struct {
	const char *host;
	bool taken;
} host_rows[] = {
	{"depot.example:3142", true},
	{"depot", true},
	{"192.0.2.7:3142", true},
	{"[2001:db8::1]:3142", true},
	{"HTTPS", false},
	{"https:443", false},
	{"", false},
	{NULL, false},
	{"depot.example:0x50", false},
	{"depot.example:99999", false},
	{"a\"b", false},
	{"<script>", false},
	{"x'y", false},
	{"a b", false},
	{"user@depot", false},
	{"a/b", false},
};

START_TEST(page_host_is_judged)
{
	struct page page;
	char want[512];
	unsigned i;

	for (i = 0; i < NELEM(host_rows); i++) {
		page = env_get(ROUTE_PAGE, "apt.conf", host_rows[i].host);
		(void)snprintf(want, sizeof(want), "\nAcquire::http::Proxy \"http://%s\";\n",
		    host_rows[i].host != NULL ? host_rows[i].host : "");
		ck_assert_msg((strstr(page.body, want) != NULL) == host_rows[i].taken,
		    "row %u: %s", i, page.body);
		ck_assert_ptr_nonnull(strstr(page.body, "\nAcquire::http::Proxy \"http://"));
		free(page.body);
	}
}
END_TEST

/* Two flights, one with text that means to break out. */
static struct flight_info page_flights[] = {
	{.id = 1, .visible_bytes = 1 << 20, .total_bytes = 4 << 20, .age_ms = 1000, .readers_n = 2,
	    .state = FLIGHT_STREAMING, .url = "https://origin.example/a.deb"},
	{.id = 2, .total_bytes = -1, .age_ms = 61000, .readers_n = 1, .state = FLIGHT_WAITING,
	    .url = "https://origin.example/<i>\"&'\\\x01\xc3\xa4"},
};

/* The dashboard with these flights. */
static char *
dashboard_text(struct page_facts *f)
{
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	f->version = "1.2.3";
	(void)strcpy(f->host, "depot.example:3142");
	f->flights = page_flights;
	f->flights_shown = NELEM(page_flights);
	page_html_dashboard(out, f);
	AZ(fclose(out));
	return text;
}

START_TEST(page_dashboard_shows_flights)
{
	struct page_facts f = {.flights_n = 70};
	char *text = dashboard_text(&f);

	ck_assert_ptr_nonnull(strstr(text, "https://origin.example/a.deb"));
	ck_assert_ptr_nonnull(strstr(text, "width:25.0%"));
	ck_assert_ptr_nonnull(strstr(text, "1.00 MiB of 4.00 MiB, 1.00 MiB/s"));
	ck_assert_ptr_nonnull(strstr(text, "2 readers"));
	ck_assert_ptr_nonnull(strstr(text, "since 1 min 1 s"));
	ck_assert_ptr_nonnull(strstr(text, "and 68 more"));
	ck_assert_ptr_nonnull(strstr(text, "http-equiv=\"refresh\""));
	ck_assert_ptr_nonnull(strstr(text,
	    "https://origin.example/&lt;i&gt;&quot;&amp;&#39;\\%01%C3%A4"));
	ck_assert_ptr_null(strstr(text, "<i>\""));
	ck_assert_ptr_null(strstr(text, "Latest trouble"));
	free(text);
	f.paused = true;
	text = dashboard_text(&f);
	ck_assert_ptr_null(strstr(text, "http-equiv=\"refresh\""));
	free(text);
}
END_TEST

START_TEST(page_dashboard_shows_trouble)
{
	struct page_facts f = {.now_s = 100, .trouble_n = 2, .trouble = {
	    {.at_s = 90, .times_n = 3, .req_id = 7, .status = 502, .reason = REASON_UP_CONNECT,
	    .url = "https://origin.example/<b>", .what = "<i>refused"},
	    {.at_s = 80, .times_n = 1, .req_id = 6, .reason = REASON_UP_CLOSED}}};
	char *text = dashboard_text(&f);

	ck_assert_ptr_nonnull(strstr(text, "https://origin.example/&lt;b&gt;"));
	ck_assert_ptr_nonnull(strstr(text, "&lt;i&gt;refused"));
	ck_assert_ptr_nonnull(strstr(text,
	    "10 s ago &middot; 502 UP_CONNECT &middot; request 7 &middot; 3 times<"));
	ck_assert_ptr_nonnull(strstr(text, "20 s ago &middot; cut short UP_CLOSED &middot; request 6<"));
	free(text);
}
END_TEST

START_TEST(page_url_is_escaped_for_json)
{
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	page_put_url(out, page_flights[1].url, false);
	AZ(fclose(out));
	ck_assert_str_eq(text, "https://origin.example/<i>\\\"&'\\\\%01%C3%A4");
	free(text);
}
END_TEST

Suite *
check_page_suite(void)
{
	Suite *s = suite_create("page");
	TCase *tc = tcase_create("page");

	tcase_add_checked_fixture(tc, env_start, env_stop);
	tcase_add_test(tc, page_answers);
	tcase_add_test(tc, page_that_is_not_there);
	tcase_add_test(tc, page_health_tells_of_the_end);
	tcase_add_test(tc, page_metrics_are_whole);
	tcase_add_test(tc, page_host_is_judged);
	tcase_add_test(tc, page_dashboard_shows_flights);
	tcase_add_test(tc, page_dashboard_shows_trouble);
	tcase_add_test(tc, page_url_is_escaped_for_json);
	suite_add_tcase(s, tc);
	return s;
}
