/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What went wrong on the way to an origin, in words for the operator: which
 * hop refused (a parent proxy or the origin), why, and which key to set. The
 * words end in a client's error page and in the log. upway.c notes the facts.
 */
#include <openssl/x509_vfy.h>
#include <stdarg.h>
#include <stdio.h>

#include "proxy/upway_priv.h"

/* One failure while it is put into words. */
struct words {
	const struct upway *way;
	const struct upway_failure *f;
	CURL *curl;
	long connect_status;		/* the parent's answer to CONNECT; 0: none */
	bool connected;			/* TCP is */
	bool at_parent;			/* the hop that failed is the parent proxy */
	char *out;
};

/*
 * It asked for a certificate of ours, there was none, and it closed before it answered. In TLS 1.3
 * that comes after the handshake, and its alert may be lost behind the close.
 */
static bool
words_lacks_certificate(const struct words *w)
{
	long status = 0;

	(void)curl_easy_getinfo(w->curl, CURLINFO_RESPONSE_CODE, &status);
	return w->way->cert_wanted && status == 0;
}

/* What a result of libcurl means, in our words. */
static enum reason
upway_reason(const struct words *w)
{
	switch ((int)w->f->result) {
	case CURLE_COULDNT_RESOLVE_HOST:
		return REASON_UP_RESOLVE;
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_PROXY:
		return REASON_UP_PROXY;
	case CURLE_COULDNT_CONNECT:
		return REASON_UP_CONNECT;
	case CURLE_OPERATION_TIMEDOUT:
		return REASON_UP_TIMEOUT;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
		return REASON_UP_CERT;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_CERTPROBLEM:
		return w->way->cert_error != 0 ? REASON_UP_CERT : REASON_UP_TLS;
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_BAD_CONTENT_ENCODING:
	case CURLE_HTTP2:
		return REASON_UP_GARBAGE;
	case CURLE_OUT_OF_MEMORY:
		return REASON_NO_MEMORY;
	default:
		return upway_tls_words(w->f->error) != NULL || words_lacks_certificate(w) ?
		    REASON_UP_TLS : REASON_UP_CLOSED;
	}
}

void
upway_clean(char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < ' ' || (unsigned char)*text >= 0x7f || *text == '<' ||
		    *text == '>')
			*text = '?';
}

#define CLOSED_WORDS "it closed the connection during the handshake: a firewall that does not like " \
	"the name?"

const char *
upway_tls_words(const char *error)
{
	static const struct {
		const char *said, *words;
	} rows[] = {
		{"unsupported protocol", "it speaks only TLS 1.0 or 1.1, which the depot refuses: it "
		    "must offer TLS 1.2 or later"},
		{"alert protocol version", "it speaks only TLS 1.0 or 1.1, which the depot refuses: "
		    "it must offer TLS 1.2 or later"},
		{"wrong version number", "what answers there does not speak TLS: a wrong port, or a "
		    "server for plain http://"},
		{"certificate required", "it wants a client certificate: set client_cert and "
		    "client_key"},
		{"alert bad certificate", "it refused our client certificate: see client_cert"},
		{"alert unknown ca", "it does not know the CA of our client certificate: see "
		    "client_cert"},
		{"alert certificate expired", "our client certificate has expired: see client_cert"},
		{"alert certificate revoked", "our client certificate is revoked: see client_cert"},
		{"unrecognized name", "it does not serve this name"},
		{"alert handshake failure", "it refused the handshake: no cipher in common, or it "
		    "wants a client certificate (client_cert, client_key)"},
		{"key too small", "its key is too small to be trusted"},
		{"unsafe legacy renegotiation", "it only knows the old renegotiation, which OpenSSL "
		    "refuses: a TLS-inspecting proxy of before 2010?"},
		{"unexpected eof", CLOSED_WORDS},
		/* The same in the words of libcurl 7 and 8: OpenSSL calls it no error. */
		{"SSL_connect: SSL_ERROR_SYSCALL", CLOSED_WORDS},
		{"TLS connect error: error:00000000", CLOSED_WORDS},
	};
	size_t i;

	for (i = 0; i < NELEM(rows); i++)
		if (strstr(error, rows[i].said) != NULL)
			return rows[i].words;
	return NULL;
}

/* Adds to the sentence. */
PRINTF_LIKE(2, 3)
static void
words_add(struct words *w, const char *fmt, ...)
{
	size_t at = strlen(w->out);
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(w->out + at, UPWAY_TEXT_BYTES - at, fmt, ap);
	va_end(ap);
}

/* What libcurl said, unless it said nothing. */
static void
words_add_error(struct words *w)
{
	if (w->f->error[0] != '\0')
		words_add(w, ": %s", w->f->error);
}

/* "cuda.example through the parent proxy P: " */
static void
words_begin(struct words *w)
{
	char way[320];

	upway_text(w->way, way, sizeof(way));
	words_add(w, "%.*s%s: ", SLICE_ARG(w->f->authority), way);
}

/* Who showed the certificate, and for whom it should be. */
static struct slice
words_tls_peer(const struct words *w)
{
	return w->at_parent ? slice_of(w->way->parent->authority) : w->f->host;
}

/* A certificate was refused: which, why, and what mends it. */
static void
words_certificate(struct words *w)
{
	const char *seen = w->way->cert_seen[0] != '\0' ? w->way->cert_seen : "somebody unnamed";
	const char *what = w->at_parent ? "the parent proxy's certificate" :
	    "the upstream's certificate";

	switch (w->way->cert_error) {
	case 0:
		words_add(w, "%s was not accepted: it is for %s, and not for %.*s: another server "
		    "answers under this name (check DNS, connect_to, a proxy on the way)", what, seen,
		    SLICE_ARG(words_tls_peer(w)));
		return;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		words_add(w, "%s was not accepted: it, or a CA above it, has expired (issued by %s): "
		    "its owner must renew it, unless this machine's clock is wrong", what, seen);
		return;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		words_add(w, "%s was not accepted: it is not valid yet (issued by %s): is this "
		    "machine's clock right?", what, seen);
		return;
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
		words_add(w, "%s was not accepted: it is self-signed (%s): if you know it to be the "
		    "right one, add it to ca_file", what, seen);
		return;
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
		words_add(w, "%s was not accepted: it was issued by a CA that is not trusted here, "
		    "\"%s\": if that is a proxy which inspects TLS, or your own CA, give its "
		    "certificate in ca_file", what, seen);
		return;
	default:
		words_add(w, "%s was not accepted: %s (issued by %s)", what,
		    X509_verify_cert_error_string(w->way->cert_error), seen);
	}
}

/* TLS failed for another reason than a certificate. */
static void
words_tls(struct words *w)
{
	const char *why = words_lacks_certificate(w) && !w->at_parent ? "it wants a client "
	    "certificate: set client_cert and client_key" : upway_tls_words(w->f->error);

	words_add(w, "the TLS handshake with the %s failed", w->at_parent ? "parent proxy" :
	    "upstream");
	if (why != NULL)
		words_add(w, ": %s", why);
	words_add_error(w);
}

/* Nothing came in time: at which step? */
static void
words_timeout(struct words *w)
{
	const struct config_upstream *conf = w->way->host->conf;
	const char *peer = w->way->parent != NULL && w->connect_status == 0 ? "parent proxy" :
	    "upstream";
	long long ms = (long long)(w->f->sent ? conf->read_timeout : conf->connect_timeout);

	if (w->f->sent)
		words_add(w, "connected, but nothing came for %lld ms (read_timeout)", ms);
	else if (!w->connected)
		words_add(w, "the %s sent nothing in time: no connection within %lld ms "
		    "(connect_timeout)", peer, ms);
	else if (w->at_parent && w->f->tls)
		words_add(w, "the parent proxy is connected, but did not answer CONNECT within %lld ms "
		    "(connect_timeout): it hangs, or does not reach the origin", ms);
	else
		words_add(w, "connected, but the TLS handshake with the %s did not end within %lld ms "
		    "(connect_timeout)", peer, ms);
}

/* The parent proxy answered CONNECT with something else than yes. */
static void
words_connect_status(struct words *w)
{
	const char *p = w->way->parent->authority;

	if (w->connect_status == 407)
		words_add(w, "the parent proxy %s wants other credentials (407): check user and "
		    "password in parent_proxy", p);
	else if (w->connect_status >= 500)
		words_add(w, "the parent proxy %s does not get through to it (%ld): ask who runs that "
		    "proxy, or name another one in parent_proxy", p, w->connect_status);
	else
		words_add(w, "the parent proxy %s refused to connect to it (%ld): it decides what may "
		    "be reached; ask who runs it, or set no_proxy where it is not needed", p,
		    w->connect_status);
}

/* An address was not allowed. */
static enum reason
words_denied(struct words *w)
{
	const char *address = w->way->address;

	if (w->way->self) {
		words_add(w, "%s is this depot itself: a request to it would come back here; if clients "
		    "call the depot so, add the name to names", address);
		return REASON_LOOP;
	}
	if (w->way->verdict == ACCESS_DENIED)
		words_add(w, "the upstream's address %s is in deny_addresses", address);
	else
		words_add(w, "the upstream's address %s is private, loopback or reserved; see "
		    "allow_addresses", address);
	return REASON_DENIED_ADDRESS;
}

/* The parent proxy's own failures; BLAME_NOBODY: it was not the parent. */
static enum upway_blame
words_judge_parent(const struct words *w, enum reason r)
{
	if (w->way->parent == NULL)
		return BLAME_NOBODY;
	if (w->connect_status == 407)
		return BLAME_PARENT;
	/* A plain request that it took and says nothing to: it, or the origin behind it. */
	if (w->connect_status >= 500 || (w->f->sent && !w->f->tls && r == REASON_UP_TIMEOUT))
		return BLAME_ROUTE;
	if (w->connect_status != 0 || w->f->sent)
		return BLAME_NOBODY;	/* its word, or the origin's */
	switch ((int)r) {
	case REASON_UP_TIMEOUT:
		return w->connected ? BLAME_SILENT : BLAME_PARENT;
	case REASON_UP_PROXY:
	case REASON_UP_RESOLVE:
	case REASON_UP_CONNECT:
	case REASON_UP_CERT:
	case REASON_UP_TLS:
		return BLAME_PARENT;
	case REASON_UP_CLOSED:
	case REASON_UP_GARBAGE:
		return BLAME_SILENT;
	default:
		return BLAME_NOBODY;
	}
}

/* The sentence behind the names, by reason. */
static enum reason
words_by_reason(struct words *w, enum reason r)
{
	const char *who = w->at_parent ? "the parent proxy" : "the upstream";

	switch ((int)r) {
	case REASON_UP_CERT:
		words_certificate(w);
		break;
	case REASON_UP_TLS:
		words_tls(w);
		break;
	case REASON_UP_TIMEOUT:
		words_timeout(w);
		break;
	case REASON_UP_RESOLVE:
	case REASON_UP_PROXY:
		words_add(w, "%s's name could not be resolved", who);
		words_add_error(w);
		break;
	case REASON_UP_CONNECT:
		words_add(w, "%s refused the connection or could not be reached", who);
		words_add_error(w);
		break;
	default:
		words_add(w, "%s", reason_text(r));
		words_add_error(w);
	}
	if (w->at_parent && r != REASON_UP_CERT && r != REASON_UP_TLS)
		words_add(w, "; check parent_proxy, or name another proxy (or direct) behind it");
	return r;
}

enum reason
upway_explain(const struct upway *way, CURL *curl, const struct upway_failure *f,
    enum upway_blame *blame, char text[UPWAY_TEXT_BYTES])
{
	struct words w = {.way = way, .f = f, .curl = curl, .out = text};
	enum reason r;

	text[0] = '\0';
	(void)curl_easy_getinfo(curl, CURLINFO_HTTP_CONNECTCODE, &w.connect_status);
	w.connected = way->connected;
	r = f->waited_ms > 0 ? REASON_UP_TIMEOUT : upway_reason(&w);
	*blame = words_judge_parent(&w, r);
	w.at_parent = *blame != BLAME_NOBODY;
	words_begin(&w);
	if (way->denied && !way->allowed) {
		*blame = BLAME_NOBODY;
		r = words_denied(&w);
	} else if (w.connect_status >= 300) {
		words_connect_status(&w);
		r = REASON_UP_PROXY;
	} else
		r = words_by_reason(&w, r);
	return r;
}
