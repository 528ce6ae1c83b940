/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What a value must be beyond its type: addresses, proxies, PEM files. One
 * function for each word in option.def's check column; config_value.c calls
 * them. No message shows a value that could hold a password.
 */
#include "proxy/config_priv.h"

#include "include/key.h"
#include "proxy/authfile.h"
#include "proxy/ca.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <arpa/inet.h>
#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Writes why and says how bad it is. */
static enum config_verdict PRINTF_LIKE(3, 4)
config_say(enum config_verdict verdict, char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, CONFIG_WHY_BYTES, fmt, ap);
	va_end(ap);
	return verdict;
}

enum config_verdict
config_check_any(const char *text, char *why)
{
	(void)text;
	(void)why;
	return CONFIG_GOOD;
}

/* Digits that make a port from `least` to 65535? */
static bool
config_port_ok(struct slice s, unsigned least)
{
	uint64_t value;

	return slice_read_number(s, UINT16_MAX, &value) && value >= least;
}

/* A numeric address of the family? */
static bool
config_address_ok(int family, struct slice s)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t addr[16];

	if (s.n == 0 || s.n >= sizeof(text))
		return false;
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	return inet_pton(family, text, addr) == 1;
}

/* A host name, an IPv4 address, or IPv6 in brackets? */
static bool
config_host_ok(struct slice s)
{
	size_t i;

	if (s.n >= 2 && s.p[0] == '[' && s.p[s.n - 1] == ']')
		return config_address_ok(AF_INET6, (struct slice){s.p + 1, s.n - 2});
	if (s.n == 0 || s.n > 253)
		return false;
	for (i = 0; i < s.n; i++)
		if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= 'A' && s.p[i] <= 'Z') ||
		    (s.p[i] >= '0' && s.p[i] <= '9') || strchr("-._", s.p[i]) != NULL))
			return false;
	return true;
}

/* Takes what stands before the next colon outside brackets. False: none, all is the field. */
static bool
config_field_cut(struct slice *rest, struct slice *field)
{
	size_t i;
	bool inside = false;

	*field = *rest;
	for (i = 0; i < rest->n; i++) {
		if (rest->p[i] == '[')
			inside = true;
		else if (rest->p[i] == ']')
			inside = false;
		else if (rest->p[i] == ':' && !inside) {
			field->n = i;
			*rest = slice_skip(*rest, i + 1);
			return true;
		}
	}
	return false;
}

enum config_verdict
config_check_listen(const char *text, char *why)
{
	struct sockaddr_un un;
	struct slice rest = slice_of(text), host;

	if (slice_starts(rest, SLICE("unix:"))) {
		rest = slice_skip(rest, 5);
		if (rest.n == 0 || rest.p[0] != '/' || rest.n >= sizeof(un.sun_path))
			return config_say(CONFIG_BAD, why, "\"%s\" is no socket path: write "
			    "unix:/path, at most %zu bytes of it", config_quote(rest).text,
			    sizeof(un.sun_path) - 1);
		return CONFIG_GOOD;
	}
	if (config_port_ok(rest, 0))
		return config_say(CONFIG_BAD, why, "\"%s\" is a bare port: write :%s for all "
		    "addresses, or 127.0.0.1:%s", text, text, text);
	if (!config_field_cut(&rest, &host) || !config_port_ok(rest, 0))
		return config_say(CONFIG_BAD, why, "\"%s\" does not end in a port: write "
		    "address:port, [v6]:port, :port or unix:/path",
		    config_quote(slice_of(text)).text);
	if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']' &&
	    config_address_ok(AF_INET6, (struct slice){host.p + 1, host.n - 2}))
		return CONFIG_GOOD;
	if (host.n == 0 || config_address_ok(AF_INET, host))
		return CONFIG_GOOD;
	return config_say(CONFIG_BAD, why, "\"%s\" is not a numeric address: write one of this "
	    "machine's, or :port for all", config_quote(host).text);
}

/* One address of a listen option, which config_check_listen found good. */
struct config_listener {
	const char *text;
	bool is_unix, is_any;		/* any: all addresses of its families */
	uint64_t port;			/* 0: the system chooses, another one each time */
	struct in6_addr addr;		/* IPv4 as ::ffff:a.b.c.d */
};

static struct config_listener
config_listener_of(const char *text)
{
	struct config_listener l = {.text = text};
	char host[INET6_ADDRSTRLEN + 8] = "::";
	struct slice rest = slice_of(text), s;

	l.is_unix = slice_starts(rest, SLICE("unix:"));
	if (l.is_unix || !config_field_cut(&rest, &s))
		return l;
	(void)slice_read_number(rest, UINT16_MAX, &l.port);
	if (s.n != 0 && s.p[0] == '[')
		(void)snprintf(host, sizeof(host), "%.*s", (int)s.n - 2, s.p + 1);
	else if (s.n != 0)
		(void)snprintf(host, sizeof(host), "::ffff:%.*s", SLICE_ARG(s));
	(void)inet_pton(AF_INET6, host, &l.addr);
	l.is_any = IN6_IS_ADDR_UNSPECIFIED(&l.addr) || strcmp(host, "::ffff:0.0.0.0") == 0;
	return l;
}

/* Does listening on a leave nothing of b? IPv6's "any" is IPv4's as well. */
static bool
config_listener_covers(const struct config_listener *a, const struct config_listener *b)
{
	if (a->is_unix || b->is_unix)
		return strcmp(a->text, b->text) == 0;
	if (a->port != b->port || a->port == 0)
		return false;
	if (a->is_any && (IN6_IS_ADDR_UNSPECIFIED(&a->addr) || IN6_IS_ADDR_V4MAPPED(&b->addr)))
		return true;
	return memcmp(&a->addr, &b->addr, sizeof(a->addr)) == 0;
}

/* The n-th address of the three options together, and its option; NULL behind the last. */
static const char *
config_listener_at(const struct config *c, size_t n, const char **key)
{
	*key = "listen";
	if (n < c->listen.n)
		return c->listen.v[n];
	n -= c->listen.n;
	*key = "listen_tls";
	if (n < c->listen_tls.n)
		return c->listen_tls.v[n];
	n -= c->listen_tls.n;
	*key = "listen_transparent";
	return n < c->listen_transparent.n ? c->listen_transparent.v[n] : NULL;
}

enum config_verdict
config_check_listeners(const struct config *c, char *why)
{
	struct config_listener all[CONFIG_LISTENERS_MAX];
	const char *keys[CONFIG_LISTENERS_MAX], *text;
	size_t i, j;

	for (i = 0; (text = config_listener_at(c, i, &keys[i])) != NULL; i++) {
		all[i] = config_listener_of(text);
		for (j = 0; j < i; j++) {
			if (!config_listener_covers(&all[j], &all[i]) &&
			    !config_listener_covers(&all[i], &all[j]))
				continue;
			if (strcmp(all[j].text, text) == 0)
				return config_say(CONFIG_BAD, why, "%s: \"%s\" is listed twice, here and in "
				    "%s: remove one", keys[i], text, keys[j]);
			return config_say(CONFIG_BAD, why, "%s: \"%s\" and \"%s\" of %s have an address and "
			    "port in common: remove one, or write another port", keys[i], text, all[j].text,
			    keys[j]);
		}
		if (i + 1 == CONFIG_LISTENERS_MAX)
			break;
	}
	return CONFIG_GOOD;
}

enum config_verdict
config_check_host(const char *text, char *why)
{
	if (config_host_ok(slice_of(text)))
		return CONFIG_GOOD;
	return config_say(CONFIG_BAD, why, "\"%s\" is not a host name: write names without a port, "
	    "with commas between", config_quote(slice_of(text)).text);
}

enum config_verdict
config_check_log_file(const char *text, char *why)
{
	(void)why;
	return strcmp(text, "stderr") == 0 || strcmp(text, "-") == 0 ? CONFIG_UNSET : CONFIG_GOOD;
}

enum config_verdict
config_check_access_log(const char *text, char *why)
{
	(void)why;
	return strcmp(text, "off") == 0 || strcmp(text, "no") == 0 ? CONFIG_UNSET : CONFIG_GOOD;
}

enum config_verdict
config_check_cache_dir(const char *text, char *why)
{
	struct stat st;
	int err = stat(text, &st) != 0 ? errno : S_ISDIR(st.st_mode) ? 0 : ENOTDIR;

	/* What is not there is made, and what can't be looked at is another user's matter. */
	if (err != ENOTDIR && err != ELOOP && err != ENAMETOOLONG)
		return CONFIG_GOOD;
	return config_say(CONFIG_BAD, why, "\"%s\" can't be a directory (%s): name one, or where one "
	    "can be made", config_quote(slice_of(text)).text, strerror(err));
}

/* A regular file open for reading, or NULL and why. Anything else could block us for ever. */
static FILE *
config_file_open(const char *path, struct stat *st, char *why)
{
	FILE *in = NULL;
	int err = 0;

	if (stat(path, st) != 0)
		err = errno;
	else if (!S_ISREG(st->st_mode))
		err = S_ISDIR(st->st_mode) ? EISDIR : EINVAL;
	else if ((in = fopen(path, "re")) == NULL)
		err = errno;
	if (in == NULL)
		config_say(CONFIG_BAD, why, "%s can't be read (%s): name a file that the depot's "
		    "user may read", config_quote(slice_of(path)).text, strerror(err));
	return in;
}

/* A file of secrets: nobody but its owner and group may read it, nor write it. */
static enum config_verdict
config_secret_ok(const char *path, const struct stat *st, char *why)
{
	if ((st->st_mode & (S_IROTH | S_IWOTH)) == 0)
		return CONFIG_GOOD;
	return config_say(CONFIG_BAD, why, "%s may be %s by everybody on this machine: chmod o-rw, "
	    "and chown it to the depot's user or group", config_quote(slice_of(path)).text,
	    (st->st_mode & S_IWOTH) != 0 ? "written" : "read");
}

/* How many certificates the PEM file has; -1: one of them can't be read. */
static int
config_certs_count(FILE *in)
{
	unsigned long code;
	X509 *cert;
	int n = 0;

	ERR_clear_error();
	while ((cert = PEM_read_X509_AUX(in, NULL, ca_no_passphrase_cb, NULL)) != NULL) {
		X509_free(cert);
		n++;
	}
	code = ERR_peek_last_error();
	ERR_clear_error();
	return ERR_GET_REASON(code) == PEM_R_NO_START_LINE ? n : -1;
}

enum config_verdict
config_check_cert_file(const char *text, char *why)
{
	struct stat st;
	FILE *in = config_file_open(text, &st, why);
	int n;

	if (in == NULL)
		return CONFIG_BAD;
	n = config_certs_count(in);
	fclose(in);
	if ((st.st_mode & S_IWOTH) != 0)
		return config_say(CONFIG_BAD, why, "%s may be written by everybody on this machine, who "
		    "could so decide whom the depot trusts: chmod o-w",
		    config_quote(slice_of(text)).text);
	if (n > 0)
		return CONFIG_GOOD;
	if (n < 0)
		return config_say(CONFIG_BAD, why, "%s has a certificate that can't be read: it is "
		    "damaged, or cut short; copy it again", config_quote(slice_of(text)).text);
	return config_say(CONFIG_BAD, why, "%s has no certificate in PEM form: convert it with "
	    "openssl x509 -inform der -in FILE", config_quote(slice_of(text)).text);
}

enum config_verdict
config_check_ca_file(const char *text, char *why)
{
	return config_check_cert_file(text, why);
}

enum config_verdict
config_check_key_file(const char *text, char *why)
{
	struct stat st;
	FILE *in = config_file_open(text, &st, why);
	EVP_PKEY *key;

	if (in == NULL)
		return CONFIG_BAD;
	key = PEM_read_PrivateKey(in, NULL, ca_no_passphrase_cb, NULL);
	ERR_clear_error();
	fclose(in);
	if (key == NULL)
		return config_say(CONFIG_BAD, why, "%s has no private key in PEM form that can be "
		    "read without a passphrase: remove one with openssl pkey -in FILE",
		    config_quote(slice_of(text)).text);
	EVP_PKEY_free(key);
	return config_secret_ok(text, &st, why);
}

enum config_verdict
config_check_auth_file(const char *text, char *why)
{
	char what[AUTHFILE_WHY_BYTES];
	struct authfile *af;
	struct stat st;
	FILE *in = config_file_open(text, &st, why);

	if (in == NULL)
		return CONFIG_BAD;
	af = authfile_read(in, what);
	fclose(in);
	if (config_secret_ok(text, &st, why) == CONFIG_BAD) {
		authfile_free(&af);
		return CONFIG_BAD;
	}
	if (af == NULL)
		return config_say(CONFIG_BAD, why, "%s, %s", config_quote(slice_of(text)).text, what);
	authfile_free(&af);
	return CONFIG_GOOD;
}

/* Printable, without blank and what ends it in a URL, every % followed by two hex digits? */
static bool
config_userinfo_ok(struct slice s)
{
	size_t i;

	for (i = 0; i < s.n; i++) {
		if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f || strchr("/?#", s.p[i]) != NULL)
			return false;
		if (s.p[i] == '%' && s.n - i >= 3 && s.p[i + 1] == '0' && s.p[i + 2] == '0')
			return false;	/* a NUL would end the name here, and not there */
		if (s.p[i] == '%' && (s.n - i < 3 || s.p[i + 1] == '\0' || s.p[i + 2] == '\0' ||
		    strchr("0123456789abcdefABCDEF", s.p[i + 1]) == NULL ||
		    strchr("0123456789abcdefABCDEF", s.p[i + 2]) == NULL))
			return false;
	}
	return true;
}

/* A name below which hosts can be; digits and dots alone are no name, whatever they are. */
static bool
config_domain_ok(struct slice s)
{
	size_t i;
	bool is_name = false;

	if (slice_starts(s, SLICE("*")))
		s = slice_skip(s, 1);
	if (slice_starts(s, SLICE(".")))
		s = slice_skip(s, 1);
	if (!config_host_ok(s) || s.p[0] == '.' || s.p[0] == '[' || s.p[s.n - 1] == '.' ||
	    memmem(s.p, s.n, "..", 2) != NULL)
		return false;
	for (i = 0; i < s.n; i++)
		is_name |= s.p[i] != '.' && (s.p[i] < '0' || s.p[i] > '9');
	return is_name;
}

enum config_verdict
config_check_no_proxy(const char *text, char *why)
{
	struct slice s = slice_of(text), rest = s, host;
	struct cidrset one = {NULL, 0};

	if (strpbrk(text, " \t") != NULL)
		return config_say(CONFIG_BAD, why, "\"%s\" has a blank: write commas between members",
		    config_quote(s).text);
	if (slice_eq(s, SLICE("*")) || config_domain_ok(s))
		return CONFIG_GOOD;
	if (s.n > 2 && s.p[0] == '[' && s.p[s.n - 1] == ']')
		s = (struct slice){s.p + 1, s.n - 2};
	if (cidrset_add(&one, s)) {
		cidrset_fini(&one);
		return CONFIG_GOOD;
	}
	if (config_field_cut(&rest, &host) && config_host_ok(host) && config_port_ok(rest, 0))
		return config_say(CONFIG_BAD, why, "\"%s\" has a port, which is not looked at: write the "
		    "host alone", config_quote(slice_of(text)).text);
	if (strspn(text, "0123456789.*:/[]") == strlen(text) ||
	    (strchr(text, '/') != NULL && strstr(text, "://") == NULL))
		return config_say(CONFIG_BAD, why, "\"%s\" is not a whole address, nor a CIDR: write "
		    "members such as 10.0.0.7, 10.0.0.0/8 or fd00::/8", config_quote(slice_of(text)).text);
	return config_say(CONFIG_BAD, why, "\"%s\" is not a host: write members such as example.com, "
	    "for all that is below it, too, 10.0.0.0/8 or *, without http:// and without a dot at the "
	    "end", config_quote(slice_of(text)).text);
}

enum config_verdict
config_check_parent_proxy(const char *text, char *why)
{
	struct slice rest = slice_of(text), host;
	const char *at;
	bool tls;

	if (slice_eq(rest, SLICE("direct")))
		return CONFIG_GOOD;
	if (!url_take_scheme(&rest, &tls))
		return config_say(CONFIG_BAD, why, "not a proxy that can be used: write "
		    "http://user:password@host:port, https:// for one that speaks TLS, or direct");
	if (rest.n != 0 && rest.p[rest.n - 1] == '/')
		rest.n--;
	at = memrchr(rest.p, '@', rest.n);
	if (at != NULL) {
		if (!config_userinfo_ok((struct slice){rest.p, (size_t)(at - rest.p)}))
			return config_say(CONFIG_BAD, why, "user or password has a character that "
			    "must be written as %% and two hex digits: %%20 for a blank, %%23 for #, "
			    "%%25 for %%, %%2F for /, %%3F for ?");
		rest = slice_skip(rest, (size_t)(at - rest.p) + 1);
	}
	if (!config_field_cut(&rest, &host) || !config_host_ok(host) || !config_port_ok(rest, 1))
		return config_say(CONFIG_BAD, why, "not a proxy's host and port: write "
		    "http://user:password@host:port; in user and password, %%2C for a comma, "
		    "%%40 for @");
	return CONFIG_GOOD;
}

enum config_verdict
config_check_connect_to(const char *text, char *why)
{
	struct slice rest = slice_of(text), field[4];
	unsigned i;
	bool good = true;

	for (i = 0; i < 3 && good; i++)
		good = config_field_cut(&rest, &field[i]);
	if (good) {
		good = !config_field_cut(&rest, &field[3]) &&
		    (field[0].n == 0 || config_host_ok(field[0])) &&
		    (field[1].n == 0 || config_port_ok(field[1], 1)) &&
		    (field[2].n == 0 || config_host_ok(field[2])) &&
		    (field[3].n == 0 || config_port_ok(field[3], 1));
	}
	if (good)
		return CONFIG_GOOD;
	return config_say(CONFIG_BAD, why, "\"%s\" is not HOST:PORT:ADDRESS:PORT: write for "
	    "example repo.example.com:443:10.0.0.7:8443, IPv6 addresses in brackets",
	    config_quote(slice_of(text)).text);
}

enum config_verdict
config_check_user(const char *text, char *why)
{
	if (getpwnam(text) != NULL)
		return CONFIG_GOOD;
	return config_say(CONFIG_BAD, why, "there is no user \"%s\": create it with adduser "
	    "--system --group, or name another", config_quote(slice_of(text)).text);
}

/* Reads the first certificate of one file and the key of another, and compares. */
static bool
config_pair_ok(const char *cert_path, const char *key_path, char *why)
{
	struct stat st;
	FILE *in;
	X509 *cert = NULL;
	EVP_PKEY *key = NULL;
	bool ok;

	if ((in = config_file_open(cert_path, &st, why)) != NULL) {
		cert = PEM_read_X509_AUX(in, NULL, ca_no_passphrase_cb, NULL);
		fclose(in);
	}
	if ((in = config_file_open(key_path, &st, why)) != NULL) {
		key = PEM_read_PrivateKey(in, NULL, ca_no_passphrase_cb, NULL);
		fclose(in);
	}
	ok = cert != NULL && key != NULL && X509_check_private_key(cert, key) == 1;
	ERR_clear_error();
	X509_free(cert);
	EVP_PKEY_free(key);
	return ok;
}

enum config_verdict
config_check_upstream(const struct config_upstream *u, char *why)
{
	struct stat st;
	size_t i;

	if (u->parent_proxy.n > CONFIG_PARENTS_MAX)
		return config_say(CONFIG_BAD, why, "parent_proxy: more than %d proxies: name fewer",
		    CONFIG_PARENTS_MAX);
	for (i = 0; i + 1 < u->parent_proxy.n; i++)
		if (strcmp(u->parent_proxy.v[i], "direct") == 0)
			return config_say(CONFIG_BAD, why, "parent_proxy: direct stands before "
			    "another proxy, which would never be used: move it to the end");
	if (u->client_key != NULL && u->client_cert == NULL)
		return config_say(CONFIG_BAD, why, "client_key is set without client_cert: name "
		    "the certificate that the key belongs to");
	if (u->client_cert != NULL && !config_pair_ok(u->client_cert,
	    u->client_key != NULL ? u->client_key : u->client_cert, why))
		return config_say(CONFIG_BAD, why, "client_cert: no private key that belongs to "
		    "the certificate in %s: name its key in client_key",
		    config_quote(slice_of(u->client_key != NULL ? u->client_key :
		    u->client_cert)).text);
	if (u->client_cert != NULL && u->client_key == NULL && stat(u->client_cert, &st) == 0 &&
	    (st.st_mode & S_IROTH) != 0)
		return config_say(CONFIG_BAD, why, "client_cert: %s holds the private key too, and "
		    "may be read by everybody on this machine: chmod o-r",
		    config_quote(slice_of(u->client_cert)).text);
	return CONFIG_GOOD;
}

/* The options about interception together. */
static enum config_verdict
config_check_interception(const struct config *c, char *why)
{
	struct ca *ca;
	char *text = NULL;

	if (c->intercept_ca_key != NULL && c->intercept_ca_cert == NULL)
		return config_say(CONFIG_BAD, why, "intercept_ca_key is set without "
		    "intercept_ca_cert: name the certificate that the key belongs to");
	if (c->intercept_ca_cert == NULL)
		return ca_can_constrain(&c->intercept_hosts, why, CONFIG_WHY_BYTES) ? CONFIG_GOOD :
		    CONFIG_BAD;
	ca = ca_load(c->intercept_ca_cert, c->intercept_ca_key, &text);
	if (ca == NULL)
		config_say(CONFIG_BAD, why, "intercept_ca_cert: %s", text != NULL ? text :
		    "out of memory");
	free(text);
	if (ca == NULL)
		return CONFIG_BAD;
	ca_free(&ca);
	return CONFIG_GOOD;
}

enum config_verdict
config_check_tls(const struct config *c, char *why)
{
	const char *key = c->tls_key != NULL ? c->tls_key : c->tls_cert;

	if (c->tls_cert == NULL && c->tls_key != NULL)
		return config_say(CONFIG_BAD, why, "tls_key is set without tls_cert: name the "
		    "certificate that the key belongs to");
	if (c->listen_tls.n > 0 && c->tls_cert == NULL)
		return config_say(CONFIG_BAD, why, "listen_tls needs a certificate: name it and its "
		    "key in tls_cert and tls_key");
	if (c->tls_cert != NULL && !config_pair_ok(c->tls_cert, key, why))
		return config_say(CONFIG_BAD, why, "tls_cert: no private key that belongs to the "
		    "first certificate of %s in %s: name its key in tls_key",
		    config_quote(slice_of(c->tls_cert)).text, config_quote(slice_of(key)).text);
	return config_check_interception(c, why);
}
