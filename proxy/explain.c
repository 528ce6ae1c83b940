/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Explains a URL. The command and both pages call explain_new, print what
 * they need, and free it. Facts are added by the functions in explain_parts,
 * in the order in which they are shown; each has a name that JSON keeps.
 */
#include "proxy/explain.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include "include/clock.h"
#include "include/inspect.h"
#include "include/reason.h"
#include "proxy/admin_priv.h"
#include "proxy/page_priv.h"

#define EXPLAIN_MAGIC 0xe8914001u

enum {
	EXPLAIN_FACTS_MAX = 48,
	EXPLAIN_TEXT_BYTES = 64 << 10,
	EXPLAIN_URL_BYTES = 32 << 10,
	EXPLAIN_HISTORY_MAX = 32,
};

enum explain_kind { EXPLAIN_TEXT, EXPLAIN_LINES, EXPLAIN_NUMBER, EXPLAIN_BYTES, EXPLAIN_TIME,
	EXPLAIN_YES, EXPLAIN_HISTORY };

/* One fact. Text is in the explanation's own memory. */
struct explain_fact {
	const char *name;		/* words with underscores, a literal */
	enum explain_kind kind;
	struct slice text;		/* TEXT; LINES: ending in CRLF each */
	int64_t number;			/* the others; TIME: Unix time, seconds */
};

struct explain {
	uint32_t magic;
	struct explain_ask ask;
	const char *word;		/* in text */
	bool understood;
	struct url url;
	struct slice then;		/* the time or name that the URL asks for; n == 0: now */
	struct inspect_place at;
	struct aptfile af;
	struct cache_peek peek;
	bool stored;			/* u is set */
	struct inspect_url u;
	struct inspect_stretch history[EXPLAIN_HISTORY_MAX];
	unsigned history_n;
	struct explain_fact facts[EXPLAIN_FACTS_MAX];
	unsigned facts_n;
	struct arena text, url_text;
	char text_memory[EXPLAIN_TEXT_BYTES];
	char url_memory[EXPLAIN_URL_BYTES];
	char record[INSPECT_TEXT_BYTES];
};

/* ---- adding facts ---- */

static void
explain_add(struct explain *e, const struct explain_fact *fact)
{
	if (e->facts_n < EXPLAIN_FACTS_MAX)
		e->facts[e->facts_n++] = *fact;
}

PRINTF_LIKE(3, 4)
static void
explain_add_text(struct explain *e, const char *name, const char *fmt, ...)
{
	struct explain_fact fact = {.name = name, .kind = EXPLAIN_TEXT};
	char line[9000];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fact.text = arena_copy(&e->text, slice_of(line));
	if (fact.text.p != NULL)
		explain_add(e, &fact);
}

static void
explain_add_number(struct explain *e, const char *name, enum explain_kind kind, int64_t number)
{
	explain_add(e, &(struct explain_fact){.name = name, .kind = kind, .number = number});
}

/* "192.0.2.7:443", "[2001:db8::7]:443" */
static void
explain_add_address(struct explain *e, const struct provenance *from)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	bool is_v4 = memcmp(from->address, mapped, sizeof(mapped)) == 0;
	char text[INET6_ADDRSTRLEN] = "?";

	(void)inet_ntop(is_v4 ? AF_INET : AF_INET6, from->address + (is_v4 ? sizeof(mapped) : 0), text,
	    sizeof(text));
	explain_add_text(e, "fetched_from", "%s%s%s:%u%s", is_v4 ? "" : "[", text, is_v4 ? "" : "]",
	    from->port, from->way == PROVENANCE_PARENT ? ", a parent proxy" : "");
}

/* ---- the parts ---- */

/* How it is understood. */
static void
explain_identity(struct explain *e)
{
	enum reason r;
	char hex[KEY_HEX_BYTES];

	explain_add_text(e, "url", "%.*s", SLICE_ARG(e->url.text));
	if (e->then.n > 0)
		explain_add_text(e, "as_of", "%.*s", SLICE_ARG(e->then));
	key_hex(e->at.key.b, hex);
	explain_add_text(e, "key", "%s", hex);
	explain_add_text(e, "class", "%s", aptfile_class_name(e->af.class));
	r = depot_check_target(e->ask.depot->config, e->url.host, e->url.port,
	    &e->ask.depot->config->allow_ports);
	explain_add_text(e, "allowed", "%s", r == REASON_OK ? "yes" : reason_text(r));
}

/* Which repository has a say, and what its generation says. */
static void
explain_generation(struct explain *e)
{
	const struct inspect_place *at = &e->at;

	if (at->root.n > 0) {
		explain_add_text(e, "repository", "%.*s", SLICE_ARG(at->root));
		explain_add_number(e, "generation", EXPLAIN_NUMBER, (int64_t)at->generation);
		explain_add_number(e, "adopted_at", EXPLAIN_TIME, at->adopted_at_s);
		if (at->disagrees[0] != '\0')
			explain_add_text(e, "upstream_disagrees", "%s", at->disagrees);
	}
	switch (at->role) {
	case INSPECT_PLAIN:
		break;
	case INSPECT_RELEASE:
		explain_add_text(e, "role", "the generation's own Release");
		break;
	case INSPECT_LISTED:
		explain_add_text(e, "role", "listed: only these bytes are served");
		explain_add_text(e, "expected_digest", "%s %s", at->digest_name, at->digest_hex);
		if (at->size_bytes >= 0)
			explain_add_number(e, "expected_size", EXPLAIN_BYTES, at->size_bytes);
		break;
	case INSPECT_BY_HASH:
		explain_add_text(e, "role", "listed by a generation, under its digest");
		break;
	case INSPECT_UNLISTED:
		explain_add_text(e, "role", "not listed by the generation");
		break;
	case INSPECT_NO_GENERATION:
		explain_add_text(e, "role", "below a repository that has no generation here");
		break;
	case INSPECT_NO_SUCH_TIME:
		explain_add_text(e, "role", "no kept generation is of that time or name: 404");
		break;
	}
}

/* Is it good for as long as its origin says: RFC 9111? */
static bool
explain_is_plain(const struct explain *e)
{
	return e->af.class == APTFILE_OTHER || e->at.role == INSPECT_UNLISTED ||
	    (e->af.class == APTFILE_PACKAGE && !e->af.immutable && e->at.role == INSPECT_PLAIN &&
	    fresh_is_said(&e->u.terms));
}

/* Why a request is, or is not, answered from the cache now. */
static void
explain_verdict(struct explain *e)
{
	const struct config *c = e->ask.depot->config;
	const char *why = "";

	enum fresh_verdict verdict = e->then.n > 0 ? FRESH_HIT : inspect_judge(e->ask.view, &e->u,
	    &e->af, &e->at, config_for_upstream(c, e->url.host)->index_max_age / 1000, e->ask.now_s);

	switch (verdict) {
	case FRESH_HIT:
		why = e->then.n > 0 ? "from the cache: as it was then" :
		    c->offline ? "from the cache: offline" : e->at.role == INSPECT_LISTED ?
		    "from the cache: it is what the generation lists" :
		    explain_is_plain(e) || e->af.class == APTFILE_RELEASE ||
		    e->af.class == APTFILE_INDEX ? "from the cache: still fresh" :
		    "from the cache: a file of this kind stays good";
		break;
	case FRESH_CHECK:
		why = explain_is_plain(e) ? "after a check upstream: no longer fresh" :
		    e->af.class == APTFILE_PACKAGE ?
		    "after a check upstream: no generation says that it is the right one" :
		    "after a check upstream: indexes are checked once older than index_max_age";
		break;
	case FRESH_CHECK_STRICT:
		why = "only after a check upstream: its origin forbids to serve it unchecked";
		break;
	}
	explain_add_text(e, "served", "%s", why);
	explain_add_number(e, "stale_allowed", EXPLAIN_YES, fresh_stale_ok(&e->af, &e->u.terms,
	    &(struct fresh_policy){.now_s = e->ask.now_s,
	    .stale_if_error_s = c->stale_if_error / 1000, .offline = c->offline}));
}

/* Where the stored body came from, and why it is believed to be the right one. */
static void
explain_provenance(struct explain *e)
{
	const struct provenance *from = &e->u.from;
	const char *proof = "";

	switch (from->way) {
	case PROVENANCE_UNKNOWN:
		explain_add_text(e, "fetched_from", "not known: its record is of an earlier version, "
		    "or was made anew");
		break;
	case PROVENANCE_ORIGIN:
	case PROVENANCE_PARENT:
		explain_add_address(e, from);
		break;
	case PROVENANCE_UNPACKED:
		explain_add_text(e, "fetched_from", "nowhere: unpacked from another compression of "
		    "the same index");
		break;
	case PROVENANCE_IMPORTED:
		explain_add_text(e, "fetched_from", "nowhere: imported");
		break;
	}
	if (e->u.fetched_at_s > 0)
		explain_add_number(e, "fetched_at", EXPLAIN_TIME, e->u.fetched_at_s);
	switch (from->proof) {
	case PROVENANCE_UNPROVEN:
		proof = e->at.role == INSPECT_LISTED ? "it is what the generation lists" :
		    e->at.role == INSPECT_RELEASE ? "it is the generation's" :
		    "nothing says what it must be";
		break;
	case PROVENANCE_NAME:
		proof = "it is what its by-hash name says";
		break;
	case PROVENANCE_LISTED:
		proof = "it is what its repository listed then, in digest and size";
		break;
	}
	explain_add_text(e, "verified", "digest computed as it was stored: %s", proof);
}

/* The record of what is stored. */
static void
explain_stored(struct explain *e)
{
	const struct inspect_url *u = &e->u;
	struct explain_fact fields = {.name = "fields", .kind = EXPLAIN_LINES, .text = u->fields};
	char hex[KEY_HEX_BYTES];

	/* Stored, but as another version than the one that is listed: of no use. */
	if (e->stored && e->at.role == INSPECT_LISTED && memcmp(&u->key, &e->at.key,
	    sizeof(u->key)) != 0) {
		key_hex(u->digest, hex);
		if (strcmp(hex, e->at.digest_hex) != 0) {
			explain_add_text(e, "other_version", "sha256 %s is stored, which the "
			    "generation does not list", hex);
			e->stored = false;
		}
	}
	if (e->at.role == INSPECT_NO_SUCH_TIME)
		return;
	explain_add_number(e, "stored", EXPLAIN_YES, e->stored && u->has_body);
	if (!e->stored) {
		explain_add_text(e, "served", "%s", e->ask.depot->config->offline ?
		    "not at all: not stored, and the depot is offline" : e->peek.flying ?
		    "from the fetch that is running" : "from upstream: not stored");
		return;
	}
	if (!u->has_body)
		explain_add_text(e, "served", "from upstream: the stored body was dropped");
	else
		explain_verdict(e);
	key_hex(u->digest, hex);
	explain_add_text(e, "sha256", "%s", hex);
	explain_add_number(e, "size_bytes", EXPLAIN_BYTES, (int64_t)u->size_bytes);
	if (u->has_body)
		explain_provenance(e);
	explain_add_number(e, "stored_at", EXPLAIN_TIME, u->stored_at_s);
	explain_add_number(e, "checked_at", EXPLAIN_TIME, u->checked_at_s);
	if (u->used_at_s > 0)
		explain_add_number(e, "used_at", EXPLAIN_TIME, u->used_at_s);
	if (u->urls_n > 1)
		explain_add_number(e, "urls_with_this_body", EXPLAIN_NUMBER, u->urls_n);
	if (u->suspect)
		explain_add_text(e, "suspect", "yes: it is hashed before it is served again");
	explain_add_text(e, "etag", "%.*s", SLICE_ARG(u->etag));
	if (u->terms.last_modified_s != INT64_MIN)
		explain_add_number(e, "last_modified", EXPLAIN_TIME, u->terms.last_modified_s);
	explain_add_number(e, "from_credentials", EXPLAIN_YES, u->from_credentials);
	if (u->fields.n > 0)
		explain_add(e, &fields);
}

/* What kept generations have said of it, and which of those editions are here. */
static void
explain_history(struct explain *e)
{
	e->history_n = inspect_history(e->ask.view, &e->url, &e->af, e->history,
	    EXPLAIN_HISTORY_MAX);
	if (e->history_n > 0)
		explain_add(e, &(struct explain_fact){.name = "history", .kind = EXPLAIN_HISTORY});
}

/* What runs or is remembered for a short while. */
static void
explain_now(struct explain *e)
{
	const struct flight_info *f = &e->peek.flight;

	if (e->peek.flying && f->total_bytes >= 0)
		explain_add_text(e, "fetch", "number %" PRIu64 ", %s, %" PRIu64 " of %" PRId64
		    " bytes, %u readers", f->id, flight_state_name(f->state), f->visible_bytes,
		    f->total_bytes, f->readers_n);
	else if (e->peek.flying)
		explain_add_text(e, "fetch", "number %" PRIu64 ", %s, %" PRIu64 " bytes, %u readers",
		    f->id, flight_state_name(f->state), f->visible_bytes, f->readers_n);
	if (e->peek.status != 0)
		explain_add_text(e, "remembered", "the origin said %d within the last second",
		    e->peek.status);
	if (e->peek.unshareable)
		explain_add_text(e, "remembered", "its answers are one client's own: "
		    "each request is fetched by itself for up to two minutes");
	if (e->peek.host_slow)
		explain_add_text(e, "host", "let a check time out: what is stored is served at once "
		    "until it answers");
}

/* Everything that is said, in its order: a new subject is a function here. */
static void (*const explain_parts[])(struct explain *e) = {
	explain_identity,
	explain_generation,
	explain_stored,
	explain_history,
	explain_now,
};

/* ---- life ---- */

struct explain *
explain_new(const struct explain_ask *ask, const char *word)
{
	struct explain *e;
	unsigned i;

	OBJ_NEW(e, EXPLAIN_MAGIC);
	if (e == NULL)
		return NULL;
	e->ask = *ask;
	arena_init(&e->text, e->text_memory, sizeof(e->text_memory));
	arena_init(&e->url_text, e->url_memory, sizeof(e->url_memory));
	e->word = arena_copy(&e->text, slice_of(word)).p;
	e->understood = e->word != NULL && depot_parse_url_at(ask->depot, e->word, &e->url_text, &e->url,
	    &e->then);
	if (!e->understood) {
		explain_add_text(e, "error", "%s is no URL of a repository file: write "
		    "http://HTTPS///host/path, https://host/path or http://host/path", word);
		if (ask->req_id != 0)
			explain_add_number(e, "request", EXPLAIN_NUMBER, (int64_t)ask->req_id);
		return e;
	}
	AN(e->url.path.p);
	aptfile_classify(&e->af, (struct slice){e->url.path.p,
	    strcspn(e->url.path.p, "?")});
	inspect_locate(ask->view, &e->url, &e->af, e->then, &e->at);
	cache_peek(ask->depot->cache, &e->url, &e->at.key, ask->now_ms, &e->peek);
	e->stored = inspect_find(ask->view, &e->url, &e->at, &e->u, e->record);
	for (i = 0; i < NELEM(explain_parts); i++)
		explain_parts[i](e);
	return e;
}

void
explain_free(struct explain **e_p)
{
	struct explain *e = *e_p;

	*e_p = NULL;
	if (e == NULL)
		return;
	CHECK_OBJ(e, EXPLAIN_MAGIC);
	inspect_history_free(e->history, e->history_n);
	OBJ_FREE(e);
}

bool
explain_understood(const struct explain *e)
{
	CHECK_OBJ(e, EXPLAIN_MAGIC);
	return e->understood;
}

/* ---- showing ---- */

/* The next of several lines that end in CRLF. */
static bool
explain_next_line(struct slice *rest, struct slice *line)
{
	const char *end = rest->n > 0 ? memchr(rest->p, '\r', rest->n) : NULL;

	if (rest->n == 0)
		return false;
	*line = *rest;
	if (end != NULL)
		line->n = (size_t)(end - rest->p);
	*rest = slice_skip(*rest, line->n + 2);
	return true;
}

/* A peer's text for a terminal. */
static void
explain_put_plain(FILE *out, struct slice text)
{
	size_t i;

	for (i = 0; i < text.n; i++)
		(void)putc((unsigned char)text.p[i] < ' ' || text.p[i] == 0x7f ? '?' : text.p[i], out);
}

/* "2026-11-01T10:20:30Z" */
static void
explain_put_when(int64_t at_s, FILE *out)
{
	char when[32];

	inspect_time_text(at_s, when);
	(void)fputs(when, out);
}

/* One stretch of the history on a line. */
static void
explain_put_stretch(const struct inspect_stretch *s, FILE *out,
    void (*put)(FILE *out, struct slice text))
{
	(void)fputs("from ", out);
	explain_put_when(s->from_s, out);
	(void)fputs(s->until_s == INT64_MAX ? ", current" : " until ", out);
	if (s->until_s != INT64_MAX)
		explain_put_when(s->until_s, out);
	(void)fprintf(out, ": %s %s", s->digest_name, s->digest_hex);
	if (s->size_bytes >= 0)
		(void)fprintf(out, ", %" PRId64 " bytes", s->size_bytes);
	(void)fprintf(out, ", %s; generation %" PRIu64, s->stored ? "stored" : "not stored", s->first);
	if (s->last != s->first)
		(void)fprintf(out, " to %" PRIu64, s->last);
	(void)fputs(" of ", out);
	put(out, slice_of(s->root));
}

/* put: how text gets out, escaped for where it goes. */
static void
explain_put_value(const struct explain *e, const struct explain_fact *f, FILE *out,
    void (*put)(FILE *out, struct slice text), const char *next_line)
{
	struct slice rest = f->text, line;
	struct tm tm;
	time_t t = (time_t)f->number;
	char when[32];

	switch (f->kind) {
	case EXPLAIN_TEXT:
		put(out, f->text);
		break;
	case EXPLAIN_LINES:
		while (explain_next_line(&rest, &line)) {
			put(out, line);
			(void)fputs(rest.n > 0 ? next_line : "", out);
		}
		break;
	case EXPLAIN_NUMBER:
		(void)fprintf(out, "%" PRId64, f->number);
		break;
	case EXPLAIN_BYTES:
		(void)fprintf(out, "%" PRId64 " (", f->number);
		page_put_bytes(out, (double)f->number);
		(void)fputs(")", out);
		break;
	case EXPLAIN_TIME:
		if (gmtime_r(&t, &tm) == NULL || strftime(when, sizeof(when), "%FT%TZ", &tm) == 0)
			(void)strcpy(when, "?");
		(void)fprintf(out, "%s (", when);
		page_put_span(out, e->ask.now_s - f->number);
		(void)fputs(" ago)", out);
		break;
	case EXPLAIN_YES:
		(void)fputs(f->number != 0 ? "yes" : "no", out);
		break;
	case EXPLAIN_HISTORY:
		for (unsigned i = 0; i < e->history_n; i++) {
			if (i > 0)
				(void)fputs(next_line, out);
			explain_put_stretch(&e->history[i], out, put);
		}
		break;
	}
}

/* The name with blanks. */
static void
explain_put_name(const struct explain_fact *f, FILE *out)
{
	const char *p;

	for (p = f->name; *p != '\0'; p++)
		(void)putc(*p == '_' ? ' ' : *p, out);
}

void
explain_print_text(const struct explain *e, FILE *out)
{
	unsigned i;

	for (i = 0; i < e->facts_n; i++) {
		explain_put_name(&e->facts[i], out);
		(void)fprintf(out, ":%*s", (int)(20 - strlen(e->facts[i].name)), "");
		explain_put_value(e, &e->facts[i], out, explain_put_plain,
		    "\n                     ");
		(void)putc('\n', out);
	}
}

void
explain_print_html(const struct explain *e, FILE *out)
{
	bool asked = e->word != NULL && e->word[0] != '\0';
	unsigned i;

	page_put_top(out, "apt-depot: explain", 0);
	(void)fputs("<header><h1>Explain a URL</h1></header>\n"
	    "<nav><a href=\"/-/\">Dashboard</a></nav>\n"
	    "<form action=\"/-/explain\"><p><input name=\"url\" size=\"70\" style=\"max-width:100%\" "
	    "value=\"", out);
	if (asked)
		page_put_html(out, slice_of(e->word));
	(void)fputs("\" placeholder=\"https://host/path\"> <button>Explain</button></p></form>\n", out);
	if (asked)
		(void)fputs("<table>\n", out);
	for (i = 0; asked && i < e->facts_n; i++) {
		(void)fputs("<tr><td>", out);
		explain_put_name(&e->facts[i], out);
		(void)fputs("</td><td class=\"url\">", out);
		explain_put_value(e, &e->facts[i], out, page_put_html, "<br>");
		(void)fputs("</td></tr>\n", out);
	}
	if (asked)
		(void)fputs("</table>\n", out);
	page_put_bottom(out);
}

static void
explain_put_json_text(FILE *out, struct slice text)
{
	char line[9000];

	(void)snprintf(line, sizeof(line), "%.*s", SLICE_ARG(text));
	page_put_json(out, line);
}

static void
explain_put_json_history(const struct explain *e, FILE *out)
{
	for (unsigned i = 0; i < e->history_n; i++) {
		const struct inspect_stretch *s = &e->history[i];

		(void)fprintf(out, "%s{\"repository\":", i == 0 ? "[" : ",");
		explain_put_json_text(out, slice_of(s->root));
		(void)fprintf(out, ",\"digest\":\"%s %s\",\"size_bytes\":%" PRId64
		    ",\"first_generation\":%" PRIu64 ",\"last_generation\":%" PRIu64
		    ",\"from\":%" PRId64 ",\"until\":", s->digest_name, s->digest_hex, s->size_bytes,
		    s->first, s->last, s->from_s);
		if (s->until_s != INT64_MAX)
			(void)fprintf(out, "%" PRId64, s->until_s);
		else
			(void)fputs("null", out);
		(void)fprintf(out, ",\"stored\":%s}", s->stored ? "true" : "false");
	}
	(void)putc(']', out);
}

void
explain_print_json(const struct explain *e, FILE *out)
{
	struct slice rest, line;
	unsigned i;

	for (i = 0; i < e->facts_n; i++) {
		const struct explain_fact *f = &e->facts[i];

		(void)fprintf(out, "%s\"%s\":", i == 0 ? "{" : ",", f->name);
		switch (f->kind) {
		case EXPLAIN_TEXT:
			explain_put_json_text(out, f->text);
			break;
		case EXPLAIN_LINES:
			(void)putc('[', out);
			for (rest = f->text; explain_next_line(&rest, &line);) {
				explain_put_json_text(out, line);
				(void)fputs(rest.n > 0 ? "," : "", out);
			}
			(void)putc(']', out);
			break;
		case EXPLAIN_NUMBER:
		case EXPLAIN_BYTES:
		case EXPLAIN_TIME:
			(void)fprintf(out, "%" PRId64, f->number);
			break;
		case EXPLAIN_YES:
			(void)fputs(f->number != 0 ? "true" : "false", out);
			break;
		case EXPLAIN_HISTORY:
			explain_put_json_history(e, out);
			break;
		}
	}
	(void)fputs("}\n", out);
}

int
admin_explain(struct admin_call *a)
{
	struct explain_ask ask = {.depot = a->depot, .view = a->view, .now_ms = clock_mono_ms(),
	    .now_s = clock_wall_s()};
	struct explain *e = explain_new(&ask, cmd_word(a->cmd, 0));
	int status;

	if (e == NULL) {
		(void)fputs("apt-depot: the depot is out of memory\n", a->errors);
		return CMD_FAILED;
	}
	status = e->understood ? CMD_OK : CMD_USAGE;
	if (a->cmd->json)
		explain_print_json(e, a->out);
	if (!a->cmd->json || !e->understood)
		explain_print_text(e, e->understood ? a->out : a->errors);
	explain_free(&e);
	return status;
}
