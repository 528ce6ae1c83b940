/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The command doctor: walks from the configuration over this machine and
 * every hop to a repository, a line for each check. Here: the report, and
 * what is checked on this machine.
 */
#include "proxy/doctor_priv.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

#include "include/clock.h"
#include "proxy/authfile.h"
#include "proxy/ca.h"
#include "proxy/cmd.h"
#include "proxy/confine.h"
#include "proxy/control.h"
#include "proxy/depot.h"
#include "proxy/page_priv.h"

static const char doctor_default_url[] =
    "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/";

enum {
	DOCTOR_LISTENER_MS = 2000,
};

/* ---- the report ---- */

void
doctor_say(struct doctor *d, enum doctor_result r, const char *check, const char *mend,
    const char *fmt, ...)
{
	static const char *const words[] = {"OK", "WARN", "FAIL", "note"};
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	cmd_clean(text);
	d->counts[r]++;
	if (d->json) {
		(void)fprintf(d->out, "{\"check\":\"%s\",\"result\":\"%s\",\"saw\":", check, words[r]);
		page_put_json(d->out, text);
		if (mend != NULL) {
			(void)fputs(",\"mend\":", d->out);
			page_put_json(d->out, mend);
		}
		(void)fputs("}\n", d->out);
	} else {
		(void)fprintf(d->out, "%-5s %-12s %s\n", r == DOCTOR_NOTE ? "" : words[r],
		    r == DOCTOR_NOTE ? "" : check, text);
		if (mend != NULL)
			(void)fprintf(d->out, "%18s -> %s\n", "", mend);
	}
	(void)fflush(d->out);
}

/* ---- the cache directory ---- */

/* Can't the user that the depot is to become write there? Root gives it an empty one. */
static bool
doctor_is_another_users(const char *dir, const struct stat *st, const char *user)
{
	const struct passwd *pw = user != NULL ? getpwnam(user) : NULL;
	bool empty;
	int fd;

	if (pw == NULL || pw->pw_uid == st->st_uid)
		return false;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	empty = fd >= 0 && confine_dir_is_empty(fd);
	if (fd >= 0)
		(void)close(fd);
	return !empty;
}

/* Is there one to write to, and to nobody else? */
static bool
doctor_check_dir(struct doctor *d)
{
	const struct config *c = d->config;
	const char *dir = c->cache_dir;
	char mend[4200];
	struct stat st;

	if (stat(dir, &st) != 0) {
		if (errno == ENOENT)
			doctor_say(d, DOCTOR_WARN, "cache_dir", NULL, "%s does not exist yet: "
			    "the depot makes it when it starts", dir);
		else
			doctor_say(d, DOCTOR_FAIL, "cache_dir", "cache_dir = /another/directory",
			    "%s: %s", dir, strerror(errno));
		return false;
	}
	if (st.st_mode & S_IWOTH)
		doctor_say(d, DOCTOR_FAIL, "cache_dir", "chmod o-w on it",
		    "%s may be written by everybody (mode %03o): anyone on this machine could "
		    "change packages", dir, st.st_mode & 0777);
	else if (doctor_is_another_users(dir, &st, c->user)) {
		(void)snprintf(mend, sizeof(mend), "chown -R %s %s", c->user, dir);
		doctor_say(d, DOCTOR_FAIL, "cache_dir", mend, "%s belongs to uid %u, not to user = %s",
		    dir, st.st_uid, c->user);
	} else if (access(dir, R_OK | W_OK | X_OK) != 0)
		doctor_say(d, DOCTOR_WARN, "cache_dir", "run this as the depot's user, or give the "
		    "directory to it", "%s belongs to uid %u, mode %03o: not writable for uid %u", dir,
		    st.st_uid, st.st_mode & 0777, geteuid());
	else
		doctor_say(d, DOCTOR_OK, "cache_dir", NULL, "%s, uid %u, mode %03o", dir, st.st_uid,
		    st.st_mode & 0777);
	return true;
}

/* The key that signs for intercepted hosts: usable, and nobody else's? */
static void
doctor_check_authority(struct doctor *d)
{
	char *why = NULL;
	struct ca *ca;

	if (d->config->intercept_hosts.patterns.n == 0 || !ca_is_there(d->config))
		return;
	ca = ca_of_config(d->config, false, &why);
	if (ca != NULL)
		doctor_say(d, DOCTOR_OK, "authority", NULL, "for %zu entries of intercept_hosts",
		    d->config->intercept_hosts.patterns.n);
	else
		doctor_say(d, DOCTOR_FAIL, "authority", "chmod 600 on its key, 700 on its directory; or "
		    "another one in intercept_ca_cert and intercept_ca_key", "%s", why != NULL ? why :
		    "out of memory");
	ca_free(&ca);
	free(why);
}

/* A size for a person. */
static const char *
doctor_bytes(uint64_t bytes, char out[32])
{
	FILE *f = fmemopen(out, 32, "w");

	out[0] = '\0';
	if (f != NULL) {
		page_put_bytes(f, (double)bytes);
		(void)fclose(f);
	}
	return out;
}

static void
doctor_check_space(struct doctor *d)
{
	const struct config *c = d->config;
	char free_text[32], max_text[32], total_text[32];
	struct statvfs v;
	uint64_t total, avail, max, least;

	if (statvfs(c->cache_dir, &v) != 0) {
		doctor_say(d, DOCTOR_FAIL, "space", "cache_dir = /another/directory", "%s: %s",
		    c->cache_dir, strerror(errno));
		return;
	}
	total = (uint64_t)v.f_blocks * v.f_frsize;
	avail = (uint64_t)v.f_bavail * v.f_frsize;
	max = config_resolve_size(&c->cache_max, total);
	least = config_resolve_size(&c->cache_min_free, total);
	(void)doctor_bytes(avail, free_text);
	(void)doctor_bytes(max, max_text);
	(void)doctor_bytes(total, total_text);
	if (v.f_flag & ST_RDONLY)
		doctor_say(d, DOCTOR_FAIL, "space", "mount it writable, or set cache_dir",
		    "the file system is read-only: nothing can be stored");
	else if (avail < least)
		doctor_say(d, DOCTOR_WARN, "space", "make room, or set cache_min_free = 1G",
		    "%s of %s free, less than cache_min_free: stored files go to keep it free",
		    free_text, total_text);
	else if (c->cache_max.bytes != UINT64_MAX && c->cache_max.bytes > total)
		doctor_say(d, DOCTOR_WARN, "space", "cache_max = 80%",
		    "%s of %s free; cache_max is more than the file system has", free_text, total_text);
	else if (v.f_files > 0 && v.f_favail < 10000)
		doctor_say(d, DOCTOR_WARN, "space", NULL, "only %llu more files fit on the file "
		    "system (inodes)", (unsigned long long)v.f_favail);
	else
		doctor_say(d, DOCTOR_OK, "space", NULL, "%s of %s free, cache_max is %s", free_text,
		    total_text, max_text);
}

/* The index is mapped, locked and synced: not every file system can do that. */
static void
doctor_check_fs(struct doctor *d)
{
	static const struct {
		unsigned long type;
		const char *name;
		enum doctor_result r;
		const char *words;
	} known[] = {
		{0xef53, "ext4", DOCTOR_OK, ""}, {0x58465342, "xfs", DOCTOR_OK, ""},
		{0x9123683e, "btrfs", DOCTOR_OK, ""}, {0x2fc12fc1, "zfs", DOCTOR_OK, ""},
		{0xf2f52010, "f2fs", DOCTOR_OK, ""}, {0xca451a4e, "bcachefs", DOCTOR_OK, ""},
		{0x01021994, "tmpfs", DOCTOR_WARN, "in memory: the cache is gone after a restart of "
		    "the machine"},
		{0x794c7630, "overlayfs", DOCTOR_WARN, "a container's own layer: slow, and gone with "
		    "the container; mount a volume"},
		{0x6969, "nfs", DOCTOR_FAIL, "a network file system: the index needs a local one"},
		{0xff534d42, "cifs", DOCTOR_FAIL, "a network file system: the index needs a local one"},
		{0xfe534d42, "smb2", DOCTOR_FAIL, "a network file system: the index needs a local one"},
		{0x00c36400, "ceph", DOCTOR_FAIL, "a network file system: the index needs a local one"},
		{0x65735546, "fuse", DOCTOR_WARN, "its mapped files and locks may not work as the "
		    "index needs them"},
		{0x01021997, "9p", DOCTOR_WARN, "its mapped files and locks may not work as the "
		    "index needs them"},
	};
	struct statfs fs;
	unsigned i;

	if (statfs(d->config->cache_dir, &fs) != 0)
		return;
	for (i = 0; i < NELEM(known); i++)
		if ((unsigned long)fs.f_type == known[i].type)
			break;
	if (i == NELEM(known))
		doctor_say(d, DOCTOR_OK, "file system", NULL, "type 0x%lx",
		    (unsigned long)fs.f_type);
	else
		doctor_say(d, known[i].r, "file system", known[i].r == DOCTOR_FAIL ?
		    "cache_dir = a directory on a local disk" : NULL, "%s%s%s", known[i].name,
		    known[i].words[0] != '\0' ? ": " : "", known[i].words);
}

/* ---- this process's limits, and the depot that runs ---- */

static void
doctor_check_descriptors(struct doctor *d)
{
	uint64_t room;
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) != 0)
		return;
	room = depot_room_for_connections(r.rlim_max, d->config->workers);
	if (room >= d->config->max_connections)
		doctor_say(d, DOCTOR_OK, "descriptors", NULL, "up to %llu open files",
		    (unsigned long long)r.rlim_max);
	else
		doctor_say(d, DOCTOR_WARN, "descriptors", "LimitNOFILE= of the unit, --ulimit nofile= "
		    "of docker, or a lower max_connections", "up to %llu open files here: room for "
		    "%llu connections, not the %llu of max_connections", (unsigned long long)r.rlim_max,
		    (unsigned long long)room, (unsigned long long)d->config->max_connections);
}

/* An address of `listen` as one to connect to. */
static int
doctor_connect_listener(const char *text, const struct doctor_socket *limit)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *ai = NULL;
	const char *colon = strrchr(text, ':');
	char host[256];
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const struct sockaddr *sa = (const struct sockaddr *)&un;
	socklen_t sa_n = sizeof(un);
	struct doctor_socket s = *limit;
	int err = 0, fd;
	socklen_t err_n = sizeof(err);

	if (strncmp(text, "unix:", 5) == 0)
		(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", text + 5);
	else {
		(void)snprintf(host, sizeof(host), "%.*s", colon != NULL ? (int)(colon - text) : 0,
		    text);
		if (host[0] == '[') {
			memmove(host, host + 1, strlen(host));
			host[strcspn(host, "]")] = '\0';
		}
		if (host[0] == '\0' || strcmp(host, "0.0.0.0") == 0)
			(void)strcpy(host, "127.0.0.1");
		else if (strcmp(host, "::") == 0)
			(void)strcpy(host, "::1");
		if (colon == NULL || getaddrinfo(host, colon + 1, &hints, &ai) != 0)
			return -1;
		sa = ai->ai_addr;
		sa_n = ai->ai_addrlen;
	}
	fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	s.fd = fd;
	if (fd >= 0 && connect(fd, sa, sa_n) != 0 && (errno != EINPROGRESS ||
	    !doctor_wait(&s, POLLOUT) || getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &err_n) != 0 ||
	    err != 0)) {
		(void)close(fd);
		fd = -1;
	}
	if (ai != NULL)
		freeaddrinfo(ai);
	return fd;
}

/* Does who listens there answer as a depot does? */
static void
doctor_check_listener(struct doctor *d, const char *text, bool running)
{
	static const char ask[] = "GET /-/healthz HTTP/1.0\r\n\r\n";
	struct doctor_socket s = {.until_ms = clock_mono_ms() + DOCTOR_LISTENER_MS};
	char answer[1024] = "";
	int n, got = 0;

	s.fd = doctor_connect_listener(text, &s);
	if (s.fd < 0) {
		if (running)
			doctor_say(d, DOCTOR_FAIL, "listen", "does another configuration run? Compare "
			    "with \"apt-depot status\"", "%s: a depot runs, but not here", text);
		else
			doctor_say(d, DOCTOR_WARN, "listen", "apt-depot serve, or systemctl start "
			    "apt-depot", "%s: nobody is listening", text);
		return;
	}
	if (doctor_write(&s, NULL, ask, sizeof(ask) - 1) == 0)
		while (got < (int)sizeof(answer) - 1 &&
		    (n = doctor_read(&s, NULL, answer + got, sizeof(answer) - 1 - (size_t)got)) > 0)
			got += n;
	(void)close(s.fd);
	if (strstr(answer, "\r\n\r\nok\n") != NULL)
		doctor_say(d, DOCTOR_OK, "listen", NULL, "%s: a depot answers", text);
	else
		doctor_say(d, DOCTOR_FAIL, "listen", "stop it, or listen = :another-port",
		    "%s: something else than a depot is listening", text);
}

static void
doctor_check_listeners(struct doctor *d)
{
	int fd = control_connect(d->config->cache_dir);
	bool running = fd >= 0 || errno == EACCES;
	size_t i;

	if (fd >= 0)
		(void)close(fd);
	for (i = 0; i < d->config->listen.n; i++)
		doctor_check_listener(d, d->config->listen.v[i], running);
}

/* ---- the command ---- */

/* Reads the configuration; NULL after lines that say what is wrong. */
static struct config *
doctor_load(struct doctor *d, const struct cmd_call *call)
{
	const char *file = cmd_config_file(call);
	char *errors = NULL, *warnings = NULL, *line, *next;
	size_t errors_n = 0, warnings_n = 0;
	FILE *e = open_memstream(&errors, &errors_n), *w = open_memstream(&warnings, &warnings_n);
	struct config *c = NULL;

	if (e != NULL && w != NULL)
		c = config_load(file, &call->settings, e, w);
	if (e != NULL)
		(void)fclose(e);
	if (w != NULL)
		(void)fclose(w);
	for (line = errors; line != NULL && *line != '\0'; line = next) {
		next = line + strcspn(line, "\n");
		if (*next != '\0')
			*next++ = '\0';
		doctor_say(d, DOCTOR_FAIL, "config", NULL, "%s", line);
	}
	for (line = warnings; line != NULL && *line != '\0'; line = next) {
		next = line + strcspn(line, "\n");
		if (*next != '\0')
			*next++ = '\0';
		doctor_say(d, DOCTOR_WARN, "config", NULL, "%s", line);
	}
	if (c != NULL)
		doctor_say(d, DOCTOR_OK, "config", NULL, "%s", file != NULL ? file :
		    "built-in defaults");
	free(errors);
	free(warnings);
	return c;
}

/* The URL to try, as a client's request for it would be understood. */
static bool
doctor_take_url(struct doctor *d, const char *word)
{
	struct depot depot = {.config = d->config, .route = {.https_upgrade = &d->config->https_upgrade}};
	struct arena a;

	arena_init(&a, d->url_memory, sizeof(d->url_memory));
	if (!depot_parse_url(&depot, word != NULL ? word : doctor_default_url, &a, &d->url)) {
		(void)fprintf(stderr, "apt-depot: %s is no URL of a repository: write "
		    "https://host/path/\n", word);
		return false;
	}
	d->up = config_for_upstream(d->config, d->url.host);
	return true;
}

int
cmd_doctor(const struct cmd_call *call)
{
	struct doctor *d = calloc(1, sizeof(*d));
	struct config *c;
	int status = CMD_FAILED;

	if (d == NULL)
		return CMD_FAILED;
	d->out = stdout;
	d->json = call->json;
	d->save_ca = cmd_option(call, "save-ca");
	(void)signal(SIGPIPE, SIG_IGN);
	(void)curl_global_init(CURL_GLOBAL_DEFAULT);
	c = doctor_load(d, call);
	d->config = c;
	if (c != NULL && !doctor_take_url(d, cmd_word(call, 0)))
		status = CMD_USAGE;
	else if (c != NULL) {
		if (doctor_check_dir(d)) {
			doctor_check_space(d);
			doctor_check_fs(d);
			doctor_check_authority(d);
		}
		doctor_check_descriptors(d);
		doctor_check_listeners(d);
		doctor_check_store(d);
		doctor_check_auth(d);
		doctor_check_way(d);
		if (d->reached && d->trusted)
			doctor_check_repo(d);
		status = d->counts[DOCTOR_FAIL] > 0 ? CMD_FAILED : CMD_OK;
		if (!d->json)
			(void)printf("%u checks fine, %u warnings, %u failed\n", d->counts[DOCTOR_OK],
			    d->counts[DOCTOR_WARN], d->counts[DOCTOR_FAIL]);
	}
	if (c != NULL)
		config_free(&c);
	authfile_free(&d->auth);
	free(d);
	curl_global_cleanup();
	return status;
}
