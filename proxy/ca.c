/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The authority for interception. main opens it through tlsconf.c before any
 * thread runs, the "ca" command through ca_of_config; mint.c signs with it.
 *
 * Ours lives in one file, certificate and key together, so that a rename
 * makes or replaces both: <cache_dir>/ca/key-and-cert.pem, mode 0600 in a
 * directory of mode 0700. Whoever steals that key can sign for the listed
 * hosts only, since clients check the name constraints. A list that grows
 * beyond them needs a new authority, which clients must be told of.
 *
 * cache_dir is the depot's user's, and root opens what is in it: root follows
 * no link there, and uses names only below the directory that it has open.
 */
#include "proxy/ca.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "include/clock.h"
#include "include/log.h"
#include "include/obj.h"

#define CA_MAGIC 0xca000001u
#define CA_FILE "key-and-cert.pem"

enum {
	CA_CHAIN_MAX = 8,
	CA_DAYS = 3652,			/* ten years */
	CA_RENEW_DAYS = 30,		/* ours is replaced so long before its end */
	CA_BACKDATE_S = 3600,
	CA_PATH_BYTES = 4096,
};

struct ca {
	uint32_t magic;
	X509 *cert;
	EVP_PKEY *key;
	X509 *chain[CA_CHAIN_MAX];	/* its own certificate first, unless that is a root */
	unsigned chain_n;
	int64_t not_after_s;
	char *pem;
};

/* Writes *why, once. */
static void PRINTF_LIKE(2, 3)
ca_say(char **why, const char *fmt, ...)
{
	va_list ap;

	free(*why);
	va_start(ap, fmt);
	if (vasprintf(why, fmt, ap) < 0)
		*why = NULL;
	va_end(ap);
}

const char *
ca_openssl_words(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());

	return text != NULL ? text : "out of memory";
}

/* ---- what a loaded one says ---- */

X509 *
ca_cert(const struct ca *ca)
{
	CHECK_OBJ(ca, CA_MAGIC);
	return ca->cert;
}

EVP_PKEY *
ca_key(const struct ca *ca)
{
	CHECK_OBJ(ca, CA_MAGIC);
	return ca->key;
}

X509 *
ca_chain(const struct ca *ca, unsigned n)
{
	CHECK_OBJ(ca, CA_MAGIC);
	return n < ca->chain_n ? ca->chain[n] : NULL;
}

int64_t
ca_not_after_s(const struct ca *ca)
{
	CHECK_OBJ(ca, CA_MAGIC);
	return ca->not_after_s;
}

const char *
ca_pem(const struct ca *ca)
{
	CHECK_OBJ(ca, CA_MAGIC);
	return ca->pem;
}

void
ca_fingerprint(const struct ca *ca, char out[CA_FINGERPRINT_BYTES])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n = 0, i;

	CHECK_OBJ(ca, CA_MAGIC);
	out[0] = '\0';
	if (X509_digest(ca->cert, EVP_sha256(), digest, &n) != 1)
		return;
	MUST(n * 3 <= CA_FINGERPRINT_BYTES);
	for (i = 0; i < n; i++)
		(void)snprintf(out + 3 * i, 4, i + 1 < n ? "%02X:" : "%02X", digest[i]);
}

void
ca_print(FILE *out, const struct ca *ca, const struct globset *hosts, const char *url)
{
	char fingerprint[CA_FINGERPRINT_BYTES];
	size_t i;

	ca_fingerprint(ca, fingerprint);
	(void)fprintf(out, "%s\n# SHA-256 fingerprint:\n#   %s\n\n"
	    "# On a client, for every program that uses the system's list (curl, wget, apt):\n"
	    "#   curl -o /usr/local/share/ca-certificates/apt-depot.crt %s/-/ca.pem\n"
	    "#   update-ca-certificates\n"
	    "# For apt alone, with a file that the user _apt may read, in /etc/apt/apt.conf.d/:\n",
	    ca_pem(ca), fingerprint, url);
	for (i = 0; i < hosts->patterns.n; i++) {
		struct slice host = slice_of(hosts->patterns.v[i]);

		if (slice_starts(host, SLICE("*")))
			host = slice_skip(host, 1);
		(void)fprintf(out, "#   Acquire::https::%s%.*s::CaInfo \"/etc/apt/apt-depot-ca.pem\";\n",
		    host.n > 0 && host.p[0] != '.' ? "" : "HOST", SLICE_ARG(host));
	}
	(void)fprintf(out, "# In a Dockerfile, in an image that has the package ca-certificates:\n"
	    "#   ADD %s/-/ca.pem /usr/local/share/ca-certificates/apt-depot.crt\n"
	    "#   RUN update-ca-certificates\n"
	    "# or, with the file beside it:\n"
	    "#   COPY apt-depot-ca.pem /usr/local/share/ca-certificates/apt-depot.crt\n"
	    "# Compare the fingerprint before you trust what came over plain http.\n", url);
}

void
ca_free(struct ca **ca_p)
{
	struct ca *ca = *ca_p;
	unsigned i;

	*ca_p = NULL;
	if (ca == NULL)
		return;
	CHECK_OBJ(ca, CA_MAGIC);
	for (i = 0; i < ca->chain_n; i++)
		X509_free(ca->chain[i]);
	X509_free(ca->cert);
	EVP_PKEY_free(ca->key);
	free(ca->pem);
	OBJ_FREE(ca);
}

/* ---- reading ---- */

int
ca_no_passphrase_cb(char *buf, int size, int writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

/* Root follows no links in what is another user's. */
static int
ca_nofollow(void)
{
	return geteuid() == 0 ? O_NOFOLLOW : 0;
}

/* Opens our file in the directory dirfd, which path only names; -1: the file at path, as it is given. */
static FILE *
ca_fopen(int dirfd, const char *path)
{
	int fd = dirfd >= 0 ? openat(dirfd, CA_FILE, O_RDONLY | O_CLOEXEC | ca_nofollow()) :
	    open(path, O_RDONLY | O_CLOEXEC);
	FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;

	if (f == NULL && fd >= 0)
		(void)close(fd);
	return f;
}

/* Reads the key, unless others may read or change it. False: *why is said. */
static bool
ca_read_key(struct ca *ca, int dirfd, const char *path, char **why)
{
	FILE *f = ca_fopen(dirfd, path);
	struct stat st = {.st_mode = 0};
	bool ok;

	if (f == NULL) {
		ca_say(why, "%s can't be read (%s)", path, strerror(errno));
		return false;
	}
	ca->key = PEM_read_PrivateKey(f, NULL, ca_no_passphrase_cb, NULL);
	ok = ca->key == NULL || (fstat(fileno(f), &st) == 0 &&
	    (st.st_mode & (S_IROTH | S_IWOTH | S_IWGRP)) == 0);
	(void)fclose(f);
	if (!ok)
		ca_say(why, "%s has the authority's private key and may be read or changed by "
		    "others: chmod 600 it, and make a new one if others are not to be trusted", path);
	return ok;
}

/* The certificates of a file: the first is the authority's own. */
static void
ca_read_certs(struct ca *ca, FILE *f)
{
	X509 *x;

	ca->cert = PEM_read_X509(f, NULL, ca_no_passphrase_cb, NULL);
	if (ca->cert == NULL)
		return;
	/* A root is what clients have already; one that was signed by another must be shown. */
	if (X509_NAME_cmp(X509_get_subject_name(ca->cert), X509_get_issuer_name(ca->cert)) != 0) {
		(void)X509_up_ref(ca->cert);
		ca->chain[ca->chain_n++] = ca->cert;
	}
	while (ca->chain_n < CA_CHAIN_MAX &&
	    (x = PEM_read_X509(f, NULL, ca_no_passphrase_cb, NULL)) != NULL)
		ca->chain[ca->chain_n++] = x;
	ERR_clear_error();
}

/* Does it sign as mint.c does, and does OpenSSL show it to clients? If not, the error is there. */
static bool
ca_can_sign(const struct ca *ca)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	bool ok = md != NULL && ctx != NULL &&
	    EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, ca->key) == 1;
	unsigned i;

	for (i = 0; ok && i < ca->chain_n; i++)
		ok = SSL_CTX_add1_chain_cert(ctx, ca->chain[i]) == 1;
	SSL_CTX_free(ctx);
	EVP_MD_CTX_free(md);
	return ok;
}

/* Is it one that can sign, and does it go together? */
static bool
ca_check(struct ca *ca, const char *cert_path, const char *key_path, char **why)
{
	struct tm tm;
	BIO *bio;
	char *text;
	long n;

	if (ca->cert == NULL || ca->key == NULL) {
		ca_say(why, "%s has no %s in PEM form that can be read without a passphrase",
		    ca->cert == NULL ? cert_path : key_path,
		    ca->cert == NULL ? "certificate" : "private key");
		return false;
	}
	if (X509_check_private_key(ca->cert, ca->key) != 1) {
		ca_say(why, "the key in %s does not belong to the certificate in %s: name the two "
		    "that were made together", key_path, cert_path);
		return false;
	}
	if (X509_check_ca(ca->cert) < 1 || (X509_get_key_usage(ca->cert) & KU_KEY_CERT_SIGN) == 0) {
		ca_say(why, "%s is no authority (CA:TRUE, keyCertSign): clients would refuse what it "
		    "signs", cert_path);
		return false;
	}
	ERR_clear_error();
	if (!ca_can_sign(ca)) {
		ca_say(why, "OpenSSL can't serve with the authority in %s (%s): give one that has an EC "
		    "key or RSA of 2048 bits or more, and nothing weaker above it", cert_path,
		    ca_openssl_words());
		return false;
	}
	if (ASN1_TIME_to_tm(X509_get0_notAfter(ca->cert), &tm) != 1)
		return false;
	ca->not_after_s = (int64_t)timegm(&tm);
	bio = BIO_new(BIO_s_mem());
	if (bio != NULL && PEM_write_bio_X509(bio, ca->cert) == 1 &&
	    (n = BIO_get_mem_data(bio, &text)) > 0)
		ca->pem = strndup(text, (size_t)n);
	BIO_free(bio);
	return ca->pem != NULL;
}

/* Reads and checks, whatever the clock says. dirfd: see ca_fopen. */
static struct ca *
ca_read(int dirfd, const char *cert_path, const char *key_path, char **why)
{
	struct ca *ca;
	FILE *f;

	OBJ_NEW(ca, CA_MAGIC);
	if (ca == NULL)
		return NULL;
	if (!ca_read_key(ca, dirfd, key_path, why))
		goto fail;
	f = ca_fopen(dirfd, cert_path);
	if (f == NULL) {
		ca_say(why, "%s can't be read (%s)", cert_path, strerror(errno));
		goto fail;
	}
	ca_read_certs(ca, f);
	(void)fclose(f);
	if (!ca_check(ca, cert_path, key_path, why))
		goto fail;
	ERR_clear_error();
	return ca;
fail:
	ERR_clear_error();
	if (*why == NULL)
		ca_say(why, "%s: out of memory", cert_path);
	ca_free(&ca);
	return NULL;
}

struct ca *
ca_load(const char *cert_path, const char *key_path, char **why)
{
	struct ca *ca;

	*why = NULL;
	ca = ca_read(-1, cert_path, key_path != NULL ? key_path : cert_path, why);
	if (ca != NULL && ca->not_after_s <= clock_wall_s()) {
		ca_say(why, "%s has expired: make a new one", cert_path);
		ca_free(&ca);
	}
	return ca;
}

/* ---- constraints ---- */

/* One pattern of intercept_hosts as constraints know it: a domain, or an address. */
struct ca_name {
	char text[256];
	bool v4, v6;
};

/* The host of a pattern, without "*." and port; false where it is more than a domain. */
static bool
ca_name_of(const char *pattern, struct ca_name *name)
{
	struct slice s = slice_of(pattern);
	const char *end;
	uint8_t addr[16];

	memset(name, 0, sizeof(*name));
	if (s.n > 0 && s.p[0] == '[') {
		end = memchr(s.p, ']', s.n);
		if (end == NULL)
			return false;
		s = (struct slice){s.p + 1, (size_t)(end - s.p) - 1};
	} else if (s.n > 0 && (end = memchr(s.p, ':', s.n)) != NULL && memchr(end + 1, ':',
	    s.n - (size_t)(end + 1 - s.p)) == NULL)
		s.n = (size_t)(end - s.p);
	if (slice_starts(s, SLICE("*.")))
		s = slice_skip(s, 2);
	if (s.n == 0 || s.n >= sizeof(name->text) || memchr(s.p, '*', s.n) != NULL)
		return false;
	memcpy(name->text, s.p, s.n);
	name->v4 = inet_pton(AF_INET, name->text, addr) == 1;
	name->v6 = inet_pton(AF_INET6, name->text, addr) == 1;
	return true;
}

bool
ca_can_constrain(const struct globset *hosts, char *why, size_t why_cap)
{
	struct ca_name name;
	size_t i;

	for (i = 0; i < hosts->patterns.n; i++)
		if (!ca_name_of(hosts->patterns.v[i], &name)) {
			(void)snprintf(why, why_cap, "intercept_hosts: an authority made here is good "
			    "for single hosts and *.domain only, not for \"%s\": list those, or give "
			    "one of your own with intercept_ca_cert and intercept_ca_key",
			    hosts->patterns.v[i]);
			return false;
		}
	return true;
}

/* The constraints in OpenSSL's words; malloced. A kind of name that is not listed is excluded. */
static char *
ca_constraints_text(const struct globset *hosts)
{
	struct ca_name name;
	bool dns = false, ip = false;
	char *text = NULL;
	size_t n = 0, i;
	FILE *out = open_memstream(&text, &n);

	if (out == NULL)
		return NULL;
	(void)fputs("critical", out);
	for (i = 0; i < hosts->patterns.n; i++) {
		MUST(ca_name_of(hosts->patterns.v[i], &name));
		if (name.v4)
			(void)fprintf(out, ",permitted;IP:%s/255.255.255.255", name.text);
		else if (name.v6)
			(void)fprintf(out, ",permitted;IP:%s/ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
			    name.text);
		else
			(void)fprintf(out, ",permitted;DNS:%s", name.text);
		ip = ip || name.v4 || name.v6;
		dns = dns || !(name.v4 || name.v6);
	}
	if (!ip)
		(void)fputs(",excluded;IP:0.0.0.0/0.0.0.0,excluded;IP:::/::", out);
	if (!dns)
		(void)fputs(",permitted;DNS:invalid", out);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* Does this subtree hold the name? */
static bool
ca_subtree_has(const GENERAL_NAME *base, const struct ca_name *name)
{
	struct slice mine = slice_of(name->text), tree;
	uint8_t addr[32];

	if (name->v4 || name->v6) {
		size_t n = name->v4 ? 4 : 16;

		if (base->type != GEN_IPADD || (size_t)base->d.iPAddress->length != 2 * n)
			return false;
		memset(addr, 0xff, sizeof(addr));
		(void)inet_pton(name->v4 ? AF_INET : AF_INET6, name->text, addr);
		return memcmp(ASN1_STRING_get0_data(base->d.iPAddress), addr, n) == 0;
	}
	if (base->type != GEN_DNS)
		return false;
	tree = (struct slice){(const char *)ASN1_STRING_get0_data(base->d.dNSName),
	    (size_t)ASN1_STRING_length(base->d.dNSName)};
	return slice_caseeq(mine, tree) || (mine.n > tree.n && mine.p[mine.n - tree.n - 1] == '.' &&
	    slice_caseeq(slice_skip(mine, mine.n - tree.n), tree));
}

/* Is it good for every one of the hosts? If not, *missing is one that it is not good for. */
static bool
ca_covers(const struct ca *ca, const struct globset *hosts, struct ca_name *missing)
{
	NAME_CONSTRAINTS *nc = X509_get_ext_d2i(ca->cert, NID_name_constraints, NULL, NULL);
	bool all = nc != NULL, found;
	size_t i;
	int j;

	for (i = 0; i < hosts->patterns.n && all; i++) {
		MUST(ca_name_of(hosts->patterns.v[i], missing));
		found = false;
		for (j = 0; j < sk_GENERAL_SUBTREE_num(nc->permittedSubtrees) && !found; j++)
			found = ca_subtree_has(sk_GENERAL_SUBTREE_value(nc->permittedSubtrees,
			    j)->base, missing);
		all = found;
	}
	NAME_CONSTRAINTS_free(nc);
	return all;
}

/* ---- making one ---- */

/* Adds an extension in OpenSSL's words. */
static bool
ca_add_extension(X509 *x, int nid, const char *text)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;
	bool ok;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, text);
	ok = ext != NULL && X509_add_ext(x, ext, -1) == 1;
	X509_EXTENSION_free(ext);
	return ok;
}

/* A name that no other authority of ours has: clients look issuers up by it. */
static bool
ca_set_names(X509 *x, const unsigned char random[8])
{
	X509_NAME *name = X509_get_subject_name(x);
	char host[64] = "", text[64];

	(void)gethostname(host, sizeof(host) - 1);
	(void)snprintf(text, sizeof(text), "apt-depot CA %02x%02x%02x%02x", random[0], random[1],
	    random[2], random[3]);
	return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8,
	    (const unsigned char *)(host[0] != '\0' ? host : "apt-depot"), -1, -1, 0) == 1 &&
	    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)text, -1,
	    -1, 0) == 1 && X509_set_issuer_name(x, name) == 1;
}

/* Key and certificate of a new authority for the hosts. */
static bool
ca_make(struct ca *ca, const struct globset *hosts)
{
	unsigned char random[16];
	char *constraints = ca_constraints_text(hosts);
	BIGNUM *serial = NULL;
	int64_t now_s = clock_wall_s();
	bool ok = false;
	X509 *x;

	ca->key = EVP_EC_gen("P-256");
	ca->cert = x = X509_new();
	if (constraints == NULL || ca->key == NULL || x == NULL || RAND_bytes(random, 16) != 1)
		goto done;
	random[0] &= 0x7f;
	random[0] |= 0x40;
	serial = BN_bin2bn(random, 16, NULL);
	ok = serial != NULL && X509_set_version(x, X509_VERSION_3) == 1 &&
	    BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(x)) != NULL &&
	    ca_set_names(x, random + 8) &&
	    ASN1_TIME_set(X509_getm_notBefore(x), (time_t)(now_s - CA_BACKDATE_S)) != NULL &&
	    ASN1_TIME_adj(X509_getm_notAfter(x), (time_t)now_s, CA_DAYS, 0) != NULL &&
	    X509_set_pubkey(x, ca->key) == 1 &&
	    ca_add_extension(x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
	    ca_add_extension(x, NID_key_usage, "critical,keyCertSign,cRLSign") &&
	    ca_add_extension(x, NID_subject_key_identifier, "hash") &&
	    ca_add_extension(x, NID_name_constraints, constraints) &&
	    X509_sign(x, ca->key, EVP_sha256()) > 0;
done:
	BN_free(serial);
	free(constraints);
	return ok;
}

/* Who the files are to belong to. */
static void
ca_give(int fd, const char *owner)
{
	const struct passwd *pw = owner != NULL && geteuid() == 0 ? getpwnam(owner) : NULL;

	if (pw != NULL && fchown(fd, pw->pw_uid, pw->pw_gid) != 0)
		log_warning("ca: cannot give it to %s: %s", owner, strerror(errno));
}

/* Writes both parts to the file, by way of another name. */
static bool
ca_store(const struct ca *ca, int dirfd, const char *path, const char *owner, char **why)
{
	static const char part[] = CA_FILE ".new";
	FILE *f = NULL;
	bool ok = false;
	int fd;

	(void)unlinkat(dirfd, part, 0);
	fd = openat(dirfd, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0)
		f = fdopen(fd, "w");
	if (f != NULL) {
		ca_give(fd, owner);
		ok = PEM_write_PrivateKey(f, ca->key, NULL, NULL, 0, NULL, NULL) == 1 &&
		    PEM_write_X509(f, ca->cert) == 1 && fflush(f) == 0 && fsync(fd) == 0;
		ok = fclose(f) == 0 && ok;
	} else if (fd >= 0)
		(void)close(fd);
	ok = ok && renameat(dirfd, part, dirfd, CA_FILE) == 0;
	if (!ok)
		ca_say(why, "cannot write %s: %s", path, strerror(errno));
	return ok;
}

/* Takes an old authority out of the way, under the name of its last day. */
static bool
ca_set_aside(int dirfd, const char *path, char **why)
{
	char aside[sizeof(CA_FILE) + 64];
	time_t now = (time_t)clock_wall_s();
	struct tm tm;
	unsigned i;

	(void)gmtime_r(&now, &tm);
	for (i = 0; i < 100; i++) {
		(void)snprintf(aside, sizeof(aside), CA_FILE ".old-%04d%02d%02d%s%.0u",
		    tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, i > 0 ? "-" : "", i);
		if (faccessat(dirfd, aside, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
			break;
	}
	if (renameat(dirfd, CA_FILE, dirfd, aside) == 0 || errno == ENOENT)
		return true;
	ca_say(why, "cannot rename %s: %s", path, strerror(errno));
	return false;
}

/* The directory, ours alone; held by one process at a time. */
static int
ca_lock_dir(const char *dir, const char *owner, char **why)
{
	struct stat st;
	int fd;

	if (mkdir(dir, 0700) == 0) {
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (fd >= 0)
			ca_give(fd, owner);
	} else
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | ca_nofollow());
	if (fd < 0 || flock(fd, LOCK_EX) != 0) {
		ca_say(why, "cannot use the directory %s: %s%s", dir, strerror(errno), errno == ENOENT ?
		    ": start the depot once, or name its cache_dir" : "");
		if (fd >= 0)
			(void)close(fd);
		return -1;
	}
	if (fstat(fd, &st) == 0 && (st.st_mode & (S_IWOTH | S_IWGRP)) != 0) {
		ca_say(why, "%s has the authority's private key and may be written to by others, who "
		    "could put one of theirs there: chmod 700 %s", dir, dir);
		(void)close(fd);
		return -1;
	}
	return fd;
}

/* Makes one, stores it, and says so. */
static bool
ca_replace(int dirfd, const char *path, const struct globset *hosts, const char *owner, bool again,
    char **why)
{
	char fingerprint[CA_FINGERPRINT_BYTES];
	struct ca *ca;
	bool ok;

	OBJ_NEW(ca, CA_MAGIC);
	if (ca == NULL)
		return false;
	ok = ca_make(ca, hosts);
	if (!ok)
		ca_say(why, "OpenSSL cannot make an authority: %s",
		    ca_openssl_words());
	ok = ok && (!again || ca_set_aside(dirfd, path, why)) &&
	    ca_store(ca, dirfd, path, owner, why);
	if (ok) {
		ca_fingerprint(ca, fingerprint);
		log_warning("interception: a new authority was made, good for intercept_hosts only. "
		    "Clients must trust it, see \"apt-depot ca\"%s. SHA-256 %s", again ?
		    ": UNTIL THEN THOSE THAT KNOW THE OLD ONE REFUSE EVERY INTERCEPTED HOST" : "",
		    fingerprint);
	}
	ERR_clear_error();
	ca_free(&ca);
	return ok;
}

/* Why the one that is there is no good any more; NULL: it is. The text lives in buf. */
static const char *
ca_why_replace(const struct ca *ca, const struct globset *hosts, char *buf, size_t cap)
{
	struct ca_name missing = {.text = ""};

	if (ca->not_after_s < clock_wall_s() + (int64_t)CA_RENEW_DAYS * 86400)
		return "it is about to expire";
	if (ca_covers(ca, hosts, &missing))
		return NULL;
	(void)snprintf(buf, cap, "its name constraints do not allow %s",
	    missing.text[0] != '\0' ? missing.text : "these hosts");
	return buf;
}

/* The one that is there, or the one that takes its place. */
static struct ca *
ca_open_stored(int dirfd, const char *path, const struct globset *hosts, const char *owner,
    bool may_replace, char **why)
{
	struct ca *ca = ca_read(dirfd, path, path, why);
	const char *bad;
	char text[400], *first;

	if (ca == NULL && *why != NULL) {
		first = *why;
		*why = NULL;
		ca_say(why, "%s (to have a new one made, which all clients must be given, rename %s)",
		    first, path);
		free(first);
	}
	bad = ca != NULL ? ca_why_replace(ca, hosts, text, sizeof(text)) : NULL;
	if (bad == NULL)
		return ca;
	log_warning("interception: the authority in %s %s: %s", path,
	    may_replace ? "is replaced" : "will be replaced when the depot starts", bad);
	if (!may_replace)
		return ca;
	ca_free(&ca);
	return ca_replace(dirfd, path, hosts, owner, true, why) ? ca_read(dirfd, path, path, why) :
	    NULL;
}

struct ca *
ca_open(const char *dir, const struct globset *hosts, const char *owner, bool may_replace,
    char **why)
{
	char path[CA_PATH_BYTES];
	struct ca *ca = NULL;
	int lock;

	*why = NULL;
	if ((size_t)snprintf(path, sizeof(path), "%s/" CA_FILE, dir) >= sizeof(path)) {
		ca_say(why, "%s: the path is too long", dir);
		return NULL;
	}
	lock = ca_lock_dir(dir, owner, why);
	if (lock < 0)
		return NULL;
	if (faccessat(lock, CA_FILE, F_OK, 0) == 0)
		ca = ca_open_stored(lock, path, hosts, owner, may_replace, why);
	else if (ca_replace(lock, path, hosts, owner, false, why))
		ca = ca_read(lock, path, path, why);
	(void)close(lock);
	return ca;
}

bool
ca_is_there(const struct config *c)
{
	char path[CA_PATH_BYTES];

	(void)snprintf(path, sizeof(path), "%s/ca/" CA_FILE, c->cache_dir);
	return c->intercept_ca_cert != NULL || access(path, F_OK) == 0;
}

struct ca *
ca_of_config(const struct config *c, bool may_replace, char **why)
{
	char dir[CA_PATH_BYTES];

	*why = NULL;
	if (c->intercept_hosts.patterns.n == 0) {
		ca_say(why, "there is no authority: intercept_hosts is empty");
		return NULL;
	}
	if (c->intercept_ca_cert != NULL)
		return ca_load(c->intercept_ca_cert, c->intercept_ca_key, why);
	(void)snprintf(dir, sizeof(dir) - sizeof(CA_FILE), "%s/ca", c->cache_dir);
	return ca_open(dir, &c->intercept_hosts, c->user, may_replace, why);
}
