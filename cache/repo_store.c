/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Generations on disk. In the index there is a record for each root (its URL
 * and which of its indexes are asked for) and one for each generation (when
 * it was adopted, the digests of its Release files, its pins); the Release
 * itself is a body among others, read and parsed again at start. Adopting a
 * generation is the write of its one record: what it refers to was stored
 * before, and the highest number is the current one.
 *
 * Tables of packages lie in cache_dir/tables, named by the digest of the
 * index they were made from. They can be made again from it at any time, so
 * a missing or damaged one is no loss.
 */
#include "cache/repo_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/record.h"
#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

enum {
	REPO_GEN_KEY_BYTES = KEY_BYTES + 8,
	REPO_RECORD_VERSION = 1,
	REPO_TABLE_GRACE_MS = 600 * 1000,
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
	if (!w->ok)
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

/* Root's key, then the number with its high byte first, so that they sort. */
static void
repo_gen_key(const struct repo *repo, uint64_t seq, uint8_t out[REPO_GEN_KEY_BYTES])
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
	repo_gen_key(g->repo, g->seq, key);
	index_put_repo(rs->conf.index, key, sizeof(key), out,
	    record_repo_seal(out, w.n, key, sizeof(key)), done, arg);
}

/* The record goes. */
static void
repo_drop_gen_record(struct repos *rs, const uint8_t key[REPO_GEN_KEY_BYTES])
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
	    (repo = repo_find_or_add(rs, root)) == NULL)
		return;
	while (repo->members_n < REPO_MEMBERS_MAX && repo_read(&in, &asked_at_s, 8) &&
	    repo_read_text(&in, &path)) {
		struct repo_member *m = &repo->members[repo->members_n];

		m->path = strndup(path.p, path.n);
		m->asked_at_s = asked_at_s;
		repo->members_n += m->path != NULL;
	}
}

/* Puts the generation in front of the older ones; false: out of memory. */
static bool
repo_push_gen(struct repo *repo, struct repo_gen *g)
{
	if (repo->gens_n == repo->gens_cap) {
		unsigned cap = repo->gens_cap != 0 ? repo->gens_cap * 2 : 8;
		struct repo_gen **v = realloc(repo->gens, cap * sizeof(struct repo_gen *));

		if (v == NULL)
			return false;
		repo->gens = v;
		repo->gens_cap = cap;
	}
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
	uint16_t version, has;
	int64_t adopted_at_s;
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
		repo_drop_gen_record(rs, row->key);
		return;
	}
	g->adopted_at_s = adopted_at_s;
	g->signers = signers;
	memcpy(g->digest, digest, sizeof(digest));
	for (unsigned i = 0; i < REPO_FILE_N; i++)
		atomic_store(&g->has[i], (has >> i & 1) != 0);
	repo_load_pins(g, in);
	if (!repo_push_gen(repo, g))
		repo_gen_unref(&g);
}

/* ---- tables ---- */

static struct repo_table *
repo_table_find(struct repos *rs, const uint8_t sha256[32])
{
	struct repo_table *t;

	TAILQ_FOREACH(t, &rs->tables, link)
		if (memcmp(t->digest, sha256, 32) == 0)
			return t;
	return NULL;
}

/*
 * Does the generation list the index of this SHA-256? Where only SHA-512 is
 * listed, the stored version of the URL says which body it is.
 */
static const struct release_file *
repo_gen_lists(struct index_view *view, const struct repo_gen *g, const uint8_t sha256[32])
{
	const struct release_file *rf = repo_gen_by_digest(g, APTFILE_SHA256, sha256);
	char text[OBJECT_TEXT_MAX];

	if (rf != NULL || g->by_sha256.n == g->release->files_n || view == NULL)
		return rf;
	for (size_t i = 0; i < g->release->files_n; i++) {
		const struct release_file *f = &g->release->files[i];
		char url[8192];
		struct flight_expect e;
		struct object_rec rec;
		struct release_index ri;
		struct key key;
		int n;

		release_index_of(&ri, f->path);
		if (f->has_sha256 || ri.list == RELEASE_OTHER || !repo_file_expect(f, &e))
			continue;
		n = snprintf(url, sizeof(url), "%.*s%.*s", SLICE_ARG(g->repo->root),
		    SLICE_ARG(f->path));
		if (n <= 0 || (size_t)n >= sizeof(url))
			continue;
		repo_version_key((struct slice){url, (size_t)n}, &e, &key);
		if (index_get_object(view, &key, &rec, text) == REASON_OK &&
		    memcmp(rec.digest, sha256, 32) == 0)
			return f;
	}
	return NULL;
}

/* Gives the table to every generation that lists its index; how many (lock held). */
static unsigned
repo_table_hand_out(struct repos *rs, struct index_view *view, struct repo_table *t)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < rs->repos_n; i++)
		for (unsigned k = 0; k < rs->repos[i]->gens_n; k++) {
			if (repo_gen_lists(view, rs->repos[i]->gens[k], t->digest) == NULL)
				continue;
			repo_gen_add_table(rs->repos[i]->gens[k], t);
			n++;
		}
	return n;
}

/* Opens tables/<hex>; NULL: not there, or damaged. */
static struct repo_table *
repo_table_open(struct repos *rs, const uint8_t sha256[32])
{
	char hex[KEY_HEX_BYTES];
	struct repo_table *t = calloc(1, sizeof(*t));

	key_hex(sha256, hex);
	if (t == NULL || pkgtable_open(rs->tables_fd, hex, &t->t) != REASON_OK) {
		free(t);
		return NULL;
	}
	memcpy(t->digest, sha256, 32);
	t->made_ms = clock_mono_ms();
	atomic_init(&t->refs, 1);
	return t;
}

/* Opens what is in tables/; what no generation needs, or is damaged, goes. */
static void
repo_load_tables(struct repos *rs, struct index_view *view)
{
	int fd = fcntl(rs->tables_fd, F_DUPFD_CLOEXEC, 0);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;
	uint8_t digest[32];

	if (dir == NULL && fd >= 0)
		(void)close(fd);
	while (dir != NULL && (de = readdir(dir)) != NULL) {
		struct repo_table *t = NULL;

		if (de->d_name[0] == '.')
			continue;
		if (key_from_hex(slice_of(de->d_name), digest))
			t = repo_table_open(rs, digest);
		if (t != NULL && repo_table_hand_out(rs, view, t) > 0) {
			TAILQ_INSERT_TAIL(&rs->tables, t, link);
			continue;
		}
		if (t != NULL)
			repo_table_unref(t);
		(void)unlinkat(rs->tables_fd, de->d_name, 0);
	}
	if (dir != NULL)
		(void)closedir(dir);
}

bool
repo_has_table(struct repos *rs, const uint8_t sha256[32])
{
	bool has;

	AZ(pthread_mutex_lock(&rs->lock));
	has = repo_table_find(rs, sha256) != NULL;
	AZ(pthread_mutex_unlock(&rs->lock));
	return has;
}

int
repo_tables_dirfd(const struct repos *rs)
{
	return rs->tables_fd;
}

bool
repo_table_wanted(struct repos *rs, const uint8_t sha256[32], char path[1024],
    uint64_t *size_bytes)
{
	struct index_view *view = index_view_open(rs->conf.index);
	const struct release_file *rf = NULL;
	struct release_index ri;
	bool wanted = false;

	AZ(pthread_mutex_lock(&rs->lock));
	if (repo_table_find(rs, sha256) == NULL)
		for (uint32_t i = 0; i < rs->repos_n && !wanted; i++)
			for (unsigned k = 0; k < rs->repos[i]->gens_n && !wanted; k++) {
				const struct repo_gen *g = rs->repos[i]->gens[k];

				rf = repo_gen_lists(view, g, sha256);
				if (rf == NULL || rf->path.n >= 1024)
					continue;
				release_index_of(&ri, rf->path);
				wanted = ri.list != RELEASE_OTHER && ri.kind != UNPACK_UNKNOWN;
				memcpy(path, rf->path.p, rf->path.n);
				path[rf->path.n] = '\0';
				*size_bytes = release_unpacked_bytes(g->release, rf);
			}
	AZ(pthread_mutex_unlock(&rs->lock));
	index_view_close(&view);
	return wanted;
}

enum reason
repo_table_attach(struct repos *rs, const uint8_t sha256[32])
{
	struct repo_table *t = repo_table_open(rs, sha256);
	struct index_view *view = index_view_open(rs->conf.index);

	if (t == NULL) {
		index_view_close(&view);
		return REASON_DISK_ERROR;
	}
	AZ(pthread_mutex_lock(&rs->lock));
	if (repo_table_find(rs, sha256) == NULL) {
		TAILQ_INSERT_TAIL(&rs->tables, t, link);
		if (repo_table_hand_out(rs, view, t) > 0)
			repo_publish(rs);
	} else
		repo_table_unref(t);
	AZ(pthread_mutex_unlock(&rs->lock));
	index_view_close(&view);
	return REASON_OK;
}

void
repo_each_missing_table(struct repos *rs, repo_missing_f *fn, void *arg)
{
	struct index_view *view = index_view_open(rs->conf.index);
	struct blob_rec blob;

	AZ(pthread_mutex_lock(&rs->lock));
	for (uint32_t i = 0; view != NULL && i < rs->repos_n; i++)
		for (unsigned k = 0; k < rs->repos[i]->gens_n; k++) {
			const struct repo_gen *g = rs->repos[i]->gens[k];

			for (size_t f = 0; f < g->release->files_n; f++) {
				const struct release_file *rf = &g->release->files[f];
				struct release_index ri;

				release_index_of(&ri, rf->path);
				if (ri.list != RELEASE_OTHER && rf->has_sha256 &&
				    repo_table_find(rs, rf->sha256) == NULL &&
				    index_get_blob(view, rf->sha256, &blob) == REASON_OK)
					fn(arg, rf->sha256);
			}
		}
	AZ(pthread_mutex_unlock(&rs->lock));
	index_view_close(&view);
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
		repo_load_tables(rs, view);
	index_view_close(&view);
	return rows.failed ? REASON_NO_MEMORY : REASON_OK;
}

/* ---- adopting ---- */

struct repo_wait {
	sem_t done;
	enum reason r;
};

static void
repo_stored(void *arg, enum reason r)
{
	struct repo_wait *w = arg;

	w->r = r;
	AZ(sem_post(&w->done));
}

/* Writes the generation's record, and waits until it is durable. Not with the lock. */
static enum reason
repo_store_gen_now(struct repos *rs, const struct repo_gen *g)
{
	struct repo_wait w = {.r = REASON_OK};

	AZ(sem_init(&w.done, 0, 0));
	/* Queued under the lock: in the order in which its pins and files change. */
	AZ(pthread_mutex_lock(&rs->lock));
	repo_store_gen(rs, g, repo_stored, &w);
	AZ(pthread_mutex_unlock(&rs->lock));
	while (sem_wait(&w.done) != 0)
		MUST(errno == EINTR);
	AZ(sem_destroy(&w.done));
	return w.r;
}

/* The tables that are here already for what it lists (lock held). */
static void
repo_gen_take_tables(struct repos *rs, struct repo_gen *g)
{
	struct index_view *view = index_view_open(rs->conf.index);
	struct repo_table *t;

	TAILQ_FOREACH(t, &rs->tables, link)
		if (repo_gen_lists(view, g, t->digest) != NULL)
			repo_gen_add_table(g, t);
	index_view_close(&view);
}

enum reason
repo_adopt(struct repos *rs, struct repo_new *n)
{
	struct repo_gen *g = NULL;
	struct repo *repo;
	enum reason r = REASON_NO_MEMORY;
	uint64_t seq = 0;

	AZ(pthread_mutex_lock(&rs->lock));
	repo = repo_find_or_add(rs, n->root);
	if (repo != NULL) {
		seq = repo->next_seq++;
		repo_store_root(rs, repo);
	}
	AZ(pthread_mutex_unlock(&rs->lock));
	if (repo != NULL)
		g = repo_gen_new(repo, seq, n->release);
	else
		release_free(&n->release);
	n->release = NULL;
	if (g == NULL)
		return r;
	g->adopted_at_s = n->adopted_at_s;
	g->signers = n->signers;
	for (unsigned i = 0; i < REPO_FILE_N; i++)
		atomic_store(&g->has[i], n->has[i]);
	memcpy(g->digest, n->digest, sizeof(g->digest));
	r = repo_store_gen_now(rs, g);
	if (r != REASON_OK) {
		repo_gen_unref(&g);
		return r;
	}
	AZ(pthread_mutex_lock(&rs->lock));
	repo_gen_take_tables(rs, g);
	if (!repo_push_gen(repo, g)) {
		repo_gen_unref(&g);
		r = REASON_NO_MEMORY;
	} else if (repo->gens_n == 1)
		COUNT(generations_current);
	else
		atomic_store(&rs->flipped_ms, clock_mono_ms());
	repo_publish(rs);
	AZ(pthread_mutex_unlock(&rs->lock));
	return r;
}

enum reason
repo_attach_file(struct repos *rs, struct repo_gen *g, enum repo_file which,
    const uint8_t digest[32])
{
	AZ(pthread_mutex_lock(&rs->lock));
	AZ(pthread_mutex_lock(&g->files_lock));
	memcpy(g->digest[which], digest, 32);
	atomic_store(&g->has[which], true);
	AZ(pthread_mutex_unlock(&g->files_lock));
	repo_publish(rs);
	AZ(pthread_mutex_unlock(&rs->lock));
	return repo_store_gen_now(rs, g);
}

/* ---- expiring ---- */

/* Does another kept generation say the same of this path? (lock held) */
static bool
repo_others_list(const struct repo *repo, const struct repo_gen *but, struct slice path,
    const struct flight_expect *e)
{
	for (unsigned i = 0; i < repo->gens_n; i++) {
		const struct release_file *rf;
		struct flight_expect other;

		if (repo->gens[i] == but)
			continue;
		rf = release_find(repo->gens[i]->release, path);
		if (rf != NULL && repo_file_expect(rf, &other) && other.hash == e->hash &&
		    memcmp(other.digest, e->digest, sizeof(e->digest)) == 0)
			return true;
	}
	return false;
}

/* Was another kept generation the same publication, with this very file? (lock held) */
static bool
repo_others_have(const struct repo *repo, const struct repo_gen *but, unsigned which)
{
	for (unsigned i = 0; i < repo->gens_n; i++) {
		const struct repo_gen *g = repo->gens[i];

		if (g != but && atomic_load(&g->has[which]) &&
		    memcmp(g->digest[which], but->digest[which], 32) == 0)
			return true;
	}
	return false;
}

/* The stored version of a file of the generation is wanted no longer. */
static void
repo_forget_version(struct repos *rs, const struct repo *repo, struct slice path,
    const struct flight_expect *e)
{
	char url[8192];
	struct key key;
	int n = snprintf(url, sizeof(url), "%.*s%.*s", SLICE_ARG(repo->root), SLICE_ARG(path));

	if (n <= 0 || (size_t)n >= sizeof(url))
		return;
	repo_version_key((struct slice){url, (size_t)n}, e, &key);
	index_forget(rs->conf.index, &key);
}

/* Takes it out of registry and index, with what only it refers to (lock held). */
static void
repo_expire_gen(struct repos *rs, struct repo *repo, unsigned at)
{
	struct repo_gen *g = repo->gens[at];
	uint8_t key[REPO_GEN_KEY_BYTES];
	struct flight_expect e = {.hash = APTFILE_SHA256, .size_bytes = -1};

	log_info("generation %llu of %.*s goes: newer ones are kept", (unsigned long long)g->seq,
	    SLICE_ARG(repo->root));
	COUNT(generations_expired_total);
	for (unsigned i = 0; i < REPO_FILE_N; i++) {
		if (!atomic_load(&g->has[i]) || repo_others_have(repo, g, i))
			continue;
		memcpy(e.digest, g->digest[i], 32);
		repo_forget_version(rs, repo, repo_file_names[i], &e);
	}
	for (unsigned i = 0; i < repo->members_n; i++) {
		struct slice path = slice_of(repo->members[i].path);
		const struct release_file *rf = release_find(g->release, path);

		if (rf != NULL && repo_file_expect(rf, &e) && !repo_others_list(repo, g, path, &e))
			repo_forget_version(rs, repo, path, &e);
	}
	repo_gen_key(repo, g->seq, key);
	repo_drop_gen_record(rs, key);
	repo->gens_n--;
	memmove(&repo->gens[at], &repo->gens[at + 1],
	    (repo->gens_n - at) * sizeof(struct repo_gen *));
	repo_gen_unref(&g);
}

/* Tables that no generation refers to go, with their files. */
static void
repo_expire_tables(struct repos *rs)
{
	int64_t before_ms = clock_mono_ms() - REPO_TABLE_GRACE_MS;
	TAILQ_HEAD(, repo_table) gone = TAILQ_HEAD_INITIALIZER(gone);
	struct repo_table *t, *next;
	char hex[KEY_HEX_BYTES];

	AZ(pthread_mutex_lock(&rs->lock));
	for (t = TAILQ_FIRST(&rs->tables); t != NULL; t = next) {
		next = TAILQ_NEXT(t, link);
		if (atomic_load(&t->refs) != 1 || t->made_ms > before_ms)
			continue;
		TAILQ_REMOVE(&rs->tables, t, link);
		TAILQ_INSERT_TAIL(&gone, t, link);
	}
	AZ(pthread_mutex_unlock(&rs->lock));
	while ((t = TAILQ_FIRST(&gone)) != NULL) {
		TAILQ_REMOVE(&gone, t, link);
		key_hex(t->digest, hex);
		(void)unlinkat(rs->tables_fd, hex, 0);
		repo_table_unref(t);
	}
}

void
repo_expire(struct repos *rs)
{
	bool changed = false;

	AZ(pthread_mutex_lock(&rs->lock));
	for (uint32_t i = 0; i < rs->repos_n; i++) {
		struct repo *repo = rs->repos[i];

		for (unsigned k = repo->gens_n; k-- > 1;) {
			if (k < rs->conf.keep_n || repo->gens[k]->pins_n > 0 ||
			    repo_hold_is_held(rs->holds, repo, repo->gens[k]->seq,
			    clock_mono_ms() - rs->conf.hold_ms))
				continue;
			repo_expire_gen(rs, repo, k);
			changed = true;
		}
	}
	if (changed)
		repo_publish(rs);
	AZ(pthread_mutex_unlock(&rs->lock));
	repo_expire_tables(rs);
}

/* ---- what eviction takes last ---- */

struct repo_keep_one {
	uint8_t digest[32];
	enum repo_keeping keeping;
};

struct repo_keep {
	struct repo_keep_one *v;
	size_t n, cap;
	bool full;
};

static void
repo_keep_add(struct repo_keep *k, const uint8_t *digest, enum repo_keeping keeping)
{
	if (k->n == k->cap) {
		size_t cap = k->cap != 0 ? k->cap * 2 : 256;
		struct repo_keep_one *v = realloc(k->v, cap * sizeof(*v));

		k->full |= v == NULL;
		if (v == NULL)
			return;
		k->v = v;
		k->cap = cap;
	}
	memcpy(k->v[k->n].digest, digest, 32);
	k->v[k->n++].keeping = keeping;
}

/* All that a pinned generation's tables name. */
static bool
repo_keep_entry(void *arg, const struct pkgtable_entry *e)
{
	if (e->digest_n == 32)
		repo_keep_add(arg, e->digest, REPO_KEEP_PINNED);
	return true;
}

static void
repo_keep_gen(struct repo_keep *k, const struct repo *repo, struct repo_gen *g)
{
	enum repo_keeping keeping = g->pins_n > 0 ? REPO_KEEP_PINNED : REPO_KEEP_LONG;

	for (unsigned i = 0; i < REPO_FILE_N; i++)
		if (atomic_load(&g->has[i]))
			repo_keep_add(k, g->digest[i], keeping);
	for (unsigned i = 0; i < repo->members_n; i++) {
		const struct release_file *rf = release_find(g->release,
		    slice_of(repo->members[i].path));

		if (rf != NULL && rf->has_sha256)
			repo_keep_add(k, rf->sha256, keeping);
	}
	for (uint32_t i = 0; i < atomic_load(&g->tables_n); i++)
		repo_keep_add(k, g->tables[i]->digest, keeping);
}

/* A reference to each pinned generation: their tables are on disk, which is not read with the lock. */
static struct repo_gen **
repo_keep_pinned(struct repos *rs, size_t *n)
{
	struct repo_gen **v = NULL;
	size_t cap = 0;

	for (uint32_t i = 0; i < rs->repos_n; i++)
		for (unsigned g = 0; g < rs->repos[i]->gens_n; g++)
			cap += rs->repos[i]->gens[g]->pins_n > 0;
	v = calloc(cap + 1, sizeof(struct repo_gen *));
	for (uint32_t i = 0; v != NULL && i < rs->repos_n; i++)
		for (unsigned g = 0; g < rs->repos[i]->gens_n; g++)
			if (rs->repos[i]->gens[g]->pins_n > 0)
				v[(*n)++] = repo_gen_ref(rs->repos[i]->gens[g]);
	return v;
}

/* By digest, the stronger word first. */
static int
repo_keep_compare(const void *a, const void *b)
{
	const struct repo_keep_one *ka = a, *kb = b;
	int c = memcmp(ka->digest, kb->digest, 32);

	return c != 0 ? c : (int)kb->keeping - (int)ka->keeping;
}

struct repo_keep *
repo_keep_new(struct repos *rs)
{
	struct repo_keep *k = calloc(1, sizeof(*k));
	struct repo_gen **pinned;
	size_t n = 0, pinned_n = 0;

	if (k == NULL)
		return NULL;
	AZ(pthread_mutex_lock(&rs->lock));
	for (uint32_t i = 0; i < rs->repos_n; i++)
		for (unsigned g = 0; g < rs->repos[i]->gens_n; g++)
			repo_keep_gen(k, rs->repos[i], rs->repos[i]->gens[g]);
	pinned = repo_keep_pinned(rs, &pinned_n);
	AZ(pthread_mutex_unlock(&rs->lock));
	k->full |= pinned == NULL;
	for (size_t i = 0; i < pinned_n; i++) {
		for (uint32_t t = 0; t < atomic_load(&pinned[i]->tables_n); t++)
			pkgtable_each(pinned[i]->tables[t]->t, repo_keep_entry, k);
		repo_gen_unref(&pinned[i]);
	}
	free(pinned);
	if (k->full) {
		repo_keep_free(&k);
		return NULL;
	}
	if (k->n > 1)
		qsort(k->v, k->n, sizeof(*k->v), repo_keep_compare);
	for (size_t i = 0; i < k->n; i++)
		if (n == 0 || memcmp(k->v[n - 1].digest, k->v[i].digest, 32) != 0)
			k->v[n++] = k->v[i];
	k->n = n;
	return k;
}

void
repo_keep_free(struct repo_keep **k_p)
{
	struct repo_keep *k = *k_p;

	*k_p = NULL;
	if (k == NULL)
		return;
	free(k->v);
	free(k);
}

enum repo_keeping
repo_keep_find(const struct repo_keep *k, const uint8_t digest[32])
{
	size_t from = 0, to = k->n;

	while (from < to) {
		size_t mid = from + (to - from) / 2;
		int c = memcmp(k->v[mid].digest, digest, 32);

		if (c == 0)
			return k->v[mid].keeping;
		if (c < 0)
			from = mid + 1;
		else
			to = mid;
	}
	return REPO_KEEP_NO;
}
