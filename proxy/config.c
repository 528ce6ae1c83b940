/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Reads the configuration through the table in option.def, and names file and
 * line of each mistake.
 *
 * main calls config_load at start and on SIGHUP; everybody else holds a
 * reference and reads fields. Life: defaults, then the file's lines, then the
 * -o settings are put into the fields (config_value.c, config_check.c); then
 * what depends on the machine is filled in; from then on nothing changes but
 * the count of references, and the mixes: settings of hosts that more than
 * one [upstream] section matches, made when first asked for.
 */
#include "proxy/config_priv.h"

#include "include/obj.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONFIG_MAGIC = 0x436f4e66, CONFIG_LINE_MAX = 64 << 10 };

struct config_section {
	char *glob;
	struct globset match;
	unsigned line;
	bool set[OPTION__N];
	struct config_upstream values;	/* own: those that are set */
	struct config_upstream alone;	/* borrowed: global values under this section's */
};

/* Borrowed values of a host that the sections in `matched` match. */
struct config_mix {
	struct config_mix *next;
	uint64_t matched;		/* bit i: section i */
	struct config_upstream upstream;
};

struct config_mixes {
	pthread_mutex_t lock;
	struct config_mix *list;	/* under lock; entries stay until the config goes */
};

/* One run of config_load. */
struct config_loader {
	struct config *c;
	FILE *errors, *warnings;
	const char *file;		/* NULL: the -o settings */
	unsigned line;
	unsigned errors_n;
	struct config_section *section;	/* NULL: global */
	bool skip;			/* below a section head that was refused */
	unsigned seen[OPTION__N];	/* line where this source set it; 0: not yet */
	bool given[OPTION__N];		/* set by any source */
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
#define IS_INERT true
#define IS_ACTIVE false

static const struct config_option config_table[OPTION__N] = {
#define S(title)
#define O(name_, type_, scope_, reload_, state_, def_, range_, check_, help_)  \
	{.name = #name_, .def = (def_), .range = (range_), .help = (help_),    \
	    .type = TYPE_##type_, .upstream = IS_##scope_, .reload = IS_##reload_, \
	    .inert = IS_##state_, .at = offsetof(struct config, name_),        \
	    .upstream_at = AT_##scope_(name_), .check = config_check_##check_},
#include "include/option.def"
#undef O
#undef S
};

/* The table's order: a title, or an option. */
struct config_entry {
	const char *title;
	const struct config_option *option;
};

static const struct config_entry config_entries[] = {
#define S(title) {(title), NULL},
#define O(name, type, scope, reload, state, def, range, check, help)           \
	{NULL, &config_table[OPTION_##name]},
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

/* The option's field in the configuration. */
static void *
config_field(struct config *c, const struct config_option *o)
{
	return (char *)c + o->at;
}

/* The option's field in a section's values. */
static void *
config_upstream_field(struct config_upstream *u, const struct config_option *o)
{
	MUST(o->upstream);
	return (char *)u + o->upstream_at;
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

/* Levenshtein's distance between short words; a long one is far from everything. */
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
			best = above + (a.p[i] != b[j]);
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
	}
	if (ld->seen[id] != 0 && !config_type_is_list(o->type) && ld->file != NULL)
		config_report(ld, false, o->name, "already set in line %u: this line wins; "
		    "remove the other", ld->seen[id]);
	verdict = config_value_set(o, field, value, ld->seen[id] == 0, why);
	ld->seen[id] = ld->line != 0 ? ld->line : 1;
	if (verdict == CONFIG_BAD)
		config_report(ld, true, o->name, "%s", why);
	else if (verdict == CONFIG_WARN)
		config_report(ld, false, o->name, "%s", why);
	if (verdict != CONFIG_BAD && o->inert)
		config_report(ld, false, o->name,
		    "accepted, does nothing in this version");
}

/* Is it what a line's ends are trimmed of? */
static bool
config_is_blank(char ch)
{
	return ch == ' ' || ch == '\t' || ch == '\r' || ch == '\n';
}

/* The text without blanks and line ends around it. */
static struct slice
config_trim(struct slice s)
{
	while (s.n != 0 && config_is_blank(s.p[0]))
		s = slice_skip(s, 1);
	while (s.n != 0 && config_is_blank(s.p[s.n - 1]))
		s.n--;
	return s;
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
	key = config_trim((struct slice){text.p, (size_t)(equals - text.p)});
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
	config_apply(ld, o, config_trim(slice_skip(text, (size_t)(equals - text.p) + 1)));
}

/* Adds a section to the configuration, and takes *match over. False: no memory. */
static bool
config_section_new(struct config_loader *ld, struct slice glob, struct globset *match)
{
	struct config_section *v, *s;
	struct config *c = ld->c;

	v = realloc(c->sections, (c->sections_n + 1) * sizeof(*v));
	if (v == NULL)
		return false;
	c->sections = v;
	s = &v[c->sections_n];
	memset(s, 0, sizeof(*s));
	s->glob = strndup(glob.p, glob.n);
	if (s->glob == NULL)
		return false;
	s->match = *match;
	*match = (struct globset){{NULL, 0}};
	s->line = ld->line;
	c->sections_n++;
	ld->section = s;
	return true;
}

/* The glob of `[upstream "glob"]`; false where the line is something else. */
static bool
config_head_parse(struct slice text, struct slice *glob)
{
	struct slice s = text;

	if (s.n < 2 || s.p[0] != '[' || s.p[s.n - 1] != ']')
		return false;
	s = config_trim((struct slice){s.p + 1, s.n - 2});
	if (!slice_starts(s, SLICE("upstream")))
		return false;
	s = slice_skip(s, strlen("upstream"));
	if (s.n == 0 || (s.p[0] != ' ' && s.p[0] != '\t' && s.p[0] != '"'))
		return false;
	s = config_trim(s);
	if (s.n >= 2 && s.p[0] == '"' && s.p[s.n - 1] == '"')
		s = config_trim((struct slice){s.p + 1, s.n - 2});
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
	else if (!config_section_new(ld, glob, &match))
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
	return config_trim(line);
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
		config_read_setting(ld, config_trim(slice_of(settings->v[i])));
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

/* Fills in what the machine decides. */
static void
config_resolve(struct config_loader *ld)
{
	struct config *c = ld->c;
	cpu_set_t cpus;

	if (!ld->given[OPTION_cache_dir] || c->cache_dir == NULL) {
		free(c->cache_dir);
		c->cache_dir = config_default_cache_dir();
		if (c->cache_dir == NULL)
			config_report(ld, true, "cache_dir", "there is no default without "
			    "HOME: set it");
	}
	if (c->verify_signatures && c->keyring_dir == NULL)
		config_report(ld, true, "keyring_dir", "verify_signatures = yes needs it: name the "
		    "directory that holds the repositories' public keys");
	if (c->workers == 0) {
		c->workers = 1;
		if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) > 0)
			c->workers = (uint64_t)CPU_COUNT(&cpus);
		if (c->workers > 256)
			c->workers = 256;
	}
}

/* Lays a section's values over *u. */
static void
config_section_lay(struct config_section *s, struct config_upstream *u)
{
	const struct config_option *o;
	unsigned i;

	for (i = 0; i < OPTION__N; i++) {
		o = &config_table[i];
		if (s->set[i])
			config_value_copy(o->type, config_upstream_field(u, o),
			    config_upstream_field(&s->values, o));
	}
}

/* Makes what config_for_upstream hands out, and looks at options together. */
static void
config_resolve_upstreams(struct config_loader *ld)
{
	struct config *c = ld->c;
	const struct config_option *o;
	struct config_section *s;
	char why[CONFIG_WHY_BYTES] = "";
	size_t i;

	for (i = 0; i < OPTION__N; i++) {
		o = &config_table[i];
		if (o->upstream)
			config_value_copy(o->type, config_upstream_field(&c->upstream, o),
			    config_field(c, o));
	}
	ld->line = 0;
	if (config_check_upstream(&c->upstream, why) == CONFIG_BAD)
		config_report(ld, true, NULL, "%s", why);
	if (config_check_tls(c, why) == CONFIG_BAD)
		config_report(ld, true, NULL, "%s", why);
	for (i = 0; i < c->sections_n; i++) {
		s = &c->sections[i];
		s->alone = c->upstream;
		config_section_lay(s, &s->alone);
		ld->line = s->line;
		if (config_check_upstream(&s->alone, why) == CONFIG_BAD)
			config_report(ld, true, NULL, "%s", why);
	}
}

/* ---- the whole ---- */

/* An empty configuration with one reference. */
static struct config *
config_new(void)
{
	struct config *c;

	OBJ_NEW(c, CONFIG_MAGIC);
	if (c == NULL)
		return NULL;
	c->mixes = calloc(1, sizeof(*c->mixes));
	if (c->mixes == NULL) {
		OBJ_FREE(c);
		return NULL;
	}
	AZ(pthread_mutex_init(&c->mixes->lock, NULL));
	atomic_init(&c->refs, 1);
	return c;
}

/* Frees a section's text and values. */
static void
config_section_fini(struct config_section *s)
{
	unsigned i;

	for (i = 0; i < OPTION__N; i++)
		if (s->set[i])
			config_value_fini(config_table[i].type,
			    config_upstream_field(&s->values, &config_table[i]));
	globset_fini(&s->match);
	free(s->glob);
}

/* Frees the configuration. */
static void
config_free(struct config *c)
{
	struct config_mix *mix;
	size_t i;

	for (i = 0; i < OPTION__N; i++)
		config_value_fini(config_table[i].type, config_field(c, &config_table[i]));
	for (i = 0; i < c->sections_n; i++)
		config_section_fini(&c->sections[i]);
	free(c->sections);
	while ((mix = c->mixes->list) != NULL) {
		c->mixes->list = mix->next;
		free(mix);
	}
	AZ(pthread_mutex_destroy(&c->mixes->lock));
	free(c->mixes);
	OBJ_FREE(c);
}

struct config *
config_load_stream(FILE *in, const char *name, const struct strlist *settings, FILE *errors,
	FILE *warnings)
{
	struct config_loader *ld = calloc(1, sizeof(*ld));
	struct config *c = config_new();
	unsigned errors_n;

	MUST(errors != NULL);
	if (ld == NULL || c == NULL) {
		fprintf(errors, "apt-depot: out of memory\n");
		free(ld);
		config_unref(&c);
		return NULL;
	}
	*ld = (struct config_loader){.c = c, .errors = errors, .warnings = warnings};
	config_read_defaults(ld);
	if (in != NULL)
		config_read_stream(ld, in, name);
	config_read_settings(ld, settings);
	ld->file = in != NULL ? name : NULL;
	config_resolve(ld);
	config_resolve_upstreams(ld);
	errors_n = ld->errors_n;
	free(ld);
	if (errors_n != 0)
		config_unref(&c);
	return c;
}

struct config *
config_load(const char *file, const struct strlist *settings, FILE *errors, FILE *warnings)
{
	struct config *c;
	FILE *in = NULL;

	if (file != NULL && (in = fopen(file, "re")) == NULL) {
		fprintf(errors, "%s: can't be read (%s): check the path given with -c\n", file,
		    strerror(errno));
		return NULL;
	}
	c = config_load_stream(in, file, settings, errors, warnings);
	if (in != NULL)
		fclose(in);
	return c;
}

struct config *
config_ref(struct config *c)
{
	CHECK_OBJ(c, CONFIG_MAGIC);
	MUST(atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed) > 0);
	return c;
}

void
config_unref(struct config **c_p)
{
	struct config *c = *c_p;
	unsigned before;

	if (c == NULL)
		return;
	*c_p = NULL;
	CHECK_OBJ(c, CONFIG_MAGIC);
	before = atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel);
	MUST(before > 0);
	if (before == 1)
		config_free(c);
}

/* ---- one upstream's settings ---- */

/* The values under all sections of `matched`; without memory, those of the last one alone. */
static const struct config_upstream *
config_mix(const struct config *c, uint64_t matched, size_t last)
{
	struct config_mix *mix;
	size_t i;

	AZ(pthread_mutex_lock(&c->mixes->lock));
	for (mix = c->mixes->list; mix != NULL && mix->matched != matched; mix = mix->next)
		;
	if (mix == NULL && (mix = calloc(1, sizeof(*mix))) != NULL) {
		mix->matched = matched;
		mix->upstream = c->upstream;
		for (i = 0; i < c->sections_n; i++)
			if ((matched >> i & 1) != 0)
				config_section_lay(&c->sections[i], &mix->upstream);
		mix->next = c->mixes->list;
		c->mixes->list = mix;
	}
	AZ(pthread_mutex_unlock(&c->mixes->lock));
	return mix != NULL ? &mix->upstream : &c->sections[last].alone;
}

bool
config_any_auth(const struct config *c)
{
	size_t i;

	for (i = 0; i < c->sections_n; i++)
		if (c->sections[i].values.auth != NULL)
			return true;
	return c->upstream.auth != NULL;
}

const struct config_upstream *
config_for_upstream(const struct config *c, struct slice host)
{
	uint64_t matched = 0;
	size_t i, last = 0;

	CHECK_OBJ(c, CONFIG_MAGIC);
	for (i = 0; i < c->sections_n; i++) {
		if (globset_has(&c->sections[i].match, host, 0)) {
			matched |= UINT64_C(1) << i;
			last = i;
		}
	}
	if (matched == 0)
		return &c->upstream;
	if ((matched & (matched - 1)) == 0)
		return &c->sections[last].alone;
	return config_mix(c, matched, last);
}

/* The files of one upstream's settings. */
static void
config_each_upstream_file(const struct config_upstream *u, config_file_f *fn, void *arg)
{
	if (u->ca_file != NULL)
		fn(arg, "ca_file", u->ca_file);
	if (u->client_cert != NULL)
		fn(arg, "client_cert", u->client_cert);
	if (u->client_key != NULL)
		fn(arg, "client_key", u->client_key);
	if (u->auth != NULL)
		fn(arg, "auth", u->auth);
}

void
config_each_file(const struct config *c, config_file_f *fn, void *arg)
{
	size_t i;

	CHECK_OBJ(c, CONFIG_MAGIC);
	config_each_upstream_file(&c->upstream, fn, arg);
	for (i = 0; i < c->sections_n; i++)
		config_each_upstream_file(&c->sections[i].values, fn, arg);
}

const struct config_upstream *
config_upstream_at(const struct config *c, size_t n)
{
	CHECK_OBJ(c, CONFIG_MAGIC);
	if (n == 0)
		return &c->upstream;
	return n <= c->sections_n ? &c->sections[n - 1].alone : NULL;
}

/* ---- for people ---- */

/* Writes words as comment lines of at most 78 columns. */
static void
config_print_wrapped(FILE *out, const char *text)
{
	size_t column = 0, n;

	while (*text != '\0') {
		n = strcspn(text, " ");
		if (column != 0 && column + 1 + n > 78) {
			fputc('\n', out);
			column = 0;
		}
		fprintf(out, "%s%.*s", column == 0 ? "# " : " ", (int)n, text);
		column += n + (column == 0 ? 2 : 1);
		text += n;
		text += strspn(text, " ");
	}
	fputc('\n', out);
}

/* What may stand there, and what it takes to change it. */
static void
config_print_facts(FILE *out, const struct config_option *o)
{
	fprintf(out, "# (%s", config_type_name(o->type));
	if (o->range[0] != '\0')
		fprintf(out, "%s%s", o->type == CONFIG_ENUM ? ": " : ", ", o->range);
	fprintf(out, "; %s", o->reload ? "reload" : "restart");
	if (o->upstream)
		fprintf(out, "; per upstream");
	if (o->inert)
		fprintf(out, "; does nothing in this version");
	fprintf(out, ")\n");
}

void
config_print_reference(FILE *out)
{
	const struct config_option *o;
	size_t i;

	fputs("# apt-depot.conf: every option, at its default. Remove the # before a name to\n"
	    "# change it.\n"
	    "#\n"
	    "# key = value, one on a line; a # after a blank begins a comment. Sizes are bytes,\n"
	    "# or K, M, G, T (times 1024). Times are seconds, or ms, s, m, h, d. A list has\n"
	    "# commas between its members; it replaces the default, and further lines of the\n"
	    "# same name add to it; an empty value empties it. The same settings work as\n"
	    "# -o key=value, which wins over this file. \"apt-depot check -c FILE\" says what is\n"
	    "# wrong with a file.\n"
	    "#\n"
	    "# reload: SIGHUP brings a change into effect. restart: it needs a restart.\n"
	    "# per upstream: may also be set for some hosts only, in a section at the end.\n", out);
	for (i = 0; i < NELEM(config_entries); i++) {
		o = config_entries[i].option;
		if (o == NULL) {
			fprintf(out, "\n\n## %s ##\n", config_entries[i].title);
			continue;
		}
		fputc('\n', out);
		config_print_wrapped(out, o->help);
		config_print_facts(out, o);
		fprintf(out, "#%s =%s%s\n", o->name, o->def[0] != '\0' ? " " : "", o->def);
	}
	fputs("\n\n## Some upstreams only ##\n\n"
	    "# For hosts that the glob matches, these win over what is set above. Where more\n"
	    "# than one section matches, the later one wins. Everything below a section's head\n"
	    "# belongs to it.\n"
	    "#[upstream \"*.slow.example\"]\n"
	    "#read_timeout = 30s\n"
	    "#upstream_connections = 2\n", out);
}

/* Do two sections set the same for the same hosts? */
static bool
config_section_equal(const struct config_section *a, const struct config_section *b)
{
	const struct config_option *o;
	unsigned i;

	if (strcmp(a->glob, b->glob) != 0 || memcmp(a->set, b->set, sizeof(a->set)) != 0)
		return false;
	for (i = 0; i < OPTION__N; i++) {
		o = &config_table[i];
		if (a->set[i] && !config_value_equal(o->type,
		    (const char *)&a->values + o->upstream_at,
		    (const char *)&b->values + o->upstream_at))
			return false;
	}
	return true;
}

/* Are the sections the same, in the same order? */
static bool
config_sections_equal(const struct config *a, const struct config *b)
{
	size_t i;

	if (a->sections_n != b->sections_n)
		return false;
	for (i = 0; i < a->sections_n; i++)
		if (!config_section_equal(&a->sections[i], &b->sections[i]))
			return false;
	return true;
}

void
config_print_restart_needed(const struct config *was, const struct config *now, FILE *out)
{
	const struct config_option *o;
	unsigned i;

	CHECK_OBJ(was, CONFIG_MAGIC);
	CHECK_OBJ(now, CONFIG_MAGIC);
	for (i = 0; i < OPTION__N; i++) {
		o = &config_table[i];
		if (!o->reload && !config_value_equal(o->type, (const char *)was + o->at,
		    (const char *)now + o->at))
			fprintf(out, "%s: changed, but needs a restart: the old value stays\n",
			    o->name);
	}
	if (!config_sections_equal(was, now))
		fprintf(out, "[upstream] sections: changed, but need a restart: the old ones "
		    "stay\n");
}
