/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Canonical URLs and their digests. proxy/route.c builds one for each request,
 * proxy/fetch.c for each redirect, the cache looks objects up by the digest.
 *
 * A struct url is a value: its text lives in the arena it was built in and
 * goes with it. Building is on the hit path: one pass over the path, straight
 * into the arena, no allocation. Every rule below keeps a second pass over its
 * own output from changing anything, so a stored text names its object for
 * good: what is decoded ('+', '~') can't become part of another escape.
 */
#include "include/key.h"

#include <openssl/evp.h>

#include <arpa/inet.h>
#include <pthread.h>

enum {
	URL_HOST_MAX = 253,	/* RFC 1035 2.3.4, without the trailing dot */
	URL_EXTRA = 64,		/* scheme, an IPv6 text that grew, port, slash and NUL */
};

/* What a byte of a path means while it is copied. */
enum url_byte { URL_PLAIN, URL_BAD, URL_SLASH, URL_PERCENT, URL_QUERY, URL_FRAGMENT };

#define URL_BAD8 URL_BAD, URL_BAD, URL_BAD, URL_BAD, URL_BAD, URL_BAD, URL_BAD, URL_BAD
static const uint8_t url_bytes[256] = {
	URL_BAD8, URL_BAD8, URL_BAD8, URL_BAD8,
	[' '] = URL_BAD,
	['#'] = URL_FRAGMENT,
	['%'] = URL_PERCENT,
	['/'] = URL_SLASH,
	['?'] = URL_QUERY,
	[0x7f] = URL_BAD,
};

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key_ctx_key;	/* frees a thread's context when the thread ends */
static EVP_MD *key_md;
static _Thread_local EVP_MD_CTX *key_ctx;

static unsigned char
url_lower(unsigned char c)
{
	return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

static char
url_upper(unsigned char c)
{
	return (char)(c >= 'a' && c <= 'f' ? c - 0x20 : c);
}

void
url_split(struct slice rest, struct slice *userinfo, struct slice *authority, struct slice *path)
{
	size_t i, at = SIZE_MAX;

	for (i = 0; i < rest.n; i++) {
		char c = rest.p[i];

		if (c == '/' || c == '?' || c == '#')
			break;
		if (c == '@')	/* the last one counts: a password may hold others */
			at = i;
	}
	*userinfo = at == SIZE_MAX ? SLICE_NONE : (struct slice){rest.p, at};
	*path = slice_skip(rest, i);
	rest.n = i;
	*authority = at == SIZE_MAX ? rest : slice_skip(rest, at + 1);
}

/* Reads decimal digits into a port; nothing at all is 0, "none named". */
static bool
url_parse_port(struct slice digits, uint16_t *port)
{
	uint64_t value = 0;

	if (digits.n != 0 && (!slice_read_number(digits, UINT16_MAX, &value) || value == 0))
		return false;
	*port = (uint16_t)value;
	return true;
}

/* Reads an IPv6 address without brackets; zone names are no part of a URL here. */
static bool
url_parse_v6(struct slice host, struct in6_addr *addr)
{
	char text[INET6_ADDRSTRLEN];

	if (host.n >= sizeof(text) || host.n == 0)
		return false;
	memcpy(text, host.p, host.n);
	text[host.n] = '\0';
	return inet_pton(AF_INET6, text, addr) == 1;
}

/* Cuts "[v6]" or "[v6]:port". */
static bool
url_split_v6(struct slice authority, struct slice *host, uint16_t *port)
{
	const char *close = memchr(authority.p, ']', authority.n);
	struct in6_addr addr;
	struct slice h, rest;

	if (close == NULL)
		return false;
	h = (struct slice){authority.p + 1, (size_t)(close - authority.p) - 1};
	rest = slice_skip(authority, h.n + 2);
	if (!url_parse_v6(h, &addr))
		return false;
	if (rest.n != 0 && rest.p[0] != ':')
		return false;
	if (!url_parse_port(slice_skip(rest, 1), port))
		return false;
	*host = h;
	return true;
}

/* Letters, digits, '-', '_' and dots that do not stand side by side. */
static bool
url_host_valid(struct slice host)
{
	unsigned char before = '.';
	size_t i;

	if (host.n == 0 || host.n > URL_HOST_MAX)
		return false;
	for (i = 0; i < host.n; i++) {
		unsigned char c = (unsigned char)host.p[i], l = c | 0x20;

		if (c == '.') {
			if (before == '.')
				return false;
		} else if (!((l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') ||
		    c == '-' || c == '_')) {
			return false;
		}
		before = c;
	}
	return before != '.';
}

bool
url_split_authority(struct slice authority, struct slice *host, uint16_t *port)
{
	struct slice h = authority;
	const char *colon;
	uint16_t number = 0;

	if (authority.n == 0)
		return false;
	if (authority.p[0] == '[')
		return url_split_v6(authority, host, port);
	colon = memchr(authority.p, ':', authority.n);
	if (colon != NULL) {
		h.n = (size_t)(colon - authority.p);
		if (!url_parse_port(slice_skip(authority, h.n + 1), &number))
			return false;
	}
	if (h.n != 0 && h.p[h.n - 1] == '.')	/* the root label: the same host */
		h.n--;
	if (!url_host_valid(h))
		return false;
	*host = h;
	*port = number;
	return true;
}

/* Writes a valid host in canonical form, without NUL; returns its end. */
static char *
url_write_host(char *w, struct slice host)
{
	struct in6_addr addr;
	size_t i;

	if (memchr(host.p, ':', host.n) != NULL) {
		MUST(url_parse_v6(host, &addr));
		AN(inet_ntop(AF_INET6, &addr, w, INET6_ADDRSTRLEN));
		return w + strlen(w);
	}
	for (i = 0; i < host.n; i++)
		*w++ = (char)url_lower((unsigned char)host.p[i]);
	return w;
}

struct slice
url_host_copy(struct arena *a, struct slice host)
{
	char *w = arena_text(a, host.n + INET6_ADDRSTRLEN), *end;

	if (w == NULL)
		return SLICE_NONE;
	end = url_write_host(w, host);
	*end = '\0';
	a->used = (size_t)(end + 1 - a->base);
	return (struct slice){w, (size_t)(end - w)};
}

/*
 * Takes "." and ".." back out once their segment is complete (RFC 3986 5.2.4).
 * root is the first slash, segment the byte after the latest one.
 */
static char *
url_end_segment(const char *root, char *segment, char *w)
{
	if (w - segment == 1 && segment[0] == '.')
		return segment;
	if (w - segment != 2 || segment[0] != '.' || segment[1] != '.')
		return w;
	w = segment - 1;
	if (w == root)
		return segment;
	while (w[-1] != '/')
		w--;
	return w;
}

/* Writes one escape, or a lone '%' as it is; returns how many bytes were read. */
static size_t
url_write_escape(char **w_p, const unsigned char *r, size_t left)
{
	char *w = *w_p;
	int high, low;

	*w = '%';
	*w_p = w + 1;
	if (left < 3)
		return 1;
	high = slice_hex_value(r[1]);
	low = slice_hex_value(r[2]);
	if (high < 0 || low < 0)
		return 1;
	/* apt sends these two escaped, curl and wget as they are: one object. */
	if (high == 0x2 && low == 0xb) {
		*w = '+';
	} else if (high == 0x7 && low == 0xe) {
		*w = '~';
	} else {
		w[1] = url_upper(r[1]);
		w[2] = url_upper(r[2]);
		*w_p = w + 3;
	}
	return 3;
}

/* Copies a query up to a fragment; NULL when it holds a blank or control character. */
static char *
url_write_query(char *w, const unsigned char *r, const unsigned char *end)
{
	for (; r < end && *r != '#'; r++) {
		if (url_bytes[*r] == URL_BAD)
			return NULL;
		*w++ = (char)*r;
	}
	return w;
}

/* Writes path and query in canonical form; returns their end, NULL as above. */
static char *
url_write_path(char *w, struct slice path)
{
	const unsigned char *r = (const unsigned char *)path.p, *end;
	const char *root = w;
	char *segment;

	*w++ = '/';
	segment = w;
	if (path.n == 0)
		return w;
	for (end = r + path.n; r < end;) {
		switch ((enum url_byte)url_bytes[*r]) {
		case URL_PLAIN:
			*w++ = (char)*r++;
			break;
		case URL_SLASH:
			w = url_end_segment(root, segment, w);
			if (w[-1] != '/')
				*w++ = '/';
			segment = w;
			r++;
			break;
		case URL_PERCENT:
			r += url_write_escape(&w, r, (size_t)(end - r));
			break;
		case URL_QUERY:
			return url_write_query(url_end_segment(root, segment, w), r, end);
		case URL_FRAGMENT:
			return url_end_segment(root, segment, w);
		case URL_BAD:
			return NULL;
		}
	}
	return url_end_segment(root, segment, w);
}

/* Writes ":port"; returns its end. */
static char *
url_write_port(char *w, uint16_t port)
{
	char digits[5];
	size_t n = 0;

	*w++ = ':';
	for (; port != 0; port /= 10)
		digits[n++] = (char)('0' + port % 10);
	while (n != 0)
		*w++ = digits[--n];
	return w;
}

enum reason
url_build(struct url *u, struct arena *a, bool tls, struct slice authority, struct slice path)
{
	struct slice scheme = tls ? SLICE("https://") : SLICE("http://"), host;
	uint16_t named, usual = tls ? 443 : 80;
	char *text, *w, *host_at, *host_end, *path_at;
	bool v6;

	if (!url_split_authority(authority, &host, &named))
		return REASON_TARGET;
	v6 = authority.p[0] == '[';
	if (path.n > a->cap)	/* also keeps the sum below from wrapping */
		return REASON_REQ_URI_TOO_LONG;
	text = arena_text(a, URL_EXTRA + host.n + path.n);
	if (text == NULL)
		return REASON_REQ_URI_TOO_LONG;
	memcpy(text, scheme.p, scheme.n);
	w = host_at = text + scheme.n;
	if (v6)
		*w++ = '[';
	host_end = w = url_write_host(w, host);
	if (v6)
		*w++ = ']';
	if (named != 0 && named != usual)
		w = url_write_port(w, named);
	path_at = w;
	w = url_write_path(w, path);
	if (w == NULL) {
		a->used = (size_t)(text - a->base);
		return REASON_TARGET;
	}
	*w = '\0';
	a->used = (size_t)(w + 1 - a->base);	/* give back what was not needed */
	u->text = (struct slice){text, (size_t)(w - text)};
	u->authority = (struct slice){host_at, (size_t)(path_at - host_at)};
	host_at += v6;
	u->host = (struct slice){host_at, (size_t)(host_end - host_at)};
	u->path = (struct slice){path_at, (size_t)(w - path_at)};
	u->port = named != 0 ? named : usual;
	u->tls = tls;
	return REASON_OK;
}

bool
url_take_scheme(struct slice *text, bool *tls)
{
	bool secure;

	if (text->n < 7 || strncasecmp(text->p, "http", 4) != 0)
		return false;
	secure = (text->p[4] | 0x20) == 's';
	if (!slice_starts(slice_skip(*text, secure ? 5 : 4), SLICE("://")))
		return false;
	*text = slice_skip(*text, secure ? 8 : 7);
	*tls = secure;
	return true;
}

enum reason
url_parse(struct url *u, struct arena *a, struct slice text)
{
	struct slice userinfo, authority, path;
	bool tls;

	if (!url_take_scheme(&text, &tls))
		return REASON_TARGET;
	url_split(text, &userinfo, &authority, &path);
	return url_build(u, a, tls, authority, path);
}

/* Does the reference begin with a scheme of its own (RFC 3986 3.1)? */
static bool
url_has_scheme(struct slice s)
{
	size_t i;

	for (i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i], l = c | 0x20;

		if (c == ':')
			return i != 0;
		if (l >= 'a' && l <= 'z')
			continue;
		if (i == 0 || !((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.'))
			return false;
	}
	return false;
}

/* Origins do send blanks in a Location: as %20 they are what was meant. */
static struct slice
url_encode_blanks(struct arena *a, struct slice prefix, struct slice s)
{
	size_t i, blanks_n = 0;
	char *p, *w;

	for (i = 0; i < s.n; i++)
		blanks_n += s.p[i] == ' ';
	p = w = arena_text(a, prefix.n + s.n + 2 * blanks_n + 1);
	if (p == NULL)
		return SLICE_NONE;
	if (prefix.n != 0)
		memcpy(w, prefix.p, prefix.n);
	w += prefix.n;
	for (i = 0; i < s.n; i++) {
		if (s.p[i] == ' ') {
			memcpy(w, "%20", 3);
			w += 3;
		} else {
			*w++ = s.p[i];
		}
	}
	*w = '\0';
	return (struct slice){p, (size_t)(w - p)};
}

/* What of the base's path and query stays in front of a reference without a root of its own. */
static struct slice
url_base_prefix(const struct url *base, struct slice location)
{
	struct slice path = base->path;
	const char *query = memchr(path.p, '?', path.n);

	if (location.n == 0 || location.p[0] == '#')
		return path;
	if (query != NULL)
		path.n = (size_t)(query - path.p);
	if (location.p[0] == '?')
		return path;
	while (path.n > 1 && path.p[path.n - 1] != '/')
		path.n--;
	return path;
}

enum reason
url_resolve(struct url *u, struct arena *a, const struct url *base, struct slice location)
{
	struct slice userinfo, authority, path, prefix = SLICE_NONE;

	while (location.n != 0 && location.p[0] == ' ')
		location = slice_skip(location, 1);
	while (location.n != 0 && location.p[location.n - 1] == ' ')
		location.n--;
	if (!url_has_scheme(location) && (location.n == 0 || location.p[0] != '/'))
		prefix = url_base_prefix(base, location);
	location = url_encode_blanks(a, prefix, location);
	if (location.p == NULL)
		return REASON_REQ_URI_TOO_LONG;
	if (prefix.n == 0 && url_has_scheme(location))
		return url_parse(u, a, location);
	if (prefix.n == 0 && slice_starts(location, SLICE("//"))) {
		url_split(slice_skip(location, 2), &userinfo, &authority, &path);
		return url_build(u, a, base->tls, authority, path);
	}
	return url_build(u, a, base->tls, base->authority, location);
}

size_t
url_decode(struct slice text, char *out)
{
	size_t i, n = 0;
	int high, low;

	for (i = 0; i < text.n; i++) {
		out[n] = text.p[i];
		if (text.p[i] == '%' && text.n - i >= 3) {
			high = slice_hex_value(text.p[i + 1]);
			low = slice_hex_value(text.p[i + 2]);
			if (high >= 0 && low >= 0) {
				out[n] = (char)(high << 4 | low);
				i += 2;
			}
		}
		n++;
	}
	return n;
}

struct slice
url_upstream_path(const struct url *u, struct arena *a)
{
	const char *query = memchr(u->path.p, '?', u->path.n);
	size_t path_n = query != NULL ? (size_t)(query - u->path.p) : u->path.n, i, plus_n = 0;
	char *p, *w;

	for (i = 0; i < path_n; i++)
		plus_n += u->path.p[i] == '+';
	if (plus_n == 0)
		return u->path;
	p = w = arena_text(a, u->path.n + 2 * plus_n + 1);
	if (p == NULL)
		return SLICE_NONE;
	for (i = 0; i < path_n; i++) {
		if (u->path.p[i] == '+') {
			memcpy(w, "%2b", 3);
			w += 3;
		} else {
			*w++ = u->path.p[i];
		}
	}
	memcpy(w, u->path.p + path_n, u->path.n - path_n);
	w += u->path.n - path_n;
	*w = '\0';
	return (struct slice){p, (size_t)(w - p)};
}

static void
key_free_ctx(void *ctx)
{
	EVP_MD_CTX_free(ctx);
}

/* Looks SHA-256 up among the providers once: that costs more than a key's digest itself. */
static void
key_init_once(void)
{
	key_md = EVP_MD_fetch(NULL, "SHA256", NULL);
	AN(key_md);
	AZ(pthread_key_create(&key_ctx_key, key_free_ctx));
}

/* This thread's digest context, made at its first key. */
static EVP_MD_CTX *
key_get_ctx(void)
{
	if (key_ctx == NULL) {
		AZ(pthread_once(&key_once, key_init_once));
		key_ctx = EVP_MD_CTX_new();
		AN(key_ctx);
		AZ(pthread_setspecific(key_ctx_key, key_ctx));
	}
	return key_ctx;
}

void
key_of_text(struct slice text, struct key *k)
{
	EVP_MD_CTX *ctx = key_get_ctx();

	AN(EVP_DigestInit_ex2(ctx, key_md, NULL));
	AN(EVP_DigestUpdate(ctx, text.p, text.n));
	AN(EVP_DigestFinal_ex(ctx, k->b, NULL));
}

void
key_of_url(const struct url *u, struct key *k)
{
	key_of_text(u->text, k);
}

void
key_hex_of(const uint8_t *bytes, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";
	size_t i;

	for (i = 0; i < n; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * n] = '\0';
}

void
key_hex(const uint8_t *digest32, char out[KEY_HEX_BYTES])
{
	key_hex_of(digest32, KEY_BYTES, out);
}

bool
key_from_hex(struct slice hex, uint8_t *digest32)
{
	uint8_t bytes[KEY_BYTES];

	if (!slice_read_hex(hex, bytes, sizeof(bytes)))
		return false;
	memcpy(digest32, bytes, sizeof(bytes));
	return true;
}
