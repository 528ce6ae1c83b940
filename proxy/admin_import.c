/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The command import, both sides. The client walks the directory, opens each
 * package and passes its descriptor to the running depot, which so needs no
 * right to read the directory; the depot copies the file into the cache. A
 * request for each file: cheap beside copying and syncing it.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/config.h"
#include "include/inspect.h"
#include "proxy/admin_priv.h"
#include "proxy/control.h"
#include "proxy/page_priv.h"

enum { IMPORT_OPEN_MAX = 32 };

/* ---- the depot's side: one file ---- */

static bool
admin_import_stop(void *arg)
{
	return admin_cancelled(arg);
}

/* file:///path, with what is no plain URL text escaped. */
static void
admin_import_url(const char *path, char *out, size_t cap)
{
	size_t n = (size_t)snprintf(out, cap, "file://");

	for (; *path != '\0' && n + 4 < cap; path++)
		if ((unsigned char)*path <= ' ' || (unsigned char)*path >= 0x7f || *path == '%')
			n += (size_t)snprintf(out + n, cap - n, "%%%02X", (unsigned char)*path);
		else {
			out[n++] = *path;
			out[n] = '\0';
		}
}

int
admin_import(struct admin_call *a)
{
	const char *path = cmd_word(a->cmd, 0);
	char url[8192], hex[KEY_HEX_BYTES];
	uint8_t digest[32];
	uint64_t bytes = 0;
	bool was_here = false;
	struct stat st;
	enum reason r;

	if (a->fd < 0 || fstat(a->fd, &st) != 0 || !S_ISREG(st.st_mode) || path[0] != '/') {
		(void)fputs("apt-depot: import needs an open file with its path\n", a->errors);
		return CMD_USAGE;
	}
	admin_import_url(path, url, sizeof(url));
	r = inspect_import(a->view, a->fd, url, admin_import_stop, a, digest, &bytes, &was_here);
	if (r != REASON_OK) {
		(void)fprintf(a->errors, "apt-depot: %s: %s\n", path, reason_text(r));
		return CMD_FAILED;
	}
	key_hex(digest, hex);
	if (a->cmd->json) {
		(void)fputs("{\"file\":", a->out);
		page_put_json(a->out, path);
		(void)fprintf(a->out, ",\"sha256\":\"%s\",\"size_bytes\":%" PRIu64 ",\"new\":%s}\n", hex,
		    bytes, was_here ? "false" : "true");
	} else
		(void)fprintf(a->out, "%s %s  %s\n", was_here ? "was here" : "stored  ", hex, path);
	return CMD_OK;
}

/* ---- the client's side: a directory ---- */

/* The walk's; nftw takes no argument. */
static struct {
	const struct cmd_call *call;
	const char *cache_dir;
	uint64_t files_n, bytes, failed_n;
	int status;			/* what ended the walk */
} import_walk;

/* Is it a package, or a part of a source package? */
static bool
import_is_wanted(const char *name)
{
	static const char *const ends[] = {".deb", ".udeb", ".ddeb", ".dsc", ".tar.gz", ".tar.xz",
	    ".tar.bz2", ".tar.zst", ".diff.gz"};
	size_t n = strlen(name), i;

	for (i = 0; i < NELEM(ends); i++)
		if (n > strlen(ends[i]) && strcmp(name + n - strlen(ends[i]), ends[i]) == 0)
			return true;
	return false;
}

static int
import_file_cb(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	char word[PATH_MAX], *words[1] = {word};
	struct cmd_call call = *import_walk.call;
	int fd, status;

	if (type == FTW_DNR)
		(void)fprintf(stderr, "apt-depot: cannot read %s\n", path);
	import_walk.failed_n += type == FTW_DNR;
	if (type != FTW_F || !S_ISREG(st->st_mode) || !import_is_wanted(path + ftw->base))
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		(void)fprintf(stderr, "apt-depot: %s: %s\n", path, strerror(errno));
		import_walk.failed_n++;
		return 0;
	}
	(void)snprintf(word, sizeof(word), "%s", path);
	call.words = (struct strlist){words, 1};
	status = control_ask(&call, import_walk.cache_dir, fd);
	(void)close(fd);
	if (status == CMD_OK) {
		import_walk.files_n++;
		import_walk.bytes += (uint64_t)st->st_size;
	} else
		import_walk.failed_n++;
	import_walk.status = status;
	return status == CMD_USAGE;	/* there is no depot: the next file finds none either */
}

int
cmd_import(const struct cmd_call *call)
{
	struct config *c = cmd_config(call);
	char dir[PATH_MAX];
	int status = CMD_OK;

	if (c == NULL)
		return CMD_USAGE;
	memset(&import_walk, 0, sizeof(import_walk));
	import_walk.call = call;
	import_walk.cache_dir = c->cache_dir;
	if (realpath(cmd_word(call, 0), dir) == NULL || nftw(dir, import_file_cb, IMPORT_OPEN_MAX,
	    FTW_PHYS) < 0) {
		(void)fprintf(stderr, "apt-depot: %s: %s\n", cmd_word(call, 0), strerror(errno));
		status = CMD_FAILED;
	} else if (import_walk.status == CMD_USAGE)
		status = CMD_USAGE;
	else if (import_walk.failed_n > 0)
		status = CMD_FAILED;
	if (status != CMD_USAGE && !call->json) {
		(void)printf("%" PRIu64 " files, ", import_walk.files_n);
		page_put_bytes(stdout, (double)import_walk.bytes);
		(void)printf("; %" PRIu64 " failed\n", import_walk.failed_n);
	}
	config_free(&c);
	return status;
}
