/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef APTFILE_H
#define APTFILE_H
/* What kind of repository file a path is. Pure; works on canonical paths without query. */
#include <stdbool.h>

#include "include/slice.h"

enum aptfile_class {
	APTFILE_OTHER,		/* keys, .pin, .run, wheels, images: RFC 9111 rules */
	APTFILE_RELEASE,	/* InRelease, Release, Release.gpg: defines a generation */
	APTFILE_INDEX,		/* what a Release lists: Packages*, Sources*, Translation-*,
				   Contents-*, dep11, cnf, *.diff/Index */
	APTFILE_BYHASH,		/* .../by-hash/ALGO/HEX: immutable, verifies itself */
	APTFILE_PACKAGE,	/* .deb .udeb .ddeb .dsc, sources under pool/, pdiff patches */
};

enum aptfile_hash { APTFILE_MD5, APTFILE_SHA1, APTFILE_SHA256, APTFILE_SHA512 };

struct aptfile {
	enum aptfile_class class;
	bool immutable;		/* its name never gets other bytes: pool/, pdiff patch, by-hash */
	bool is_volatile;	/* OTHER: a key, a list of sources, a directory: it may change any day */
	bool source;		/* OTHER: named as source files are, so a list may name it */
	bool patch;		/* PACKAGE: a pdiff patch, which no list of packages names */
	enum aptfile_hash hash;	/* BYHASH: algorithm */
	struct slice hash_hex;	/* BYHASH: digits as in the path, as many as the algorithm has */
	/*
	 * RELEASE and INDEX: the repository root in the path, with trailing
	 * slash: .../dists/<suite>/ or, for flat repositories, the directory of
	 * the file. Suites may contain slashes (stable/updates): for an INDEX
	 * below dists/ the first segment is taken.
	 */
	struct slice root;
};

void aptfile_classify(struct aptfile *af, struct slice path);
/* Is it one that Packages or Sources may name? */
bool aptfile_may_be_package(const struct aptfile *af);
/* "release", "index", "by-hash", "package", "other" */
const char *aptfile_class_name(enum aptfile_class c);

#endif
