/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Package tables, the side that makes them: called by the threads that stage
 * generations, and to make a lost table again from the list's stored body.
 *
 * One build is one call. The list is read through cache/unpack.c and
 * cache/stanza.c; each file that it names becomes an entry in memory. When
 * RUN_MAX of them are there, they are sorted and put aside as a run in
 * name.runs (a file without a name by then); at the end the runs are merged into
 * name.tmp, which gets its final name once it is whole and on disk. So the
 * memory of a build stays below some 10 MB however large the list is, and a
 * full disk is an error of write, not a signal as with a shared mapping.
 *
 * A file listed twice in the same words is one entry. Listed in different words
 * it is marked: nothing is expected of it then, since apt may take either.
 * Which digest a table holds is decided by the first usable file: SHA256 when
 * it has one, else SHA512. Files that lack that one are left out, and counted.
 */
#include "cache/pkgtable_priv.h"

#include "cache/blob.h"
#include "cache/relpath.h"
#include "cache/stanza.h"
#include "include/key.h"

#include <openssl/evp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
#include <zlib.h>

enum {
	BUILD_RUN_MAX = 65536,		/* entries sorted in memory */
	BUILD_RUNS_MAX = PKGTABLE_ENTRIES_MAX / BUILD_RUN_MAX,
	BUILD_MERGE_N = 512,		/* entries of a run in memory while merging */
	BUILD_IN_BYTES = 128 << 10,
	BUILD_OUT_BYTES = 128 << 10,
	BUILD_NAME_BYTES = 256,
	BUILD_FILE_MODE = 0640,
};

/* A sorted run: at first what waits in its file, then what is in `buf`. */
struct build_run {
	uint64_t at, left_n;		/* in the file: offset, entries not read yet */
	uint8_t *buf;
	size_t i, n;			/* next entry of buf, entries in it */
};

/* One call of pkgtable_build. */
struct build {
	int dirfd, index_fd;
	int fd, runs_fd;		/* name.tmp, name.runs; -1: not made */
	size_t digest_n, entry_bytes;	/* 0: not decided yet */
	uint8_t *run;			/* BUILD_RUN_MAX entries */
	size_t run_n;
	struct build_run runs[BUILD_RUNS_MAX];
	size_t runs_n;
	uint64_t runs_bytes;		/* written to name.runs */
	uint64_t added_n;
	uint8_t last[PKGTABLE_ENTRY_MAX_BYTES];	/* newest entry, not yet in `out` */
	bool has_last;
	uint8_t *out;			/* BUILD_OUT_BYTES on their way to name.tmp */
	size_t out_n;
	uint64_t out_at;
	uint32_t crc;
	struct unpack *unpack;
	struct stanza_reader *reader;
	EVP_MD_CTX *unpacked;		/* digest of what comes out */
	struct pkgtable_stats stats;
	char *why;
	size_t why_cap;
	char tmp[BUILD_NAME_BYTES], runs_name[BUILD_NAME_BYTES];
};

/* Writes the words for a reason and returns it. */
static enum reason PRINTF_LIKE(3, 4)
build_refuse(struct build *b, enum reason r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(b->why, b->why_cap, fmt, ap);
	va_end(ap);
	return r;
}

/* The same for what a call of the system said. */
static enum reason
build_refuse_errno(struct build *b, const char *what, const char *name)
{
	int err = errno;

	return build_refuse(b, blob_errno_reason(err), "%s %s: %s", what, name, strerror(err));
}

static enum reason
build_write(struct build *b, int fd, const char *name, const uint8_t *p, size_t n, uint64_t at)
{
	while (n != 0) {
		ssize_t done = pwrite(fd, p, n, (off_t)at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return build_refuse_errno(b, "writing", name);
		p += done;
		at += (uint64_t)done;
		n -= (size_t)done;
	}
	return REASON_OK;
}

/* -- from entries to runs -- */

static int
build_compare_cb(const void *a, const void *b)
{
	return memcmp(a, b, PKGTABLE_KEY_BYTES);
}

/* Makes the file that runs wait in; its name goes at once, a crash leaves nothing. */
static enum reason
build_open_runs(struct build *b)
{
	b->runs_fd = openat(b->dirfd, b->runs_name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC |
	    O_NOFOLLOW, BUILD_FILE_MODE);
	if (b->runs_fd < 0)
		return build_refuse_errno(b, "creating", b->runs_name);
	if (unlinkat(b->dirfd, b->runs_name, 0) != 0)
		return build_refuse_errno(b, "unlinking", b->runs_name);
	return REASON_OK;
}

/* Sorts what is in memory and puts it aside. */
static enum reason
build_flush_run(struct build *b)
{
	size_t bytes = b->run_n * b->entry_bytes;
	enum reason r = b->runs_fd < 0 ? build_open_runs(b) : REASON_OK;

	if (r != REASON_OK)
		return r;
	MUST(b->runs_n < BUILD_RUNS_MAX);
	qsort(b->run, b->run_n, b->entry_bytes, build_compare_cb);
	r = build_write(b, b->runs_fd, b->runs_name, b->run, bytes, b->runs_bytes);
	b->runs[b->runs_n++] = (struct build_run){.at = b->runs_bytes, .left_n = b->run_n};
	b->runs_bytes += bytes;
	b->run_n = 0;
	return r;
}

/* Adds an entry. */
static enum reason
build_add(struct build *b, struct slice file_name, uint64_t size_bytes, const uint8_t *digest)
{
	uint8_t *p;
	enum reason r;

	if (b->added_n == PKGTABLE_ENTRIES_MAX)
		return build_refuse(b, REASON_LIST_BAD, "it names more than %d files",
		    PKGTABLE_ENTRIES_MAX);
	if (b->run_n == BUILD_RUN_MAX) {
		r = build_flush_run(b);
		if (r != REASON_OK)
			return r;
	}
	p = b->run + b->run_n * b->entry_bytes;
	pkgtable_key(file_name, p);
	memcpy(p + PKGTABLE_KEY_BYTES, &size_bytes, sizeof(size_bytes));
	memcpy(p + PKGTABLE_DIGEST_AT, digest, b->digest_n);
	b->run_n++;
	b->added_n++;
	return REASON_OK;
}

/* -- from stanzas to entries -- */

/* Joins directory and file name and cleans them; false: no file that a URL could ask for. */
static bool
build_join(struct slice dir, struct slice name, char buf[2 * RELPATH_MAX + 1], struct slice *path)
{
	size_t n = 0;

	while (dir.n != 0 && dir.p[0] == '/')	/* "/x" is below the repository as "x" is */
		dir = slice_skip(dir, 1);
	while (dir.n == 0 && name.n != 0 && name.p[0] == '/')
		name = slice_skip(name, 1);
	if (dir.n > RELPATH_MAX || name.n == 0 || name.n > RELPATH_MAX)
		return false;
	if (dir.n != 0) {
		memcpy(buf, dir.p, dir.n);
		n = dir.n;
		buf[n++] = '/';
	}
	memcpy(buf + n, name.p, name.n);
	n = relpath_clean(buf, n + name.n);
	*path = (struct slice){buf, n};
	return n != 0 && n <= RELPATH_MAX;
}

/* Decides which digest the table holds, once. */
static void
build_decide_digest(struct build *b, bool has_sha256, bool has_sha512)
{
	if (b->digest_n == 0 && (has_sha256 || has_sha512)) {
		b->digest_n = has_sha256 ? 32 : 64;
		b->entry_bytes = PKGTABLE_DIGEST_AT + b->digest_n;
	}
}

/* One file in words: what is not usable is counted and left out. */
static enum reason
build_add_words(struct build *b, struct slice dir, struct slice name, struct slice size,
    struct slice hex)
{
	char buf[2 * RELPATH_MAX + 1];
	uint8_t digest[64];
	uint64_t size_bytes;
	struct slice path;

	if (!slice_read_number(size, RELPATH_SIZE_MAX, &size_bytes) ||
	    !slice_read_hex(hex, digest, b->digest_n) ||
	    !build_join(dir, name, buf, &path)) {
		b->stats.unusable_n++;
		return REASON_OK;
	}
	return build_add(b, path, size_bytes, digest);
}

/* A stanza of Packages. */
static enum reason
build_package_cb(void *arg, const struct stanza *st)
{
	struct build *b = arg;
	const struct slice *f = st->f;

	b->stats.stanzas_n++;
	build_decide_digest(b, f[STANZA_SHA256].n != 0, f[STANZA_SHA512].n != 0);
	if (b->digest_n == 0 || st->twice != 0) {
		b->stats.unusable_n++;
		return REASON_OK;
	}
	return build_add_words(b, SLICE_NONE, f[STANZA_FILENAME], f[STANZA_SIZE],
	    f[b->digest_n == 32 ? STANZA_SHA256 : STANZA_SHA512]);
}

/* Cuts the first word off a text of several lines. */
static struct slice
build_next_word(struct slice *s)
{
	size_t i = 0, from;

	while (i < s->n && memchr(" \t\r\n", s->p[i], 4) != NULL)
		i++;
	for (from = i; i < s->n && memchr(" \t\r\n", s->p[i], 4) == NULL;)
		i++;
	struct slice word = {s->p + from, i - from};

	*s = slice_skip(*s, i);
	return word;
}

/* A stanza of Sources: lines of digest, size and name. */
static enum reason
build_source_cb(void *arg, const struct stanza *st)
{
	struct build *b = arg;
	const struct slice *f = st->f;
	enum reason r = REASON_OK;
	struct slice list;

	b->stats.stanzas_n++;
	build_decide_digest(b, f[STANZA_CHECKSUMS_SHA256].n != 0, f[STANZA_CHECKSUMS_SHA512].n != 0);
	list = f[b->digest_n == 64 ? STANZA_CHECKSUMS_SHA512 : STANZA_CHECKSUMS_SHA256];
	if (b->digest_n == 0 || st->twice != 0 || list.n == 0) {
		b->stats.unusable_n++;
		return REASON_OK;
	}
	while (r == REASON_OK) {
		struct slice hex = build_next_word(&list), size = build_next_word(&list);
		struct slice name = build_next_word(&list);

		if (hex.n == 0)
			break;
		r = build_add_words(b, f[STANZA_DIRECTORY], name, size, hex);
	}
	return r;
}

static enum reason
build_unpacked_cb(void *arg, const void *p, size_t n)
{
	struct build *b = arg;
	enum reason r;

	MUST(EVP_DigestUpdate(b->unpacked, p, n) == 1);
	r = stanza_feed(b->reader, p, n);
	if (r == REASON_LIST_BAD && b->why[0] == '\0')
		return build_refuse(b, r, "%s", stanza_why(b->reader));
	return r;
}

/* Reads the list to its end. */
static enum reason
build_read(struct build *b, uint8_t *in)
{
	uint64_t at = 0;
	enum reason r = REASON_OK;
	ssize_t n;

	while (r == REASON_OK) {
		n = pread(b->index_fd, in, BUILD_IN_BYTES, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return build_refuse_errno(b, "reading", "the list");
		if (n == 0)
			break;
		at += (uint64_t)n;
		r = unpack_feed(b->unpack, in, (size_t)n, build_unpacked_cb, b);
	}
	if (r == REASON_OK)
		r = unpack_end(b->unpack);
	if (r == REASON_LIST_BAD && b->why[0] == '\0')
		return build_refuse(b, r, "%s", unpack_why(b->unpack));
	if (r == REASON_OK) {
		r = stanza_end(b->reader);
		if (r == REASON_LIST_BAD && b->why[0] == '\0')
			return build_refuse(b, r, "%s", stanza_why(b->reader));
	}
	MUST(EVP_DigestFinal_ex(b->unpacked, b->stats.unpacked_sha256, NULL) == 1);
	return r;
}

/* -- from runs to the table -- */

static enum reason
build_flush_out(struct build *b)
{
	enum reason r = build_write(b, b->fd, b->tmp, b->out, b->out_n, b->out_at);

	b->crc = (uint32_t)crc32(b->crc, b->out, (uInt)b->out_n);
	b->out_at += b->out_n;
	b->out_n = 0;
	return r;
}

/* The newest entry goes out: no other of its key comes. */
static enum reason
build_put_last(struct build *b)
{
	uint64_t size_bytes;
	enum reason r;

	if (!b->has_last)
		return REASON_OK;
	b->has_last = false;
	memcpy(&size_bytes, b->last + PKGTABLE_KEY_BYTES, sizeof(size_bytes));
	b->stats.ambiguous_n += size_bytes == PKGTABLE_NO_SIZE;
	b->stats.entries_n++;
	if (b->out_n + b->entry_bytes > BUILD_OUT_BYTES) {
		r = build_flush_out(b);
		if (r != REASON_OK)
			return r;
	}
	memcpy(b->out + b->out_n, b->last, b->entry_bytes);
	b->out_n += b->entry_bytes;
	return REASON_OK;
}

/* The next entry in order: one of the same key is merged with it. */
static enum reason
build_put(struct build *b, const uint8_t *entry)
{
	uint64_t no_size = PKGTABLE_NO_SIZE;
	enum reason r;

	if (b->has_last && memcmp(b->last, entry, PKGTABLE_KEY_BYTES) == 0) {
		if (memcmp(b->last, entry, b->entry_bytes) == 0) {
			b->stats.repeated_n++;
			return REASON_OK;
		}
		memcpy(b->last + PKGTABLE_KEY_BYTES, &no_size, sizeof(no_size));
		memset(b->last + PKGTABLE_DIGEST_AT, 0, b->digest_n);
		return REASON_OK;
	}
	r = build_put_last(b);
	memcpy(b->last, entry, b->entry_bytes);
	b->has_last = true;
	return r;
}

/* Reads a run's next entries into its buffer. */
static enum reason
build_refill(struct build *b, struct build_run *run)
{
	size_t want_n = run->left_n < BUILD_MERGE_N ? (size_t)run->left_n : BUILD_MERGE_N;
	size_t bytes = want_n * b->entry_bytes, have = 0;

	while (have < bytes) {
		ssize_t n = pread(b->runs_fd, run->buf + have, bytes - have,
		    (off_t)(run->at + have));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return build_refuse_errno(b, "reading", b->runs_name);
		if (n == 0)
			return build_refuse(b, REASON_DISK_ERROR, "%s is shorter than it was written",
			    b->runs_name);
		have += (size_t)n;
	}
	run->at += bytes;
	run->left_n -= want_n;
	run->i = 0;
	run->n = want_n;
	return REASON_OK;
}

/* The run whose next entry is the smallest, or NULL when all are empty. */
static struct build_run *
build_smallest_run(struct build *b)
{
	struct build_run *best = NULL;

	for (size_t k = 0; k < b->runs_n; k++) {
		struct build_run *run = &b->runs[k];

		if (run->i < run->n && (best == NULL || memcmp(run->buf + run->i * b->entry_bytes,
		    best->buf + best->i * b->entry_bytes, PKGTABLE_KEY_BYTES) < 0))
			best = run;
	}
	return best;
}

/* Merges runs; what is still in memory is the last one and, mostly, the only one. */
static enum reason
build_merge(struct build *b)
{
	struct build_run *run;
	uint8_t *memory;
	enum reason r = REASON_OK;

	if (b->runs_n == 0) {
		qsort(b->run, b->run_n, b->entry_bytes, build_compare_cb);
		for (size_t i = 0; i < b->run_n && r == REASON_OK; i++)
			r = build_put(b, b->run + i * b->entry_bytes);
		return r;
	}
	if (b->run_n != 0)
		r = build_flush_run(b);
	memory = malloc(b->runs_n * BUILD_MERGE_N * b->entry_bytes);
	if (memory == NULL)
		return REASON_NO_MEMORY;
	for (size_t k = 0; k < b->runs_n && r == REASON_OK; k++) {
		b->runs[k].buf = memory + k * BUILD_MERGE_N * b->entry_bytes;
		r = build_refill(b, &b->runs[k]);
	}
	while (r == REASON_OK && (run = build_smallest_run(b)) != NULL) {
		r = build_put(b, run->buf + run->i++ * b->entry_bytes);
		if (r == REASON_OK && run->i == run->n && run->left_n != 0)
			r = build_refill(b, run);
	}
	free(memory);
	return r;
}

/*
 * Writes the sorted entries and the head. Does not wait for the disk: packages would be served
 * without their digests meanwhile, and what a power cut leaves of it fails its CRC and is made again.
 */
static enum reason
build_write_table(struct build *b)
{
	struct pkgtable_head head = {.magic = PKGTABLE_FILE_MAGIC};
	enum reason r;

	b->fd = openat(b->dirfd, b->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
	    BUILD_FILE_MODE);
	if (b->fd < 0)
		return build_refuse_errno(b, "creating", b->tmp);
	b->out_at = PKGTABLE_HEAD_BYTES;
	r = build_merge(b);
	if (r == REASON_OK)
		r = build_put_last(b);
	if (r == REASON_OK)
		r = build_flush_out(b);
	if (r != REASON_OK)
		return r;
	head.digest_n = (uint32_t)b->digest_n;
	head.entries_n = b->stats.entries_n;
	head.ambiguous_n = b->stats.ambiguous_n;
	head.crc = pkgtable_head_crc(b->crc, &head);
	r = build_write(b, b->fd, b->tmp, (const uint8_t *)&head, sizeof(head), 0);
	b->stats.table_bytes = b->out_at;
	return r;
}

/* Reads the list and writes the table; the caller cleans up. */
static enum reason
build_run_all(struct build *b, const char *name)
{
	uint8_t *in = malloc(BUILD_IN_BYTES);
	enum reason r = REASON_NO_MEMORY;

	b->run = malloc((size_t)BUILD_RUN_MAX * PKGTABLE_ENTRY_MAX_BYTES);
	b->out = malloc(BUILD_OUT_BYTES);
	if (in != NULL && b->run != NULL && b->out != NULL)
		r = build_read(b, in);
	free(in);
	if (r != REASON_OK)
		return r;
	b->stats.unpacked_bytes = unpack_out_bytes(b->unpack);
	if (b->digest_n == 0) {		/* an empty list, or nothing usable in it */
		b->digest_n = 32;
		b->entry_bytes = PKGTABLE_DIGEST_AT + b->digest_n;
	}
	r = build_write_table(b);
	if (r == REASON_OK && renameat(b->dirfd, b->tmp, b->dirfd, name) != 0)
		r = build_refuse_errno(b, "renaming", b->tmp);
	if (r != REASON_OK && b->fd >= 0)
		(void)unlinkat(b->dirfd, b->tmp, 0);
	return r;
}

enum reason
pkgtable_build(int dirfd, const char *name, int index_fd, enum unpack_kind kind, bool sources,
    uint64_t max_unpacked_bytes, struct pkgtable_stats *stats, char *why, size_t why_cap)
{
	uint32_t fields = sources ? STANZA_BIT(DIRECTORY) | STANZA_BIT(CHECKSUMS_SHA256) |
	    STANZA_BIT(CHECKSUMS_SHA512) : STANZA_BIT(FILENAME) | STANZA_BIT(SIZE) |
	    STANZA_BIT(SHA256) | STANZA_BIT(SHA512);
	struct build *b = calloc(1, sizeof(*b));
	enum reason r = REASON_NO_MEMORY;

	MUST(why_cap != 0);
	(void)snprintf(why, why_cap, "%s", kind == UNPACK_UNKNOWN ? "its compression is not read here" : "");
	if (b == NULL || kind == UNPACK_UNKNOWN) {
		free(b);
		return kind == UNPACK_UNKNOWN ? REASON_LIST_BAD : REASON_NO_MEMORY;
	}
	b->dirfd = dirfd;
	b->index_fd = index_fd;
	b->fd = b->runs_fd = -1;
	b->why = why;
	b->why_cap = why_cap;
	MUST(snprintf(b->tmp, sizeof(b->tmp), "%s.tmp", name) < (int)sizeof(b->tmp));
	MUST(snprintf(b->runs_name, sizeof(b->runs_name), "%s.runs", name) <
	    (int)sizeof(b->runs_name));
	b->unpack = unpack_new(kind, max_unpacked_bytes);
	b->reader = stanza_new(fields, sources ? build_source_cb : build_package_cb, b);
	b->unpacked = EVP_MD_CTX_new();
	if (b->unpack != NULL && b->reader != NULL && b->unpacked != NULL &&
	    EVP_DigestInit_ex(b->unpacked, EVP_sha256(), NULL) == 1)
		r = build_run_all(b, name);
	if (r == REASON_OK)
		*stats = b->stats;
	if (b->fd >= 0)
		(void)close(b->fd);
	if (b->runs_fd >= 0)
		(void)close(b->runs_fd);
	EVP_MD_CTX_free(b->unpacked);
	unpack_free(&b->unpack);
	stanza_free(&b->reader);
	free(b->run);
	free(b->out);
	free(b);
	return r;
}
