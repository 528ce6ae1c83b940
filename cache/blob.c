/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Body files. A body is born in partial/<url key> (blob_partial_create),
 * grows there under its flight, and becomes blobs/ab/<sha256> by one rename
 * (blob_adopt, called by the index writer only) or is removed. Blobs are
 * immutable from then on. Nothing here knows what a body is good for: that
 * is the index's business.
 *
 * Each path is walked from cache_dir's descriptor: descriptors of the
 * directories below would go stale when somebody deletes and remakes them.
 */
#include "cache/blob.h"
#include "include/log.h"
#include "include/obj.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BLOBSTORE_MAGIC 0x5d1b70a1u

enum {
	BLOB_PATH_BYTES = sizeof("blobs/ab/") + 64,
	BLOB_FILE_MODE = 0640,
	BLOB_DIR_MODE = 0750,
};

/* Owned by the cache; any thread. */
struct blobstore {
	uint32_t magic;
	atomic_bool gone;		/* cache_dir was removed, and that was said */
	int dirfd;			/* cache_dir */
	atomic_bool no_noatime;		/* the system refuses O_NOATIME: files of another owner */
	atomic_bool no_cached;		/* the system does not know RESOLVE_CACHED */
	atomic_uint scratch_n;		/* names of scratch files where O_TMPFILE is unknown */
	/* Files in partial/, by the first byte of their keys: most bodies have none to look for. */
	atomic_uint partials[256];
};

static const struct {
	int err;
	enum reason reason;
} blob_errno_table[] = {
	{ENOSPC, REASON_NO_DISK},
	{EDQUOT, REASON_NO_DISK},
	{EROFS, REASON_NO_DISK},
	{EFBIG, REASON_NO_DISK},
	{EMFILE, REASON_NO_DESCRIPTORS},
	{ENFILE, REASON_NO_DESCRIPTORS},
	{ENOMEM, REASON_NO_MEMORY},
};

enum reason
blob_errno_reason(int err)
{
	for (size_t i = 0; i < NELEM(blob_errno_table); i++)
		if (blob_errno_table[i].err == err)
			return blob_errno_table[i].reason;
	return REASON_DISK_ERROR;
}

enum reason
blob_write_all(int fd, uint64_t at, const void *bytes, uint64_t n)
{
	const char *p = bytes;

	while (n > 0) {
		ssize_t k = pwrite(fd, p, n, (off_t)at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k == 0 ? REASON_NO_DISK : blob_errno_reason(errno);
		p += k;
		at += (uint64_t)k;
		n -= (uint64_t)k;
	}
	return REASON_OK;
}

/* For opens: what is not a file of ours is not there. */
static enum reason
blob_open_reason(int err)
{
	if (err == ENOENT || err == ENOTDIR || err == ELOOP || err == ENXIO || err == EISDIR)
		return REASON_NOT_FOUND;
	return blob_errno_reason(err);
}

/* "blobs/ab/<sha256>" */
static void
blob_path_make(char path[BLOB_PATH_BYTES], const uint8_t digest[32])
{
	memcpy(path, "blobs/ab/", 9);
	key_hex(digest, path + 9);
	memcpy(path + 6, path + 9, 2);
}

/* "partial/<url key>" */
static void
blob_partial_path_make(char path[BLOB_PATH_BYTES], const struct key *key)
{
	memcpy(path, "partial/", 8);
	key_hex(key->b, path + 8);
}

static void
blob_stat_take(struct blob_stat *st, const struct stat *sb)
{
	st->size_bytes = (uint64_t)sb->st_size;
	st->mtime_ns = (int64_t)sb->st_mtim.tv_sec * 1000000000 + sb->st_mtim.tv_nsec;
}

/* Makes one directory below cache_dir; 0 also when it is there. Says once that cache_dir is not. */
static int
blob_dir_make(struct blobstore *bs, const char *path)
{
	if (mkdirat(bs->dirfd, path, BLOB_DIR_MODE) == 0 || errno == EEXIST)
		return 0;
	if (errno == ENOENT && !atomic_exchange(&bs->gone, true))
		log_error("cache_dir was removed: what is fetched is passed on and not kept; restart "
		    "the depot");
	return -1;
}

/* Makes cache_dir itself, parents included. */
static int
blobstore_dir_make(const char *dir)
{
	char *path = strdup(dir);
	int rc;

	if (path == NULL)
		return -1;
	for (char *p = path + 1; *p != '\0'; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		(void)mkdir(path, BLOB_DIR_MODE | 0005);
		*p = '/';
	}
	rc = mkdir(path, BLOB_DIR_MODE) == 0 || errno == EEXIST ? 0 : -1;
	free(path);
	return rc;
}

/* Makes what is missing and proves that files can be made there. */
static enum reason
blobstore_prepare(struct blobstore *bs)
{
	static const char *const names[] = {"blobs", "partial"};

	for (size_t i = 0; i < NELEM(names); i++)
		if (blob_dir_make(bs, names[i]) != 0 ||
		    faccessat(bs->dirfd, names[i], R_OK | W_OK | X_OK, AT_EACCESS) != 0)
			return blob_errno_reason(errno);
	return REASON_OK;
}

static bool
blob_count_partial(void *arg, const uint8_t key[32], const struct blob_stat *st)
{
	struct blobstore *bs = arg;

	(void)st;
	(void)atomic_fetch_add(&bs->partials[key[0]], 1);
	return true;
}

enum reason
blobstore_open(struct blobstore **bs_p, const char *dir)
{
	struct blobstore *bs;
	enum reason r;

	OBJ_NEW(bs, BLOBSTORE_MAGIC);
	if (bs == NULL)
		return REASON_NO_MEMORY;
	if (blobstore_dir_make(dir) != 0) {
		r = blob_errno_reason(errno);
		goto fail;
	}
	bs->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (bs->dirfd < 0) {
		r = blob_errno_reason(errno);
		goto fail;
	}
	r = blobstore_prepare(bs);
	if (r == REASON_OK)
		r = blob_partial_walk(bs, blob_count_partial, bs);
	if (r != REASON_OK)
		goto fail_dir;
	*bs_p = bs;
	return REASON_OK;
fail_dir:
	(void)close(bs->dirfd);
fail:
	OBJ_FREE(bs);
	return r;
}

void
blobstore_close(struct blobstore **bs_p)
{
	struct blobstore *bs = *bs_p;

	if (bs == NULL)
		return;
	CHECK_OBJ(bs, BLOBSTORE_MAGIC);
	*bs_p = NULL;
	(void)close(bs->dirfd);
	OBJ_FREE(bs);
}

int
blobstore_dirfd(const struct blobstore *bs)
{
	CHECK_OBJ(bs, BLOBSTORE_MAGIC);
	return bs->dirfd;
}

/* Hands out an open descriptor with its facts, or closes it when it is no regular file. */
static enum reason
blob_fd_give(int got, int *fd, struct blob_stat *st)
{
	struct stat sb;

	if (fstat(got, &sb) != 0 || !S_ISREG(sb.st_mode)) {
		(void)close(got);
		return REASON_NOT_FOUND;
	}
	blob_stat_take(st, &sb);
	*fd = got;
	return REASON_OK;
}

enum { BLOB_OPEN_FLAGS = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK };

enum reason
blob_open(struct blobstore *bs, const uint8_t digest[32], int *fd, struct blob_stat *st)
{
	char path[BLOB_PATH_BYTES];
	int got = -1;

	CHECK_OBJ(bs, BLOBSTORE_MAGIC);
	blob_path_make(path, digest);
	if (!atomic_load_explicit(&bs->no_noatime, memory_order_relaxed)) {
		got = openat(bs->dirfd, path, BLOB_OPEN_FLAGS | O_NOATIME);
		if (got < 0 && errno == EPERM)
			atomic_store(&bs->no_noatime, true);
		else if (got < 0)
			return blob_open_reason(errno);
	}
	if (got < 0)
		got = openat(bs->dirfd, path, BLOB_OPEN_FLAGS);
	if (got < 0)
		return blob_open_reason(errno);
	return blob_fd_give(got, fd, st);
}

#ifdef RESOLVE_CACHED
/* openat2 that fails with EAGAIN in place of reading a directory or an inode. */
static int
blob_openat_cached(struct blobstore *bs, const char *path)
{
	struct open_how how = {.flags = BLOB_OPEN_FLAGS, .resolve = RESOLVE_CACHED};
	long got;

	if (!atomic_load_explicit(&bs->no_noatime, memory_order_relaxed))
		how.flags |= O_NOATIME;
	got = syscall(SYS_openat2, bs->dirfd, path, &how, sizeof(how));
	if (got < 0 && (errno == ENOSYS || errno == EINVAL || errno == E2BIG)) {
		atomic_store(&bs->no_cached, true);	/* before Linux 5.12 */
		errno = EAGAIN;
	}
	/* O_NOATIME is refused, or a filter does not let openat2 pass: blob_open sorts it out. */
	if (got < 0 && errno == EPERM)
		errno = EAGAIN;
	return (int)got;
}
#else
static int
blob_openat_cached(struct blobstore *bs, const char *path)
{
	(void)path;
	atomic_store(&bs->no_cached, true);
	errno = EAGAIN;
	return -1;
}
#endif

enum reason
blob_open_nowait(struct blobstore *bs, const uint8_t digest[32], int *fd, struct blob_stat *st,
    bool *must_wait)
{
	char path[BLOB_PATH_BYTES];
	int got;

	CHECK_OBJ(bs, BLOBSTORE_MAGIC);
	*must_wait = true;
	if (atomic_load_explicit(&bs->no_cached, memory_order_relaxed))
		return REASON_OK;
	blob_path_make(path, digest);
	got = blob_openat_cached(bs, path);
	if (got < 0 && errno == EAGAIN)
		return REASON_OK;
	*must_wait = false;
	return got >= 0 ? blob_fd_give(got, fd, st) : blob_open_reason(errno);
}

/* Is the blob at path as `known` says? Fills st then. */
static bool
blob_is_as_known(const struct blobstore *bs, const char *path, const struct blob_stat *known,
    struct blob_stat *st)
{
	struct stat sb;

	if (known == NULL || fstatat(bs->dirfd, path, &sb, AT_SYMLINK_NOFOLLOW) != 0 ||
	    !S_ISREG(sb.st_mode))
		return false;
	blob_stat_take(st, &sb);
	return st->size_bytes == known->size_bytes && st->mtime_ns == known->mtime_ns;
}

/* Makes blobs/ and blobs/ab/ for a path in there. */
static int
blob_dirs_make(struct blobstore *bs, const char *path)
{
	char dir[] = "blobs/ab";

	memcpy(dir + 6, path + 6, 2);
	return blob_dir_make(bs, "blobs") == 0 && blob_dir_make(bs, dir) == 0 ? 0 : -1;
}

/* Renames, making directories where they are missing. */
static int
blob_rename_in(struct blobstore *bs, const char *from, const char *path)
{
	if (renameat(bs->dirfd, from, bs->dirfd, path) == 0)
		return 0;
	if (errno != ENOENT || blob_dirs_make(bs, path) != 0)
		return -1;
	return renameat(bs->dirfd, from, bs->dirfd, path);
}

/* A file that was in partial/ is not there any more. */
static void
blob_partial_gone(struct blobstore *bs, const struct key *key)
{
	(void)atomic_fetch_sub(&bs->partials[key->b[0]], 1);
}

static int
blob_partial_unlink(struct blobstore *bs, const struct key *key)
{
	char path[BLOB_PATH_BYTES];
	int rc;

	blob_partial_path_make(path, key);
	rc = unlinkat(bs->dirfd, path, 0);
	if (rc == 0)
		blob_partial_gone(bs, key);
	return rc;
}

enum reason
blob_adopt(struct blobstore *bs, const struct key *key, const uint8_t digest[32],
    uint64_t size_bytes, const struct blob_stat *known, struct blob_stat *st)
{
	char path[BLOB_PATH_BYTES], from[BLOB_PATH_BYTES];
	struct blob_stat there;
	struct stat sb;

	CHECK_OBJ(bs, BLOBSTORE_MAGIC);
	blob_path_make(path, digest);
	blob_partial_path_make(from, key);
	if (fstatat(bs->dirfd, from, &sb, AT_SYMLINK_NOFOLLOW) != 0)
		return blob_open_reason(errno);
	if (!S_ISREG(sb.st_mode) || (uint64_t)sb.st_size != size_bytes) {
		(void)blob_partial_unlink(bs, key);
		return REASON_DAMAGED;
	}
	if (blob_is_as_known(bs, path, known, &there)) {
		(void)blob_partial_unlink(bs, key);
		*st = there;
		return REASON_OK;
	}
	if (blob_rename_in(bs, from, path) != 0)
		return blob_errno_reason(errno);
	blob_partial_gone(bs, key);
	blob_stat_take(st, &sb);
	return REASON_OK;
}

/* Creates a blob's file, making its directories; one that is there goes, for its readers to keep. */
static int
blob_create(struct blobstore *bs, const char *path)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
	int fd = openat(bs->dirfd, path, flags, BLOB_FILE_MODE);

	if (fd < 0 && errno == ENOENT && blob_dirs_make(bs, path) == 0)
		fd = openat(bs->dirfd, path, flags, BLOB_FILE_MODE);
	if (fd < 0 && errno == EEXIST && unlinkat(bs->dirfd, path, 0) == 0)
		fd = openat(bs->dirfd, path, flags, BLOB_FILE_MODE);
	return fd;
}

enum reason
blob_write(struct blobstore *bs, const uint8_t digest[32], const void *bytes, uint64_t size_bytes,
    const struct blob_stat *known, struct blob_stat *st)
{
	char path[BLOB_PATH_BYTES];
	struct stat sb;
	enum reason r;
	int fd;

	CHECK_OBJ(bs, BLOBSTORE_MAGIC);
	blob_path_make(path, digest);
	if (blob_is_as_known(bs, path, known, st))
		return REASON_OK;
	fd = blob_create(bs, path);
	if (fd < 0)
		return blob_errno_reason(errno);
	r = blob_write_all(fd, 0, bytes, size_bytes);
	if (r == REASON_OK && fstat(fd, &sb) != 0)
		r = blob_errno_reason(errno);
	(void)close(fd);
	if (r == REASON_OK)
		blob_stat_take(st, &sb);
	else
		(void)unlinkat(bs->dirfd, path, 0);
	return r;
}

/* What an unlink means; that the file is gone already is as good. */
static enum reason
blob_unlink_reason(int rc)
{
	return rc == 0 || errno == ENOENT || errno == ENOTDIR ? REASON_OK :
	    blob_errno_reason(errno);
}

enum reason
blob_remove(struct blobstore *bs, const uint8_t digest[32])
{
	char path[BLOB_PATH_BYTES];

	CHECK_OBJ(bs, BLOBSTORE_MAGIC);
	blob_path_make(path, digest);
	return blob_unlink_reason(unlinkat(bs->dirfd, path, 0));
}

/* Creates a file that must not exist, making partial/ where it is missing. */
static int
blob_file_create(struct blobstore *bs, const char *path)
{
	const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
	int fd = openat(bs->dirfd, path, flags, BLOB_FILE_MODE);

	if (fd < 0 && errno == ENOENT && blob_dir_make(bs, "partial") == 0)
		fd = openat(bs->dirfd, path, flags, BLOB_FILE_MODE);
	return fd;
}

enum reason
blob_partial_create(struct blobstore *bs, const struct key *key, int *fd)
{
	char path[BLOB_PATH_BYTES];
	int got;

	CHECK_OBJ(bs, BLOBSTORE_MAGIC);
	blob_partial_path_make(path, key);
	got = blob_file_create(bs, path);
	if (got < 0 && errno == EEXIST) {
		/* Not truncated: readers of the one before may still be at it. */
		(void)blob_partial_unlink(bs, key);
		got = blob_file_create(bs, path);
	}
	if (got < 0)
		return blob_errno_reason(errno);
	(void)atomic_fetch_add(&bs->partials[key->b[0]], 1);
	*fd = got;
	return REASON_OK;
}

enum reason
blob_scratch_create(struct blobstore *bs, int *fd)
{
	char path[BLOB_PATH_BYTES];
	int got;

	CHECK_OBJ(bs, BLOBSTORE_MAGIC);
	got = openat(bs->dirfd, "partial", O_TMPFILE | O_RDWR | O_CLOEXEC, BLOB_FILE_MODE);
	if (got < 0 && errno == ENOENT && blob_dir_make(bs, "partial") == 0)
		got = openat(bs->dirfd, "partial", O_TMPFILE | O_RDWR | O_CLOEXEC,
		    BLOB_FILE_MODE);
	if (got < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
		(void)snprintf(path, sizeof(path), "partial/scratch-%ld-%u", (long)getpid(),
		    atomic_fetch_add(&bs->scratch_n, 1));
		(void)unlinkat(bs->dirfd, path, 0); /* left by a killed process with our number */
		got = blob_file_create(bs, path);
		if (got >= 0)
			(void)unlinkat(bs->dirfd, path, 0);
	}
	if (got < 0)
		return blob_errno_reason(errno);
	*fd = got;
	return REASON_OK;
}

enum reason
blob_partial_open(struct blobstore *bs, const struct key *key, int *fd, struct blob_stat *st)
{
	char path[BLOB_PATH_BYTES];
	int got;

	CHECK_OBJ(bs, BLOBSTORE_MAGIC);
	if (atomic_load_explicit(&bs->partials[key->b[0]], memory_order_relaxed) == 0)
		return REASON_NOT_FOUND;
	blob_partial_path_make(path, key);
	got = openat(bs->dirfd, path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (got < 0)
		return blob_open_reason(errno);
	return blob_fd_give(got, fd, st);
}

enum reason
blob_partial_remove(struct blobstore *bs, const struct key *key)
{
	CHECK_OBJ(bs, BLOBSTORE_MAGIC);
	return blob_unlink_reason(blob_partial_unlink(bs, key));
}

/* Opens a directory below cache_dir for reading; NULL with errno. */
static DIR *
blob_dir_open(const struct blobstore *bs, const char *path)
{
	int fd = openat(bs->dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d;

	if (fd < 0)
		return NULL;
	d = fdopendir(fd);
	if (d == NULL)
		(void)close(fd);
	return d;
}

/* Is the entry a file of ours: 64 hex digits in lower case, as we write them, with this prefix? */
static bool
blob_entry_read(DIR *d, const char *name, const char *prefix, uint8_t digest[32],
    struct blob_stat *st)
{
	struct stat sb;

	if (strlen(name) != 64 || strspn(name, "0123456789abcdef") != 64 ||
	    strncmp(name, prefix, strlen(prefix)) != 0 ||
	    !key_from_hex((struct slice){name, 64}, digest))
		return false;
	if (fstatat(dirfd(d), name, &sb, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(sb.st_mode))
		return false;
	blob_stat_take(st, &sb);
	return true;
}

/* Walks one directory of digests. *go_on is false when the callback stopped it. */
static enum reason
blob_dir_walk(const struct blobstore *bs, const char *path, const char *prefix, blob_walk_f *fn,
    void *arg, bool *go_on)
{
	DIR *d = blob_dir_open(bs, path);
	const struct dirent *de;
	struct blob_stat st;
	uint8_t digest[32];

	if (d == NULL)
		return errno == ENOENT || errno == ENOTDIR ? REASON_OK : blob_errno_reason(errno);
	while (*go_on && (de = readdir(d)) != NULL)
		if (blob_entry_read(d, de->d_name, prefix, digest, &st))
			*go_on = fn(arg, digest, &st);
	(void)closedir(d);
	return REASON_OK;
}

enum reason
blob_walk(struct blobstore *bs, blob_walk_f *fn, void *arg)
{
	static const char hex[] = "0123456789abcdef";
	enum reason r = REASON_OK;
	char path[] = "blobs/ab";
	bool go_on = true;

	CHECK_OBJ(bs, BLOBSTORE_MAGIC);
	for (unsigned i = 0; i < 256 && go_on && r == REASON_OK; i++) {
		path[6] = hex[i >> 4];
		path[7] = hex[i & 15];
		r = blob_dir_walk(bs, path, path + 6, fn, arg, &go_on);
	}
	return r;
}

enum reason
blob_partial_walk(struct blobstore *bs, blob_walk_f *fn, void *arg)
{
	bool go_on = true;

	CHECK_OBJ(bs, BLOBSTORE_MAGIC);
	return blob_dir_walk(bs, "partial", "", fn, arg, &go_on);
}
