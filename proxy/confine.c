/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Which rights the daemon needs, and when it gives them up. main.c calls in
 * the order that confine.h has: as root what only root can open or make, then
 * the change of user, then the sandbox (sandbox.c is its mechanism), all
 * while there is one thread; the cache is opened, and the world let in, only
 * behind it.
 *
 * Root touches nothing that the user could have put there: a file or
 * directory is given away only if it was made by us just now, or is empty.
 */
#include "proxy/confine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/cache.h"
#include "include/log.h"
#include "include/sign.h"

/* Says what is wrong. */
static bool PRINTF_LIKE(1, 2)
confine_refuse(const char *fmt, ...)
{
	va_list ap;

	(void)fputs("apt-depot: ", stderr);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	return false;
}

bool
confine_find_user(struct confine *cf)
{
	const char *user = cf->config->user;
	const struct passwd *pw;

	cf->pid_fd = -1;
	if (user == NULL)
		return true;
	pw = getpwnam(user);
	if (pw == NULL)
		return confine_refuse("user = %s: there is no such user", user);
	cf->uid = pw->pw_uid;
	cf->gid = pw->pw_gid;
	cf->becomes = geteuid() == 0 && cf->uid != 0;
	if (geteuid() != 0 && geteuid() != cf->uid)
		log_warning("user = %s has no effect: only root can become somebody else", user);
	return true;
}

/* ---- as root: files ---- */

bool
confine_dir_is_empty(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *de;
	bool empty = d != NULL;

	if (d == NULL && fd >= 0)
		(void)close(fd);
	while (empty && (de = readdir(d)) != NULL)
		empty = strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
		    strcmp(de->d_name, "lost+found") == 0;
	if (d != NULL)
		(void)closedir(d);
	return empty;
}

/* Is the open cache_dir one that only we can write to? An empty one becomes the user's. */
static bool
confine_check_dir(const struct confine *cf, int fd, const char *dir)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return confine_refuse("cache_dir = %s: %s", dir, strerror(errno));
	if ((st.st_mode & S_IWOTH) != 0)
		return confine_refuse("cache_dir = %s: everybody may write there, and so change what "
		    "the depot serves: chmod o-w %s, or name a directory below it", dir, dir);
	/* Allowed: volumes of containers are often made so. */
	if ((st.st_mode & S_IWGRP) != 0)
		log_warning("cache_dir = %s: group %u may write there, and so change what the depot "
		    "serves: chmod g-w %s, unless the group is the depot's own", dir,
		    (unsigned)st.st_gid, dir);
	if (!cf->becomes || st.st_uid == cf->uid)
		return true;
	if (!confine_dir_is_empty(fd))
		return confine_refuse("cache_dir = %s belongs to user %u, not to %s: chown -R %s %s",
		    dir, (unsigned)st.st_uid, cf->config->user, cf->config->user, dir);
	if (fchown(fd, cf->uid, cf->gid) != 0)
		return confine_refuse("cache_dir = %s can't be given to %s: %s", dir,
		    cf->config->user, strerror(errno));
	return true;
}

static bool
confine_open_cache_dir(const struct confine *cf)
{
	const char *dir = cf->config->cache_dir;
	char *why = NULL;
	bool ok;
	int fd;

	if (cache_make_dir(dir, &why) != REASON_OK) {
		ok = confine_refuse("cache_dir: %s", why != NULL ? why : "out of memory");
		free(why);
		return ok;
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return confine_refuse("cache_dir = %s can't be opened: %s", dir, strerror(errno));
	ok = confine_check_dir(cf, fd, dir);
	(void)close(fd);
	return ok;
}

/* Makes a file that the user is to write, where only root can. One that is there stays as it is. */
static void
confine_make_file(const struct confine *cf, const char *path)
{
	int fd;

	if (!cf->becomes || path == NULL || strcmp(path, "-") == 0)
		return;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
	if (fd < 0)
		return;		/* what is wrong shows when it is opened */
	if (fchown(fd, cf->uid, cf->gid) != 0)
		log_warning("%s can't be given to %s: %s", path, cf->config->user,
		    strerror(errno));
	(void)close(fd);
}

bool
confine_open_files(struct confine *cf)
{
	const struct config *c = cf->config;

	if (!confine_open_cache_dir(cf))
		return false;
	confine_make_file(cf, c->log_file);
	confine_make_file(cf, c->access_log);
	if (c->pid_file != NULL) {
		cf->pid_fd = open(c->pid_file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
		if (cf->pid_fd < 0)
			log_warning("pid_file %s: %s", c->pid_file, strerror(errno));
	}
	return true;
}

void
confine_write_pid(struct confine *cf)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

	if (cf->pid_fd >= 0 && (ftruncate(cf->pid_fd, 0) != 0 ||
	    pwrite(cf->pid_fd, text, (size_t)n, 0) != n))
		log_warning("pid_file %s: %s", cf->config->pid_file, strerror(errno));
}

/* Is pid_file still the file that we opened, with our number in it or none? */
static bool
confine_pid_is_ours(const struct confine *cf)
{
	struct stat is, was;
	char text[32];
	ssize_t n = pread(cf->pid_fd, text, sizeof(text) - 1, 0);

	if (n < 0 || fstat(cf->pid_fd, &was) != 0 || lstat(cf->config->pid_file, &is) != 0 ||
	    is.st_dev != was.st_dev || is.st_ino != was.st_ino)
		return false;
	text[n] = '\0';
	return n == 0 || strtol(text, NULL, 10) == (long)getpid();
}

void
confine_remove_pid(struct confine *cf)
{
	if (cf->pid_fd < 0)
		return;
	/* A start that was refused leaves the running depot's alone, and so does who was overwritten. */
	if (!confine_pid_is_ours(cf))
		log_debug("pid_file %s is another one's", cf->config->pid_file);
	/* Where the user may not remove it, it is at least empty. */
	else if (ftruncate(cf->pid_fd, 0) != 0 || unlink(cf->config->pid_file) != 0)
		log_debug("pid_file %s stays, empty: %s", cf->config->pid_file, strerror(errno));
	(void)close(cf->pid_fd);
	cf->pid_fd = -1;
}

/* ---- another user ---- */

/* Group, groups and user, and no way back. */
static bool
confine_set_ids(const struct confine *cf)
{
	uid_t r, e, s;
	int cap;

	/* Nothing that is ever run can give back what root had. */
	for (cap = 0; cap < 64; cap++)
		(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (initgroups(cf->config->user, cf->gid) != 0 ||
	    setresgid(cf->gid, cf->gid, cf->gid) != 0 ||
	    setresuid(cf->uid, cf->uid, cf->uid) != 0)
		return false;
	MUST(getresuid(&r, &e, &s) == 0 && r == cf->uid && e == cf->uid && s == cf->uid);
	MUST(setuid(0) != 0);
	return true;
}

/* Files that are opened again while it runs: as the user they must be readable. */
static void
confine_check_file(void *arg, const char *key, const char *path)
{
	bool *ok = arg;

	if (access(path, R_OK) != 0)
		*ok = confine_refuse("%s = %s can't be read by user %u: %s: chgrp its group to the "
		    "user's and chmod 640", key, path, (unsigned)geteuid(), strerror(errno));
}

bool
confine_become_user(const struct confine *cf)
{
	bool ok = true;

	if (!cf->becomes)
		return true;
	if (!confine_set_ids(cf))
		return confine_refuse("cannot become %s: %s", cf->config->user, strerror(errno));
	config_each_file(cf->config, confine_check_file, &ok);
	return ok;
}

/* ---- what is left ---- */

/*
 * What resolving names, verifying certificates and telling the time read, on any Debian or Ubuntu;
 * and /proc and /sys for what the C library asks of the machine.
 */
static const char *const confine_system_paths[] = {
	"/etc", "/usr", "/lib", "/lib64", "/proc", "/sys/devices/system/cpu", "/sys/fs/cgroup",
	"/dev/urandom", "/dev/random", "/var/lib/sss", "/var/lib/extrausers", "/var/lib/misc",
	"/run/systemd", "/run/resolvconf", "/run/NetworkManager", "/run/connman", "/run/nscd",
	"/var/lib/ca-certificates", "/var/cache/ldconfig",
};

static void
confine_allow_system(struct sandbox *sb)
{
	size_t i;

	for (i = 0; i < NELEM(confine_system_paths); i++)
		sandbox_allow(sb, SANDBOX_READ, confine_system_paths[i]);
	sandbox_allow_around(sb, SANDBOX_READ, "/etc/resolv.conf");
	/* Where OpenSSL is told to look for certificates. */
	sandbox_allow_around(sb, SANDBOX_READ, getenv("SSL_CERT_FILE"));
	sandbox_allow(sb, SANDBOX_READ, getenv("SSL_CERT_DIR"));
	sandbox_allow(sb, SANDBOX_READ | SANDBOX_APPEND, "/dev/null");
}

/* A log: its directory, so that it can be made again; or what it is, if that is no file. */
static void
confine_allow_log(struct sandbox *sb, const char *path)
{
	char *real;
	struct stat st;

	if (path == NULL || strcmp(path, "-") == 0)
		return;
	if (stat(path, &st) != 0 || S_ISREG(st.st_mode)) {
		sandbox_allow_around(sb, SANDBOX_APPEND, path);
		return;
	}
	real = realpath(path, NULL);
	sandbox_allow(sb, SANDBOX_APPEND, real);
	free(real);
}

/* cache_dir, and where a part of it was put on another disk by a link. */
static void
confine_allow_cache(struct sandbox *sb, const char *dir)
{
	static const char *const parts[] = {"index", "blobs", "partial", "tables", "ca"};
	char path[4096];
	char *real;
	size_t i;

	sandbox_allow(sb, SANDBOX_OWN, dir);
	for (i = 0; i < NELEM(parts); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, parts[i]);
		real = realpath(path, NULL);
		sandbox_allow(sb, SANDBOX_OWN, real);
		free(real);
	}
}

/* Certificates and keys: their directories, since they are replaced by renaming. */
static void
confine_allow_file(void *arg, const char *key, const char *path)
{
	(void)key;
	sandbox_allow_around(arg, SANDBOX_READ, path);
}

/* Unix sockets are removed at the end. */
static void
confine_allow_sockets(struct sandbox *sb, const struct strlist *listen)
{
	size_t i;

	for (i = 0; i < listen->n; i++)
		if (strncmp(listen->v[i], "unix:", 5) == 0)
			sandbox_allow_around(sb, SANDBOX_REMOVE, listen->v[i] + 5);
}

void
confine_enter(struct confine *cf)
{
	const struct config *c = cf->config;
	struct sandbox sb = {.may_connect = true};

	cf->report[0] = '\0';
	if (c->sandbox == SANDBOX_OFF)
		return;
	sandbox_drop_rights();
	confine_allow_system(&sb);
	confine_allow_cache(&sb, c->cache_dir);
	confine_allow_log(&sb, c->log_file);
	confine_allow_log(&sb, c->access_log);
	confine_allow_sockets(&sb, &c->listen);
	confine_allow_sockets(&sb, &c->listen_tls);
	confine_allow_sockets(&sb, &c->listen_transparent);
	if (c->pid_file != NULL)
		sandbox_allow_around(&sb, SANDBOX_REMOVE, c->pid_file);
	if (cf->config_file != NULL)
		sandbox_allow_around(&sb, SANDBOX_READ, cf->config_file);
	config_each_file(c, confine_allow_file, &sb);
	confine_allow_file(&sb, "", c->tls_cert);
	confine_allow_file(&sb, "", c->tls_key);
	confine_allow_file(&sb, "", c->intercept_ca_cert);
	confine_allow_file(&sb, "", c->intercept_ca_key);
	sandbox_enter(&sb, cf->report);
}

bool
confine_helper(void *arg, char *why)
{
	struct confine *cf = arg;
	struct sandbox sb = {.may_run = true};
	char report[SANDBOX_REPORT_BYTES];

	/* Where we may: no network at all. Elsewhere the filter below refuses sockets. */
	if (cf->config->sandbox != SANDBOX_OFF)
		(void)unshare(CLONE_NEWNET);
	if (cf->becomes && !confine_set_ids(cf)) {
		(void)snprintf(why, SIGN_WORDS_BYTES, "the gpgv helper cannot become %s: %s",
		    cf->config->user, strerror(errno));
		return false;
	}
	if (cf->config->sandbox == SANDBOX_OFF)
		return true;
	sandbox_drop_rights();
	confine_allow_system(&sb);
	sandbox_allow(&sb, SANDBOX_RUN, "/usr");
	sandbox_allow(&sb, SANDBOX_RUN, "/bin");
	sandbox_allow(&sb, SANDBOX_RUN, "/lib");
	sandbox_allow(&sb, SANDBOX_RUN, "/lib64");
	sandbox_allow(&sb, SANDBOX_READ, cf->config->keyring_dir);
	sandbox_enter(&sb, report);
	return true;
}
