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

#include "proxy/doctor_priv.h"

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

/* The DNS names that a certificate is for. */
static void
doctor_names(X509 *cert, char *out, size_t cap)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	size_t n = 0;
	int i;

	out[0] = '\0';
	for (i = 0; i < sk_GENERAL_NAME_num(names) && n + 1 < cap; i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);

		if (g->type == GEN_DNS)
			n += (size_t)snprintf(out + n, cap - n, "%s%.*s", n > 0 ? ", " : "",
			    ASN1_STRING_length(g->d.dNSName),
			    (const char *)ASN1_STRING_get0_data(g->d.dNSName));
	}
	GENERAL_NAMES_free(names);
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
	    err == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN ||
	    err == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT;
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
doctor_say_intercepted(struct doctor *d, STACK_OF(X509) *chain, int err)
{
	const char *box = doctor_find_box(chain), *ca_file = d->up->ca_file;
	char name[DOCTOR_NAME_BYTES];
	X509 *top = sk_X509_value(chain, sk_X509_num(chain) - 1);

	doctor_say(d, DOCTOR_FAIL, "certificate", d->save_ca != NULL ? NULL :
	    "ca_file = /etc/ssl/that-ca.pem; get it from who runs the proxy, or with "
	    "\"apt-depot doctor --save-ca FILE URL\"",
	    "not accepted by %s (%s)", ca_file != NULL ? "the system's CAs, nor with ca_file" :
	    "the system's CAs", X509_verify_cert_error_string(err));
	(void)doctor_name(X509_get_issuer_name(top), name);
	if (box != NULL)
		doctor_note(d, "certificate", "it is issued by %s: %s on the way breaks TLS open and "
		    "signs with a CA of its own", name, box);
	else
		doctor_note(d, "certificate", "it is issued by %s, no CA that this system knows: a "
		    "proxy or firewall on the way probably breaks TLS open, or the server sends no "
		    "intermediate certificates", name);
	doctor_save(d, chain);
}

/* What is wrong, and whose business it is. */
static void
doctor_say_refused(struct doctor *d, STACK_OF(X509) *chain, int err)
{
	X509 *leaf = sk_X509_value(chain, 0);
	char names[1024];

	if (doctor_is_unknown_issuer(err)) {
		doctor_say_intercepted(d, chain, err);
		return;
	}
	if (err == X509_V_ERR_HOSTNAME_MISMATCH || err == X509_V_ERR_IP_ADDRESS_MISMATCH) {
		doctor_names(leaf, names, sizeof(names));
		doctor_say(d, DOCTOR_FAIL, "certificate", "the host's name; or connect_to, a hosts "
		    "file or a proxy that leads to another server", "it is for %s, not for %.*s",
		    names[0] != '\0' ? names : "no name", SLICE_ARG(d->url.host));
	} else if (err == X509_V_ERR_CERT_HAS_EXPIRED || err == X509_V_ERR_CERT_NOT_YET_VALID)
		doctor_say(d, DOCTOR_FAIL, "certificate", "this machine's clock; if it is right, only "
		    "who runs the server can mend it", "%s", X509_verify_cert_error_string(err));
	else
		doctor_say(d, DOCTOR_FAIL, "certificate", NULL, "not accepted: %s",
		    X509_verify_cert_error_string(err));
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

/* Judges the chain as the depot would, and says why. */
static void
doctor_judge_chain(struct doctor *d, STACK_OF(X509) *chain)
{
	char host[300];
	const char *box = doctor_find_box(chain);
	int system, ours;

	(void)snprintf(host, sizeof(host), "%.*s", SLICE_ARG(d->url.host));
	system = doctor_verify(chain, host, NULL);
	ours = d->up->ca_file != NULL && system != X509_V_OK ?
	    doctor_verify(chain, host, d->up->ca_file) : system;
	d->trusted = ours == X509_V_OK;
	if (!d->trusted) {
		doctor_say_refused(d, chain, ours);
		return;
	}
	doctor_say(d, DOCTOR_OK, "certificate", NULL, "accepted by %s", system == X509_V_OK ?
	    "the system's CAs" : "ca_file, and not by the system's CAs alone");
	if (box != NULL)
		doctor_note(d, "certificate", "%s on the way breaks TLS open: the origin's own "
		    "certificate is not seen from here", box);
	doctor_save(d, chain);
}

/* ---- handshakes ---- */

/* A session that takes any certificate and any version; NULL: no handshake, and why. */
static SSL *
doctor_handshake(const struct doctor_socket *s, const char *host, SSL_CTX **ctx_p, char *why,
    size_t why_cap)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	struct in6_addr address;
	SSL *ssl = NULL;
	int ret = -1;
	unsigned long err;

	*ctx_p = ctx;
	ERR_clear_error();
	if (ctx != NULL) {
		(void)SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
		SSL_CTX_set_security_level(ctx, 0);
		SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
		ssl = SSL_new(ctx);
	}
	if (ssl != NULL && SSL_set_fd(ssl, s->fd) == 1) {
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
	    ERR_reason_error_string(err) : "no answer, or the connection was closed");
	SSL_free(ssl);
	return NULL;
}

void
doctor_check_tls(struct doctor *d, const struct doctor_socket *s)
{
	char host[300], why[256];
	STACK_OF(X509) *chain;
	SSL_CTX *ctx;
	SSL *ssl;

	(void)snprintf(host, sizeof(host), "%.*s", SLICE_ARG(d->url.host));
	ssl = doctor_handshake(s, host, &ctx, why, sizeof(why));
	if (ssl == NULL) {
		doctor_say(d, DOCTOR_FAIL, "tls", "a firewall that lets only a proxy speak TLS? "
		    "parent_proxy = http://proxy.example:3128", "no TLS with %s: %s", host, why);
		SSL_CTX_free(ctx);
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
		doctor_judge_chain(d, chain);
		d->trusted = d->trusted && SSL_version(ssl) >= TLS1_2_VERSION;
	}
	SSL_free(ssl);
	SSL_CTX_free(ctx);
}

SSL *
doctor_tls_to_parent(struct doctor *d, const struct doctor_socket *s, const char *host)
{
	STACK_OF(X509) *chain;
	char why[256];
	SSL_CTX *ctx;
	SSL *ssl = doctor_handshake(s, host, &ctx, why, sizeof(why));
	int err;

	if (ssl == NULL)
		doctor_say(d, DOCTOR_FAIL, "parent", "parent_proxy = http://... where it speaks no TLS",
		    "no TLS with %s: %s", host, why);
	else {
		chain = SSL_get_peer_cert_chain(ssl);
		doctor_show_chain(d, chain);
		err = sk_X509_num(chain) > 0 ? doctor_verify(chain, host, d->up->ca_file) :
		    X509_V_ERR_UNSPECIFIED;
		if (err != X509_V_OK) {
			doctor_say(d, DOCTOR_FAIL, "parent", "ca_file = /etc/ssl/its-ca.pem",
			    "the certificate of %s is not accepted: %s", host,
			    X509_verify_cert_error_string(err));
			SSL_free(ssl);
			ssl = NULL;
		}
	}
	SSL_CTX_free(ctx);	/* the session holds it */
	return ssl;
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
