/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * One configuration takes another's place while the depot runs. Readers load
 * the pointer of the one in force (struct depot), use it for as long as they
 * like, and keep what they found in it: an old configuration lives as long as
 * the one that followed it, so to the depot's end. Reloads that change
 * something are few, and a configuration is some kilobytes.
 */
#include "proxy/config_priv.h"

#include "include/obj.h"

/* Adds a name to a line that begins with what they have in common. */
static void
config_list_name(FILE *out, unsigned *n, const char *begin, const char *name)
{
	fprintf(out, "%s%s", (*n)++ == 0 ? begin : ", ", name);
}

/* Names the options of one kind that differ; how many. */
static unsigned
config_list_changes(const struct config *was, const struct config *now, bool reload, const char *begin,
	FILE *out)
{
	const struct config_option *o = config_options();
	unsigned n = 0, i;

	for (i = 0; i < OPTION__N; i++, o++)
		if (o->reload == reload && !config_value_equal(o->type, (const char *)was + o->at,
		    (const char *)now + o->at))
			config_list_name(out, &n, begin, o->name);
	if (reload && !config_sections_equal(was, now))
		config_list_name(out, &n, begin, "[upstream] sections");
	if (n != 0)
		fputc('\n', out);
	return n;
}

void
config_succeed(struct config **c_p, struct config *now, FILE *out)
{
	const struct config_option *o = config_options();
	struct config *was = *c_p;
	unsigned changed_n, i;

	changed_n = config_list_changes(was, now, true, "in effect: ", out);
	if (config_list_changes(was, now, false, "needs a restart, the old value stays: ", out) == 0 &&
	    changed_n == 0)
		fputs("nothing in the configuration has changed\n", out);
	if (changed_n == 0) {
		config_free(&now);
		return;
	}
	for (i = 0; i < OPTION__N; i++, o++) {
		if (o->reload)
			continue;
		MUST(!o->upstream);	/* sections come and go */
		config_value_fini(o->type, config_field(now, o));
		config_value_copy(o->type, config_field(now, o), config_field(was, o));
	}
	now->before = was;
	*c_p = now;
}

struct config *
config_load_again(const struct config *was, const char *file, const struct strlist *settings, FILE *out)
{
	return config_load_file(file, settings, was, out, out);
}
