/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The daemon's side of the gpgv helper (sign_helper.c). main starts it before
 * anything else, the staging of generations asks it, main stops it last.
 *
 * What is asked about is read once, into memory that nobody can change any
 * more, and the form is checked on the very bytes that gpgv gets.
 *
 * The helper can't be started again: by then the daemon may not run programs.
 * If it dies, which is logged, every answer is UNAVAILABLE until a restart,
 * and whoever asks keeps the generation that it has.
 */
#include "cache/sign_priv.h"

#include "cache/keyring.h"
#include "include/counter.h"
#include "include/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIGN_MAGIC 0x516e0001u

enum { SIGN_GRACE_MS = 5000 };	/* on top of a run's time, before the helper counts as stuck */

/* Owned by main; any thread through lock. */
struct sign {
	uint32_t magic;
	pid_t helper;
	int timeout_ms;
	pthread_mutex_t lock;		/* one request at a time */
	int sock;			/* -1: the helper is lost */
	struct sign_reply reply;
};

/* ---- the talk ---- */

/* Receives an answer; false: there is none, and there will be none. */
static bool
sign_get_reply(struct sign *s)
{
	struct pollfd p = {.fd = s->sock, .events = POLLIN};
	ssize_t n;

	if (poll(&p, 1, s->timeout_ms + SIGN_GRACE_MS) <= 0)
		return false;
	n = recv(s->sock, &s->reply, sizeof(s->reply), 0);
	return n >= (ssize_t)offsetof(struct sign_reply, text) &&
	    s->reply.text_n == (size_t)n - offsetof(struct sign_reply, text);
}

/* Sends a request with its files. */
static bool
sign_send(const struct sign *s, int text_fd, int signature_fd)
{
	struct sign_ask ask = {signature_fd >= 0 ? SIGN_ASK_DETACHED : SIGN_ASK_CLEAR};
	struct iovec iov = {&ask, sizeof(ask)};
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(2 * sizeof(int))];
	} control = {0};
	const int fds[2] = {text_fd, signature_fd};
	size_t fds_bytes = (signature_fd >= 0 ? 2 : 1) * sizeof(int);
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
	    .msg_controllen = CMSG_SPACE(fds_bytes)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(fds_bytes);
	memcpy(CMSG_DATA(c), fds, fds_bytes);
	return sendmsg(s->sock, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof(ask);
}

/* The reply as a result. */
static void
sign_read_reply(const struct sign *s, struct sign_result *out)
{
	const struct sign_reply *r = &s->reply;
	const char *words = NULL;

	sign_parse_status((struct slice){r->text, r->text_n}, out);
	if (r->end == SIGN_END_TIMEOUT)
		words = "gpgv did not end in time and was killed";
	else if (r->end == SIGN_END_KILLED)
		words = "gpgv was killed: by a fault of its own, or at its limit of memory or time";
	else if (r->end == SIGN_END_FAILED && out->verdict != SIGN_UNAVAILABLE)
		words = "gpgv could not be started";
	else if (r->cut != 0)
		words = "it has more signatures than can be looked at";
	if (words == NULL)
		return;
	*out = (struct sign_result){.verdict = SIGN_UNAVAILABLE};
	(void)snprintf(out->words, sizeof(out->words), "%s", words);
}

/* ---- asking ---- */

/* A result without gpgv. */
static void
sign_result_set(struct sign_result *out, enum sign_verdict v, const char *words)
{
	*out = (struct sign_result){.verdict = v};
	(void)snprintf(out->words, sizeof(out->words), "%s", words);
}

/* Copies a file into memory that can't be changed any more. -1 and an errno. */
static int
sign_copy(int from, char **text, size_t *n)
{
	int fd = memfd_create("signed", MFD_CLOEXEC | MFD_ALLOW_SEALING), err;
	size_t cap, got = 0;
	struct stat st = {0};
	ssize_t k = 1;

	if (fd < 0 || fstat(from, &st) != 0 || st.st_size > SIGN_INPUT_MAX) {
		err = st.st_size > SIGN_INPUT_MAX ? EFBIG : errno;
		goto fail;
	}
	cap = (size_t)st.st_size;
	*text = malloc(cap + 1);
	if (*text == NULL) {
		err = ENOMEM;
		goto fail;
	}
	while (got < cap && (k = pread(from, *text + got, cap - got, (off_t)got)) > 0)
		got += (size_t)k;
	if (k < 0 || write(fd, *text, got) != (ssize_t)got ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
		err = errno;
		free(*text);
		*text = NULL;
		goto fail;
	}
	*n = got;
	return fd;
fail:
	if (fd >= 0)
		(void)close(fd);
	errno = err;
	return -1;
}

/* Asks the helper about two sealed files (lock held). */
static void
sign_ask_helper(struct sign *s, int text_fd, int signature_fd, struct sign_result *out)
{
	if (s->sock >= 0 && sign_send(s, text_fd, signature_fd) && sign_get_reply(s)) {
		sign_read_reply(s, out);
		return;
	}
	if (s->sock >= 0) {
		log_error("the gpgv helper (process %ld) does not answer any more: signatures can't "
		    "be verified, and no new generation is adopted, until a restart",
		    (long)s->helper);
		(void)close(s->sock);
		s->sock = -1;
	}
	sign_result_set(out, SIGN_UNAVAILABLE, "the gpgv helper has gone: restart apt-depot");
}

/* Counts what came of it. */
static void
sign_count(enum sign_verdict v)
{
	if (v == SIGN_GOOD)
		COUNT(signatures_good_total);
	else if (v == SIGN_UNAVAILABLE)
		COUNT(signatures_unavailable_total);
	else
		COUNT(signatures_refused_total);
}

enum sign_verdict
sign_verify(struct sign *s, const struct sign_input *in, struct sign_result *out)
{
	char *text = NULL, *signature = NULL;
	size_t text_n = 0, signature_n = 0;
	int text_fd, signature_fd = -1;
	enum sign_verdict form = SIGN_GOOD;

	CHECK_OBJ(s, SIGN_MAGIC);
	*out = (struct sign_result){.verdict = SIGN_UNAVAILABLE};
	text_fd = sign_copy(in->text_fd, &text, &text_n);
	if (text_fd >= 0 && in->signature_fd >= 0)
		signature_fd = sign_copy(in->signature_fd, &signature, &signature_n);
	if (text_fd < 0 || (in->signature_fd >= 0 && signature_fd < 0))
		(void)snprintf(out->words, sizeof(out->words), "the signed file can't be read: %s",
		    strerror(errno));
	else {
		if (signature_fd < 0)
			form = sign_check_form((struct slice){text, text_n}, out->words);
		out->verdict = form;
		if (form == SIGN_GOOD) {
			AZ(pthread_mutex_lock(&s->lock));
			sign_ask_helper(s, text_fd, signature_fd, out);
			AZ(pthread_mutex_unlock(&s->lock));
		}
	}
	free(text);
	free(signature);
	if (text_fd >= 0)
		(void)close(text_fd);
	if (signature_fd >= 0)
		(void)close(signature_fd);
	sign_count(out->verdict);
	return out->verdict;
}

/* ---- life ---- */

bool
sign_keys_ok(const char *keyring_dir, char why[SIGN_WORDS_BYTES])
{
	char words[KEYRING_WHY_BYTES] = "";
	struct keyring keys = {0};
	bool ok;

	if (keyring_dir[0] != '/') {
		(void)snprintf(why, SIGN_WORDS_BYTES, "%.128s does not begin with /", keyring_dir);
		return false;
	}
	if (access(keyring_dir, R_OK | X_OK) != 0 && errno == EACCES)
		return true;
	ok = keyring_read_dir(&keys, keyring_dir, words);
	keyring_fini(&keys);
	(void)snprintf(why, SIGN_WORDS_BYTES, "%s", words);
	return ok;
}

/* The first answer is that of a try without any signature. */
static bool
sign_start_ok(struct sign *s, const struct sign_conf *conf, char **why)
{
	struct sign_result r;

	if (!sign_get_reply(s)) {
		(void)!asprintf(why, "verify_signatures: the gpgv helper ended, or did not answer");
		return false;
	}
	sign_read_reply(s, &r);
	if (r.verdict == SIGN_NO_SIGNATURE)
		return true;
	(void)!asprintf(why, "verify_signatures: %s (keyring_dir = %s)", r.words,
	    conf->keyring_dir);
	return false;
}

bool
sign_start(struct sign **s_p, const struct sign_conf *conf, char **why)
{
	int pair[2];
	struct sign *s;

	*why = NULL;
	if (conf->keyring_dir == NULL || conf->keyring_dir[0] != '/') {
		(void)!asprintf(why, "verify_signatures = yes needs keyring_dir: name the directory "
		    "that holds the repositories' public keys, such as /etc/apt/keyrings");
		return false;
	}
	OBJ_NEW(s, SIGN_MAGIC);
	if (s == NULL)
		return false;
	s->timeout_ms = conf->timeout_ms != 0 ? conf->timeout_ms : SIGN_TIMEOUT_MS;
	s->sock = -1;
	AZ(pthread_mutex_init(&s->lock, NULL));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0) {
		s->sock = pair[0];
		s->helper = fork();
		if (s->helper == 0) {
			(void)close(pair[0]);
			sign_helper_run(conf, pair[1]);
			_exit(0);
		}
		(void)close(pair[1]);
	}
	if (s->helper <= 0)
		(void)!asprintf(why, "verify_signatures: no helper process for gpgv: %s",
		    strerror(errno));
	if (s->helper <= 0 || !sign_start_ok(s, conf, why)) {
		sign_stop(&s);
		return false;
	}
	*s_p = s;
	return true;
}

void
sign_stop(struct sign **s_p)
{
	struct sign *s = *s_p;

	*s_p = NULL;
	if (s == NULL)
		return;
	CHECK_OBJ(s, SIGN_MAGIC);
	if (s->sock >= 0)
		(void)close(s->sock);	/* tells the helper to end */
	if (s->helper > 0)
		(void)waitpid(s->helper, NULL, 0);
	AZ(pthread_mutex_destroy(&s->lock));
	OBJ_FREE(s);
}
