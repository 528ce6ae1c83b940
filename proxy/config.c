/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Reads the configuration through the table in option.def, and names file and
 * line of each mistake.
 *
 * main calls config_load at start, config_load_again (config_reload.c) on SIGHUP;
 * everybody else reads fields. Life: defaults, then the file's lines, then the
 * -o settings are put into the fields (config_value.c, config_check.c); then
 * what depends on the machine is filled in, and what holds for single hosts
 * (config_upstream.c); from then on nothing changes.
 */
#include "proxy/config_priv.h"

#include "include/obj.h"
#include "include/sign.h"

#include <ctype.h>
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONFIG_LINE_MAX = 64 << 10, CONFIG_SEGMENT_MIN = 1 << 20 };

/* Where a value was set. */
struct config_place {
	const char *file;		/* NULL: the -o settings */
	unsigned line;			/* 0: in no line of it */
};

/* One run of config_load. */
struct config_loader {
	struct config *c;
	const struct config *was;	/* a running depot's, or NULL */
	FILE *errors, *warnings;
	const char *file;		/* NULL: the -o settings */
	unsigned line;
	unsigned errors_n;
	struct config_section *section;	/* NULL: global */
	bool skip;			/* below a section head that was refused */
	unsigned seen[OPTION__N];	/* line where this source set it; 0: not yet */
	bool given[OPTION__N];		/* set by any source */
	struct config_place places[OPTION__N];	/* of what holds where no section is */
};

#define TYPE_SIZE CONFIG_SIZE
#define TYPE_TIME CONFIG_TIME
#define TYPE_COUNT CONFIG_COUNT
#define TYPE_BOOL CONFIG_BOOL
#define TYPE_ENUM(tag) CONFIG_ENUM
#define TYPE_TEXT CONFIG_TEXT
#define TYPE_LIST CONFIG_LIST
#define TYPE_CIDRS CONFIG_CIDRS
#define TYPE_GLOBS CONFIG_GLOBS
#define TYPE_PORTS CONFIG_PORTS
#define TYPE_SPACE CONFIG_SPACE
#define IS_GLOBAL false
#define IS_UPSTREAM true
#define AT_GLOBAL(name) 0
#define AT_UPSTREAM(name) offsetof(struct config_upstream, name)
#define IS_RELOAD true
#define IS_RESTART false

static const struct config_option config_table[OPTION__N] = {
#define S(title)
#define O(name_, type_, scope_, reload_, def_, range_, check_, help_)          \
	{.name = #name_, .def = (def_), .range = (range_), .help = (help_),    \
	    .type = TYPE_##type_, .upstream = IS_##scope_, .reload = IS_##reload_, \
	    .at = offsetof(struct config, name_),                              \
	    .upstream_at = AT_##scope_(name_), .check = config_check_##check_},
#include "include/option.def"
#undef O
#undef S
};

_Static_assert(sizeof(enum config_connect) == sizeof(unsigned), "ENUM fields are set as unsigned");

const struct config_option *
config_options(void)
{
	return config_table;
}

/* ---- messages ---- */

/* One line: where, which option (NULL: none), what is wrong: what to do. */
static void PRINTF_LIKE(4, 5)
config_report(struct config_loader *ld, bool error, const char *key, const char *fmt, ...)
{
	FILE *out = error ? ld->errors : ld->warnings;
	va_list ap;

	ld->errors_n += error;
	if (out == NULL)
		return;
	if (ld->file == NULL)
		fprintf(out, "-o");
	else if (ld->line == 0)
		fprintf(out, "%s", ld->file);
	else
		fprintf(out, "%s:%u", ld->file, ld->line);
	fprintf(out, ": ");
	if (key != NULL)
		fprintf(out, "%s: ", key);
	va_start(ap, fmt);
	vfprintf(out, fmt, ap);
	va_end(ap);
	fputc('\n', out);
}

/* Levenshtein's distance between short words in any letter case; a long one is far from all. */
static unsigned
config_distance(struct slice a, const char *b)
{
	enum { MAX = 48 };
	unsigned row[MAX + 1], above, left, best;
	size_t i, j, n = strlen(b);

	if (a.n > MAX || n > MAX)
		return MAX;
	for (j = 0; j <= n; j++)
		row[j] = (unsigned)j;
	for (i = 0; i < a.n; i++) {
		above = row[0];
		row[0] = left = (unsigned)i + 1;
		for (j = 0; j < n; j++) {
			best = above + (tolower((unsigned char)a.p[i]) != b[j]);
			above = row[j + 1];
			if (above + 1 < best)
				best = above + 1;
			if (left + 1 < best)
				best = left + 1;
			row[j + 1] = left = best;
		}
	}
	return row[n];
}

/* The option of this name, or NULL and a message with the nearest one. */
static const struct config_option *
config_find_option(struct config_loader *ld, struct slice key)
{
	const struct config_option *nearest = &config_table[0];
	unsigned distance, least = UINT32_MAX, i;

	for (i = 0; i < OPTION__N; i++) {
		if (slice_eq(key, slice_of(config_table[i].name)))
			return &config_table[i];
		distance = config_distance(key, config_table[i].name);
		if (distance < least) {
			least = distance;
			nearest = &config_table[i];
		}
	}
	if (least <= 1 + key.n / 3 && least < key.n)
		config_report(ld, true, NULL, "unknown option \"%s\": did you mean %s?",
		    config_quote(key).text, nearest->name);
	else
		config_report(ld, true, NULL, "unknown option \"%s\": the sample file and "
		    "apt-depot.conf(5) name them all", config_quote(key).text);
	return NULL;
}

/* ---- reading ---- */

/* Puts one value where it belongs: global, or the current section's. */
static void
config_apply(struct config_loader *ld, const struct config_option *o, struct slice value)
{
	size_t id = (size_t)(o - config_table);
	char why[CONFIG_WHY_BYTES] = "";
	enum config_verdict verdict;
	void *field = config_field(ld->c, o);

	if (ld->section != NULL) {
		field = config_upstream_field(&ld->section->values, o);
		ld->section->set[id] = true;
	} else {
		ld->given[id] = true;
		ld->places[id] = (struct config_place){ld->file, ld->line};
	}
	if (ld->seen[id] != 0 && !config_type_is_list(o->type) && ld->file != NULL)
		config_report(ld, false, o->name, "already set in line %u: this line wins; "
		    "remove the other", ld->seen[id]);
	verdict = config_value_set(o, field, value, ld->seen[id] == 0, why);
	ld->seen[id] = ld->line != 0 ? ld->line : 1;
	if (verdict == CONFIG_BAD)
		config_report(ld, true, o->name, "%s", why);
}

/* "key = value". The text is never shown: there may be a password in it. */
static void
config_read_setting(struct config_loader *ld, struct slice text)
{
	const struct config_option *o;
	const char *equals = memchr(text.p, '=', text.n);
	struct slice key;

	if (equals == NULL) {
		config_report(ld, true, NULL, "there is no \"=\": write key = value");
		return;
	}
	key = slice_trim((struct slice){text.p, (size_t)(equals - text.p)});
	if (key.n > 64 || memchr(key.p, ':', key.n) != NULL || memchr(key.p, '@', key.n) != NULL) {
		config_report(ld, true, NULL, "what stands before \"=\" is no option's name: "
		    "write key = value");
		return;
	}
	o = config_find_option(ld, key);
	if (o == NULL)
		return;
	if (ld->section != NULL && !o->upstream) {
		config_report(ld, true, o->name, "can't be set for single upstreams: move it "
		    "above the first [upstream] line");
		return;
	}
	config_apply(ld, o, slice_trim(slice_skip(text, (size_t)(equals - text.p) + 1)));
}

/* The glob of `[upstream "glob"]`; false where the line is something else. */
static bool
config_head_parse(struct slice text, struct slice *glob)
{
	struct slice s = text;

	if (s.n < 2 || s.p[0] != '[' || s.p[s.n - 1] != ']')
		return false;
	s = slice_trim((struct slice){s.p + 1, s.n - 2});
	if (!slice_starts(s, SLICE("upstream")))
		return false;
	s = slice_skip(s, strlen("upstream"));
	if (s.n == 0 || (s.p[0] != ' ' && s.p[0] != '\t' && s.p[0] != '"'))
		return false;
	s = slice_trim(s);
	if (s.n >= 2 && s.p[0] == '"' && s.p[s.n - 1] == '"')
		s = slice_trim((struct slice){s.p + 1, s.n - 2});
	*glob = s;
	return s.n != 0;
}

/* Does the glob end in a port? Sections go by host alone. */
static bool
config_glob_has_port(struct slice glob)
{
	const char *colon = memrchr(glob.p, ':', glob.n);

	return colon != NULL && memchr(colon, ']', glob.n - (size_t)(colon - glob.p)) == NULL;
}

/* A line that begins with "[". */
static void
config_read_head(struct config_loader *ld, struct slice text)
{
	struct globset match = {{NULL, 0}};
	struct slice glob;

	ld->section = NULL;
	ld->skip = true;
	memset(ld->seen, 0, sizeof(ld->seen));
	if (!config_head_parse(text, &glob))
		config_report(ld, true, NULL, "not a section that is known here: write "
		    "[upstream \"host-glob\"]");
	else if (config_glob_has_port(glob) || !globset_add(&match, glob))
		config_report(ld, true, NULL, "\"%s\" is not a host glob: write a host "
		    "without port, *.domain or *", config_quote(glob).text);
	else if (ld->c->sections_n == CONFIG_SECTIONS_MAX)
		config_report(ld, true, NULL, "more than %d sections: join some by a wider "
		    "host glob", CONFIG_SECTIONS_MAX);
	else if ((ld->section = config_section_add(ld->c, glob, &match, ld->line)) == NULL)
		config_report(ld, true, NULL, "out of memory");
	else
		ld->skip = false;
	globset_fini(&match);
}

/* The line up to a # that begins it or follows a blank. */
static struct slice
config_cut_comment(struct slice line)
{
	size_t i;

	for (i = 0; i < line.n; i++)
		if (line.p[i] == '#' && (i == 0 || line.p[i - 1] == ' ' || line.p[i - 1] == '\t'))
			line.n = i;
	return slice_trim(line);
}

/* Takes one line of the file. */
static void
config_read_line(struct config_loader *ld, struct slice line)
{
	if (memchr(line.p, '\0', line.n) != NULL || line.n > CONFIG_LINE_MAX) {
		config_report(ld, true, NULL, "not a line of text: check that this is a "
		    "configuration file, in UTF-8");
		return;
	}
	if (ld->line == 1 && slice_starts(line, SLICE("\xef\xbb\xbf")))
		line = slice_skip(line, 3);
	line = config_cut_comment(line);
	if (line.n == 0)
		return;
	if (line.p[0] == '[')
		config_read_head(ld, line);
	else if (!ld->skip)
		config_read_setting(ld, line);
}

/* Takes the whole file. */
static void
config_read_stream(struct config_loader *ld, FILE *in, const char *name)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	ld->file = name;
	ld->line = 0;
	memset(ld->seen, 0, sizeof(ld->seen));
	while (errno = 0, (n = getline(&line, &cap, in)) >= 0) {
		ld->line++;
		config_read_line(ld, (struct slice){line, (size_t)n});
	}
	if (ferror(in)) {
		ld->line = 0;
		config_report(ld, true, NULL, "can't be read (%s): check the path given "
		    "with -c", strerror(errno));
	}
	free(line);
}

/* Takes the -o settings. */
static void
config_read_settings(struct config_loader *ld, const struct strlist *settings)
{
	size_t i;

	ld->file = NULL;
	ld->line = 0;
	ld->section = NULL;
	ld->skip = false;
	memset(ld->seen, 0, sizeof(ld->seen));
	for (i = 0; settings != NULL && i < settings->n; i++)
		config_read_setting(ld, slice_trim(slice_of(settings->v[i])));
}

/* Puts the table's defaults into the fields. */
static void
config_read_defaults(struct config_loader *ld)
{
	char why[CONFIG_WHY_BYTES] = "";
	unsigned i;

	for (i = 0; i < OPTION__N; i++)
		if (config_value_set(&config_table[i], config_field(ld->c, &config_table[i]),
		    slice_of(config_table[i].def), true, why) != CONFIG_GOOD)
			WRONG(config_table[i].name);
}

/* What is reported next is about this option. */
static void
config_turn_to(struct config_loader *ld, size_t id)
{
	ld->file = ld->places[id].file;
	ld->line = ld->places[id].line;
}

/* ---- what depends on the machine ---- */

/* The directory for bodies and index where none is configured. NULL: there is no telling. */
static char *
config_default_cache_dir(void)
{
	const char *dir = getenv("CACHE_DIRECTORY"), *home = getenv("HOME");
	char *path = NULL;

	if (geteuid() == 0)
		return strdup(config_table[OPTION_cache_dir].def);
	/* systemd's CacheDirectory= may list more than one. */
	if (dir != NULL && dir[0] == '/')
		return strndup(dir, strcspn(dir, ":"));
	dir = getenv("XDG_CACHE_HOME");
	if (dir != NULL && dir[0] == '/') {
		if (asprintf(&path, "%s/apt-depot", dir) < 0)
			return NULL;
	} else if (home != NULL && home[0] == '/') {
		if (asprintf(&path, "%s/.cache/apt-depot", home) < 0)
			return NULL;
	}
	return path;
}

/* verify_signatures needs keys. A running depot's stay as they are, and may be out of its reach. */
static void
config_check_keys(struct config_loader *ld)
{
	char why[SIGN_WORDS_BYTES] = "";
	struct config *c = ld->c;

	if (!c->verify_signatures)
		return;
	if (c->keyring_dir == NULL) {
		config_turn_to(ld, OPTION_verify_signatures);
		config_report(ld, true, "keyring_dir", "verify_signatures = yes needs it: name the "
		    "directory that holds the repositories' public keys");
	} else if (ld->was == NULL && !sign_keys_ok(c->keyring_dir, why)) {
		config_turn_to(ld, OPTION_keyring_dir);
		config_report(ld, true, "keyring_dir", "%s: verify_signatures = yes needs a directory with "
		    "the repositories' public keys, *.gpg or *.asc: name it, such as /etc/apt/keyrings", why);
	}
}

/* Fills in what the machine decides. */
static void
config_resolve(struct config_loader *ld)
{
	struct config *c = ld->c;
	cpu_set_t cpus;

	if (!ld->given[OPTION_cache_dir] || c->cache_dir == NULL) {
		free(c->cache_dir);
		/* Who was root at the start has another default by now. */
		c->cache_dir = ld->was != NULL ? strdup(ld->was->cache_dir) :
		    config_default_cache_dir();
		if (c->cache_dir == NULL)
			config_report(ld, true, "cache_dir", "there is no default without "
			    "HOME: set it");
	}
	config_check_keys(ld);
	if (c->segment_min < CONFIG_SEGMENT_MIN)
		c->segment_min = CONFIG_SEGMENT_MIN;
	if (c->workers == 0) {
		c->workers = 1;
		if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) > 0)
			c->workers = (uint64_t)CPU_COUNT(&cpus);
		if (c->workers > 256)
			c->workers = 256;
	}
}

/* Reports what options say together, where the one that it begins with was set. */
static void
config_report_together(struct config_loader *ld, const char *why)
{
	struct slice name = {why, strcspn(why, ": ")};
	size_t i;

	for (i = 0; i < OPTION__N; i++)
		if (slice_eq(name, slice_of(config_table[i].name)))
			config_turn_to(ld, i);
	config_report(ld, true, NULL, "%s", why);
}

/* Looks at options together: the global ones, and under each section of the file. */
static void
config_check_together(struct config_loader *ld, const char *file)
{
	const struct config *c = ld->c;
	char why[CONFIG_WHY_BYTES] = "";
	size_t i;

	if (ld->errors_n == 0 && c->listen.n + c->listen_tls.n + c->listen_transparent.n == 0)
		config_report_together(ld, "listen: there is no address, and nothing would reach "
		    "the depot: write one, such as :3142");
	if (ld->errors_n == 0 && config_check_listeners(c, why) == CONFIG_BAD)
		config_report_together(ld, why);
	if (config_check_upstream(&c->upstream, why) == CONFIG_BAD)
		config_report_together(ld, why);
	if (config_check_tls(c, why) == CONFIG_BAD)
		config_report_together(ld, why);
	ld->file = file;
	for (i = 0; i < c->sections_n; i++) {
		ld->line = c->sections[i].line;
		if (config_check_upstream(&c->sections[i].alone, why) == CONFIG_BAD)
			config_report(ld, true, NULL, "%s", why);
	}
}

/* ---- the whole ---- */

/* An empty configuration. */
static struct config *
config_new(void)
{
	struct config *c;

	OBJ_NEW(c, CONFIG_MAGIC);
	if (c == NULL)
		return NULL;
	if (!config_sections_init(c)) {
		OBJ_FREE(c);
		return NULL;
	}
	return c;
}

/* Frees the configuration, but for what it has from the one before it. */
static void
config_free_one(struct config *c)
{
	const struct config_option *o = config_table;
	size_t i;

	for (i = 0; i < OPTION__N; i++, o++)
		if (o->reload || c->before == NULL)
			config_value_fini(o->type, config_field(c, o));
	config_sections_fini(c);
	OBJ_FREE(c);
}

struct config *
config_load_stream(FILE *in, const char *name, const struct strlist *settings,
	const struct config *was, FILE *errors, FILE *warnings)
{
	struct config_loader *ld = calloc(1, sizeof(*ld));
	struct config *c = config_new();
	unsigned errors_n, i;

	MUST(errors != NULL);
	if (ld == NULL || c == NULL) {
		fprintf(errors, "apt-depot: out of memory\n");
		free(ld);
		config_free(&c);
		return NULL;
	}
	*ld = (struct config_loader){.c = c, .was = was, .errors = errors, .warnings = warnings};
	config_read_defaults(ld);
	for (i = 0; i < OPTION__N; i++)
		ld->places[i].file = in != NULL ? name : NULL;
	if (in != NULL)
		config_read_stream(ld, in, name);
	config_read_settings(ld, settings);
	ld->file = in != NULL ? name : NULL;
	config_resolve(ld);
	config_sections_resolve(c);
	config_check_together(ld, in != NULL ? name : NULL);
	errors_n = ld->errors_n;
	free(ld);
	if (errors_n != 0)
		config_free(&c);
	return c;
}

struct config *
config_load_file(const char *file, const struct strlist *settings, const struct config *was,
	FILE *errors, FILE *warnings)
{
	struct config *c;
	FILE *in = NULL;

	if (file != NULL && (in = fopen(file, "re")) == NULL) {
		fprintf(errors, "%s: can't be read (%s): check the path given with -c\n", file,
		    strerror(errno));
		return NULL;
	}
	c = config_load_stream(in, file, settings, was, errors, warnings);
	if (in != NULL)
		fclose(in);
	return c;
}

struct config *
config_load(const char *file, const struct strlist *settings, FILE *errors, FILE *warnings)
{
	return config_load_file(file, settings, NULL, errors, warnings);
}

void
config_free(struct config **c_p)
{
	struct config *c = *c_p, *before;

	*c_p = NULL;
	for (; c != NULL; c = before) {
		CHECK_OBJ(c, CONFIG_MAGIC);
		before = c->before;
		config_free_one(c);
	}
}
