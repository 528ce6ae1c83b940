/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Values of options: from text to the field of struct config, by type.
 *
 * config.c calls this once for each default, line and -o setting. A field
 * starts zeroed, is set any number of times, and ends in config_value_fini.
 */
#include "proxy/config_priv.h"

#include <ctype.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* A number's ending and what it multiplies by. */
struct config_unit {
	const char *text;
	uint64_t factor;
};

static const struct config_unit config_size_units[] = {
	{"", 1}, {"b", 1},
	{"k", 1ULL << 10}, {"kb", 1ULL << 10}, {"kib", 1ULL << 10},
	{"m", 1ULL << 20}, {"mb", 1ULL << 20}, {"mib", 1ULL << 20},
	{"g", 1ULL << 30}, {"gb", 1ULL << 30}, {"gib", 1ULL << 30},
	{"t", 1ULL << 40}, {"tb", 1ULL << 40}, {"tib", 1ULL << 40},
	{NULL, 0}
};

static const struct config_unit config_time_units[] = {
	{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000},
	{"d", 24 * 3600 * 1000}, {NULL, 0}
};

static const struct config_unit config_count_units[] = {{"", 1}, {NULL, 0}};

/* What there is to know of each type. */
static const struct config_type_facts {
	const char *name;
	size_t size;			/* of the field */
	bool is_list;
} config_types[] = {
	[CONFIG_SIZE] = {"size", sizeof(uint64_t), false},
	[CONFIG_TIME] = {"time", sizeof(int64_t), false},
	[CONFIG_COUNT] = {"number", sizeof(uint64_t), false},
	[CONFIG_BOOL] = {"yes or no", sizeof(bool), false},
	[CONFIG_ENUM] = {"word", sizeof(unsigned), false},
	[CONFIG_TEXT] = {"text", sizeof(char *), false},
	[CONFIG_LIST] = {"list", sizeof(struct strlist), true},
	[CONFIG_CIDRS] = {"list of addresses", sizeof(struct cidrset), true},
	[CONFIG_GLOBS] = {"list of host globs", sizeof(struct globset), true},
	[CONFIG_PORTS] = {"list of ports", sizeof(struct portset), true},
	[CONFIG_SPACE] = {"size or percentage", sizeof(struct config_space), false},
};

bool
config_type_is_list(enum config_type type)
{
	return config_types[type].is_list;
}

const char *
config_type_name(enum config_type type)
{
	return config_types[type].name;
}

struct config_quoted
config_quote(struct slice value)
{
	struct config_quoted q;
	size_t i, n = value.n < sizeof(q.text) - 4 ? value.n : sizeof(q.text) - 4;

	for (i = 0; i < n; i++)
		q.text[i] = isprint((unsigned char)value.p[i]) ? value.p[i] : '?';
	if (n < value.n) {
		memcpy(q.text + n, "...", 3);
		n += 3;
	}
	q.text[n] = '\0';
	return q;
}

/* Writes why and says BAD. */
static enum config_verdict PRINTF_LIKE(2, 3)
config_bad(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, CONFIG_WHY_BYTES, fmt, ap);
	va_end(ap);
	return CONFIG_BAD;
}

/* Digits, blanks, unit. False where that is not what it is, or more than 64 bits. */
static bool
config_number_parse(struct slice s, const struct config_unit *units, uint64_t *out)
{
	uint64_t value = 0;
	size_t i = 0;

	for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++)
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(s.p[i] - '0'), &value))
			return false;
	if (i == 0)
		return false;
	s = slice_trim(slice_skip(s, i));
	for (; units->text != NULL; units++)
		if (slice_caseeq(s, slice_of(units->text)))
			return !__builtin_mul_overflow(value, units->factor, out);
	return false;
}

/* The units of a type of numbers. */
static const struct config_unit *
config_type_units(enum config_type type)
{
	if (type == CONFIG_TIME)
		return config_time_units;
	return type == CONFIG_COUNT ? config_count_units : config_size_units;
}

/* How a number of this type is written, for messages. */
static const char *
config_type_remedy(enum config_type type)
{
	if (type == CONFIG_TIME)
		return "write seconds, or a number with ms, s, m, h or d, such as 90s or 5m";
	if (type == CONFIG_COUNT)
		return "write a whole number";
	return "write bytes, or a whole number with K, M, G or T, such as 500G";
}

/* Is the number within "least..most"? In "0 or least..most", 0 becomes the most. */
static bool
config_range_take(const char *range, const struct config_unit *units, uint64_t *value)
{
	static const char zero[] = "0 or ";
	const bool has_zero = strncmp(range, zero, strlen(zero)) == 0;
	const char *from = has_zero ? range + strlen(zero) : range, *dots = strstr(from, "..");
	uint64_t least, most;

	if (range[0] == '\0')
		return *value <= INT64_MAX;
	AN(dots);
	AN(config_number_parse((struct slice){from, (size_t)(dots - from)}, units, &least));
	AN(config_number_parse(slice_of(dots + 2), units, &most));
	if (has_zero && *value == 0)
		*value = most;
	return *value >= least && *value <= most;
}

/* SIZE, TIME and COUNT. */
static enum config_verdict
config_number_set(const struct config_option *o, void *field, struct slice text, char *why)
{
	const struct config_unit *units = config_type_units(o->type);
	uint64_t value;

	if (!config_number_parse(text, units, &value))
		return config_bad(why, "\"%s\" is not a %s: %s", config_quote(text).text,
		    config_type_name(o->type), config_type_remedy(o->type));
	if (!config_range_take(o->range, units, &value))
		return config_bad(why, "\"%s\" is out of range: the range is %s",
		    config_quote(text).text, o->range[0] != '\0' ? o->range : "0..8388607T");
	if (o->type == CONFIG_TIME)
		*(int64_t *)field = (int64_t)value;
	else
		*(uint64_t *)field = value;
	return CONFIG_GOOD;
}

/* A size or N%, into whichever of the two it is. */
static bool
config_space_part(struct config_space *space, struct slice text)
{
	uint64_t value;

	if (text.n != 0 && text.p[text.n - 1] == '%') {
		text.n--;
		if (!config_number_parse(slice_trim(text), config_count_units, &value) ||
		    value > 100)
			return false;
		space->percent = (unsigned)value;
		return true;
	}
	if (!config_number_parse(text, config_size_units, &value) || value > INT64_MAX)
		return false;
	space->bytes = value;
	return true;
}

/* SPACE: a size, N%, or "SIZE or N%". */
static enum config_verdict
config_space_set(struct config_space *field, struct slice text, char *why)
{
	struct config_space space = {UINT64_MAX, 100};
	const char *or_at = memmem(text.p, text.n, " or ", 4);
	struct slice first = text, second = SLICE_NONE;

	if (or_at != NULL) {
		first.n = (size_t)(or_at - text.p);
		second = slice_trim(slice_skip(text, first.n + 4));
	}
	if (!config_space_part(&space, slice_trim(first)) ||
	    (or_at != NULL && !config_space_part(&space, second)))
		return config_bad(why, "\"%s\" is neither a size nor a percentage: write a size "
		    "such as 500G, a percentage such as 80%%, or 500G or 80%%",
		    config_quote(text).text);
	*field = space;
	return CONFIG_GOOD;
}

uint64_t
config_resolve_size(const struct config_space *space, uint64_t fs_bytes)
{
	uint64_t part = fs_bytes / 100 * space->percent + fs_bytes % 100 * space->percent / 100;

	return space->bytes < part ? space->bytes : part;
}

/* BOOL. */
static enum config_verdict
config_bool_set(bool *field, struct slice text, char *why)
{
	static const char *const yes[] = {"yes", "true", "on", "1"};
	static const char *const no[] = {"no", "false", "off", "0"};
	size_t i;

	for (i = 0; i < NELEM(yes); i++) {
		if (slice_caseeq(text, slice_of(yes[i])) || slice_caseeq(text, slice_of(no[i]))) {
			*field = slice_caseeq(text, slice_of(yes[i]));
			return CONFIG_GOOD;
		}
	}
	return config_bad(why, "\"%s\" is neither yes nor no: write one of them",
	    config_quote(text).text);
}

/* ENUM: the word's place in the range is the value. */
static enum config_verdict
config_enum_set(const struct config_option *o, void *field, struct slice text, char *why)
{
	struct slice rest = slice_of(o->range), word;
	const char *blank;
	unsigned value = 0;

	while (rest.n != 0) {
		blank = memchr(rest.p, ' ', rest.n);
		word = (struct slice){rest.p, blank ? (size_t)(blank - rest.p) : rest.n};
		if (slice_eq(text, word)) {
			memcpy(field, &value, sizeof(value));
			return CONFIG_GOOD;
		}
		rest = slice_skip(rest, word.n + 1);
		value++;
	}
	return config_bad(why, "\"%s\" is not a word known here: write one of: %s",
	    config_quote(text).text, o->range);
}

/* A NUL-terminated copy, or NULL without memory. */
static char *
config_text_new(struct slice text)
{
	return strndup(text.n != 0 ? text.p : "", text.n);
}

/* TEXT. */
static enum config_verdict
config_text_set(const struct config_option *o, char **field, struct slice text, char *why)
{
	enum config_verdict verdict = CONFIG_UNSET;
	char *copy = config_text_new(text);

	if (copy == NULL)
		return config_bad(why, "out of memory");
	if (text.n != 0)
		verdict = o->check(copy, why);
	if (verdict == CONFIG_BAD || verdict == CONFIG_UNSET) {
		free(copy);
		copy = NULL;
	}
	if (verdict != CONFIG_BAD) {
		free(*field);
		*field = copy;
	}
	return verdict == CONFIG_UNSET ? CONFIG_GOOD : verdict;
}

/* One more member of a LIST. */
static enum config_verdict
config_strlist_add(const struct config_option *o, struct strlist *list, struct slice text,
	char *why)
{
	enum config_verdict verdict;
	char *copy = config_text_new(text), **v;

	v = copy != NULL ? realloc(list->v, (list->n + 1) * sizeof(*v)) : NULL;
	if (v == NULL) {
		free(copy);
		return config_bad(why, "out of memory");
	}
	list->v = v;
	verdict = o->check(copy, why);
	if (verdict == CONFIG_BAD)
		free(copy);
	else
		list->v[list->n++] = copy;
	return verdict;
}

/* Frees a LIST's members and array, and leaves it empty. */
static void
config_strlist_fini(struct strlist *list)
{
	size_t i;

	for (i = 0; i < list->n; i++)
		free(list->v[i]);
	free(list->v);
	*list = (struct strlist){NULL, 0};
}

/* One more member of a list of any type. */
static enum config_verdict
config_list_add(const struct config_option *o, void *field, struct slice text, char *why)
{
	if (o->type == CONFIG_LIST)
		return config_strlist_add(o, field, text, why);
	if (o->type == CONFIG_CIDRS)
		return cidrset_add(field, text) ? CONFIG_GOOD : config_bad(why,
		    "\"%s\" is not an address or CIDR: write members such as 10.0.0.0/8 or "
		    "fd00::/8, with commas between", config_quote(text).text);
	if (o->type == CONFIG_GLOBS)
		return globset_add(field, text) ? CONFIG_GOOD : config_bad(why,
		    "\"%s\" is not a host glob: write members such as *.example.com or "
		    "host.example.com:443, with commas between", config_quote(text).text);
	MUST(o->type == CONFIG_PORTS);
	return portset_add(field, text) ? CONFIG_GOOD : config_bad(why,
	    "\"%s\" is not a port, or there are more than 64: write numbers from 1 to 65535 with "
	    "commas between, or any", config_quote(text).text);
}

/* LIST, CIDRS, GLOBS, PORTS: members with commas between. */
static enum config_verdict
config_list_set(const struct config_option *o, void *field, struct slice text, bool bare,
	char *why)
{
	struct slice one;
	const char *comma;

	if (bare || text.n == 0)
		config_value_fini(o->type, field);
	while (text.n != 0) {
		comma = memchr(text.p, ',', text.n);
		one = (struct slice){text.p, comma ? (size_t)(comma - text.p) : text.n};
		text = slice_skip(text, one.n + 1);
		one = slice_trim(one);
		if (one.n != 0 && config_list_add(o, field, one, why) == CONFIG_BAD)
			return CONFIG_BAD;
	}
	return CONFIG_GOOD;
}

enum config_verdict
config_value_set(const struct config_option *o, void *field, struct slice text, bool bare,
	char *why)
{
	enum config_verdict verdict;
	char *word;

	text = slice_trim(text);
	if (text.n >= 2 && text.p[0] == '"' && text.p[text.n - 1] == '"')
		return config_bad(why, "the value is in quotes: remove them, blanks need none");
	if (config_type_is_list(o->type))
		return config_list_set(o, field, text, bare, why);
	if (o->type == CONFIG_TEXT)
		return config_text_set(o, field, text, why);
	if (text.n == 0)
		return config_bad(why, "there is no value: write one, or remove the line for the "
		    "default, %s", o->def);
	if (o->type == CONFIG_BOOL)
		return config_bool_set(field, text, why);
	if (o->type == CONFIG_SPACE)
		return config_space_set(field, text, why);
	if (o->type != CONFIG_ENUM)
		return config_number_set(o, field, text, why);
	verdict = config_enum_set(o, field, text, why);
	if (verdict != CONFIG_GOOD)
		return verdict;
	word = config_text_new(text);
	verdict = word != NULL ? o->check(word, why) : config_bad(why, "out of memory");
	free(word);
	return verdict;
}

void
config_value_copy(enum config_type type, void *to, const void *from)
{
	memcpy(to, from, config_types[type].size);
}

/* Do two lists have the same members in the same order? */
static bool
config_strlist_equal(const struct strlist *a, const struct strlist *b)
{
	size_t i;

	if (a->n != b->n)
		return false;
	for (i = 0; i < a->n; i++)
		if (strcmp(a->v[i], b->v[i]) != 0)
			return false;
	return true;
}

/* Do two sets have the same ranges in the same order? */
static bool
config_cidrset_equal(const struct cidrset *a, const struct cidrset *b)
{
	size_t i;

	if (a->n != b->n)
		return false;
	for (i = 0; i < a->n; i++)
		if (a->v[i].bits != b->v[i].bits ||
		    memcmp(a->v[i].addr, b->v[i].addr, sizeof(a->v[i].addr)) != 0)
			return false;
	return true;
}

/* Do two sets have the same ports in the same order? */
static bool
config_portset_equal(const struct portset *a, const struct portset *b)
{
	return a->any == b->any && a->n == b->n && memcmp(a->v, b->v, a->n * sizeof(a->v[0])) == 0;
}

bool
config_value_equal(enum config_type type, const void *a, const void *b)
{
	const struct config_space *space_a = a, *space_b = b;
	const char *const *text_a = a, *const *text_b = b;

	switch (type) {
	case CONFIG_SIZE:
	case CONFIG_TIME:
	case CONFIG_COUNT:
	case CONFIG_BOOL:
	case CONFIG_ENUM:
		return memcmp(a, b, config_types[type].size) == 0;
	case CONFIG_SPACE:
		return space_a->bytes == space_b->bytes && space_a->percent == space_b->percent;
	case CONFIG_TEXT:
		if (*text_a == NULL || *text_b == NULL)
			return *text_a == *text_b;
		return strcmp(*text_a, *text_b) == 0;
	case CONFIG_LIST:
		return config_strlist_equal(a, b);
	case CONFIG_CIDRS:
		return config_cidrset_equal(a, b);
	case CONFIG_GLOBS:
		return config_strlist_equal(&((const struct globset *)a)->patterns,
		    &((const struct globset *)b)->patterns);
	case CONFIG_PORTS:
		return config_portset_equal(a, b);
	}
	WRONG("option type");
}

void
config_value_fini(enum config_type type, void *field)
{
	switch (type) {
	case CONFIG_SIZE:
	case CONFIG_TIME:
	case CONFIG_COUNT:
	case CONFIG_BOOL:
	case CONFIG_ENUM:
	case CONFIG_SPACE:
		break;
	case CONFIG_TEXT:
		free(*(char **)field);
		*(char **)field = NULL;
		break;
	case CONFIG_LIST:
		config_strlist_fini(field);
		break;
	case CONFIG_CIDRS:
		cidrset_fini(field);
		break;
	case CONFIG_GLOBS:
		globset_fini(field);
		break;
	case CONFIG_PORTS:
		*(struct portset *)field = (struct portset){0};
		break;
	}
}
