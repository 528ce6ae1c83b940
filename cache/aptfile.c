/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What kind of repository file a path is, by its name alone. The cache asks
 * once for each request and each stored answer; nothing is kept here.
 *
 * Flat repositories and those below dists/ are told apart only to find the
 * root. A .deb is immutable only under pool/: publishers of flat repositories
 * do replace packages in place, even at the same size.
 */
#include "include/aptfile.h"

#include "include/obj.h"

static const struct slice aptfile_compressions[] = {
	{".gz", 3}, {".xz", 3}, {".bz2", 4}, {".lzma", 5}, {".lz4", 4}, {".zst", 4},
};

static const struct {
	struct slice name;
	enum aptfile_hash hash;
	size_t digits_n;
} aptfile_hashes[] = {
	{{"SHA256", 6}, APTFILE_SHA256, 64},
	{{"SHA512", 6}, APTFILE_SHA512, 128},
	{{"SHA1", 4}, APTFILE_SHA1, 40},
	{{"MD5Sum", 6}, APTFILE_MD5, 32},
};

/* A path taken apart; dir ends with its slash. */
struct aptfile_path {
	struct slice dir, name;
	struct slice parent;	/* last component of dir */
	struct slice suite;	/* ".../dists/<first segment>/", empty when not below dists/ */
};

/* Cuts the last component off: "/a/b/" and "c" of "/a/b/c". */
static struct slice
aptfile_cut_last(struct slice *path)
{
	size_t i = path->n;
	struct slice last;

	while (i > 0 && path->p[i - 1] != '/')
		i--;
	last = slice_skip(*path, i);
	path->n = i;
	return last;
}

/* The end of the last "/word/" in s, 0 when there is none. */
static size_t
aptfile_find_dir(struct slice s, struct slice word)
{
	size_t i;

	if (s.n < word.n)
		return 0;
	for (i = s.n - word.n + 1; i-- > 0;)
		if (s.p[i] == '/' && memcmp(s.p + i, word.p, word.n) == 0)
			return i + word.n;
	return 0;
}

static void
aptfile_cut(struct aptfile_path *fp, struct slice path)
{
	struct slice above;
	size_t from, to;

	fp->dir = path;
	fp->name = aptfile_cut_last(&fp->dir);
	above = fp->dir;
	if (above.n != 0)
		above.n--;
	fp->parent = aptfile_cut_last(&above);
	fp->suite = SLICE_NONE;
	from = aptfile_find_dir(fp->dir, SLICE("/dists/"));
	for (to = from; from != 0 && to < fp->dir.n; to++) {
		if (fp->dir.p[to] == '/') {
			fp->suite = (struct slice){path.p, to + 1};
			return;
		}
	}
}

/* The name without one of the compressions that apt knows. */
static struct slice
aptfile_stem(struct slice name)
{
	size_t i;

	for (i = 0; i < NELEM(aptfile_compressions); i++) {
		if (slice_ends(name, aptfile_compressions[i])) {
			name.n -= aptfile_compressions[i].n;
			break;
		}
	}
	return name;
}

static bool
aptfile_is_digits(struct slice s, size_t n)
{
	size_t i;

	if (s.n < n)
		return false;
	for (i = 0; i < n; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	return true;
}

static bool
aptfile_is_hex(struct slice s)
{
	size_t i;

	for (i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
			return false;
	}
	return true;
}

/* .../by-hash/ALGO/HEX with as many digits as the algorithm has. */
static bool
aptfile_is_byhash(struct aptfile *af, const struct aptfile_path *fp)
{
	size_t i;
	struct slice above = fp->dir;

	above.n -= above.n == 0 ? 0 : fp->parent.n + 1;
	if (!slice_ends(above, SLICE("/by-hash/")))
		return false;
	for (i = 0; i < NELEM(aptfile_hashes); i++)
		if (slice_eq(fp->parent, aptfile_hashes[i].name))
			break;
	if (i == NELEM(aptfile_hashes) || fp->name.n != aptfile_hashes[i].digits_n ||
	    !aptfile_is_hex(fp->name))
		return false;
	af->hash = aptfile_hashes[i].hash;
	af->hash_hex = fp->name;
	return true;
}

/* Packages, Sources, Contents-*, Translation-*, with or without compression. */
static bool
aptfile_is_list(struct slice name)
{
	struct slice stem = aptfile_stem(name);

	return slice_eq(stem, SLICE("Packages")) || slice_eq(stem, SLICE("Sources")) ||
	    slice_starts(stem, SLICE("Contents-")) || slice_starts(stem, SLICE("Translation-"));
}

/* A flat repository's translations are called by their bare language: "en.xz", "pt_BR.gz". */
static bool
aptfile_is_language(struct slice name)
{
	struct slice stem = aptfile_stem(name);

	if (stem.n == name.n || (stem.n != 2 && stem.n != 5))
		return false;
	if (stem.p[0] < 'a' || stem.p[0] > 'z' || stem.p[1] < 'a' || stem.p[1] > 'z')
		return false;
	return stem.n == 2 || (stem.p[2] == '_' && stem.p[3] >= 'A' && stem.p[3] <= 'Z' &&
	    stem.p[4] >= 'A' && stem.p[4] <= 'Z');
}

/* Does it lie in "Packages.diff/" or another list's directory of differences? */
static bool
aptfile_in_diff(const struct aptfile_path *fp)
{
	struct slice list = fp->parent;

	if (!slice_ends(list, SLICE(".diff")))
		return false;
	list.n -= 5;
	return aptfile_is_list(list);
}

/* "T-<to>-F-<from>.gz" and the older "2026-11-01-0203.04.gz": a name is used once. */
static bool
aptfile_is_patch(struct slice name)
{
	if (!slice_ends(name, SLICE(".gz")))
		return false;
	if (slice_starts(name, SLICE("T-")))
		return memmem(name.p, name.n, "-F-", 3) != NULL;
	return slice_starts(name, SLICE("20")) && aptfile_is_digits(name, 4) &&
	    name.n > 5 && name.p[4] == '-';
}

static bool
aptfile_is_binary_package(struct slice name)
{
	return slice_ends(name, SLICE(".deb")) || slice_ends(name, SLICE(".udeb")) ||
	    slice_ends(name, SLICE(".ddeb")) || slice_ends(name, SLICE(".dsc"));
}

/* x.tar, x.tar.xz, x.diff.gz and the signature of an upstream tarball. */
static bool
aptfile_is_source_package(struct slice name)
{
	struct slice stem;

	if (slice_ends(name, SLICE(".asc")))
		name.n -= 4;
	stem = aptfile_stem(name);
	return slice_ends(stem, SLICE(".tar")) || slice_ends(name, SLICE(".diff.gz"));
}

/* What only the suite's Release lists: dep11, cnf, and the Release files of components. */
static bool
aptfile_is_suite_index(const struct aptfile_path *fp)
{
	if (fp->suite.n == 0)
		return false;
	if (slice_eq(fp->parent, SLICE("dep11")))
		return slice_starts(fp->name, SLICE("Components-")) ||
		    slice_starts(fp->name, SLICE("icons-")) ||
		    slice_starts(fp->name, SLICE("CID-Index-"));
	if (slice_eq(fp->parent, SLICE("cnf")))
		return slice_starts(fp->name, SLICE("Commands-"));
	return slice_eq(fp->name, SLICE("Release")) &&
	    (slice_starts(fp->parent, SLICE("binary-")) || slice_eq(fp->parent, SLICE("source")));
}

static bool
aptfile_is_index(const struct aptfile_path *fp)
{
	if (aptfile_in_diff(fp))
		return slice_eq(aptfile_stem(fp->name), SLICE("Index"));
	return aptfile_is_list(fp->name) || aptfile_is_suite_index(fp) ||
	    (fp->suite.n == 0 && aptfile_is_language(fp->name));
}

/* An index belongs to its suite; in a flat repository to the directory that holds it. */
static struct slice
aptfile_index_root(const struct aptfile_path *fp)
{
	struct slice root = fp->dir;

	if (fp->suite.n != 0)
		return fp->suite;
	if (aptfile_in_diff(fp))
		root.n -= fp->parent.n + 1;
	return root;
}

/* What sets up a client: keys are rotated, lists of sources and directories change in place. */
static bool
aptfile_is_helper(struct slice name)
{
	static const struct slice ends[] = {
		{".pin", 4}, {".pub", 4}, {".gpg", 4}, {".asc", 4}, {".key", 4}, {".list", 5},
		{".sources", 8}, {".repo", 5},
	};

	for (size_t i = 0; i < NELEM(ends); i++)
		if (slice_ends(name, ends[i]))
			return true;
	return name.n == 0 || slice_eq(name, SLICE("gpgkey"));
}

void
aptfile_classify(struct aptfile *af, struct slice path)
{
	struct aptfile_path fp;
	bool in_pool;

	memset(af, 0, sizeof(*af));
	aptfile_cut(&fp, path);
	if (fp.name.n == 0 || fp.dir.n == 0) {
		af->is_volatile = true;
		return;
	}
	in_pool = aptfile_find_dir(fp.dir, SLICE("/pool/")) != 0;
	if (aptfile_is_byhash(af, &fp)) {
		af->class = APTFILE_BYHASH;
		af->immutable = true;
	} else if (aptfile_is_binary_package(fp.name) ||
	    (in_pool && aptfile_is_source_package(fp.name))) {
		af->class = APTFILE_PACKAGE;
		af->immutable = in_pool;
	} else if (aptfile_in_diff(&fp) && aptfile_is_patch(fp.name)) {
		af->class = APTFILE_PACKAGE;
		af->immutable = af->patch = true;
	} else if (aptfile_is_index(&fp)) {
		af->class = APTFILE_INDEX;
		af->root = aptfile_index_root(&fp);
	} else if (slice_eq(fp.name, SLICE("InRelease")) || slice_eq(fp.name, SLICE("Release")) ||
	    slice_eq(fp.name, SLICE("Release.gpg"))) {
		af->class = APTFILE_RELEASE;
		af->root = fp.dir;
	} else {
		af->source = aptfile_is_source_package(fp.name);
		af->is_volatile = aptfile_is_helper(fp.name);
	}
}

bool
aptfile_may_be_package(const struct aptfile *af)
{
	return (af->class == APTFILE_PACKAGE && !af->patch) || af->source;
}

const char *
aptfile_class_name(enum aptfile_class c)
{
	switch (c) {
	case APTFILE_OTHER:
		return "other";
	case APTFILE_RELEASE:
		return "release";
	case APTFILE_INDEX:
		return "index";
	case APTFILE_BYHASH:
		return "by-hash";
	case APTFILE_PACKAGE:
		return "package";
	}
	WRONG("not an aptfile_class");
}
