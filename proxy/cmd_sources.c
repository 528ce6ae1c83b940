/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The command sources: standard input to standard output, or files in place.
 * A file is replaced by renaming a finished one over it, after a copy of the
 * old one was kept in the same way: whenever it is interrupted, there is a
 * whole file of either kind. sources.c does the rewriting.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/cmd.h"
#include "proxy/page_priv.h"
#include "proxy/sources.h"

enum { SOURCES_FILE_MAX = 16 << 20 };

/* What was asked for, and what one file is called in the list of changes. */
struct sources_job {
	struct sources_how how;
	const char *backup;		/* suffix; "": none */
	const char *name;
	bool dry_run, json;
};

/* "file:line: - old, + new". */
static void
sources_show_line(void *arg, unsigned long number, struct slice was, struct slice now)
{
	const struct sources_job *job = arg;

	(void)printf("%s:%lu\n- %.*s\n+ %.*s\n", job->name, number, SLICE_ARG(was), SLICE_ARG(now));
}

static int
sources_fail(const char *what, const char *path)
{
	(void)fprintf(stderr, "apt-depot: cannot %s %s: %s\n", what, path, strerror(errno));
	return CMD_FAILED;
}

/* All of a file; malloced. */
static int
sources_read(FILE *in, const char *name, char **text, size_t *n)
{
	char *p = malloc(SOURCES_FILE_MAX + 1);

	if (p == NULL) {
		(void)fputs("apt-depot: out of memory\n", stderr);
		return CMD_FAILED;
	}
	*n = fread(p, 1, SOURCES_FILE_MAX + 1, in);
	if (ferror(in) || *n > SOURCES_FILE_MAX) {
		if (!ferror(in))
			errno = EFBIG;
		free(p);
		return sources_fail("read", name);
	}
	*text = p;
	return CMD_OK;
}

/* Makes path hold these bytes, with this mode and owner, at once or not at all. */
static int
sources_replace(const char *path, const struct stat *st, const char *text, size_t n)
{
	char temp[PATH_MAX];
	int fd;
	FILE *out;
	bool ok;

	if ((size_t)snprintf(temp, sizeof(temp), "%s.apt-depot-XXXXXX", path) >= sizeof(temp)) {
		errno = ENAMETOOLONG;
		return sources_fail("write", path);
	}
	fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0)
		return sources_fail("make a file beside", path);
	out = fdopen(fd, "w");
	ok = out != NULL && fwrite(text, 1, n, out) == n && fflush(out) == 0 &&
	    (fchown(fd, st->st_uid, st->st_gid) == 0 ||
	    (st->st_uid == geteuid() && st->st_gid == getegid())) &&
	    fchmod(fd, st->st_mode & 07777) == 0 && fsync(fd) == 0;
	if (out == NULL)
		(void)close(fd);
	else if (fclose(out) != 0)
		ok = false;
	if (ok && rename(temp, path) == 0)
		return CMD_OK;
	(void)sources_fail("write", path);
	(void)unlink(temp);
	return CMD_FAILED;
}

/* Puts the new text in the place of the old one, which is kept under another name. */
static int
sources_store(const struct sources_job *job, const char *path, const struct stat *st,
    struct slice was, struct slice now)
{
	char backup[PATH_MAX];

	if (job->backup[0] != '\0') {
		if ((size_t)snprintf(backup, sizeof(backup), "%s%s", path, job->backup) >=
		    sizeof(backup)) {
			errno = ENAMETOOLONG;
			return sources_fail("keep a copy of", path);
		}
		if (sources_replace(backup, st, was.p, was.n) != CMD_OK)
			return CMD_FAILED;
	}
	return sources_replace(path, st, now.p, now.n);
}

/* Says how a file fared. */
static void
sources_report(const struct sources_job *job, unsigned long changed)
{
	if (job->json) {
		(void)fputs("{\"file\":", stdout);
		page_put_json(stdout, job->name);
		(void)printf(",\"changed\":%lu,\"written\":%s}\n", changed,
		    changed > 0 && !job->dry_run ? "true" : "false");
	} else if (!job->dry_run)
		(void)printf("%s: %lu %s changed\n", job->name, changed, changed == 1 ? "URI" : "URIs");
}

/* Rewrites in memory. */
static int
sources_in_memory(const struct sources_job *job, struct slice was, struct slice *now,
    unsigned long *changed)
{
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	if (out == NULL)
		return sources_fail("rewrite", job->name);
	*changed = sources_rewrite(was, &job->how, out);
	if (fclose(out) != 0) {
		free(text);
		return sources_fail("rewrite", job->name);
	}
	*now = (struct slice){text, n};
	return CMD_OK;
}

static int
sources_do_file(struct sources_job *job, const char *name)
{
	struct slice was = SLICE_NONE, now = SLICE_NONE;
	unsigned long changed = 0;
	char path[PATH_MAX];
	struct stat st;
	char *text = NULL;
	FILE *in;
	int status;

	job->name = name;
	/* A symbolic link stays one: what it names is replaced. */
	if (realpath(name, path) == NULL)
		return sources_fail("find", name);
	in = fopen(path, "re");
	if (in == NULL || fstat(fileno(in), &st) != 0) {
		status = sources_fail("read", name);
		if (in != NULL)
			(void)fclose(in);
		return status;
	}
	status = sources_read(in, name, &text, &was.n);
	(void)fclose(in);
	was.p = text;
	if (status == CMD_OK)
		status = sources_in_memory(job, was, &now, &changed);
	if (status == CMD_OK && changed > 0 && !job->dry_run)
		status = sources_store(job, path, &st, was, now);
	if (status == CMD_OK)
		sources_report(job, changed);
	free((char *)(uintptr_t)now.p);
	free(text);
	return status;
}

/* Standard input to standard output. */
static int
sources_do_stdin(struct sources_job *job)
{
	struct slice was = SLICE_NONE, now = SLICE_NONE;
	unsigned long changed = 0;
	char *text = NULL;
	int status;

	job->name = "standard input";
	status = sources_read(stdin, job->name, &text, &was.n);
	was.p = text;
	if (status == CMD_OK)
		status = sources_in_memory(job, was, &now, &changed);
	if (status == CMD_OK && !job->dry_run)
		(void)fwrite(now.p, 1, now.n, stdout);
	free((char *)(uintptr_t)now.p);
	free(text);
	if (fflush(stdout) != 0 || ferror(stdout))
		return sources_fail("write", "standard output");
	return status;
}

int
cmd_sources(const struct cmd_call *call)
{
	struct sources_job job = {
		.how = {.to_https = cmd_option(call, "to-https") != NULL,
		    .all = cmd_option(call, "all") != NULL},
		.backup = cmd_option(call, "backup"),
		.dry_run = cmd_option(call, "dry-run") != NULL,
		.json = call->json,
	};
	int status = CMD_OK;
	size_t i;

	if (job.how.to_https && cmd_option(call, "to-depot") != NULL) {
		(void)fputs("apt-depot: --to-depot or --to-https, not both; \"apt-depot help sources\"\n",
		    stderr);
		return CMD_USAGE;
	}
	if (job.backup == NULL)
		job.backup = ".bak";
	if (strchr(job.backup, '/') != NULL) {
		(void)fputs("apt-depot: --backup is what is added to the file's name, without a "
		    "slash\n", stderr);
		return CMD_USAGE;
	}
	if (job.dry_run && !job.json) {
		job.how.line = sources_show_line;
		job.how.arg = &job;
	}
	if (call->words.n == 0 || (call->words.n == 1 && strcmp(call->words.v[0], "-") == 0))
		return sources_do_stdin(&job);
	for (i = 0; i < call->words.n; i++)
		if (sources_do_file(&job, call->words.v[i]) != CMD_OK)
			status = CMD_FAILED;
	return status;
}
