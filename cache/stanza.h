/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef STANZA_H
#define STANZA_H
/*
 * Reads Packages and Sources stanza by stanza, whatever pieces the text comes
 * in. Pure, memory bounded by the largest stanza.
 */
#include <stddef.h>
#include <stdint.h>

#include "include/obj.h"
#include "include/reason.h"
#include "include/slice.h"

/* The fields that can be asked for; a line here adds one. */
#define STANZA_FIELDS(F)                                                       \
	F(PACKAGE, "Package")                                                  \
	F(VERSION, "Version")                                                  \
	F(ARCHITECTURE, "Architecture")                                        \
	F(FILENAME, "Filename")                                                \
	F(SIZE, "Size")                                                        \
	F(SHA256, "SHA256")                                                    \
	F(SHA512, "SHA512")                                                    \
	F(DEPENDS, "Depends")                                                  \
	F(PRE_DEPENDS, "Pre-Depends")                                          \
	F(RECOMMENDS, "Recommends")                                            \
	F(PROVIDES, "Provides")                                                \
	F(ESSENTIAL, "Essential")                                              \
	F(PRIORITY, "Priority")                                                \
	F(DIRECTORY, "Directory")                                              \
	F(CHECKSUMS_SHA256, "Checksums-Sha256")                                \
	F(CHECKSUMS_SHA512, "Checksums-Sha512")

enum stanza_field {
#define F(name, text) STANZA_##name,
	STANZA_FIELDS(F)
#undef F
	STANZA__N
};

#define STANZA_BIT(field) (UINT32_C(1) << STANZA_##field)

enum {
	STANZA_MAX_BYTES = 4 << 20,
	STANZA_WHY_BYTES = 160,
};

/*
 * One stanza, borrowed for the call. A field that is not there has p NULL; the
 * value of several lines is given whole, with its line ends and the blanks
 * that continuation lines begin with.
 */
struct stanza {
	struct slice f[STANZA__N];
	uint32_t twice;			/* bits of fields that stand there again (the first counts) */
	uint64_t number;		/* from 1 */
};

typedef enum reason stanza_f(void *arg, const struct stanza *st);

struct stanza_reader;

/* Asks for the fields in the set of STANZA_BITs; others are skipped. NULL: out of memory. */
struct stanza_reader *stanza_new(uint32_t fields, stanza_f *fn, void *arg);
/*
 * Takes the next piece of the text. LIST_BAD with words in stanza_why; what
 * the callback says, unless OK, ends the reading and is returned.
 */
enum reason stanza_feed(struct stanza_reader *sr, const void *p, size_t n) MUSTCHECK;
enum reason stanza_end(struct stanza_reader *sr) MUSTCHECK;	/* the last stanza, too */
const char *stanza_why(const struct stanza_reader *sr);
void stanza_free(struct stanza_reader **sr_p);

#endif
