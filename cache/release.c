/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The reader of Release and InRelease. Generations are made of what it
 * returns: when one is staged, when one is loaded from its stored body at the
 * start. It says what is listed, not who signed it: signatures are gpgv's
 * business, or apt's.
 *
 * release_parse copies the text once, out of its armour, into a work buffer,
 * walks through its lines, collects one raw entry per line of a digest
 * section, sorts those by path and merges them. From then until release_free
 * the struct is immutable.
 *
 * A Release that contradicts itself is refused whole: which of two digests apt
 * would believe depends on its version, so no client could be served safely.
 */
#include "cache/release.h"
#include "cache/relpath.h"

#include <openssl/evp.h>

#include <stdarg.h>
#include <stdio.h>

#define RELEASE_MAGIC 0x4e1ea5e1u

enum {
	RELEASE_RAW_MAX = 4 * RELEASE_FILES_MAX,	/* four digest sections */
};

/* The sections that list files, weakest first. */
enum release_algo { RELEASE_MD5, RELEASE_SHA1, RELEASE_SHA256, RELEASE_SHA512, RELEASE_ALGO_N };

static const struct {
	struct slice name;
	size_t digest_bytes;
} release_algos[RELEASE_ALGO_N] = {
	{{"MD5Sum", 6}, 16}, {{"SHA1", 4}, 20}, {{"SHA256", 6}, 32}, {{"SHA512", 6}, 64},
};

/* One line of a digest section. */
struct release_raw {
	struct slice path;		/* cleaned, in the work buffer */
	uint64_t size_bytes;
	enum release_algo algo;
	uint8_t digest[64];
};

/* What one call of release_parse works on. */
struct release_work {
	struct release *r;
	char *buf;			/* copy of the text, without armour */
	size_t n;
	struct release_raw *raw;
	size_t raw_n, raw_cap;
	enum release_algo section;	/* of continuation lines; RELEASE_ALGO_N: none */
	bool has_section[RELEASE_ALGO_N];
	bool has_date;
	char *why;
	size_t why_cap;
};

/* Writes the words for r into the caller's buffer and returns r. */
static enum reason PRINTF_LIKE(3, 4)
release_refuse(const struct release_work *w, enum reason r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(w->why, w->why_cap, fmt, ap);
	va_end(ap);
	return r;
}

static bool
release_is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Cuts the first line off the text, without its line end; false: nothing is left. */
static bool
release_next_line(struct slice *text, struct slice *line)
{
	const char *lf;

	if (text->n == 0)
		return false;
	lf = memchr(text->p, '\n', text->n);
	line->p = text->p;
	line->n = lf != NULL ? (size_t)(lf - text->p) : text->n;
	*text = slice_skip(*text, line->n + (lf != NULL));
	if (line->n != 0 && line->p[line->n - 1] == '\r')
		line->n--;
	return true;
}

/* Cuts the first word off. */
static struct slice
release_next_word(struct slice *s)
{
	struct slice word;

	*s = slice_trim(*s);
	word = (struct slice){s->p, 0};
	while (word.n < s->n && !release_is_blank(word.p[word.n]))
		word.n++;
	*s = slice_skip(*s, word.n);
	return word;
}

/* -- dates -- */

/* Reads 1 to max_n digits off the front; -1: there are none, or more. */
static int
release_take_number(struct slice *s, size_t max_n)
{
	int value = 0;
	size_t n = 0;

	for (; n < s->n && s->p[n] >= '0' && s->p[n] <= '9'; n++) {
		if (n == max_n)
			return -1;
		value = value * 10 + (s->p[n] - '0');
	}
	*s = slice_skip(*s, n);
	return n == 0 ? -1 : value;
}

/* "hh:mm" or "hh:mm:ss" as seconds, or -1. */
static int64_t
release_take_time(struct slice word)
{
	int hour, minute, second = 0;

	hour = release_take_number(&word, 2);
	if (word.n == 0 || word.p[0] != ':')
		return -1;
	word = slice_skip(word, 1);
	minute = release_take_number(&word, 2);
	if (word.n != 0) {
		if (word.p[0] != ':')
			return -1;
		word = slice_skip(word, 1);
		second = release_take_number(&word, 2);
	}
	if (word.n != 0 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 ||
	    second > 60)
		return -1;
	return hour * 3600 + minute * 60 + second;
}

/* UTC, GMT, Z or a number like +0200: seconds east, or RELEASE_NO_TIME. */
static int64_t
release_take_zone(struct slice word)
{
	int number;
	bool west;

	if (slice_eq(word, SLICE("UTC")) || slice_eq(word, SLICE("GMT")) ||
	    slice_eq(word, SLICE("UT")) || slice_eq(word, SLICE("Z")))
		return 0;
	if (word.n != 5 || (word.p[0] != '+' && word.p[0] != '-'))
		return RELEASE_NO_TIME;
	west = word.p[0] == '-';
	word = slice_skip(word, 1);
	number = release_take_number(&word, 4);
	if (number < 0 || word.n != 0 || number > 2359 || number % 100 > 59)
		return RELEASE_NO_TIME;
	number = (number / 100 * 60 + number % 100) * 60;
	return west ? -number : number;
}

/* The month of a three-letter name, from 0; -1: none. */
static int
release_month(struct slice word)
{
	static const char names[] = "janfebmaraprmayjunjulaugsepoctnovdec";

	if (word.n != 3)
		return -1;
	for (int i = 0; i < 12; i++)
		if (slice_caseeq(word, (struct slice){names + 3 * (size_t)i, 3}))
			return i;
	return -1;
}

/* Days from 1970-01-01 to a date of the Gregorian calendar (years begin in March here). */
static int64_t
release_days(int year, int month, int day)
{
	int64_t y = month < 2 ? year - 1 : year, m = (month + 10) % 12;

	return y * 365 + y / 4 - y / 100 + y / 400 + (m * 306 + 5) / 10 + day - 719469;
}

/* RELEASE_NO_TIME where one of these is none; seconds of the day. */
static int64_t
release_time_of(int year, int month, int day, int64_t seconds)
{
	static const uint8_t month_days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	if (month < 0 || year < 1970 || day < 1 || day > month_days[month] || seconds < 0)
		return RELEASE_NO_TIME;
	return release_days(year, month, day) * 86400 + seconds;
}

/* A word that is a number of at most max_n digits, or -1. */
static int
release_next_number(struct slice *text, size_t max_n)
{
	struct slice word = release_next_word(text);
	int number = release_take_number(&word, max_n);

	return word.n == 0 ? number : -1;
}

/* What asctime writes, behind the day of the week. */
static int64_t
release_parse_asctime(struct slice text)
{
	int month = release_month(release_next_word(&text));
	int day = release_next_number(&text, 2);
	int64_t seconds = release_take_time(release_next_word(&text));
	int year = release_next_number(&text, 4);

	return slice_trim(text).n == 0 ? release_time_of(year, month, day, seconds) :
	    RELEASE_NO_TIME;
}

int64_t
release_parse_date(struct slice text)
{
	struct slice rest = text, word = release_next_word(&rest);
	int day, month, year;
	int64_t at_s, zone;

	/* The day of the week says nothing new. */
	if (word.n != 0 && word.p[word.n - 1] == ',')
		text = rest;
	else if (word.n == 3)
		return release_parse_asctime(rest);
	day = release_next_number(&text, 2);
	month = release_month(release_next_word(&text));
	year = release_next_number(&text, 4);
	at_s = release_time_of(year, month, day, release_take_time(release_next_word(&text)));
	zone = release_take_zone(release_next_word(&text));
	if (at_s == RELEASE_NO_TIME || zone == RELEASE_NO_TIME || slice_trim(text).n != 0)
		return RELEASE_NO_TIME;
	return at_s - zone;
}

/* -- armour -- */

static const struct slice release_begin_message = {"-----BEGIN PGP SIGNED MESSAGE-----", 34};
static const struct slice release_begin_signature = {"-----BEGIN PGP SIGNATURE-----", 29};
static const struct slice release_end_signature = {"-----END PGP SIGNATURE-----", 27};

/* Reads the header lines behind the first armour line, through the blank one. */
static enum reason
release_skip_armour_headers(const struct release_work *w, struct slice *text)
{
	struct slice line;

	while (release_next_line(text, &line)) {
		if (slice_trim(line).n == 0)
			return REASON_OK;
		if (!slice_starts(line, SLICE("Hash:")))
			return release_refuse(w, REASON_NOT_A_RELEASE,
			    "its armour has a header other than Hash");
	}
	return release_refuse(w, REASON_NOT_A_RELEASE, "it is cut off within its armour's header");
}

/* Copies the signed lines, their dash escapes undone, up to the signature. */
static enum reason
release_copy_signed(struct release_work *w, struct slice *text)
{
	struct slice line;

	while (release_next_line(text, &line)) {
		if (line.n != 0 && line.p[0] == '-') {
			if (slice_eq(slice_trim(line), release_begin_signature))
				return REASON_OK;
			if (line.n < 2 || line.p[1] != ' ')
				return release_refuse(w, REASON_NOT_A_RELEASE,
				    "a signed line begins with an unescaped dash");
			line = slice_skip(line, 2);
		}
		if (line.n != 0)
			memcpy(w->buf + w->n, line.p, line.n);
		w->n += line.n;
		w->buf[w->n++] = '\n';
	}
	return release_refuse(w, REASON_NOT_A_RELEASE, "it is cut off before its signature");
}

/* Skips the signature; nothing but blank lines may follow it. */
static enum reason
release_skip_signature(const struct release_work *w, struct slice text)
{
	struct slice line;
	bool ended = false;

	while (release_next_line(&text, &line)) {
		line = slice_trim(line);
		if (ended && line.n != 0)
			return release_refuse(w, REASON_NOT_A_RELEASE,
			    "there is text behind its signature");
		if (line.n == 0 || line.p[0] != '-')
			continue;
		if (!slice_eq(line, release_end_signature))
			return release_refuse(w, REASON_NOT_A_RELEASE,
			    "its signature holds a second armour line");
		ended = true;
	}
	if (!ended)
		return release_refuse(w, REASON_NOT_A_RELEASE, "it is cut off within its signature");
	return REASON_OK;
}

/* Fills the work buffer with what is signed, or with all of a Release without armour. */
static enum reason
release_copy_text(struct release_work *w, struct slice text)
{
	struct slice rest = text, line = SLICE_NONE;
	enum reason r;

	if (memchr(text.p, '\0', text.n) != NULL)
		return release_refuse(w, REASON_NOT_A_RELEASE, "it holds a NUL byte");
	while (release_next_line(&rest, &line) && slice_trim(line).n == 0)
		text = rest;
	line = slice_trim(line);
	if (line.n != 0 && line.p[0] == '<')
		return release_refuse(w, REASON_NOT_A_RELEASE,
		    "it is an HTML or XML page: does something on the way want a login?");
	if (!slice_eq(line, release_begin_message)) {
		memcpy(w->buf, text.p, text.n);
		w->n = text.n;
		return REASON_OK;
	}
	w->r->is_signed = true;
	r = release_skip_armour_headers(w, &rest);
	if (r == REASON_OK)
		r = release_copy_signed(w, &rest);
	if (r == REASON_OK)
		r = release_skip_signature(w, rest);
	return r;
}

/* -- fields -- */

/* The next raw entry, or NULL when memory is out. */
static struct release_raw *
release_new_raw(struct release_work *w)
{
	if (w->raw_n == w->raw_cap) {
		size_t cap = w->raw_cap == 0 ? 1024 : 2 * w->raw_cap;
		struct release_raw *raw = realloc(w->raw, cap * sizeof(*raw));

		if (raw == NULL)
			return NULL;
		w->raw = raw;
		w->raw_cap = cap;
	}
	return &w->raw[w->raw_n++];
}

/* " <digest> <size> <path>" */
static enum reason
release_read_file(struct release_work *w, struct slice line)
{
	struct slice whole = slice_trim(line);
	struct slice digest = release_next_word(&line), size = release_next_word(&line);
	struct slice path = slice_trim(line);
	const char *name = release_algos[w->section].name.p;
	struct release_raw *raw;

	if (w->raw_n == RELEASE_RAW_MAX)
		return release_refuse(w, REASON_RELEASE_BAD, "it has more than %d lines of digests",
		    RELEASE_RAW_MAX);
	raw = release_new_raw(w);
	if (raw == NULL)
		return REASON_NO_MEMORY;
	raw->algo = w->section;
	if (!slice_read_hex(digest, raw->digest, release_algos[w->section].digest_bytes) ||
	    !slice_read_number(size, RELPATH_SIZE_MAX, &raw->size_bytes))
		return release_refuse(w, REASON_RELEASE_BAD,
		    "a line of %s is no digest, size and path: \"%.*s\"", name,
		    whole.n > 60 ? 60 : (int)whole.n, whole.p);
	raw->path = (struct slice){path.p, 0};
	/* The path lies in the work buffer, which is ours to write to. */
	raw->path.n = relpath_clean(w->buf + (path.p - w->buf), path.n);
	if (raw->path.n == 0 || raw->path.n > RELPATH_MAX)
		return release_refuse(w, REASON_RELEASE_BAD,
		    "%s lists a path that is not relative, clean and at most %d bytes: \"%.*s\"", name,
		    RELPATH_MAX, path.n > 60 ? 60 : (int)path.n, path.p);
	return REASON_OK;
}

/* A name that is kept for reports: cut to its room, control characters masked. */
static void
release_keep_name(char name[RELEASE_NAME_BYTES], struct slice value)
{
	size_t n = value.n < RELEASE_NAME_BYTES ? value.n : RELEASE_NAME_BYTES - 1;

	for (size_t i = 0; i < n; i++)
		name[i] = (unsigned char)value.p[i] < ' ' || value.p[i] == 0x7f ? '?' : value.p[i];
	name[n] = '\0';
}

/* The fields that have one line. */
static enum reason
release_read_value(struct release_work *w, struct slice name, struct slice value)
{
	struct release *r = w->r;

	if (slice_caseeq(name, SLICE("Date"))) {
		if (w->has_date)
			return release_refuse(w, REASON_RELEASE_BAD, "it has two Date fields");
		w->has_date = true;
		/* apt warns of one that it cannot read, and takes the Release. */
		r->date_s = release_parse_date(value);
	} else if (slice_caseeq(name, SLICE("Valid-Until"))) {
		r->valid_until_s = release_parse_date(value);
		if (value.n != 0 && r->valid_until_s == RELEASE_NO_TIME)
			return release_refuse(w, REASON_RELEASE_BAD,
			    "its Valid-Until cannot be read: \"%.*s\"", value.n > 60 ? 60 : (int)value.n,
			    value.p);
	} else if (slice_caseeq(name, SLICE("Acquire-By-Hash"))) {
		r->by_hash = slice_caseeq(value, SLICE("yes"));
	} else if (slice_caseeq(name, SLICE("Origin"))) {
		release_keep_name(r->origin, value);
	} else if (slice_caseeq(name, SLICE("Label"))) {
		release_keep_name(r->label, value);
	} else if (slice_caseeq(name, SLICE("Suite"))) {
		release_keep_name(r->suite, value);
	} else if (slice_caseeq(name, SLICE("Codename"))) {
		release_keep_name(r->codename, value);
	}
	return REASON_OK;
}

/* A line that begins a field. */
static enum reason
release_read_field(struct release_work *w, struct slice line)
{
	const char *colon = memchr(line.p, ':', line.n);
	struct slice name, value;

	w->section = RELEASE_ALGO_N;
	if (colon == NULL)
		return release_refuse(w, REASON_NOT_A_RELEASE, "a line without a colon: \"%.*s\"",
		    line.n > 60 ? 60 : (int)line.n, line.p);
	name = slice_trim((struct slice){line.p, (size_t)(colon - line.p)});
	value = slice_trim(slice_skip(line, (size_t)(colon - line.p) + 1));
	for (unsigned i = 0; i < RELEASE_ALGO_N; i++) {
		if (!slice_caseeq(name, release_algos[i].name))
			continue;
		if (w->has_section[i])
			return release_refuse(w, REASON_RELEASE_BAD, "it has two %s sections",
			    release_algos[i].name.p);
		w->has_section[i] = true;
		w->section = (enum release_algo)i;
		return value.n != 0 ? release_read_file(w, value) : REASON_OK;
	}
	return release_read_value(w, name, value);
}

/* Walks through the lines of the one stanza. */
static enum reason
release_read_lines(struct release_work *w)
{
	struct slice text = {w->buf, w->n}, line;
	bool begun = false, ended = false;
	enum reason r = REASON_OK;

	while (r == REASON_OK && release_next_line(&text, &line)) {
		if (slice_trim(line).n == 0) {
			ended = begun;
			continue;
		}
		if (ended)
			return release_refuse(w, REASON_RELEASE_BAD, "it has a second stanza");
		if (line.p[0] != ' ' && line.p[0] != '\t') {
			r = release_read_field(w, line);
			begun = true;
		} else if (!begun) {
			return release_refuse(w, REASON_NOT_A_RELEASE,
			    "it begins with a continuation line");
		} else if (w->section != RELEASE_ALGO_N) {
			r = release_read_file(w, line);
		}
	}
	if (r != REASON_OK)
		return r;
	if (!w->has_section[RELEASE_SHA256] && !w->has_section[RELEASE_SHA512])
		return release_refuse(w, REASON_NOT_A_RELEASE, "it has neither SHA256 nor SHA512");
	return REASON_OK;
}

/* -- from lines to files -- */

static int
release_compare_paths(struct slice a, struct slice b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int d = memcmp(a.p, b.p, n);

	if (d != 0)
		return d;
	return a.n < b.n ? -1 : a.n > b.n;
}

static int
release_compare_raw_cb(const void *a, const void *b)
{
	const struct release_raw *x = a, *y = b;

	return release_compare_paths(x->path, y->path);
}

/* Adds one raw entry to the file that it is about. */
static enum reason
release_merge_raw(const struct release_work *w, struct release_file *f, bool first,
    const struct release_raw *raw)
{
	bool *has = NULL;
	uint8_t *digest = NULL;

	if (raw->algo == RELEASE_SHA256) {
		has = &f->has_sha256;
		digest = f->sha256;
	} else if (raw->algo == RELEASE_SHA512) {
		has = &f->has_sha512;
		digest = f->sha512;
	}
	if (!first && f->size_bytes != raw->size_bytes)
		return release_refuse(w, REASON_RELEASE_BAD, "it states two sizes of \"%.*s\"",
		    raw->path.n > 100 ? 100 : (int)raw->path.n, raw->path.p);
	f->size_bytes = raw->size_bytes;
	if (has == NULL)
		return REASON_OK;
	if (*has && memcmp(digest, raw->digest, release_algos[raw->algo].digest_bytes) != 0)
		return release_refuse(w, REASON_RELEASE_BAD, "it states two %s of \"%.*s\"",
		    release_algos[raw->algo].name.p, raw->path.n > 100 ? 100 : (int)raw->path.n,
		    raw->path.p);
	*has = true;
	memcpy(digest, raw->digest, release_algos[raw->algo].digest_bytes);
	return REASON_OK;
}

/* Counts distinct paths and the text they take, then gets memory for both. */
static enum reason
release_allocate_files(struct release_work *w)
{
	size_t files_n = 0, text_bytes = 0;

	for (size_t i = 0; i < w->raw_n; i++) {
		if (i != 0 && slice_eq(w->raw[i].path, w->raw[i - 1].path))
			continue;
		files_n++;
		text_bytes += w->raw[i].path.n + 1;
	}
	if (files_n > RELEASE_FILES_MAX)
		return release_refuse(w, REASON_RELEASE_BAD, "it lists more than %d files",
		    RELEASE_FILES_MAX);
	w->r->files = calloc(files_n + 1, sizeof(*w->r->files));
	w->r->text = malloc(text_bytes + 1);
	w->r->bytes = sizeof(*w->r) + (files_n + 1) * sizeof(*w->r->files) + text_bytes + 1;
	return w->r->files != NULL && w->r->text != NULL ? REASON_OK : REASON_NO_MEMORY;
}

/* Sorts the raw entries and merges them into files. */
static enum reason
release_make_files(struct release_work *w)
{
	struct release *r = w->r;
	enum reason reason;
	char *text;

	if (w->raw_n != 0)
		qsort(w->raw, w->raw_n, sizeof(*w->raw), release_compare_raw_cb);
	reason = release_allocate_files(w);
	text = r->text;
	for (size_t i = 0; i < w->raw_n && reason == REASON_OK; i++) {
		const struct release_raw *raw = &w->raw[i];
		bool first = i == 0 || !slice_eq(raw->path, raw[-1].path);

		if (first) {
			memcpy(text, raw->path.p, raw->path.n);
			text[raw->path.n] = '\0';
			r->files[r->files_n++].path = (struct slice){text, raw->path.n};
			text += raw->path.n + 1;
		}
		reason = release_merge_raw(w, &r->files[r->files_n - 1], first, raw);
	}
	return reason;
}

/* Adds a number to a digest, the same on every machine. */
static void
release_hash_number(EVP_MD_CTX *ctx, uint64_t value)
{
	uint8_t b[8];

	for (unsigned i = 0; i < sizeof(b); i++)
		b[i] = (uint8_t)(value >> (8 * i));
	AN(EVP_DigestUpdate(ctx, b, sizeof(b)));
}

/* The identity: Date and files, however they are armoured and in whatever order they stand. */
static enum reason
release_identify(struct release *r)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	if (ctx == NULL)
		return REASON_NO_MEMORY;
	AN(EVP_DigestInit_ex2(ctx, EVP_sha256(), NULL));
	release_hash_number(ctx, (uint64_t)r->date_s);
	for (size_t i = 0; i < r->files_n; i++) {
		const struct release_file *f = &r->files[i];

		AN(EVP_DigestUpdate(ctx, f->path.p, f->path.n + 1));
		release_hash_number(ctx, f->size_bytes);
		release_hash_number(ctx, (f->has_sha256 ? 1 : 0) | (f->has_sha512 ? 2 : 0));
		AN(EVP_DigestUpdate(ctx, f->sha256, f->has_sha256 ? sizeof(f->sha256) : 0));
		AN(EVP_DigestUpdate(ctx, f->sha512, f->has_sha512 ? sizeof(f->sha512) : 0));
	}
	AN(EVP_DigestFinal_ex(ctx, r->identity, NULL));
	EVP_MD_CTX_free(ctx);
	return REASON_OK;
}

enum reason
release_parse(struct release **r_p, const void *text, size_t n, char *why, size_t why_cap)
{
	struct release_work w = {.section = RELEASE_ALGO_N, .why = why, .why_cap = why_cap};
	enum reason r = REASON_NO_MEMORY;

	MUST(why_cap != 0);
	(void)snprintf(why, why_cap, "out of memory");
	if (n == 0)
		return release_refuse(&w, REASON_NOT_A_RELEASE, "it is empty");
	if (n > RELEASE_TEXT_MAX)
		return release_refuse(&w, REASON_NOT_A_RELEASE, "it is longer than %d MiB",
		    RELEASE_TEXT_MAX >> 20);
	OBJ_NEW(w.r, RELEASE_MAGIC);
	w.buf = malloc(n + 1);		/* a last line may get its end */
	if (w.r != NULL && w.buf != NULL) {
		w.r->date_s = w.r->valid_until_s = RELEASE_NO_TIME;
		r = release_copy_text(&w, (struct slice){text, n});
	}
	if (r == REASON_OK)
		r = release_read_lines(&w);
	if (r == REASON_OK)
		r = release_make_files(&w);
	if (r == REASON_OK)
		r = release_identify(w.r);
	free(w.raw);
	free(w.buf);
	if (r != REASON_OK) {
		release_free(&w.r);
		return r;
	}
	why[0] = '\0';
	*r_p = w.r;
	return REASON_OK;
}

void
release_free(struct release **r_p)
{
	struct release *r = *r_p;

	if (r == NULL)
		return;
	*r_p = NULL;
	CHECK_OBJ(r, RELEASE_MAGIC);
	free(r->files);
	free(r->text);
	OBJ_FREE(r);
}

/* -- questions -- */

const struct release_file *
release_find(const struct release *r, struct slice path)
{
	size_t low = 0, high;

	CHECK_OBJ(r, RELEASE_MAGIC);
	for (high = r->files_n; low < high;) {
		size_t mid = low + (high - low) / 2;
		int d = release_compare_paths(path, r->files[mid].path);

		if (d == 0)
			return &r->files[mid];
		if (d < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

const struct release_file *
release_find_url(const struct release *r, struct slice url_path)
{
	char buf[RELPATH_MAX];
	struct slice path = relpath_of_url(url_path, buf);

	return path.p != NULL ? release_find(r, path) : NULL;
}

void
release_index_of(struct release_index *ri, struct slice path)
{
	struct slice name;
	size_t at;

	ri->kind = unpack_kind_of(path, &ri->stem);
	name = ri->stem;
	for (at = name.n; at > 0 && name.p[at - 1] != '/';)
		at--;
	name = slice_skip(name, at);
	if (slice_eq(name, SLICE("Packages")))
		ri->list = RELEASE_PACKAGES;
	else if (slice_eq(name, SLICE("Sources")))
		ri->list = RELEASE_SOURCES;
	else
		ri->list = RELEASE_OTHER;
}

const struct release_file *
release_first_packages(const struct release *r)
{
	/* Acquire::CompressionTypes as apt presets it, but for lz4. */
	static const struct slice names[] = {
		{"Packages.xz", 11}, {"Packages.bz2", 12}, {"Packages.lzma", 13},
		{"Packages.gz", 11}, {"Packages.zst", 12}, {"Packages", 8},
	};

	CHECK_OBJ(r, RELEASE_MAGIC);
	for (size_t i = 0; i < NELEM(names); i++) {
		const struct release_file *f = release_find(r, names[i]);

		if (f != NULL && (f->has_sha256 || f->has_sha512))
			return f;
	}
	return NULL;
}

uint64_t
release_unpacked_bytes(const struct release *r, const struct release_file *f)
{
	struct release_index ri;

	release_index_of(&ri, f->path);
	if (ri.stem.n != f->path.n)
		f = release_find(r, ri.stem);
	return f != NULL ? f->size_bytes : 0;
}
