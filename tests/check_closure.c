/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* What an installation needs, and in which order apt asks for it. */
#include "cache/closure_priv.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *check_closure_suite(void);

static char why[CLOSURE_WHY_BYTES];

/*
 * Packages in short: "name version arch priority; Field: value; ...", a line each. The digest is
 * the line's number, so that lines are told apart.
 */
static struct closure *
build(const char *text, bool reverse, uint64_t max_bytes, enum reason want)
{
	struct closure *c = closure_new(max_bytes);
	enum reason r = closure_begin_list(c, UNPACK_PLAIN, 16 << 20, slice_of("amd64"));
	char line[1024], out[2048], name[64], version[64], arch[32], priority[32];
	unsigned number = 0;

	while (*text != '\0' && r == REASON_OK) {
		size_t n = strcspn(text, "\n");
		char *fields;

		ck_assert_uint_lt(n, sizeof(line));
		memcpy(line, text, n);
		line[n] = '\0';
		text += n + (text[n] != '\0');
		fields = strchr(line, ';');
		if (fields != NULL)
			*fields++ = '\0';
		ck_assert_int_eq(sscanf(line, "%63s %63s %31s %31s", name, version, arch, priority), 4);
		n = (size_t)snprintf(out, sizeof(out), "Package: %s\nVersion: %s\nArchitecture: %s\n"
		    "Priority: %s\nFilename: ./%s_%s_%s.deb\nSize: %u\nSHA256: %064x\n", name, version,
		    arch, priority, name, version, arch, 1000 + number, number);
		number++;
		for (char *f = fields != NULL ? strtok(fields, ";") : NULL; f != NULL; f = strtok(NULL, ";"))
			n += (size_t)snprintf(out + n, sizeof(out) - n, "%s\n", f + strspn(f, " "));
		n += (size_t)snprintf(out + n, sizeof(out) - n, "\n");
		r = closure_feed(c, out, n);
	}
	if (r == REASON_OK)
		r = closure_end_list(c);
	if (r == REASON_OK)
		r = closure_finish(c, reverse);
	memcpy(why, closure_why(c), sizeof(why));
	ck_assert_int_eq(r, want);
	if (r != REASON_OK)
		closure_free(&c);
	return c;
}

#define CUDA                                                                   \
	"cuda 12.4-1 amd64 optional; Depends: cuda-12-4 (>= 12.4)\n"           \
	"cuda-12-4 12.4-1 amd64 optional; Depends: toolkit (>= 12.4), demo, drivers (>= 550)\n" \
	"toolkit 12.4-1 amd64 optional; Depends: compiler (= 12.4-1), libs, common\n" \
	"toolkit 12.5-1 amd64 optional; Depends: compiler (= 12.5-1), libs, common\n" \
	"compiler 12.4-1 amd64 optional; Depends: nvcc (= 12.4-1), objdump\n"  \
	"compiler 12.5-1 amd64 optional; Depends: nvcc (= 12.5-1), objdump\n"  \
	"nvcc 12.4-1 amd64 optional; Depends: cudart\n"                        \
	"nvcc 12.5-1 amd64 optional; Depends: cudart\n"                        \
	"objdump 1 amd64 optional\ncudart 1 amd64 optional; Depends: common\n" \
	"common 1 all optional\nlibs 1 amd64 optional; Depends: common, libc6 (>= 2.31)\n" \
	"demo 1 amd64 optional; Depends: cudart\n"                             \
	"drivers 550 amd64 optional; Depends: driver\n"                        \
	"driver 550 amd64 optional; Pre-Depends: kmod; Depends: dlib\n"        \
	"dlib 550 amd64 optional\nkmod 1 amd64 optional\n"

#define BASE                                                                   \
	"libc6 2.36 amd64 optional; Depends: libgcc\nlibgcc 12 amd64 optional\n" \
	"dpkg 1.21 amd64 required; Essential: yes; Pre-Depends: libc6\n"       \
	"ssl 3 amd64 optional; Depends: libc6, certs | certs-ng; Recommends: extra, gone\n" \
	"certs-ng 1 all optional\ncerts 2 all optional\nextra 1 all optional; Depends: deep\n" \
	"deep 1 all optional\n"                                                \
	"app 1 amd64 optional; Depends: mta, ssl\n"                            \
	"exim 4 amd64 optional; Provides: mta\npostfix 3 amd64 optional; Provides: mta\n" \
	"vapp 1 amd64 optional; Depends: abi (= 2)\n"                          \
	"p1 1 amd64 optional; Provides: abi (= 1)\np2 1 amd64 optional; Provides: abi (= 2)\n" \
	"p2 2 amd64 optional; Provides: abi (= 2)\n"                           \
	"a 1 amd64 optional; Depends: b\nb 1 amd64 optional; Depends: a\n"     \
	"m 1 amd64 optional; Depends: lib\nm 1 arm64 optional; Depends: lib\n" \
	"lib 1 amd64 optional\nlib 2 arm64 optional\n"                         \
	"q 1 amd64 optional; Depends: lib:any, python:any [x] <!y>\npython 3 amd64 optional\n" \
	"old 1 amd64 optional; Depends: r (<< 2)\nr 1 amd64 optional\nr 2 amd64 optional\n" \
	"strict 1 amd64 optional; Depends: r (>> 2)\n"

static const struct {
	const char *model, *roots, *want;
	const char *present;		/* "base", or a name */
	bool recommends;
	unsigned missing_n;
} rows[] = {
	/* What apt 2.6 asks for, in its order. */
	{CUDA, "cuda-12-4", "common cudart nvcc=12.5-1 objdump compiler=12.5-1 libs toolkit=12.5-1 "
	    "demo kmod dlib driver drivers cuda-12-4", NULL, false, 1},
	/* Metapackages say = what they are of: the older ones stay among themselves. */
	{CUDA, "toolkit=12.4-1", "common cudart nvcc=12.4-1 objdump compiler=12.4-1 libs "
	    "toolkit=12.4-1", NULL, false, 1},
	{CUDA, "toolkit", "nvcc=12.5-1 objdump compiler=12.5-1 libs toolkit=12.5-1", "cudart,common",
	    false, 1},
	{CUDA, "toolkit=12.4-1 cuda-12-4", "common cudart nvcc=12.4-1 objdump compiler=12.4-1 libs "
	    "toolkit=12.4-1 demo kmod dlib driver drivers cuda-12-4", NULL, false, 1},
	{CUDA, "cuda", "", "cuda", false, 0},
	{BASE, "ssl", "libgcc libc6 certs ssl", NULL, false, 0},
	{BASE, "ssl", "certs ssl", "base", false, 0},
	{BASE, "dpkg", "dpkg", "base", false, 0},
	{BASE, "dpkg", "libgcc libc6 dpkg", NULL, false, 0},
	{BASE, "ssl certs-ng", "ssl certs-ng", "base,certs", false, 0},
	{BASE, "certs-ng ssl", "certs-ng ssl", "base", false, 0},
	{BASE, "ssl certs-ng", "certs-ng ssl", "base", false, 0},
	{BASE, "ssl", "certs ssl deep extra", "base", true, 0},
	{BASE, "app", "exim certs ssl app", "base", false, 0},
	{BASE, "app postfix", "postfix certs ssl app", "base", false, 0},
	{BASE, "mta", "exim", "base", false, 0},
	{BASE, "vapp", "p2=2 vapp", NULL, false, 0},
	{BASE, "a", "b a", NULL, false, 0},
	{BASE, "m", "lib=1 m", NULL, false, 0},
	{BASE, "m:arm64", "lib=2 m", NULL, false, 0},
	{BASE, "q", "lib python q", NULL, false, 0},
	{BASE, "old", "r=1 old", NULL, false, 0},
	{BASE, "strict", "strict", NULL, false, 1},
	{BASE, "r=2 old", "r=2 r=1 old", NULL, false, 0},
};

/* Marks each name of a list, separated by commas, as present. */
static void
mark_present(struct closure_walk *w, const char *list)
{
	char copy[128];

	(void)snprintf(copy, sizeof(copy), "%s", list);
	for (char *p = strtok(copy, ","); p != NULL; p = strtok(NULL, ","))
		if (strcmp(p, "base") == 0)
			closure_walk_present_base(w);
		else
			closure_walk_present(w, slice_of(p));
}

/* The walk's order as words; versions only where the row has them. */
static void
check_order(const struct closure *c, const struct closure_walk *w, const char *want)
{
	char copy[512], *rest = NULL, got[512] = "";
	const uint32_t *order;
	unsigned n, k = 0;

	order = closure_walk_order(w, &n);
	for (unsigned i = 0; i < n; i++) {
		struct closure_package p;

		closure_get(c, order[i], &p);
		(void)snprintf(got + strlen(got), sizeof(got) - strlen(got), "%.*s=%.*s ",
		    SLICE_ARG(p.name), SLICE_ARG(p.version));
	}
	(void)snprintf(copy, sizeof(copy), "%s", want);
	for (char *p = strtok_r(copy, " ", &rest); p != NULL; p = strtok_r(NULL, " ", &rest), k++) {
		struct closure_package is;

		ck_assert_msg(k < n, "ends before %s: %s", p, got);
		closure_get(c, order[k], &is);
		ck_assert_msg(slice_eq(is.name, (struct slice){p, strcspn(p, "=")}), "%s at %u: %s", p, k,
		    got);
		if (strchr(p, '=') != NULL)
			ck_assert_msg(slice_eq(is.version, slice_of(strchr(p, '=') + 1)), "%s: %s", p, got);
	}
	ck_assert_msg(k == n, "more than \"%s\": %s", want, got);
}

START_TEST(test_row)
{
	struct closure *c = build(rows[_i].model, false, 1 << 20, REASON_OK);
	struct closure_walk *w = closure_walk_new(c, rows[_i].recommends);
	struct slice missing[CLOSURE_MISSING_MAX];
	uint32_t roots[8];
	unsigned n = 0;
	char copy[128];

	(void)snprintf(copy, sizeof(copy), "%s", rows[_i].roots);
	for (char *p = strtok(copy, " "); p != NULL; p = strtok(NULL, " "))
		ck_assert_int_eq(closure_find(c, slice_of(p), SLICE("amd64"), &roots[n++]),
		    CLOSURE_FOUND);
	/* The second time nothing of the first is left. */
	for (unsigned again = 0; again < 2; again++) {
		unsigned kept_n;

		if (rows[_i].present != NULL)
			mark_present(w, rows[_i].present);
		ck_assert_int_eq(closure_walk_add(w, roots, n), REASON_OK);
		check_order(c, w, rows[_i].want);
		ck_assert_uint_eq(closure_walk_missing(w, missing, &kept_n), rows[_i].missing_n);
		ck_assert_uint_eq(kept_n, rows[_i].missing_n);
		closure_walk_reset(w);
	}
	closure_walk_free(&w);
	closure_free(&c);
}
END_TEST

START_TEST(test_find)
{
	struct closure *c = build(CUDA BASE, false, 1 << 20, REASON_OK);
	struct closure_package p;
	uint32_t i;

	ck_assert_int_eq(closure_find(c, SLICE("toolkit=9"), SLICE("amd64"), &i), CLOSURE_NO_VERSION);
	ck_assert_int_eq(closure_find(c, SLICE("tolkit"), SLICE("amd64"), &i), CLOSURE_NO_NAME);
	ck_assert_int_eq(closure_find(c, SLICE(""), SLICE("amd64"), &i), CLOSURE_NO_NAME);
	ck_assert_int_eq(closure_find(c, SLICE("common:amd64"), SLICE("amd64"), &i), CLOSURE_FOUND);
	ck_assert_int_eq(closure_find(c, SLICE("lib:arm64=2"), SLICE("amd64"), &i), CLOSURE_FOUND);
	closure_get(c, i, &p);
	ck_assert(slice_eq(p.filename, SLICE("./lib_2_arm64.deb")));
	ck_assert_uint_eq(closure_find_digest(c, p.sha256), i);
	ck_assert_uint_eq(p.size_bytes, 1000 + p.sha256[31]);
	ck_assert_uint_eq(closure_find_digest(c, (const uint8_t[32]){9}), CLOSURE_NONE);
	closure_free(&c);
}
END_TEST

START_TEST(test_near)
{
	struct closure *c = build(CUDA, false, 1 << 20, REASON_OK);
	struct slice near[CLOSURE_NEAR_MAX];

	ck_assert_uint_ge(closure_near(c, SLICE("tolkit"), near), 1);
	ck_assert(slice_eq(near[0], SLICE("toolkit")));
	ck_assert_uint_ge(closure_near(c, SLICE("cuda"), near), 2);
	ck_assert(slice_eq(near[0], SLICE("cuda")));
	ck_assert_uint_eq(closure_near(c, SLICE("something-else"), near), 0);
	closure_free(&c);
}
END_TEST

START_TEST(test_dependants)
{
	struct closure *c = build(CUDA, true, 1 << 20, REASON_OK);
	struct closure_package p;
	uint32_t i, out[8];

	ck_assert_int_eq(closure_find(c, SLICE("nvcc=12.4-1"), SLICE_NONE, &i), CLOSURE_FOUND);
	ck_assert_uint_eq(closure_dependants(c, i, out, 8), 1);
	closure_get(c, out[0], &p);
	ck_assert(slice_eq(p.name, SLICE("compiler")) && slice_eq(p.version, SLICE("12.4-1")));
	ck_assert_int_eq(closure_find(c, SLICE("common"), SLICE_NONE, &i), CLOSURE_FOUND);
	ck_assert_uint_eq(closure_dependants(c, i, out, 8), 4);
	ck_assert_uint_eq(closure_dependants(c, i, out, 2), 2);
	ck_assert_int_eq(closure_find(c, SLICE("cuda"), SLICE_NONE, &i), CLOSURE_FOUND);
	ck_assert_uint_eq(closure_dependants(c, i, out, 8), 0);
	closure_free(&c);
}
END_TEST

/* It says how much it may take, and takes no more. */
START_TEST(test_bounded)
{
	(void)build(CUDA BASE, true, 2000, REASON_NO_MEMORY);
	ck_assert_str_eq(why, "the list needs more than 2000 bytes of memory");
}
END_TEST

/* A chain that is deeper than is looked at ends, and so does one that goes in circles. */
START_TEST(test_deep)
{
	enum { N = CLOSURE_DEPTH_MAX + 100 };
	char *text = malloc(N * 80), *p = text;
	struct closure *c;
	struct closure_walk *w;
	uint32_t root;
	unsigned n;

	for (unsigned i = 0; i < N; i++)
		p += sprintf(p, "d%u 1 all optional; Depends: d%u, d%u\n", i, i + 1, i == 0 ? 1 : i - 1);
	c = build(text, true, 8 << 20, REASON_OK);
	w = closure_walk_new(c, false);
	ck_assert_int_eq(closure_find(c, SLICE("d0"), SLICE_NONE, &root), CLOSURE_FOUND);
	ck_assert_int_eq(closure_walk_add(w, &root, 1), REASON_OK);
	(void)closure_walk_order(w, &n);
	ck_assert_uint_eq(n, CLOSURE_DEPTH_MAX);
	closure_walk_free(&w);
	closure_free(&c);
	free(text);
}
END_TEST

/* So many packages, each with these fields. */
static struct closure *
build_many(unsigned n, const char *fields, bool reverse, enum reason want)
{
	char *text = malloc((size_t)n * (40 + strlen(fields))), *p = text;
	struct closure *c;

	for (unsigned i = 0; i < n; i++)
		p += sprintf(p, "m%u 1 amd64 optional; %s\n", i, fields);
	c = build(text, reverse, 64 << 20, want);
	free(text);
	return c;
}

/* Looking at every provider for every package ends, where who needs whom is noted and in a walk. */
START_TEST(test_costly)
{
	static const char fields[] = "Provides: v (= 1); Depends: v (= 2), v (= 3) | v (= 4)";
	struct closure *c;
	struct closure_walk *w;
	uint32_t roots[10000];

	(void)build_many(NELEM(roots), fields, true, REASON_LIST_BAD);
	ck_assert_str_eq(why, "more than 67108864 candidates for its dependencies");
	c = build_many(NELEM(roots), fields, false, REASON_OK);
	w = closure_walk_new(c, true);
	for (unsigned i = 0; i < NELEM(roots); i++)
		roots[i] = i;
	ck_assert_int_eq(closure_walk_add(w, roots, 10), REASON_OK);
	ck_assert_uint_eq(closure_walk_steps(w), 10 * 3 * (2 * NELEM(roots) + 1));
	closure_walk_free(&w);
	closure_free(&c);
	c = build_many(NELEM(roots), "Provides: v (= 1); Recommends: v (= 2), v (= 3)", true,
	    REASON_OK);
	w = closure_walk_new(c, true);
	ck_assert_int_eq(closure_walk_add(w, roots, NELEM(roots)), REASON_LIST_BAD);
	ck_assert_uint_lt(closure_walk_steps(w), CLOSURE_STEPS_MAX + 2 * NELEM(roots));
	closure_walk_free(&w);
	closure_free(&c);
}
END_TEST

/* A list as long as Debian's, and one with as many versions as NVIDIA's, are far below the limit. */
START_TEST(test_ordinary)
{
	enum { DEBIAN_N = 65000, CUDA_NAMES = 150, CUDA_VERSIONS = 60 };
	struct closure *c = closure_new(256 << 20);
	char out[4096];
	size_t n;

	ck_assert_int_eq(closure_begin_list(c, UNPACK_PLAIN, 256 << 20, SLICE("amd64")), REASON_OK);
	for (unsigned i = 0; i < DEBIAN_N; i++) {
		n = (size_t)sprintf(out, "Package: p%u\nVersion: 1.%u-1\nFilename: p%u.deb\nSize: 1\n"
		    "SHA256: %064x\nDepends: libc6 (>= 2.34)", i, i % 7, i, i);
		for (unsigned k = 1; k <= 9; k++)
			n += (size_t)sprintf(out + n, ", p%u (>= 1.%u) | v%u", i * k % DEBIAN_N,
			    k % 3, i % 30);
		n += (size_t)sprintf(out + n, "\nProvides: v%u, q%u (= 1)\n\n", i % 4000, i);
		ck_assert_int_eq(closure_feed(c, out, n), REASON_OK);
	}
	ck_assert_int_eq(closure_end_list(c), REASON_OK);
	ck_assert_int_eq(closure_finish(c, true), REASON_OK);
	ck_assert_uint_lt(c->edges_steps_n, CLOSURE_STEPS_MAX / 8);
	closure_free(&c);
	c = closure_new(256 << 20);
	ck_assert_int_eq(closure_begin_list(c, UNPACK_PLAIN, 256 << 20, SLICE("amd64")), REASON_OK);
	for (unsigned i = 0; i < CUDA_NAMES * CUDA_VERSIONS; i++) {
		unsigned name = i / CUDA_VERSIONS, version = i % CUDA_VERSIONS;

		n = (size_t)sprintf(out, "Package: c%u\nVersion: 12.%u-1\nFilename: c%u.deb\nSize: 1\n"
		    "SHA256: %064x\nProvides: %s (= 12.%u-1)\nDepends: driver (>= 12)",
		    name, version, i, i, name < 5 ? "driver" : "other", version);
		for (unsigned k = 1; k <= 9; k++)
			n += (size_t)sprintf(out + n, ", c%u (= 12.%u-1)", (name + k) % CUDA_NAMES, version);
		n += (size_t)sprintf(out + n, "\n\n");
		ck_assert_int_eq(closure_feed(c, out, n), REASON_OK);
	}
	ck_assert_int_eq(closure_end_list(c), REASON_OK);
	ck_assert_int_eq(closure_finish(c, true), REASON_OK);
	ck_assert_uint_lt(c->edges_steps_n, CLOSURE_STEPS_MAX / 8);
	closure_free(&c);
}
END_TEST

START_TEST(test_bad_list)
{
	struct closure *c = closure_new(1 << 20);

	ck_assert_int_eq(closure_begin_list(c, UNPACK_GZ, 1 << 20, SLICE_NONE), REASON_OK);
	ck_assert_int_eq(closure_feed(c, "Package: x\n", 11), REASON_LIST_BAD);
	ck_assert_str_ne(closure_why(c), "");
	closure_free(&c);
	c = closure_new(1 << 20);
	ck_assert_int_eq(closure_begin_list(c, UNPACK_PLAIN, 1 << 20, SLICE_NONE), REASON_OK);
	/* Packages that can't be fetched and checked are none. */
	ck_assert_int_eq(closure_feed(c, "Package: x\nFilename: x\nSize: -1\nSHA256: 00\n\n"
		"Package: y\n", 55), REASON_OK);
	ck_assert_int_eq(closure_end_list(c), REASON_OK);
	ck_assert_int_eq(closure_finish(c, true), REASON_OK);
	ck_assert_uint_eq(closure_packages_n(c), 0);
	closure_free(&c);
}
END_TEST

Suite *
check_closure_suite(void)
{
	Suite *s = suite_create("closure");
	TCase *t = tcase_create("walk");

	tcase_add_loop_test(t, test_row, 0, (int)(sizeof(rows) / sizeof(rows[0])));
	suite_add_tcase(s, t);
	t = tcase_create("model");
	tcase_add_test(t, test_find);
	tcase_add_test(t, test_near);
	tcase_add_test(t, test_dependants);
	tcase_add_test(t, test_bounded);
	tcase_add_test(t, test_deep);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, test_costly);
	tcase_add_test(t, test_ordinary);
	tcase_add_test(t, test_bad_list);
	suite_add_tcase(s, t);
	return s;
}
