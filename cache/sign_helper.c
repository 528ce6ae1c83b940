/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The helper process that runs gpgv. sign.c forks it while the daemon is one
 * thread; it confines itself, tries gpgv once, and from then on takes one
 * request after the other from its socket: for each it forks a child, which
 * reads the keys, limits itself and becomes gpgv. The helper collects what
 * gpgv says, at most for a while, and sends it back; what that means is
 * decided in the daemon (sign_status.c).
 *
 * It ends when the daemon closes its end of the socket, in whatever way. It
 * takes no signal that is meant for the daemon. It logs nothing: its words
 * travel as lines of the status text that begin with SIGN_OWN_WORD.
 */
#include "cache/keyring.h"
#include "cache/sign_priv.h"
#include "include/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	SIGN_FD_STATUS = 3,		/* in gpgv */
	SIGN_FD_KEYS = 4,
	SIGN_FD_TEXT = 5,
	SIGN_FD_SIGNATURE = 6,
	SIGN_FD_HIGH = 20,		/* out of the way of those */
	SIGN_CPU_S = 10,
	SIGN_FILES_MAX = 64,
	SIGN_MEMORY_BYTES = 512 << 20,
};

/* The helper's own; on its stack. */
struct sign_helper {
	const struct sign_conf *conf;
	int sock;
	char gpgv[4096];		/* path of the program */
	struct sign_reply reply;
};

/* What one request brought. */
struct sign_files {
	int text_fd, signature_fd;	/* -1: none */
};

/* Looks for gpgv as a shell would, and where Debian has it. */
static bool
sign_find_gpgv(struct sign_helper *h)
{
	const char *path = getenv("PATH");
	char dirs[4096];
	char *dir, *save = NULL;

	if (h->conf->gpgv != NULL) {
		(void)snprintf(h->gpgv, sizeof(h->gpgv), "%s", h->conf->gpgv);
		return access(h->gpgv, X_OK) == 0;
	}
	(void)snprintf(dirs, sizeof(dirs), "/usr/bin:/bin:/usr/local/bin:%.3000s",
	    path != NULL ? path : "");
	for (dir = strtok_r(dirs, ":", &save); dir != NULL; dir = strtok_r(NULL, ":", &save)) {
		if (dir[0] != '/')
			continue;
		(void)snprintf(h->gpgv, sizeof(h->gpgv), "%s/gpgv", dir);
		if (access(h->gpgv, X_OK) == 0)
			return true;
	}
	return false;
}

/* ---- in the child that becomes gpgv ---- */

/* A line of our own in the status text, and the end. */
static void __attribute__((noreturn))
sign_child_fail(int status_fd, const char *words)
{
	char line[SIGN_WORDS_BYTES];
	int n = snprintf(line, sizeof(line), "\n" SIGN_OWN_WORD "%.400s\n", words);

	if (write(status_fd, line, (size_t)n) != n)
		_exit(121);
	_exit(120);
}

/* The keys as a file that only this child can see. */
static int
sign_child_keys(const struct sign_conf *conf, int status_fd)
{
	struct keyring keys = {0};
	char why[KEYRING_WHY_BYTES];
	int fd;

	if (!keyring_read_dir(&keys, conf->keyring_dir, why))
		sign_child_fail(status_fd, why);
	fd = memfd_create("keys", MFD_CLOEXEC);
	if (fd < 0 || write(fd, keys.p, keys.n) != (ssize_t)keys.n)
		sign_child_fail(status_fd, "the keys could not be handed to gpgv");
	keyring_fini(&keys);
	return fd;
}

/* Puts a descriptor where gpgv expects it. */
static void
sign_child_place(int fd, int at, int status_fd)
{
	if (fd >= 0 && dup2(fd, at) != at)
		sign_child_fail(status_fd, "too few descriptors for gpgv");
}

/* Out of the range that is about to be filled. */
static int
sign_child_lift(int fd)
{
	return fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, SIGN_FD_HIGH) : -1;
}

/* What gpgv may use at most: it reads what strangers wrote. */
static void
sign_child_limit(void)
{
	const struct rlimit cpu = {SIGN_CPU_S, SIGN_CPU_S}, none = {0, 0};
	const struct rlimit files = {SIGN_FILES_MAX, SIGN_FILES_MAX};
	const struct rlimit memory = {SIGN_MEMORY_BYTES, SIGN_MEMORY_BYTES};

	(void)setrlimit(RLIMIT_CPU, &cpu);
	(void)setrlimit(RLIMIT_CORE, &none);
	(void)setrlimit(RLIMIT_FSIZE, &none);
	(void)setrlimit(RLIMIT_NOFILE, &files);
	(void)setrlimit(RLIMIT_AS, &memory);
}

static void __attribute__((noreturn))
sign_child_run(const struct sign_helper *h, const struct sign_files *files, int status_fd)
{
	static const char *const env[] = {"LC_ALL=C", "PATH=/usr/bin:/bin", "HOME=/nonexistent",
	    NULL};
	const char *argv[] = {"gpgv", "--quiet", "--status-fd", "3", "--homedir", "/nonexistent",
	    "--ignore-time-conflict", "--weak-digest", "SHA1", "--weak-digest", "RIPEMD160",
	    "--keyring", "/proc/self/fd/4", "/proc/self/fd/5", NULL, NULL};
	int status = sign_child_lift(status_fd), keys, text, signature, null;
	sigset_t none;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	keys = sign_child_lift(sign_child_keys(h->conf, status_fd));
	text = sign_child_lift(files->text_fd);
	signature = sign_child_lift(files->signature_fd);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	null = sign_child_lift(null);
	if (status < 0 || keys < 0 || text < 0 || null < 0)
		sign_child_fail(status_fd, "too few descriptors for gpgv");
	sign_child_place(null, STDIN_FILENO, status);
	sign_child_place(null, STDOUT_FILENO, status);
	sign_child_place(null, STDERR_FILENO, status);
	sign_child_place(status, SIGN_FD_STATUS, status);
	sign_child_place(keys, SIGN_FD_KEYS, status);
	/* gpgv takes the signature first, if it is a file of its own. */
	sign_child_place(text, SIGN_FD_TEXT, status);
	sign_child_place(signature, SIGN_FD_SIGNATURE, status);
	if (signature >= 0) {
		argv[13] = "/proc/self/fd/6";
		argv[14] = "/proc/self/fd/5";
	}
	sign_child_limit();
	(void)signal(SIGINT, SIG_DFL);
	(void)signal(SIGTERM, SIG_DFL);
	(void)signal(SIGPIPE, SIG_DFL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)execve(h->gpgv, (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)env);
	sign_child_fail(status, "gpgv could not be started");
}

/* ---- in the helper ---- */

/* Reads what gpgv says until it closes its end or the time is up. */
static bool
sign_collect(struct sign_helper *h, int fd, int64_t deadline_ms)
{
	struct sign_reply *r = &h->reply;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char spill[4096];
	int64_t left_ms;
	ssize_t n;

	while ((left_ms = deadline_ms - clock_mono_ms()) > 0) {
		if (poll(&p, 1, (int)left_ms) <= 0)
			continue;
		if (r->text_n < SIGN_STATUS_BYTES)
			n = read(fd, r->text + r->text_n, SIGN_STATUS_BYTES - r->text_n);
		else
			n = read(fd, spill, sizeof(spill));
		if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
			return true;
		if (n > 0 && r->text_n < SIGN_STATUS_BYTES)
			r->text_n += (uint32_t)n;
		else if (n > 0)
			r->cut = 1;
	}
	return false;
}

/* Waits for the child, which has closed its end of the pipe: usually it has ended by then. */
static int
sign_reap(pid_t pid, int64_t deadline_ms, bool *in_time)
{
	const struct timespec ms = {0, 1000000};
	int status = 0;

	while (*in_time && waitpid(pid, &status, WNOHANG) == 0) {
		if (clock_mono_ms() < deadline_ms)
			(void)nanosleep(&ms, NULL);
		else
			*in_time = false;
	}
	if (!*in_time) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, &status, 0);
	}
	return status;
}

/* Runs gpgv once; the reply says how that went. */
static void
sign_run(struct sign_helper *h, const struct sign_files *files)
{
	struct sign_reply *r = &h->reply;
	int timeout_ms = h->conf->timeout_ms != 0 ? h->conf->timeout_ms : SIGN_TIMEOUT_MS;
	int64_t deadline_ms = clock_mono_ms() + timeout_ms;
	int pipefd[2], status;
	bool in_time;
	pid_t pid;

	r->end = SIGN_END_FAILED;
	r->status = r->cut = r->text_n = 0;
	if (pipe2(pipefd, O_CLOEXEC) != 0)
		return;
	pid = fork();
	if (pid == 0)
		sign_child_run(h, files, pipefd[1]);
	(void)close(pipefd[1]);
	if (pid > 0) {
		in_time = sign_collect(h, pipefd[0], deadline_ms);
		status = sign_reap(pid, deadline_ms, &in_time);
		r->end = !in_time ? SIGN_END_TIMEOUT :
		    WIFEXITED(status) ? SIGN_END_EXIT : SIGN_END_KILLED;
		r->status = (uint32_t)(WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	}
	(void)close(pipefd[0]);
}

/* Receives a request with its descriptors; false: the daemon has gone, or talks nonsense. */
static bool
sign_receive(const struct sign_helper *h, struct sign_files *files)
{
	struct sign_ask ask = {0};
	struct iovec iov = {&ask, sizeof(ask)};
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
	    .msg_controllen = sizeof(control)};
	const struct cmsghdr *c;
	int fds[2] = {-1, -1};
	ssize_t n;

	do
		n = recvmsg(h->sock, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	c = n == (ssize_t)sizeof(ask) ? CMSG_FIRSTHDR(&msg) : NULL;
	if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
	    c->cmsg_len != CMSG_LEN((ask.kind == SIGN_ASK_CLEAR ? 1 : 2) * sizeof(int)))
		return false;
	memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	*files = (struct sign_files){fds[0], fds[1]};
	return true;
}

static bool
sign_answer(const struct sign_helper *h)
{
	size_t n = offsetof(struct sign_reply, text) + h->reply.text_n;

	return send(h->sock, &h->reply, n, MSG_NOSIGNAL) == (ssize_t)n;
}

/* Answers with words of our own. */
static void
sign_answer_words(struct sign_helper *h, const char *words)
{
	h->reply = (struct sign_reply){.end = SIGN_END_FAILED};
	h->reply.text_n = (uint32_t)snprintf(h->reply.text, SIGN_WORDS_BYTES,
	    SIGN_OWN_WORD "%.480s\n", words);
	if (!sign_answer(h))
		_exit(1);
}

/* Runs gpgv on an empty signature: the daemon learns whether it works before anybody relies on it. */
static bool
sign_try(struct sign_helper *h)
{
	struct sign_files files = {memfd_create("empty", MFD_CLOEXEC), -1};
	bool ok;

	sign_run(h, &files);
	ok = sign_answer(h);
	if (files.text_fd >= 0)
		(void)close(files.text_fd);
	return ok;
}

void
sign_helper_run(const struct sign_conf *conf, int sock)
{
	static struct sign_helper helper;
	struct sign_helper *h = &helper;
	char why[SIGN_WORDS_BYTES] = "";
	struct sign_files files;

	*h = (struct sign_helper){.conf = conf, .sock = sock};
	(void)prctl(PR_SET_NAME, "gpgv-helper");
	(void)signal(SIGINT, SIG_IGN);		/* the daemon's to obey; we end with it */
	(void)signal(SIGTERM, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)signal(SIGUSR1, SIG_IGN);
	if (conf->confine != NULL && !conf->confine(conf->arg, why)) {
		sign_answer_words(h, why);
		return;
	}
	if (!sign_find_gpgv(h)) {
		sign_answer_words(h, "there is no gpgv: apt-get install gpgv");
		return;
	}
	if (!sign_try(h))
		return;
	while (sign_receive(h, &files)) {
		sign_run(h, &files);
		(void)close(files.text_fd);
		if (files.signature_fd >= 0)
			(void)close(files.signature_fd);
		if (!sign_answer(h))
			return;
	}
}
