/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The credential files in use. Belongs to the upstream thread, which must not
 * wait for a disk: a pool thread looks whether a file is another one than
 * before, reads it if so, and sends what it read home. A file that can't be
 * read any more, or has a mistake in it, leaves the old credentials in force
 * and is told in the log, once for each state of the file.
 */
#include "proxy/upauth.h"

#include <errno.h>
#include <poll.h>
#include <sys/stat.h>

#include "include/counter.h"
#include "include/log.h"

#define UPAUTH_MAGIC 0x0fa07101u

enum { UPAUTH_LOOK_MS = 5000 };

/* What tells one state of a file from another. */
struct upauth_stamp {
	int err;			/* why it can't be read; 0: it can */
	ino_t inode;
	off_t bytes;
	struct timespec changed;
};

struct upauth_file {
	struct upauth_file *next;
	const char *path;		/* the configuration's */
	struct upauth_stamp stamp;
	struct authfile *now;
	/* For the pool thread while a look is under way. */
	struct upauth_stamp seen;
	struct authfile *read;		/* NULL: not changed, or not readable */
	bool changed;
	char why[AUTHFILE_WHY_BYTES];
};

struct upauth {
	uint32_t magic;
	struct iopool *pool;
	struct iojob job;
	bool looking;			/* the job is with the pool, or its mail on the way */
	bool again;			/* SIGHUP came meanwhile */
	int64_t looked_ms;
	struct mailbox *home;
	struct upauth_file *files;
};

/* Is it the state of the file that was read? */
static bool
upauth_same(const struct upauth_stamp *a, const struct upauth_stamp *b)
{
	return a->err == b->err && a->inode == b->inode && a->bytes == b->bytes &&
	    a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

/* Looks at a file and reads it if it is another one than before. */
static void
upauth_look(struct upauth_file *f)
{
	struct stat st;
	FILE *in;

	f->changed = false;
	f->read = NULL;
	f->seen = (struct upauth_stamp){.err = stat(f->path, &st) != 0 ? errno :
	    !S_ISREG(st.st_mode) ? EINVAL : 0};
	in = f->seen.err == 0 ? fopen(f->path, "re") : NULL;
	if (f->seen.err == 0 && in == NULL)
		f->seen.err = errno;
	if (in != NULL && fstat(fileno(in), &st) == 0) {
		f->seen.inode = st.st_ino;
		f->seen.bytes = st.st_size;
		f->seen.changed = st.st_mtim;
	}
	if (!upauth_same(&f->seen, &f->stamp)) {
		f->changed = true;
		(void)snprintf(f->why, sizeof(f->why), "%s", strerror(f->seen.err));
		if (in != NULL)
			f->read = authfile_read(in, f->why);
	}
	if (in != NULL)
		fclose(in);
}

/* On a pool thread. */
static void
upauth_job_run(struct iojob *job)
{
	struct upauth *ua = CONTAINER_OF(job, struct upauth, job);
	struct upauth_file *f;

	for (f = ua->files; f != NULL; f = f->next)
		upauth_look(f);
}

/* Back on the upstream thread: what was read comes into force. */
static void
upauth_mail(struct mail *m)
{
	struct upauth *ua = CONTAINER_OF(m, struct upauth, job.mail);
	struct upauth_file *f;

	CHECK_OBJ(ua, UPAUTH_MAGIC);
	ua->looking = false;
	for (f = ua->files; f != NULL; f = f->next) {
		if (!f->changed)
			continue;
		f->stamp = f->seen;
		if (f->read == NULL) {
			log_error("auth %s: %s: the credentials read before stay in force", f->path,
			    f->why);
			continue;
		}
		authfile_free(&f->now);
		f->now = f->read;
		f->read = NULL;
		log_notice("auth %s: read again", f->path);
	}
	if (ua->again)
		upauth_reload(ua, ua->looked_ms);
}

void
upauth_reload(struct upauth *ua, int64_t now_ms)
{
	CHECK_OBJ(ua, UPAUTH_MAGIC);
	if (ua->files == NULL)
		return;
	ua->again = ua->looking;
	if (ua->looking)
		return;
	ua->looking = true;
	ua->looked_ms = now_ms;
	iopool_submit(ua->pool, &ua->job);
}

void
upauth_tick(struct upauth *ua, int64_t now_ms)
{
	CHECK_OBJ(ua, UPAUTH_MAGIC);
	if (now_ms - ua->looked_ms >= UPAUTH_LOOK_MS)
		upauth_reload(ua, now_ms);
}

/* What is known of this file; NULL: nothing. */
static const struct upauth_file *
upauth_file_of(const struct upauth *ua, const char *path)
{
	const struct upauth_file *f;

	for (f = ua->files; f != NULL && strcmp(f->path, path) != 0; f = f->next)
		;
	return f;
}

bool
upauth_is_looking(const struct upauth *ua)
{
	CHECK_OBJ(ua, UPAUTH_MAGIC);
	return ua->looking;
}

void
upauth_log_changes(const struct upauth *ua, const struct upauth *was)
{
	const struct upauth_file *f, *old;

	CHECK_OBJ(ua, UPAUTH_MAGIC);
	CHECK_OBJ(was, UPAUTH_MAGIC);
	for (f = ua->files; f != NULL; f = f->next) {
		old = upauth_file_of(was, f->path);
		if (old == NULL || !upauth_same(&f->stamp, &old->stamp))
			log_notice("auth %s: read%s", f->path, old != NULL ? " again" : "");
	}
}

/* Reads one file for the first time, unless another section has named it. */
static bool
upauth_add(struct upauth *ua, const char *path)
{
	struct upauth_file *f;

	if (path == NULL || upauth_file_of(ua, path) != NULL)
		return true;
	f = calloc(1, sizeof(*f));
	if (f == NULL)
		return false;
	f->path = path;
	f->next = ua->files;
	ua->files = f;
	f->stamp.err = -1;
	upauth_look(f);
	f->stamp = f->seen;
	f->now = f->read;
	f->read = NULL;
	if (f->now == NULL)
		log_error("auth = %s: %s", path, f->why);
	return f->now != NULL;
}

struct upauth *
upauth_new(const struct config *config, struct iopool *pool, struct mailbox *home)
{
	const struct config_upstream *conf;
	struct upauth *ua;
	size_t i;
	bool ok = true;

	OBJ_NEW(ua, UPAUTH_MAGIC);
	if (ua == NULL)
		return NULL;
	ua->pool = pool;
	ua->home = home;
	ua->job.run = upauth_job_run;
	ua->job.home = home;
	ua->job.mail.deliver = upauth_mail;
	for (i = 0; ok && (conf = config_upstream_at(config, i)) != NULL; i++)
		ok = upauth_add(ua, conf->auth);
	if (!ok)
		upauth_free(&ua);
	return ua;
}

void
upauth_free(struct upauth **ua_p)
{
	struct upauth *ua = *ua_p;
	struct upauth_file *f;

	*ua_p = NULL;
	if (ua == NULL)
		return;
	CHECK_OBJ(ua, UPAUTH_MAGIC);
	ua->again = false;
	while (ua->looking) {
		/* The pool still runs, and a small file is soon read. */
		struct pollfd p = {.fd = ua->home->event_fd, .events = POLLIN};

		(void)poll(&p, 1, 100);
		mailbox_drain(ua->home);
	}
	while ((f = ua->files) != NULL) {
		ua->files = f->next;
		authfile_free(&f->now);
		authfile_free(&f->read);
		free(f);
	}
	OBJ_FREE(ua);
}

enum authfile_match
upauth_find(const struct upauth *ua, const char *path, const struct url *url, const char **value)
{
	const struct upauth_file *f;

	CHECK_OBJ(ua, UPAUTH_MAGIC);
	f = upauth_file_of(ua, path);
	return f != NULL ? authfile_find(f->now, url, value) : AUTHFILE_NONE;
}
