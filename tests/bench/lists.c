/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * How long a large repository's Packages takes to become a package table.
 *
 *     lists make DIR N     writes DIR/Packages with N stanzas as CUDA's generator writes
 *                          them, and the same as Packages.gz and Packages.xz
 *     lists read FILE      makes FILE.table, looks each name up once, prints one line of
 *                          JSON: seconds, peak memory of this process, nanoseconds a look-up
 */
#include "cache/pkgtable.h"

#include "include/slice.h"

#include <fcntl.h>
#include <inttypes.h>
#include <lzma.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum { LISTS_STANZA_MAX = 4096, LISTS_DIGITS_N = 128 };

/* Where one stanza's text goes. */
struct lists_out {
	FILE *plain;
	gzFile gz;
	FILE *xz;
	lzma_stream lzma;
};

static void
lists_die(const char *what)
{
	perror(what);
	exit(1);
}

static double
lists_now(void)
{
	struct timespec ts;

	AZ(clock_gettime(CLOCK_MONOTONIC, &ts));
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Digits that do not compress, as digests don't. */
static void
lists_digits(char digits[LISTS_DIGITS_N + 1], uint64_t *state)
{
	for (int i = 0; i < LISTS_DIGITS_N; i++) {
		*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		digits[i] = "0123456789abcdef"[*state >> 60];
	}
	digits[LISTS_DIGITS_N] = '\0';
}

static size_t
lists_stanza(char text[LISTS_STANZA_MAX], unsigned i, uint64_t *state)
{
	char d[LISTS_DIGITS_N + 1];
	int n;

	lists_digits(d, state);
	n = snprintf(text, LISTS_STANZA_MAX,
	    "Package: cuda-library-%u\nVersion: 12.%u.%u-1\nArchitecture: amd64\nPriority: optional\n"
	    "Section: multiverse/devel\nMaintainer: cudatools <cudatools@example.test>\n"
	    "Installed-Size: %u\n"
	    "Depends: cuda-toolkit-12-%u-config-common, cuda-cudart-12-%u (>= 12.%u.%u),"
	    " libcublas-12-%u (>= 12.%u), libc6 (>= 2.34), libstdc++6 (>= 11), zlib1g (>= 1:1.2.0)\n"
	    "Filename: ./cuda-library-%u_12.%u.%u-1_amd64.deb\nSize: %u\nMD5sum: %.32s\nSHA1: %.40s\n"
	    "SHA256: %.64s\nSHA512: %s\nHomepage: https://developer.example.test/cuda\n"
	    "Description: CUDA library %u native dev links, headers and tools\n"
	    " This package has what one needs to build and run programs with library %u:\n"
	    " headers, stubs, static archives and the profiler's tables for each architecture.\n"
	    " .\n It belongs to the toolkit of the same version and is of little use alone.\n\n",
	    i, i % 9, i % 100, i * 7 % 99999, i % 9, i % 9, i % 9, i % 100, i % 9, i % 9, i, i % 9,
	    i % 100, i + 1, d, d + 20, d + 40, d, i, i);
	MUST(n > 0 && n < LISTS_STANZA_MAX);
	return (size_t)n;
}

/* Compresses a piece; action is LZMA_FINISH after the last. */
static void
lists_put_xz(struct lists_out *out, const char *p, size_t n, lzma_action action)
{
	uint8_t buf[65536];
	lzma_ret rc = LZMA_OK;

	out->lzma.next_in = (const uint8_t *)p;
	out->lzma.avail_in = n;
	do {
		out->lzma.next_out = buf;
		out->lzma.avail_out = sizeof(buf);
		rc = lzma_code(&out->lzma, action);
		MUST(rc == LZMA_OK || rc == LZMA_STREAM_END);
		if (fwrite(buf, 1, sizeof(buf) - out->lzma.avail_out, out->xz) !=
		    sizeof(buf) - out->lzma.avail_out)
			lists_die("Packages.xz");
	} while (out->lzma.avail_in != 0 || (action == LZMA_FINISH && rc != LZMA_STREAM_END));
}

static int
lists_make(const char *dir, unsigned count)
{
	struct lists_out out = {.lzma = LZMA_STREAM_INIT};
	char text[LISTS_STANZA_MAX];
	uint64_t state = 1;

	if (chdir(dir) != 0)
		lists_die(dir);
	out.plain = fopen("Packages", "w");
	out.gz = gzopen("Packages.gz", "wb6");
	out.xz = fopen("Packages.xz", "w");
	if (out.plain == NULL || out.gz == NULL || out.xz == NULL)
		lists_die(dir);
	AZ(lzma_easy_encoder(&out.lzma, 1, LZMA_CHECK_CRC64));
	for (unsigned i = 0; i < count; i++) {
		size_t n = lists_stanza(text, i, &state);

		if (fwrite(text, 1, n, out.plain) != n || gzwrite(out.gz, text, (unsigned)n) != (int)n)
			lists_die("Packages");
		lists_put_xz(&out, text, n, LZMA_RUN);
	}
	lists_put_xz(&out, NULL, 0, LZMA_FINISH);
	lzma_end(&out.lzma);
	if (fclose(out.plain) != 0 || gzclose(out.gz) != Z_OK || fclose(out.xz) != 0)
		lists_die(dir);
	return 0;
}

/* Looks every name up, in an order that is none of the table's; nanoseconds for each. */
static double
lists_look_up(const struct pkgtable *t)
{
	unsigned count = (unsigned)pkgtable_entries_n(t);
	struct pkgtable_entry e;
	double began = lists_now();

	for (unsigned k = 0; k < count; k++) {
		unsigned i = (unsigned)((uint64_t)k * 7919 % count);
		char name[96];
		int n = snprintf(name, sizeof(name), "cuda-library-%u_12.%u.%u-1_amd64.deb", i, i % 9,
		    i % 100);

		MUST(pkgtable_find(t, (struct slice){name, (size_t)n}, &e) == PKGTABLE_FOUND ||
		    count % 7919 == 0);
	}
	return count == 0 ? 0 : (lists_now() - began) * 1e9 / count;
}

/* Peak memory of this program: getrusage would count what its parent had before the exec. */
static long
lists_peak_kib(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	long kib = -1;

	if (f == NULL)
		lists_die("/proc/self/status");
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "VmHWM:", 6) == 0)
			kib = strtol(line + 6, NULL, 10);
	(void)fclose(f);
	return kib;
}

static int
lists_read(const char *file)
{
	char why[PKGTABLE_WHY_BYTES], name[4096];
	struct pkgtable_stats stats;
	struct pkgtable *t = NULL;
	struct rusage usage;
	struct slice stem;
	double began, built_s, opened_s, find_ns;
	enum reason r;
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		lists_die(file);
	MUST(snprintf(name, sizeof(name), "%s.table", file) < (int)sizeof(name));
	began = lists_now();
	r = pkgtable_build(AT_FDCWD, name, fd, unpack_kind_of(slice_of(file), &stem), false,
	    UINT64_C(1) << 32, &stats, why, sizeof(why));
	built_s = lists_now() - began;
	if (r != REASON_OK) {
		fprintf(stderr, "lists: %s: %s: %s\n", file, reason_name(r), why);
		return 1;
	}
	AZ(getrusage(RUSAGE_SELF, &usage));
	began = lists_now();
	r = pkgtable_open(AT_FDCWD, name, &t);
	opened_s = lists_now() - began;
	MUST(r == REASON_OK);
	find_ns = lists_look_up(t);
	printf("{\"build_s\": %.3f, \"cpu_s\": %.3f, \"open_s\": %.4f, \"find_ns\": %.0f, "
	    "\"peak_kib\": %ld, \"entries\": %" PRIu64 ", \"unpacked_bytes\": %" PRIu64
	    ", \"table_bytes\": %" PRIu64 "}\n", built_s,
	    (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6 +
	    (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6, opened_s, find_ns,
	    lists_peak_kib(), stats.entries_n, stats.unpacked_bytes, stats.table_bytes);
	pkgtable_close(&t);
	(void)unlink(name);
	(void)close(fd);
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "make") == 0)
		return lists_make(argv[2], (unsigned)strtoul(argv[3], NULL, 10));
	if (argc == 3 && strcmp(argv[1], "read") == 0)
		return lists_read(argv[2]);
	fprintf(stderr, "usage: lists make DIR N | lists read FILE\n");
	return 2;
}
