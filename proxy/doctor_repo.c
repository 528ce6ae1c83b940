/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What the repository itself answers, asked as the depot asks: its status,
 * its clock, whether it is a Release and not a login page, whether one of the
 * Packages that it lists is as it says, and how fast all that comes.
 */
#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#include "include/aptfile.h"
#include "include/clock.h"
#include "include/inspect_release.h"
#include "proxy/authfile.h"
#include "proxy/doctor_priv.h"
#include "proxy/headbuf.h"
#include "proxy/httpdate.h"
#include "proxy/upway.h"

enum {
	DOCTOR_BODY_MAX = 64 << 20,	/* of a Release or Packages */
	DOCTOR_FIRST_BYTES = 1 << 10,
	DOCTOR_PART_BYTES = 4 << 20,	/* of any other file: enough to time it */
	DOCTOR_FETCH_S = 60,
	DOCTOR_CLOCK_S = 120,		/* this far apart is worth a word */
};

/* One request and its answer. */
struct doctor_fetch {
	struct doctor *d;
	char url[9000];
	long status;
	char *body;			/* malloced */
	size_t body_n, body_max;
	bool cut;			/* more than body_max came */
	bool denied;			/* an address was refused: */
	char address[INET6_ADDRSTRLEN];
	int64_t date_s;
	char type[128], location[512];
	double first_byte_s, total_s;
	char error[CURL_ERROR_SIZE];
};

static size_t
doctor_body_cb(char *p, size_t size, size_t n, void *arg)
{
	struct doctor_fetch *f = arg;
	char *grown;

	n *= size;
	if (f->body_n + n > f->body_max) {
		f->cut = true;
		return 0;
	}
	grown = realloc(f->body, f->body_n + n + 1);
	if (grown == NULL)
		return 0;
	f->body = grown;
	memcpy(f->body + f->body_n, p, n);
	f->body_n += n;
	return n;
}

/* A field of the answer that is looked at. */
static void
doctor_take_field(struct slice line, const char *name, char *out, size_t cap)
{
	size_t n = strlen(name);

	if (line.n <= n || strncasecmp(line.p, name, n) != 0 || line.p[n] != ':')
		return;
	line = slice_skip(line, n + 1);
	while (line.n > 0 && (line.p[0] == ' ' || line.p[0] == '\t'))
		line = slice_skip(line, 1);
	while (line.n > 0 && (unsigned char)line.p[line.n - 1] <= ' ')
		line.n--;
	(void)snprintf(out, cap, "%.*s", SLICE_ARG(line));
}

static size_t
doctor_head_cb(char *p, size_t size, size_t n, void *arg)
{
	struct doctor_fetch *f = arg;
	struct slice line = {p, size * n};
	char date[64] = "";

	doctor_take_field(line, "Date", date, sizeof(date));
	if (date[0] != '\0')
		f->date_s = http_date_parse(slice_of(date));
	doctor_take_field(line, "Content-Type", f->type, sizeof(f->type));
	doctor_take_field(line, "Location", f->location, sizeof(f->location));
	return size * n;
}

/* As upstream's connections are judged. */
static curl_socket_t
doctor_open_socket_cb(void *arg, curlsocktype purpose, struct curl_sockaddr *addr)
{
	struct doctor_fetch *f = arg;

	(void)purpose;
	if (!access_address_ok(&f->d->config->allow_addresses, &f->d->config->deny_addresses,
	    &addr->addr)) {
		f->denied = true;
		access_address_text(&addr->addr, f->address, sizeof(f->address));
		return CURL_SOCKET_BAD;
	}
	return socket(addr->family, addr->socktype | SOCK_CLOEXEC, addr->protocol);
}

static CURLcode
doctor_ssl_ctx_cb(CURL *curl, void *ssl_ctx, void *arg)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ssl_ctx);
	const char *file = arg;

	(void)curl;
	(void)X509_STORE_set_default_paths(store);
	(void)X509_STORE_set_flags(store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
	if (file != NULL)
		(void)X509_STORE_load_file(store, file);
	return CURLE_OK;
}

/* The way upstream, as the depot's own transfers are given it. */
static void
doctor_set_way(struct doctor_fetch *f, CURL *curl, struct curl_slist *connect_to)
{
	const struct config_upstream *up = f->d->up;

	(void)curl_easy_setopt(curl, CURLOPT_PROXY, f->d->direct ? "" : f->d->parent);
	(void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "");
	(void)curl_easy_setopt(curl, CURLOPT_PROXYAUTH, (long)CURLAUTH_BASIC);
	(void)curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_CAINFO, NULL);
	(void)curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
	(void)curl_easy_setopt(curl, CURLOPT_PROXY_CAINFO, up->ca_file);
	(void)curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, doctor_ssl_ctx_cb);
	(void)curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, up->ca_file);
	(void)curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	(void)curl_easy_setopt(curl, CURLOPT_SSLCERT, up->client_cert);
	(void)curl_easy_setopt(curl, CURLOPT_SSLKEY, up->client_key);
	if (up->address_family != FAMILY_ANY)
		(void)curl_easy_setopt(curl, CURLOPT_IPRESOLVE, up->address_family == FAMILY_4 ?
		    (long)CURL_IPRESOLVE_V4 : (long)CURL_IPRESOLVE_V6);
	(void)curl_easy_setopt(curl, CURLOPT_CONNECT_TO, connect_to);
	if (f->d->direct) {
		(void)curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, doctor_open_socket_cb);
		(void)curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, f);
	}
}

/* It broke on the way, although the hops were fine. */
static void
doctor_say_broken(const struct doctor_fetch *f, CURLcode rc)
{
	const char *words = upway_tls_words(f->error), *mend = doctor_mend_tls(f->error);

	if (mend == NULL)
		mend = rc == CURLE_OPERATION_TIMEDOUT ? "read_timeout = 60s where it is only slow; "
		    "else ask who runs the server, or a proxy on the way" :
		    "ask who runs the server, or a proxy on the way";
	doctor_say(f->d, DOCTOR_FAIL, "http", mend, "%s: %s%s%s", f->url, f->error[0] != '\0' ?
	    f->error : curl_easy_strerror(rc), words != NULL ? ": " : "", words != NULL ? words : "");
}

/* Fetches f->url, whole or up to body_max. False: no answer; a line said why. */
static bool
doctor_get(struct doctor_fetch *f)
{
	struct curl_slist *connect_to = NULL, *fields = NULL;
	char line[2048];
	CURL *curl = curl_easy_init();
	CURLcode rc = CURLE_OUT_OF_MEMORY;
	size_t i;

	f->date_s = HTTP_NO_DATE;
	for (i = 0; i < f->d->up->connect_to.n; i++)
		connect_to = curl_slist_append(connect_to, f->d->up->connect_to.v[i]);
	if (f->d->authorization != NULL) {
		(void)snprintf(line, sizeof(line), "Authorization: %s", f->d->authorization);
		fields = curl_slist_append(fields, line);
	}
	if (curl != NULL) {
		(void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
		(void)curl_easy_setopt(curl, CURLOPT_URL, f->url);
		(void)curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
		(void)curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
		(void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "apt-depot doctor");
		(void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
		(void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)f->d->up->connect_timeout);
		(void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
		(void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME,
		    (long)(f->d->up->read_timeout / 1000 + 1));
		(void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)DOCTOR_FETCH_S);
		(void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, f->error);
		(void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, doctor_body_cb);
		(void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, f);
		(void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, doctor_head_cb);
		(void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, f);
		doctor_set_way(f, curl, connect_to);
		rc = curl_easy_perform(curl);
		(void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &f->status);
		(void)curl_easy_getinfo(curl, CURLINFO_STARTTRANSFER_TIME, &f->first_byte_s);
		(void)curl_easy_getinfo(curl, CURLINFO_TOTAL_TIME, &f->total_s);
		curl_easy_cleanup(curl);
	}
	curl_slist_free_all(connect_to);
	curl_slist_free_all(fields);
	if (rc == CURLE_OK || f->cut)
		return true;
	if (f->denied)
		doctor_say(f->d, DOCTOR_FAIL, "http", "allow_addresses, deny_addresses", "%s: the "
		    "address %s is refused", f->url, f->address);
	else
		doctor_say_broken(f, rc);
	return false;
}

static void
doctor_fetch_init(struct doctor_fetch *f, struct doctor *d, size_t body_max)
{
	memset(f, 0, sizeof(*f));
	f->d = d;
	f->body_max = body_max;
}

static void
doctor_fetch_fini(struct doctor_fetch *f)
{
	free(f->body);
	f->body = NULL;
}

/* Does it begin like a page for people? */
static bool
doctor_is_page(const struct doctor_fetch *f)
{
	size_t i = 0;

	while (i < f->body_n && (unsigned char)f->body[i] <= ' ')
		i++;
	return strncasecmp(f->type, "text/html", 9) == 0 || (f->body_n - i > 5 &&
	    (strncasecmp(f->body + i, "<html", 5) == 0 || strncasecmp(f->body + i, "<!doc", 5) == 0));
}

/* ---- what is said about an answer ---- */

/* This machine's clock against the origin's. */
static void
doctor_check_clock(struct doctor *d, const struct doctor_fetch *f)
{
	int64_t ahead;

	if (f->date_s == HTTP_NO_DATE) {
		doctor_say(d, DOCTOR_WARN, "clock", NULL, "the answer has no date to compare with");
		return;
	}
	ahead = clock_wall_s() - f->date_s;
	if (ahead > DOCTOR_CLOCK_S || ahead < -DOCTOR_CLOCK_S)
		doctor_say(d, ahead > 86400 || ahead < -86400 ? DOCTOR_FAIL : DOCTOR_WARN, "clock",
		    "run a time service, such as systemd-timesyncd or chrony", "this machine is %lld s "
		    "%s the origin", (long long)(ahead < 0 ? -ahead : ahead), ahead < 0 ? "behind" :
		    "ahead of");
	else
		doctor_say(d, DOCTOR_OK, "clock", NULL, "within %lld s of the origin's",
		    (long long)(ahead < 0 ? -ahead : ahead));
}

/* What to do about a status that is no 200. */
static void
doctor_say_status(struct doctor *d, const struct doctor_fetch *f)
{
	const char *mend = NULL;

	if (f->status == 401)
		mend = f->d->authorization != NULL ? "login and password in the file that auth names" :
		    "auth = FILE with a line: machine HOST login USER password PASSWORD";
	else if (f->status == 407)
		mend = "parent_proxy = http://USER:PASSWORD@host:port";
	else if (f->status == 403 || f->status >= 500)
		mend = "ask who runs the server, or the proxy on the way";
	else if (f->status == 404)
		mend = "the URL: a repository's directory ends in / and holds InRelease or Release";
	if (f->status / 100 == 3)
		doctor_say(d, DOCTOR_WARN, "http", "apt-depot doctor NEW-URL looks at that place; the "
		    "depot goes there by itself", "%s: %ld, moved to %s", f->url, f->status, f->location);
	else
		doctor_say(d, DOCTOR_FAIL, "http", mend, "%s: %ld %s", f->url, f->status,
		    http_phrase((int)f->status));
}

static void
doctor_say_speed(struct doctor *d, const struct doctor_fetch *f, const char *what)
{
	double rest_s = f->total_s - f->first_byte_s;

	if (f->body_n < 65536 || rest_s <= 0)
		doctor_say(d, DOCTOR_OK, "speed", NULL, "%s: first byte after %.0f ms", what,
		    f->first_byte_s * 1000);
	else
		doctor_say(d, DOCTOR_OK, "speed", NULL, "%s: first byte after %.0f ms, then %.1f MB/s",
		    what, f->first_byte_s * 1000, (double)f->body_n / rest_s / 1e6);
}

/* ---- the repository ---- */

/* The page that stands where a repository file should be. */
static void
doctor_say_page(struct doctor *d, const struct doctor_fetch *f)
{
	doctor_say(d, DOCTOR_FAIL, "release", "open the URL in a browser on this network: a login "
	    "page has to be passed; or parent_proxy = the proxy that it belongs to",
	    "%s is an HTML page (%s): a captive portal or a proxy's message", f->url,
	    f->type[0] != '\0' ? f->type : "no type");
}

/* Fetches one listed file and compares. False: it is not there, another may be. */
static bool
doctor_check_listed(struct doctor *d, const char *root, const struct inspect_listed *l)
{
	bool too_large = l->size_bytes > DOCTOR_BODY_MAX, there;
	struct doctor_fetch f;
	uint8_t got[32];

	/* Of what can't be compared the first bytes are enough. */
	doctor_fetch_init(&f, d, too_large ? DOCTOR_FIRST_BYTES : DOCTOR_BODY_MAX);
	(void)snprintf(f.url, sizeof(f.url), "%s%s", root, l->path);
	if (!doctor_get(&f)) {
		doctor_fetch_fini(&f);
		return true;
	}
	there = f.status == 200;
	if (!there)
		doctor_note(d, "packages", "%s: %ld", l->path, f.status);
	else if (too_large && f.cut)
		doctor_say(d, DOCTOR_OK, "packages", NULL, "%s is there, and too large to be compared "
		    "here (%" PRIu64 " bytes)", l->path, l->size_bytes);
	else if (f.body_n != l->size_bytes || EVP_Digest(f.body, f.body_n, got, NULL, EVP_sha256(),
	    NULL) != 1 || memcmp(got, l->sha256, sizeof(got)) != 0)
		doctor_say(d, DOCTOR_FAIL, "packages", doctor_is_page(&f) ? "pass the login page, or "
		    "parent_proxy" : "try again in some minutes: the repository is being updated; if "
		    "it stays, a cache or proxy on the way is wrong", "%s has %zu bytes and %s than the "
		    "Release says (%" PRIu64 " bytes)", l->path, f.body_n, f.body_n != l->size_bytes ?
		    "is another" : "another SHA256", l->size_bytes);
	else {
		doctor_say(d, DOCTOR_OK, "packages", NULL, "%s agrees: %zu bytes, SHA256", l->path,
		    f.body_n);
		doctor_say_speed(d, &f, l->path);
	}
	doctor_fetch_fini(&f);
	return there;
}

static void
doctor_check_packages(struct doctor *d, const char *root, const struct inspect_release *r)
{
	unsigned i;

	for (i = 0; i < r->listed_n; i++)
		if (doctor_check_listed(d, root, &r->listed[i]))
			return;
	if (r->listed_n > 0)
		doctor_say(d, DOCTOR_FAIL, "packages", "the repository is not complete: ask who runs "
		    "it", "none of the Packages that were tried is there");
	else
		doctor_say(d, DOCTOR_WARN, "packages", NULL, "the Release lists no Packages with "
		    "SHA256: nothing can be compared");
}

/* What came as InRelease or Release. */
static void
doctor_check_release(struct doctor *d, const struct doctor_fetch *f)
{
	struct inspect_release *r = calloc(1, sizeof(*r));
	char why[INSPECT_WHY_BYTES] = "", root[sizeof(f->url)];

	if (r == NULL)
		return;
	(void)snprintf(root, sizeof(root), "%s", f->url);
	*(strrchr(root, '/') + 1) = '\0';
	if (doctor_is_page(f))
		doctor_say_page(d, f);
	else if (inspect_release(f->body, f->body_n, r, why) != REASON_OK)
		doctor_say(d, DOCTOR_FAIL, "release", "the URL of a repository, or ask who runs it",
		    "%s is no Release: %s", f->url, why);
	else {
		if (r->valid_until_s != INT64_MIN && r->valid_until_s < clock_wall_s())
			doctor_say(d, DOCTOR_WARN, "release", "the clock; or a mirror that is no longer "
			    "updated: use another", "%s: its Valid-Until has passed", f->url);
		else
			doctor_say(d, DOCTOR_OK, "release", NULL, "%s%s%s, %zu files, %s",
			    r->name, r->name[0] != '\0' ? ", " : "", r->is_signed ? "signed" :
			    "without signature in it", r->files_n, strrchr(f->url, '/') + 1);
		doctor_check_packages(d, root, r);
	}
	free(r);
}

/* Any file: does it come, and how fast? */
static void
doctor_check_file(struct doctor *d)
{
	struct doctor_fetch f;
	struct slice path;
	struct arena a;
	char memory[9000];

	doctor_fetch_init(&f, d, DOCTOR_PART_BYTES);
	arena_init(&a, memory, sizeof(memory));
	path = url_upstream_path(&d->url, &a);
	if (path.p == NULL)
		path = d->url.path;
	(void)snprintf(f.url, sizeof(f.url), "%s://%.*s%.*s", d->url.tls ? "https" : "http",
	    SLICE_ARG(d->url.authority), SLICE_ARG(path));
	if (doctor_get(&f)) {
		if (f.status == 200)
			doctor_say(d, DOCTOR_OK, "http", NULL, "%s: 200, %s", f.url, f.type);
		else
			doctor_say_status(d, &f);
		doctor_check_clock(d, &f);
		if (f.status == 200 && doctor_is_page(&f))
			doctor_say_page(d, &f);
		else if (f.status == 200)
			doctor_say_speed(d, &f, "the file");
	}
	doctor_fetch_fini(&f);
}

/* A directory: InRelease, or else Release. */
static void
doctor_check_directory(struct doctor *d, struct slice root)
{
	static const char *const names[] = {"InRelease", "Release"};
	struct doctor_fetch f;
	unsigned i;
	bool answered = true;

	for (i = 0; i < NELEM(names) && answered; i++) {
		doctor_fetch_init(&f, d, DOCTOR_BODY_MAX);
		(void)snprintf(f.url, sizeof(f.url), "%.*s%s", SLICE_ARG(root), names[i]);
		answered = doctor_get(&f);
		if (answered && i == 0)
			doctor_check_clock(d, &f);
		if (answered && f.status == 200) {
			doctor_say(d, DOCTOR_OK, "http", NULL, "%s: 200 after %.0f ms", f.url,
			    f.first_byte_s * 1000);
			doctor_check_release(d, &f);
			answered = false;	/* it was all */
		} else if (answered && (i + 1 == NELEM(names) || f.status != 404)) {
			doctor_say_status(d, &f);
			answered = f.status == 404;
		} else if (answered)
			doctor_note(d, "http", "%s: %ld", f.url, f.status);
		doctor_fetch_fini(&f);
	}
}

void
doctor_check_auth(struct doctor *d)
{
	const char *path = d->up->auth;
	char why[AUTHFILE_WHY_BYTES] = "";
	FILE *in;

	if (path == NULL)
		return;
	in = fopen(path, "re");
	if (in == NULL)
		(void)snprintf(why, sizeof(why), "%s", strerror(errno));
	else {
		d->auth = authfile_read(in, why);
		(void)fclose(in);
	}
	if (d->auth == NULL) {
		doctor_say(d, DOCTOR_FAIL, "auth", "auth = a file that the depot's user may read",
		    "%s: %s", path, why);
		return;
	}
	switch (authfile_find(d->auth, &d->url, &d->authorization)) {
	case AUTHFILE_FOUND:
		doctor_say(d, DOCTOR_OK, "auth", NULL, "%s has an entry for it", path);
		break;
	case AUTHFILE_CLEAR:
		doctor_say(d, DOCTOR_WARN, "auth", "https://, or http:// before the host in the file",
		    "%s has an entry for it, but not for clear text", path);
		break;
	case AUTHFILE_NONE:
		doctor_say(d, DOCTOR_OK, "auth", NULL, "%s has no entry for it", path);
		break;
	}
}

void
doctor_check_repo(struct doctor *d)
{
	struct slice text = d->url.text;
	struct aptfile af;
	const char *query = memchr(text.p, '?', text.n);

	if (query != NULL) {
		doctor_check_file(d);
		return;
	}
	aptfile_classify(&af, d->url.path);
	if (af.class == APTFILE_RELEASE)
		while (text.n > 0 && text.p[text.n - 1] != '/')
			text.n--;
	if (slice_ends(text, SLICE("/")))
		doctor_check_directory(d, text);
	else
		doctor_check_file(d);
}
