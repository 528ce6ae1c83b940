/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * An index that upstream does not have in the compression that is asked for,
 * made of another one that is stored.
 */
#include "cache/stage_priv.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <unistd.h>

#include "include/clock.h"

/* Where a body is unpacked to: twice, for its digest first, so that nobody sees a wrong one. */
struct stage_derive {
	struct flight *f;		/* NULL: for the digest alone */
	EVP_MD_CTX *md;
};

static enum reason
stage_derive_sink(void *arg, const void *p, size_t n)
{
	struct stage_derive *d = arg;

	if (d->f != NULL)
		return flight_append(d->f, p, n);
	return EVP_DigestUpdate(d->md, p, n) == 1 ? REASON_OK : REASON_NO_MEMORY;
}

/* Unpacks a stored body once. */
static enum reason
stage_derive_body(struct stage_job *job, int fd, uint64_t packed_bytes, struct stage_derive *d)
{
	uint64_t max_bytes = (uint64_t)flight_expected(job->f)->size_bytes, at = 0;
	struct unpack *u = unpack_new(job->unpack, max_bytes);
	char *buf = malloc(65536);
	enum reason r = u == NULL || buf == NULL ? REASON_NO_MEMORY : REASON_OK;

	while (r == REASON_OK && at < packed_bytes) {
		ssize_t k = pread(fd, buf, 65536, (off_t)at);

		r = k > 0 ? unpack_feed(u, buf, (size_t)k, stage_derive_sink, d) :
		    REASON_DISK_ERROR;
		at += k > 0 ? (uint64_t)k : 0;
	}
	if (r == REASON_OK)
		r = unpack_end(u);
	unpack_free(&u);
	free(buf);
	return r;
}

/* Does the stored body unpack to what is expected? */
static bool
stage_derive_fits(struct stage_job *job, int fd, uint64_t packed_bytes)
{
	const struct flight_expect *e = flight_expected(job->f);
	struct stage_derive d = {.md = EVP_MD_CTX_new()};
	uint8_t got[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	bool fits = d.md != NULL && EVP_DigestInit_ex(d.md, e->hash == APTFILE_SHA512 ?
	    EVP_sha512() : EVP_sha256(), NULL) == 1 &&
	    stage_derive_body(job, fd, packed_bytes, &d) == REASON_OK &&
	    EVP_DigestFinal_ex(d.md, got, &n) == 1 && memcmp(got, e->digest, n) == 0;

	EVP_MD_CTX_free(d.md);
	return fits;
}

void
stage_derive_job(struct stage *st, struct stage_job *job)
{
	struct flight *f = job->f;
	struct flight_head h = {
		.total_bytes = flight_expected(f)->size_bytes,
		.terms = {.checked_at_s = clock_wall_s(), .date_s = clock_wall_s(),
		    .lifetime_s = -1, .last_modified_s = INT64_MIN, .stale_if_error_s = -1},
		.checked_at_ms = clock_wall_ms(),
		.from.way = PROVENANCE_UNPACKED,
		.shareable = true, .keep = true,
	};
	char etag[KEY_HEX_BYTES + 2], fields[256], hex[KEY_HEX_BYTES];
	struct stage_derive to = {.f = f};
	struct blob_stat bs = {0, 0};
	enum reason r;
	int fd = -1;

	if (blob_open(cache_parts(st->cache)->blobs, job->digest, &fd, &bs) != REASON_OK ||
	    !stage_derive_fits(job, fd, bs.size_bytes)) {
		/* Gone, damaged, or a publisher's mistake: then upstream has it. */
		if (fd >= 0)
			(void)close(fd);
		cache_fetch(st->cache, f, false);
		return;
	}
	key_hex(flight_expected(f)->digest, hex);
	(void)snprintf(etag, sizeof(etag), "\"%s\"", hex);
	(void)snprintf(fields, sizeof(fields), "Content-Type: application/octet-stream\r\n"
	    "ETag: %s\r\n", etag);
	h.etag = slice_of(etag);
	h.fields = slice_of(fields);
	/* A ring would overflow: where no disk takes it, it comes at the readers' pace from upstream. */
	f->unpaced = true;
	r = flight_begin(f, &h);
	if (r == REASON_NO_DISK || r == REASON_DISK_ERROR) {
		(void)close(fd);
		f->unpaced = false;
		cache_fetch(st->cache, f, false);
		return;
	}
	if (r == REASON_OK)
		r = stage_derive_body(job, fd, bs.size_bytes, &to);
	(void)close(fd);
	if (r == REASON_OK)
		flight_finish(f);
	else
		flight_fail(f, r, 0, false, "it could not be unpacked from the stored compressed "
		    "index: %s", reason_text(r));
}

bool
stage_derive(struct stage *st, struct index_view *view, const struct repo_gen *g,
    struct flight *f)
{
	static const struct slice suffixes[] = {
		{".xz", 3}, {".gz", 3}, {".zst", 4}, {".bz2", 4},
	};
	const struct release *r = repo_gen_release(g);
	struct slice root = repo_gen_root(g), path;
	struct stage_job job = {.kind = STAGE_DERIVE};
	struct release_index ri;
	struct blob_rec blob;
	char name[1100];
	bool queued = false;

	if (flight_expected(f) == NULL || flight_expected(f)->size_bytes < 0 ||
	    !slice_starts(f->url, root))
		return false;
	path = slice_skip(f->url, root.n);
	release_index_of(&ri, path);
	if (path.n > 1024 || (ri.stem.n != path.n))
		return false;
	for (unsigned i = 0; i < NELEM(suffixes) && !queued; i++) {
		int n = snprintf(name, sizeof(name), "%.*s%.*s", SLICE_ARG(path),
		    SLICE_ARG(suffixes[i]));
		const struct release_file *rf = release_find_url(r, (struct slice){name, (size_t)n});

		if (rf == NULL || !rf->has_sha256 ||
		    index_get_blob(view, rf->sha256, &blob) != REASON_OK || blob.restricted)
			continue;
		release_index_of(&ri, rf->path);
		job.unpack = ri.kind;
		memcpy(job.digest, rf->sha256, 32);
		job.f = flight_ref(f);
		AZ(pthread_mutex_lock(&st->lock));
		queued = stage_queue(st, &job);
		AZ(pthread_mutex_unlock(&st->lock));
		if (!queued)
			flight_unref(&job.f);
	}
	return queued;
}
