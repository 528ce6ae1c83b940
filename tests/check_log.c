/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The log: formats, escaping, reopening, a reader that stopped, forks, panics. */
#include "include/log.h"

#include "include/counter.h"
#include "proxy/log_priv.h"
#include "proxy/panic.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

Suite *check_log_suite(void);

static char log_dir[] = "/tmp/check_log.XXXXXX";
static char log_path[64], access_path[64], other_path[64];

static void
log_setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(log_dir));
	snprintf(log_path, sizeof(log_path), "%s/log", log_dir);
	snprintf(access_path, sizeof(access_path), "%s/access", log_dir);
	snprintf(other_path, sizeof(other_path), "%s/other", log_dir);
}

static void
log_teardown(void)
{
	log_close();
	unlink(log_path);
	unlink(access_path);
	unlink(other_path);
	rmdir(log_dir);
}

/* What a file holds; "" where there is none. Valid until the next call. */
static const char *
file_text(const char *path)
{
	static char text[4 << 20];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

/* Does the text match the extended regular expression as a whole? */
static void
assert_matches(const char *text, const char *pattern)
{
	regex_t re;
	char whole[2048];

	snprintf(whole, sizeof(whole), "^%s$", pattern);
	ck_assert_int_eq(regcomp(&re, whole, REG_EXTENDED | REG_NOSUB), 0);
	ck_assert_msg(regexec(&re, text, 0, NULL, 0) == 0, "%s\ndoes not match\n%s", text, whole);
	regfree(&re);
}

#define TIME "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z"

static const struct log_access whole_request = {
	.req_id = 17, .flight_id = 5, .client = "10.0.0.1",
	.method = {"GET", 3}, .url = {"https://a.example/b c\"d", 23},
	.user_agent = {"Debian \"APT\"\n", 13}, .status = 200, .body_bytes = 6000000000,
	.total_bytes = 6000000001, .wait_ms = 3, .total_ms = 41,
	.cache = "apt-depot; fwd=uri-miss; stored", .end = "done",
};
static const struct log_access cut_request = {
	.req_id = 18, .client = "::1", .total_bytes = -1, .end = "CLIENT_RESET",
};

START_TEST(test_text)
{
	ck_assert_int_eq(log_open(log_path, access_path, LOG_INFO, LOG_TEXT), 0);
	ck_assert(log_access_enabled());
	ck_assert(!log_enabled(LOG_DEBUG));
	log_debug("not shown");
	log_info("req=%d flight=%d started\n", 17, 5);
	log_warning("one\ntwo \x1b[31m caf\xc3\xa9 \xff \xc2\x9b");
	log_access_line(&whole_request);
	log_access_line(&cut_request);
	log_close();
	ck_assert(!log_access_enabled());
	assert_matches(file_text(log_path),
		TIME " info  req=17 flight=5 started\n"
		TIME " warning one\\\\ntwo \\\\x1b\\[31m caf\xc3\xa9 \\\\xff \\\\xc2\\\\x9b\n");
	assert_matches(file_text(access_path),
		"time=" TIME " client=10\\.0\\.0\\.1 req=17 flight=5 method=GET status=200 "
		"bytes=6000000000 total=6000000001 wait_ms=3 ms=41 "
		"cache=\"apt-depot; fwd=uri-miss; stored\" end=done "
		"url=https://a\\.example/b\\\\x20c\\\\x22d agent=\"Debian \\\\\"APT\\\\\"\\\\n\"\n"
		"time=" TIME " client=::1 req=18 flight=- method=- status=- bytes=0 total=- "
		"wait_ms=0 ms=0 cache=\"\" end=CLIENT_RESET url=- agent=\"\"\n");
}
END_TEST

START_TEST(test_json)
{
	ck_assert_int_eq(log_open(log_path, access_path, LOG_DEBUG, LOG_JSON), 0);
	log_debug("req=17 flight=5 said \"no\" \\ \t\xff caf\xc3\xa9");
	log_error("req=x and flight=5 later");
	log_access_line(&whole_request);
	log_access_line(&cut_request);
	log_close();
	assert_matches(file_text(log_path),
		"\\{\"ts\":\"" TIME "\",\"level\":\"debug\",\"req\":17,\"flight\":5,"
		"\"msg\":\"said \\\\\"no\\\\\" \\\\\\\\ \\\\u0009\\\\ufffd caf\xc3\xa9\"\\}\n"
		"\\{\"ts\":\"" TIME "\",\"level\":\"error\","
		"\"msg\":\"req=x and flight=5 later\"\\}\n");
	assert_matches(file_text(access_path),
		"\\{\"ts\":\"" TIME "\",\"level\":\"info\",\"msg\":\"request\","
		"\"client\":\"10\\.0\\.0\\.1\",\"req\":17,\"flight\":5,\"method\":\"GET\","
		"\"status\":200,\"bytes\":6000000000,\"total\":6000000001,\"wait_ms\":3,\"ms\":41,"
		"\"cache\":\"apt-depot; fwd=uri-miss; stored\",\"end\":\"done\","
		"\"url\":\"https://a\\.example/b c\\\\\"d\","
		"\"agent\":\"Debian \\\\\"APT\\\\\"\\\\u000a\"\\}\n"
		"\\{\"ts\":\"" TIME "\",\"level\":\"info\",\"msg\":\"request\",\"client\":\"::1\","
		"\"req\":18,\"flight\":null,\"method\":\"\",\"status\":null,\"bytes\":0,"
		"\"total\":null,\"wait_ms\":0,\"ms\":0,\"cache\":\"\",\"end\":\"CLIENT_RESET\","
		"\"url\":\"\",\"agent\":\"\"\\}\n");
}
END_TEST

/* What goes in, in which place of a line, and what must come out. */
static const struct {
	const char *in;
	enum log_escape how;
	const char *out;
} escape_cases[] = {
	{"", LOG_ESCAPE_BARE, ""},
	{"a b\"c\\d", LOG_ESCAPE_LINE, "a b\"c\\d"},
	{"a b\"c\\d", LOG_ESCAPE_BARE, "a\\x20b\\x22c\\x5cd"},
	{"a b\"c\\d", LOG_ESCAPE_QUOTED, "a b\\\"c\\\\d"},
	{"a b\"c\\d", LOG_ESCAPE_JSON, "a b\\\"c\\\\d"},
	{"\r\n\t\x7f", LOG_ESCAPE_LINE, "\\x0d\\n\\x09\\x7f"},
	{"\r\n\t\x7f", LOG_ESCAPE_JSON, "\\u000d\\u000a\\u0009\\u007f"},
	{"\xe2\x82\xac", LOG_ESCAPE_LINE, "\xe2\x82\xac"},
	{"\xf0\x9f\x93\xa6", LOG_ESCAPE_JSON, "\xf0\x9f\x93\xa6"},
	{"\xc0\xaf", LOG_ESCAPE_LINE, "\\xc0\\xaf"},			/* overlong */
	{"\xe0\x80\xaf", LOG_ESCAPE_JSON, "\\ufffd\\ufffd\\ufffd"},	/* overlong */
	{"\xed\xa0\x80", LOG_ESCAPE_LINE, "\\xed\\xa0\\x80"},		/* half a surrogate pair */
	{"\xf4\x90\x80\x80", LOG_ESCAPE_LINE, "\\xf4\\x90\\x80\\x80"},	/* beyond Unicode */
	{"\xc2\x85", LOG_ESCAPE_LINE, "\\xc2\\x85"},			/* C1: next line */
	{"\xe2\x82", LOG_ESCAPE_BARE, "\\xe2\\x82"},			/* cut short */
};

START_TEST(test_escape)
{
	char text[64];
	struct log_out out = {text, 0, sizeof(text) - 1};

	log_escape_put(&out, slice_of(escape_cases[_i].in), escape_cases[_i].how, sizeof(text));
	text[out.n] = '\0';
	ck_assert_str_eq(text, escape_cases[_i].out);
}
END_TEST

/* Lines have an end, however long what is in them. */
START_TEST(test_long)
{
	static char big[100000];
	struct log_access a = whole_request;
	const char *line;
	FILE *out;

	memset(big, '\x01', sizeof(big) - 1);
	a.url = a.user_agent = a.method = slice_of(big);
	a.client = a.cache = a.end = big;
	for (int format = LOG_TEXT; format <= LOG_JSON; format++) {
		if ((out = fopen(access_path, "w")) != NULL)
			fclose(out);
		ck_assert_int_eq(log_open(log_path, access_path, LOG_INFO, (enum log_format)format),
			0);
		log_info("%s", big);
		log_access_line(&a);
		log_close();
		line = file_text(access_path);
		ck_assert_uint_lt(strlen(line), LOG_LINE_BYTES);
		ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
		ck_assert_ptr_nonnull(strstr(line, "...\""));
		ck_assert_ptr_nonnull(strstr(line, format == LOG_JSON ? "\"}\n" : "\"\n"));
	}
	line = file_text(log_path);
	ck_assert_ptr_nonnull(strstr(line, "\"}\n"));
}
END_TEST

START_TEST(test_reopen)
{
	ck_assert_int_eq(log_open(log_path, access_path, LOG_INFO, LOG_TEXT), 0);
	log_info("before");
	ck_assert_int_eq(rename(log_path, other_path), 0);
	log_reopen();
	log_info("after");
	log_close();
	/* What waited when the file was moved may be in either. */
	ck_assert_ptr_nonnull(strstr(file_text(log_path), " after\n"));
	ck_assert_ptr_null(strstr(file_text(other_path), " after\n"));
}
END_TEST

START_TEST(test_open_again)
{
	ck_assert_int_eq(log_open(log_path, NULL, LOG_ERROR, LOG_TEXT), 0);
	ck_assert(!log_access_enabled());
	log_info("not shown");
	ck_assert_int_eq(log_open(log_path, access_path, LOG_DEBUG, LOG_JSON), 0);
	log_debug("shown");
	log_access_line(&cut_request);
	ck_assert_int_eq(log_open(log_path, NULL, LOG_DEBUG, LOG_JSON), 0);
	log_access_line(&whole_request);
	log_close();
	ck_assert_ptr_null(strstr(file_text(log_path), "not shown"));
	ck_assert_ptr_nonnull(strstr(file_text(log_path), "\"msg\":\"shown\""));
	ck_assert_ptr_nonnull(strstr(file_text(access_path), "\"req\":18"));
	ck_assert_ptr_null(strstr(file_text(access_path), "\"req\":17"));
}
END_TEST

START_TEST(test_open_fails)
{
	ck_assert_int_eq(log_open("/nonexistent/log", NULL, LOG_INFO, LOG_TEXT), ENOENT);
	ck_assert_int_eq(log_open(log_path, log_dir, LOG_INFO, LOG_TEXT), EISDIR);
	ck_assert(!log_access_enabled());
	/* Still usable. */
	ck_assert_int_eq(log_open(log_path, NULL, LOG_INFO, LOG_TEXT), 0);
	ck_assert_int_eq(log_open("/nonexistent/log", NULL, LOG_INFO, LOG_TEXT), ENOENT);
	/* Both or none: the first could be opened. */
	ck_assert_int_eq(log_open(other_path, log_dir, LOG_INFO, LOG_TEXT), EISDIR);
	log_info("kept");
	log_close();
	ck_assert_ptr_nonnull(strstr(file_text(log_path), " kept\n"));
	ck_assert_ptr_null(strstr(file_text(other_path), " kept\n"));
}
END_TEST

START_TEST(test_reopen_fails)
{
	char lost_dir[sizeof(log_dir) + 8], lost[sizeof(lost_dir) + 8];
	int err = dup(STDERR_FILENO), fd = open(other_path, O_WRONLY | O_CREAT | O_APPEND, 0600);

	ck_assert(err >= 0 && fd >= 0 && dup2(fd, STDERR_FILENO) >= 0);
	snprintf(lost_dir, sizeof(lost_dir), "%s/gone", log_dir);
	snprintf(lost, sizeof(lost), "%s/log", lost_dir);
	ck_assert_int_eq(mkdir(lost_dir, 0700), 0);
	ck_assert_int_eq(log_open(lost, NULL, LOG_INFO, LOG_TEXT), 0);
	ck_assert_int_eq(unlink(lost), 0);
	ck_assert_int_eq(rmdir(lost_dir), 0);
	log_reopen();
	log_info("after it");
	log_close();
	ck_assert(dup2(err, STDERR_FILENO) >= 0);
	close(err);
	close(fd);
	ck_assert_ptr_nonnull(strstr(file_text(other_path), "log_file = "));
	ck_assert_ptr_nonnull(strstr(file_text(other_path), "until then messages go to stderr\n"));
	ck_assert_ptr_nonnull(strstr(file_text(other_path), " after it\n"));
}
END_TEST

START_TEST(test_file_mode)
{
	struct stat st;

	umask(0);
	ck_assert_int_eq(log_open(log_path, NULL, LOG_INFO, LOG_TEXT), 0);
	ck_assert_int_eq(stat(log_path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0640);
}
END_TEST

/* Reads a pipe to its end and counts lines. */
static void *
drain_thread(void *arg)
{
	static char chunk[65536];
	int fd = *(const int *)arg;
	uintptr_t lines_n = 0;
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) > 0)
		for (ssize_t i = 0; i < n; i++)
			lines_n += chunk[i] == '\n';
	return (void *)lines_n;
}

/* A log that nobody reads stops nobody; what is lost is counted, and said. */
START_TEST(test_slow_reader)
{
	enum { LINES = 20000 };
	int64_t dropped;
	pthread_t drain;
	void *lines_n;
	int fd;

	ck_assert_int_eq(mkfifo(log_path, 0600), 0);
	fd = open(log_path, O_RDONLY | O_NONBLOCK);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(log_open(log_path, NULL, LOG_INFO, LOG_TEXT), 0);
	for (unsigned i = 0; i < LINES; i++)
		log_info("%0200u", i);
	dropped = counter_read(COUNTER_log_lines_dropped_total);
	/* A pipe holds 64 KiB and the log 1 MiB of these 4.6 MB. */
	ck_assert_int_gt(dropped, LINES / 2);
	ck_assert_int_eq(fcntl(fd, F_SETFL, 0), 0);
	ck_assert_int_eq(pthread_create(&drain, NULL, drain_thread, &fd), 0);
	log_close();
	ck_assert_int_eq(pthread_join(drain, &lines_n), 0);
	/* One more: the note about those that are missing. */
	ck_assert_uint_eq((uintptr_t)lines_n, (uintptr_t)(LINES - dropped + 1));
	ck_assert_int_eq(counter_read(COUNTER_log_lines_dropped_total), dropped);
	close(fd);
}
END_TEST

/* A log that can't be written is not tried again and again for a note that says so. */
START_TEST(test_full_disk)
{
	const struct timespec pause = {0, 30 * 1000 * 1000};
	int64_t before = counter_read(COUNTER_log_lines_dropped_total);

	ck_assert_int_eq(log_open("/dev/full", NULL, LOG_INFO, LOG_TEXT), 0);
	log_info("one");
	while (counter_read(COUNTER_log_lines_dropped_total) == before)
		nanosleep(&pause, NULL);
	nanosleep(&pause, NULL);	/* time for a note that should not come */
	ck_assert_int_eq(log_open(log_path, NULL, LOG_INFO, LOG_TEXT), 0);
	log_info("two");
	log_close();
	ck_assert_int_eq(counter_read(COUNTER_log_lines_dropped_total), before + 1);
	ck_assert_ptr_nonnull(strstr(file_text(log_path), "1 log lines dropped"));
}
END_TEST

/* Lines of several threads come whole and in each thread's order. */
static void *
chatter_thread(void *arg)
{
	for (unsigned i = 0; i < 500; i++)
		log_info("req=%u n%03u", *(unsigned *)arg, i);
	return NULL;
}

START_TEST(test_threads)
{
	unsigned numbers[4] = {0, 1, 2, 3}, next[4] = {0}, who, n, lines_n = 0;
	pthread_t threads[4];
	char *text, *line, *save = NULL;

	ck_assert_int_eq(log_open(log_path, NULL, LOG_INFO, LOG_TEXT), 0);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, chatter_thread, &numbers[i]), 0);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	log_close();
	text = strdup(file_text(log_path));
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		ck_assert_int_eq(sscanf(line, "%*s info req=%u n%u", &who, &n), 2);
		ck_assert_uint_lt(who, 4);
		ck_assert_uint_eq(n, next[who]++);
		lines_n++;
	}
	free(text);
	ck_assert_uint_eq(lines_n, 2000);
}
END_TEST

START_TEST(test_fork)
{
	int status;
	pid_t pid;

	ck_assert_int_eq(log_open(log_path, NULL, LOG_INFO, LOG_TEXT), 0);
	log_info("parent one");
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		log_info("child");
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	log_info("parent two");
	log_close();
	/* Each once: lines that waited in the parent are not written by the child too. */
	ck_assert_ptr_nonnull(strstr(file_text(log_path), " child\n"));
	ck_assert_ptr_nonnull(strstr(file_text(log_path), " parent one\n"));
	ck_assert_ptr_nonnull(strstr(file_text(log_path), " parent two\n"));
	ck_assert_uint_eq(strlen(file_text(log_path)),
		3 * 31 + strlen("child\nparent one\nparent two\n"));
}
END_TEST

START_TEST(test_errno_kept)
{
	ck_assert_int_eq(log_open(log_path, NULL, LOG_INFO, LOG_TEXT), 0);
	errno = ENOSPC;
	log_info("x");
	ck_assert_int_eq(errno, ENOSPC);
}
END_TEST

/* ---- panic ---- */

static void
describe_seven(const void *obj, char *out, size_t cap)
{
	snprintf(out, cap, "number %d", *(const int *)obj);
}

static void
fail_assertion(void)
{
	MUST(1 + 1 == 3);
}

static void
fail_memory(void)
{
	raise(SIGSEGV);
}

static const struct {
	void (*die)(void);
	int sig;
	const char *says;
} panic_cases[] = {
	{fail_assertion, SIGABRT, "this should be true: 1 + 1 == 3"},
	{fail_memory, SIGSEGV, "panic: signal 11 (SEGV)"},
};

/* The report is in the log, behind what was logged before, and the process ends by the signal. */
START_TEST(test_panic)
{
	static const int seven = 7;
	const char *text;
	int status, null = open("/dev/null", O_WRONLY);
	pid_t pid;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	if (panic_cases[_i].sig == SIGSEGV)
		return;		/* theirs */
#endif
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
		dup2(null, STDERR_FILENO);
		panic_init();
		if (log_open(log_path, NULL, LOG_INFO, LOG_TEXT) != 0)
			_exit(1);
		log_info("just before");
		panic_works_on("conn", &seven, describe_seven);
		panic_cases[_i].die();
		_exit(2);
	}
	close(null);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), panic_cases[_i].sig);
	text = file_text(log_path);
	ck_assert_ptr_nonnull(strstr(text, panic_cases[_i].says));
	ck_assert_ptr_nonnull(strstr(text, " just before\n"));
	ck_assert_ptr_nonnull(strstr(text, "panic: working on conn "));
	ck_assert_ptr_nonnull(strstr(text, " number 7\n"));
	ck_assert_ptr_nonnull(strstr(text, "[0x"));
}
END_TEST

Suite *
check_log_suite(void)
{
	Suite *s = suite_create("log");
	TCase *tc = tcase_create("lines");

	tcase_add_checked_fixture(tc, log_setup, log_teardown);
	tcase_add_test(tc, test_text);
	tcase_add_test(tc, test_json);
	tcase_add_loop_test(tc, test_escape, 0, NELEM(escape_cases));
	tcase_add_test(tc, test_long);
	tcase_add_test(tc, test_errno_kept);
	suite_add_tcase(s, tc);

	tc = tcase_create("files");
	tcase_add_checked_fixture(tc, log_setup, log_teardown);
	tcase_add_test(tc, test_reopen);
	tcase_add_test(tc, test_open_again);
	tcase_add_test(tc, test_open_fails);
	tcase_add_test(tc, test_reopen_fails);
	tcase_add_test(tc, test_file_mode);
	tcase_add_test(tc, test_slow_reader);
	tcase_add_test(tc, test_full_disk);
	tcase_add_test(tc, test_threads);
	tcase_add_test(tc, test_fork);
	tcase_add_loop_test(tc, test_panic, 0, NELEM(panic_cases));
	suite_add_tcase(s, tc);
	return s;
}
