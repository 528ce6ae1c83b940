/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Reads as much of OpenPGP (RFC 4880, 4.2, 5.2 and 6.2) as it takes to know
 * over which digest a detached signature was made. Called by staging, for a
 * Release without InRelease: a publisher's two files may be of different
 * publications, like everything else.
 */
#include "cache/sigfit.h"

#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "include/key.h"

enum {
	SIGFIT_BYTES_MAX = 64 << 10,
	SIGFIT_TAG = 2,
	/* Bytes are signed. Where lines are, programs differ about blanks at their ends. */
	SIGFIT_BINARY = 0,
};

/* Takes n bytes off the front; p NULL: there are not as many. */
static struct slice
sigfit_take(struct slice *in, size_t n)
{
	struct slice out = {in->p, n};

	if (in->n < n)
		return SLICE_NONE;
	*in = slice_skip(*in, n);
	return out;
}

/* A number of n bytes, the high one first; false: there are not as many. */
static bool
sigfit_number(struct slice *in, size_t n, size_t *out)
{
	struct slice s = sigfit_take(in, n);

	*out = 0;
	for (size_t i = 0; i < s.n && s.p != NULL; i++)
		*out = *out << 8 | (unsigned char)s.p[i];
	return s.p != NULL;
}

/* The value of a base64 digit; -1: none. */
static int
sigfit_digit(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *p = c != '\0' ? strchr(digits, c) : NULL;

	return p != NULL ? (int)(p - digits) : -1;
}

/* Decodes the first armoured block; its length, 0: there is none. */
static size_t
sigfit_dearmour(struct slice in, uint8_t *out, size_t cap)
{
	static const char begin[] = "-----BEGIN PGP SIGNATURE-----";
	const char *p = memmem(in.p, in.n, begin, sizeof(begin) - 1), *end = in.p + in.n, *eol;
	uint32_t bits = 0;
	unsigned bits_n = 0;
	size_t n = 0;
	int v;

	/* Behind the first empty line. */
	for (;; p = eol + 1) {
		eol = p != NULL ? memchr(p, '\n', (size_t)(end - p)) : NULL;
		if (eol == NULL)
			return 0;
		if (eol == p || (eol == p + 1 && *p == '\r'))
			break;
	}
	for (p = eol + 1; p < end && *p != '=' && *p != '-' && n < cap; p++) {
		v = sigfit_digit(*p);
		if (v < 0)
			continue;
		bits = bits << 6 | (uint32_t)v;
		bits_n += 6;
		if (bits_n < 8)
			continue;
		bits_n -= 8;
		out[n++] = (uint8_t)(bits >> bits_n);
	}
	return n;
}

/* The next packet's tag and body; false: no more, or nothing that can be read. */
static bool
sigfit_next_packet(struct slice *in, unsigned *tag, struct slice *body)
{
	size_t head, n, more;

	if (!sigfit_number(in, 1, &head) || (head & 0x80) == 0)
		return false;
	if ((head & 0x40) == 0) {
		*tag = head >> 2 & 15;
		if ((head & 3) == 3 || !sigfit_number(in, (size_t)1 << (head & 3), &n))
			return false;
	} else {
		*tag = head & 63;
		if (!sigfit_number(in, 1, &n) || (n >= 224 && n < 255))
			return false;
		if (n == 255 && !sigfit_number(in, 4, &n))
			return false;
		else if (n >= 192 && n < 224) {
			if (!sigfit_number(in, 1, &more))
				return false;
			n = ((n - 192) << 8) + more + 192;
		}
	}
	*body = sigfit_take(in, n);
	return body->p != NULL;
}

/* NULL: not one of those that signatures are made with. */
static const EVP_MD *
sigfit_hash(size_t algorithm)
{
	switch (algorithm) {
	case 2:
		return EVP_sha1();
	case 8:
		return EVP_sha256();
	case 9:
		return EVP_sha384();
	case 10:
		return EVP_sha512();
	case 11:
		return EVP_sha224();
	default:
		return NULL;
	}
}

/* Was this signature made over the text? */
static enum sigfit
sigfit_judge(struct slice body, struct slice text)
{
	struct slice rest = body, hashed;
	size_t version, type, pk, hash, n, skip, left;
	uint8_t trailer[6] = {4, 0xff}, got[EVP_MAX_MD_SIZE];
	enum sigfit fit = SIGFIT_UNKNOWN;
	EVP_MD_CTX *md;

	if (!sigfit_number(&rest, 1, &version) || version != 4 || !sigfit_number(&rest, 1, &type) ||
	    !sigfit_number(&rest, 1, &pk) || !sigfit_number(&rest, 1, &hash) ||
	    !sigfit_number(&rest, 2, &n) || sigfit_take(&rest, n).p == NULL)
		return SIGFIT_UNKNOWN;
	hashed = (struct slice){body.p, body.n - rest.n};
	if (!sigfit_number(&rest, 2, &skip) || sigfit_take(&rest, skip).p == NULL ||
	    !sigfit_number(&rest, 2, &left) || type != SIGFIT_BINARY || sigfit_hash(hash) == NULL)
		return SIGFIT_UNKNOWN;
	for (unsigned i = 0; i < 4; i++)
		trailer[2 + i] = (uint8_t)(hashed.n >> (24 - 8 * i));
	md = EVP_MD_CTX_new();
	if (md != NULL && EVP_DigestInit_ex(md, sigfit_hash(hash), NULL) == 1 &&
	    EVP_DigestUpdate(md, text.p, text.n) == 1 &&
	    EVP_DigestUpdate(md, hashed.p, hashed.n) == 1 &&
	    EVP_DigestUpdate(md, trailer, sizeof(trailer)) == 1 &&
	    EVP_DigestFinal_ex(md, got, NULL) == 1)
		fit = ((size_t)got[0] << 8 | got[1]) == left ? SIGFIT_YES : SIGFIT_NO;
	EVP_MD_CTX_free(md);
	return fit;
}

enum sigfit
sigfit_check(const void *sig, size_t sig_n, const void *text, size_t text_n)
{
	struct slice in = {sig, sig_n}, body;
	uint8_t plain[SIGFIT_BYTES_MAX];
	enum sigfit fit = SIGFIT_UNKNOWN, one;
	bool unread = false;
	unsigned tag;

	if (sig_n > 0 && (*(const unsigned char *)sig & 0x80) == 0)
		in = (struct slice){(const char *)plain, sigfit_dearmour(in, plain, sizeof(plain))};
	while (sigfit_next_packet(&in, &tag, &body)) {
		if (tag != SIGFIT_TAG)
			continue;
		one = sigfit_judge(body, (struct slice){text, text_n});
		if (one == SIGFIT_YES)
			return SIGFIT_YES;
		unread |= one == SIGFIT_UNKNOWN;
		fit = one;
	}
	/* What can't be read might be the one that fits. */
	return unread ? SIGFIT_UNKNOWN : fit;
}
