/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Arbitrary bytes as a configuration file, and its lines as -o settings: it
 * is refused with a message or accepted, messages are lines of printable
 * text, and what was accepted answers for any host and equals itself.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/obj.h"
#include "proxy/config_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { FUZZ_SETTINGS_MAX = 32 };

/* Ends in a line end, and has no control bytes but those. */
static void
fuzz_check_messages(const char *text, size_t n)
{
	MUST(n == 0 || text[n - 1] == '\n');
	for (size_t i = 0; i < n; i++)
		MUST((unsigned char)text[i] >= ' ' || text[i] == '\n');
}

/* The bytes' lines as settings; they live in *copy_p. */
static size_t
fuzz_settings(const uint8_t *data, size_t n, char **copy_p, char **settings)
{
	char *text = strndup((const char *)data, n), *save = NULL, *line;
	size_t settings_n = 0;

	*copy_p = text;
	for (line = strtok_r(text, "\n", &save); line != NULL && settings_n < FUZZ_SETTINGS_MAX;
		line = strtok_r(NULL, "\n", &save))
		settings[settings_n++] = line;
	return settings_n;
}

/* What an accepted configuration promises. */
static void
fuzz_check_config(struct config *c)
{
	const struct config_option *options = config_options();

	for (unsigned i = 0; i < OPTION__N; i++)
		MUST(config_value_equal(options[i].type, (char *)c + options[i].at,
			(char *)c + options[i].at));
	MUST(c->cache_dir != NULL && c->workers >= 1 && c->connect_timeout > 0);
	MUST(c->cache_max.percent <= 100 && c->connect <= CONNECT_REFUSE);
	MUST(config_for_upstream(c, SLICE("a.example"))->upstream_connections >= 1);
	MUST(config_for_upstream(c, SLICE("a.example")) ==
		config_for_upstream(c, SLICE("a.example")));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char *said, *warned, *copy, *settings[FUZZ_SETTINGS_MAX];
	struct strlist list = {settings, 0};
	size_t said_n, warned_n;
	struct config *c;

	if (n == 0)
		return 0;
	list.n = fuzz_settings(data, n, &copy, settings);
	for (unsigned as_settings = 0; as_settings < 2; as_settings++) {
		FILE *errors = open_memstream(&said, &said_n);
		FILE *warnings = open_memstream(&warned, &warned_n);
		FILE *in = fmemopen((void *)(uintptr_t)data, n, "r");

		c = config_load_stream(as_settings ? NULL : in, "x", as_settings ? &list : NULL, NULL,
			errors, warnings);
		fclose(in);
		fclose(errors);
		fclose(warnings);
		MUST((c == NULL) == (said_n != 0));
		fuzz_check_messages(said, said_n);
		fuzz_check_messages(warned, warned_n);
		if (c != NULL) {
			fuzz_check_config(c);
			config_free(&c);
		}
		free(said);
		free(warned);
	}
	free(copy);
	return 0;
}
