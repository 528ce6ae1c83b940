/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef UNPACK_H
#define UNPACK_H
/*
 * Takes a repository's lists out of their compression, piece by piece, in
 * bounded memory: pure, no files, no clock.
 */
#include <stddef.h>
#include <stdint.h>

#include "include/obj.h"
#include "include/reason.h"
#include "include/slice.h"

enum unpack_kind {
	UNPACK_PLAIN,
	UNPACK_GZ,
	UNPACK_XZ,
	UNPACK_LZMA,
	UNPACK_BZ2,
	UNPACK_ZST,
	UNPACK_UNKNOWN,		/* .lz4 and whatever else is not read here */
};

enum { UNPACK_WHY_BYTES = 160 };

struct unpack;

/* Takes unpacked bytes, at most 64 KiB a call; anything but OK ends the feeding with that. */
typedef enum reason unpack_sink_f(void *arg, const void *p, size_t n);

/* kind is not UNPACK_UNKNOWN. NULL: out of memory. More than max_out_bytes are an error. */
struct unpack *unpack_new(enum unpack_kind kind, uint64_t max_out_bytes);
/*
 * Unpacks n bytes of input into the sink. LIST_BAD: not such a stream, damaged, more behind its
 * end, or too much comes out (unpack_why has the words). After any error only unpack_free is legal.
 */
enum reason unpack_feed(struct unpack *u, const void *in, size_t n, unpack_sink_f *sink,
    void *arg) MUSTCHECK;
/* The input ends here: LIST_BAD when the stream does not. */
enum reason unpack_end(struct unpack *u) MUSTCHECK;
const char *unpack_why(const struct unpack *u);	/* words for the latest LIST_BAD */
uint64_t unpack_out_bytes(const struct unpack *u);
void unpack_free(struct unpack **u_p);

/* By the name's suffix; *stem gets the name without it. */
enum unpack_kind unpack_kind_of(struct slice name, struct slice *stem);
const char *unpack_kind_name(enum unpack_kind kind);	/* "plain", "gz", ... */

#endif
