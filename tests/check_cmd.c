/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The command line's parser, and that the table of commands is in order. */
#include "proxy/cmd.h"

#include <check.h>
#include <stdlib.h>

Suite *check_cmd_suite(void);

enum { ARGS_MAX = 8 };

/* What a command line means: settings, options and words joined with blanks. */
static const struct {
	const char *argv[ARGS_MAX];
	const char *name, *file, *settings, *options, *words;
} good[] = {
	{{"serve"}, "serve", NULL, "", "", ""},
	{{"serve", "-c", "f", "-o", "a=1", "-ob=2"}, "serve", "f", "a=1 b=2", "", ""},
	{{"serve", "-cf"}, "serve", "f", "", "", ""},
	{{"ls"}, "ls", NULL, "", "", ""},
	{{"ls", "x", "--json"}, "ls", NULL, "", "json", "x"},
	{{"ls", "--json", "-c", "f", "x"}, "ls", "f", "", "json", "x"},
	{{"ls", "--", "--json"}, "ls", NULL, "", "", "--json"},
	{{"ls", "-"}, "ls", NULL, "", "", "-"},
	{{"ls", ""}, "ls", NULL, "", "", ""},
	{{"apt-conf", "--proxy", "u"}, "apt-conf", NULL, "", "proxy=u", ""},
	{{"apt-conf", "--proxy=u"}, "apt-conf", NULL, "", "proxy=u", ""},
	{{"apt-conf", "--proxy="}, "apt-conf", NULL, "", "proxy=", ""},
	{{"apt-conf", "--proxy", "--json"}, "apt-conf", NULL, "", "proxy=--json", ""},
	{{"sources", "a", "--all", "b", "--backup", ".x", "c"}, "sources", NULL, "", "all backup=.x",
	    "a b c"},
	{{"ls", "-h", "--no-such"}, "help", NULL, "", "", "ls"},
	{{"ls", "x", "--help"}, "help", NULL, "", "", "ls"},
	{{"serve", "-h"}, "help", NULL, "", "", ""},
	{{"serve", "-V"}, "version", NULL, "", "", ""},
	{{"serve", "--version"}, "version", NULL, "", "", ""},
};

/* What is refused, and a word of why. */
static const struct {
	const char *argv[ARGS_MAX];
	const char *word;
} bad[] = {
	{{"dance"}, "dance"}, {{""}, "unknown command"}, {{"lss"}, "lss"},
	{{"ls", "a", "b"}, "too many"}, {{"cat"}, "URL"}, {{"cat", "--"}, "URL"},
	{{"status", "x"}, "too many"}, {{"ls", "--all"}, "--all"}, {{"ls", "--jso"}, "--jso"},
	{{"ls", "--json=1"}, "no value"}, {{"ls", "--="}, "--="}, {{"ls", "-x"}, "-x"},
	{{"ls", "-jx"}, "-jx"}, {{"ls", "-c"}, "-c"}, {{"ls", "-o"}, "-o"}, {{"ls", "-c", ""}, "-c"},
	{{"ls", "-hx"}, "-hx"}, {{"apt-conf", "--proxy"}, "--proxy"}, {{"serve", "now"}, "now"},
	{{"apt-conf", "--prox", "u"}, "--prox"}, {{"ls", "--json "}, "--json "},
};

static int
count(const char *const *argv)
{
	int n = 0;

	while (n < ARGS_MAX && argv[n] != NULL)
		n++;
	return n;
}

static void
expect_joined(const struct strlist *list, const char *want)
{
	char text[256] = "";
	size_t i;

	for (i = 0; i < list->n; i++) {
		if (i > 0)
			(void)strcat(text, " ");
		(void)strcat(text, list->v[i]);
	}
	ck_assert_str_eq(text, want);
}

/* argv as the C library gives it: writable. */
static int
parse(struct cmd_call *call, const char *const *argv, FILE *errors)
{
	char *copy[ARGS_MAX];
	int i, n = count(argv), status;

	for (i = 0; i < n; i++)
		copy[i] = (char *)(uintptr_t)argv[i];
	status = cmd_parse(call, n, copy, errors);
	return status;
}

START_TEST(test_good)
{
	struct cmd_call call;

	ck_assert_int_eq(parse(&call, good[_i].argv, stderr), CMD_OK);
	ck_assert_str_eq(call.cmd->name, good[_i].name);
	ck_assert_pstr_eq(call.file, good[_i].file);
	expect_joined(&call.settings, good[_i].settings);
	expect_joined(&call.options, good[_i].options);
	expect_joined(&call.words, good[_i].words);
	ck_assert_int_eq(call.json, strcmp(good[_i].options, "json") == 0);
	cmd_call_fini(&call);
}
END_TEST

START_TEST(test_bad)
{
	struct cmd_call call;
	char *text = NULL;
	size_t n = 0;
	FILE *errors = open_memstream(&text, &n);

	ck_assert_int_eq(parse(&call, bad[_i].argv, errors), CMD_USAGE);
	ck_assert_int_eq(fclose(errors), 0);
	ck_assert_msg(strstr(text, bad[_i].word) != NULL, "no \"%s\" in: %s", bad[_i].word, text);
	ck_assert_ptr_nonnull(strstr(text, "apt-depot: "));
	free(text);
}
END_TEST

START_TEST(test_options)
{
	const char *argv[ARGS_MAX] = {"sources", "--backup", "a", "--all", "--backup=b"};
	struct cmd_call call;

	ck_assert_int_eq(parse(&call, argv, stderr), CMD_OK);
	ck_assert_str_eq(cmd_option(&call, "all"), "");
	ck_assert_str_eq(cmd_option(&call, "backup"), "b");
	ck_assert_ptr_null(cmd_option(&call, "back"));
	ck_assert_ptr_null(cmd_option(&call, "to-https"));
	ck_assert_ptr_null(cmd_word(&call, 0));
	cmd_call_fini(&call);
}
END_TEST

/* Each line of the table: in words, and short enough for its list. */
START_TEST(test_table)
{
	static const struct cmd table[] = {
#define X(id, where, name, least, most, options, usage, help, more)            \
		{CMD_##id, CMD_##where, name, least, most, options, usage, help, more},
#include "proxy/command.def"
#undef X
	};
	const struct cmd *c = &table[_i];
	const char *p;

	ck_assert_uint_eq(sizeof(table) / sizeof(table[0]), CMD__N);
	ck_assert_uint_le(c->least, c->most);
	ck_assert_uint_le(strlen(c->name), 12);
	ck_assert_uint_le(strlen(c->help), 64);
	ck_assert(c->help[0] >= 'a' && c->help[0] <= 'z');
	ck_assert_int_ne(c->help[strlen(c->help) - 1], '.');
	if (c->more[0] != '\0')
		ck_assert_int_eq(c->more[strlen(c->more) - 1], '.');
	/* Every option that is shown is one that is known. */
	for (p = strstr(c->usage, "--"); p != NULL; p = strstr(p + 2, "--")) {
		char name[32];

		ck_assert_int_eq(sscanf(p + 2, "%31[a-z-]", name), 1);
		ck_assert_msg(strstr(c->options, name) != NULL, "%s: --%s", c->name, name);
	}
}
END_TEST

Suite *
check_cmd_suite(void)
{
	Suite *s = suite_create("cmd");
	TCase *tc = tcase_create("parse");

	tcase_add_loop_test(tc, test_good, 0, (int)(sizeof(good) / sizeof(good[0])));
	tcase_add_loop_test(tc, test_bad, 0, (int)(sizeof(bad) / sizeof(bad[0])));
	tcase_add_test(tc, test_options);
	tcase_add_loop_test(tc, test_table, 0, CMD__N);
	suite_add_tcase(s, tc);
	return s;
}
