/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The command warm: has the depot fetch what builds are going to ask for.
 * It reads the repository's Release and lists through the depot, so that the
 * generation that clients will see is the one that is looked at, works out
 * what the packages need (cache/plan.c), and downloads each file through the
 * depot (warm_fetch.c). Nothing is remembered between two runs: what is
 * cached already is a matter of a moment, so running it again continues.
 */
#include <curl/curl.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "include/config.h"
#include "include/plan.h"
#include "proxy/cmd.h"
#include "proxy/page_priv.h"
#include "proxy/warm_priv.h"

enum { WARM_FILE_MAX = 64 << 20, WARM_RELEASE_MAX = 16 << 20, WARM_UNKNOWN_MAX = 20 };

/* One call. */
struct warm {
	const struct cmd_call *call;
	struct warm_conf conf;
	char root[WARM_URL_BYTES];	/* directory of InRelease, as apt asks for it */
	char base[WARM_URL_BYTES];	/* what file names are relative to */
	bool flat;
	struct plan *plan;
	struct warm_file *files;
	unsigned files_n, files_cap;
	enum warm_form form;		/* of from_file */
	char *from_text, *installed_text;	/* NULL: not given */
	size_t from_n, installed_n;
	unsigned elsewhere_n;		/* names of a list that this repository does not have */
};

PRINTF_LIKE(2, 3)
static int
warm_fail(int status, const char *fmt, ...)
{
	char text[2 * WARM_URL_BYTES];
	va_list ap;

	(void)fflush(stdout);
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	cmd_clean(text);
	(void)fprintf(stderr, "apt-depot: %s\n", text);
	return status;
}

/* A line for people; with --json standard output is the result's alone. */
PRINTF_LIKE(2, 3)
static void
warm_say(const struct warm *w, const char *fmt, ...)
{
	char text[2 * WARM_URL_BYTES];
	va_list ap;

	if (w->conf.quiet)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	cmd_clean(text);
	(void)puts(text);
	(void)fflush(stdout);
}

/* ---- where things are ---- */

/* Where the depot listens, as its configuration says it. */
static bool
warm_find_listener(struct warm_conf *conf, const struct config *c)
{
	struct slice host;
	uint16_t port;

	for (size_t i = 0; i < c->listen.n; i++) {
		const char *text = c->listen.v[i], *colon = strrchr(text, ':');

		if (strncmp(text, "unix:", 5) == 0) {
			if (conf->unix_path[0] == '\0' && strlen(text + 5) < sizeof(conf->unix_path))
				(void)snprintf(conf->unix_path, sizeof(conf->unix_path), "%s",
				    text + 5);
			continue;
		}
		conf->unix_path[0] = '\0';
		if (!url_split_authority(slice_of(text), &host, &port) || port == 0) {
			host = SLICE("127.0.0.1");	/* a port alone, or *:port */
			port = (uint16_t)atoi(colon != NULL ? colon + 1 : text);
		}
		if (slice_eq(host, SLICE("0.0.0.0")))
			host = SLICE("127.0.0.1");
		else if (slice_eq(host, SLICE("::")))
			host = SLICE("::1");
		(void)snprintf(conf->depot, sizeof(conf->depot),
		    memchr(host.p, ':', host.n) != NULL ? "http://[%.*s]:%u" : "http://%.*s:%u",
		    SLICE_ARG(host), port);
		return port != 0;
	}
	(void)strcpy(conf->depot, "http://localhost");
	return conf->unix_path[0] != '\0';
}

static int
warm_find_depot(struct warm *w)
{
	const char *url = cmd_option(w->call, "depot"), *jobs = cmd_option(w->call, "jobs");
	struct config *c;
	bool found;

	w->conf.jobs = jobs != NULL ? (unsigned)strtoul(jobs, NULL, 10) : 4;
	if (w->conf.jobs < 1 || w->conf.jobs > WARM_JOBS_MAX)
		return warm_fail(CMD_USAGE, "--jobs is 1 to %d", WARM_JOBS_MAX);
	if (url != NULL) {
		if (snprintf(w->conf.depot, sizeof(w->conf.depot), "%s%s", strstr(url, "://") != NULL ?
		    "" : "http://", url) >= (int)sizeof(w->conf.depot))
			return warm_fail(CMD_USAGE, "--depot is too long");
		return CMD_OK;
	}
	c = cmd_config(w->call);
	if (c == NULL)
		return CMD_USAGE;
	found = warm_find_listener(&w->conf, c);
	config_free(&c);
	return found ? CMD_OK : warm_fail(CMD_USAGE, "the configuration listens nowhere that can be "
	    "asked: give --depot http://host:3142");
}

/* A URL as people write it, as apt would ask the depot for it; false: too long. */
static bool
warm_target(const char *url, char out[WARM_URL_BYTES])
{
	int n;

	if (strncasecmp(url, "https://", 8) == 0)
		n = snprintf(out, WARM_URL_BYTES, "http://HTTPS///%s", url + 8);
	else if (strncasecmp(url, "HTTPS/", 6) == 0)
		n = snprintf(out, WARM_URL_BYTES, "http://%s", url);
	else
		n = snprintf(out, WARM_URL_BYTES, "%s%s", strstr(url, "://") != NULL ? "" : "http://",
		    url);
	return n > 0 && n < WARM_URL_BYTES;
}

/* Root and base of the repository that a URL and --suite name. */
static int
warm_find_repository(struct warm *w, const char *url)
{
	const char *suite = cmd_option(w->call, "suite"), *dists;
	char text[WARM_URL_BYTES];
	size_t n;

	if (!warm_target(url, text) || strlen(text) + 600 > sizeof(text) ||
	    (suite != NULL && strlen(suite) > 500))
		return warm_fail(CMD_USAGE, "the URL is too long");
	n = strlen(text);
	if (text[n - 1] != '/')
		memcpy(text + n, "/", 2);
	dists = strstr(text, "/dists/");
	for (const char *next = dists; next != NULL; next = strstr(next + 1, "/dists/"))
		dists = next;
	w->flat = suite == NULL && dists == NULL;
	(void)snprintf(w->base, sizeof(w->base), "%s", text);
	if (suite != NULL)
		(void)snprintf(w->root, sizeof(w->root), "%.7000sdists/%s/", text, suite);
	else
		(void)snprintf(w->root, sizeof(w->root), "%s", text);
	if (suite == NULL && dists != NULL)
		w->base[dists - text + 1] = '\0';
	return CMD_OK;
}

/* The architecture of this machine, in Debian's words. */
static struct slice
warm_arch(const struct warm *w)
{
	static const char *const names[][2] = {
		{"x86_64", "amd64"}, {"aarch64", "arm64"}, {"i686", "i386"}, {"armv7l", "armhf"},
		{"ppc64le", "ppc64el"}, {"s390x", "s390x"}, {"riscv64", "riscv64"},
	};
	const char *arch = cmd_option(w->call, "arch");
	struct utsname u;

	if (arch != NULL || uname(&u) != 0)
		return slice_of(arch != NULL ? arch : "amd64");
	for (unsigned i = 0; i < NELEM(names); i++)
		if (strcmp(names[i][0], u.machine) == 0)
			return slice_of(names[i][1]);
	return SLICE("amd64");
}

/* ---- files that it is given ---- */

static int
warm_read_file(const char *path, char **text, size_t *n)
{
	FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	int status = CMD_OK;

	*text = in != NULL ? malloc(WARM_FILE_MAX + 1) : NULL;
	if (in == NULL)
		return warm_fail(CMD_USAGE, "cannot read %s: %s", path, strerror(errno));
	if (*text == NULL)
		status = warm_fail(CMD_FAILED, "out of memory");
	else {
		*n = fread(*text, 1, WARM_FILE_MAX + 1, in);
		if (ferror(in) || *n > WARM_FILE_MAX)
			status = warm_fail(CMD_USAGE, "cannot read %s: %s", path,
			    *n > WARM_FILE_MAX ? "it has more than 64 MiB" : strerror(errno));
	}
	if (in != stdin)
		(void)fclose(in);
	return status;
}

static int
warm_read_files(struct warm *w)
{
	const char *from = cmd_option(w->call, "from-file");
	const char *installed = cmd_option(w->call, "installed");
	int status = CMD_OK;

	if (from != NULL) {
		status = warm_read_file(from, &w->from_text, &w->from_n);
		if (status == CMD_OK) {
			w->form = warm_list_form((struct slice){w->from_text, w->from_n});
			warm_say(w, "%s is %s", from, warm_form_name(w->form));
		}
	}
	if (status == CMD_OK && installed != NULL)
		status = warm_read_file(installed, &w->installed_text, &w->installed_n);
	return status;
}

/* ---- the list of what to fetch ---- */

/* One file more; size -1, sha256 NULL: not known. */
static bool
warm_add_file(struct warm *w, const char *target, const char *name, int64_t size_bytes,
    const uint8_t *sha256)
{
	struct warm_file *f;

	if (w->files_n == w->files_cap) {
		unsigned cap = w->files_cap == 0 ? 256 : 2 * w->files_cap;

		f = realloc(w->files, cap * sizeof(*f));
		if (f == NULL)
			return false;
		w->files = f;
		w->files_cap = cap;
	}
	f = &w->files[w->files_n];
	memset(f, 0, sizeof(*f));
	f->target = strdup(target);
	if (f->target == NULL)
		return false;
	(void)snprintf(f->name, sizeof(f->name), "%s", name);
	cmd_clean(f->name);
	f->size_bytes = size_bytes;
	f->has_sha256 = sha256 != NULL;
	if (sha256 != NULL)
		memcpy(f->sha256, sha256, 32);
	w->files_n++;
	return true;
}

/* A file's URL: as it is. */
static int
warm_add_url(struct warm *w, const char *url)
{
	char target[WARM_URL_BYTES];
	const char *slash = strrchr(url, '/');

	if (!warm_target(url, target))
		return warm_fail(CMD_USAGE, "too long: %.200s...", url);
	if (!warm_add_file(w, target, slash != NULL && slash[1] != '\0' ? slash + 1 : url, -1, NULL))
		return warm_fail(CMD_FAILED, "out of memory");
	return CMD_OK;
}

/* Are files named, and no repository? No package has a slash in its name. */
static bool
warm_words_are_files(const struct warm *w)
{
	for (size_t i = 0; i < w->call->words.n; i++) {
		const char *word = cmd_word(w->call, i), *slash = strrchr(word, '/');

		if (slash == NULL || slash[1] == '\0')
			return false;
	}
	return w->call->words.n > 0 && w->from_text == NULL &&
	    cmd_option(w->call, "suite") == NULL;
}

/* Those that are named, or those of --from-file. */
static int
warm_add_urls(struct warm *w)
{
	struct slice rest = {w->from_text, w->from_n};
	char url[WARM_URL_BYTES];
	int status = CMD_OK;

	w->form = WARM_URLS;
	for (size_t i = 0; i < w->call->words.n && status == CMD_OK; i++)
		status = warm_add_url(w, cmd_word(w->call, i));
	while (status == CMD_OK && w->from_text != NULL &&
	    warm_list_next(WARM_URLS, &rest, url, sizeof(url)))
		status = warm_add_url(w, url);
	return status;
}

/* A body that is kept. */
struct warm_text {
	char *p;
	size_t n;
};

static bool
warm_keep(void *arg, const void *p, size_t n)
{
	struct warm_text *t = arg;
	char *more;

	if (t->n + n > WARM_RELEASE_MAX)
		return false;
	more = realloc(t->p, t->n + n + 1);
	if (more == NULL)
		return false;
	t->p = more;
	memcpy(t->p + t->n, p, n);
	t->n += n;
	return true;
}

static bool
warm_feed_list(void *arg, const void *p, size_t n)
{
	const struct warm *w = arg;

	return plan_feed(w->plan, p, n) == REASON_OK;
}

/* One file of the repository's own, for the sink. */
static bool
warm_get(struct warm *w, struct slice path, int64_t size_bytes, const uint8_t *sha256,
    warm_sink_f *sink, void *arg, long *status, char why[400])
{
	struct warm_file f = {.size_bytes = size_bytes, .has_sha256 = sha256 != NULL};
	char target[WARM_URL_BYTES + 1200];
	bool ok;

	(void)snprintf(target, sizeof(target), "%s%.*s", w->root, SLICE_ARG(path));
	f.target = target;
	if (sha256 != NULL)
		memcpy(f.sha256, sha256, 32);
	ok = warm_fetch_one(&w->conf, &f, sink, arg, status);
	(void)snprintf(why, 400, "%s", f.why);
	return ok;
}

static int
warm_no_depot(const struct warm *w, const char *why)
{
	return warm_fail(CMD_USAGE, "no depot answers at %s: %s: start it, or give --depot "
	    "http://host:port", w->conf.depot, why);
}

/* InRelease, or where there is none, Release. */
static int
warm_read_release(struct warm *w)
{
	struct warm_text text = {NULL, 0};
	char why[PLAN_WHY_BYTES] = "";
	long status;
	bool ok = warm_get(w, SLICE("InRelease"), -1, NULL, warm_keep, &text, &status, why);
	int result = CMD_OK;

	if (!ok && status == 0) {
		free(text.p);
		return warm_no_depot(w, why);
	}
	if (!ok && status == 404) {
		text.n = 0;
		ok = warm_get(w, SLICE("Release"), -1, NULL, warm_keep, &text, &status, why);
	}
	if (!ok && status == 404)
		result = warm_fail(CMD_FAILED, "%s: there is no repository: neither InRelease nor "
		    "Release%s", w->root, w->flat ? " (of one with dists/, name the --suite)" : "");
	else if (!ok)
		result = warm_fail(CMD_FAILED, "%s: its InRelease: %s", w->root, why);
	else if (plan_read_release(w->plan, text.p, text.n, why, sizeof(why)) != REASON_OK)
		result = warm_fail(CMD_FAILED, "%s: %s", w->root, why);
	free(text.p);
	return result;
}

/* The lists of packages, into the plan. */
static int
warm_read_lists(struct warm *w)
{
	char why[400];
	struct plan_list list;
	enum reason r;
	long status;

	for (unsigned k = 0; k < plan_lists_n(w->plan); k++) {
		plan_list_at(w->plan, k, &list);
		r = plan_begin_list(w->plan, k);
		if (r == REASON_OK && !warm_get(w, list.path, (int64_t)list.size_bytes, list.sha256,
		    warm_feed_list, w, &status, why))
			return warm_fail(CMD_FAILED, "%s%.*s: %s", w->root, SLICE_ARG(list.path),
			    plan_why(w->plan)[0] != '\0' ? plan_why(w->plan) : why);
		if (r == REASON_OK)
			r = plan_end_list(w->plan);
		if (r != REASON_OK)
			return warm_fail(CMD_FAILED, "%s%.*s: %s", w->root, SLICE_ARG(list.path),
			    plan_why(w->plan));
	}
	r = plan_ready(w->plan);
	return r == REASON_OK ? CMD_OK : warm_fail(CMD_FAILED, "%s", plan_why(w->plan));
}

/* What is wanted, from the command line and the list; each unknown name is said. */
static int
warm_choose(struct warm *w)
{
	struct slice rest = {w->from_text, w->from_n}, there = {w->installed_text, w->installed_n};
	enum warm_form installed_form = warm_list_form(there);
	char why[PLAN_WHY_BYTES], entry[512];
	unsigned unknown_n = 0, wanted_n = 0;

	while (w->installed_text != NULL && warm_list_next(installed_form, &there, entry,
	    sizeof(entry))) {
		entry[strcspn(entry, ":=")] = '\0';
		plan_present(w->plan, slice_of(entry));
	}
	for (unsigned i = 1; cmd_word(w->call, i) != NULL; i++) {
		if (plan_want(w->plan, slice_of(cmd_word(w->call, i)), why, sizeof(why)) == REASON_OK)
			wanted_n++;
		else if (unknown_n++ < WARM_UNKNOWN_MAX)
			(void)warm_fail(CMD_USAGE, "%s", why);
	}
	while (w->from_text != NULL && warm_list_next(w->form, &rest, entry, sizeof(entry))) {
		if (plan_want(w->plan, slice_of(entry), why, sizeof(why)) == REASON_OK)
			wanted_n++;
		else	/* the list of a machine names packages of several repositories */
			w->elsewhere_n++;
	}
	if (unknown_n > 0)
		return CMD_FAILED;
	if (wanted_n == 0)
		return warm_fail(CMD_FAILED, "none of the %u packages of the list is in this "
		    "repository in this version", w->elsewhere_n);
	if (w->elsewhere_n > 0)
		warm_say(w, "%u packages of the list are not in this repository", w->elsewhere_n);
	return plan_resolve(w->plan, why, sizeof(why)) == REASON_OK ? CMD_OK :
	    warm_fail(CMD_FAILED, "%s", why);
}

/* From the plan to files. */
static int
warm_add_planned(struct warm *w)
{
	struct plan_file *f = malloc(sizeof(*f));
	char target[WARM_URL_BYTES + PLAN_PATH_BYTES], name[WARM_NAME_BYTES];
	char missing[PLAN_WHY_BYTES];
	bool ok = f != NULL;
	unsigned n;

	for (unsigned k = 0; ok && k < plan_files_n(w->plan); k++) {
		if (!plan_file_at(w->plan, k, f)) {
			(void)warm_fail(CMD_FAILED, "%.*s: its file has no usable name",
			    SLICE_ARG(f->name));
			continue;
		}
		(void)snprintf(target, sizeof(target), "%s%s", w->base, f->path);
		(void)snprintf(name, sizeof(name), "%.*s %.*s", SLICE_ARG(f->name),
		    SLICE_ARG(f->version));
		ok = warm_add_file(w, target, name, (int64_t)f->size_bytes, f->sha256);
	}
	free(f);
	n = plan_missing(w->plan, missing, sizeof(missing));
	if (n > 0)
		warm_say(w, "%u dependencies are not in this repository: %s%s", n, missing,
		    n > 16 ? ", ..." : "");
	return ok ? CMD_OK : warm_fail(CMD_FAILED, "out of memory");
}

/* Everything up to the first package. */
static int
warm_plan(struct warm *w)
{
	struct plan_conf pc = {
		.flat = w->flat, .arch = warm_arch(w),
		.components = slice_of(cmd_option(w->call, "component")),
		.recommends = cmd_option(w->call, "no-recommends") == NULL,
	};
	int status;

	w->plan = plan_new(&pc);
	if (w->plan == NULL)
		return warm_fail(CMD_FAILED, "out of memory");
	warm_say(w, "reading the lists of %s", w->root);
	status = warm_read_release(w);
	if (status == CMD_OK)
		status = warm_read_lists(w);
	if (status == CMD_OK)
		status = warm_choose(w);
	return status == CMD_OK ? warm_add_planned(w) : status;
}

/* ---- the end ---- */

static void
warm_print_json(const struct warm *w, bool dry_run)
{
	uint64_t bytes = 0;
	unsigned cached_n = 0, failed_n = 0;
	const char *comma = "";

	for (unsigned i = 0; i < w->files_n; i++) {
		const struct warm_file *f = &w->files[i];

		bytes += f->done ? f->got_bytes : (uint64_t)(f->size_bytes > 0 ? f->size_bytes : 0);
		cached_n += f->cached;
		failed_n += f->done && !f->ok;
	}
	(void)printf("{\"files\": %u, \"bytes\": %llu, \"cached\": %u, \"failed\": %u, "
	    "\"dry_run\": %s, \"list\": [", w->files_n, (unsigned long long)bytes, cached_n, failed_n,
	    dry_run ? "true" : "false");
	for (unsigned i = 0; i < w->files_n; i++, comma = ", ") {
		const struct warm_file *f = &w->files[i];

		(void)printf("%s{\"url\": ", comma);
		page_put_json(stdout, f->target);
		(void)printf(", \"size\": %lld, \"ok\": %s", f->size_bytes >= 0 ?
		    (long long)f->size_bytes : (long long)f->got_bytes, f->ok ? "true" : "false");
		if (f->done && !f->ok) {
			(void)printf(", \"why\": ");
			page_put_json(stdout, f->why);
		}
		(void)putchar('}');
	}
	(void)printf("]}\n");
}

/* Lists, or fetches. */
static int
warm_go(struct warm *w)
{
	bool dry_run = cmd_option(w->call, "dry-run") != NULL;
	uint64_t bytes = 0, got = 0;
	unsigned failed_n = 0, cached_n = 0, unreached_n = 0, i;
	char text[24];

	for (i = 0; i < w->files_n; i++) {
		bytes += w->files[i].size_bytes > 0 ? (uint64_t)w->files[i].size_bytes : 0;
		if (!dry_run)
			continue;
		warm_size_text((uint64_t)(w->files[i].size_bytes > 0 ? w->files[i].size_bytes : 0), text);
		warm_say(w, "%10s  %s  %s", w->files[i].size_bytes < 0 ? "?" : text, w->files[i].name,
		    w->files[i].target);
	}
	warm_size_text(bytes, text);
	if (dry_run || w->form != WARM_URLS)
		warm_say(w, "%u files, %s", w->files_n, text);
	if (!dry_run && w->files_n > 0)
		failed_n = warm_fetch_all(&w->conf, w->files, w->files_n);
	for (i = 0; i < w->files_n; i++) {
		got += w->files[i].got_bytes;
		cached_n += w->files[i].cached && w->files[i].ok;
		unreached_n += w->files[i].unreached;
	}
	warm_size_text(got, text);
	if (w->conf.quiet)
		warm_print_json(w, dry_run);
	if (unreached_n > 0 && unreached_n == w->files_n)
		return warm_no_depot(w, w->files[0].why);
	if (failed_n > 0)
		return warm_fail(CMD_FAILED, "%u of %u files failed; run it again to continue", failed_n,
		    w->files_n);
	if (!dry_run)
		warm_say(w, "all %u files are cached: %s, %u of them were before", w->files_n, text,
		    cached_n);
	return CMD_OK;
}

static int
warm_run(struct warm *w)
{
	bool urls;
	int status = warm_find_depot(w);

	if (status == CMD_OK)
		status = warm_read_files(w);
	if (status != CMD_OK)
		return status;
	urls = w->from_text != NULL && w->form == WARM_URLS;
	if (urls && w->call->words.n > 0)
		return warm_fail(CMD_USAGE, "a list of URLs needs no repository: leave %s out",
		    cmd_word(w->call, 0));
	if (urls || warm_words_are_files(w))
		status = warm_add_urls(w);
	else if (w->call->words.n == 0)
		return warm_fail(CMD_USAGE, "which repository? usage: apt-depot warm %s",
		    w->call->cmd->usage);
	else if (w->call->words.n == 1 && w->from_text == NULL)
		return warm_fail(CMD_USAGE, "which packages? usage: apt-depot warm %s",
		    w->call->cmd->usage);
	else {
		status = warm_find_repository(w, cmd_word(w->call, 0));
		if (status == CMD_OK)
			status = warm_plan(w);
	}
	return status == CMD_OK ? warm_go(w) : status;
}

int
cmd_warm(const struct cmd_call *call)
{
	struct warm *w = calloc(1, sizeof(*w));
	int status = CMD_FAILED;

	if (w == NULL)
		return warm_fail(CMD_FAILED, "out of memory");
	(void)curl_global_init(CURL_GLOBAL_DEFAULT);
	w->call = call;
	w->form = WARM_NAMES;
	w->conf.quiet = call->json;
	status = warm_run(w);
	for (unsigned i = 0; i < w->files_n; i++)
		free(w->files[i].target);
	free(w->files);
	free(w->from_text);
	free(w->installed_text);
	plan_free(&w->plan);
	free(w);
	curl_global_cleanup();
	return status;
}
