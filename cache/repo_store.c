/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Generations on disk. In the index there is a record for each root (its URL
 * and which of its indexes are asked for) and one for each generation (when
 * it was adopted, the digests of its Release files, its pins); the Release
 * itself is a body among others, read and parsed again at start. Adopting a
 * generation is the write of its one record: what it refers to was stored
 * before, and the highest number is the current one.
 */
#include "cache/repo_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/record.h"
#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

enum {
	REPO_RECORD_VERSION = 1,
};

/* ---- bytes of records ---- */

/* Writes until it is full; then ok is false. */
struct repo_writer {
	uint8_t *p;
	size_t n, cap;
	bool ok;
};

static void
repo_write(struct repo_writer *w, const void *p, size_t n)
{
	w->ok &= n <= w->cap - w->n;
	if (!w->ok || n == 0)
		return;
	memcpy(w->p + w->n, p, n);
	w->n += n;
}

/* Two bytes of length, then the text. */
static void
repo_write_text(struct repo_writer *w, struct slice s)
{
	uint16_t n = (uint16_t)s.n;

	w->ok &= s.n <= UINT16_MAX;
	repo_write(w, &n, sizeof(n));
	repo_write(w, s.p, s.n);
}

/* Takes n bytes off; false: there are not as many. */
static bool
repo_read(struct slice *in, void *out, size_t n)
{
	if (in->n < n)
		return false;
	memcpy(out, in->p, n);
	*in = slice_skip(*in, n);
	return true;
}

static bool
repo_read_text(struct slice *in, struct slice *out)
{
	uint16_t n;

	if (!repo_read(in, &n, sizeof(n)) || in->n < n)
		return false;
	*out = (struct slice){in->p, n};
	*in = slice_skip(*in, n);
	return true;
}

void
repo_store_gen_key(const struct repo *repo, uint64_t seq, uint8_t out[REPO_GEN_KEY_BYTES])
{
	memcpy(out, repo->key.b, KEY_BYTES);
	for (unsigned i = 0; i < 8; i++)
		out[KEY_BYTES + i] = (uint8_t)(seq >> (56 - 8 * i));
}

void
repo_store_root(struct repos *rs, const struct repo *repo)
{
	uint8_t out[INDEX_REPO_VALUE_MAX];
	struct repo_writer w = {out + RECORD_HEAD_BYTES, 0, sizeof(out) - RECORD_HEAD_BYTES, true};
	uint16_t version = REPO_RECORD_VERSION;
	size_t whole_n;

	repo_write(&w, &version, sizeof(version));
	repo_write_text(&w, repo->root);
	whole_n = w.n;
	for (unsigned i = 0; i < repo->members_n && w.ok; i++) {
		repo_write(&w, &repo->members[i].asked_at_s, sizeof(int64_t));
		repo_write_text(&w, slice_of(repo->members[i].path));
		if (w.ok)
			whole_n = w.n;
	}
	index_put_repo(rs->conf.index, repo->key.b, KEY_BYTES, out,
	    record_repo_seal(out, whole_n, repo->key.b, KEY_BYTES), NULL, NULL);
}

void
repo_store_gen(struct repos *rs, const struct repo_gen *g, index_done_f *done, void *arg)
{
	uint8_t key[REPO_GEN_KEY_BYTES], out[INDEX_REPO_VALUE_MAX];
	struct repo_writer w = {out + RECORD_HEAD_BYTES, 0, sizeof(out) - RECORD_HEAD_BYTES, true};
	uint16_t version = REPO_RECORD_VERSION, has = 0, signers_n;

	for (unsigned i = 0; i < REPO_FILE_N; i++)
		has |= (uint16_t)(atomic_load(&g->has[i]) << i);
	repo_write(&w, &version, sizeof(version));
	repo_write(&w, &has, sizeof(has));
	repo_write(&w, &g->adopted_at_s, sizeof(g->adopted_at_s));
	repo_write(&w, g->digest, sizeof(g->digest));
	signers_n = (uint16_t)g->signers.n;
	repo_write(&w, &signers_n, sizeof(signers_n));
	for (unsigned i = 0; i < g->signers.n; i++)
		repo_write_text(&w, slice_of(g->signers.fingerprint[i]));
	for (unsigned i = 0; i < g->pins_n; i++)
		repo_write_text(&w, slice_of(g->pins[i]));
	MUST(w.ok);
	repo_store_gen_key(g->repo, g->seq, key);
	index_put_repo(rs->conf.index, key, sizeof(key), out,
	    record_repo_seal(out, w.n, key, sizeof(key)), done, arg);
}

void
repo_store_drop_gen(struct repos *rs, const uint8_t key[REPO_GEN_KEY_BYTES])
{
	index_put_repo(rs->conf.index, key, REPO_GEN_KEY_BYTES, NULL, 0, NULL, NULL);
}

/* ---- loading ---- */

/* The body of a Release file that was stored. */
static char *
repo_load_body(struct repos *rs, const uint8_t digest[32], size_t *n)
{
	struct blob_stat st;
	uint8_t got[32];
	char *text = NULL;
	int fd = -1;

	if (blob_open(rs->conf.blobs, digest, &fd, &st) != REASON_OK)
		return NULL;
	if (st.size_bytes <= RELEASE_TEXT_MAX)
		text = malloc((size_t)st.size_bytes + 1);
	for (*n = 0; text != NULL && *n < st.size_bytes;) {
		ssize_t k = pread(fd, text + *n, (size_t)st.size_bytes - *n, (off_t)*n);

		if (k <= 0) {
			free(text);
			text = NULL;
			break;
		}
		*n += (size_t)k;
	}
	(void)close(fd);
	/* After a power cut its bytes may be others, and still look like a Release. */
	if (text != NULL && (EVP_Digest(text, *n, got, NULL, EVP_sha256(), NULL) != 1 ||
	    memcmp(got, digest, sizeof(got)) != 0)) {
		free(text);
		text = NULL;
	}
	return text;
}

/* The parsed Release behind a generation's record; NULL: its body is gone or damaged. */
static struct release *
repo_load_release(struct repos *rs, const uint8_t digest[32], char *why, size_t why_cap)
{
	struct release *r = NULL;
	size_t n = 0;
	char *text = repo_load_body(rs, digest, &n);

	(void)snprintf(why, why_cap, "its Release is not stored any more, or damaged");
	if (text == NULL)
		return NULL;
	if (release_parse(&r, text, n, why, why_cap) != REASON_OK)
		r = NULL;
	free(text);
	return r;
}

/* A record as the walk met it. */
struct repo_row {
	struct repo_row *next;
	uint8_t key[INDEX_REPO_KEY_MAX];
	size_t key_n, n;
	char payload[];
};

struct repo_rows {
	struct repo_row *first, **end;
	bool failed;
};

static void
repo_load_row(void *arg, const void *key, size_t key_n, const void *value, size_t n)
{
	struct repo_rows *rows = arg;
	struct slice payload = record_repo_payload(key, key_n, value, n);
	struct repo_row *row;

	if (payload.p == NULL || key_n > sizeof(row->key)) {
		COUNT(index_errors_total);
		return;
	}
	row = malloc(sizeof(*row) + payload.n);
	rows->failed |= row == NULL;
	if (row == NULL)
		return;
	row->next = NULL;
	row->key_n = key_n;
	row->n = payload.n;
	memcpy(row->key, key, key_n);
	memcpy(row->payload, payload.p, payload.n);
	*rows->end = row;
	rows->end = &row->next;
}

static void
repo_load_root(struct repos *rs, struct slice in)
{
	struct slice root, path;
	struct repo *repo;
	uint16_t version;
	int64_t asked_at_s;

	if (!repo_read(&in, &version, sizeof(version)) || version != REPO_RECORD_VERSION ||
	    !repo_read_text(&in, &root) || !slice_ends(root, SLICE("/")) ||
	    memmem(root.p, root.n, "://", 3) == NULL ||
	    (repo = repo_find_or_add(rs, root, 0)) == NULL)
		return;
	while (repo->members_n < REPO_MEMBERS_MAX && repo_read(&in, &asked_at_s, 8) &&
	    repo_read_text(&in, &path)) {
		struct repo_member *m = &repo->members[repo->members_n];

		m->path = strndup(path.p, path.n);
		m->asked_at_s = asked_at_s;
		repo->members_n += m->path != NULL;
		repo_touch(repo, asked_at_s);
	}
}

/* Puts the generation in front of the older ones; false: out of memory. */
static bool
repo_push_gen(struct repos *rs, struct repo *repo, struct repo_gen *g)
{
	if (repo->gens_n == repo->gens_cap) {
		unsigned cap = repo->gens_cap != 0 ? repo->gens_cap * 2 : 8;
		struct repo_gen **v = realloc(repo->gens, cap * sizeof(struct repo_gen *));

		if (v == NULL)
			return false;
		repo->gens = v;
		repo->gens_cap = cap;
	}
	rs->memory_bytes += g->release->bytes;
	memmove(repo->gens + 1, repo->gens, repo->gens_n * sizeof(struct repo_gen *));
	repo->gens[0] = g;
	if (repo->gens_n++ > 0)
		atomic_store(&repo->gens[1]->superseded, true);
	return true;
}

static void
repo_load_pins(struct repo_gen *g, struct slice in)
{
	struct slice name;

	while (g->pins_n < REPO_PINS_MAX && repo_read_text(&in, &name)) {
		if (name.n == 0 || name.n >= REPO_PIN_BYTES)
			continue;
		memcpy(g->pins[g->pins_n], name.p, name.n);
		g->pins[g->pins_n++][name.n] = '\0';
	}
}

/* False: the record is damaged. */
static bool
repo_load_signers(struct slice *in, struct sign_signers *out)
{
	struct slice text;
	uint16_t n;

	memset(out, 0, sizeof(*out));
	if (!repo_read(in, &n, sizeof(n)) || n > SIGN_SIGNERS_MAX)
		return false;
	for (; out->n < n; out->n++) {
		if (!repo_read_text(in, &text) || text.n >= SIGN_FINGERPRINT_BYTES)
			return false;
		memcpy(out->fingerprint[out->n], text.p, text.n);
	}
	return true;
}

static void
repo_load_gen(struct repos *rs, const struct repo_row *row)
{
	struct slice in = {row->payload, row->n};
	uint8_t digest[REPO_FILE_N][32];
	struct sign_signers signers = {0};
	struct repo *repo = NULL;
	struct repo_gen *g = NULL;
	struct release *release = NULL;
	uint16_t version, has = 0;
	int64_t adopted_at_s = 0;
	uint64_t seq = 0;
	char why[RELEASE_WHY_BYTES] = "its record is damaged";

	for (uint32_t i = 0; i < rs->repos_n && repo == NULL; i++)
		if (memcmp(rs->repos[i]->key.b, row->key, KEY_BYTES) == 0)
			repo = rs->repos[i];
	for (unsigned i = 0; i < 8; i++)
		seq = seq << 8 | row->key[KEY_BYTES + i];
	if (repo != NULL && seq >= repo->next_seq)
		repo->next_seq = seq + 1;
	if (repo != NULL && repo->gens_n < REPO_GENS_MAX && repo_read(&in, &version, 2) &&
	    version == REPO_RECORD_VERSION && repo_read(&in, &has, 2) &&
	    repo_read(&in, &adopted_at_s, 8) && repo_read(&in, digest, sizeof(digest)) &&
	    repo_load_signers(&in, &signers))
		release = repo_load_release(rs, digest[has & (1u << REPO_INRELEASE) ? REPO_INRELEASE :
		    REPO_RELEASE], why, sizeof(why));
	if (release != NULL)
		g = repo_gen_new(repo, seq, release);
	if (g == NULL) {
		log_warning("generation %llu of %.*s is dropped: %s", (unsigned long long)seq,
		    repo != NULL ? (int)repo->root.n : 0, repo != NULL ? repo->root.p : "", why);
		repo_store_drop_gen(rs, row->key);
		return;
	}
	g->adopted_at_s = adopted_at_s;
	g->signers = signers;
	memcpy(g->digest, digest, sizeof(digest));
	for (unsigned i = 0; i < REPO_FILE_N; i++)
		atomic_store(&g->has[i], (has >> i & 1) != 0);
	repo_load_pins(g, in);
	repo_touch(repo, adopted_at_s);
	if (!repo_push_gen(rs, repo, g))
		repo_gen_unref(&g);
}

/* ---- opening ---- */

enum reason
repo_store_load(struct repos *rs)
{
	struct repo_rows rows = {.end = &rows.first};
	struct index_view *view = index_view_open(rs->conf.index);
	struct repo_row *row, *next;
	int dirfd = blobstore_dirfd(rs->conf.blobs);

	if (view == NULL)
		return REASON_NO_MEMORY;
	if (index_walk_repos(view, repo_load_row, &rows) != REASON_OK)
		log_warning("the records of repositories can't be read: they are learned anew");
	if (mkdirat(dirfd, "tables", 0750) != 0 && errno != EEXIST)
		log_warning("cannot make %s/tables: %s: packages are not checked", rs->conf.dir,
		    strerror(errno));
	rs->tables_fd = openat(dirfd, "tables", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* Roots come before their generations: their key is the shorter one. */
	for (row = rows.first; row != NULL; row = next) {
		next = row->next;
		if (row->key_n == KEY_BYTES)
			repo_load_root(rs, (struct slice){row->payload, row->n});
		else if (row->key_n == REPO_GEN_KEY_BYTES)
			repo_load_gen(rs, row);
		free(row);
	}
	for (uint32_t i = 0; i < rs->repos_n; i++)
		if (rs->repos[i]->gens_n > 0)
			COUNT(generations_current);
	if (rs->tables_fd >= 0)
		repo_table_load(rs, view);
	index_view_close(&view);
	return rows.failed ? REASON_NO_MEMORY : REASON_OK;
}

/* ---- adopting ---- */

void
repo_store_drop_root(struct repos *rs, const struct repo *repo)
{
	index_put_repo(rs->conf.index, repo->key.b, KEY_BYTES, NULL, 0, NULL, NULL);
}

/* Writes the generation's record, and waits until it is durable. Not with the lock. */
static enum reason
repo_store_gen_now(struct repos *rs, const struct repo_gen *g)
{
	struct index_wait w;

	index_wait_begin(&w);
	/* Queued under the lock: in the order in which its pins and files change. */
	AZ(pthread_mutex_lock(&rs->lock));
	repo_store_gen(rs, g, index_wait_done, &w);
	AZ(pthread_mutex_unlock(&rs->lock));
	return index_wait_end(&w);
}

/* The generation that is to be recorded; the release is taken over. NULL: no memory. */
static struct repo_gen *
repo_adopt_make(struct repo *repo, uint64_t seq, struct repo_new *n)
{
	struct repo_gen *g = repo_gen_new(repo, seq, n->release);

	n->release = NULL;
	if (g == NULL)
		return NULL;
	g->adopted_at_s = n->adopted_at_s;
	g->signers = n->signers;
	for (unsigned i = 0; i < REPO_FILE_N; i++)
		atomic_store(&g->has[i], n->has[i]);
	memcpy(g->digest, n->digest, sizeof(g->digest));
	return g;
}

enum reason
repo_adopt(struct repos *rs, struct repo_new *n)
{
	struct repo_gen *g;
	struct repo *repo;
	enum reason r = REASON_NO_MEMORY;
	uint64_t seq = 0;

	AZ(pthread_mutex_lock(&rs->lock));
	repo = repo_find_or_add(rs, n->root, n->adopted_at_s);
	if (repo != NULL) {
		repo->adopting_n++;
		seq = repo->next_seq++;
		repo_store_root(rs, repo);
	}
	AZ(pthread_mutex_unlock(&rs->lock));
	if (repo == NULL) {
		release_free(&n->release);
		return r;
	}
	g = repo_adopt_make(repo, seq, n);
	if (g != NULL)
		r = repo_store_gen_now(rs, g);
	AZ(pthread_mutex_lock(&rs->lock));
	/* Publishers that clients may choose freely can't fill the memory. */
	while (r == REASON_OK && rs->memory_bytes + g->release->bytes > rs->conf.memory_max_bytes &&
	    repo_expire_root(rs, true))
		;
	repo->adopting_n--;
	if (r == REASON_OK) {
		repo_table_take(rs, g);
		if (!repo_push_gen(rs, repo, g))
			r = REASON_NO_MEMORY;
		else if (repo->gens_n == 1)
			COUNT(generations_current);
		else
			atomic_store(&rs->flipped_ms, clock_mono_ms());
		repo_publish(rs);
	}
	AZ(pthread_mutex_unlock(&rs->lock));
	if (r != REASON_OK)
		repo_gen_unref(&g);
	return r;
}

enum reason
repo_attach_file(struct repos *rs, struct repo_gen *g, enum repo_file which,
    const uint8_t digest[32])
{
	bool forgotten;

	AZ(pthread_mutex_lock(&rs->lock));
	AZ(pthread_mutex_lock(&g->files_lock));
	memcpy(g->digest[which], digest, 32);
	atomic_store(&g->has[which], true);
	AZ(pthread_mutex_unlock(&g->files_lock));
	forgotten = g->repo->forgotten;
	repo_publish(rs);
	AZ(pthread_mutex_unlock(&rs->lock));
	return forgotten ? REASON_OK : repo_store_gen_now(rs, g);
}
