/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The index: opening and closing, views, lookups. Writing is index_queue.c
 * and index_write.c, last-used times and holds index_touch.c.
 *
 * Life: index_open (before other threads use cache_dir: it may fork a child
 * that examines the files) decides what to do with the files it finds, opens
 * LMDB, starts the writer and, where bodies may lack records, the recovery
 * thread. Then any number of views, each one thread's own. index_close, when
 * the views are closed, drains the writer, makes bodies durable and leaves
 * the clean marker, which spares the next start the examination.
 *
 * What is read from LMDB is validated (record.c): a damaged record is one
 * that is not there, and is counted.
 */
#include "cache/index_priv.h"
#include "cache/recover.h"
#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const index_db_names[INDEX_DB__N] = {
	[INDEX_DB_META] = "meta",
	[INDEX_DB_URL] = "url",
	[INDEX_DB_BLOB] = "blob",
	[INDEX_DB_PARTIAL] = "partial",
	[INDEX_DB_REPO] = "repo",
};

enum {
	INDEX_READERS = 512,
	INDEX_LOCK_BYTES = INDEX_READERS * 64 + 4096,	/* LMDB's table of readers and its head */
	INDEX_RESERVE_BYTES = 1 << 20,	/* disk that is the index's before it needs it: eviction writes too */
	INDEX_DIR_MODE = 0750,
	INDEX_FILE_MODE = 0640,
};
/* Address space only, the file grows as it is written. Resizing is not safe under readers. */
static const uint64_t index_map_max_bytes = UINT64_C(64) << 30;
static const uint64_t index_map_min_bytes = UINT64_C(64) << 20;

/* LMDB returns its own codes (negative) and errno values. */
enum reason
index_rc_reason(int rc)
{
	if (rc == 0)
		return REASON_OK;
	if (rc == MDB_NOTFOUND)
		return REASON_NOT_FOUND;
	if (rc == MDB_MAP_FULL || rc == MDB_TXN_FULL)
		return REASON_NO_DISK;
	if (rc > 0 && blob_errno_reason(rc) != REASON_DISK_ERROR)
		return blob_errno_reason(rc);
	return REASON_INDEX_ERROR;
}

/* ---- the environment ---- */

/* Opens the databases in one transaction, making them where flags say so. */
static int
index_dbs_open(struct index *ix, unsigned txn_flags, unsigned db_flags)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(ix->env, NULL, txn_flags, &txn);

	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < INDEX_DB__N && rc == 0; i++)
		rc = mdb_dbi_open(txn, index_db_names[i], db_flags, &ix->dbi[i]);
	if (rc != 0) {
		mdb_txn_abort(txn);
		return rc;
	}
	return mdb_txn_commit(txn);
}

/* LMDB met something that can't be: the next start will examine the file. */
__attribute__((noreturn)) static void
index_assert_cb(MDB_env *env, const char *what)
{
	(void)env;
	WRONG(what);
}

static void
index_env_close(struct index *ix)
{
	if (ix->env != NULL)
		mdb_env_close(ix->env);
	ix->env = NULL;
}

/*
 * LMDB maps lock.mdb and writes into it, page by page as more threads read: one that found the disk
 * full then would end the process. So it gets all its room while that can still be said in words.
 */
static int
index_lock_reserve(const char *path)
{
	struct stat st;
	char *file;
	int fd, rc = 0;

	if (asprintf(&file, "%s/lock.mdb", path) < 0)
		return ENOMEM;
	fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, INDEX_FILE_MODE);
	free(file);
	if (fd < 0)
		return errno;
	/* What is there already served so far; not every file system can do this. */
	if (fstat(fd, &st) != 0 || (fallocate(fd, 0, 0, INDEX_LOCK_BYTES) != 0 &&
	    st.st_size == 0 && errno != EOPNOTSUPP))
		rc = errno;
	(void)close(fd);
	return rc;
}

/* One attempt with a given map size. */
static int
index_env_try(struct index *ix, const char *path, uint64_t map_bytes)
{
	unsigned flags = MDB_NOTLS | (ix->no_sync ? MDB_NOSYNC : 0);
	int rc = mdb_env_create(&ix->env);

	if (rc != 0) {
		ix->env = NULL;
		return rc;
	}
	rc = mdb_env_set_maxdbs(ix->env, INDEX_DB__N);
	if (rc == 0)
		rc = mdb_env_set_assert(ix->env, index_assert_cb);
	if (rc == 0)
		rc = mdb_env_set_maxreaders(ix->env, INDEX_READERS);
	if (rc == 0)
		rc = mdb_env_set_mapsize(ix->env, map_bytes);
	if (rc == 0)
		rc = index_lock_reserve(path);
	if (rc == 0)
		rc = mdb_env_open(ix->env, path, flags, INDEX_FILE_MODE);
	if (rc != 0)
		index_env_close(ix);
	return rc;
}

/* Opens env and dbs, making what is missing; on failure env is NULL. 0, an LMDB code or errno. */
static int
index_env_open(struct index *ix)
{
	uint64_t map_bytes = index_map_max_bytes;
	char *path;
	int rc, dead;

	if (asprintf(&path, "%s/index", ix->dir) < 0)
		return ENOMEM;
	do {	/* where address space is limited, less must do */
		rc = index_env_try(ix, path, map_bytes);
		map_bytes /= 2;
	} while (rc == ENOMEM && map_bytes >= index_map_min_bytes);
	free(path);
	if (rc != 0)
		return rc;
	/* Reading first: an index that is there opens on a full disk too. */
	rc = index_dbs_open(ix, MDB_RDONLY, 0);
	if (rc == MDB_NOTFOUND)
		rc = index_dbs_open(ix, 0, MDB_CREATE);
	if (rc == 0)
		rc = mdb_reader_check(ix->env, &dead);
	ix->reserved_bytes = 0;
	if (rc != 0)
		index_env_close(ix);
	return rc;
}

/* LMDB writes into the room beyond its file's end; a body can't have taken it meanwhile. */
void
index_env_reserve(struct index *ix)
{
	uint64_t used_bytes;
	MDB_envinfo info;
	MDB_stat stat;
	int fd;

	if (mdb_env_info(ix->env, &info) != 0 || mdb_env_stat(ix->env, &stat) != 0 ||
	    mdb_env_get_fd(ix->env, &fd) != 0)
		return;
	used_bytes = (uint64_t)(info.me_last_pgno + 1) * stat.ms_psize;
	if (used_bytes + INDEX_RESERVE_BYTES / 2 <= ix->reserved_bytes)
		return;
	/* Where that can't be had now: again with the next page, and till then as without. */
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)used_bytes, INDEX_RESERVE_BYTES) == 0)
		ix->reserved_bytes = used_bytes + INDEX_RESERVE_BYTES;
}

/* Nothing is opened anew: what was stored since would be forgotten all the same. */
void
index_env_look(struct index *ix)
{
	struct stat ours, there;
	bool lost;
	int fd;

	if (ix->env == NULL || mdb_env_get_fd(ix->env, &fd) != 0 || fstat(fd, &ours) != 0)
		return;
	if (fstatat(blobstore_dirfd(ix->blobs), "index/data.mdb", &there, 0) == 0)
		lost = there.st_dev != ours.st_dev || there.st_ino != ours.st_ino;
	else if (errno == ENOENT || errno == ENOTDIR)
		lost = true;
	else
		return;
	if (lost == ix->lost)
		return;
	ix->lost = lost;
	COUNT_ADD(index_lost, lost ? 1 : -1);
	if (lost)
		log_error("%s/index was removed or replaced while the depot runs: what it knows of URLs and "
		    "generations is lost when it stops: put back what was moved away, or restart it: it "
		    "makes a new index, and keeps the bodies", ix->dir);
	else
		log_notice("%s/index is in its place again", ix->dir);
}

int
index_env_replace(struct index *ix)
{
	struct index_view *v;
	int rc;

	AZ(pthread_mutex_lock(&ix->views_lock));
	TAILQ_FOREACH(v, &ix->views, link) {
		AZ(pthread_mutex_lock(&v->lock));
		if (v->txn != NULL)
			mdb_txn_abort(v->txn);
		v->txn = NULL;
	}
	index_env_close(ix);
	rc = index_env_open(ix);
	TAILQ_FOREACH(v, &ix->views, link) {
		if (rc == 0 && mdb_txn_begin(ix->env, NULL, MDB_RDONLY, &v->txn) != 0)
			v->txn = NULL;
		if (v->txn != NULL)
			mdb_txn_reset(v->txn);
		AZ(pthread_mutex_unlock(&v->lock));
	}
	AZ(pthread_mutex_unlock(&ix->views_lock));
	return rc;
}

/* ---- opening ---- */

/* Reads meta; a fresh index has none. NEWER_FORMAT, INDEX_ERROR (damaged), NOT_FOUND (fresh). */
static enum reason
index_state_read(struct index *ix)
{
	MDB_val key = index_val("format", 6), val;
	enum reason r = REASON_OK;
	uint32_t format;
	MDB_txn *txn;
	int rc = mdb_txn_begin(ix->env, NULL, MDB_RDONLY, &txn);

	if (rc != 0)
		return REASON_INDEX_ERROR;
	rc = mdb_get(txn, ix->dbi[INDEX_DB_META], &key, &val);
	if (rc == MDB_NOTFOUND)
		r = REASON_NOT_FOUND;
	else if (rc != 0 || val.mv_size != sizeof(format))
		r = REASON_INDEX_ERROR;
	else {
		memcpy(&format, val.mv_data, sizeof(format));
		if (format > RECORD_FORMAT)
			r = REASON_NEWER_FORMAT;
	}
	if (r == REASON_OK) {
		key = index_val("state", 5);
		rc = mdb_get(txn, ix->dbi[INDEX_DB_META], &key, &val);
		if (rc != 0 || !record_state_decode(&ix->state, val.mv_data, val.mv_size))
			r = REASON_INDEX_ERROR;
	}
	mdb_txn_abort(txn);
	return r;
}

/* The number of this boot: another one means that the power, or the kernel, went in between. */
static void
index_boot_id_read(char id[RECORD_BOOT_BYTES])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(id, 0, RECORD_BOOT_BYTES);
	if (fd < 0 || read(fd, id, RECORD_BOOT_BYTES) != RECORD_BOOT_BYTES)
		memset(id, '?', RECORD_BOOT_BYTES);	/* unknown: as if rebooted, see below */
	if (fd >= 0)
		(void)close(fd);
}

/* Stores that were not known to be on disk when the system went down are suspect from now on. */
static void
index_state_note_boot(struct record_state *st)
{
	char boot_id[RECORD_BOOT_BYTES];

	index_boot_id_read(boot_id);
	if (memcmp(boot_id, st->boot_id, sizeof(boot_id)) == 0 && boot_id[0] != '?')
		return;
	memcpy(st->boot_id, boot_id, sizeof(boot_id));
	if (st->seq <= st->synced_seq)
		return;
	if (st->ranges_n == RECORD_RANGES_MAX)	/* widen the last: a few are hashed in vain */
		st->ranges[st->ranges_n - 1].upto = st->seq;
	else
		st->ranges[st->ranges_n++] = (struct record_range){st->synced_seq, st->seq};
	log_notice("the system went down before the newest bodies were on disk: "
	    "%llu of them will be hashed before their next use",
	    (unsigned long long)(st->seq - st->synced_seq));
	st->synced_seq = st->seq;
}

/* Makes index/ and opens what is there. fresh: nothing was. */
static enum reason
index_open_files(struct index *ix, bool *fresh)
{
	enum reason r;
	int rc;

	*fresh = false;
	if (mkdirat(blobstore_dirfd(ix->blobs), "index", INDEX_DIR_MODE) != 0 && errno != EEXIST)
		return blob_errno_reason(errno);
	rc = index_env_open(ix);
	if (rc != 0) {
		log_error("index in %s/index can't be opened: %s", ix->dir, mdb_strerror(rc));
		/* LMDB's own codes speak of the bytes, errno of the machine. */
		return rc > 0 ? blob_errno_reason(rc) : rc == MDB_MAP_FULL ? REASON_NO_DISK :
		    REASON_INDEX_ERROR;
	}
	r = index_state_read(ix);
	*fresh = r == REASON_NOT_FOUND;
	if (*fresh) {
		ix->state = (struct record_state){.rebuild = true};
		r = REASON_OK;
	}
	if (r != REASON_OK)
		index_env_close(ix);
	return r;
}

/* Examines, opens, and where the index is damaged sets it aside and opens a fresh one. */
static enum reason
index_open_or_replace(struct index *ix, bool clean, bool *fresh)
{
	int dirfd = blobstore_dirfd(ix->blobs);
	enum reason r = REASON_OK;

	if (!clean)
		r = recover_check_index(dirfd, ix->dir);
	if (r == REASON_OK)
		r = index_open_files(ix, fresh);
	if (r != REASON_INDEX_ERROR)
		return r;
	r = recover_set_aside(dirfd, ix->dir);
	return r == REASON_OK ? index_open_files(ix, fresh) : r;
}

/* Takes over what meta says: boot, suspects, totals. */
static enum reason
index_state_adopt(struct index *ix)
{
	struct record_state st = ix->state;

	index_state_note_boot(&st);
	if (!index_state_commit(ix, &st)) {
		if (ix->state.boot_id[0] == '\0')
			return REASON_NO_DISK;	/* not even an empty index fits */
		log_warning("index can't be written now: nothing will be stored until it can");
		ix->state = st;
	}
	memcpy(ix->ranges, st.ranges, sizeof(ix->ranges));
	ix->ranges_n = st.ranges_n;
	atomic_store(&ix->sync_point, st.seq);
	atomic_store(&ix->blob_bytes, st.blob_bytes);
	atomic_store(&ix->blobs_n, st.blobs_n);
	COUNT_ADD(cache_bytes, st.blob_bytes);
	COUNT_ADD(cache_blobs, st.blobs_n);
	return REASON_OK;
}

/* Memory and locks of an index without files. */
static struct index *
index_new(const struct index_conf *conf)
{
	struct index *ix;

	OBJ_NEW(ix, INDEX_MAGIC);
	if (ix == NULL)
		return NULL;
	ix->dir = strdup(conf->dir);
	ix->touches = calloc(INDEX_TOUCHED, sizeof(*ix->touches));
	if (ix->dir == NULL || ix->touches == NULL) {
		free(ix->touches);
		free(ix->dir);
		OBJ_FREE(ix);
		return NULL;
	}
	ix->blobs = conf->blobs;
	ix->no_sync = conf->test_no_sync;
	ix->has_credentials = conf->has_credentials;
	TAILQ_INIT(&ix->views);
	ix->tail_p = &ix->head;
	ix->touch_drain_ms = ix->touch_write_ms = INT64_MAX;
	AZ(pthread_mutex_init(&ix->views_lock, NULL));
	AZ(pthread_mutex_init(&ix->queue_lock, NULL));
	AZ(pthread_cond_init(&ix->spare_freed, NULL));
	AZ(sem_init(&ix->wake, 0, 0));
	return ix;
}

/* The reverse of index_new. */
static void
index_free(struct index **ix_p)
{
	struct index *ix = *ix_p;

	*ix_p = NULL;
	AZ(sem_destroy(&ix->wake));
	AZ(pthread_cond_destroy(&ix->spare_freed));
	AZ(pthread_mutex_destroy(&ix->queue_lock));
	AZ(pthread_mutex_destroy(&ix->views_lock));
	free(ix->touches);
	free(ix->dir);
	OBJ_FREE(ix);
}

/* No longer in the gauges: another index may be opened later. */
static void
index_uncount(const struct index *ix)
{
	COUNT_ADD(cache_bytes, -(int64_t)ix->state.blob_bytes);
	COUNT_ADD(cache_blobs, -(int64_t)ix->state.blobs_n);
}

enum reason
index_open(struct index **ix_p, const struct index_conf *conf)
{
	struct index *ix = index_new(conf);
	bool clean, fresh = false;
	enum reason r;

	if (ix == NULL)
		return REASON_NO_MEMORY;
	clean = recover_clean_matches(blobstore_dirfd(ix->blobs));
	r = index_open_or_replace(ix, clean, &fresh);
	if (r != REASON_OK)
		goto fail;
	recover_clean_remove(blobstore_dirfd(ix->blobs));
	r = index_state_adopt(ix);
	if (r != REASON_OK)
		goto fail_env;
	r = index_writer_start(ix);
	if (r != REASON_OK)
		goto fail_count;
	if (!clean || fresh)
		recover_partials(ix, ix->blobs);
	if (!clean || ix->state.rebuild)
		ix->recover = recover_start(ix, ix->blobs, ix->state.rebuild);
	*ix_p = ix;
	return REASON_OK;
fail_count:
	index_uncount(ix);
fail_env:
	index_env_close(ix);
fail:
	index_free(&ix);
	return r;
}

/* Bodies to disk, then the word that they are there, then the marker; not where tidying was cut short. */
static void
index_close_files(struct index *ix, bool tidy)
{
	int dirfd = blobstore_dirfd(ix->blobs);
	struct record_state st = ix->state;
	bool whole = ix->env != NULL;

	if (whole && st.seq > st.synced_seq && (ix->no_sync || syncfs(dirfd) == 0)) {
		st.synced_seq = st.seq;
		whole = index_state_commit(ix, &st);
	}
	if (whole && !ix->no_sync)
		whole = mdb_env_sync(ix->env, 1) == 0;
	index_uncount(ix);
	index_env_close(ix);
	if (whole && tidy)
		recover_clean_write(dirfd, !ix->no_sync);
}

void
index_close(struct index **ix_p)
{
	struct index *ix = *ix_p;
	bool tidy;

	if (ix == NULL)
		return;
	CHECK_OBJ(ix, INDEX_MAGIC);
	*ix_p = NULL;
	tidy = recover_stop(&ix->recover);
	index_writer_stop(ix);
	MUST(TAILQ_EMPTY(&ix->views));
	index_close_files(ix, tidy);
	index_free(&ix);
}

/* ---- views ---- */

/* A parked read transaction; slots of threads that died with one are taken back first. */
static int
index_txn_park(struct index *ix, MDB_txn **txn_p)
{
	int dead, rc;

	if (ix->env == NULL)
		return MDB_PANIC;
	rc = mdb_txn_begin(ix->env, NULL, MDB_RDONLY, txn_p);
	if (rc == MDB_READERS_FULL && mdb_reader_check(ix->env, &dead) == 0)
		rc = mdb_txn_begin(ix->env, NULL, MDB_RDONLY, txn_p);
	if (rc == 0)
		mdb_txn_reset(*txn_p);
	return rc;
}

struct index_view *
index_view_open(struct index *ix)
{
	struct index_view *v;
	int rc;

	CHECK_OBJ(ix, INDEX_MAGIC);
	OBJ_NEW(v, INDEX_VIEW_MAGIC);
	if (v == NULL)
		return NULL;
	v->ix = ix;
	AZ(pthread_mutex_init(&v->lock, NULL));
	AZ(pthread_mutex_lock(&ix->views_lock));
	rc = index_txn_park(ix, &v->txn);
	if (rc == 0)
		TAILQ_INSERT_TAIL(&ix->views, v, link);
	AZ(pthread_mutex_unlock(&ix->views_lock));
	if (rc != 0) {
		log_error("index: no view for another thread: %s", mdb_strerror(rc));
		AZ(pthread_mutex_destroy(&v->lock));
		OBJ_FREE(v);
	}
	return v;
}

void
index_view_close(struct index_view **v_p)
{
	struct index_view *v = *v_p;

	if (v == NULL)
		return;
	CHECK_OBJ(v, INDEX_VIEW_MAGIC);
	*v_p = NULL;
	AZ(pthread_mutex_lock(&v->ix->views_lock));
	TAILQ_REMOVE(&v->ix->views, v, link);
	/* Before the environment can be replaced: its transactions end first. */
	if (v->txn != NULL)
		mdb_txn_abort(v->txn);
	AZ(pthread_mutex_unlock(&v->ix->views_lock));
	index_touch_leave(v->ix, atomic_load(&v->ring));
	AZ(pthread_mutex_destroy(&v->lock));
	free(atomic_load(&v->holds));
	OBJ_FREE(v);
}

/* Renews the view's transaction; index_view_end parks it again. */
static enum reason
index_view_begin(struct index_view *v)
{
	int rc = MDB_PANIC;

	CHECK_OBJ(v, INDEX_VIEW_MAGIC);
	AZ(pthread_mutex_lock(&v->lock));
	if (v->txn != NULL)
		rc = mdb_txn_renew(v->txn);
	if (rc == 0)
		return REASON_OK;
	AZ(pthread_mutex_unlock(&v->lock));
	COUNT(index_errors_total);
	return REASON_INDEX_ERROR;
}

static void
index_view_end(struct index_view *v)
{
	mdb_txn_reset(v->txn);
	AZ(pthread_mutex_unlock(&v->lock));
}

/* ---- lookups ---- */

/* One get within a lookup. */
static enum reason
index_view_get(struct index_view *v, enum index_db db, const void *key, size_t key_n, MDB_val *val)
{
	MDB_val k = index_val(key, key_n);
	int rc = mdb_get(v->txn, v->ix->dbi[db], &k, val);

	if (rc == 0 || rc == MDB_NOTFOUND)
		return rc == 0 ? REASON_OK : REASON_NOT_FOUND;
	COUNT(index_errors_total);
	return REASON_INDEX_ERROR;
}

/* A record that does not decode is not there. */
static enum reason
index_record_damaged(void)
{
	COUNT(index_errors_total);
	return REASON_NOT_FOUND;
}

enum reason
index_get_object(struct index_view *v, const struct key *key, struct object_rec *rec,
    char text[OBJECT_TEXT_MAX])
{
	struct object_rec got;
	uint64_t born_seq;
	MDB_val val;
	enum reason r = index_view_begin(v);

	if (r != REASON_OK)
		return r;
	r = index_view_get(v, INDEX_DB_URL, key->b, KEY_BYTES, &val);
	if (r == REASON_OK && !record_object_decode(&got, &born_seq, key, val.mv_data, val.mv_size))
		r = index_record_damaged();
	if (r == REASON_OK) {
		record_text_keep((struct slice *[]){&got.url, &got.etag, &got.fields}, 3, text);
		*rec = got;
	}
	index_view_end(v);
	return r;
}

bool
index_seq_is_suspect(const struct index *ix, uint64_t seq)
{
	for (uint32_t i = 0; i < ix->ranges_n; i++)
		if (seq > ix->ranges[i].above && seq <= ix->ranges[i].upto)
			return true;
	return false;
}

enum reason
index_get_blob(struct index_view *v, const uint8_t digest[32], struct blob_rec *rec)
{
	struct record_blob got;
	MDB_val val;
	enum reason r = index_view_begin(v);

	if (r != REASON_OK)
		return r;
	r = index_view_get(v, INDEX_DB_BLOB, digest, 32, &val);
	if (r == REASON_OK && !record_blob_decode(&got, digest, val.mv_data, val.mv_size))
		r = index_record_damaged();
	if (r == REASON_OK) {
		*rec = got.pub;
		rec->suspect |= index_seq_is_suspect(v->ix, got.seq);
	}
	index_view_end(v);
	return r;
}

/* How many prefix digests the journal holds: the last mark's number plus one. */
static uint32_t
index_view_count_marks(struct index_view *v, const struct key *key)
{
	uint8_t beyond[RECORD_MARK_KEY_BYTES];
	MDB_cursor *cur;
	MDB_val k, val;
	uint32_t n = 0;
	int rc;

	if (mdb_cursor_open(v->txn, v->ix->dbi[INDEX_DB_PARTIAL], &cur) != 0)
		return 0;
	record_mark_key(beyond, key, UINT32_MAX);
	k = index_val(beyond, sizeof(beyond));
	rc = mdb_cursor_get(cur, &k, &val, MDB_SET_RANGE);
	rc = mdb_cursor_get(cur, &k, &val, rc == 0 ? MDB_PREV : MDB_LAST);
	if (rc == 0 && k.mv_size == RECORD_MARK_KEY_BYTES &&
	    memcmp(k.mv_data, key->b, KEY_BYTES) == 0) {
		for (unsigned i = 0; i < 4; i++)
			n = n << 8 | ((const uint8_t *)k.mv_data)[KEY_BYTES + i];
		n++;
	}
	mdb_cursor_close(cur);
	return n;
}

enum reason
index_get_partial(struct index_view *v, const struct key *key, struct partial_rec *rec,
    char text[OBJECT_TEXT_MAX])
{
	struct partial_rec got;
	MDB_val val;
	enum reason r = index_view_begin(v);

	if (r != REASON_OK)
		return r;
	r = index_view_get(v, INDEX_DB_PARTIAL, key->b, KEY_BYTES, &val);
	if (r == REASON_OK && !record_partial_decode(&got, key, val.mv_data, val.mv_size))
		r = index_record_damaged();
	if (r == REASON_OK) {
		record_text_keep((struct slice *[]){&got.url, &got.etag, &got.fields}, 3, text);
		got.marks_n = index_view_count_marks(v, key);
		*rec = got;
	}
	index_view_end(v);
	return r;
}

void
index_wrong_key(uint8_t out[INDEX_WRONG_KEY_BYTES], const struct key *key)
{
	memcpy(out, "wrong", 5);
	memcpy(out + 5, key->b, 2);
}

bool
index_is_marked_wrong(struct index_view *v, const struct key *key)
{
	uint8_t wrong_key[INDEX_WRONG_KEY_BYTES];
	MDB_val val;
	bool marked;

	if (index_view_begin(v) != REASON_OK)
		return false;
	index_wrong_key(wrong_key, key);
	marked = index_view_get(v, INDEX_DB_META, wrong_key, sizeof(wrong_key), &val) == REASON_OK &&
	    val.mv_size == KEY_BYTES && memcmp(val.mv_data, key->b, KEY_BYTES) == 0;
	index_view_end(v);
	return marked;
}

enum reason
index_get_partial_mark(struct index_view *v, const struct key *key, uint32_t mark,
    uint8_t digest[32])
{
	uint8_t mark_key[RECORD_MARK_KEY_BYTES];
	MDB_val val;
	enum reason r = index_view_begin(v);

	if (r != REASON_OK)
		return r;
	record_mark_key(mark_key, key, mark);
	r = index_view_get(v, INDEX_DB_PARTIAL, mark_key, sizeof(mark_key), &val);
	if (r == REASON_OK && !record_mark_decode(digest, mark_key, val.mv_data, val.mv_size))
		r = index_record_damaged();
	index_view_end(v);
	return r;
}

/* ---- walks ---- */

/* Puts a cursor on the first key after `after`; a view's lookup has begun. */
static int
index_cursor_start(struct index_view *v, enum index_db db, const void *after, MDB_cursor **cur,
    MDB_val *k, MDB_val *val)
{
	int rc = mdb_cursor_open(v->txn, v->ix->dbi[db], cur);

	if (rc != 0)
		return rc;
	if (after == NULL)
		return mdb_cursor_get(*cur, k, val, MDB_FIRST);
	*k = index_val(after, KEY_BYTES);
	rc = mdb_cursor_get(*cur, k, val, MDB_SET_RANGE);
	if (rc == 0 && k->mv_size == KEY_BYTES && memcmp(k->mv_data, after, KEY_BYTES) == 0)
		rc = mdb_cursor_get(*cur, k, val, MDB_NEXT);
	return rc;
}

/* Called for each record with a key of the right size. */
typedef void index_each_f(const struct index_view *v, const MDB_val *k, const MDB_val *val,
    const void *what);

/* At most max_n records of one database, in key order. */
static enum reason
index_view_walk(struct index_view *v, enum index_db db, const void *after, uint32_t max_n,
    index_each_f *each, const void *what, uint8_t last[32], uint32_t *seen_n)
{
	MDB_cursor *cur = NULL;
	uint32_t n = 0;
	MDB_val k, val;
	int rc;
	enum reason r = index_view_begin(v);

	if (r != REASON_OK)
		return r;
	rc = index_cursor_start(v, db, after, &cur, &k, &val);
	while (rc == 0 && n < max_n) {
		if (k.mv_size == KEY_BYTES) {
			each(v, &k, &val, what);
			memcpy(last, k.mv_data, KEY_BYTES);
			n++;
		}
		rc = mdb_cursor_get(cur, &k, &val, MDB_NEXT);
	}
	if (cur != NULL)
		mdb_cursor_close(cur);
	index_view_end(v);
	*seen_n = n;
	if (rc == 0 || rc == MDB_NOTFOUND)
		return REASON_OK;
	COUNT(index_errors_total);
	return REASON_INDEX_ERROR;
}

struct index_walk {
	index_blob_f *blob_fn;
	index_object_f *object_fn;
	void *arg;
};

static void
index_walk_blob_each(const struct index_view *v, const MDB_val *k, const MDB_val *val,
    const void *what)
{
	const struct index_walk *w = what;
	struct record_blob rec;

	if (!record_blob_decode(&rec, k->mv_data, val->mv_data, val->mv_size)) {
		COUNT(index_errors_total);
		return;
	}
	rec.pub.suspect |= index_seq_is_suspect(v->ix, rec.seq);
	w->blob_fn(w->arg, k->mv_data, &rec.pub);
}

enum reason
index_walk_blobs(struct index_view *v, const uint8_t *after, uint32_t max_n, index_blob_f *fn,
    void *arg, uint8_t last[32], uint32_t *seen_n)
{
	struct index_walk w = {.blob_fn = fn, .arg = arg};

	return index_view_walk(v, INDEX_DB_BLOB, after, max_n, index_walk_blob_each, &w, last,
	    seen_n);
}

static void
index_walk_object_each(const struct index_view *v, const MDB_val *k, const MDB_val *val,
    const void *what)
{
	const struct index_walk *w = what;
	struct object_rec rec;
	uint64_t born_seq;
	struct key key;

	(void)v;
	memcpy(key.b, k->mv_data, KEY_BYTES);
	if (record_object_decode(&rec, &born_seq, &key, val->mv_data, val->mv_size))
		w->object_fn(w->arg, &key, &rec);
	else
		COUNT(index_errors_total);
}

enum reason
index_walk_objects(struct index_view *v, const struct key *after, uint32_t max_n,
    index_object_f *fn, void *arg, struct key *last, uint32_t *seen_n)
{
	struct index_walk w = {.object_fn = fn, .arg = arg};

	return index_view_walk(v, INDEX_DB_URL, after != NULL ? after->b : NULL, max_n,
	    index_walk_object_each, &w, last->b, seen_n);
}

enum reason
index_walk_repos(struct index_view *v, index_repo_f *fn, void *arg)
{
	MDB_cursor *cur = NULL;
	MDB_val k, val;
	int rc;
	enum reason r = index_view_begin(v);

	if (r != REASON_OK)
		return r;
	rc = mdb_cursor_open(v->txn, v->ix->dbi[INDEX_DB_REPO], &cur);
	if (rc == 0)
		rc = mdb_cursor_get(cur, &k, &val, MDB_FIRST);
	while (rc == 0) {
		fn(arg, k.mv_data, k.mv_size, val.mv_data, val.mv_size);
		rc = mdb_cursor_get(cur, &k, &val, MDB_NEXT);
	}
	if (cur != NULL)
		mdb_cursor_close(cur);
	index_view_end(v);
	return rc == MDB_NOTFOUND ? REASON_OK : REASON_INDEX_ERROR;
}

/* ---- versions, totals ---- */

uint32_t
index_version(const struct index *ix, const struct key *key)
{
	uint16_t bucket;

	memcpy(&bucket, key->b, sizeof(bucket));
	return atomic_load_explicit(&ix->versions[bucket], memory_order_acquire);
}

uint32_t
index_drop_version(const struct index *ix)
{
	return atomic_load_explicit(&ix->drops, memory_order_acquire);
}

uint64_t
index_blob_bytes(const struct index *ix)
{
	CHECK_OBJ(ix, INDEX_MAGIC);
	return atomic_load(&ix->blob_bytes);
}

uint64_t
index_blob_count(const struct index *ix)
{
	CHECK_OBJ(ix, INDEX_MAGIC);
	return atomic_load(&ix->blobs_n);
}

uint64_t
index_sync_point(const struct index *ix)
{
	CHECK_OBJ(ix, INDEX_MAGIC);
	return atomic_load(&ix->sync_point);
}
