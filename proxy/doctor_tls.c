/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Certificates as doctor sees them: the chain that was presented, whether the
 * system's CAs or ca_file accept it, and, where they do not, whether somebody
 * on the way breaks TLS open. The handshake itself takes anything, so that
 * there is something to look at.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/clock.h"
#include "proxy/doctor_priv.h"
#include "proxy/upway.h"

enum { DOCTOR_NAME_BYTES = 256 };

/* Words in the issuers of products that look into TLS, and what to call them. */
static const struct {
	const char *word, *product;
} doctor_boxes[] = {
	{"zscaler", "Zscaler"}, {"blue coat", "Blue Coat"}, {"bluecoat", "Blue Coat"},
	{"netskope", "Netskope"}, {"goskope", "Netskope"}, {"fortinet", "FortiGate"},
	{"fortigate", "FortiGate"}, {"palo alto", "Palo Alto"}, {"sophos", "Sophos"},
	{"cisco umbrella", "Cisco Umbrella"}, {"ironport", "Cisco"}, {"mcafee", "McAfee"},
	{"skyhigh", "Skyhigh"}, {"trellix", "Trellix"}, {"check point", "Check Point"},
	{"barracuda", "Barracuda"}, {"watchguard", "WatchGuard"}, {"forcepoint", "Forcepoint"},
	{"websense", "Websense"}, {"kaspersky", "Kaspersky"}, {"eset ssl filter", "ESET"},
	{"avast", "Avast"}, {"bitdefender", "Bitdefender"}, {"iboss", "iboss"}, {"menlo", "Menlo"},
	{"cato networks", "Cato"}, {"untangle", "Untangle"}, {"sonicwall", "SonicWall"},
	{"smoothwall", "Smoothwall"}, {"securly", "Securly"}, {"lightspeed", "Lightspeed"},
	{"contentkeeper", "ContentKeeper"}, {"squid", "squid"}, {"mitmproxy", "mitmproxy"},
	{"charles proxy", "Charles"}, {"fiddler", "Fiddler"}, {"portswigger", "Burp"},
	{"pfsense", "pfSense"}, {"opnsense", "OPNsense"}, {"cloudflare gateway", "Cloudflare Gateway"},
	{"cloudflare for teams", "Cloudflare Gateway"},
};

/* ---- bytes ---- */

/* What OpenSSL waits for; false: nothing more comes of it. */
static bool
doctor_tls_again(const struct doctor_socket *s, SSL *ssl, int ret)
{
	switch (SSL_get_error(ssl, ret)) {
	case SSL_ERROR_WANT_READ:
		return doctor_wait(s, POLLIN);
	case SSL_ERROR_WANT_WRITE:
		return doctor_wait(s, POLLOUT);
	default:
		return false;
	}
}

int
doctor_write(const struct doctor_socket *s, SSL *ssl, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t k = ssl != NULL ? SSL_write(ssl, p, (int)n) :
		    send(s->fd, p, n, MSG_NOSIGNAL);

		if (k > 0) {
			p += k;
			n -= (size_t)k;
		} else if (ssl != NULL ? !doctor_tls_again(s, ssl, (int)k) :
		    (errno != EAGAIN && errno != EINTR) || !doctor_wait(s, POLLOUT))
			return -1;
	}
	return 0;
}

int
doctor_read(const struct doctor_socket *s, SSL *ssl, char *p, size_t n)
{
	for (;;) {
		ssize_t k = ssl != NULL ? SSL_read(ssl, p, (int)n) : recv(s->fd, p, n, 0);

		if (k > 0 || (k == 0 && ssl == NULL))
			return (int)k;
		if (ssl != NULL ? !doctor_tls_again(s, ssl, (int)k) :
		    (errno != EAGAIN && errno != EINTR) || !doctor_wait(s, POLLIN))
			return -1;
	}
}

/* ---- names in certificates ---- */

/* "O, CN" of a name. */
static const char *
doctor_name(const X509_NAME *name, char out[DOCTOR_NAME_BYTES])
{
	char org[100] = "", cn[120] = "";

	(void)X509_NAME_get_text_by_NID(name, NID_organizationName, org, sizeof(org));
	(void)X509_NAME_get_text_by_NID(name, NID_commonName, cn, sizeof(cn));
	(void)snprintf(out, DOCTOR_NAME_BYTES, "%s%s%s", org, org[0] != '\0' && cn[0] != '\0' ? ", " : "",
	    cn);
	if (out[0] == '\0')
		(void)X509_NAME_oneline(name, out, DOCTOR_NAME_BYTES);
	return out;
}

/* The product that signs such certificates, or NULL. */
static const char *
doctor_find_box(STACK_OF(X509) *chain)
{
	char text[1024];
	unsigned k;
	int i;

	for (i = 0; i < sk_X509_num(chain); i++) {
		(void)X509_NAME_oneline(X509_get_issuer_name(sk_X509_value(chain, i)), text,
		    sizeof(text));
		for (k = 0; k < NELEM(doctor_boxes); k++)
			if (strcasestr(text, doctor_boxes[k].word) != NULL)
				return doctor_boxes[k].product;
	}
	return NULL;
}

/* ---- verifying ---- */

/* As the depot's own stores are made. */
static X509_STORE *
doctor_store(const char *ca_file)
{
	X509_STORE *store = X509_STORE_new();

	if (store == NULL)
		return NULL;
	(void)X509_STORE_set_default_paths(store);
	(void)X509_STORE_set_flags(store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
	if (ca_file != NULL)
		(void)X509_STORE_load_file(store, ca_file);
	return store;
}

/* X509_V_OK, or what is wrong with the chain for this host. */
static int
doctor_verify(STACK_OF(X509) *chain, const char *host, const char *ca_file)
{
	X509_STORE *store = doctor_store(ca_file);
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	int err = X509_V_ERR_OUT_OF_MEM;
	struct in6_addr address;
	X509_VERIFY_PARAM *param;

	if (store != NULL && ctx != NULL &&
	    X509_STORE_CTX_init(ctx, store, sk_X509_value(chain, 0), chain) == 1) {
		param = X509_STORE_CTX_get0_param(ctx);
		(void)X509_STORE_CTX_set_default(ctx, "ssl_server");
		if (inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1)
			(void)X509_VERIFY_PARAM_set1_ip_asc(param, host);
		else
			(void)X509_VERIFY_PARAM_set1_host(param, host, 0);
		err = X509_verify_cert(ctx) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(ctx);
		if (err == X509_V_OK && X509_STORE_CTX_get_error(ctx) != X509_V_OK)
			err = X509_STORE_CTX_get_error(ctx);
	}
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	ERR_clear_error();
	return err;
}

/* Does the error mean that nobody here knows who signed it? */
static bool
doctor_is_unknown_issuer(int err)
{
	return err == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT ||
	    err == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
	    err == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE ||
	    err == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN;
}

/* Writes the certificate nearest to the root, for ca_file. */
static void
doctor_save(struct doctor *d, STACK_OF(X509) *chain)
{
	X509 *top = sk_X509_value(chain, sk_X509_num(chain) - 1);
	char name[DOCTOR_NAME_BYTES];
	FILE *f;
	bool ok;

	if (d->save_ca == NULL)
		return;
	f = fopen(d->save_ca, "wxe");	/* what is there is not overwritten */
	ok = f != NULL && PEM_write_X509(f, top) == 1;
	if (f != NULL && fclose(f) != 0)
		ok = false;
	if (!ok)
		doctor_say(d, DOCTOR_FAIL, "save-ca", NULL, "cannot write %s: %s", d->save_ca,
		    strerror(errno));
	else if (sk_X509_num(chain) == 1 && X509_check_ca(top) == 0)
		doctor_say(d, DOCTOR_WARN, "save-ca", "ask who runs the proxy for its CA certificate",
		    "%s holds the server's own certificate, no CA's: nothing above it was sent",
		    d->save_ca);
	else
		doctor_say(d, DOCTOR_OK, "save-ca", NULL, "%s holds the certificate of %s; make sure "
		    "that it is your company's before you trust it", d->save_ca,
		    doctor_name(X509_get_subject_name(top), name));
}

/* Nobody here knows the issuer: most likely somebody breaks TLS open. */
static void
doctor_say_intercepted(struct doctor *d, const char *check, STACK_OF(X509) *chain, int err)
{
	const char *box = doctor_find_box(chain), *ca_file = d->up->ca_file;
	char name[DOCTOR_NAME_BYTES];
	X509 *top = sk_X509_value(chain, sk_X509_num(chain) - 1);

	doctor_say(d, DOCTOR_FAIL, check, d->save_ca != NULL ? NULL :
	    "ca_file = /etc/ssl/that-ca.pem; get it from who runs the proxy, or with "
	    "\"apt-depot doctor --save-ca FILE URL\"",
	    "not accepted by %s (%s)", ca_file != NULL ? "the system's CAs, nor with ca_file" :
	    "the system's CAs", X509_verify_cert_error_string(err));
	(void)doctor_name(X509_get_issuer_name(top), name);
	if (box != NULL)
		doctor_note(d, check, "it is issued by %s: %s on the way breaks TLS open and "
		    "signs with a CA of its own", name, box);
	else
		doctor_note(d, check, "it is issued by %s, no CA that this system knows: a "
		    "proxy or firewall on the way probably breaks TLS open, or the server sends no "
		    "intermediate certificates", name);
}

/* Nobody signed it: that can be right, if the operator knows so. */
static void
doctor_say_self_signed(struct doctor *d, const char *check, X509 *leaf)
{
	char name[DOCTOR_NAME_BYTES];

	doctor_say(d, DOCTOR_FAIL, check, "ca_file = it, if you know it to be the right one; "
	    "\"apt-depot doctor --save-ca FILE URL\" gets it", "it is self-signed (%s)",
	    doctor_name(X509_get_subject_name(leaf), name));
}

/* What is wrong, and whose business it is. */
static void
doctor_say_refused(struct doctor *d, const char *check, const char *host, STACK_OF(X509) *chain,
    int err)
{
	char names[1024];

	if (err == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT)
		doctor_say_self_signed(d, check, sk_X509_value(chain, 0));
	else if (doctor_is_unknown_issuer(err))
		doctor_say_intercepted(d, check, chain, err);
	else if (err == X509_V_ERR_HOSTNAME_MISMATCH || err == X509_V_ERR_IP_ADDRESS_MISMATCH) {
		upway_cert_names(sk_X509_value(chain, 0), names, sizeof(names));
		doctor_say(d, DOCTOR_FAIL, check, "the host's name; or connect_to, a hosts "
		    "file or a proxy that leads to another server", "it is for %s, not for %s",
		    names[0] != '\0' ? names : "no name", host);
	} else if (err == X509_V_ERR_CERT_HAS_EXPIRED || err == X509_V_ERR_CERT_NOT_YET_VALID)
		doctor_say(d, DOCTOR_FAIL, check, "this machine's clock; if it is right, only "
		    "who runs the server can mend it", "%s", X509_verify_cert_error_string(err));
	else
		doctor_say(d, DOCTOR_FAIL, check, "only who runs the server, or a proxy on the way, "
		    "can mend it", "not accepted: %s", X509_verify_cert_error_string(err));
	doctor_save(d, chain);
}

/* Subject and issuer of each certificate that was sent. */
static void
doctor_show_chain(struct doctor *d, STACK_OF(X509) *chain)
{
	char subject[DOCTOR_NAME_BYTES], issuer[DOCTOR_NAME_BYTES];
	struct tm tm;
	char until[32] = "?";
	int i;

	for (i = 0; i < sk_X509_num(chain); i++) {
		X509 *cert = sk_X509_value(chain, i);

		if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) == 1)
			(void)strftime(until, sizeof(until), "%F", &tm);
		doctor_note(d, "tls", "%d: %s, issued by %s, until %s", i,
		    doctor_name(X509_get_subject_name(cert), subject),
		    doctor_name(X509_get_issuer_name(cert), issuer), until);
	}
}

/* Judges the chain as the depot would, and says why it is not accepted. */
static bool
doctor_judge_chain(struct doctor *d, const char *check, const char *host, STACK_OF(X509) *chain)
{
	const char *box = doctor_find_box(chain), *by = "the system's CAs";
	int err = doctor_verify(chain, host, NULL);

	if (err != X509_V_OK && d->up->ca_file != NULL) {
		err = doctor_verify(chain, host, d->up->ca_file);
		by = "ca_file, and not by the system's CAs alone";
	}
	if (err != X509_V_OK) {
		doctor_say_refused(d, check, host, chain, err);
		return false;
	}
	doctor_say(d, DOCTOR_OK, check, NULL, "accepted by %s", by);
	if (box != NULL)
		doctor_note(d, check, "%s on the way breaks TLS open: the origin's own "
		    "certificate is not seen from here", box);
	doctor_save(d, chain);
	return true;
}

/* ---- handshakes ---- */

const char *
doctor_mend_tls(const char *error)
{
	const char *words = upway_tls_words(error);

	if (strstr(error, "alert handshake failure") != NULL || (words != NULL &&
	    strstr(words, "client_cert") != NULL))
		return "client_cert = /etc/ssl/depot.pem and client_key, of a certificate that the "
		    "server accepts";
	if (words != NULL)
		return "only who runs the server, or a proxy on the way, can mend it";
	return NULL;
}

/* The server wants a certificate of ours, and there is none. */
static int
doctor_client_cert_cb(SSL *ssl, X509 **cert, EVP_PKEY **key)
{
	struct doctor *d = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	(void)cert;
	(void)key;
	doctor_say(d, DOCTOR_WARN, "tls", "client_cert = /etc/ssl/depot.pem and client_key, of a "
	    "certificate that the server accepts", "it asks for a client certificate, and none is set");
	return 0;
}

/* A context that takes any certificate and any version, and shows ours where one is asked for. */
static SSL_CTX *
doctor_context(struct doctor *d, bool to_origin)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	const struct config_upstream *up = d->up;
	const char *key = up->client_key != NULL ? up->client_key : up->client_cert;

	if (ctx == NULL)
		return NULL;
	(void)SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
	SSL_CTX_set_security_level(ctx, 0);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
	(void)SSL_CTX_set_app_data(ctx, d);
	if (to_origin)
		SSL_CTX_set_client_cert_cb(ctx, doctor_client_cert_cb);
	/* What is wrong with these files, the configuration's check has said. */
	if (to_origin && up->client_cert != NULL) {
		(void)SSL_CTX_use_certificate_chain_file(ctx, up->client_cert);
		(void)SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM);
	}
	ERR_clear_error();
	return ctx;
}

/* A session with the host on the socket, or inside of another one; NULL: why there is none. */
static SSL *
doctor_handshake(const struct doctor_socket *s, SSL *under, SSL_CTX *ctx, const char *host,
    char *why, size_t why_cap)
{
	SSL *ssl = ctx != NULL ? SSL_new(ctx) : NULL;
	BIO *bio = ssl == NULL ? NULL : under != NULL ? BIO_new(BIO_f_ssl()) :
	    BIO_new_socket(s->fd, BIO_NOCLOSE);
	struct in6_addr address;
	unsigned long err;
	int ret = -1;

	ERR_clear_error();
	if (bio != NULL) {
		if (under != NULL)
			(void)BIO_set_ssl(bio, under, BIO_NOCLOSE);
		SSL_set_bio(ssl, bio, bio);
		if (inet_pton(AF_INET, host, &address) != 1 && inet_pton(AF_INET6, host, &address) != 1)
			(void)SSL_set_tlsext_host_name(ssl, host);
		do
			ret = SSL_connect(ssl);
		while (ret != 1 && doctor_tls_again(s, ssl, ret));
	}
	if (ret == 1)
		return ssl;
	err = ERR_peek_last_error();
	(void)snprintf(why, why_cap, "%s", err != 0 && ERR_reason_error_string(err) != NULL ?
	    ERR_reason_error_string(err) : clock_mono_ms() >= s->until_ms ?
	    "no answer in time (connect_timeout)" : "the connection was closed");
	SSL_free(ssl);
	ERR_clear_error();
	return NULL;
}

/* No handshake: in words, and with what mends it where it speaks no TLS at all, or is silent. */
static void
doctor_say_no_tls(struct doctor *d, const char *check, const char *host, const char *why,
    const char *mend_clear, const char *mend_silent)
{
	const char *words = upway_tls_words(why), *mend = doctor_mend_tls(why);

	if (strstr(why, "wrong version number") != NULL)
		mend = mend_clear;
	doctor_say(d, DOCTOR_FAIL, check, mend != NULL ? mend : mend_silent, "no TLS with %s: %s%s%s",
	    host, why, words != NULL ? ": " : "", words != NULL ? words : "");
}

void
doctor_check_tls(struct doctor *d, const struct doctor_socket *s, SSL *under)
{
	SSL_CTX *ctx = doctor_context(d, true);
	char host[300], why[256];
	STACK_OF(X509) *chain;
	SSL *ssl;

	(void)snprintf(host, sizeof(host), "%.*s", SLICE_ARG(d->url.host));
	ssl = doctor_handshake(s, under, ctx, host, why, sizeof(why));
	SSL_CTX_free(ctx);	/* the session holds it */
	if (ssl == NULL) {
		doctor_say_no_tls(d, "tls", host, why, "the URL: another port, or http:// for a "
		    "server without TLS", "the firewall: where only a proxy may speak TLS, "
		    "parent_proxy = http://proxy.example:3128");
		return;
	}
	if (SSL_version(ssl) < TLS1_2_VERSION)
		doctor_say(d, DOCTOR_FAIL, "tls", "only who runs the server or the proxy can mend it",
		    "%s, which is too old: TLS 1.2 is needed", SSL_get_version(ssl));
	else
		doctor_say(d, DOCTOR_OK, "tls", NULL, "%s, %s", SSL_get_version(ssl),
		    SSL_get_cipher_name(ssl));
	chain = SSL_get_peer_cert_chain(ssl);
	if (sk_X509_num(chain) > 0) {
		doctor_show_chain(d, chain);
		d->trusted = doctor_judge_chain(d, "certificate", host, chain) &&
		    SSL_version(ssl) >= TLS1_2_VERSION;
	}
	SSL_free(ssl);
}

SSL *
doctor_tls_to_parent(struct doctor *d, const struct doctor_socket *s, const char *host)
{
	SSL_CTX *ctx = doctor_context(d, false);
	STACK_OF(X509) *chain;
	char why[256];
	SSL *ssl = doctor_handshake(s, NULL, ctx, host, why, sizeof(why));

	SSL_CTX_free(ctx);
	if (ssl == NULL) {
		doctor_say_no_tls(d, "parent", host, why, "parent_proxy = http://... where it speaks "
		    "no TLS", "ask who runs that proxy, or name another one in parent_proxy");
		return NULL;
	}
	chain = SSL_get_peer_cert_chain(ssl);
	if (sk_X509_num(chain) > 0) {
		doctor_show_chain(d, chain);
		if (doctor_judge_chain(d, "parent", host, chain))
			return ssl;
	}
	SSL_free(ssl);
	return NULL;
}

void
doctor_check_store(struct doctor *d)
{
	const char *file = getenv(X509_get_default_cert_file_env());
	const char *dir = getenv(X509_get_default_cert_dir_env());
	struct dirent *e = NULL;
	struct stat st;
	DIR *list;

	if (file == NULL)
		file = X509_get_default_cert_file();
	if (dir == NULL)
		dir = X509_get_default_cert_dir();
	list = opendir(dir);
	while (list != NULL && (e = readdir(list)) != NULL && e->d_name[0] == '.')
		;
	if (list != NULL)
		(void)closedir(list);
	if (e != NULL || (stat(file, &st) == 0 && st.st_size > 0))
		doctor_say(d, DOCTOR_OK, "system CAs", NULL, "%s", e != NULL ? dir : file);
	else
		doctor_say(d, DOCTOR_WARN, "system CAs", "apt-get install ca-certificates",
		    "none in %s or %s: no public server will be trusted", dir, file);
}
