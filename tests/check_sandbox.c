/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The sandbox: each test enters it (Check runs a test in a process of its own) and tries what must
 * go on working and what must not. Where the kernel has no Landlock or seccomp the report says so,
 * and only the first part is looked at.
 */
#include "proxy/sandbox.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

Suite *check_sandbox_suite(void);

static char dir[] = "/tmp/depot-sandbox-XXXXXX";
static char report[SANDBOX_REPORT_BYTES];
static bool landlock, seccomp;

static const char *
below(const char *name)
{
	static char path[4][128];
	static unsigned n;
	char *p = path[n++ % 4];

	(void)snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static void
setup(void)
{
	int fd;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(mkdir(below("cache"), 0755), 0);
	ck_assert_int_eq(mkdir(below("cache/partial"), 0755), 0);
	ck_assert_int_eq(mkdir(below("log"), 0755), 0);
	ck_assert_int_eq(mkdir(below("other"), 0755), 0);
	fd = open(below("other/file"), O_CREAT | O_WRONLY, 0644);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(close(fd), 0);
}

static void
teardown(void)
{
	char command[64];

	(void)snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

/* As the daemon does it, with a cache and a log. */
static void
enter(void)
{
	struct sandbox sb = {.may_connect = true};

	sandbox_drop_rights();
	sandbox_allow(&sb, SANDBOX_READ, "/etc");
	sandbox_allow(&sb, SANDBOX_READ, "/usr");
	sandbox_allow(&sb, SANDBOX_READ, "/proc");
	sandbox_allow(&sb, SANDBOX_READ, "/no/such/path");
	sandbox_allow(&sb, SANDBOX_OWN, below("cache"));
	sandbox_allow(&sb, SANDBOX_READ, NULL);
	sandbox_allow_around(&sb, SANDBOX_APPEND, below("log/messages"));
	sandbox_enter(&sb, report);
	ck_assert_uint_eq(sb.paths_n, 0);
	landlock = strstr(report, "no Landlock") == NULL;
	seccomp = strstr(report, "no seccomp") == NULL;
	ck_assert_ptr_nonnull(strstr(report, "Landlock"));
	ck_assert_ptr_nonnull(strstr(report, "seccomp"));
}

static bool
can_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd >= 0)
		(void)close(fd);
	return fd >= 0;
}

/* What the daemon does with its files all day. */
START_TEST(test_cache_goes_on)
{
	int fd;

	enter();
	ck_assert(can_open(below("cache/partial/x"), O_CREAT | O_EXCL | O_RDWR));
	ck_assert_int_eq(mkdir(below("cache/blobs"), 0755), 0);
	ck_assert_int_eq(mkdir(below("cache/blobs/ab"), 0755), 0);
	ck_assert_int_eq(rename(below("cache/partial/x"), below("cache/blobs/ab/x")), 0);
	ck_assert_int_eq(truncate(below("cache/blobs/ab/x"), 100), 0);
	ck_assert(can_open(below("cache/blobs/ab/x"), O_RDONLY));
	fd = open(below("cache/partial"), O_TMPFILE | O_RDWR, 0644);
	if (fd >= 0)
		ck_assert_int_eq(close(fd), 0);
	ck_assert_int_eq(unlink(below("cache/blobs/ab/x")), 0);
	ck_assert_int_eq(rmdir(below("cache/blobs/ab")), 0);
	ck_assert_int_eq(rename(below("cache/blobs"), below("cache/set-aside")), 0);
	/* Rotation makes the log anew. */
	ck_assert(can_open(below("log/messages"), O_CREAT | O_WRONLY | O_APPEND));
	fd = memfd_create("memory", MFD_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, 100), 0);
	ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(test_other_files_are_gone)
{
	enter();
	if (!landlock)
		return;
	ck_assert(can_open("/etc/passwd", O_RDONLY));
	ck_assert(!can_open("/etc/passwd", O_RDWR));
	ck_assert(!can_open(below("other/file"), O_RDONLY));
	ck_assert_int_eq(errno, EACCES);
	ck_assert(!can_open(below("other/new"), O_CREAT | O_WRONLY));
	ck_assert_int_ne(unlink(below("other/file")), 0);
	ck_assert_int_ne(rename(below("cache/partial"), below("other/partial")), 0);
	ck_assert_int_ne(mkdir(below("log/dir"), 0755), 0);
	ck_assert_int_ne(symlink("/etc", below("cache/link")), 0);
}
END_TEST

static void *
thread_main(void *arg)
{
	return arg;
}

/* Names are resolved, connections made, threads and children started. */
START_TEST(test_network_goes_on)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
	int sock = socket(AF_INET, SOCK_STREAM, 0), out, status = -1;
	socklen_t n = sizeof(sin);
	pthread_t t;
	pid_t pid;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_eq(bind(sock, (struct sockaddr *)&sin, n), 0);
	ck_assert_int_eq(listen(sock, 1), 0);
	ck_assert_int_eq(getsockname(sock, (struct sockaddr *)&sin, &n), 0);
	enter();
	ck_assert_int_eq(getaddrinfo("localhost", "80", &hints, &list), 0);
	freeaddrinfo(list);
	out = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(connect(out, (struct sockaddr *)&sin, n), 0);
	ck_assert_int_ge(accept(sock, NULL, NULL), 0);
	ck_assert_int_ge(socket(AF_NETLINK, SOCK_RAW, 0), 0);
	ck_assert_int_ge(socket(AF_UNIX, SOCK_STREAM, 0), 0);
	ck_assert_int_eq(pthread_create(&t, NULL, thread_main, NULL), 0);
	ck_assert_int_eq(pthread_join(t, NULL), 0);
	pid = fork();
	if (pid == 0)
		_exit(7);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WEXITSTATUS(status), 7);
}
END_TEST

START_TEST(test_dangerous_calls_are_refused)
{
	char *const argv[] = {NULL};

	enter();
	if (!seccomp)
		return;
	ck_assert_int_eq(prctl(PR_GET_SECCOMP), 2);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	ck_assert_int_ne(execv("/bin/true", argv), 0);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_ne(ptrace(PTRACE_TRACEME, 0, NULL, NULL), 0);
	ck_assert_int_eq(errno, EPERM);
#else
	(void)argv;
#endif
	ck_assert_int_ne(unshare(CLONE_NEWUSER), 0);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_lt(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL), 0);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_lt(syscall(SYS_clone3, NULL, 0), 0);
	ck_assert_int_eq(errno, ENOSYS);
	ck_assert_int_ne(syscall(SYS_setuid, getuid()), 0);
	ck_assert_int_ne(mount("a", "/", "tmpfs", 0, NULL), 0);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_lt(socket(AF_PACKET, SOCK_RAW, 0), 0);
	ck_assert_int_eq(errno, EAFNOSUPPORT);
	ck_assert_int_lt(socket(AF_ALG, SOCK_SEQPACKET, 0), 0);
	ck_assert_int_eq(errno, EAFNOSUPPORT);
	ck_assert_int_lt(socket(99, SOCK_STREAM, 0), 0);
	ck_assert_int_eq(errno, EAFNOSUPPORT);
}
END_TEST

/* The helper's: programs, but no network. */
START_TEST(test_helper)
{
	struct sandbox sb = {.may_run = true};
	int status = -1;
	pid_t pid;

	sandbox_drop_rights();
	sandbox_allow(&sb, SANDBOX_RUN, "/usr");
	sandbox_allow(&sb, SANDBOX_RUN, "/bin");
	sandbox_allow(&sb, SANDBOX_RUN, "/lib");
	sandbox_allow(&sb, SANDBOX_RUN, "/lib64");
	sandbox_allow(&sb, SANDBOX_READ, "/etc");
	sandbox_allow(&sb, SANDBOX_READ, "/proc");	/* for the sanitizers */
	sandbox_enter(&sb, report);
	pid = fork();
	if (pid == 0) {
		(void)execl("/bin/true", "true", (char *)NULL);
		_exit(1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	if (strstr(report, "no seccomp") == NULL)
		ck_assert_int_lt(socket(AF_INET, SOCK_STREAM, 0), 0);
	if (strstr(report, "no Landlock") == NULL)
		ck_assert(!can_open(below("other/file"), O_RDONLY));
}
END_TEST

/* Whatever was possible before: no capability but those for files, no debugger, no core. */
START_TEST(test_rights)
{
	char line[256];
	unsigned long long eff = ~0ull;
	FILE *f;

	sandbox_drop_rights();
	ck_assert_int_eq(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	ck_assert_int_eq(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
	f = fopen("/proc/self/status", "r");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f) != NULL)
		(void)sscanf(line, "CapEff: %llx", &eff);
	(void)fclose(f);
	ck_assert_uint_eq(eff & ~0xeull, 0);
	if (geteuid() == 0)
		ck_assert_int_ne(chown(below("other/file"), 1, 1), 0);
}
END_TEST

/* More paths than there is room for: no Landlock, and it says so. */
START_TEST(test_too_many_paths)
{
	struct sandbox sb = {.may_connect = true};
	int i;

	for (i = 0; i <= SANDBOX_PATHS_MAX; i++)
		sandbox_allow(&sb, SANDBOX_READ, "/etc");
	sandbox_enter(&sb, report);
	ck_assert_ptr_nonnull(strstr(report, "no Landlock (too many paths)"));
	ck_assert(can_open(below("other/file"), O_RDONLY));
}
END_TEST

Suite *
check_sandbox_suite(void)
{
	Suite *s = suite_create("sandbox");
	TCase *tc = tcase_create("sandbox");

	tcase_add_unchecked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_cache_goes_on);
	tcase_add_test(tc, test_other_files_are_gone);
	tcase_add_test(tc, test_network_goes_on);
	tcase_add_test(tc, test_dangerous_calls_are_refused);
	tcase_add_test(tc, test_helper);
	tcase_add_test(tc, test_rights);
	tcase_add_test(tc, test_too_many_paths);
	suite_add_tcase(s, tc);
	return s;
}
