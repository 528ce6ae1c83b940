/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Reads files of credentials and finds the ones for a URL. The configuration
 * reads a file to check it, proxy/upauth.c to use it. Pure but for the
 * stream; what is read is only looked at afterwards, and wiped when freed.
 */
#include "proxy/authfile.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdarg.h>

#define AUTHFILE_MAGIC 0xa074f11eu

enum { AUTHFILE_WORD_BYTES = 1024 };

/* What an entry may be sent over. */
enum authfile_over { OVER_TLS, OVER_CLEAR };

struct authfile_entry {
	char *host, *path;		/* host in lower case; path "": any */
	uint16_t port;			/* 0: any */
	enum authfile_over over;
	char *value;			/* of Authorization */
};

struct authfile {
	uint32_t magic;
	struct authfile_entry *v;
	size_t n;
};

/* The words of a file, one after the other. */
struct authfile_words {
	FILE *in;
	unsigned line, word_line;
	bool too_long, unclosed;	/* a word was: seen when all is read */
	char word[AUTHFILE_WORD_BYTES];
};

/* ---- words ---- */

/* Skips blanks, line ends and comments; the next byte, or EOF. */
static int
authfile_skip_blanks(struct authfile_words *w)
{
	bool comment = false;
	int c;

	while ((c = getc(w->in)) != EOF) {
		if (c == '\n') {
			w->line++;
			comment = false;
		} else if (c == '#') {
			comment = true;
		} else if (!comment && c != ' ' && c != '\t' && c != '\r') {
			break;
		}
	}
	return c;
}

/* Reads the next word; "..." holds blanks, with \" and \\ in it. False: no more. */
static bool
authfile_next(struct authfile_words *w)
{
	int c = authfile_skip_blanks(w);
	bool quoted = c == '"';
	size_t n = 0;

	if (c == EOF)
		return false;
	w->word_line = w->line;
	if (quoted)
		c = getc(w->in);
	for (; c != EOF; c = getc(w->in)) {
		if (quoted ? c == '"' : c == ' ' || c == '\t' || c == '\r' || c == '\n')
			break;
		if (quoted && c == '\\')
			c = getc(w->in);
		if (c == '\n')
			w->line++;
		if (n + 1 < sizeof(w->word))
			w->word[n++] = (char)c;
		else
			w->too_long = true;
	}
	if (!quoted && c == '\n')
		w->line++;
	w->unclosed |= quoted && c == EOF;
	w->word[n] = '\0';
	return true;
}

/* ---- entries ---- */

/* "Basic " and user:password in base64; the plain text is wiped and freed. */
static char *
authfile_encode(char *plain, size_t n)
{
	char *value = malloc(6 + (n + 2) / 3 * 4 + 1);

	if (value != NULL) {
		memcpy(value, "Basic ", 6);
		(void)EVP_EncodeBlock((unsigned char *)value + 6, (unsigned char *)plain, (int)n);
	}
	OPENSSL_cleanse(plain, n);
	free(plain);
	return value;
}

char *
authfile_basic(struct slice userinfo)
{
	char *plain = malloc(userinfo.n + 2);
	size_t n;

	if (plain == NULL)
		return NULL;
	n = url_decode(userinfo, plain);
	if (userinfo.n == 0 || memchr(userinfo.p, ':', userinfo.n) == NULL)
		plain[n++] = ':';
	return authfile_encode(plain, n);
}

/* Wipes and frees a text that holds a secret. */
static void
authfile_wipe(char **p)
{
	if (*p != NULL)
		OPENSSL_cleanse(*p, strlen(*p));
	free(*p);
	*p = NULL;
}

static void
authfile_entry_fini(struct authfile_entry *e)
{
	free(e->host);
	free(e->path);
	authfile_wipe(&e->value);
}

/* Takes [scheme://]host[:port][/path] apart. */
static bool
authfile_parse_machine(struct authfile_entry *e, const char *text)
{
	struct slice rest = slice_of(text), userinfo, authority, path, host;
	char memory[512];
	struct arena a;
	bool tls = true;

	if (!url_take_scheme(&rest, &tls) && memmem(rest.p, rest.n, "://", 3) != NULL)
		return false;
	url_split(rest, &userinfo, &authority, &path);
	if (userinfo.n != 0 || !url_split_authority(authority, &host, &e->port))
		return false;
	arena_init(&a, memory, sizeof(memory));
	host = url_host_copy(&a, host);
	if (host.p == NULL)
		return false;
	e->over = tls ? OVER_TLS : OVER_CLEAR;
	e->host = strndup(host.p, host.n);
	e->path = path.n > 1 ? strndup(path.p, path.n) : strdup("");
	return e->host != NULL && e->path != NULL;
}

/* Says what is wrong, once. */
PRINTF_LIKE(3, 4)
static bool
authfile_say(char why[AUTHFILE_WHY_BYTES], unsigned line, const char *fmt, ...)
{
	int n = snprintf(why, AUTHFILE_WHY_BYTES, "line %u: ", line);
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(why + n, AUTHFILE_WHY_BYTES - (size_t)n, fmt, ap);
	va_end(ap);
	return false;
}

/* Adds an entry to the file's. */
static bool
authfile_add(struct authfile *af, struct authfile_entry *e)
{
	struct authfile_entry *v = realloc(af->v, (af->n + 1) * sizeof(*v));

	if (v == NULL)
		return false;
	af->v = v;
	af->v[af->n++] = *e;
	memset(e, 0, sizeof(*e));
	return true;
}

/* The word after login or password. */
static char *
authfile_take_value(struct authfile_words *w)
{
	return authfile_next(w) ? strdup(w->word) : NULL;
}

/* One entry, from its machine on; *more: the word of the next one has been read. */
static bool
authfile_read_entry(struct authfile *af, struct authfile_words *w, bool *more,
    char why[AUTHFILE_WHY_BYTES])
{
	struct authfile_entry e = {NULL, NULL, 0, OVER_TLS, NULL};
	unsigned line = w->word_line;
	char *login = NULL, *password = NULL, *plain;
	bool ok;
	int n;

	ok = authfile_next(w) && authfile_parse_machine(&e, w->word);
	if (!ok)
		(void)authfile_say(why, line, "machine is not followed by a host: write machine HOST, "
		    "or machine https://HOST/PATH");
	while (ok && (*more = authfile_next(w)) && strcmp(w->word, "machine") != 0) {
		char **to = strcmp(w->word, "login") == 0 ? &login :
		    strcmp(w->word, "password") == 0 ? &password : NULL;

		ok = to != NULL && *to == NULL;
		if (!ok)
			(void)authfile_say(why, w->word_line, "a word that is not machine, login or "
			    "password, or one of them twice: blanks in a password need quotes around it");
		else
			*to = authfile_take_value(w);
	}
	if (ok && (login == NULL || password == NULL))
		ok = authfile_say(why, line, "no login or no password for this machine");
	else if (ok) {
		n = asprintf(&plain, "%s:%s", login, password);
		e.value = n >= 0 ? authfile_encode(plain, (size_t)n) : NULL;
		if (strchr(login, ':') != NULL)
			ok = authfile_say(why, line, "the login has a colon, which Basic can't carry");
		else if (e.value == NULL || !authfile_add(af, &e))
			ok = authfile_say(why, line, "out of memory");
	}
	authfile_wipe(&login);
	authfile_wipe(&password);
	authfile_entry_fini(&e);
	return ok;
}

struct authfile *
authfile_read(FILE *in, char why[AUTHFILE_WHY_BYTES])
{
	struct authfile_words w = {.in = in, .line = 1};
	struct authfile *af;
	bool ok = true, more;

	OBJ_NEW(af, AUTHFILE_MAGIC);
	if (af == NULL) {
		(void)authfile_say(why, 1, "out of memory");
		return NULL;
	}
	more = authfile_next(&w);
	while (ok && more) {
		if (strcmp(w.word, "machine") == 0 && af->n < AUTHFILE_ENTRIES_MAX)
			ok = authfile_read_entry(af, &w, &more, why);
		else if (af->n >= AUTHFILE_ENTRIES_MAX)
			ok = authfile_say(why, w.word_line, "more than %d machines",
			    AUTHFILE_ENTRIES_MAX);
		else
			ok = authfile_say(why, w.word_line, strcmp(w.word, "default") == 0 ?
			    "default would send a password to every host: name each machine" :
			    "an entry begins with machine: write machine HOST login USER password WORD");
	}
	if (ok && w.too_long)
		ok = authfile_say(why, w.word_line, "a word of more than %d bytes", AUTHFILE_WORD_BYTES);
	if (ok && w.unclosed)
		ok = authfile_say(why, w.word_line, "a quote that nothing closes: what follows it would be "
		    "part of the password");
	if (ok && ferror(in))
		ok = authfile_say(why, w.line, "the file can't be read further");
	OPENSSL_cleanse(w.word, sizeof(w.word));
	if (!ok)
		authfile_free(&af);
	return af;
}

void
authfile_free(struct authfile **af_p)
{
	struct authfile *af = *af_p;
	size_t i;

	*af_p = NULL;
	if (af == NULL)
		return;
	CHECK_OBJ(af, AUTHFILE_MAGIC);
	for (i = 0; i < af->n; i++)
		authfile_entry_fini(&af->v[i]);
	free(af->v);
	OBJ_FREE(af);
}

/* Host, port and path: is the entry for this URL? */
static bool
authfile_fits(const struct authfile_entry *e, const struct url *url)
{
	struct slice prefix = slice_of(e->path);

	if (!slice_eq(url->host, slice_of(e->host)) || (e->port != 0 && e->port != url->port))
		return false;
	if (prefix.n == 0)
		return true;
	/* Below /deb is /deb and /deb/x, and not /debian. */
	return slice_starts(url->path, prefix) && (prefix.p[prefix.n - 1] == '/' ||
	    url->path.n == prefix.n || url->path.p[prefix.n] == '/' ||
	    url->path.p[prefix.n] == '?');
}

enum authfile_match
authfile_find(const struct authfile *af, const struct url *url, const char **value)
{
	enum authfile_match m = AUTHFILE_NONE;
	size_t i;

	CHECK_OBJ(af, AUTHFILE_MAGIC);
	for (i = 0; i < af->n; i++) {
		if (!authfile_fits(&af->v[i], url))
			continue;
		if ((af->v[i].over == OVER_TLS) == url->tls) {
			*value = af->v[i].value;
			return AUTHFILE_FOUND;
		}
		if (!url->tls)
			m = AUTHFILE_CLEAR;
	}
	return m;
}
