/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Key files for gpgv. Called by the helper process (sign_helper.c), which
 * makes a keyring anew for each request, so that a key that was added or
 * taken away counts at once.
 *
 * Binary keyrings are sequences of OpenPGP packets and may simply be put one
 * behind the other. Armoured ones (RFC 9580, section 6) are decoded here:
 * gpgv does not read them. What a packet means is gpgv's business.
 */
#include "cache/keyring.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct slice keyring_begin = {"-----BEGIN PGP PUBLIC KEY BLOCK-----", 36};
static const struct slice keyring_end = {"-----END PGP PUBLIC KEY BLOCK-----", 34};

/* Room for n bytes more. */
static bool
keyring_grow(struct keyring *k, size_t n)
{
	size_t cap = k->cap != 0 ? k->cap : 4096;
	unsigned char *p;

	if (n > KEYRING_MAX || k->n > KEYRING_MAX - n)
		return false;
	while (cap < k->n + n)
		cap *= 2;
	if (cap == k->cap)
		return true;
	p = realloc(k->p, cap);
	if (p == NULL)
		return false;
	k->p = p;
	k->cap = cap;
	return true;
}

void
keyring_fini(struct keyring *k)
{
	free(k->p);
	memset(k, 0, sizeof(*k));
}

/* Takes the next line off, without its end and the blanks before it. */
static bool
keyring_line(struct slice *rest, struct slice *line)
{
	const char *end;

	if (rest->n == 0)
		return false;
	end = memchr(rest->p, '\n', rest->n);
	*line = *rest;
	if (end != NULL)
		line->n = (size_t)(end - rest->p);
	*rest = slice_skip(*rest, line->n + (end != NULL));
	while (line->n > 0 && (line->p[line->n - 1] == '\r' || line->p[line->n - 1] == ' ' ||
	    line->p[line->n - 1] == '\t'))
		line->n--;
	return true;
}

/* The value of a base64 digit, or -1. */
static int
keyring_digit(char c)
{
	static const char digits[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c != '\0' ? strchr(digits, c) : NULL;

	return at != NULL ? (int)(at - digits) : -1;
}

/* Base64 being decoded: bits that do not make a byte yet. */
struct keyring_base64 {
	uint32_t bits;
	unsigned bits_n;
	bool ended;			/* padding was met */
};

/* Decodes one line behind what is in k; false where it is none. There is room. */
static bool
keyring_decode(struct keyring *k, struct keyring_base64 *b, struct slice line)
{
	size_t i;
	int v;

	for (i = 0; i < line.n; i++) {
		if (line.p[i] == '=' && i > 0) {
			b->ended = true;
			continue;
		}
		v = keyring_digit(line.p[i]);
		if (v < 0 || b->ended)
			return false;
		b->bits = b->bits << 6 | (uint32_t)v;
		b->bits_n += 6;
		if (b->bits_n >= 8) {
			b->bits_n -= 8;
			k->p[k->n++] = (unsigned char)(b->bits >> b->bits_n);
		}
	}
	return true;
}

/* The CRC-24 of an armoured block. */
static uint32_t
keyring_crc(const unsigned char *p, size_t n)
{
	uint32_t crc = 0xb704ce;
	unsigned bit;

	while (n-- > 0) {
		crc ^= (uint32_t)*p++ << 16;
		for (bit = 0; bit < 8; bit++) {
			crc <<= 1;
			if ((crc & 0x1000000) != 0)
				crc ^= 0x1864cfb;
		}
	}
	return crc & 0xffffff;
}

/* Is "=abcd" the checksum of the bytes from `from` on? */
static bool
keyring_crc_ok(const struct keyring *k, size_t from, struct slice line)
{
	uint32_t want = 0;
	unsigned i;
	int v;

	if (line.n != 5)
		return false;
	for (i = 1; i < 5; i++) {
		v = keyring_digit(line.p[i]);
		if (v < 0)
			return false;
		want = want << 6 | (uint32_t)v;
	}
	return want == keyring_crc(k->p + from, k->n - from);
}

/* Decodes the block whose first line was taken off; leaves rest behind its last one. */
static bool
keyring_add_block(struct keyring *k, struct slice *rest, const char **why)
{
	struct keyring_base64 b = {0};
	size_t from = k->n;
	struct slice line;
	bool head = true;

	*why = "a block of it is damaged or cut short";
	while (keyring_line(rest, &line)) {
		if (slice_eq(line, keyring_end))
			return k->n > from;
		if (head) {
			/* Lines such as "Comment: ..." up to an empty one. */
			head = line.n != 0;
			if (!head || memchr(line.p, ':', line.n) != NULL)
				continue;
			head = false;
		}
		if (line.n != 0 && line.p[0] == '=') {
			if (!keyring_crc_ok(k, from, line))
				return false;
		} else if (!keyring_decode(k, &b, line))
			return false;
	}
	return false;
}

/* Adds each public key block of a text. */
static bool
keyring_add_armoured(struct keyring *k, struct slice rest, const char **why)
{
	struct slice line;
	bool any = false;

	*why = "it has no public key block";
	while (keyring_line(&rest, &line)) {
		if (!slice_eq(line, keyring_begin))
			continue;
		if (!keyring_add_block(k, &rest, why))
			return false;
		any = true;
	}
	return any;
}

bool
keyring_add(struct keyring *k, struct slice file, const char **why)
{
	size_t was_n = k->n;
	bool ok;

	*why = "it is empty";
	if (file.n == 0)
		return false;
	*why = "it is too large, or memory is out";
	if (!keyring_grow(k, file.n))	/* decoding only makes it shorter */
		return false;
	if (file.n >= 12 && memcmp(file.p + 8, "KBXf", 4) == 0) {
		*why = "it is a keybox: write gpg --export into it";
		return false;
	}
	if (((unsigned char)file.p[0] & 0x80) != 0) {
		memcpy(k->p + k->n, file.p, file.n);
		k->n += file.n;
		ok = true;
	} else
		ok = keyring_add_armoured(k, file, why);
	if (ok)
		k->files_n++;
	else
		k->n = was_n;
	return ok;
}

/* ---- directories ---- */

/* Reads a file of keys whole; its size, or 0 and why. */
static size_t
keyring_read_file(int dirfd, const char *name, char *buf, const char **why)
{
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	size_t n = 0;
	ssize_t k = 1;

	*why = strerror(errno);
	if (fd < 0)
		return 0;
	*why = "it is no file, or over 4 MiB";
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= KEYRING_FILE_MAX) {
		*why = "it is empty";
		while (n < KEYRING_FILE_MAX &&
		    (k = read(fd, buf + n, KEYRING_FILE_MAX - n)) > 0)
			n += (size_t)k;
		if (k < 0) {
			*why = strerror(errno);
			n = 0;
		}
	}
	(void)close(fd);
	return n;
}

bool
keyring_read_dir(struct keyring *k, const char *dir, char why[KEYRING_WHY_BYTES])
{
	char *buf = malloc(KEYRING_FILE_MAX);
	DIR *d = opendir(dir);
	const struct dirent *de;
	const char *what;
	unsigned seen_n = 0;
	size_t n;

	why[0] = '\0';
	if (buf == NULL || d == NULL) {
		(void)snprintf(why, KEYRING_WHY_BYTES, "%.128s can't be read: %s%s", dir, strerror(errno),
		    errno == EACCES ? ": let the depot's user read it, and the files in it" : "");
		goto out;
	}
	while ((de = readdir(d)) != NULL && seen_n < KEYRING_FILES_MAX) {
		if (!slice_ends(slice_of(de->d_name), SLICE(".gpg")) &&
		    !slice_ends(slice_of(de->d_name), SLICE(".asc")))
			continue;
		seen_n++;
		n = keyring_read_file(dirfd(d), de->d_name, buf, &what);
		if (n == 0 || !keyring_add(k, (struct slice){buf, n}, &what))
			(void)snprintf(why, KEYRING_WHY_BYTES, "%.80s/%.80s is not used: %s", dir,
			    de->d_name, what);
	}
	if (seen_n == 0)
		(void)snprintf(why, KEYRING_WHY_BYTES, "%.128s has no *.gpg or *.asc", dir);
out:
	if (d != NULL)
		(void)closedir(d);
	free(buf);
	return k->files_n > 0;
}
