/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The commands on generations: generations, pin, unpin. admin.c runs them. */
#include <inttypes.h>
#include <stdlib.h>

#include "include/clock.h"
#include "include/inspect.h"
#include "proxy/admin_priv.h"
#include "proxy/page_priv.h"

enum { ADMIN_GENS_URL_BYTES = 32 << 10, ADMIN_WHY_BYTES = 1024 };

/* A repository's URL, or its beginning, in any form. */
static bool
admin_take_root(struct admin_call *a, struct arena *arena, struct slice *url)
{
	struct url u;

	if (!admin_parse_url(a, cmd_word(a->cmd, 0), arena, &u))
		return false;
	*url = u.text;
	return true;
}

/* "2026-11-01T10:20:30Z", the form that @TIME takes; and what else is to be known. */
static void
admin_put_gen(FILE *out, const struct inspect_gen *g)
{
	char when[32];

	inspect_time_text(g->adopted_at_s, when);
	(void)fprintf(out, "  %s%s  %" PRIu64 " packages", when, g->current ? " current" : "        ",
	    g->packages_n);
	if (g->date_s != INT64_MIN) {
		inspect_time_text(g->date_s, when);
		(void)fprintf(out, ", published %s", when);
	}
	if (g->valid_until_s != INT64_MIN && g->valid_until_s < clock_wall_s())
		(void)fputs(", no longer valid", out);
	if (g->pins[0] != '\0')
		(void)fprintf(out, ", pinned as %s", g->pins);
	(void)putc('\n', out);
}

int
admin_generations(struct admin_call *a)
{
	char memory[ADMIN_GENS_URL_BYTES];
	struct slice prefix = SLICE("");
	struct inspect_gen *list;
	struct arena arena;
	size_t n, i;

	arena_init(&arena, memory, sizeof(memory));
	if (cmd_word(a->cmd, 0) != NULL && !admin_take_root(a, &arena, &prefix))
		return CMD_USAGE;
	if (inspect_generations(a->view, prefix, &list, &n) != REASON_OK) {
		(void)fputs("apt-depot: the depot is out of memory\n", a->errors);
		return CMD_FAILED;
	}
	for (i = 0; i < n; i++) {
		if (a->cmd->json) {
			page_put_gen(a->out, &list[i]);
			(void)putc('\n', a->out);
			continue;
		}
		if (i == 0 || strcmp(list[i].root, list[i - 1].root) != 0)
			(void)fprintf(a->out, "%s  %s %s\n", list[i].root, list[i].origin, list[i].suite);
		admin_put_gen(a->out, &list[i]);
	}
	inspect_generations_free(&list, n);
	return CMD_OK;
}

/* What was done, or why not. */
static int
admin_say_done(struct admin_call *a, enum reason r, const char *why)
{
	if (r != REASON_OK) {
		(void)fprintf(a->errors, "apt-depot: %s\n", why);
		return CMD_FAILED;
	}
	if (a->cmd->json) {
		(void)fputs("{\"done\":", a->out);
		page_put_json(a->out, why);
		(void)fputs("}\n", a->out);
	} else
		(void)fprintf(a->out, "%s\n", why);
	return CMD_OK;
}

int
admin_pin(struct admin_call *a)
{
	struct slice at = slice_of(cmd_option(a->cmd, "at")), name = slice_of(cmd_option(a->cmd, "as"));
	char memory[ADMIN_GENS_URL_BYTES], why[ADMIN_WHY_BYTES] = "";
	struct arena arena;
	struct slice url;
	enum reason r;

	arena_init(&arena, memory, sizeof(memory));
	if (!admin_take_root(a, &arena, &url))
		return CMD_USAGE;
	/* As it is written before a host. */
	if (slice_starts(at, SLICE("@")))
		at = slice_skip(at, 1);
	r = inspect_pin(a->view, url, at, name, why, sizeof(why));
	return admin_say_done(a, r, why);
}

/* Is the name one of those, with ", " between them? */
static bool
admin_has_pin(const char *pins, struct slice name)
{
	size_t n;

	for (; *pins != '\0'; pins += n) {
		n = strcspn(pins, ",");
		if (slice_eq((struct slice){pins, n}, name))
			return true;
		n += strspn(pins + n, ", ");
	}
	return false;
}

/* The one repository that has a generation of this name; a line to a->errors otherwise. */
static bool
admin_find_pin(struct admin_call *a, struct slice name, struct arena *arena, struct slice *url)
{
	struct inspect_gen *list;
	size_t n, i, found = 0;

	if (inspect_generations(a->view, SLICE(""), &list, &n) != REASON_OK) {
		(void)fputs("apt-depot: the depot is out of memory\n", a->errors);
		return false;
	}
	for (i = 0; i < n; i++) {
		if (!admin_has_pin(list[i].pins, name))
			continue;
		if (found++ == 0)
			*url = arena_copy(arena, slice_of(list[i].root));
		else
			(void)fprintf(a->errors, "apt-depot: %s has it too\n", list[i].root);
	}
	inspect_generations_free(&list, n);
	if (found == 0)
		(void)fprintf(a->errors, "apt-depot: nothing is pinned as %.*s: see \"apt-depot "
		    "generations\"\n", SLICE_ARG(name));
	else if (found > 1)
		(void)fprintf(a->errors, "apt-depot: several repositories have the name %.*s: say "
		    "which, unpin %.*s %.*s\n", SLICE_ARG(name), SLICE_ARG(name), SLICE_ARG(*url));
	return found == 1 && url->p != NULL;
}

int
admin_unpin(struct admin_call *a)
{
	char memory[ADMIN_GENS_URL_BYTES], why[ADMIN_WHY_BYTES] = "";
	const char *name_word = cmd_option(a->cmd, "as"), *url_word = NULL;
	struct slice name = SLICE(""), url = SLICE_NONE;
	struct arena arena;
	struct url u;
	enum reason r;

	/* In either order: no name has a slash. */
	for (unsigned i = 0; i < a->cmd->words.n; i++) {
		const char **to = strchr(cmd_word(a->cmd, i), '/') != NULL ? &url_word : &name_word;

		if (*to != NULL) {
			(void)fputs("apt-depot: unpin takes one NAME and one URL\n", a->errors);
			return CMD_USAGE;
		}
		*to = cmd_word(a->cmd, i);
	}
	arena_init(&arena, memory, sizeof(memory));
	if (name_word != NULL)
		name = slice_skip(slice_of(name_word), name_word[0] == '@');
	if (url_word == NULL && !admin_find_pin(a, name, &arena, &url))
		return CMD_FAILED;
	if (url_word != NULL) {
		if (!admin_parse_url(a, url_word, &arena, &u))
			return CMD_USAGE;
		url = u.text;
	}
	r = inspect_unpin(a->view, url, name, why, sizeof(why));
	return admin_say_done(a, r, why);
}
