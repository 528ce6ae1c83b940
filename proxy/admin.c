/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The control socket: one thread accepts, and each command gets a thread, so
 * that verifying a terabyte or writing to a slow pipe delays nobody. main.c
 * starts it last and stops it first.
 *
 * A command's life: accepted -> its request read (within ADMIN_REQUEST_MS) ->
 * parsed by cmd.c as on the command line -> its function runs, its output
 * going out in frames -> its exit status -> closed, the thread ends. A client
 * that leaves, or does not read for ADMIN_STUCK_S, ends its command; so does
 * the depot's stop, by shutting the socket down.
 */
#include "proxy/admin.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"
#include "proxy/admin_priv.h"
#include "proxy/control.h"

#define ADMIN_MAGIC 0xad314001u
#define ADMIN_CONN_MAGIC 0xad314002u

enum {
	ADMIN_CONNS_MAX = 8,		/* commands at a time */
	ADMIN_REQUEST_MS = 5000,
	ADMIN_STUCK_S = 60,
	ADMIN_BUFFER_BYTES = 64 << 10,
};

/* One command. On its admin's list from accept to the end of its thread. */
struct admin_conn {
	uint32_t magic;
	struct admin *admin;
	TAILQ_ENTRY(admin_conn) link;
	int fd;
	int passed;			/* a descriptor that came with the request; -1: none */
	bool broken;			/* a write failed: nobody is there */
	uint8_t request[CONTROL_REQUEST_MAX];
	size_t request_n;
};

struct admin {
	uint32_t magic;
	struct depot *depot;
	int fd, stop_fd;
	char *path;
	pthread_t thread;
	_Atomic bool stopping;
	pthread_mutex_t lock;		/* the list */
	pthread_cond_t left;
	TAILQ_HEAD(, admin_conn) conns;
	unsigned conns_n;
};

/* What the depot does, by cmd_id. */
static admin_run_f *
admin_function(enum cmd_id id)
{
	static admin_run_f *const functions[CMD__N] = {
		[CMD_status] = admin_status,
		[CMD_top] = admin_top,
		[CMD_ls] = admin_ls,
		[CMD_cat] = admin_cat,
		[CMD_explain] = admin_explain,
		[CMD_evict] = admin_evict,
		[CMD_verify] = admin_verify,
		[CMD_import] = admin_import,
		[CMD_generations] = admin_generations,
		[CMD_pin] = admin_pin,
		[CMD_unpin] = admin_unpin,
	};

	return functions[id];
}

/* ---- frames ---- */

/* All of it, or false when the client does not take it. */
static bool
admin_send(struct admin_conn *conn, struct iovec *iov, int iov_n)
{
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)iov_n};
	ssize_t k;

	while (m.msg_iovlen > 0 && !conn->broken) {
		k = sendmsg(conn->fd, &m, MSG_NOSIGNAL);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0) {
			conn->broken = true;
			break;
		}
		for (; m.msg_iovlen > 0 && (size_t)k >= m.msg_iov->iov_len; m.msg_iovlen--)
			k -= (ssize_t)m.msg_iov++->iov_len;
		if (m.msg_iovlen > 0) {
			m.msg_iov->iov_base = (char *)m.msg_iov->iov_base + k;
			m.msg_iov->iov_len -= (size_t)k;
		}
	}
	return !conn->broken;
}

static bool
admin_send_frame(struct admin_conn *conn, char kind, const void *data, size_t n)
{
	uint8_t head[CONTROL_FRAME_HEAD] = {(uint8_t)kind};
	struct iovec iov[2] = {
		{head, sizeof(head)}, {(void *)(uintptr_t)data, n},
	};

	control_put_u32(head + 1, (uint32_t)n);
	return admin_send(conn, iov, 2);
}

/* Any number of bytes, in frames; for a FILE. 0: failed. */
static ssize_t
admin_write_frames(struct admin_conn *conn, char kind, const char *data, size_t n)
{
	size_t at = 0, part;

	for (; at < n; at += part) {
		part = n - at < CONTROL_FRAME_MAX ? n - at : CONTROL_FRAME_MAX;
		if (!admin_send_frame(conn, kind, data + at, part))
			return 0;
	}
	return (ssize_t)n;
}

static ssize_t
admin_write_out(void *cookie, const char *data, size_t n)
{
	return admin_write_frames(cookie, 'o', data, n);
}

static ssize_t
admin_write_errors(void *cookie, const char *data, size_t n)
{
	return admin_write_frames(cookie, 'e', data, n);
}

/* ---- for commands ---- */

bool
admin_cancelled(const struct admin_call *a)
{
	return !admin_sleep(a, 0);
}

bool
admin_sleep(const struct admin_call *a, int ms)
{
	struct pollfd p = {.fd = a->conn->fd, .events = POLLRDHUP};

	if (a->conn->broken || atomic_load(&a->conn->admin->stopping))
		return false;
	return poll(&p, 1, ms) <= 0;
}

bool
admin_parse_url(const struct admin_call *a, const char *word, struct arena *arena, struct url *url)
{
	if (depot_parse_url(a->depot, word, arena, url))
		return true;
	(void)fprintf(a->errors, "apt-depot: %s is no URL of a repository file: write "
	    "http://HTTPS///host/path, https://host/path or http://host/path\n", word);
	return false;
}

/* ---- one command ---- */

/* The descriptor in a control message, closing any beyond the first. */
static void
admin_take_passed(struct admin_conn *conn, struct msghdr *m)
{
	struct cmsghdr *c;
	int fd;

	for (c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
		size_t at, n = c->cmsg_len - CMSG_LEN(0);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (at = 0; at + sizeof(fd) <= n; at += sizeof(fd)) {
			memcpy(&fd, CMSG_DATA(c) + at, sizeof(fd));
			if (conn->passed < 0)
				conn->passed = fd;
			else
				(void)close(fd);
		}
	}
}

/* Some bytes, and what descriptor may come with them. */
static ssize_t
admin_recv_some(struct admin_conn *conn, uint8_t *p, size_t n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(4 * sizeof(int))];
	} u;
	struct iovec iov = {p, n};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.bytes,
	    .msg_controllen = sizeof(u.bytes)};
	ssize_t k = recvmsg(conn->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (k > 0)
		admin_take_passed(conn, &m);
	return k;
}

/* Reads n bytes before the deadline. */
static bool
admin_recv(struct admin_conn *conn, uint8_t *p, size_t n, int64_t until_ms)
{
	struct pollfd pfd = {.fd = conn->fd, .events = POLLIN};

	while (n > 0) {
		int64_t left = until_ms - clock_mono_ms();
		ssize_t k;

		if (left <= 0 || poll(&pfd, 1, (int)left) <= 0)
			return false;
		k = admin_recv_some(conn, p, n);
		if (k == 0 || (k < 0 && errno != EINTR && errno != EAGAIN))
			return false;
		if (k > 0) {
			p += k;
			n -= (size_t)k;
		}
	}
	return true;
}

/* The request's words; how many, 0: it is none. */
static int
admin_read_words(struct admin_conn *conn, char *words[CONTROL_WORDS_MAX])
{
	int64_t until_ms = clock_mono_ms() + ADMIN_REQUEST_MS;
	uint8_t head[4];
	size_t at;
	int n = 0;

	if (!admin_recv(conn, head, sizeof(head), until_ms))
		return 0;
	conn->request_n = control_get_u32(head);
	if (conn->request_n == 0 || conn->request_n > sizeof(conn->request) ||
	    !admin_recv(conn, conn->request, conn->request_n, until_ms) ||
	    conn->request[conn->request_n - 1] != '\0')
		return 0;
	for (at = 0; at < conn->request_n; n++) {
		if (n == CONTROL_WORDS_MAX)
			return 0;
		words[n] = (char *)conn->request + at;
		at += strlen(words[n]) + 1;
	}
	return n;
}

/* Parses and runs; the exit status. */
static int
admin_run(struct admin_conn *conn, char *const *words, int words_n, FILE *out, FILE *errors)
{
	struct admin_call a = {.depot = conn->admin->depot, .out = out, .errors = errors,
	    .fd = conn->passed, .conn = conn};
	struct cmd_call call;
	admin_run_f *run;
	int64_t began_ms = clock_mono_ms();
	int status = cmd_parse(&call, words_n, words, errors);

	if (status != CMD_OK)
		return status;
	run = admin_function(call.cmd->id);
	a.cmd = &call;
	a.view = cache_view_open(a.depot->cache);
	if (run == NULL) {
		(void)fprintf(errors, "apt-depot: the running depot does not do %s\n",
		    call.cmd->name);
		status = CMD_USAGE;
	} else if (a.view == NULL) {
		(void)fputs("apt-depot: the depot is out of memory\n", errors);
		status = CMD_FAILED;
	} else {
		status = run(&a);
		/* Not its words: a URL may have been typed with a password in it. */
		log_info("command %s: status %d after %lld ms", call.cmd->name, status,
		    (long long)(clock_mono_ms() - began_ms));
	}
	cache_view_close(&a.view);
	cmd_call_fini(&call);
	return status;
}

/* Opens both streams, runs the request in them, and says how it ended. */
static void
admin_serve(struct admin_conn *conn)
{
	cookie_io_functions_t to_out = {.write = admin_write_out};
	cookie_io_functions_t to_errors = {.write = admin_write_errors};
	char *words[CONTROL_WORDS_MAX];
	int words_n = admin_read_words(conn, words), failed = 0;
	FILE *out, *errors;
	uint8_t status = CMD_FAILED;

	if (words_n == 0 || !admin_send_frame(conn, 'b', NULL, 0))
		return;
	out = fopencookie(conn, "w", to_out);
	errors = fopencookie(conn, "w", to_errors);
	if (out != NULL && errors != NULL) {
		(void)setvbuf(out, NULL, _IOFBF, ADMIN_BUFFER_BYTES);
		COUNT(commands_total);
		status = (uint8_t)admin_run(conn, words, words_n, out, errors);
	}
	if (out != NULL)
		failed |= fclose(out);
	if (errors != NULL)
		failed |= fclose(errors);
	if (failed == 0)
		(void)admin_send_frame(conn, 'x', &status, 1);
}

static void *
admin_conn_main(void *arg)
{
	struct admin_conn *conn = arg;
	struct admin *a;

	CHECK_OBJ(conn, ADMIN_CONN_MAGIC);
	(void)pthread_setname_np(pthread_self(), "command");
	counter_share();
	a = conn->admin;
	admin_serve(conn);
	if (conn->passed >= 0)
		(void)close(conn->passed);
	AZ(pthread_mutex_lock(&a->lock));
	(void)close(conn->fd);		/* under the lock: admin_stop shuts down only what is open */
	TAILQ_REMOVE(&a->conns, conn, link);
	a->conns_n--;
	OBJ_FREE(conn);
	AZ(pthread_cond_signal(&a->left));
	AZ(pthread_mutex_unlock(&a->lock));
	return NULL;
}

/* ---- the socket ---- */

/* Says why not, without waiting for anything. */
static void
admin_turn_away(int fd, const char *why)
{
	struct admin_conn conn = {.fd = fd};
	uint8_t status = CMD_FAILED;

	if (admin_send_frame(&conn, 'e', why, strlen(why)))
		(void)admin_send_frame(&conn, 'x', &status, 1);
	(void)close(fd);
	COUNT(commands_refused_total);
}

/* Gives the connection its thread. */
static void
admin_adopt(struct admin *a, int fd)
{
	struct timeval stuck = {.tv_sec = ADMIN_STUCK_S};
	struct admin_conn *conn;
	pthread_attr_t attr;
	pthread_t thread;
	bool full;

	AZ(pthread_mutex_lock(&a->lock));
	full = a->conns_n >= ADMIN_CONNS_MAX;
	AZ(pthread_mutex_unlock(&a->lock));
	OBJ_NEW(conn, ADMIN_CONN_MAGIC);
	if (full || conn == NULL) {
		admin_turn_away(fd, full ? "apt-depot: the depot runs as many commands as it does "
		    "at a time: wait for one of them, or end it\n" :
		    "apt-depot: the depot is out of memory\n");
		free(conn);
		return;
	}
	conn->admin = a;
	conn->fd = fd;
	conn->passed = -1;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &stuck, sizeof(stuck));
	AZ(pthread_mutex_lock(&a->lock));
	TAILQ_INSERT_TAIL(&a->conns, conn, link);
	a->conns_n++;
	AZ(pthread_mutex_unlock(&a->lock));
	AZ(pthread_attr_init(&attr));
	AZ(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED));
	if (pthread_create(&thread, &attr, admin_conn_main, conn) != 0) {
		AZ(pthread_mutex_lock(&a->lock));
		TAILQ_REMOVE(&a->conns, conn, link);
		a->conns_n--;
		AZ(pthread_mutex_unlock(&a->lock));
		admin_turn_away(fd, "apt-depot: the depot is out of threads\n");
		OBJ_FREE(conn);
	}
	AZ(pthread_attr_destroy(&attr));
}

static void *
admin_main(void *arg)
{
	struct admin *a = arg;
	struct pollfd p[2] = {{.fd = a->fd, .events = POLLIN}, {.fd = a->stop_fd, .events = POLLIN}};
	int fd;

	CHECK_OBJ(a, ADMIN_MAGIC);
	(void)pthread_setname_np(pthread_self(), "admin");
	for (;;) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (p[1].revents != 0)
			break;
		if (p[0].revents == 0)
			continue;
		fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			admin_adopt(a, fd);
		else if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED)
			(void)poll(&p[1], 1, 100);	/* out of descriptors: they come back */
	}
	return NULL;
}

/* Binds it, for its owner alone from the first moment; 0 or errno. */
static int
admin_bind(struct admin *a)
{
	struct sockaddr_un sa;
	int dir_fd, err = 0;

	a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (a->fd < 0 || !control_address(a->depot->config->cache_dir, &sa, &dir_fd))
		return errno;
	/* One that is there is of a depot that was killed: cache_dir/lock is ours. */
	(void)unlink(a->path);
	/* The new file's mode is the socket's, less the umask. */
	if (fchmod(a->fd, S_IRUSR | S_IWUSR) != 0 ||
	    bind(a->fd, (const struct sockaddr *)&sa, sizeof(sa)) != 0 ||
	    listen(a->fd, ADMIN_CONNS_MAX) != 0)
		err = errno;
	if (dir_fd >= 0)
		(void)close(dir_fd);
	return err;
}

/* Frees what admin_start made; no thread is left. */
static void
admin_free(struct admin **a_p)
{
	struct admin *a = *a_p;

	*a_p = NULL;
	if (a->fd >= 0)
		(void)close(a->fd);
	if (a->stop_fd >= 0)
		(void)close(a->stop_fd);
	AZ(pthread_cond_destroy(&a->left));
	AZ(pthread_mutex_destroy(&a->lock));
	free(a->path);
	OBJ_FREE(a);
}

struct admin *
admin_start(struct depot *d)
{
	struct admin *a;
	int err;

	OBJ_NEW(a, ADMIN_MAGIC);
	if (a == NULL)
		return NULL;
	a->depot = d;
	a->fd = -1;
	a->stop_fd = eventfd(0, EFD_CLOEXEC);
	TAILQ_INIT(&a->conns);
	AZ(pthread_mutex_init(&a->lock, NULL));
	AZ(pthread_cond_init(&a->left, NULL));
	if (asprintf(&a->path, "%s/" CONTROL_SOCKET, d->config->cache_dir) < 0)
		a->path = NULL;
	err = a->path == NULL || a->stop_fd < 0 ? ENOMEM : admin_bind(a);
	if (err == 0)
		err = pthread_create(&a->thread, NULL, admin_main, a);
	if (err != 0) {
		log_warning("cannot serve %s: %s: commands that ask the running depot will not find it",
		    a->path != NULL ? a->path : CONTROL_SOCKET, strerror(err));
		admin_free(&a);
	}
	return a;
}

void
admin_stop(struct admin **a_p)
{
	struct admin *a = *a_p;
	struct admin_conn *conn;
	uint64_t one = 1;

	*a_p = NULL;
	if (a == NULL)
		return;
	CHECK_OBJ(a, ADMIN_MAGIC);
	atomic_store(&a->stopping, true);
	MUST(write(a->stop_fd, &one, sizeof(one)) == sizeof(one));
	AZ(pthread_join(a->thread, NULL));
	(void)unlink(a->path);
	AZ(pthread_mutex_lock(&a->lock));
	TAILQ_FOREACH(conn, &a->conns, link)
		(void)shutdown(conn->fd, SHUT_RDWR);
	while (a->conns_n > 0)
		AZ(pthread_cond_wait(&a->left, &a->lock));
	AZ(pthread_mutex_unlock(&a->lock));
	admin_free(&a);
}
