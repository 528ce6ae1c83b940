/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* May it be served now? By class, and by RFC 9111 for the rest. */
#include "include/fresh.h"

#include <check.h>

#include "include/obj.h"

Suite *check_fresh_suite(void);

enum { T0 = 1000000, DAY = 86400, NONE = -1 };

/* One question: an object checked at T0, asked for age_s later. */
struct row {
	const char *what;
	enum aptfile_class class;
	int64_t after_s;		/* now - checked_at */
	int64_t lifetime_s, age_s;
	int64_t unchanged_s;		/* Date - Last-Modified; NONE: no Last-Modified */
	bool no_cache, must_revalidate;
	bool ask_no_cache;
	int64_t ask_max_age_s;
	int64_t index_max_age_s;
	bool offline;
	enum fresh_verdict verdict;
};

#define REL APTFILE_RELEASE
#define OTH APTFILE_OTHER
#define PKG APTFILE_PACKAGE

static const struct row rows[] = {
	{"by-hash", APTFILE_BYHASH, 99 * DAY, 0, 0, NONE, true, true, false, NONE, 0, false,
	    FRESH_HIT},
	{"by-hash, no-cache", APTFILE_BYHASH, 0, 0, 0, NONE, false, false, true, 0, 0, false,
	    FRESH_HIT},
	{"package", PKG, 99 * DAY, 0, 0, NONE, true, true, false, 0, 0, false, FRESH_HIT},
	{"package, no-cache", PKG, 0, 99, 0, NONE, false, false, true, NONE, 0, false, FRESH_CHECK},
	{"release, default", REL, 0, 999, 0, NONE, false, false, false, 0, 0, false, FRESH_CHECK},
	{"release, within", REL, 59, 0, 0, NONE, true, true, false, 0, 60, false, FRESH_HIT},
	{"release, at the limit", REL, 60, 0, 0, NONE, false, false, false, 0, 60, false,
	    FRESH_CHECK},
	{"release, no-cache", REL, 1, 999, 0, NONE, false, false, true, NONE, 60, false,
	    FRESH_CHECK},
	{"release, clock set back", REL, -5, 0, 0, NONE, false, false, false, 0, 60, false,
	    FRESH_CHECK},
	{"index, within", APTFILE_INDEX, 59, 0, 0, NONE, false, false, false, 0, 60, false,
	    FRESH_HIT},
	{"index, later", APTFILE_INDEX, 61, 0, 0, NONE, false, false, false, NONE, 60, false,
	    FRESH_CHECK},
	{"offline release", REL, 99 * DAY, 0, 0, NONE, true, true, true, 0, 0, true, FRESH_HIT},
	{"offline other", OTH, 99 * DAY, 0, 0, NONE, true, true, true, 0, 0, true, FRESH_HIT},
	{"max-age", OTH, 99, 100, 0, NONE, false, false, false, NONE, 0, false, FRESH_HIT},
	{"max-age reached", OTH, 100, 100, 0, NONE, false, false, false, NONE, 0, false,
	    FRESH_CHECK},
	{"Age counts", OTH, 50, 100, 50, NONE, false, false, false, NONE, 0, false, FRESH_CHECK},
	{"must-revalidate, fresh", OTH, 1, 100, 0, NONE, false, true, false, NONE, 0, false,
	    FRESH_HIT},
	{"must-revalidate, stale", OTH, 100, 100, 0, NONE, false, true, false, NONE, 0, false,
	    FRESH_CHECK_STRICT},
	{"answer's no-cache", OTH, 0, 100, 0, NONE, true, false, false, NONE, 0, false,
	    FRESH_CHECK_STRICT},
	{"request's no-cache", OTH, 0, 100, 0, NONE, false, false, true, NONE, 0, false,
	    FRESH_CHECK},
	{"request's no-cache, must-revalidate", OTH, 0, 100, 0, NONE, false, true, true, NONE, 0,
	    false, FRESH_CHECK},
	{"request's max-age=0", OTH, 0, 100, 0, NONE, false, false, false, 0, 0, false,
	    FRESH_CHECK},
	{"request's max-age", OTH, 10, 100, 0, NONE, false, false, false, 10, 0, false, FRESH_HIT},
	{"request's max-age, older", OTH, 11, 100, 0, NONE, false, false, false, 10, 0, false,
	    FRESH_CHECK},
	{"max-age=0", OTH, 0, 0, 0, 99 * DAY, false, false, false, NONE, 0, false, FRESH_CHECK},
	{"heuristic", OTH, 99, NONE, 0, 1000, false, false, false, NONE, 0, false, FRESH_HIT},
	{"heuristic over", OTH, 100, NONE, 0, 1000, false, false, false, NONE, 0, false,
	    FRESH_CHECK},
	{"heuristic, at most a day", OTH, DAY, NONE, 0, 999 * DAY, false, false, false, NONE, 0,
	    false, FRESH_CHECK},
	{"heuristic, nearly a day", OTH, DAY - 1, NONE, 0, 999 * DAY, false, false, false, NONE, 0,
	    false, FRESH_HIT},
	{"changed after Date", OTH, 0, NONE, 0, -9, false, false, false, NONE, 0, false,
	    FRESH_CHECK},
	{"nothing known", OTH, 0, NONE, 0, NONE, false, false, false, NONE, 0, false, FRESH_CHECK},
	{"clock set back", OTH, -5, 100, 0, NONE, false, false, false, NONE, 0, false, FRESH_CHECK},
	{"absurd Age", OTH, 0, 100, INT64_MAX, NONE, false, false, false, NONE, 0, false,
	    FRESH_CHECK},
	{"absurd lifetime", OTH, 5, INT64_MAX, 0, NONE, false, false, false, NONE, 0, false,
	    FRESH_HIT},
};

static struct fresh_terms
terms_of(const struct row *r)
{
	return (struct fresh_terms){.checked_at_s = T0, .date_s = T0, .age_s = r->age_s,
	    .lifetime_s = r->lifetime_s,
	    .last_modified_s = r->unchanged_s == NONE ? INT64_MIN : T0 - r->unchanged_s,
	    .stale_if_error_s = NONE, .no_cache = r->no_cache,
	    .must_revalidate = r->must_revalidate};
}

START_TEST(judges)
{
	const struct row *r = &rows[_i];
	const struct fresh_terms t = terms_of(r);
	const struct aptfile af = {.class = r->class};
	const struct fresh_ask ask = {.no_cache = r->ask_no_cache, .max_age_s = r->ask_max_age_s};
	const struct fresh_policy p = {.now_s = T0 + r->after_s,
	    .index_max_age_s = r->index_max_age_s, .offline = r->offline};
	enum fresh_verdict v = fresh_judge(&af, &t, &ask, &p);

	ck_assert_msg(v == r->verdict, "%s: verdict %d, not %d", r->what, v, r->verdict);
}
END_TEST

static const struct {
	const char *what;
	enum aptfile_class class;
	int64_t after_s, lifetime_s, origin_s, policy_s;
	bool no_cache, must_revalidate, offline, ok;
} stales[] = {
	{"by-hash", APTFILE_BYHASH, 99 * DAY, NONE, NONE, 0, true, true, false, true},
	{"package", PKG, 99 * DAY, NONE, NONE, 0, true, true, false, true},
	{"release, within", REL, 30 * DAY, NONE, NONE, 30 * DAY, true, true, false, true},
	{"release, beyond", REL, 30 * DAY + 1, NONE, NONE, 30 * DAY, false, false, false, false},
	{"release, switched off", REL, 0, NONE, NONE, 0, false, false, false, false},
	{"release, offline", REL, 99 * DAY, NONE, NONE, 0, true, true, true, true},
	{"other, ours", OTH, 110, 10, NONE, 100, false, false, false, true},
	{"other, ours, beyond", OTH, 111, 10, NONE, 100, false, false, false, false},
	{"other, the origin's is longer", OTH, 200, 10, 190, 100, false, false, false, true},
	{"other, the origin's is shorter", OTH, 50, 10, 20, 100, false, false, false, false},
	{"other, the origin forbids", OTH, 10, 10, 0, 100, false, false, false, false},
	{"other, must-revalidate", OTH, 20, 10, NONE, 100, false, true, false, false},
	{"other, must-revalidate, still fresh", OTH, 5, 10, NONE, 100, false, true, false, true},
	{"other, no-cache", OTH, 5, 10, 99, 100, true, false, false, false},
	{"other, switched off", OTH, 20, 10, NONE, 0, false, false, false, false},
	{"other, offline", OTH, 20, 10, 0, 0, true, true, true, true},
};

START_TEST(allows_stale)
{
	const struct fresh_terms t = {.checked_at_s = T0, .date_s = T0,
	    .lifetime_s = stales[_i].lifetime_s, .last_modified_s = INT64_MIN,
	    .stale_if_error_s = stales[_i].origin_s, .no_cache = stales[_i].no_cache,
	    .must_revalidate = stales[_i].must_revalidate};
	const struct aptfile af = {.class = stales[_i].class};
	const struct fresh_policy p = {.now_s = T0 + stales[_i].after_s,
	    .stale_if_error_s = stales[_i].policy_s, .offline = stales[_i].offline};

	ck_assert_msg(fresh_stale_ok(&af, &t, &p) == stales[_i].ok, "%s", stales[_i].what);
}
END_TEST

START_TEST(counts_age)
{
	struct fresh_terms t = {.checked_at_s = T0, .date_s = T0, .age_s = 0};

	ck_assert_int_eq(fresh_age(&t, T0), 0);
	ck_assert_int_eq(fresh_age(&t, T0 + 7), 7);
	ck_assert_int_eq(fresh_age(&t, T0 - 7), 0);
	t.date_s = T0 - 30;	/* it was 30 s under way, says Date */
	ck_assert_int_eq(fresh_age(&t, T0 + 7), 37);
	t.age_s = 50;		/* the larger of both counts, not the sum */
	ck_assert_int_eq(fresh_age(&t, T0 + 7), 57);
	t.date_s = T0 + 30;
	t.age_s = -4;
	ck_assert_int_eq(fresh_age(&t, T0 + 7), 7);
	t.date_s = INT64_MIN;
	t.age_s = INT64_MAX;
	ck_assert_int_eq(fresh_age(&t, INT64_MAX), INT32_MAX);
}
END_TEST

Suite *
check_fresh_suite(void)
{
	Suite *s = suite_create("fresh");
	TCase *t = tcase_create("fresh");

	tcase_add_loop_test(t, judges, 0, NELEM(rows));
	tcase_add_loop_test(t, allows_stale, 0, NELEM(stales));
	tcase_add_test(t, counts_age);
	suite_add_tcase(s, t);
	return s;
}
