/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The commands on what is stored: ls, cat, evict, verify. admin.c runs them,
 * each on its own thread, so they read the disk as it comes.
 */
#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

#include "include/clock.h"
#include "include/inspect.h"
#include "proxy/admin_priv.h"
#include "proxy/page_priv.h"

enum {
	ADMIN_URL_BYTES = 32 << 10,	/* a word and the canonical URL that it becomes */
	ADMIN_READ_BYTES = 256 << 10,
};

/* A URL or pattern of the command, as it is matched with canonical URLs. */
struct admin_target {
	struct inspect_match match;
	bool one;			/* url: exactly this one, in all its versions */
	struct url url;
	char memory[ADMIN_URL_BYTES];
};

/* Reads the first word; false after words to a->errors. */
static bool
admin_take_target(struct admin_call *a, struct admin_target *t)
{
	const char *word = cmd_word(a->cmd, 0);
	struct arena arena;

	t->match = inspect_match_of(word);
	t->one = word != NULL && !t->match.glob;
	if (!t->one)
		return true;
	arena_init(&arena, t->memory, sizeof(t->memory));
	if (!admin_parse_url(a, word, &arena, &t->url))
		return false;
	t->match = (struct inspect_match){.text = t->url.text.p, .whole = true};
	return true;
}

/* The index said no. */
static int
admin_say_failed(struct admin_call *a, enum reason r)
{
	if (r == REASON_OK)
		return CMD_OK;
	(void)fprintf(a->errors, "apt-depot: %s\n", reason_text(r));
	return CMD_FAILED;
}

static int
admin_say_not_stored(struct admin_call *a, const char *word)
{
	(void)fprintf(a->errors, "apt-depot: %s is not stored; \"apt-depot explain URL\" says how it "
	    "is understood\n", word);
	return CMD_FAILED;
}

static void
admin_put_url(FILE *out, struct slice url, bool json)
{
	char text[8192 + 512];

	(void)snprintf(text, sizeof(text), "%.*s", SLICE_ARG(url));
	if (json)
		(void)putc('"', out);
	page_put_url(out, text, false);
	if (json)
		(void)putc('"', out);
}

/* ---- ls ---- */

/* A stored URL as JSON, the object left open. */
static void
admin_put_stored_json(FILE *out, const struct inspect_url *u)
{
	char hex[KEY_HEX_BYTES];

	key_hex(u->digest, hex);
	(void)fputs("{\"url\":", out);
	admin_put_url(out, u->url, true);
	(void)fprintf(out, ",\"class\":\"%s\",\"size_bytes\":%" PRIu64 ",\"sha256\":\"%s\""
	    ",\"stored_at\":%" PRId64 ",\"checked_at\":%" PRId64 ",\"used_at\":%" PRId64,
	    aptfile_class_name(u->class), u->size_bytes, hex, u->stored_at_s, u->checked_at_s,
	    u->used_at_s);
}

static bool
admin_ls_one(void *arg, const struct inspect_url *u)
{
	struct admin_call *a = arg;

	if (!u->has_body || u->again)
		return true;
	if (a->cmd->json) {
		admin_put_stored_json(a->out, u);
		(void)fputs("}\n", a->out);
	} else {
		int64_t age = clock_wall_s() - u->stored_at_s;

		(void)fprintf(a->out, "%12" PRIu64 " %5" PRId64 "%c %-8s ", u->size_bytes,
		    age >= 172800 ? age / 86400 : age >= 7200 ? age / 3600 : age >= 120 ? age / 60 : age,
		    age >= 172800 ? 'd' : age >= 7200 ? 'h' : age >= 120 ? 'm' : 's',
		    aptfile_class_name(u->class));
		admin_put_url(a->out, u->url, false);
		(void)putc('\n', a->out);
	}
	return !ferror(a->out) && !admin_cancelled(a);
}

int
admin_ls(struct admin_call *a)
{
	const char *word = cmd_word(a->cmd, 0);
	struct inspect_match m = inspect_match_of(word);
	struct admin_target t;
	FILE *quiet = NULL;

	/* A beginning may be written in any form of a whole URL: HTTPS///host/, for instance. */
	if (word != NULL && !m.glob && strncmp(word, "https://", 8) != 0) {
		struct admin_call probe = *a;

		quiet = fopen("/dev/null", "we");
		probe.errors = quiet != NULL ? quiet : a->errors;
		if (admin_take_target(&probe, &t) && t.one)
			m.text = t.url.text.p;
		if (quiet != NULL)
			(void)fclose(quiet);
	}
	return admin_say_failed(a, inspect_walk(a->view, &m, admin_ls_one, a));
}

/* ---- cat ---- */

/* Copies the body and compares its digest at the end. */
static int
admin_cat_body(struct admin_call *a, const struct inspect_url *u, int fd, char *buf)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	uint8_t got[32];
	uint64_t sent = 0;
	ssize_t n = 0;
	bool ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;

	while (ok && (n = read(fd, buf, ADMIN_READ_BYTES)) > 0) {
		ok = EVP_DigestUpdate(md, buf, (size_t)n) == 1 &&
		    fwrite(buf, 1, (size_t)n, a->out) == (size_t)n;
		sent += (uint64_t)n;
	}
	ok = ok && n == 0 && EVP_DigestFinal_ex(md, got, NULL) == 1;
	EVP_MD_CTX_free(md);
	if (ok && sent == u->size_bytes && memcmp(got, u->digest, sizeof(got)) == 0)
		return CMD_OK;
	if (!admin_cancelled(a))
		(void)fputs("apt-depot: the stored body is damaged: \"apt-depot verify URL\" drops "
		    "it, so that it is fetched anew\n", a->errors);
	return CMD_FAILED;
}

int
admin_cat(struct admin_call *a)
{
	char text[INSPECT_TEXT_BYTES], *buf;
	struct admin_target t;
	struct inspect_place at;
	struct inspect_url u;
	struct aptfile af;
	int fd = -1, status;
	enum reason r;

	if (!admin_take_target(a, &t))
		return CMD_USAGE;
	if (!t.one) {
		(void)fputs("apt-depot: cat takes one URL, no pattern\n", a->errors);
		return CMD_USAGE;
	}
	aptfile_classify(&af, (struct slice){t.url.path.p, strcspn(t.url.path.p, "?")});
	inspect_locate(a->view, &t.url, &af, SLICE_NONE, &at);
	if (!inspect_find(a->view, &t.url, &at, &u, text) || !u.has_body)
		return admin_say_not_stored(a, cmd_word(a->cmd, 0));
	r = inspect_open_body(a->view, &u, &fd);
	if (r != REASON_OK)
		return admin_say_failed(a, r);
	buf = malloc(ADMIN_READ_BYTES);
	status = buf != NULL ? admin_cat_body(a, &u, fd, buf) : admin_say_failed(a, REASON_NO_MEMORY);
	free(buf);
	(void)close(fd);
	return status;
}

/* ---- evict ---- */

struct admin_evict {
	struct admin_call *a;
	uint64_t urls_n, bytes;
};

static bool
admin_evict_one(void *arg, const struct inspect_url *u)
{
	struct admin_evict *ev = arg;

	inspect_forget(ev->a->view, &u->key);
	ev->urls_n++;
	ev->bytes += u->urls_n <= 1 && u->has_body ? u->size_bytes : 0;
	/* The writer's queue is short, and memory is not: it keeps up. */
	if (ev->urls_n % 4096 == 0)
		inspect_flush(ev->a->view);
	if (!ev->a->cmd->json) {
		(void)fputs("evicted ", ev->a->out);
		admin_put_url(ev->a->out, u->url, false);
		(void)putc('\n', ev->a->out);
	}
	return !admin_cancelled(ev->a);
}

int
admin_evict(struct admin_call *a)
{
	struct admin_evict ev = {.a = a};
	struct admin_target t;
	enum reason r;

	if (!admin_take_target(a, &t))
		return CMD_USAGE;
	r = inspect_walk(a->view, &t.match, admin_evict_one, &ev);
	inspect_flush(a->view);
	if (a->cmd->json)
		(void)fprintf(a->out, "{\"urls\":%" PRIu64 ",\"bytes\":%" PRIu64 "}\n", ev.urls_n,
		    ev.bytes);
	if (r == REASON_OK && ev.urls_n == 0)
		return admin_say_not_stored(a, cmd_word(a->cmd, 0));
	return admin_say_failed(a, r);
}

/* ---- verify ---- */

struct admin_verify {
	struct admin_call *a;
	uint64_t good_n, bad_n, unread_n, bytes;
	bool stopped;
	struct slice url;		/* of what is being read; empty: only its digest is known */
};

static bool
admin_verify_stop(void *arg)
{
	return admin_cancelled(arg);
}

/* A line about a body that is not good. */
static void
admin_verify_say(struct admin_verify *ve, const uint8_t digest[32], const char *what)
{
	FILE *out = ve->a->out;
	char hex[KEY_HEX_BYTES];

	key_hex(digest, hex);
	if (ve->a->cmd->json) {
		(void)fprintf(out, "{\"sha256\":\"%s\",\"result\":\"%s\"", hex, what);
		if (ve->url.n > 0) {
			(void)fputs(",\"url\":", out);
			admin_put_url(out, ve->url, true);
		}
		(void)fputs("}\n", out);
		return;
	}
	(void)fprintf(out, "%s: %s ", what, hex);
	admin_put_url(out, ve->url, false);
	(void)putc('\n', out);
}

static bool
admin_verify_one(void *arg, const uint8_t digest[32])
{
	struct admin_verify *ve = arg;

	switch (inspect_verify(ve->a->view, digest, admin_verify_stop, ve->a, &ve->bytes)) {
	case INSPECT_GOOD:
		ve->good_n++;
		break;
	case INSPECT_DAMAGED:
		ve->bad_n++;
		admin_verify_say(ve, digest, "damaged");
		break;
	case INSPECT_MISSING:
		ve->bad_n++;
		admin_verify_say(ve, digest, "missing");
		break;
	case INSPECT_UNREADABLE:
		ve->unread_n++;
		admin_verify_say(ve, digest, "unreadable");
		break;
	case INSPECT_STOPPED:
		ve->stopped = true;
		break;
	}
	return !ve->stopped && !admin_cancelled(ve->a);
}

static bool
admin_verify_url(void *arg, const struct inspect_url *u)
{
	struct admin_verify *ve = arg;

	ve->url = u->url;
	return !u->has_body || admin_verify_one(ve, u->digest);
}

int
admin_verify(struct admin_call *a)
{
	bool all = cmd_word(a->cmd, 0) == NULL;
	struct admin_verify ve = {.a = a};
	struct admin_target t;
	enum reason r;

	if (!all && cmd_option(a->cmd, "all") != NULL) {
		(void)fputs("apt-depot: verify takes a URL, a pattern, or --all\n", a->errors);
		return CMD_USAGE;
	}
	if (!admin_take_target(a, &t))
		return CMD_USAGE;
	if (all)
		r = inspect_walk_blobs(a->view, admin_verify_one, &ve);
	else
		r = inspect_walk(a->view, &t.match, admin_verify_url, &ve);
	if (r == REASON_OK && t.one && ve.good_n + ve.bad_n + ve.unread_n == 0 && !ve.stopped)
		return admin_say_not_stored(a, cmd_word(a->cmd, 0));
	inspect_flush(a->view);
	if (a->cmd->json)
		(void)fprintf(a->out, "{\"good\":%" PRIu64 ",\"damaged\":%" PRIu64 ",\"unreadable\":%"
		    PRIu64 ",\"bytes\":%" PRIu64 "}\n", ve.good_n, ve.bad_n, ve.unread_n, ve.bytes);
	else {
		(void)fprintf(a->out, "%" PRIu64 " good, %" PRIu64 " damaged and dropped, %" PRIu64
		    " unreadable; read ", ve.good_n, ve.bad_n, ve.unread_n);
		page_put_bytes(a->out, (double)ve.bytes);
		(void)putc('\n', a->out);
	}
	if (r != REASON_OK)
		return admin_say_failed(a, r);
	return ve.bad_n + ve.unread_n > 0 || ve.stopped ? CMD_FAILED : CMD_OK;
}
