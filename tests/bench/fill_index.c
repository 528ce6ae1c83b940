/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * fill_index DIR N: makes DIR a cache directory with N URLs and N blobs in
 * its index, as after a clean stop, to measure how a large one starts. Only
 * the first few bodies exist as files:
 *
 *     https://bulk.example/pool/obj-0_1.0_amd64.deb, obj-1_..., obj-9_...
 *
 * The body of each is its own URL and a newline, 100 times over.
 */
#include "cache/index_priv.h"
#include "include/clock.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <unistd.h>

enum {
	FILL_FILES_N = 10,
	FILL_LINES_N = 100,
	FILL_STEP_N = 20000,		/* between two waits for the writer */
	FILL_BODY_BYTES = 48 << 10,	/* of those that are no files */
};

struct fill {
	struct blobstore *blobs;
	struct index *ix;
	uint64_t failed_n;		/* writer thread */
};

static void
fill_done_cb(void *arg, enum reason r)
{
	struct fill *f = arg;

	f->failed_n += r != REASON_OK;
}

static void
fill_digest(const void *p, size_t n, uint8_t digest[32])
{
	AN(EVP_Digest(p, n, digest, NULL, EVP_sha256(), NULL));
}

/* What a fetch of this URL would have learned. */
static void
fill_rec_make(struct object_rec *rec, const char *url, uint64_t size_bytes)
{
	int64_t now_ms = clock_wall_ms();

	*rec = (struct object_rec){
		.size_bytes = size_bytes,
		.stored_at_ms = now_ms,
		.checked_at_ms = now_ms,
		.class = APTFILE_PACKAGE,
		.terms = {.checked_at_s = now_ms / 1000, .date_s = now_ms / 1000,
		    .lifetime_s = -1, .last_modified_s = 1700000000, .stale_if_error_s = -1},
		.url = slice_of(url),
		.etag = SLICE("\"5f3c-61a2b3c4d5e6f\""),
		.fields = SLICE("Content-Type: application/vnd.debian.binary-package\r\n"
		    "Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
		    "ETag: \"5f3c-61a2b3c4d5e6f\"\r\n"),
	};
}

/* A URL with a body on disk. */
static enum reason
fill_real(struct fill *f, const struct key *key, const char *url)
{
	char body[FILL_LINES_N * 80];
	struct object_rec rec;
	size_t n = 0;
	enum reason r;
	int fd;

	for (int i = 0; i < FILL_LINES_N; i++)
		n += (size_t)snprintf(body + n, sizeof(body) - n, "%s\n", url);
	r = blob_partial_create(f->blobs, key, &fd);
	if (r != REASON_OK)
		return r;
	if (write(fd, body, n) != (ssize_t)n)
		r = REASON_DISK_ERROR;
	(void)close(fd);
	fill_rec_make(&rec, url, n);
	fill_digest(body, n, rec.digest);
	index_store(f->ix, key, &rec, fill_done_cb, f);
	return r;
}

/* A URL and a blob without a body; its name is next to the URL's key, so that both sort alike. */
static void
fill_bare(struct fill *f, const struct key *key, const char *url)
{
	struct blob_stat st = {FILL_BODY_BYTES, clock_wall_ms() * 1000000};
	struct object_rec rec;

	fill_rec_make(&rec, url, st.size_bytes);
	memcpy(rec.digest, key->b, KEY_BYTES);
	rec.digest[KEY_BYTES - 1] ^= 1;
	index_record_blob(f->ix, rec.digest, &st, false);
	index_link(f->ix, key, &rec, fill_done_cb, f);
}

/* One URL to be. */
struct fill_url {
	struct key key;
	uint64_t number;
};

static void
fill_url_text(char url[80], uint64_t number)
{
	(void)snprintf(url, 80, "https://bulk.example/pool/obj-%" PRIu64 "_1.0_amd64.deb", number);
}

static int
fill_url_compare(const void *a, const void *b)
{
	return memcmp(a, b, KEY_BYTES);
}

/* All keys, in the order in which they lie in the index: a batch then touches few pages. */
static struct fill_url *
fill_urls_new(uint64_t total_n)
{
	struct fill_url *u = calloc(total_n, sizeof(*u));
	char url[80];

	for (uint64_t i = 0; u != NULL && i < total_n; i++) {
		u[i].number = i;
		fill_url_text(url, i);
		fill_digest(url, strlen(url), u[i].key.b);
	}
	if (u != NULL)
		qsort(u, total_n, sizeof(*u), fill_url_compare);
	return u;
}

/* Queues them all, waiting for the writer now and then. */
static enum reason
fill_all(struct fill *f, uint64_t total_n)
{
	struct fill_url *u = fill_urls_new(total_n);
	enum reason r = u != NULL ? REASON_OK : REASON_NO_MEMORY;
	char url[80];

	for (uint64_t i = 0; i < total_n && r == REASON_OK; i++) {
		fill_url_text(url, u[i].number);
		if (u[i].number < FILL_FILES_N)
			r = fill_real(f, &u[i].key, url);
		else
			fill_bare(f, &u[i].key, url);
		if (i % FILL_STEP_N == FILL_STEP_N - 1)
			index_flush(f->ix);
	}
	index_flush(f->ix);
	free(u);
	return r == REASON_OK && f->failed_n > 0 ? REASON_INDEX_ERROR : r;
}

int
main(int argc, char **argv)
{
	struct index_conf conf = {.test_no_sync = true};
	int64_t began_ms = clock_mono_ms();
	struct fill f = {0};
	enum reason r;
	uint64_t n;

	if (argc != 3 || (n = strtoull(argv[2], NULL, 10)) == 0) {
		(void)fprintf(stderr, "usage: fill_index DIR N\n");
		return 2;
	}
	conf.dir = argv[1];
	r = blobstore_open(&f.blobs, conf.dir);
	conf.blobs = f.blobs;
	if (r == REASON_OK)
		r = index_open(&f.ix, &conf);
	if (r == REASON_OK)
		r = fill_all(&f, n);
	index_close(&f.ix);
	/* Or the start that is to be measured would wait for all that was written here. */
	if (r == REASON_OK && syncfs(blobstore_dirfd(f.blobs)) != 0)
		r = REASON_DISK_ERROR;
	blobstore_close(&f.blobs);
	if (r != REASON_OK) {
		(void)fprintf(stderr, "fill_index: %s: %s\n", argv[1], reason_text(r));
		return 1;
	}
	(void)printf("%" PRIu64 " URLs in %.1f s\n", n,
	    (double)(clock_mono_ms() - began_ms) / 1000);
	return 0;
}
