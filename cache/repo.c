/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The registry of repositories, and what a URL means in it: which root it
 * lies below, which generation its client sees, and what that generation
 * says the bytes must be. cache.c asks through a view per worker.
 *
 * A snapshot (struct repo_set) lists every directory that matters: roots,
 * the parents of dists/, and a few parents of flat roots, because `Filename`
 * starts from one of these. A URL is looked up directory by directory, the
 * longest first. Answers for clients that hold nothing old are remembered by
 * the view until the epoch moves, so that a hit on a package costs one
 * comparison more than it did.
 */
#include "cache/repo_priv.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "include/counter.h"
#include "include/log.h"

const struct slice repo_file_names[REPO_FILE_N] = {
	[REPO_INRELEASE] = {"InRelease", sizeof("InRelease") - 1},
	[REPO_RELEASE] = {"Release", sizeof("Release") - 1},
	[REPO_SIGNATURE] = {"Release.gpg", sizeof("Release.gpg") - 1},
};

static const uint64_t repo_hash_seed = UINT64_C(0xcbf29ce484222325);

/* FNV-1a, one byte further. */
static inline uint64_t
repo_hash_byte(uint64_t h, char c)
{
	return (h ^ (unsigned char)c) * UINT64_C(0x100000001b3);
}

static uint64_t
repo_hash(struct slice s)
{
	uint64_t h = repo_hash_seed;

	for (size_t i = 0; i < s.n; i++)
		h = repo_hash_byte(h, s.p[i]);
	return h;
}

/* ---- the registry (lock held) ---- */

struct repo *
repo_find(struct repos *rs, struct slice root)
{
	for (uint32_t i = 0; i < rs->repos_n; i++)
		if (slice_eq(rs->repos[i]->root, root))
			return rs->repos[i];
	return NULL;
}

/* Bytes of the root before "dists/", 0 for a flat one. */
static size_t
repo_base_of(struct slice root)
{
	const struct slice word = SLICE("/dists/");
	const char *p = memmem(root.p, root.n, word.p, word.n), *last = NULL;

	for (; p != NULL; p = memmem(p + 1, root.n - (size_t)(p + 1 - root.p), word.p, word.n))
		last = p;
	/* "dists/" itself holds suites, it is none. */
	if (last == NULL || (size_t)(last - root.p) + word.n == root.n)
		return 0;
	return (size_t)(last - root.p) + 1;
}

struct repo *
repo_find_or_add(struct repos *rs, struct slice root)
{
	struct repo *repo = repo_find(rs, root);
	char *text;

	if (repo != NULL)
		return repo;
	if (rs->repos_n >= REPO_ROOTS_MAX) {
		COUNT(repositories_refused_total);
		return NULL;
	}
	text = strndup(root.p, root.n);
	OBJ_NEW(repo, REPO_MAGIC);
	if (repo == NULL || text == NULL) {
		free(text);
		free(repo);
		return NULL;
	}
	repo->root = (struct slice){text, root.n};
	repo->base_n = repo_base_of(repo->root);
	repo->next_seq = 1;
	key_of_text(repo->root, &repo->key);
	rs->repos[rs->repos_n++] = repo;
	atomic_store(&rs->known_n, rs->repos_n);
	return repo;
}

/* ---- snapshots ---- */

static void
repo_set_unref(struct repo_set *set)
{
	if (set == NULL || atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (uint32_t i = 0; i < set->repos_n; i++) {
		for (unsigned k = 0; k < set->repos[i].gens_n; k++)
			repo_gen_unref(&set->repos[i].gens[k]);
		free(set->repos[i].gens);
	}
	free(set->repos);
	free(set->dirs);
	free(set->buckets);
	free(set);
}

/* Lists a directory of a repository in the snapshot. */
static void
repo_set_add_dir(struct repo_set *set, uint32_t repo, struct slice text, uint8_t up)
{
	struct repo_dir *d = &set->dirs[set->dirs_n];
	uint32_t *bucket;

	*d = (struct repo_dir){.text = text, .hash = repo_hash(text), .repo = repo, .up = up};
	bucket = &set->buckets[d->hash & (set->buckets_n - 1)];
	d->next = *bucket;
	*bucket = set->dirs_n++;
}

/* The root, and where its packages' names may start. */
static void
repo_set_add_repo(struct repo_set *set, uint32_t i)
{
	const struct repo *repo = set->repos[i].repo;
	struct slice dir = repo->root;
	const char *host = memmem(dir.p, dir.n, "://", 3);

	repo_set_add_dir(set, i, dir, 0);
	if (repo->base_n != 0) {
		dir.n = repo->base_n;
		repo_set_add_dir(set, i, dir, REPO_DIR_BASE);
		return;
	}
	for (uint8_t up = 1; up <= REPO_UP_MAX; up++) {
		do
			dir.n--;
		while (dir.n > 0 && dir.p[dir.n - 1] != '/');
		if (host == NULL || dir.p + dir.n <= host + 3)
			return;
		repo_set_add_dir(set, i, dir, up);
	}
}

/* NULL: out of memory; the older snapshot stays. */
static struct repo_set *
repo_set_new(struct repos *rs)
{
	struct repo_set *set = calloc(1, sizeof(*set));
	uint32_t i;

	if (set == NULL)
		return NULL;
	atomic_init(&set->refs, 1);
	for (set->buckets_n = 64; set->buckets_n < 8 * rs->repos_n; set->buckets_n *= 2)
		;
	set->repos = calloc(rs->repos_n + 1, sizeof(*set->repos));
	set->dirs = calloc((size_t)(rs->repos_n + 1) * (REPO_UP_MAX + 1), sizeof(*set->dirs));
	set->buckets = malloc(set->buckets_n * sizeof(*set->buckets));
	if (set->repos == NULL || set->dirs == NULL || set->buckets == NULL)
		goto fail;
	memset(set->buckets, 0xff, set->buckets_n * sizeof(*set->buckets));
	for (i = 0; i < rs->repos_n; i++) {
		struct repo_snap *snap = &set->repos[i];

		snap->repo = rs->repos[i];
		snap->gens = calloc(snap->repo->gens_n + 1, sizeof(struct repo_gen *));
		if (snap->gens == NULL)
			goto fail;
		set->repos_n++;
		while (snap->gens_n < snap->repo->gens_n) {
			snap->gens[snap->gens_n] = repo_gen_ref(snap->repo->gens[snap->gens_n]);
			snap->gens_n++;
		}
		repo_set_add_repo(set, i);
	}
	return set;
fail:
	repo_set_unref(set);
	return NULL;
}

void
repo_publish(struct repos *rs)
{
	struct repo_set *set = repo_set_new(rs);

	if (set == NULL)
		return;
	set->epoch = atomic_load(&rs->epoch) + 1;
	repo_set_unref(rs->set);
	rs->set = set;
	atomic_store_explicit(&rs->epoch, set->epoch, memory_order_release);
}

uint64_t
repo_epoch(const struct repos *rs)
{
	return atomic_load_explicit(&rs->epoch, memory_order_acquire);
}

/* ---- opening and closing ---- */

enum reason
repos_open(struct repos **rs_p, const struct repos_conf *conf)
{
	struct repos *rs;
	enum reason r = REASON_NO_MEMORY;

	OBJ_NEW(rs, REPOS_MAGIC);
	if (rs == NULL)
		return r;
	rs->conf = *conf;
	rs->tables_fd = -1;
	TAILQ_INIT(&rs->tables);
	AZ(pthread_mutex_init(&rs->lock, NULL));
	rs->holds = repo_holds_new();
	if (rs->holds != NULL)
		r = repo_store_load(rs);
	if (r == REASON_OK) {
		AZ(pthread_mutex_lock(&rs->lock));
		repo_publish(rs);
		AZ(pthread_mutex_unlock(&rs->lock));
		if (rs->set == NULL)
			r = REASON_NO_MEMORY;
	}
	if (r != REASON_OK) {
		repos_close(&rs);
		return r;
	}
	*rs_p = rs;
	return REASON_OK;
}

static void
repo_free(struct repo *repo)
{
	for (unsigned i = 0; i < repo->gens_n; i++)
		repo_gen_unref(&repo->gens[i]);
	for (unsigned i = 0; i < repo->members_n; i++)
		free(repo->members[i].path);
	free(repo->gens);
	free((void *)(uintptr_t)repo->root.p);
	OBJ_FREE(repo);
}

void
repos_close(struct repos **rs_p)
{
	struct repos *rs = *rs_p;
	struct repo_table *t;

	*rs_p = NULL;
	if (rs == NULL)
		return;
	CHECK_OBJ(rs, REPOS_MAGIC);
	repo_set_unref(rs->set);
	for (uint32_t i = 0; i < rs->repos_n; i++) {
		if (rs->repos[i]->gens_n > 0)
			COUNT_DOWN(generations_current);
		repo_free(rs->repos[i]);
	}
	while ((t = TAILQ_FIRST(&rs->tables)) != NULL) {
		TAILQ_REMOVE(&rs->tables, t, link);
		pkgtable_close(&t->t);
		free(t);
	}
	repo_holds_free(&rs->holds);
	if (rs->tables_fd >= 0)
		(void)close(rs->tables_fd);
	AZ(pthread_mutex_destroy(&rs->lock));
	OBJ_FREE(rs);
}

struct repo_view *
repo_view_open(struct repos *rs)
{
	struct repo_view *v;

	CHECK_OBJ(rs, REPOS_MAGIC);
	OBJ_NEW(v, REPO_VIEW_MAGIC);
	if (v != NULL)
		v->rs = rs;
	return v;
}

void
repo_view_close(struct repo_view **v_p)
{
	struct repo_view *v = *v_p;

	*v_p = NULL;
	if (v == NULL)
		return;
	CHECK_OBJ(v, REPO_VIEW_MAGIC);
	repo_set_unref(v->set);
	free(v->memos);
	OBJ_FREE(v);
}

/* Takes the newest snapshot when there is a newer one. */
static const struct repo_set *
repo_view_refresh(struct repo_view *v)
{
	struct repos *rs = v->rs;

	CHECK_OBJ(v, REPO_VIEW_MAGIC);
	if (v->set != NULL && v->set->epoch == repo_epoch(rs))
		return v->set;
	AZ(pthread_mutex_lock(&rs->lock));
	repo_set_unref(v->set);
	v->set = rs->set;
	(void)atomic_fetch_add(&v->set->refs, 1);
	AZ(pthread_mutex_unlock(&rs->lock));
	return v->set;
}

void
repo_view_tick(struct repo_view *v)
{
	(void)repo_view_refresh(v);
}

/* ---- versions ---- */

void
repo_version_key(struct slice url, const struct flight_expect *expect, struct key *key)
{
	static const char tag[] = "#sha256=", tag512[] = "#sha512=";
	bool is512 = expect->hash == APTFILE_SHA512;
	size_t digest_n = is512 ? 64 : 32;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	/* A digest's raw bytes behind the tag: no URL ends so, fragments are cut off. */
	AN(ctx);
	MUST(EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
	    EVP_DigestUpdate(ctx, url.p, url.n) == 1 &&
	    EVP_DigestUpdate(ctx, is512 ? tag512 : tag, sizeof(tag) - 1) == 1 &&
	    EVP_DigestUpdate(ctx, expect->digest, digest_n) == 1 &&
	    EVP_DigestFinal_ex(ctx, key->b, NULL) == 1);
	EVP_MD_CTX_free(ctx);
}

bool
repo_file_expect(const struct release_file *rf, struct flight_expect *out)
{
	if (!rf->has_sha256 && !rf->has_sha512)
		return false;
	memset(out, 0, sizeof(*out));
	out->size_bytes = (int64_t)rf->size_bytes;
	out->hash = rf->has_sha256 ? APTFILE_SHA256 : APTFILE_SHA512;
	if (rf->has_sha256)
		memcpy(out->digest, rf->sha256, 32);
	else
		memcpy(out->digest, rf->sha512, 64);
	return true;
}

/* ---- a URL's directories ---- */

struct repo_path {
	struct slice url;		/* without query */
	unsigned n;
	struct {
		size_t n;
		uint64_t hash;
	} dirs[REPO_DEPTH_MAX];		/* shortest first */
};

static void
repo_path_split(struct repo_path *p, struct slice url)
{
	const char *q = memchr(url.p, '?', url.n), *host;
	uint64_t h = repo_hash_seed;
	size_t from;

	if (q != NULL)
		url.n = (size_t)(q - url.p);
	p->url = url;
	p->n = 0;
	host = memmem(url.p, url.n, "://", 3);
	from = host != NULL ? (size_t)(host - url.p) + 3 : url.n;
	for (size_t i = 0; i < url.n && p->n < REPO_DEPTH_MAX; i++) {
		h = repo_hash_byte(h, url.p[i]);
		if (i >= from && url.p[i] == '/') {
			p->dirs[p->n].n = i + 1;
			p->dirs[p->n++].hash = h;
		}
	}
}

/* The next directory entry of the snapshot that is just this prefix; *at: where to go on. */
static const struct repo_dir *
repo_set_next_dir(const struct repo_set *set, const struct repo_path *p, unsigned depth,
    uint32_t *at)
{
	struct slice dir = {p->url.p, p->dirs[depth].n};

	while (*at != UINT32_MAX) {
		const struct repo_dir *d = &set->dirs[*at];

		*at = d->next;
		if (d->hash == p->dirs[depth].hash && slice_eq(d->text, dir))
			return d;
	}
	return NULL;
}

static uint32_t
repo_set_first(const struct repo_set *set, const struct repo_path *p, unsigned depth)
{
	return set->buckets[p->dirs[depth].hash & (set->buckets_n - 1)];
}

/* ---- which generation ---- */

/* Two digits with a value of at most max; false: something else. */
static bool
repo_two_digits(const char *p, int max, int *out)
{
	if (p[0] < '0' || p[0] > '9' || p[1] < '0' || p[1] > '9')
		return false;
	*out = (p[0] - '0') * 10 + (p[1] - '0');
	return *out <= max;
}

/* "2026-11-01" */
static bool
repo_parse_date(const char *p, struct tm *tm)
{
	int century, y, m, d;

	if (!repo_two_digits(p, 99, &century) || !repo_two_digits(p + 2, 99, &y) || p[4] != '-' ||
	    !repo_two_digits(p + 5, 12, &m) || p[7] != '-' || !repo_two_digits(p + 8, 31, &d) ||
	    century * 100 + y < 1970 || m == 0 || d == 0)
		return false;
	*tm = (struct tm){.tm_year = century * 100 + y - 1900, .tm_mon = m - 1, .tm_mday = d};
	return true;
}

/* "Z", "+01:00"; how many seconds before the world's clocks. */
static bool
repo_parse_zone(struct slice s, int64_t *ahead_s)
{
	int h, m;

	*ahead_s = 0;
	if (s.n == 1)
		return s.p[0] == 'Z' || s.p[0] == 'z';
	if (s.n != 6 || (s.p[0] != '+' && s.p[0] != '-') || s.p[3] != ':' ||
	    !repo_two_digits(s.p + 1, 23, &h) || !repo_two_digits(s.p + 4, 59, &m))
		return false;
	*ahead_s = (s.p[0] == '-' ? -1 : 1) * (h * 3600 + m * 60);
	return true;
}

bool
repo_parse_time(struct slice at, int64_t *out_s)
{
	struct tm tm;
	int64_t ahead_s;
	size_t n = 19;

	if (at.n < 10 || !repo_parse_date(at.p, &tm))
		return false;
	if (at.n == 10) {
		*out_s = (int64_t)timegm(&tm) + 86399;
		return true;
	}
	if (at.n < 20 || (at.p[10] != 'T' && at.p[10] != 't') || at.p[13] != ':' ||
	    at.p[16] != ':' || !repo_two_digits(at.p + 11, 23, &tm.tm_hour) ||
	    !repo_two_digits(at.p + 14, 59, &tm.tm_min) ||
	    !repo_two_digits(at.p + 17, 60, &tm.tm_sec))
		return false;
	if (at.p[n] == '.')
		for (n++; n < at.n && at.p[n] >= '0' && at.p[n] <= '9'; n++)
			;
	if (!repo_parse_zone(slice_skip(at, n), &ahead_s))
		return false;
	*out_s = (int64_t)timegm(&tm) - ahead_s;
	return true;
}

static bool
repo_gen_is_pinned_as(struct repos *rs, const struct repo_gen *g, struct slice name)
{
	bool yes = false;

	AZ(pthread_mutex_lock(&rs->lock));
	for (unsigned i = 0; i < g->pins_n; i++)
		yes |= slice_eq(slice_of(g->pins[i]), name);
	AZ(pthread_mutex_unlock(&rs->lock));
	return yes;
}

/* The generation of that name or time; NULL: none. */
static struct repo_gen *
repo_snap_at(struct repos *rs, const struct repo_snap *snap, struct slice at)
{
	int64_t upto_s = 0;
	unsigned i;

	for (i = 0; i < snap->gens_n; i++)
		if (repo_gen_is_pinned_as(rs, snap->gens[i], at))
			return snap->gens[i];
	if (!repo_parse_time(at, &upto_s))
		return NULL;
	for (i = 0; i < snap->gens_n; i++)
		if (snap->gens[i]->adopted_at_s <= upto_s)
			return snap->gens[i];
	return NULL;
}

/* The generation of this number, if it is kept. */
static struct repo_gen *
repo_snap_seq(const struct repo_snap *snap, uint64_t seq)
{
	for (unsigned i = 0; i < snap->gens_n; i++)
		if (snap->gens[i]->seq == seq)
			return snap->gens[i];
	return NULL;
}

/* What a generation says of a path, as index or as package. */
static bool
repo_gen_expect(const struct repo_gen *g, struct slice rel, bool package,
    struct flight_expect *out)
{
	const struct release_file *rf;

	if (package && repo_gen_find(g, rel, out) == PKGTABLE_FOUND)
		return true;
	rf = release_find_url(g->release, rel);
	return rf != NULL && repo_file_expect(rf, out);
}

/* Do two generations say something else of this path? */
static bool
repo_gens_disagree(const struct repo_gen *a, const struct repo_gen *b, struct slice rel,
    bool package)
{
	struct flight_expect ea, eb;

	return repo_gen_expect(a, rel, package, &ea) && repo_gen_expect(b, rel, package, &eb) &&
	    (ea.hash != eb.hash || memcmp(ea.digest, eb.digest, sizeof(ea.digest)) != 0);
}

/* Notes in the connection's memory that it sees this generation. */
static void
repo_held_note(struct cache_client *client, struct repo_gen *gen)
{
	struct repo_held *h = client->held;
	unsigned i;

	if (h == NULL)
		h = client->held = calloc(1, sizeof(*h));
	if (h == NULL)
		return;		/* then by address, or the newest */
	for (i = 0; i < h->n; i++)
		if (h->gens[i]->repo == gen->repo)
			break;
	if (i == h->n && h->n == REPO_HELD_MAX) {
		i = h->next;
		h->next = (h->next + 1) % REPO_HELD_MAX;
	} else if (i == h->n)
		h->n++;
	(void)repo_gen_ref(gen);
	repo_gen_unref(&h->gens[i]);
	h->gens[i] = gen;
}

void
repo_held_free(struct repo_held **held_p)
{
	struct repo_held *h = *held_p;

	*held_p = NULL;
	if (h == NULL)
		return;
	for (unsigned i = 0; i < h->n; i++)
		repo_gen_unref(&h->gens[i]);
	free(h);
}

void
repo_note_given(struct repo_view *v, struct cache_client *client, struct repo_gen *gen,
    int64_t now_ms)
{
	if (client == NULL)
		return;
	repo_held_note(client, gen);
	if (client->has_address && v->rs->conf.hold_ms > 0)
		repo_hold_note(v->rs->holds, client->address, gen->repo, gen->seq, now_ms);
}

/* Was any generation replaced so lately that an address may hold an older one? */
static bool
repo_flipped_lately(const struct repos *rs, int64_t now_ms)
{
	int64_t flipped_ms = atomic_load_explicit(&rs->flipped_ms, memory_order_relaxed);

	return flipped_ms != 0 && now_ms - flipped_ms <= rs->conf.hold_ms;
}

/* What the client's address was given lately; NULL: nothing. */
static struct repo_gen *
repo_select_by_address(struct repo_view *v, const struct repo_snap *snap,
    const struct repo_ask *ask, struct slice rel, bool package)
{
	uint64_t seqs[REPO_HOLD_GENS];
	struct repo_gen *first = NULL, *g;
	unsigned i, n;

	if (!ask->client->has_address || !repo_flipped_lately(v->rs, ask->now_ms))
		return NULL;
	n = repo_hold_find(v->rs->holds, ask->client->address, snap->repo,
	    ask->now_ms - v->rs->conf.hold_ms, seqs);
	for (i = 0; i < n; i++) {
		g = repo_snap_seq(snap, seqs[i]);
		if (g == NULL)
			continue;
		if (first == NULL)
			first = g;
		else if (repo_gens_disagree(first, g, rel, package)) {
			COUNT(generation_conflicts_total);
			break;
		}
	}
	if (first != NULL)
		repo_held_note(ask->client, first);
	return first;
}

/* This connection's, this address's, the newest. NULL: none at that time. */
static struct repo_gen *
repo_select(struct repo_view *v, const struct repo_snap *snap, const struct repo_ask *ask,
    struct slice rel, bool package)
{
	const struct repo_held *h = ask->client != NULL ? ask->client->held : NULL;
	struct repo_gen *g = NULL;

	if (ask->at.n != 0)
		return repo_snap_at(v->rs, snap, ask->at);
	for (unsigned i = 0; h != NULL && i < h->n; i++)
		if (h->gens[i]->repo == snap->repo)
			return h->gens[i];
	if (ask->client != NULL)
		g = repo_select_by_address(v, snap, ask, rel, package);
	return g != NULL ? g : snap->gens[0];
}

/* Does this client see the newest of everything? */
static bool
repo_client_is_current(const struct repo_view *v, const struct repo_ask *ask)
{
	const struct cache_client *c = ask->client;

	if (ask->at.n != 0)
		return false;
	if (c == NULL)
		return true;
	if (c->has_address && repo_flipped_lately(v->rs, ask->now_ms))
		return false;
	for (unsigned i = 0; c->held != NULL && i < c->held->n; i++)
		if (atomic_load_explicit(&c->held->gens[i]->superseded, memory_order_relaxed))
			return false;
	return true;
}

/* ---- which indexes are asked for ---- */

/* Remembers until the root's next staging that this index is wanted. */
static void
repo_note_member(struct repos *rs, struct repo *repo, struct slice path, int64_t now_s)
{
	struct repo_member *m = NULL, *oldest = NULL;

	AZ(pthread_mutex_lock(&rs->lock));
	for (unsigned i = 0; i < repo->members_n; i++) {
		if (slice_eq(slice_of(repo->members[i].path), path))
			m = &repo->members[i];
		if (oldest == NULL || repo->members[i].asked_at_s < oldest->asked_at_s)
			oldest = &repo->members[i];
	}
	if (m == NULL) {
		char *text = strndup(path.p, path.n);

		if (text != NULL && repo->members_n < REPO_MEMBERS_MAX)
			m = &repo->members[repo->members_n++];
		else if (text != NULL) {
			m = oldest;
			free(m->path);
		}
		if (m != NULL)
			m->path = text;
	}
	if (m != NULL) {
		m->asked_at_s = now_s;
		repo_store_root(rs, repo);
	}
	AZ(pthread_mutex_unlock(&rs->lock));
}

/* Once a day for each file: more often is no news. */
static void
repo_note_asked(struct repo_view *v, struct repo_gen *g, const struct release_file *rf,
    int64_t now_s)
{
	_Atomic uint32_t *day = &g->asked_day[rf - g->release->files];
	uint32_t today = (uint32_t)(now_s / 86400);

	if (atomic_load_explicit(day, memory_order_relaxed) == today)
		return;
	atomic_store_explicit(day, today, memory_order_relaxed);
	repo_note_member(v->rs, g->repo, rf->path, now_s);
}

/* ---- answers ---- */

static void
repo_answer_listed(struct repo_answer *out, const struct repo_snap *snap, struct repo_gen *g,
    const struct repo_ask *ask)
{
	out->role = REPO_ROLE_LISTED;
	out->gen = g;
	out->held = g != snap->gens[0];
	repo_version_key(ask->url->text, &out->expect, &out->version_key);
}

/*
 * InRelease, Release: the newest generation's, or that of the time asked for. Release.gpg: that
 * of the generation whose Release the client has.
 */
static void
repo_ask_release(struct repo_view *v, const struct repo_set *set, const struct repo_path *p,
    const struct repo_ask *ask, struct repo_answer *out)
{
	uint32_t at = repo_set_first(set, p, p->n - 1);
	const struct repo_dir *d;
	struct slice root;
	enum repo_file which;

	while ((d = repo_set_next_dir(set, p, p->n - 1, &at)) != NULL)
		if (d->up == 0)
			break;
	if (d == NULL || !repo_split_release(p->url, &root, &which))
		return;
	out->role = REPO_ROLE_UNKNOWN;
	if (set->repos[d->repo].gens_n == 0)
		return;
	/* A signature belongs to the Release that this client was given, not to a newer one. */
	out->gen = ask->at.n == 0 && which != REPO_SIGNATURE ? set->repos[d->repo].gens[0] :
	    repo_select(v, &set->repos[d->repo], ask, repo_file_names[which], false);
	if (out->gen == NULL)
		return;
	out->role = REPO_ROLE_UNLISTED;
	out->held = out->gen != set->repos[d->repo].gens[0];
	if (!repo_gen_digest(out->gen, which, out->expect.digest))
		return;
	out->role = REPO_ROLE_RELEASE;
	out->expect.hash = APTFILE_SHA256;
	out->expect.size_bytes = -1;
	repo_version_key(ask->url->text, &out->expect, &out->version_key);
}

/* The bytes of a hexadecimal digest; false: not as many digits. */
static bool
repo_hex_bytes(struct slice hex, uint8_t *out, size_t n)
{
	if (hex.n != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++) {
		unsigned v;

		if (sscanf((char[]){hex.p[2 * i], hex.p[2 * i + 1], '\0'}, "%2x", &v) != 1)
			return false;
		out[i] = (uint8_t)v;
	}
	return true;
}

/*
 * An index under its digest says by its name what it is. Which file that is
 * tells the next staging to fetch it, and by which digest it is stored.
 */
static void
repo_ask_by_hash(struct repo_view *v, const struct repo_snap *snap, const struct repo_ask *ask,
    struct repo_answer *out)
{
	const struct release_file *rf = NULL;
	uint8_t digest[64];
	unsigned i;

	if (!repo_hex_bytes(ask->af->hash_hex, digest, ask->af->hash == APTFILE_SHA512 ? 64 : 32))
		return;
	for (i = 0; i < snap->gens_n && rf == NULL; i++)
		rf = repo_gen_by_digest(snap->gens[i], ask->af->hash, digest);
	if (rf == NULL)
		return;
	out->role = REPO_ROLE_UNLISTED;	/* not by this name, but it is one of its files */
	if (i == 1)
		repo_note_asked(v, snap->gens[0], rf, ask->now_s);
	out->by_digest = repo_file_expect(rf, &out->expect) &&
	    out->expect.hash == APTFILE_SHA256;
}

/* What lies below a root and may be listed in its Release. */
static void
repo_ask_member(struct repo_view *v, const struct repo_set *set, const struct repo_path *p,
    const struct repo_ask *ask, struct repo_answer *out)
{
	for (unsigned depth = p->n; depth-- > 0 && out->role != REPO_ROLE_LISTED;) {
		uint32_t at = repo_set_first(set, p, depth);
		const struct repo_dir *d;

		while ((d = repo_set_next_dir(set, p, depth, &at)) != NULL) {
			const struct repo_snap *snap = &set->repos[d->repo];
			struct slice rel = slice_skip(p->url, p->dirs[depth].n);
			const struct release_file *rf;
			struct repo_gen *g;

			if (d->up != 0)
				continue;
			if (ask->af->class == APTFILE_BYHASH) {
				repo_ask_by_hash(v, snap, ask, out);
				return;
			}
			if (out->role == REPO_ROLE_NONE)
				out->role = REPO_ROLE_UNKNOWN;
			g = snap->gens_n != 0 ? repo_select(v, snap, ask, rel, false) : NULL;
			if (g == NULL)
				continue;
			out->role = REPO_ROLE_UNLISTED;
			rf = release_find_url(g->release, rel);
			if (rf == NULL || !repo_file_expect(rf, &out->expect))
				continue;
			repo_note_asked(v, g, rf, ask->now_s);
			repo_answer_listed(out, snap, g, ask);
			break;
		}
	}
}

/* May a package of this name, counted from this directory, be the repository's? */
static bool
repo_dir_may_name(const struct repo_dir *d, const struct repo_snap *snap, struct slice url,
    struct slice rel)
{
	/* Outside of a flat root a bare name is as likely to be a stranger's. */
	return d->up == 0 || d->up == REPO_DIR_BASE || slice_starts(url, snap->repo->root) ||
	    memchr(rel.p, '/', rel.n) != NULL;
}

/* One repository's word on a package; false: it does not name it. */
static bool
repo_ask_snap(struct repo_view *v, const struct repo_snap *snap, const struct repo_ask *ask,
    struct slice rel, struct repo_answer *out)
{
	struct repo_gen *g = repo_select(v, snap, ask, rel, true);

	if (g == NULL)
		return false;
	out->role = REPO_ROLE_UNLISTED;
	if (repo_gen_expect(g, rel, true, &out->expect)) {
		repo_answer_listed(out, snap, g, ask);
		return true;
	}
	for (unsigned i = 0; ask->at.n == 0 && i < snap->gens_n; i++) {
		if (!repo_gen_expect(snap->gens[i], rel, true, &out->expect))
			continue;
		repo_answer_listed(out, snap, snap->gens[i], ask);
		return true;
	}
	return false;
}

/* A package: any repository whose names may start in one of its directories. */
static void
repo_ask_package(struct repo_view *v, const struct repo_set *set, const struct repo_path *p,
    const struct repo_ask *ask, struct repo_answer *out)
{
	for (unsigned depth = p->n; depth-- > 0;) {
		struct slice rel = slice_skip(p->url, p->dirs[depth].n);
		uint32_t at = repo_set_first(set, p, depth);
		const struct repo_dir *d;

		while ((d = repo_set_next_dir(set, p, depth, &at)) != NULL) {
			const struct repo_snap *snap = &set->repos[d->repo];

			if (!repo_dir_may_name(d, snap, p->url, rel))
				continue;
			if (out->role == REPO_ROLE_NONE)
				out->role = REPO_ROLE_UNKNOWN;
			if (snap->gens_n != 0 && repo_ask_snap(v, snap, ask, rel, out)) {
				COUNT(packages_expected_total);
				return;
			}
		}
	}
}

void
repo_ask(struct repo_view *v, const struct repo_ask *ask, struct repo_answer *out)
{
	const struct repo_set *set = repo_view_refresh(v);
	struct repo_memo *memo = v->memos != NULL ? &v->memos[(ask->key->b[6] |
	    (unsigned)ask->key->b[7] << 8) % REPO_MEMO] : NULL;
	uint32_t day = (uint32_t)(ask->now_s / 86400);
	struct repo_path p;
	bool current;

	memset(out, 0, sizeof(*out));
	if (set->repos_n == 0 && ask->at.n == 0)
		return;
	current = ask->af->class != APTFILE_RELEASE && repo_client_is_current(v, ask);
	/* A new day is looked up again: repo_note_asked writes down which indexes are wanted. */
	if (current && memo != NULL && memo->epoch == set->epoch && memo->day == day &&
	    memcmp(&memo->key, ask->key, sizeof(memo->key)) == 0) {
		*out = memo->answer;
		if (out->role == REPO_ROLE_LISTED && ask->af->class == APTFILE_PACKAGE)
			COUNT(packages_expected_total);
		return;
	}
	repo_path_split(&p, ask->url->text);
	if (p.n > 0) {
		switch (ask->af->class) {
		case APTFILE_RELEASE:
			repo_ask_release(v, set, &p, ask, out);
			break;
		case APTFILE_PACKAGE:
			repo_ask_package(v, set, &p, ask, out);
			break;
		case APTFILE_INDEX:
		case APTFILE_BYHASH:
		case APTFILE_OTHER:
			repo_ask_member(v, set, &p, ask, out);
			break;
		}
	}
	if (ask->at.n != 0 && (out->role == REPO_ROLE_NONE || out->role == REPO_ROLE_UNKNOWN))
		out->role = REPO_ROLE_NO_SUCH_TIME;
	if (current && !out->held && memo != NULL) {
		memo->key = *ask->key;
		memo->epoch = set->epoch;
		memo->day = day;
		memo->answer = *out;
	} else if (current && !v->forgetful && memo == NULL)
		v->memos = calloc(REPO_MEMO, sizeof(*v->memos));
}

/* ---- text ---- */

void
repo_time_text(int64_t s, char out[32])
{
	time_t t = (time_t)s;
	struct tm tm;

	(void)gmtime_r(&t, &tm);
	(void)strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

void
repo_list_times(struct repo_view *v, const struct url *url, char *out, size_t cap)
{
	const struct repo_set *set = repo_view_refresh(v);
	struct repo_path p;
	size_t n = 0;

	out[0] = '\0';
	repo_path_split(&p, url->text);
	AZ(pthread_mutex_lock(&v->rs->lock));
	for (unsigned depth = p.n; depth-- > 0;) {
		uint32_t at = repo_set_first(set, &p, depth);
		const struct repo_dir *d;

		while ((d = repo_set_next_dir(set, &p, depth, &at)) != NULL) {
			const struct repo_snap *snap = &set->repos[d->repo];

			for (unsigned i = 0; i < snap->gens_n && n + 128 < cap; i++) {
				const struct repo_gen *g = snap->gens[i];
				char when[32];
				int k;

				repo_time_text(g->adopted_at_s, when);
				k = snprintf(out + n, cap - n, "%s@%s", n != 0 ? ", " : "", when);
				n += k > 0 ? (size_t)k : 0;
				for (unsigned j = 0; j < g->pins_n && n + 80 < cap; j++) {
					k = snprintf(out + n, cap - n, " @%s", g->pins[j]);
					n += k > 0 ? (size_t)k : 0;
				}
			}
		}
	}
	AZ(pthread_mutex_unlock(&v->rs->lock));
}

/* ---- for stage.c ---- */

bool
repo_split_release(struct slice url, struct slice *root, enum repo_file *which)
{
	const char *q = memchr(url.p, '?', url.n);
	struct slice name;
	size_t i;

	if (q != NULL)
		return false;
	for (i = url.n; i > 0 && url.p[i - 1] != '/'; i--)
		;
	*root = (struct slice){url.p, i};
	name = slice_skip(url, i);
	for (unsigned k = 0; k < REPO_FILE_N; k++) {
		if (!slice_eq(name, repo_file_names[k]))
			continue;
		*which = (enum repo_file)k;
		return true;
	}
	return false;
}

struct repo_gen *
repo_current(struct repos *rs, struct slice root)
{
	struct repo_gen *g = NULL;
	struct repo *repo;

	AZ(pthread_mutex_lock(&rs->lock));
	repo = repo_find(rs, root);
	if (repo != NULL && repo->gens_n > 0)
		g = repo_gen_ref(repo->gens[0]);
	AZ(pthread_mutex_unlock(&rs->lock));
	return g;
}

void
repo_note_root(struct repos *rs, struct slice root)
{
	uint32_t before_n;

	AZ(pthread_mutex_lock(&rs->lock));
	before_n = rs->repos_n;
	if (repo_find_or_add(rs, root) != NULL && rs->repos_n != before_n)
		repo_publish(rs);
	AZ(pthread_mutex_unlock(&rs->lock));
}

unsigned
repo_members(struct repos *rs, struct slice root, const struct release *r,
    char *paths[REPO_MEMBERS_MAX])
{
	int64_t since_s = (int64_t)time(NULL) - REPO_MEMBER_ASKED_S;
	struct repo *repo;
	unsigned n = 0;

	AZ(pthread_mutex_lock(&rs->lock));
	repo = repo_find(rs, root);
	for (unsigned i = 0; repo != NULL && i < repo->members_n; i++) {
		const struct repo_member *m = &repo->members[i];

		if (m->asked_at_s < since_s || release_find(r, slice_of(m->path)) == NULL)
			continue;
		paths[n] = strdup(m->path);
		n += paths[n] != NULL;
	}
	AZ(pthread_mutex_unlock(&rs->lock));
	return n;
}

bool
repo_late_expect(struct repos *rs, const struct url *url, const struct aptfile *af,
    struct flight_expect *out)
{
	struct repo_view *v = repo_view_open(rs);
	struct repo_answer a = {.role = REPO_ROLE_NONE};
	struct key key;

	if (v == NULL)
		return false;
	v->forgetful = true;
	key_of_url(url, &key);
	repo_ask(v, &(struct repo_ask){.url = url, .key = &key, .af = af}, &a);
	*out = a.expect;
	repo_view_close(&v);
	return a.role == REPO_ROLE_LISTED;
}
