/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The sample file, and the manual's list of options, from option.def. */
#include "proxy/config_priv.h"

#include "include/obj.h"
#include "proxy/fill.h"

/* The table's order: a title, or an option. */
struct config_entry {
	const char *title;
	enum config_option_id id;	/* where there is no title */
};

static const struct config_entry config_entries[] = {
#define S(title) {(title), OPTION__N},
#define O(name, type, scope, reload, def, range, check, help) {NULL, OPTION_##name},
#include "include/option.def"
#undef O
#undef S
};

/* What may stand there, and what it takes to change it. */
static void
config_print_facts(FILE *out, const struct config_option *o)
{
	fprintf(out, "%s", config_type_name(o->type));
	if (o->range[0] != '\0')
		fprintf(out, "%s%s", o->type == CONFIG_ENUM ? ": " : ", ", o->range);
	fprintf(out, "; %s", o->reload ? "reload" : "restart");
	if (o->upstream)
		fputs("; per upstream", out);
}

void
config_print_sample(FILE *out)
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
		if (config_entries[i].title != NULL) {
			fprintf(out, "\n\n## %s ##\n", config_entries[i].title);
			continue;
		}
		o = config_options() + config_entries[i].id;
		fputc('\n', out);
		fill_words(out, o->help, "# ", 78);
		fputs("# (", out);
		config_print_facts(out, o);
		fprintf(out, ")\n#%s =%s%s\n", o->name, o->def[0] != '\0' ? " " : "", o->def);
	}
	fputs("\n\n## Some upstreams only ##\n\n"
	    "# For hosts that the glob matches, these win over what is set above. Where more\n"
	    "# than one section matches, the later one wins. Everything below a section's head\n"
	    "# belongs to it.\n"
	    "#[upstream \"*.slow.example\"]\n"
	    "#read_timeout = 30s\n"
	    "#upstream_connections = 2\n", out);
}

void
config_print_man(FILE *out)
{
	const struct config_option *o;
	size_t i;

	for (i = 0; i < NELEM(config_entries); i++) {
		if (config_entries[i].title != NULL) {
			fprintf(out, "%s.Ss %s\n.Bl -tag -width Ds\n", i > 0 ? ".El\n" : "",
			    config_entries[i].title);
			continue;
		}
		o = config_options() + config_entries[i].id;
		fprintf(out, ".It Cm %s\n", o->name);
		fill_words(out, o->help, "", 78);
		fprintf(out, ".br\nDefault: %s; ", o->def[0] != '\0' ? o->def :
		    config_type_is_list(o->type) ? "empty" : "not set");
		config_print_facts(out, o);
		fputs(".\n", out);
	}
	fputs(".El\n", out);
}
