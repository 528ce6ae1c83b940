/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Recovery, called by index_open and index_close only. At open: the marker
 * is compared, the index examined by a child where it does not match, set
 * aside where it is damaged; then partials are tidied at once (there are few)
 * and bodies in the background by a thread that lives until its walk is done
 * or the index closes.
 *
 * LMDB maps its file and trusts it: a damaged page can end the process that
 * looks at it, by a signal or by an endless loop. So the first look is taken
 * by a child that has a time limit, and only its exit status is believed.
 */
#include "cache/recover.h"
#include "cache/index_priv.h"
#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RECOVER_MAGIC 0x2ec04e35u

enum {
	RECOVER_CHECK_S = 30,		/* the child's time, and a second more for each of: */
	RECOVER_CHECK_BYTES_S = 16 << 20,
	RECOVER_KEPT_N = 2,		/* damaged indexes kept */
	RECOVER_STEP_N = 1000,		/* bodies between two waits for the writer */
	RECOVER_PARTIAL_DAYS = 7,	/* unfinished bodies nobody came back for */
	/* Exit statuses of the child. */
	RECOVER_EXIT_WHOLE = 0,
	RECOVER_EXIT_DAMAGED = 1,
	RECOVER_EXIT_NEWER = 2,
	RECOVER_EXIT_MACHINE = 3,	/* out of memory: says nothing about the index */
};

/* ---- the marker ---- */

/* "SIZE MTIME\n" of data.mdb as it is; false when there is none. */
static bool
recover_marker_make(int dirfd, char *text, size_t cap)
{
	struct stat sb;

	if (fstatat(dirfd, "index/data.mdb", &sb, 0) != 0)
		return false;
	(void)snprintf(text, cap, "%" PRIu64 " %" PRId64 ".%09ld\n", (uint64_t)sb.st_size,
	    (int64_t)sb.st_mtim.tv_sec, sb.st_mtim.tv_nsec);
	return true;
}

bool
recover_clean_matches(int dirfd)
{
	char want[64], got[64] = "";
	int fd = openat(dirfd, "clean", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, got, sizeof(got) - 1);
	(void)close(fd);
	return n > 0 && recover_marker_make(dirfd, want, sizeof(want)) && strcmp(want, got) == 0;
}

void
recover_clean_remove(int dirfd)
{
	if (unlinkat(dirfd, "clean", 0) != 0 && errno != ENOENT)
		log_warning("the marker of a clean stop can't be removed: %s", strerror(errno));
}

void
recover_clean_write(int dirfd, bool sync)
{
	char text[64];
	bool ok;
	int fd;

	if (!recover_marker_make(dirfd, text, sizeof(text)))
		return;
	fd = openat(dirfd, "clean.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	if (fd < 0)
		return;	/* a full disk: the next start examines the index, no more */
	ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text) &&
	    (!sync || fsync(fd) == 0);
	(void)close(fd);
	if (!ok || renameat(dirfd, "clean.new", dirfd, "clean") != 0)
		(void)unlinkat(dirfd, "clean.new", 0);
}

/* ---- the examination (in the child) ---- */

/* Is this record whole, and of its database's kind? */
static bool
recover_record_ok(enum index_db db, const MDB_val *k, const MDB_val *val)
{
	struct record_state st;
	struct record_blob blob;
	struct object_rec object;
	struct partial_rec partial;
	uint8_t digest[32];
	uint64_t born_seq;
	struct key key;

	if (db != INDEX_DB_META && k->mv_size >= KEY_BYTES)
		memcpy(key.b, k->mv_data, KEY_BYTES);
	switch (db) {
	case INDEX_DB_META:
		return k->mv_size != 5 || record_state_decode(&st, val->mv_data, val->mv_size);
	case INDEX_DB_URL:
		return k->mv_size == KEY_BYTES && record_object_decode(&object, &born_seq, &key,
		    val->mv_data, val->mv_size);
	case INDEX_DB_BLOB:
		return k->mv_size == KEY_BYTES &&
		    record_blob_decode(&blob, key.b, val->mv_data, val->mv_size);
	case INDEX_DB_PARTIAL:
		if (k->mv_size == RECORD_MARK_KEY_BYTES)
			return record_mark_decode(digest, k->mv_data, val->mv_data,
			    val->mv_size);
		return k->mv_size == KEY_BYTES &&
		    record_partial_decode(&partial, &key, val->mv_data, val->mv_size);
	case INDEX_DB_REPO:
		return record_repo_payload(k->mv_data, k->mv_size, val->mv_data,
		    val->mv_size).p != NULL;
	case INDEX_DB__N:
		break;
	}
	WRONG("index database");
}

/* All records of one database: whole, in order, as many as LMDB counted. */
static bool
recover_db_ok(MDB_txn *txn, MDB_dbi dbi, enum index_db db)
{
	uint8_t before[INDEX_REPO_KEY_MAX + 1];
	size_t before_n = 0, n = 0;
	MDB_cursor *cur;
	MDB_stat stat;
	MDB_val k, val;
	int rc;

	if (mdb_stat(txn, dbi, &stat) != 0 || mdb_cursor_open(txn, dbi, &cur) != 0)
		return false;
	while ((rc = mdb_cursor_get(cur, &k, &val, n == 0 ? MDB_FIRST : MDB_NEXT)) == 0) {
		size_t common = k.mv_size < before_n ? k.mv_size : before_n;
		int order = common > 0 ? memcmp(before, k.mv_data, common) : -1;

		if (k.mv_size == 0 || k.mv_size >= sizeof(before) || order > 0 ||
		    (order == 0 && before_n >= k.mv_size) || ++n > stat.ms_entries ||
		    !recover_record_ok(db, &k, &val))
			return false;
		before_n = k.mv_size;
		memcpy(before, k.mv_data, before_n);
	}
	return rc == MDB_NOTFOUND && n == stat.ms_entries;
}

/* The list of free pages: a wrong one would be written over. Lists are counted and descending. */
static bool
recover_free_list_ok(MDB_env *env, MDB_txn *txn)
{
	MDB_envinfo info;
	MDB_cursor *cur;
	MDB_val k, val;
	int rc;

	if (mdb_env_info(env, &info) != 0 || mdb_cursor_open(txn, 0, &cur) != 0)
		return false;
	while ((rc = mdb_cursor_get(cur, &k, &val, MDB_NEXT)) == 0) {
		const char *p = val.mv_data;
		size_t n, page, above = info.me_last_pgno + 1;

		if (k.mv_size != sizeof(size_t) || val.mv_size < sizeof(n))
			return false;
		memcpy(&n, p, sizeof(n));
		if (n > val.mv_size / sizeof(size_t) - 1)
			return false;
		for (size_t i = 1; i <= n; i++) {
			memcpy(&page, p + i * sizeof(page), sizeof(page));
			if (page < 2 || page >= above)
				return false;
			above = page;
		}
	}
	return rc == MDB_NOTFOUND;
}

/* Is the index of a format that we know? */
static int
recover_format_exit(MDB_txn *txn, MDB_dbi meta)
{
	MDB_val k = index_val("format", 6), val;
	uint32_t format;
	int rc = mdb_get(txn, meta, &k, &val);

	if (rc == MDB_NOTFOUND)		/* killed before its first transaction */
		return RECOVER_EXIT_WHOLE;
	if (rc != 0 || val.mv_size != sizeof(format))
		return RECOVER_EXIT_DAMAGED;
	memcpy(&format, val.mv_data, sizeof(format));
	return format > RECORD_FORMAT ? RECOVER_EXIT_NEWER : RECOVER_EXIT_WHOLE;
}

/* Everything in an open environment. */
static int
recover_env_exit(MDB_env *env)
{
	MDB_txn *txn;
	MDB_dbi dbi;
	int rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);

	if (rc != 0)
		return rc == ENOMEM ? RECOVER_EXIT_MACHINE : RECOVER_EXIT_DAMAGED;
	for (unsigned i = 0; i < INDEX_DB__N; i++) {
		rc = mdb_dbi_open(txn, index_db_names[i], 0, &dbi);
		if (rc == MDB_NOTFOUND)
			continue;	/* killed while it was made */
		if (rc != 0)
			return RECOVER_EXIT_DAMAGED;
		rc = i == INDEX_DB_META ? recover_format_exit(txn, dbi) : RECOVER_EXIT_WHOLE;
		if (rc != RECOVER_EXIT_WHOLE)
			return rc;
		if (!recover_db_ok(txn, dbi, (enum index_db)i))
			return RECOVER_EXIT_DAMAGED;
	}
	return recover_free_list_ok(env, txn) ? RECOVER_EXIT_WHOLE : RECOVER_EXIT_DAMAGED;
}

/* LMDB's assertions judge the file too. */
__attribute__((noreturn)) static void
recover_assert_cb(MDB_env *env, const char *what)
{
	(void)env;
	(void)what;
	_exit(RECOVER_EXIT_DAMAGED);
}

/* Opens and reads. A file shorter than its pages ends this by a signal. */
static int
recover_files_exit(const char *path)
{
	MDB_env *env;
	int rc = mdb_env_create(&env);

	if (rc == 0)
		rc = mdb_env_set_maxdbs(env, INDEX_DB__N);
	if (rc == 0)
		rc = mdb_env_set_assert(env, recover_assert_cb);
	if (rc != 0)
		return RECOVER_EXIT_MACHINE;
	/* Without its lock file: a process that was killed may have left that in any state. */
	rc = mdb_env_open(env, path, MDB_RDONLY | MDB_NOLOCK, 0640);
	if (rc > 0)
		return RECOVER_EXIT_MACHINE;
	return rc == 0 ? recover_env_exit(env) : RECOVER_EXIT_DAMAGED;
}

/* The child's whole life. */
__attribute__((noreturn)) static void
recover_child(const char *path, unsigned limit_s)
{
	static const int fatal[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGALRM, SIGTERM,
		SIGINT};
	struct rlimit no_core = {0, 0};
	sigset_t none;

	for (size_t i = 0; i < NELEM(fatal); i++)
		(void)signal(fatal[i], SIG_DFL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)setrlimit(RLIMIT_CORE, &no_core);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)alarm(limit_s);
	_exit(recover_files_exit(path));
}

/* What the child's end says. */
static enum reason
recover_status_reason(int status)
{
	if (!WIFEXITED(status))
		return REASON_INDEX_ERROR;
	switch (WEXITSTATUS(status)) {
	case RECOVER_EXIT_WHOLE:
	case RECOVER_EXIT_MACHINE:	/* then opening it fails in its own words */
		return REASON_OK;
	case RECOVER_EXIT_NEWER:
		return REASON_NEWER_FORMAT;
	default:
		return REASON_INDEX_ERROR;
	}
}

/* Forks the child and waits for its verdict. */
static enum reason
recover_check_run(const char *path, unsigned limit_s)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		recover_child(path, limit_s);
	if (pid < 0) {
		log_error("index can't be examined: no process for it: %s", strerror(errno));
		return REASON_NO_MEMORY;
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR) {
			log_error("index can't be examined: %s", strerror(errno));
			return REASON_NO_MEMORY;
		}
	return recover_status_reason(status);
}

enum reason
recover_check_index(int dirfd, const char *dir)
{
	int64_t began_ms = clock_mono_ms();
	struct stat sb;
	enum reason r;
	char *path;

	if (fstatat(dirfd, "index/data.mdb", &sb, 0) != 0 || sb.st_size == 0)
		return REASON_OK;
	if (asprintf(&path, "%s/index", dir) < 0)
		return REASON_NO_MEMORY;
	r = recover_check_run(path, RECOVER_CHECK_S +
	    (unsigned)(sb.st_blocks * 512 / RECOVER_CHECK_BYTES_S));
	free(path);
	if (r == REASON_OK)
		log_notice("index examined after an unclean stop: whole (%lld ms)",
		    (long long)(clock_mono_ms() - began_ms));
	return r;
}

/* ---- setting aside ---- */

/* Unlinks what LMDB made there, then the directory; anything else in it stays. */
static void
recover_index_delete(int dirfd, const char *name)
{
	static const char *const files[] = {"data.mdb", "lock.mdb"};
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return;
	for (size_t i = 0; i < NELEM(files); i++)
		(void)unlinkat(fd, files[i], 0);
	(void)close(fd);
	(void)unlinkat(dirfd, name, AT_REMOVEDIR);
}

static int
recover_is_damaged_name(const struct dirent *de)
{
	return strncmp(de->d_name, "index.damaged-", 14) == 0;
}

/* Deletes all but the newest damaged indexes; their names sort by date. */
static void
recover_damaged_prune(int dirfd)
{
	struct dirent **names;
	int n = scandirat(dirfd, ".", &names, recover_is_damaged_name, alphasort);

	for (int i = 0; i < n; i++) {
		if (i + RECOVER_KEPT_N < n)
			recover_index_delete(dirfd, names[i]->d_name);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

enum reason
recover_set_aside(int dirfd, const char *dir)
{
	char date[32], name[64];
	time_t now = (time_t)clock_wall_s();
	struct stat sb;
	struct tm tm;

	(void)gmtime_r(&now, &tm);
	(void)strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", &tm);
	(void)snprintf(name, sizeof(name), "index.damaged-%s", date);
	for (unsigned i = 1; i < 100 && fstatat(dirfd, name, &sb, AT_SYMLINK_NOFOLLOW) == 0; i++)
		(void)snprintf(name, sizeof(name), "index.damaged-%s-%02u", date, i);
	if (renameat(dirfd, "index", dirfd, name) != 0) {
		log_error("the index in %s/index is damaged and can't be set aside: %s", dir,
		    strerror(errno));
		return blob_errno_reason(errno);
	}
	log_error("the index in %s/index is damaged: set aside as %s; bodies are kept and found "
	    "again by their digests, everything else is fetched anew", dir, name);
	recover_damaged_prune(dirfd);
	return REASON_OK;
}

/* ---- partials ---- */

struct recover_partial {
	struct index_view *view;
	struct blobstore *bs;
	struct index *ix;
	int64_t now_s;
	unsigned removed_n;
};

/* Gives back what was allocated beyond the end. */
static void
recover_partial_trim(struct blobstore *bs, const struct key *key)
{
	struct blob_stat st;
	int fd;

	if (blob_partial_open(bs, key, &fd, &st) != REASON_OK)
		return;
	if (ftruncate(fd, (off_t)st.size_bytes) != 0)
		log_warning("an unfinished body can't be trimmed: %s", strerror(errno));
	(void)close(fd);
}

static bool
recover_partial_each(void *arg, const uint8_t name[32], const struct blob_stat *st)
{
	char text[OBJECT_TEXT_MAX];
	struct recover_partial *rp = arg;
	struct partial_rec rec;
	struct key key;
	int64_t age_s = rp->now_s - st->mtime_ns / 1000000000;

	memcpy(key.b, name, KEY_BYTES);
	if (index_get_partial(rp->view, &key, &rec, text) == REASON_OK &&
	    age_s < RECOVER_PARTIAL_DAYS * 86400) {
		recover_partial_trim(rp->bs, &key);
		return true;
	}
	index_partial_end(rp->ix, &key);
	if (blob_partial_remove(rp->bs, &key) == REASON_OK)
		rp->removed_n++;
	return true;
}

void
recover_partials(struct index *ix, struct blobstore *bs)
{
	struct recover_partial rp = {
		.view = index_view_open(ix), .bs = bs, .ix = ix, .now_s = clock_wall_s(),
	};

	if (rp.view == NULL)
		return;
	if (blob_partial_walk(bs, recover_partial_each, &rp) != REASON_OK)
		log_warning("unfinished bodies can't be listed");
	index_view_close(&rp.view);
	if (rp.removed_n > 0)
		log_info("%u unfinished bodies that can't be resumed were removed",
		    rp.removed_n);
}

/* ---- bodies ---- */

/* One recovery walk; owned by the index. */
struct recover {
	uint32_t magic;
	struct index *ix;
	struct blobstore *bs;
	struct index_view *view;
	bool rebuild;
	bool ended;			/* the walk met everything; read after the join */
	atomic_bool stop;
	pthread_t thread;
	bool joined;
	unsigned step_n;
	uint64_t seen_n, changed_n;
};

static bool
recover_blob_each(void *arg, const uint8_t digest[32], const struct blob_stat *st)
{
	struct recover *rc = arg;
	struct blob_rec rec;

	CHECK_OBJ(rc, RECOVER_MAGIC);
	rc->seen_n++;
	if (index_get_blob(rc->view, digest, &rec) == REASON_NOT_FOUND) {
		rc->changed_n++;
		/* The writer looks again: a store may be on its way. */
		if (rc->rebuild)
			index_record_blob(rc->ix, digest, st, true);
		else
			index_sweep_blob(rc->ix, digest);
		if (++rc->step_n == RECOVER_STEP_N) {
			index_flush(rc->ix);
			rc->step_n = 0;
		}
	}
	return !atomic_load(&rc->stop);
}

static void *
recover_main(void *arg)
{
	struct recover *rc = arg;
	enum reason r;

	(void)pthread_setname_np(pthread_self(), "recovery");
	r = blob_walk(rc->bs, recover_blob_each, rc);
	if (r == REASON_OK && !atomic_load(&rc->stop)) {
		rc->ended = true;
		if (rc->rebuild)
			index_rebuilt(rc->ix);
		index_flush(rc->ix);
	}
	if (rc->changed_n > 0)
		log_notice("%" PRIu64 " bodies looked at, %" PRIu64 " %s", rc->seen_n,
		    rc->changed_n, rc->rebuild ? "entered into the new index" :
		    "removed that no record names");
	index_view_close(&rc->view);
	return NULL;
}

struct recover *
recover_start(struct index *ix, struct blobstore *bs, bool rebuild)
{
	struct recover *rc;

	OBJ_NEW(rc, RECOVER_MAGIC);
	if (rc == NULL)
		return NULL;
	rc->ix = ix;
	rc->bs = bs;
	rc->rebuild = rebuild;
	rc->view = index_view_open(ix);
	if (rc->view == NULL || pthread_create(&rc->thread, NULL, recover_main, rc) != 0) {
		index_view_close(&rc->view);
		OBJ_FREE(rc);
	}
	return rc;
}

void
recover_wait(struct recover *rc)
{
	if (rc == NULL || rc->joined)
		return;
	CHECK_OBJ(rc, RECOVER_MAGIC);
	AZ(pthread_join(rc->thread, NULL));
	rc->joined = true;
}

bool
recover_stop(struct recover **rc_p)
{
	struct recover *rc = *rc_p;
	bool known;

	if (rc == NULL)
		return true;
	*rc_p = NULL;
	atomic_store(&rc->stop, true);
	recover_wait(rc);
	known = rc->ended || rc->rebuild;	/* a rebuild goes on by the index's own word */
	OBJ_FREE(rc);
	return known;
}
