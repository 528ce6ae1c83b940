/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CONFIG_PRIV_H
#define CONFIG_PRIV_H
/* What the config*.c files and their tests share. */
#include "include/config.h"

#include <pthread.h>
#include <stddef.h>

enum config_type {
	CONFIG_SIZE,
	CONFIG_TIME,
	CONFIG_COUNT,
	CONFIG_BOOL,
	CONFIG_ENUM,
	CONFIG_TEXT,
	CONFIG_LIST,
	CONFIG_CIDRS,
	CONFIG_GLOBS,
	CONFIG_PORTS,
	CONFIG_SPACE,
};

/* What looking at a value came to. */
enum config_verdict {
	CONFIG_GOOD,
	CONFIG_UNSET,	/* a word that means: as if not set */
	CONFIG_BAD,
};

enum { CONFIG_MAGIC = 0x436f4e66, CONFIG_WHY_BYTES = 512, CONFIG_SECTIONS_MAX = 64, CONFIG_PARENTS_MAX = 16,
	CONFIG_LISTENERS_MAX = 32 };	/* as listener.c has */

/* `why` (CONFIG_WHY_BYTES) is written unless GOOD or UNSET: "what is wrong: what to do". */
typedef enum config_verdict config_check_f(const char *text, char *why);

struct config_option {
	const char *name, *def, *range, *help;
	enum config_type type;
	bool upstream, reload;
	size_t at, upstream_at;		/* offset in struct config, in struct config_upstream */
	config_check_f *check;
};

enum config_option_id {
#define S(title)
#define O(name, type, scope, reload, def, range, check, help) OPTION_##name,
#include "include/option.def"
#undef O
#undef S
	OPTION__N
};

/* One [upstream "glob"] section. */
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

/* The option's field in a configuration. */
static inline void *
config_field(struct config *c, const struct config_option *o)
{
	return (char *)c + o->at;
}

/* The option's field in a section's values. */
static inline void *
config_upstream_field(struct config_upstream *u, const struct config_option *o)
{
	return (char *)u + o->upstream_at;
}

/* ---- config_value.c ---- */

bool config_type_is_list(enum config_type type);
/* What to call it in front of people: "time". */
const char *config_type_name(enum config_type type);
/*
 * Puts the value into the option's field; of a list, adds its members, or
 * empties it where the value is empty. `bare`: the list's old members go
 * first. On BAD the field may hold a part of the value.
 */
enum config_verdict config_value_set(const struct config_option *o, void *field,
	struct slice text, bool bare, char *why) MUSTCHECK;
void config_value_copy(enum config_type type, void *to, const void *from);	/* borrows */
bool config_value_equal(enum config_type type, const void *a, const void *b);
void config_value_fini(enum config_type type, void *field);
/* The value shortened and without control bytes, for messages. */
struct config_quoted {
	char text[96];
};
struct config_quoted config_quote(struct slice value);

/* ---- config_check.c: one function for each word in option.def's check column ---- */

config_check_f config_check_any, config_check_listen, config_check_host, config_check_log_file,
	config_check_access_log, config_check_ca_file, config_check_cert_file,
	config_check_key_file, config_check_auth_file, config_check_parent_proxy,
	config_check_no_proxy, config_check_connect_to, config_check_user, config_check_cache_dir;
/* Rules about more than one option of an upstream's settings. */
enum config_verdict config_check_upstream(const struct config_upstream *u, char *why);
/* No address twice in the options that listen: the second could not be had. */
enum config_verdict config_check_listeners(const struct config *c, char *why);
/* Rules about more than one of the options for TLS towards clients. */
enum config_verdict config_check_tls(const struct config *c, char *why);

/* ---- config_upstream.c ---- */

/* Adds a section with this glob; *match is taken over. NULL: out of memory. */
struct config_section *config_section_add(struct config *c, struct slice glob, struct globset *match,
	unsigned line);
/* Makes what config_for_upstream hands out, once all is read. */
void config_sections_resolve(struct config *c);
bool config_sections_init(struct config *c) MUSTCHECK;
void config_sections_fini(struct config *c);
/* Are the sections of both the same, in the same order? */
bool config_sections_equal(const struct config *a, const struct config *b);

/* ---- config.c ---- */

const struct config_option *config_options(void);	/* OPTION__N of them */
/*
 * As config_load, from an open stream (NULL: none) that messages call `name`. was: what a running
 * depot has, or NULL.
 */
struct config *config_load_stream(FILE *in, const char *name, const struct strlist *settings,
	const struct config *was, FILE *errors, FILE *warnings) MUSTCHECK;
struct config *config_load_file(const char *file, const struct strlist *settings,
	const struct config *was, FILE *errors, FILE *warnings) MUSTCHECK;

#endif
