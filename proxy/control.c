/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The client's side of admin.sock: cmd.c calls control_run for a command that
 * the running depot does. The configuration says where its cache directory
 * is, and the socket is in there.
 */
#include "proxy/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "include/clock.h"
#include "include/config.h"

bool
control_address(const char *cache_dir, struct sockaddr_un *sa, int *dir_fd)
{
	int n;

	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	*dir_fd = -1;
	n = snprintf(sa->sun_path, sizeof(sa->sun_path), "%s/" CONTROL_SOCKET, cache_dir);
	if (n > 0 && (size_t)n < sizeof(sa->sun_path))
		return true;
	/* A socket's path has 107 bytes at most: go through the open directory. */
	*dir_fd = open(cache_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*dir_fd < 0)
		return false;
	(void)snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d/" CONTROL_SOCKET,
	    *dir_fd);
	return true;
}

int
control_connect(const char *cache_dir)
{
	const struct timeval patience = {.tv_sec = CONTROL_PATIENCE_MS / 1000};
	struct sockaddr_un sa;
	int dir_fd, err, fd;

	if (!control_address(cache_dir, &sa, &dir_fd))
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)	/* where as many wait as may: EAGAIN in the end */
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) != 0) {
		err = errno;
		(void)close(fd);
		fd = -1;
		errno = err;
	}
	err = errno;
	if (dir_fd >= 0)
		(void)close(dir_fd);
	errno = err;
	return fd;
}

/*
 * The process that has cache_dir/lock, as decimal digits. False: none, or that can't be seen. The lock
 * is tried for that, so that a number which another process has by now is not taken for the depot's.
 */
static bool
control_holder(const char *cache_dir, char pid[32])
{
	char path[4096];
	bool held;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/lock", cache_dir);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return false;
	held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
	n = read(fd, pid, 31);
	(void)close(fd);
	pid[n > 0 ? n : 0] = '\0';
	pid[strcspn(pid, "\n")] = '\0';
	return held;
}

/* The depot has its directory, and no words for us. */
static void
control_explain_silence(const char *cache_dir)
{
	char pid[32] = "";

	(void)control_holder(cache_dir, pid);
	(void)fprintf(stderr, "apt-depot: the depot of %s, process %s, has not answered for %d s: it is "
	    "starting, stopping, or was stopped (SIGSTOP, a frozen container); its log says more\n",
	    cache_dir, pid[0] != '\0' ? pid : "(unknown)", CONTROL_PATIENCE_MS / 1000);
}

/* As control_connect, but a depot that is starting is waited for, and the end of one that stops. */
static int
control_find(const char *cache_dir)
{
	const struct timeval patience = {.tv_sec = CONTROL_PATIENCE_MS / 1000};
	const struct timespec instant = {.tv_nsec = 50000000};
	int64_t since_ms = clock_mono_ms(), waited_ms;
	char pid[32];
	int fd, err;

	while ((fd = control_connect(cache_dir)) < 0) {
		err = errno;
		waited_ms = clock_mono_ms() - since_ms;
		if ((err != ENOENT && err != ECONNREFUSED) || (waited_ms >= CONTROL_GRACE_MS &&
		    !control_holder(cache_dir, pid))) {
			errno = err;
			return -1;
		}
		if (waited_ms >= CONTROL_PATIENCE_MS) {
			errno = EAGAIN;
			return -1;
		}
		(void)nanosleep(&instant, NULL);
	}
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

/* Why there is no depot to talk to, and what to do. */
static int
control_explain_connect(const char *cache_dir, int err)
{
	switch (err) {
	case EAGAIN:
		control_explain_silence(cache_dir);
		break;
	case EACCES:
	case EPERM:
		(void)fprintf(stderr, "apt-depot: %s/" CONTROL_SOCKET " is not yours: run this as "
		    "the user that runs apt-depot, or as root\n", cache_dir);
		break;
	case ENOENT:
	case ENOTDIR:
	case ECONNREFUSED:
		(void)fprintf(stderr, "apt-depot: no depot is running on cache_dir %s: start it, or "
		    "say with -c FILE or -o cache_dir=DIR where the running one keeps its cache\n",
		    cache_dir);
		break;
	default:
		(void)fprintf(stderr, "apt-depot: %s/" CONTROL_SOCKET ": %s\n", cache_dir,
		    strerror(err));
	}
	return CMD_USAGE;
}

/* All of it, or false. */
static bool
control_send(int fd, const uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t k = send(fd, p, n, MSG_NOSIGNAL);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return false;
		p += k;
		n -= (size_t)k;
	}
	return true;
}

static bool
control_recv(int fd, uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t k = recv(fd, p, n, MSG_WAITALL);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return false;
		p += k;
		n -= (size_t)k;
	}
	return true;
}

/* Adds a word and its NUL; false: the request is full. */
static bool
control_add_word(uint8_t *buf, size_t *n, const char *prefix, const char *word)
{
	size_t room = CONTROL_REQUEST_MAX + 4 - *n;
	int k = snprintf((char *)buf + *n, room, "%s%s", prefix, word);

	if (k < 0 || (size_t)k >= room)
		return false;
	*n += (size_t)k + 1;
	return true;
}

/* The length, and the descriptor with it (-1: none). */
static bool
control_send_head(int fd, uint8_t head[4], int passed)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} u;
	struct iovec iov = {head, 4};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;

	if (passed < 0)
		return control_send(fd, head, 4);
	memset(&u, 0, sizeof(u));
	m.msg_control = u.bytes;
	m.msg_controllen = sizeof(u.bytes);
	c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &passed, sizeof(int));
	return sendmsg(fd, &m, MSG_NOSIGNAL) == 4;
}

/* Puts the call together as the daemon parses it: name, options, "--", words. */
static bool
control_send_request(int fd, const struct cmd_call *call, int passed)
{
	static uint8_t buf[CONTROL_REQUEST_MAX + 4];
	size_t n = 4, i;
	bool fits = control_add_word(buf, &n, "", call->cmd->name);

	for (i = 0; i < call->options.n; i++)
		fits = fits && control_add_word(buf, &n, "--", call->options.v[i]);
	fits = fits && control_add_word(buf, &n, "", "--");
	for (i = 0; i < call->words.n; i++)
		fits = fits && control_add_word(buf, &n, "", call->words.v[i]);
	if (!fits || call->options.n + call->words.n + 2 > CONTROL_WORDS_MAX) {
		(void)fputs("apt-depot: that is too much for one command: call it several times\n",
		    stderr);
		return false;
	}
	control_put_u32(buf, (uint32_t)(n - 4));
	/* Where the depot refuses without reading, its words are waiting all the same. */
	if (control_send_head(fd, buf, passed))
		(void)control_send(fd, buf + 4, n - 4);
	return true;
}

/* Copies frames until the exit status; CMD_FAILED when there is none. */
static int
control_copy_reply(int fd, FILE *out)
{
	const struct timeval for_ever = {0};
	static uint8_t buf[CONTROL_FRAME_MAX];
	uint8_t head[CONTROL_FRAME_HEAD];
	uint32_t n;

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &for_ever, sizeof(for_ever));
	while (control_recv(fd, head, sizeof(head))) {
		n = control_get_u32(head + 1);
		if (n > sizeof(buf) || !control_recv(fd, buf, n))
			break;
		if (head[0] == 'x' && n == 1)
			return buf[0];
		if (head[0] == 'e') {
			(void)fflush(out);
			(void)fwrite(buf, 1, n, stderr);
		} else if (head[0] == 'o' && fwrite(buf, 1, n, out) != n)
			break;
	}
	(void)fflush(out);
	if (ferror(out))
		(void)fprintf(stderr, "apt-depot: cannot write: %s\n", strerror(errno));
	else
		(void)fputs("apt-depot: the depot ended before its answer was complete; its log "
		    "says why\n", stderr);
	return CMD_FAILED;
}

/* As control_ask, with the answer to `out`. */
static int
control_ask_into(const struct cmd_call *call, const char *cache_dir, int passed, FILE *out)
{
	int status = CMD_FAILED, fd, tries = 0, err;
	char kind;
	ssize_t k;

	for (;;) {
		fd = control_find(cache_dir);
		if (fd < 0)
			return control_explain_connect(cache_dir, errno);
		if (!control_send_request(fd, call, passed))
			break;
		k = recv(fd, &kind, 1, MSG_PEEK);
		err = errno;
		if (k > 0)
			status = control_copy_reply(fd, out);
		else if (k < 0 && err == EAGAIN)
			status = control_explain_connect(cache_dir, err);
		else if (tries++ < CONTROL_TRIES_MAX) {
			/* It stops, and has not begun with this: perhaps another one comes. */
			(void)close(fd);
			continue;
		} else
			(void)fputs("apt-depot: the depot did not take the command; its log says "
			    "why\n", stderr);
		break;
	}
	(void)close(fd);
	return status;
}

int
control_ask(const struct cmd_call *call, const char *cache_dir, int passed)
{
	return control_ask_into(call, cache_dir, passed, stdout);
}

/* Fills the screen: as many lines as it has, of long ones both ends. False: it is gone. */
static bool
control_fill_screen(const char *text)
{
	struct winsize size = {0};
	int n, end, rows = 24, columns = 80;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 1 && size.ws_col > 10) {
		rows = size.ws_row;
		columns = size.ws_col;
	}
	(void)fputs("\033[H\033[J", stdout);
	for (; *text != '\0' && rows > 1; rows--, text += n + 1) {
		n = (int)strcspn(text, "\n");
		end = columns / 2 - 3;
		if (n < columns)
			(void)printf("%.*s\n", n, text);
		else
			(void)printf("%.*s...%.*s\n", columns - end - 4, text, end, text + n - end);
		if (text[n] == '\0')
			break;
	}
	return fflush(stdout) == 0 && ferror(stdout) == 0;
}

/* One look of many: shown when it is complete. */
static int
control_show(const struct cmd_call *call, const char *cache_dir)
{
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);
	int status;

	if (out == NULL)
		return CMD_FAILED;
	status = control_ask_into(call, cache_dir, -1, out);
	(void)fclose(out);
	if (status == CMD_OK && !control_fill_screen(text))
		status = CMD_FAILED;
	free(text);
	return status;
}

int
control_run(const struct cmd_call *call)
{
	struct config *c = cmd_config(call);
	bool watch = cmd_option(call, "watch") != NULL, screen = isatty(STDOUT_FILENO) && !call->json;
	int status;

	if (c == NULL)
		return CMD_USAGE;
	/* What the depot measures takes it a second: this loop needs no pause. */
	do
		status = watch && screen ? control_show(call, c->cache_dir) :
		    control_ask(call, c->cache_dir, -1);
	while (watch && status == CMD_OK);
	config_free(&c);
	return status;
}
