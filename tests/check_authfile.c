/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Files of upstream credentials: what is read, what is refused, which entry fits which URL. */
#include "proxy/authfile.h"

#include <check.h>
#include <openssl/evp.h>
#include <stdlib.h>

Suite *check_authfile_suite(void);

static char why[AUTHFILE_WHY_BYTES];

static struct authfile *
read_text(const char *text)
{
	FILE *in = fmemopen((void *)(uintptr_t)(text[0] != '\0' ? text : "\n"),
	    text[0] != '\0' ? strlen(text) : 1, "r");
	struct authfile *af;

	ck_assert_ptr_nonnull(in);
	why[0] = '\0';
	af = authfile_read(in, why);
	fclose(in);
	return af;
}

static const struct {
	const char *file, *url, *value;		/* NULL: none; "clear": not in clear text */
} rows[] = {
	{"machine h.example login u password p", "https://h.example/x", "Basic dTpw"},
	{"machine H.Example\n\tlogin u\n\tpassword p\n", "https://h.example/x", "Basic dTpw"},
	{"machine h.example password p login u", "https://h.example:8443/x", "Basic dTpw"},
	{"machine h.example login u password p", "https://x.h.example/x", NULL},
	{"machine h.example login u password p", "https://h.example.evil.test/x", NULL},
	{"machine h.example login u password p", "http://h.example/x", "clear"},
	{"machine https://h.example login u password p", "http://h.example/x", "clear"},
	{"machine http://h.example login u password p", "http://h.example/x", "Basic dTpw"},
	{"machine http://h.example login u password p", "https://h.example/x", NULL},
	{"machine h.example:443 login u password p", "https://h.example/x", "Basic dTpw"},
	{"machine h.example:443 login u password p", "https://h.example:8443/x", NULL},
	{"machine [2001:DB8::0:1] login u password p", "https://[2001:db8::1]/x", "Basic dTpw"},
	{"machine h.example/deb login u password p", "https://h.example/deb/x", "Basic dTpw"},
	{"machine h.example/deb login u password p", "https://h.example/deb", "Basic dTpw"},
	{"machine h.example/deb login u password p", "https://h.example/deb?q", "Basic dTpw"},
	{"machine h.example/deb login u password p", "https://h.example/debian/x", NULL},
	{"machine h.example/deb login u password p", "https://h.example/", NULL},
	{"machine h.example/deb/ login u password p", "https://h.example/deb/x", "Basic dTpw"},
	{"machine h.example/ login u password p", "https://h.example/any", "Basic dTpw"},
	{"machine h.example/a login a password 1 machine h.example login b password 2",
	    "https://h.example/b", "Basic Yjoy"},
	{"machine h.example login a password 1 machine h.example login b password 2",
	    "https://h.example/b", "Basic YTox"},
	{"# machine h.example login no password no\nmachine h.example # x\n login u password p#",
	    "https://h.example/", "Basic dTpwIw=="},
	{"machine h.example login \"\" password \"a \\\"b\\\\\"", "https://h.example/",
	    "Basic OmEgImJc"},
	{"", "https://h.example/", NULL},
	{"\n \r\n# nothing\n", "https://h.example/", NULL},
};

START_TEST(finds_the_entry)
{
	struct authfile *af = read_text(rows[_i].file);
	const char *value = NULL, *want = rows[_i].value;
	char memory[512];
	enum authfile_match m;
	struct arena a;
	struct url url;

	ck_assert_msg(af != NULL, "%s: %s", rows[_i].file, why);
	arena_init(&a, memory, sizeof(memory));
	ck_assert_int_eq(url_parse(&url, &a, slice_of(rows[_i].url)), REASON_OK);
	m = authfile_find(af, &url, &value);
	if (want == NULL)
		ck_assert_msg(m == AUTHFILE_NONE, "%s: %s", rows[_i].file, rows[_i].url);
	else if (strcmp(want, "clear") == 0)
		ck_assert_msg(m == AUTHFILE_CLEAR, "%s: %s", rows[_i].file, rows[_i].url);
	else {
		ck_assert_msg(m == AUTHFILE_FOUND, "%s: %s", rows[_i].file, rows[_i].url);
		ck_assert_str_eq(value, want);
	}
	authfile_free(&af);
	ck_assert_ptr_null(af);
}
END_TEST

static const struct {
	const char *file, *says;
} bad[] = {
	{"machine", "line 1: machine is not followed by a host"},
	{"\n\nmachine ftp://h.example login u password hunter2", "line 3: machine is not"},
	{"machine u@h.example login u password hunter2", "line 1: machine is not"},
	{"machine h.example:x login u password hunter2", "line 1: machine is not"},
	{"machine h.example", "line 1: no login or no password"},
	{"machine h.example login u", "line 1: no login or no password"},
	{"machine h.example login u password", "line 1: no login or no password"},
	{"machine h.example\nlogin u\npassword hunter2 hunter2", "line 3: a word that is not"},
	{"machine h.example login u login v password hunter2", "line 1: a word that is not"},
	{"machine h.example login u account hunter2 password hunter2", "line 1: a word that"},
	{"machine h.example login u:v password hunter2", "line 1: the login has a colon"},
	{"default login u password hunter2", "line 1: default would send"},
	{"hunter2", "line 1: an entry begins with machine"},
	{"machine a.example login u password p\nhunter2", "line 2: a word that is not"},
	{"machine a.example login u\npassword \"hunter2\nmachine b.example login u password hunter2\n",
	    "line 2: a quote that nothing closes"},
	{"machine a.example login u password \"hunter2\\\"", "line 1: a quote that nothing"},
};

START_TEST(refuses_bad_files)
{
	ck_assert_msg(read_text(bad[_i].file) == NULL, "%s", bad[_i].file);
	ck_assert_msg(strstr(why, bad[_i].says) == why, "%s: %s", bad[_i].file, why);
	ck_assert_ptr_null(strstr(why, "hunter2"));
}
END_TEST

START_TEST(refuses_long_words)
{
	char text[4096];
	int n = snprintf(text, sizeof(text), "machine h.example login u password ");

	memset(text + n, 'x', sizeof(text) - (size_t)n - 1);
	text[sizeof(text) - 1] = '\0';
	ck_assert_ptr_null(read_text(text));
	ck_assert_ptr_nonnull(strstr(why, "more than 1024 bytes"));
}
END_TEST

/* Each escape once: what comes out may look like one. */
static const char *const userinfos[][2] = {
	{"us:pw", "us:pw"},
	{"us", "us:"},
	{"us:", "us:"},
	{":pw", ":pw"},
	{"us%40er:p%3Aw", "us@er:p:w"},
	{"u%2Cs:%23%25%2f%20", "u,s:#%/ "},
	{"us:a:b@c", "us:a:b@c"},
	{"us:%2541", "us:%41"},
	{"us:%zz%4", "us:%zz%4"},
	{"us:%", "us:%"},
};

START_TEST(makes_basic)
{
	const char *want = userinfos[_i][1];
	char *got = authfile_basic(slice_of(userinfos[_i][0]));
	unsigned char plain[64];
	int n = EVP_DecodeBlock(plain, (unsigned char *)got + 6, (int)strlen(got) - 6);

	ck_assert_int_eq(strncmp(got, "Basic ", 6), 0);
	ck_assert_int_ge(n, (int)strlen(want));
	ck_assert_int_eq(memcmp(plain, want, strlen(want)), 0);
	ck_assert_uint_eq(strlen(got), 6 + (strlen(want) + 2) / 3 * 4);
	free(got);
}
END_TEST

Suite *
check_authfile_suite(void)
{
	Suite *s = suite_create("authfile");
	TCase *t = tcase_create("authfile");

	tcase_add_loop_test(t, finds_the_entry, 0, NELEM(rows));
	tcase_add_loop_test(t, refuses_bad_files, 0, NELEM(bad));
	tcase_add_test(t, refuses_long_words);
	tcase_add_loop_test(t, makes_basic, 0, NELEM(userinfos));
	suite_add_tcase(s, t);
	return s;
}
