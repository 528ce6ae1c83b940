/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Package tables, the side that is asked: which size and digest does the
 * current Packages expect of this URL? Requests ask; eviction walks through
 * the digests of generations that are kept. pkgtable_build.c makes the files.
 *
 * A table is mapped, not copied: a repository of 100,000 packages has one of
 * some 6 MB, and the system may take its pages back when it needs them.
 * pkgtable_open has read all of it just before, so that the pages are there.
 * Keys are digests and so evenly spread: a look-up begins where its key must
 * be, and touches one or two pages however large the table is.
 */
#include "cache/pkgtable_priv.h"

#include "cache/blob.h"
#include "cache/relpath.h"
#include "include/key.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define PKGTABLE_MAGIC 0x9ab1e7a3u

enum {
	PKGTABLE_READ_BYTES = 64 << 10,
	/* How far keys stray from their place: few among 100,000, few among four million. */
	PKGTABLE_NEAR_N = 512,
	PKGTABLE_FAR_N = 4096,
};

/* Immutable while open; owned by its generation, read by any thread. */
struct pkgtable {
	uint32_t magic;
	uint32_t digest_n;
	size_t entry_bytes;
	uint64_t entries_n;
	const uint8_t *entries;
	void *map;
	size_t map_bytes;
};

void
pkgtable_key(struct slice file_name, uint8_t key[PKGTABLE_KEY_BYTES])
{
	struct key k;

	key_of_text(file_name, &k);
	memcpy(key, k.b, PKGTABLE_KEY_BYTES);
}

uint32_t
pkgtable_head_crc(uint32_t entries_crc, const struct pkgtable_head *head)
{
	struct pkgtable_head h = *head;

	h.crc = 0;
	return (uint32_t)crc32(entries_crc, (const Bytef *)&h, sizeof(h));
}

/* Reads exactly n bytes at an offset; false: they are not there. */
static bool
pkgtable_pread(int fd, void *buf, size_t n, uint64_t at)
{
	uint8_t *p = buf;

	while (n != 0) {
		ssize_t got = pread(fd, p, n, (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		p += got;
		at += (uint64_t)got;
		n -= (size_t)got;
	}
	return true;
}

/* Is the file whole and what its head says? */
static bool
pkgtable_is_whole(int fd, uint64_t file_bytes, struct pkgtable_head *head)
{
	uint8_t buf[PKGTABLE_READ_BYTES];
	uint64_t at = PKGTABLE_HEAD_BYTES;
	uint32_t crc = 0;

	if (!pkgtable_pread(fd, head, sizeof(*head), 0) || head->magic != PKGTABLE_FILE_MAGIC ||
	    (head->digest_n != 32 && head->digest_n != 64) ||
	    head->entries_n > PKGTABLE_ENTRIES_MAX ||
	    file_bytes != at + head->entries_n * (PKGTABLE_DIGEST_AT + head->digest_n))
		return false;
	while (at < file_bytes) {
		size_t n = file_bytes - at < sizeof(buf) ? (size_t)(file_bytes - at) : sizeof(buf);

		if (!pkgtable_pread(fd, buf, n, at))
			return false;
		crc = (uint32_t)crc32(crc, buf, (uInt)n);
		at += n;
	}
	return head->crc == pkgtable_head_crc(crc, head);
}

/* Maps a file that was found whole. */
static enum reason
pkgtable_map(int fd, const struct pkgtable_head *head, uint64_t file_bytes, struct pkgtable **t_p)
{
	struct pkgtable *t;

	OBJ_NEW(t, PKGTABLE_MAGIC);
	if (t == NULL)
		return REASON_NO_MEMORY;
	t->map_bytes = (size_t)file_bytes;
	t->map = mmap(NULL, t->map_bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (t->map == MAP_FAILED) {
		OBJ_FREE(t);
		return REASON_NO_MEMORY;
	}
	t->digest_n = head->digest_n;
	t->entry_bytes = PKGTABLE_DIGEST_AT + head->digest_n;
	t->entries_n = head->entries_n;
	t->entries = (const uint8_t *)t->map + PKGTABLE_HEAD_BYTES;
	*t_p = t;
	return REASON_OK;
}

enum reason
pkgtable_open(int dirfd, const char *name, struct pkgtable **t_p)
{
	struct pkgtable_head head;
	struct stat sb;
	enum reason r;
	int fd;

	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? REASON_NOT_FOUND : blob_errno_reason(errno);
	if (fstat(fd, &sb) != 0)
		r = REASON_DISK_ERROR;
	else if (!S_ISREG(sb.st_mode) || !pkgtable_is_whole(fd, (uint64_t)sb.st_size, &head))
		r = REASON_DAMAGED;
	else
		r = pkgtable_map(fd, &head, (uint64_t)sb.st_size, t_p);
	(void)close(fd);
	return r;
}

void
pkgtable_close(struct pkgtable **t_p)
{
	struct pkgtable *t = *t_p;

	if (t == NULL)
		return;
	*t_p = NULL;
	CHECK_OBJ(t, PKGTABLE_MAGIC);
	AZ(munmap(t->map, t->map_bytes));
	OBJ_FREE(t);
}

static const uint8_t *
pkgtable_at(const struct pkgtable *t, uint64_t i)
{
	return t->entries + i * t->entry_bytes;
}

static int
pkgtable_compare(const struct pkgtable *t, uint64_t i, const uint8_t *key)
{
	return memcmp(key, pkgtable_at(t, i), PKGTABLE_KEY_BYTES);
}

/* The part of the table, [*low, *high), that holds the key if any does. */
static void
pkgtable_narrow(const struct pkgtable *t, const uint8_t *key, uint64_t *low, uint64_t *high)
{
	uint64_t first, place;

	*low = 0;
	*high = t->entries_n;
	if (t->entries_n <= PKGTABLE_NEAR_N)
		return;
	memcpy(&first, key, sizeof(first));
	/* As far into the table as the key is into the space of keys; 2^22 entries at most. */
	place = (be64toh(first) >> 32) * t->entries_n >> 32;
	for (uint64_t near = PKGTABLE_NEAR_N; near <= PKGTABLE_FAR_N; near *= 8) {
		uint64_t from = place > near ? place - near : 0;
		uint64_t to = place + near < t->entries_n ? place + near : t->entries_n;

		if ((from == 0 || pkgtable_compare(t, from, key) >= 0) &&
		    (to == t->entries_n || pkgtable_compare(t, to, key) < 0)) {
			*low = from;
			*high = to;
			return;
		}
	}
}

static enum pkgtable_found
pkgtable_read_entry(const struct pkgtable *t, const uint8_t *p, struct pkgtable_entry *out)
{
	uint64_t size_bytes;

	memcpy(&size_bytes, p + PKGTABLE_KEY_BYTES, sizeof(size_bytes));
	if (size_bytes == PKGTABLE_NO_SIZE)
		return PKGTABLE_AMBIGUOUS;
	out->size_bytes = size_bytes;
	out->digest_n = (uint8_t)t->digest_n;
	memcpy(out->digest, p + PKGTABLE_DIGEST_AT, t->digest_n);
	return PKGTABLE_FOUND;
}

enum pkgtable_found
pkgtable_find(const struct pkgtable *t, struct slice url_path, struct pkgtable_entry *out)
{
	char buf[RELPATH_MAX];
	struct slice file_name = relpath_of_url(url_path, buf);
	uint8_t key[PKGTABLE_KEY_BYTES];
	uint64_t low, high;

	CHECK_OBJ(t, PKGTABLE_MAGIC);
	if (file_name.p == NULL)
		return PKGTABLE_ABSENT;
	pkgtable_key(file_name, key);
	pkgtable_narrow(t, key, &low, &high);
	while (low < high) {
		uint64_t mid = low + (high - low) / 2;
		int d = pkgtable_compare(t, mid, key);

		if (d == 0)
			return pkgtable_read_entry(t, pkgtable_at(t, mid), out);
		if (d < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return PKGTABLE_ABSENT;
}

void
pkgtable_each(const struct pkgtable *t, pkgtable_each_f *fn, void *arg)
{
	struct pkgtable_entry e;

	CHECK_OBJ(t, PKGTABLE_MAGIC);
	for (uint64_t i = 0; i < t->entries_n; i++)
		if (pkgtable_read_entry(t, pkgtable_at(t, i), &e) == PKGTABLE_FOUND && !fn(arg, &e))
			return;
}

uint64_t
pkgtable_entries_n(const struct pkgtable *t)
{
	CHECK_OBJ(t, PKGTABLE_MAGIC);
	return t->entries_n;
}
