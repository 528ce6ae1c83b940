/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * How an origin is reached. A transfer has a struct upway from its first try
 * to its last: upway_prepare chooses and sets, libcurl's callbacks note what
 * they refused, upway_explain (in upway_words.c) turns the outcome into words,
 * and upway_failed says whether another parent proxy is next.
 *
 * A parent proxy that could not be used is left out for half a minute, so
 * that not every request waits for it; then one request tries it again while
 * the others still go past it. When all are out they are tried in order: there
 * is nothing to lose.
 */
#include "proxy/upway.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>

#include "include/counter.h"
#include "include/log.h"
#include "proxy/authfile.h"
#include "proxy/listener.h"
#include "proxy/upstream_priv.h"
#include "proxy/upway_priv.h"

enum {
	UPWAY_OUT_MS = 30000,
	UPWAY_SILENT_MAX = 2,		/* in a row */
	UPWAY_NAMES_MAX = 8,		/* of a certificate that are told */
	UPWAY_IDLE_S = 12,		/* kept connections: below any server's own limit */
};

/* ---- trust ---- */

/* The CA store for a ca_file, made once: parsing a bundle costs more than a handshake. */
static struct upway_store *
upway_store_of(struct upway_store *list, const char *file)
{
	struct upway_store *s;

	for (s = list; s != NULL; s = s->next)
		if ((file == NULL) == (s->file == NULL) &&
		    (file == NULL || strcmp(file, s->file) == 0))
			return s;
	return NULL;
}

/* Makes the store of the system's certificates and a file's. */
static bool
upway_store_add(struct upway_store **list, const char *file)
{
	static _Atomic unsigned made_n;
	struct upway_store *s;

	if (upway_store_of(*list, file) != NULL)
		return true;
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return false;
	s->next = *list;
	*list = s;
	s->file = file;
	(void)snprintf(s->label, sizeof(s->label), "/no/such/trust-%u", ++made_n);
	s->store = X509_STORE_new();
	if (s->store == NULL)
		return false;
	/* The system's directory is searched by hash when needed, its bundle not read at once. */
	(void)X509_STORE_set_default_paths(s->store);
	(void)X509_STORE_set_flags(s->store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
	if (file == NULL || X509_STORE_load_file(s->store, file) == 1)
		return true;
	log_error("ca_file = %s can't be read, or has no certificate in PEM form: name a file that "
	    "the depot's user may read", file);
	return false;
}

/* One of the names that a certificate is for: a host's, or an address; else NULL. */
static const char *
upway_host_of(const GENERAL_NAME *name, char address[INET6_ADDRSTRLEN], int *n)
{
	const ASN1_STRING *s = name->type == GEN_DNS ? name->d.dNSName :
	    name->type == GEN_IPADD ? name->d.iPAddress : NULL;
	const char *text = s != NULL ? (const char *)ASN1_STRING_get0_data(s) : NULL;

	*n = s != NULL ? ASN1_STRING_length(s) : 0;
	if (name->type != GEN_IPADD)
		return *n > 0 ? text : NULL;
	text = *n == 4 || *n == 16 ? inet_ntop(*n == 4 ? AF_INET : AF_INET6, text, address,
	    INET6_ADDRSTRLEN) : NULL;
	*n = text != NULL ? (int)strlen(text) : 0;
	return text;
}

void
upway_cert_names(const X509 *cert, char *out, size_t cap)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	char address[INET6_ADDRSTRLEN];
	size_t at = 0;
	int i, n;

	out[0] = '\0';
	for (i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
		const char *p = upway_host_of(sk_GENERAL_NAME_value(names, i), address, &n);

		if (p == NULL)
			continue;
		if (at + (size_t)n + 8 > cap || i >= UPWAY_NAMES_MAX) {
			(void)snprintf(out + at, cap - at, "%s...", at > 0 ? ", " : "");
			break;
		}
		at += (size_t)snprintf(out + at, cap - at, "%s%.*s", at > 0 ? ", " : "", n, p);
	}
	GENERAL_NAMES_free(names);
	upway_clean(out);
}

/* A distinguished name for people. */
static void
upway_note_issuer(X509 *cert, char *out, size_t cap)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int n = 0;

	if (bio != NULL && X509_NAME_print_ex(bio, X509_get_issuer_name(cert), 0,
	    XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) > 0)
		n = BIO_read(bio, out, (int)cap - 1);
	out[n > 0 ? n : 0] = '\0';
	BIO_free(bio);
	upway_clean(out);
}

/* OpenSSL has judged one certificate of a chain: remembers what was wrong with which. */
static int
upway_verify_cb(int good, X509_STORE_CTX *ctx)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct upway *way = ssl != NULL ? SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)) : NULL;
	X509 *cert = X509_STORE_CTX_get_current_cert(ctx);

	if (way == NULL || cert == NULL || way->cert_error != 0)
		return good;
	if (!good) {
		way->cert_error = X509_STORE_CTX_get_error(ctx);
		upway_note_issuer(cert, way->cert_seen, sizeof(way->cert_seen));
	} else if (X509_STORE_CTX_get_error_depth(ctx) == 0) {
		/* libcurl compares the name later; what else it is good for is known now. */
		upway_cert_names(cert, way->cert_seen, sizeof(way->cert_seen));
	}
	return good;
}

/* Whoever is connected wants a certificate of ours, and there is none. */
static int
upway_client_cert_cb(SSL *ssl, X509 **cert, EVP_PKEY **key)
{
	struct upway *way = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	(void)cert;
	(void)key;
	if (way != NULL)
		way->cert_wanted = true;
	return 0;
}

/* The store that the host's peers are judged by; NULL: a reload has taken it away. */
static const struct upway_store *
upway_store(const struct upway *way)
{
	return upway_store_of(way->u->stores, way->host->conf->ca_file);
}

/*
 * OpenSSL: the handshake is over. The connection may outlive the transfer that made it, and TLS 1.3
 * lets a server ask for a certificate at any time: from here on nobody is told.
 */
static void
upway_handshake_cb(const SSL *ssl, int where, int unused)
{
	(void)unused;
	if (where == SSL_CB_HANDSHAKE_DONE)
		(void)SSL_CTX_set_app_data(SSL_get_SSL_CTX(ssl), NULL);
}

/*
 * libcurl has made the TLS context of a new connection, to a parent proxy or
 * to an origin: give it our store. What our callbacks note in the transfer's
 * way they note until the handshake is over.
 */
static CURLcode
upway_ssl_ctx_cb(CURL *curl, void *ssl_ctx, void *arg)
{
	struct upway *way = arg;
	const struct upway_store *s = upway_store(way);

	(void)curl;
	way->connected = true;
	way->cert_wanted = false;
	if (s == NULL)
		return CURLE_SSL_CACERT_BADFILE;
	SSL_CTX_set1_cert_store(ssl_ctx, s->store);
	(void)SSL_CTX_set_app_data(ssl_ctx, way);
	/*
	 * Many servers leave out the goodbye of TLS. OpenSSL 3.2 and later make an error of that,
	 * behind whole answers too; where nothing else ends one see upway_await_goodbye.
	 */
	(void)SSL_CTX_set_options(ssl_ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
	/* The order of browsers: 128 bits are as safe here, and a fifth cheaper. */
	(void)SSL_CTX_set_ciphersuites(ssl_ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
	    "TLS_CHACHA20_POLY1305_SHA256");
	SSL_CTX_set_verify(ssl_ctx, SSL_VERIFY_PEER, upway_verify_cb);
	SSL_CTX_set_client_cert_cb(ssl_ctx, upway_client_cert_cb);
	SSL_CTX_set_info_callback(ssl_ctx, upway_handshake_cb);
	return CURLE_OK;
}

/* ---- the goodbye of TLS ---- */

/*
 * Whether close_notify has come over a connection. Its SSL holds one reference and the transfer the
 * other: each may go first. libcurl says of every end that it is one.
 */
struct upway_goodbye {
	unsigned refs_n;
	bool said;
};
static int upway_goodbye_index = -1;
static pthread_once_t upway_goodbye_once = PTHREAD_ONCE_INIT;

static void
upway_goodbye_unref(struct upway_goodbye **g_p)
{
	struct upway_goodbye *g = *g_p;

	*g_p = NULL;
	if (g != NULL && --g->refs_n == 0)
		free(g);
}

/* OpenSSL frees an SSL; most have none. */
static void
upway_goodbye_free_cb(void *ssl, void *arg, CRYPTO_EX_DATA *data, int index, long argl, void *argp)
{
	struct upway_goodbye *g = arg;

	(void)ssl;
	(void)data;
	(void)index;
	(void)argl;
	(void)argp;
	upway_goodbye_unref(&g);
}

static void
upway_goodbye_init(void)
{
	upway_goodbye_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, upway_goodbye_free_cb);
}

/* OpenSSL: something happened on a connection; the low byte of an alert says which. */
static void
upway_goodbye_cb(const SSL *ssl, int where, int alert)
{
	struct upway_goodbye *g = SSL_get_ex_data(ssl, upway_goodbye_index);

	if (g != NULL && where == SSL_CB_READ_ALERT && (alert & 0xff) == SSL_AD_CLOSE_NOTIFY)
		g->said = true;
}

void
upway_await_goodbye(struct upway *way, CURL *curl)
{
	struct curl_tlssessioninfo *info = NULL;
	struct upway_goodbye *g;

	AZ(pthread_once(&upway_goodbye_once, upway_goodbye_init));
	if (upway_goodbye_index < 0 || way->goodbye != NULL ||
	    curl_easy_getinfo(curl, CURLINFO_TLS_SSL_PTR, &info) != CURLE_OK || info == NULL ||
	    info->backend != CURLSSLBACKEND_OPENSSL || info->internals == NULL)
		return;
	g = calloc(1, sizeof(*g));
	if (g == NULL)
		return;
	if (SSL_set_ex_data(info->internals, upway_goodbye_index, g) != 1) {
		free(g);
		return;
	}
	g->refs_n = 2;
	way->goodbye = g;
	SSL_set_info_callback(info->internals, upway_goodbye_cb);
}

bool
upway_was_cut(const struct upway *way)
{
	return way->goodbye != NULL && !way->goodbye->said;
}

/* ---- addresses ---- */

/* May this address be connected to? */
static bool
upway_address_ok(struct upway *way, const struct sockaddr *sa)
{
	const struct depot *d = way->u->depot;
	enum access_verdict v = ACCESS_OK;

	way->self = d->listener != NULL && listener_is_own_address(d->listener, sa);
	/* A parent proxy is the operator's choice. */
	if (way->parent == NULL)
		v = access_judge_address(&d->config->allow_addresses, &d->config->deny_addresses, sa);
	if (v == ACCESS_OK && !way->self) {
		way->allowed = true;
		return true;
	}
	way->denied = true;
	way->verdict = v;
	access_address_text(sa, way->address, sizeof(way->address));
	return false;
}

/* Is it of the wanted family? Names were resolved so already. */
static bool
upway_family_ok(const struct config_upstream *conf, int family)
{
	return conf->address_family == FAMILY_ANY ||
	    family == (conf->address_family == FAMILY_4 ? AF_INET : AF_INET6);
}

/* libcurl is about to connect: is this address allowed? */
static curl_socket_t
upway_open_socket_cb(void *arg, curlsocktype purpose, struct curl_sockaddr *addr)
{
	struct upway *way = arg;
	bool allowed = way->allowed;

	(void)purpose;
	/* Newer libcurls (8.23) take an address in a URL for what it is, whatever was asked for. */
	if (!upway_family_ok(way->host->conf, addr->family) || !upway_address_ok(way, &addr->addr))
		return CURL_SOCKET_BAD;
	if (way->parent == NULL && !upaddr_take(&way->choice, &addr->addr)) {
		way->allowed = allowed;		/* it was not tried */
		return CURL_SOCKET_BAD;
	}
	way->fd = socket(addr->family, addr->socktype | SOCK_CLOEXEC, addr->protocol);
	return way->fd;
}

void
upway_tick(struct upway *way)
{
	struct sockaddr_storage sa;
	socklen_t n = sizeof(sa);

	/* libcurl tells of a connection only when TLS and CONNECT are through, too. */
	if (way->fd >= 0 && !way->connected)
		way->connected = getpeername(way->fd, (struct sockaddr *)&sa, &n) == 0;
}

bool
upway_reuse_ok(struct upway *way, const char *peer_ip)
{
	struct sockaddr_storage sa;

	if (way->parent != NULL || peer_ip == NULL || !access_parse_host(slice_of(peer_ip), &sa))
		return true;
	way->allowed = false;
	return upway_address_ok(way, (const struct sockaddr *)&sa);
}

/* ---- parent proxies ---- */

/* The record of a parent proxy, made at its first use. NULL: out of memory. */
static struct upway_parent *
upway_parent_of(struct upstream *u, const char *text)
{
	struct slice rest = slice_of(text), userinfo, authority, path;
	struct upway_parent *p;

	for (p = u->parents; p != NULL; p = p->next)
		if (strcmp(p->text, text) == 0)
			return p;
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return NULL;
	p->text = text;
	if (url_take_scheme(&rest, &p->tls))
		url_split(rest, &userinfo, &authority, &path);
	else
		userinfo = authority = SLICE_NONE;
	/* libcurl is not told of them: depending on its version it decodes them once more. */
	if (userinfo.n > 0 && (p->basic = authfile_basic(userinfo)) == NULL) {
		free(p);
		return NULL;
	}
	(void)snprintf(p->authority, sizeof(p->authority), "%.*s", SLICE_ARG(authority));
	(void)snprintf(p->url, sizeof(p->url), "%s://%s", p->tls ? "https" : "http", p->authority);
	p->next = u->parents;
	u->parents = p;
	return p;
}

/* Is it left out at the moment? Its time over, this asker is the one to try it again. */
static bool
upway_parent_out(struct upway_parent *p, int64_t now_ms)
{
	if (p->out_until_ms == 0)
		return false;
	if (now_ms < p->out_until_ms)
		return true;
	p->out_until_ms = now_ms + UPWAY_OUT_MS;
	return false;
}

/* Chooses the first of the list that is worth a try. False: out of memory. */
static bool
upway_choose(struct upway *way)
{
	const struct strlist *list = &way->host->conf->parent_proxy;
	struct upway_parent *p;
	unsigned pass, i;

	way->parent = NULL;
	if (way->host->direct)
		return true;
	if ((way->tried & (UINT32_MAX >> (32 - list->n))) == UINT32_MAX >> (32 - list->n))
		way->tried = 0;
	for (pass = 0; pass < 2; pass++)
		for (i = 0; i < list->n; i++) {
			if (way->tried & (uint32_t)1 << i)
				continue;
			way->index = i;
			if (strcmp(list->v[i], "direct") == 0)
				return true;
			p = upway_parent_of(way->u, list->v[i]);
			if (p == NULL)
				return false;
			if (pass == 0 && upway_parent_out(p, way->u->now_ms))
				continue;
			way->parent = p;
			return true;
		}
	WRONG("parent proxies");
}

bool
upway_is_tls_parent(const struct upway *way)
{
	return way->parent != NULL && way->parent->tls;
}

void
upway_worked(struct upway *way)
{
	struct upway_parent *p = way->parent;

	if (p == NULL)
		return;
	if (p->out_until_ms != 0)
		log_notice("parent proxy %s works again", p->authority);
	p->out_until_ms = 0;
	p->silent_n = 0;
}

/* Leaves a parent proxy out for a while. */
static void
upway_leave_out(struct upway_parent *p, int64_t now_ms)
{
	COUNT(parent_failures_total);
	if (p->out_until_ms == 0)
		log_warning("parent proxy %s can't be used: others go first for %d s", p->authority,
		    UPWAY_OUT_MS / 1000);
	p->out_until_ms = now_ms + UPWAY_OUT_MS;
}

bool
upway_failed(struct upway *way, enum upway_blame blame)
{
	struct upway_parent *p = way->parent;
	size_t n;

	if (way->host == NULL || way->host->direct)
		return false;
	n = way->host->conf->parent_proxy.n;
	if (p == NULL || blame == BLAME_NOBODY)
		return false;
	way->tried |= (uint32_t)1 << way->index;
	if (blame == BLAME_PARENT || (blame == BLAME_SILENT && ++p->silent_n >= UPWAY_SILENT_MAX))
		upway_leave_out(p, way->u->now_ms);
	if (++way->switches_n >= n)
		return false;
	COUNT(parent_switches_total);
	return true;
}

void
upway_progress(struct upway *way)
{
	way->tried = 0;
	way->switches_n = 0;
}

void
upway_text(const struct upway *way, char *out, size_t cap)
{
	out[0] = '\0';
	if (way->parent != NULL)
		(void)snprintf(out, cap, " through the parent proxy %s", way->parent->authority);
}

/* ---- hosts ---- */

bool
upway_is_no_proxy(const struct config *config, struct slice host)
{
	struct sockaddr_storage sa;
	bool is_address = access_parse_host(host, &sa), has;
	struct cidrset one = {NULL, 0};
	size_t i;

	for (i = 0; i < config->no_proxy.n; i++) {
		struct slice entry = slice_of(config->no_proxy.v[i]), rest;

		if (slice_eq(entry, SLICE("*")))
			return true;
		if (entry.n > 2 && entry.p[0] == '[' && entry.p[entry.n - 1] == ']')
			entry = (struct slice){entry.p + 1, entry.n - 2};
		if (cidrset_add(&one, entry)) {
			has = is_address && cidrset_has(&one, (const struct sockaddr *)&sa);
			cidrset_fini(&one);
			if (has)
				return true;
			continue;
		}
		if (slice_starts(entry, SLICE("*")))
			entry = slice_skip(entry, 1);
		if (slice_starts(entry, SLICE(".")))
			entry = slice_skip(entry, 1);
		/* An address has no domains: 0.0.1 is not above 10.0.0.1. */
		if (entry.n == 0 || host.n < entry.n || is_address)
			continue;
		rest = slice_skip(host, host.n - entry.n);
		if (slice_caseeq(rest, entry) && (host.n == entry.n || rest.p[-1] == '.'))
			return true;
	}
	return false;
}

bool
upway_host_init(struct upway_host *wh, struct upstream *u, struct slice host)
{
	const struct config *config = u->config;
	struct curl_slist *more;
	size_t i;

	*wh = (struct upway_host){.conf = config_for_upstream(config, host)};
	wh->direct = wh->conf->parent_proxy.n == 0 || upway_is_no_proxy(config, host);
	for (i = 0; i < wh->conf->connect_to.n; i++) {
		more = curl_slist_append(wh->connect_to, wh->conf->connect_to.v[i]);
		if (more == NULL)
			return false;
		wh->connect_to = more;
	}
	return true;
}

void
upway_host_fini(struct upway_host *wh)
{
	curl_slist_free_all(wh->connect_to);
	wh->connect_to = NULL;
}

/* ---- one try ---- */

char *
upway_via(const struct upstream *u, struct slice chain)
{
	char *text;

	if (asprintf(&text, "Via: %.*s%s1.1 apt-depot (%s)", SLICE_ARG(chain), chain.n != 0 ? ", " : "",
	    u->depot->id) < 0)
		return NULL;
	return text;
}

void
upway_close(struct upway *way)
{
	curl_slist_free_all(way->proxy_headers);
	way->proxy_headers = NULL;
	upway_goodbye_unref(&way->goodbye);
}

/* Adds a line that the parent proxy alone gets; false: out of memory. */
static bool
upway_add_header(struct upway *way, const char *line)
{
	struct curl_slist *more = curl_slist_append(way->proxy_headers, line);

	if (more != NULL)
		way->proxy_headers = more;
	return more != NULL;
}

/* What the chosen parent proxy is told: our credentials there, and with CONNECT where it came by. */
static bool
upway_make_headers(struct upway *way, bool tunnel)
{
	const struct upway_parent *p = way->parent;
	char *line = NULL;
	bool ok;

	upway_close(way);	/* those of the last try, for another one */
	if (p == NULL)
		return true;
	ok = !tunnel || upway_add_header(way, way->via);
	if (ok && p->basic != NULL) {
		ok = asprintf(&line, "Proxy-Authorization: %s", p->basic) >= 0 &&
		    upway_add_header(way, line);
		free(line);
	}
	return ok;
}

/* The store's name to libcurl; see upway_set_tls. */
static const char *
upway_trust(const struct upway *way)
{
	const struct upway_store *s = upway_store(way);

	return s != NULL ? s->label : NULL;
}

/* Through a parent proxy, or directly. */
static void
upway_set_parent(const struct upway *way, CURL *curl)
{
	const struct upway_parent *p = way->parent;

	/* Never from the environment: the depot may itself be what http_proxy names. */
	(void)curl_easy_setopt(curl, CURLOPT_PROXY, p != NULL ? p->url : "");
	if (p == NULL)
		return;
	(void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "");
	(void)curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	/* Our request's fields are for the origin; the parent learns what it needs itself. */
	(void)curl_easy_setopt(curl, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
	(void)curl_easy_setopt(curl, CURLOPT_PROXYHEADER, way->proxy_headers);
	(void)curl_easy_setopt(curl, CURLOPT_PROXY_CAINFO, NULL);
	(void)curl_easy_setopt(curl, CURLOPT_PROXY_CAPATH, upway_trust(way));
	(void)curl_easy_setopt(curl, CURLOPT_PROXY_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
}

/* Trust and our own certificate. */
static void
upway_set_tls(struct upway *way, CURL *curl)
{
	const struct config_upstream *conf = way->host->conf;

	/* Our store instead of libcurl's defaults, which it would parse for each connection. */
	(void)curl_easy_setopt(curl, CURLOPT_CAINFO, NULL);
	/*
	 * libcurl goes on with a kept connection or a TLS session, which nobody judges again, where
	 * this is the same: another ca_file, or a reload, begins anew. Nothing is looked up in it.
	 */
	(void)curl_easy_setopt(curl, CURLOPT_CAPATH, upway_trust(way));
#if LIBCURL_VERSION_NUM >= 0x075700
	/* Or it would take the first connection's store for every other one. */
	(void)curl_easy_setopt(curl, CURLOPT_CA_CACHE_TIMEOUT, 0L);
#endif
	(void)curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, upway_ssl_ctx_cb);
	(void)curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, way);
	(void)curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (conf->client_cert != NULL)
		(void)curl_easy_setopt(curl, CURLOPT_SSLCERT, conf->client_cert);
	if (conf->client_key != NULL)
		(void)curl_easy_setopt(curl, CURLOPT_SSLKEY, conf->client_key);
}

bool
upway_prepare(struct upway *way, struct upstream *u, const struct upway_host *wh, CURL *curl,
    bool tunnel)
{
	const struct config_upstream *conf = wh->conf;

	/* Redirected to another host: its list is another one. */
	if (way->host != wh)
		way->tried = 0;
	way->u = u;
	way->host = wh;
	way->denied = way->allowed = way->self = way->connected = way->cert_wanted = false;
	way->fd = -1;
	way->cert_error = 0;
	way->cert_seen[0] = '\0';
	upway_goodbye_unref(&way->goodbye);
	if (!upway_choose(way) || !upway_make_headers(way, tunnel))
		return false;
	(void)curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	(void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
	(void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)conf->connect_timeout);
	(void)curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 65536L);
	(void)curl_easy_setopt(curl, CURLOPT_MAXAGE_CONN, (long)UPWAY_IDLE_S);
#if LIBCURL_VERSION_NUM >= 0x075500
	(void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	(void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	upway_set_tls(way, curl);
	if (conf->address_family != FAMILY_ANY)
		(void)curl_easy_setopt(curl, CURLOPT_IPRESOLVE, conf->address_family == FAMILY_4 ?
		    (long)CURL_IPRESOLVE_V4 : (long)CURL_IPRESOLVE_V6);
	if (wh->connect_to != NULL)
		(void)curl_easy_setopt(curl, CURLOPT_CONNECT_TO, wh->connect_to);
	(void)curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, upway_open_socket_cb);
	(void)curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, way);
	upway_set_parent(way, curl);
	return true;
}

/* ---- start and end ---- */

void
upway_free_stores(struct upway_store **list)
{
	struct upway_store *s;

	while ((s = *list) != NULL) {
		*list = s->next;
		X509_STORE_free(s->store);
		free(s);
	}
}

bool
upway_load_stores(struct upway_store **list, const struct config *config)
{
	const struct config_upstream *conf;
	size_t i;

	*list = NULL;
	for (i = 0; (conf = config_upstream_at(config, i)) != NULL; i++) {
		if (!upway_store_add(list, conf->ca_file)) {
			upway_free_stores(list);
			return false;
		}
	}
	return true;
}

void
upway_fini(struct upstream *u)
{
	struct upway_parent *p;

	upway_free_stores(&u->stores);
	while ((p = u->parents) != NULL) {
		u->parents = p->next;
		if (p->basic != NULL)
			OPENSSL_cleanse(p->basic, strlen(p->basic));
		free(p->basic);
		free(p);
	}
}
