/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */

/*
 * Runs the unit tests: build/check [SUITE]...
 *
 * Each tests/check_NAME.c defines one suite function, check_NAME_suite; the Makefile writes their
 * names into check_suites.h.  Without arguments all suites run.  CK_FORK=no keeps a test in this
 * process, for debuggers.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK_SUITE(name) Suite *check_##name##_suite(void);
#include "check_suites.h"
#undef CHECK_SUITE

struct check_suite {
	const char *name;
	Suite *(*make)(void);
};

static const struct check_suite check_suites[] = {
#define CHECK_SUITE(name) { #name, check_##name##_suite },
#include "check_suites.h"
#undef CHECK_SUITE
	{ NULL, NULL }
};

/* Is this suite among the names on the command line, or are there none? */
static int check_is_wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(name, argv[i]) == 0)
			return 1;
	return argc < 2;
}

/* A name that no suite has is a mistake of the caller's, not an empty run. */
static int check_knows(const char *name)
{
	for (const struct check_suite *s = check_suites; s->name != NULL; s++)
		if (strcmp(s->name, name) == 0)
			return 1;
	return 0;
}

/* A test's process need not tidy up the libraries: that took most of its time. */
#ifndef __SANITIZE_ADDRESS__
static void check_exit_at_once(int status, void *parent)
{
	if (getpid() == *(const pid_t *)parent)
		return;
	(void)fflush(NULL);
	_exit(status);
}
#endif

int main(int argc, char **argv)
{
	SRunner *runner = srunner_create(NULL);
	int failed_n;
#ifndef __SANITIZE_ADDRESS__
	static pid_t self;

	self = getpid();
	(void)on_exit(check_exit_at_once, &self);
#endif

	for (int i = 1; i < argc; i++) {
		if (!check_knows(argv[i])) {
			fprintf(stderr, "check: no suite named %s; there are:", argv[i]);
			for (const struct check_suite *s = check_suites; s->name != NULL; s++)
				fprintf(stderr, " %s", s->name);
			fprintf(stderr, "\n");
			srunner_free(runner);
			return EXIT_FAILURE;
		}
	}
	for (const struct check_suite *s = check_suites; s->name != NULL; s++)
		if (check_is_wanted(s->name, argc, argv))
			srunner_add_suite(runner, s->make());
	srunner_run_all(runner, CK_ENV);
	failed_n = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed_n == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
