/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Request targets as apt, wget, curl and people write them. */
#include "proxy/route.h"

#include <check.h>
#include <stdio.h>

#include "include/access.h"

Suite *check_route_suite(void);

static char memory[32768];
static struct globset upgrade;

/* The depot of these tests is depot.example, on its own port and on 80. */
static bool
is_self(const void *arg, struct slice host, uint16_t port)
{
	(void)arg;
	return slice_eq(host, SLICE("depot.example")) && (port == 3142 || port == 80);
}

static void
setup(void)
{
	ck_assert(globset_add(&upgrade, SLICE("up.example")));
}

static void
teardown(void)
{
	globset_fini(&upgrade);
}

/* Routes a target with an arena of cap bytes; the Host field is apt's, which must not matter. */
static enum reason
route(struct route *rt, enum http_method method, const char *target, size_t cap)
{
	static struct arena a;
	const struct route_conf conf = {.https_upgrade = &upgrade, .is_self = is_self};
	struct httpreq req = {.method = method, .target = slice_of(target), .host = SLICE("HTTPS")};

	arena_init(&a, memory, cap);
	return route_parse(rt, &a, &req, &conf);
}

/* Objects: target, canonical URL, @segment, user:password. */
static const struct {
	const char *target, *text, *at, *userinfo;
} objects[] = {
	/* the marker in absolute form */
	{"http://HTTPS///h.example/p", "https://h.example/p", "", ""},
	{"http://https///h.example/p", "https://h.example/p", "", ""},
	{"http://hTtPs///h.example/p", "https://h.example/p", "", ""},
	{"HTTP://HTTPS///h.example/p", "https://h.example/p", "", ""},
	{"http://HTTPS/h.example/p", "https://h.example/p", "", ""},
	{"http://https//h.example/p", "https://h.example/p", "", ""},
	{"http://HTTPS//////h.example/p", "https://h.example/p", "", ""},
	{"http://HTTPS//h.example//deb/dists/s/InRelease",
	    "https://h.example/deb/dists/s/InRelease", "", ""},
	{"http://HTTPS:443///h.example/p", "https://h.example/p", "", ""},
	{"http://HTTPS:441///h.example:8443/p", "https://h.example:8443/p", "", ""},
	{"http://https:///h.example/p", "https://h.example/p", "", ""},
	{"https://HTTPS///h.example/p", "https://h.example/p", "", ""},
	{"http://HTTPS///h.example", "https://h.example/", "", ""},
	{"http://HTTPS///h.example?q", "https://h.example/?q", "", ""},
	{"http://HTTPS///intranet/p", "https://intranet/p", "", ""},
	{"http://HTTPS///[::1]:8443/p", "https://[::1]:8443/p", "", ""},
	{"http://HTTPS///h.example/flat/./a%2bb.deb", "https://h.example/flat/a+b.deb", "", ""},
	{"http://HTTPS///H.Example:443/p", "https://h.example/p", "", ""},
	{"http://HTTPS///h.example:80/p", "https://h.example:80/p", "", ""},
	{"http://us:pw@HTTPS///h.example/p", "https://h.example/p", "", "us:pw"},
	{"http://HTTPS///us:pw@h.example/p", "https://h.example/p", "", "us:pw"},
	{"http://a:b@HTTPS///us:p%40w@h.example/p", "https://h.example/p", "", "us:p%40w"},
	/* the marker in origin form */
	{"/HTTPS///h.example/p", "https://h.example/p", "", ""},
	{"/https/h.example/p", "https://h.example/p", "", ""},
	{"/HTTPS:443///h.example/p", "https://h.example/p", "", ""},
	{"//HTTPS///h.example/p", "https://h.example/p", "", ""},
	{"/https://h.example/p", "https://h.example/p", "", ""},
	{"/HTTPS///intranet/p", "https://intranet/p", "", ""},
	{"/HTTPS///us:pw@h.example/p", "https://h.example/p", "", "us:pw"},
	/* plain hosts */
	{"http://h.example/p", "http://h.example/p", "", ""},
	{"http://h.example", "http://h.example/", "", ""},
	{"http://intranet/p", "http://intranet/p", "", ""},
	{"http://h.example:8080/p?q", "http://h.example:8080/p?q", "", ""},
	{"https://h.example/p", "https://h.example/p", "", ""},
	{"http://us:pw@h.example/p", "http://h.example/p", "", "us:pw"},
	{"http://@h.example/p", "http://h.example/p", "", ""},
	{"http://@2026-11-01@h.example/p", "http://h.example/p", "", "@2026-11-01"},
	{"http://httpsx/p", "http://httpsx/p", "", ""},
	{"http://https.example/p", "http://https.example/p", "", ""},
	{"/h.example/p", "http://h.example/p", "", ""},
	{"/h.example", "http://h.example/", "", ""},
	{"/h.example?q", "http://h.example/?q", "", ""},
	{"/h:8080/p", "http://h:8080/p", "", ""},
	{"/[::1]/p", "http://[::1]/p", "", ""},
	{"/[::1]:8080/p", "http://[::1]:8080/p", "", ""},
	{"/us:pw@h.example/p", "http://h.example/p", "", "us:pw"},
	{"/h.example/../../q", "http://h.example/q", "", ""},
	{"/h.example/-/x", "http://h.example/-/x", "", ""},
	/* time travel */
	{"http://HTTPS///@2026-11-01/h.example/p", "https://h.example/p", "2026-11-01", ""},
	{"http://HTTPS///@2026-11-01T10:00:00Z//u:p@h.example/p", "https://h.example/p",
	    "2026-11-01T10:00:00Z", "u:p"},
	{"/HTTPS///@ci/h.example/p", "https://h.example/p", "ci", ""},
	{"/@ci/h.example/p", "http://h.example/p", "ci", ""},
	{"/@ci/up.example/p", "https://up.example/p", "ci", ""},
	/* https_upgrade: only the default port */
	{"http://up.example/p", "https://up.example/p", "", ""},
	{"http://UP.example:80/p", "https://up.example/p", "", ""},
	{"http://up.example.:080/p", "https://up.example/p", "", ""},
	{"/up.example/p", "https://up.example/p", "", ""},
	{"http://up.example:8080/p", "http://up.example:8080/p", "", ""},
	{"http://up.example:443/p", "http://up.example:443/p", "", ""},
	{"http://x.up.example/p", "http://x.up.example/p", "", ""},
	/* an absolute URL that names this depot is its path, once */
	{"http://depot.example:3142/HTTPS///h.example/p", "https://h.example/p", "", ""},
	{"http://Depot.Example/h.example/p", "http://h.example/p", "", ""},
	{"http://us:pw@depot.example:3142/h.example/p", "http://h.example/p", "", ""},
	{"http://depot.example:3142/@ci/h.example/p", "http://h.example/p", "ci", ""},
	{"http://depot.example:3142/depot.example:3142/p", "http://depot.example:3142/p", "", ""},
	{"http://depot.example:8080/p", "http://depot.example:8080/p", "", ""},
	{"https://depot.example/p", "https://depot.example/p", "", ""},
};

START_TEST(routes_objects)
{
	struct route rt;

	ck_assert_str_eq(reason_name(route(&rt, _i % 2 ? HTTP_GET : HTTP_HEAD, objects[_i].target,
	    sizeof(memory))), "OK");
	ck_assert_int_eq(rt.kind, ROUTE_OBJECT);
	ck_assert_str_eq(rt.url.text.p, objects[_i].text);
	ck_assert_msg(slice_eq(rt.at, slice_of(objects[_i].at)), "at %.*s", SLICE_ARG(rt.at));
	ck_assert_msg(slice_eq(rt.userinfo, slice_of(objects[_i].userinfo)), "userinfo %.*s",
	    SLICE_ARG(rt.userinfo));
	ck_assert_uint_eq(rt.url.tls, slice_starts(rt.url.text, SLICE("https:")));
}
END_TEST

/* What is no object. */
static const struct {
	enum http_method method;
	const char *target;
	enum reason reason;
	enum route_kind kind;
	const char *page, *query;
} others[] = {
	{HTTP_GET, "/", REASON_OK, ROUTE_USAGE, "", ""},
	{HTTP_HEAD, "/", REASON_OK, ROUTE_USAGE, "", ""},
	{HTTP_GET, "//", REASON_OK, ROUTE_USAGE, "", ""},
	{HTTP_GET, "/?x", REASON_OK, ROUTE_USAGE, "", ""},
	{HTTP_GET, "http://depot.example:3142", REASON_OK, ROUTE_USAGE, "", ""},
	{HTTP_GET, "/-", REASON_OK, ROUTE_PAGE, "", ""},
	{HTTP_GET, "/-/", REASON_OK, ROUTE_PAGE, "", ""},
	{HTTP_GET, "/-?a", REASON_OK, ROUTE_PAGE, "", "a"},
	{HTTP_GET, "/-/healthz", REASON_OK, ROUTE_PAGE, "healthz", ""},
	{HTTP_GET, "/-/explain?url=http://h/?x", REASON_OK, ROUTE_PAGE, "explain",
	    "url=http://h/?x"},
	{HTTP_GET, "/-/api/v1/x", REASON_OK, ROUTE_PAGE, "api/v1/x", ""},
	{HTTP_GET, "http://depot.example:3142/-/metrics", REASON_OK, ROUTE_PAGE, "metrics", ""},
	{HTTP_GET, "http://us:pw@depot.example:3142/-/x", REASON_OK, ROUTE_PAGE, "x", ""},
	{HTTP_GET, "/acng-report.html", REASON_OK, ROUTE_REPORT, "", ""},
	{HTTP_GET, "/acng-report.html?doCount=1", REASON_OK, ROUTE_REPORT, "", "doCount=1"},
	{HTTP_GET, "/foo", REASON_NOT_FOUND_LOCAL, 0, NULL, NULL},
	{HTTP_GET, "/foo/b.deb", REASON_NOT_FOUND_LOCAL, 0, NULL, NULL},
	{HTTP_GET, "/-x/", REASON_NOT_FOUND_LOCAL, 0, NULL, NULL},
	{HTTP_GET, "/foo:/b.deb", REASON_NOT_FOUND_LOCAL, 0, NULL, NULL},
	{HTTP_GET, "/http://h.example/p", REASON_NOT_FOUND_LOCAL, 0, NULL, NULL},
	{HTTP_GET, "/:/p", REASON_NOT_FOUND_LOCAL, 0, NULL, NULL},
	{HTTP_GET, "/@ci/foo/p", REASON_NOT_FOUND_LOCAL, 0, NULL, NULL},
	{HTTP_GET, "/@ci/HTTPS/h.example/p", REASON_NOT_FOUND_LOCAL, 0, NULL, NULL},
	{HTTP_GET, "http://depot.example:3142/foo", REASON_NOT_FOUND_LOCAL, 0, NULL, NULL},
	{HTTP_GET, "/a:b/p", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "/@ci", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "/@ci/", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "/@/h.example/p", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "/@ci?h.example/p", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "/HTTPS", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "/HTTPS///", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "/HTTPS?h.example", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "/HTTPS///../h.example", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "http://HTTPS", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "http://HTTPS///", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "http://HTTPS///@ci/", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "http://HTTPS///h.example:x/", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "http://", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "http:///p", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "ftp://h.example/", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "h.example:443", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "h.example/p", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "*", REASON_TARGET, 0, NULL, NULL},
	{HTTP_GET, "", REASON_TARGET, 0, NULL, NULL},
	{HTTP_OTHER, "/", REASON_METHOD, 0, NULL, NULL},
	{HTTP_OTHER, "*", REASON_METHOD, 0, NULL, NULL},
	{HTTP_OTHER, "http://h.example/", REASON_METHOD, 0, NULL, NULL},
	{HTTP_CONNECT, "/", REASON_METHOD, 0, NULL, NULL},
	{HTTP_CONNECT, "h.example", REASON_TARGET, 0, NULL, NULL},
	{HTTP_CONNECT, "h.example:", REASON_TARGET, 0, NULL, NULL},
	{HTTP_CONNECT, "h.example:0", REASON_TARGET, 0, NULL, NULL},
	{HTTP_CONNECT, ":443", REASON_TARGET, 0, NULL, NULL},
	{HTTP_CONNECT, "u@h.example:443", REASON_TARGET, 0, NULL, NULL},
	{HTTP_CONNECT, "https://h.example:443", REASON_TARGET, 0, NULL, NULL},
	{HTTP_CONNECT, "h.example:443/", REASON_TARGET, 0, NULL, NULL},
	{HTTP_CONNECT, "::1:443", REASON_TARGET, 0, NULL, NULL},
	{HTTP_CONNECT, "[::1]", REASON_TARGET, 0, NULL, NULL},
};

START_TEST(routes_the_rest)
{
	struct route rt = {.port = 7};

	ck_assert_str_eq(reason_name(route(&rt, others[_i].method, others[_i].target,
	    sizeof(memory))), reason_name(others[_i].reason));
	if (others[_i].reason != REASON_OK) {
		ck_assert_uint_eq(rt.port, 7);	/* untouched */
		return;
	}
	ck_assert_int_eq(rt.kind, others[_i].kind);
	ck_assert_uint_eq(rt.userinfo.n, 0);
	ck_assert_ptr_null(rt.url.text.p);
	ck_assert_msg(slice_eq(rt.page, slice_of(others[_i].page)), "page %.*s",
	    SLICE_ARG(rt.page));
	ck_assert_msg(slice_eq(rt.query, slice_of(others[_i].query)), "query %.*s",
	    SLICE_ARG(rt.query));
}
END_TEST

START_TEST(routes_tunnels)
{
	static const struct {
		const char *target, *host;
		uint16_t port;
	} rows[] = {
		{"Developer.Example:443", "developer.example", 443},
		{"h.example.:8443", "h.example", 8443},
		{"[2001:DB8::0:1]:443", "2001:db8::1", 443},
		{"192.0.2.1:443", "192.0.2.1", 443},
	};
	struct route rt;
	size_t i;

	for (i = 0; i < NELEM(rows); i++) {
		ck_assert_int_eq(route(&rt, HTTP_CONNECT, rows[i].target, sizeof(memory)),
		    REASON_OK);
		ck_assert_int_eq(rt.kind, ROUTE_TUNNEL);
		ck_assert_str_eq(rt.host.p, rows[i].host);
		ck_assert_uint_eq(rt.host.n, strlen(rows[i].host));
		ck_assert_uint_eq(rt.port, rows[i].port);
	}
}
END_TEST

START_TEST(needs_room)
{
	struct route rt;

	ck_assert_int_eq(route(&rt, HTTP_GET, "/h.example/p", 60), REASON_REQ_URI_TOO_LONG);
	ck_assert_int_eq(route(&rt, HTTP_CONNECT, "h.example:443", 20), REASON_REQ_URI_TOO_LONG);
}
END_TEST

START_TEST(works_without_configuration)
{
	const struct route_conf conf = {0};
	struct httpreq req = {.method = HTTP_GET, .target = SLICE("http://up.example/p")};
	struct arena a;
	struct route rt;

	arena_init(&a, memory, sizeof(memory));
	ck_assert_int_eq(route_parse(&rt, &a, &req, &conf), REASON_OK);
	ck_assert_str_eq(rt.url.text.p, "http://up.example/p");
}
END_TEST

/* On a connection that is for one host: what is asked, Host, and what it comes to. */
static const struct {
	bool tls;
	const char *inside;		/* "": the Host field says */
	uint16_t port;
	enum http_method method;
	const char *target, *host, *text;
	enum reason want;
} inside_rows[] = {
	{true, "h.example", 443, HTTP_GET, "/p", "h.example", "https://h.example/p", REASON_OK},
	{true, "h.example", 443, HTTP_HEAD, "//p//q", "H.example.:443", "https://h.example/p/q",
	    REASON_OK},
	{true, "h.example", 443, HTTP_GET, "/", "h.example", "https://h.example/", REASON_OK},
	{true, "h.example", 443, HTTP_GET, "/-/metrics", "h.example",
	    "https://h.example/-/metrics", REASON_OK},
	{true, "h.example", 443, HTTP_GET, "/HTTPS///o.example/p", "h.example",
	    "https://h.example/HTTPS/o.example/p", REASON_OK},
	{true, "h.example", 443, HTTP_GET, "/@2026-01-01/p", "h.example",
	    "https://h.example/@2026-01-01/p", REASON_OK},
	{true, "h.example", 8443, HTTP_GET, "/p", "h.example:8443", "https://h.example:8443/p",
	    REASON_OK},
	{true, "h.example", 8443, HTTP_GET, "/p", "h.example", NULL, REASON_MISDIRECTED},
	{true, "h.example", 443, HTTP_GET, "/p", NULL, "https://h.example/p", REASON_OK},
	{true, "h.example", 443, HTTP_GET, "/p", "o.example", NULL, REASON_MISDIRECTED},
	{true, "h.example", 443, HTTP_GET, "/p", "HTTPS", NULL, REASON_MISDIRECTED},
	{true, "h.example", 443, HTTP_GET, "/p", "h.example:80", NULL, REASON_MISDIRECTED},
	{true, "h.example", 443, HTTP_GET, "https://h.example/p", "o.example",
	    "https://h.example/p", REASON_OK},
	{true, "h.example", 443, HTTP_GET, "https://o.example/p", "h.example", NULL,
	    REASON_MISDIRECTED},
	{true, "h.example", 443, HTTP_GET, "http://h.example/p", "h.example", NULL,
	    REASON_MISDIRECTED},
	{true, "h.example", 443, HTTP_GET, "*", "h.example", NULL, REASON_TARGET},
	{true, "h.example", 443, HTTP_CONNECT, "h.example:443", "h.example", NULL, REASON_METHOD},
	{true, "2001:db8::1", 443, HTTP_GET, "/p", "[2001:DB8:0::1]", "https://[2001:db8::1]/p",
	    REASON_OK},
	{false, "", 0, HTTP_GET, "/p", "h.example", "http://h.example/p", REASON_OK},
	{false, "", 0, HTTP_GET, "/-/metrics", "h.example:8080",
	    "http://h.example:8080/-/metrics", REASON_OK},
	{false, "", 0, HTTP_GET, "/p", "up.example", "https://up.example/p", REASON_OK},
	{false, "", 0, HTTP_GET, "http://o.example/p", "h.example", "http://o.example/p", REASON_OK},
	{false, "", 0, HTTP_GET, "https://o.example/p", "h.example", NULL, REASON_MISDIRECTED},
	{false, "", 0, HTTP_GET, "/p", NULL, NULL, REASON_TARGET},
	{false, "", 0, HTTP_GET, "/p", "depot.example", NULL, REASON_LOOP},
	{false, "", 0, HTTP_GET, "/p", "depot.example:3142", NULL, REASON_LOOP},
	{false, "", 0, HTTP_CONNECT, "h.example:443", "h.example", NULL, REASON_METHOD},
};

START_TEST(routes_inside)
{
	const struct route_conf conf = {.https_upgrade = &upgrade, .is_self = is_self};
	struct route_inside in = {.tls = inside_rows[_i].tls, .port = inside_rows[_i].port,
	    .host = slice_of(inside_rows[_i].inside)};
	struct httpreq req = {.method = inside_rows[_i].method,
	    .target = slice_of(inside_rows[_i].target), .host = slice_of(inside_rows[_i].host)};
	struct arena a;
	struct route rt;

	arena_init(&a, memory, sizeof(memory));
	ck_assert_int_eq(route_parse_inside(&rt, &a, &req, &conf, &in), inside_rows[_i].want);
	if (inside_rows[_i].want != REASON_OK)
		return;
	ck_assert_int_eq(rt.kind, ROUTE_OBJECT);
	ck_assert_str_eq(rt.url.text.p, inside_rows[_i].text);
	ck_assert_uint_eq(rt.at.n, 0);
}
END_TEST

Suite *
check_route_suite(void)
{
	Suite *s = suite_create("route");
	TCase *t = tcase_create("route");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, routes_objects, 0, NELEM(objects));
	tcase_add_loop_test(t, routes_the_rest, 0, NELEM(others));
	tcase_add_test(t, routes_tunnels);
	tcase_add_test(t, needs_room);
	tcase_add_test(t, works_without_configuration);
	tcase_add_loop_test(t, routes_inside, 0, NELEM(inside_rows));
	suite_add_tcase(s, t);
	return s;
}
