/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The authority and what it signs, as OpenSSL judges both. */
#include <check.h>
#include <ftw.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/clock.h"
#include "include/counter.h"
#include "proxy/ca.h"
#include "proxy/mint.h"

Suite *check_mint_suite(void);

static struct {
	char dir[64], ca_dir[80], file[128];
	struct globset hosts;
	struct ca *ca;
	struct mint *mint;
} env;

/* The hosts, separated by blanks. */
static void
env_set_hosts(const char *text)
{
	struct slice rest = slice_of(text);

	globset_fini(&env.hosts);
	memset(&env.hosts, 0, sizeof(env.hosts));
	while (rest.n > 0) {
		const char *blank = memchr(rest.p, ' ', rest.n);
		size_t n = blank != NULL ? (size_t)(blank - rest.p) : rest.n;

		ck_assert(globset_add(&env.hosts, (struct slice){rest.p, n}));
		rest = slice_skip(rest, blank != NULL ? n + 1 : n);
	}
}

static void
env_close(void)
{
	mint_free(&env.mint);
	ca_free(&env.ca);
}

/* Opens, or makes, the authority for these hosts. */
static void
env_open(const char *hosts)
{
	char *why = NULL;

	env_close();
	env_set_hosts(hosts);
	env.ca = ca_open(env.ca_dir, &env.hosts, NULL, true, &why);
	ck_assert_msg(env.ca != NULL, "%s", why);
	env.mint = mint_new(env.ca);
	ck_assert_ptr_nonnull(env.mint);
}

static void
env_start(void)
{
	memset(&env, 0, sizeof(env));
	(void)strcpy(env.dir, "/tmp/check-mint-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(env.dir));
	(void)snprintf(env.ca_dir, sizeof(env.ca_dir), "%s/ca", env.dir);
	(void)snprintf(env.file, sizeof(env.file), "%s/key-and-cert.pem", env.ca_dir);
}

static int
env_remove_cb(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void
env_stop(void)
{
	env_close();
	globset_fini(&env.hosts);
	(void)nftw(env.dir, env_remove_cb, 16, FTW_DEPTH | FTW_PHYS);
}

static X509 *
env_mint(const char *host)
{
	X509 *x = mint_certificate(env.mint, slice_of(host), clock_wall_s());

	ck_assert_ptr_nonnull(x);
	return x;
}

/* What OpenSSL says of the host's certificate, for a client that trusts the authority. */
static int
env_judge(const char *host, const char *asked, int64_t at_s)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	X509 *x = env_mint(host);
	X509_VERIFY_PARAM *param;
	int result;

	ck_assert_int_eq(X509_STORE_add_cert(store, ca_cert(env.ca)), 1);
	ck_assert_int_eq(X509_STORE_CTX_init(ctx, store, x, NULL), 1);
	ck_assert_int_eq(X509_STORE_CTX_set_default(ctx, "ssl_server"), 1);
	param = X509_STORE_CTX_get0_param(ctx);
	X509_VERIFY_PARAM_set_time(param, (time_t)at_s);
	(void)X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT);
	if (X509_VERIFY_PARAM_set1_ip_asc(param, asked) != 1)
		ck_assert_int_eq(X509_VERIFY_PARAM_set1_host(param, asked, 0), 1);
	result = X509_verify_cert(ctx) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(ctx);
	X509_free(x);
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	return result;
}

static const struct {
	const char *hosts, *host;
	int want;
} name_rows[] = {
	{"cuda.example", "cuda.example", X509_V_OK},
	{"cuda.example", "other.example", X509_V_ERR_PERMITTED_VIOLATION},
	{"cuda.example", "notcuda.example", X509_V_ERR_PERMITTED_VIOLATION},
	{"cuda.example", "cuda.example.test", X509_V_ERR_PERMITTED_VIOLATION},
	{"cuda.example", "192.0.2.7", X509_V_ERR_EXCLUDED_VIOLATION},
	{"cuda.example", "2001:db8::7", X509_V_ERR_EXCLUDED_VIOLATION},
	{"*.cuda.example", "deb.cuda.example", X509_V_OK},
	{"*.cuda.example", "other.example", X509_V_ERR_PERMITTED_VIOLATION},
	{"cuda.example:8443 deb.test", "cuda.example", X509_V_OK},
	{"cuda.example:8443 deb.test", "deb.test", X509_V_OK},
	{"192.0.2.7", "192.0.2.7", X509_V_OK},
	{"192.0.2.7", "192.0.2.8", X509_V_ERR_PERMITTED_VIOLATION},
	{"192.0.2.7", "2001:db8::7", X509_V_ERR_PERMITTED_VIOLATION},
	{"192.0.2.7", "cuda.example", X509_V_ERR_PERMITTED_VIOLATION},
	{"[2001:db8::7]:8443 a.test", "2001:db8::7", X509_V_OK},
	{"[2001:db8::7]:8443 a.test", "2001:db8::8", X509_V_ERR_PERMITTED_VIOLATION},
};

/* The authority is good for its hosts and for nothing else, whoever has its key. */
START_TEST(ca_is_constrained)
{
	env_open(name_rows[_i].hosts);
	ck_assert_int_eq(env_judge(name_rows[_i].host, name_rows[_i].host, clock_wall_s()),
	    name_rows[_i].want);
}
END_TEST

/* Good from an hour ago for a week; and only for its host. */
START_TEST(leaf_is_short_lived)
{
	int64_t now_s = clock_wall_s();

	env_open("*.example");
	ck_assert_int_eq(env_judge("a.example", "a.example", now_s - 3500), X509_V_OK);
	ck_assert_int_eq(env_judge("a.example", "a.example", now_s + 6 * 86400), X509_V_OK);
	ck_assert_int_eq(env_judge("a.example", "a.example", now_s - 4000),
	    X509_V_ERR_CERT_NOT_YET_VALID);
	ck_assert_int_eq(env_judge("a.example", "a.example", now_s + 8 * 86400),
	    X509_V_ERR_CERT_HAS_EXPIRED);
	ck_assert_int_eq(env_judge("a.example", "b.example", now_s),
	    X509_V_ERR_HOSTNAME_MISMATCH);
}
END_TEST

/* A long host has no room in the common name, and needs none. */
START_TEST(leaf_of_a_long_host)
{
	char host[256];
	unsigned i;

	for (i = 0; i < 4; i++)
		(void)memset(host + i * 40, 'a' + (int)i, 40);
	for (i = 1; i < 5; i++)
		host[i * 40 - 1] = '.';
	(void)strcpy(host + 160, "example");
	env_open("*.example");
	ck_assert_int_eq(env_judge(host, host, clock_wall_s()), X509_V_OK);
}
END_TEST

START_TEST(leaf_is_remembered)
{
	int64_t was = counter_read(COUNTER_certificates_minted_total);
	X509 *a, *b, *c;

	env_open("*.example");
	a = env_mint("a.example");
	b = env_mint("a.example");
	ck_assert_ptr_eq(a, b);
	clock_test_advance((int64_t)(MINT_DAYS - 1) * 86400 * 1000 - 60000);
	c = env_mint("a.example");
	ck_assert_ptr_eq(a, c);
	X509_free(c);
	clock_test_advance(120000);
	c = env_mint("a.example");
	ck_assert_ptr_ne(a, c);
	ck_assert_int_eq(counter_read(COUNTER_certificates_minted_total) - was, 2);
	X509_free(a);
	X509_free(b);
	X509_free(c);
}
END_TEST

/* The table is bounded; what was used last stays. */
START_TEST(leaves_are_bounded)
{
	X509 *first, *again;
	char host[64];
	int64_t was;
	unsigned i;

	env_open("*.example");
	first = env_mint("first.example");
	for (i = 0; i < MINT_REMEMBERED_MAX + 10; i++) {
		(void)snprintf(host, sizeof(host), "h%u.example", i);
		X509_free(env_mint(host));
		if (i % 100 == 0)
			X509_free(env_mint("first.example"));
	}
	again = env_mint("first.example");
	ck_assert_ptr_eq(first, again);
	was = counter_read(COUNTER_certificates_minted_total);
	X509_free(env_mint("h0.example"));
	ck_assert_int_eq(counter_read(COUNTER_certificates_minted_total) - was, 1);
	X509_free(first);
	X509_free(again);
}
END_TEST

/* Modes, and the same authority after a restart. */
START_TEST(ca_is_kept)
{
	char was[CA_FINGERPRINT_BYTES], now[CA_FINGERPRINT_BYTES];
	struct stat st;

	env_open("a.example b.example");
	ca_fingerprint(env.ca, was);
	ck_assert_int_eq(stat(env.ca_dir, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
	ck_assert_int_eq(stat(env.file, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_ptr_null(strstr(ca_pem(env.ca), "PRIVATE"));
	env_open("a.example b.example");
	ca_fingerprint(env.ca, now);
	ck_assert_str_eq(was, now);
	/* Fewer hosts, and hosts below one that is allowed, need no other. */
	env_open("b.example *.a.example deb.a.example:444");
	ca_fingerprint(env.ca, now);
	ck_assert_str_eq(was, now);
}
END_TEST

static int
count_old_cb(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	/* The walk goes on while this is 0: one is found by its own return. */
	return type == FTW_F && strstr(path, ".old-") != NULL;
}

/* A list that grows needs another one; a command never makes it. */
START_TEST(ca_is_replaced)
{
	char was[CA_FINGERPRINT_BYTES], now[CA_FINGERPRINT_BYTES], *why = NULL;

	env_open("a.example");
	ca_fingerprint(env.ca, was);
	ca_free(&env.ca);
	mint_free(&env.mint);
	env_set_hosts("a.example b.example");
	env.ca = ca_open(env.ca_dir, &env.hosts, NULL, false, &why);
	ck_assert_ptr_nonnull(env.ca);
	ca_fingerprint(env.ca, now);
	ck_assert_str_eq(was, now);
	env_open("a.example b.example");
	ca_fingerprint(env.ca, now);
	ck_assert_str_ne(was, now);
	ck_assert_int_eq(env_judge("b.example", "b.example", clock_wall_s()), X509_V_OK);
	ck_assert_int_eq(nftw(env.ca_dir, count_old_cb, 4, FTW_PHYS), 1);
	/* So does one that is about to end. */
	clock_test_advance(INT64_C(3640) * 86400 * 1000);
	env_open("a.example b.example");
	ca_fingerprint(env.ca, was);
	ck_assert_str_ne(was, now);
}
END_TEST

/* A link in its place may be another user's: root does not follow it. */
START_TEST(ca_is_no_link)
{
	char was[CA_FINGERPRINT_BYTES], now[CA_FINGERPRINT_BYTES], other[160], *why = NULL;
	bool root = geteuid() == 0;

	env_open("a.example");
	ca_fingerprint(env.ca, was);
	env_close();
	(void)snprintf(other, sizeof(other), "%s.other", _i == 0 ? env.ca_dir : env.file);
	ck_assert_int_eq(rename(_i == 0 ? env.ca_dir : env.file, other), 0);
	ck_assert_int_eq(symlink(other, _i == 0 ? env.ca_dir : env.file), 0);
	env.ca = ca_open(env.ca_dir, &env.hosts, NULL, true, &why);
	ck_assert_int_eq(env.ca == NULL, root);
	ck_assert_int_eq(why != NULL, root);
	if (!root) {
		ca_fingerprint(env.ca, now);
		ck_assert_str_eq(was, now);
	}
	free(why);
}
END_TEST

/* What is refused, and in which words. */
START_TEST(ca_is_refused)
{
	static const char *const words[] = {"others", "certificate", "certificate", "chmod 700"};
	char *why = NULL;
	FILE *f;

	env_open("a.example");
	env_close();
	if (_i == 0)
		ck_assert_int_eq(chmod(env.file, 0644), 0);
	else if (_i == 3)
		ck_assert_int_eq(chmod(env.ca_dir, 0722), 0);
	else {
		f = fopen(env.file, _i == 1 ? "w" : "r+");
		ck_assert_ptr_nonnull(f);
		if (_i == 2) {		/* the key alone */
			char text[4096] = "";
			size_t n = fread(text, 1, sizeof(text) - 1, f);

			ck_assert_uint_gt(n, 0);
			AZ(ftruncate(fileno(f), strstr(text, "-----BEGIN CERT") - text));
		}
		(void)fclose(f);
	}
	env.ca = ca_open(env.ca_dir, &env.hosts, NULL, true, &why);
	ck_assert_ptr_null(env.ca);
	ck_assert_ptr_nonnull(why);
	ck_assert_msg(strstr(why, words[_i]) != NULL, "%s", why);
	free(why);
}
END_TEST

/* Writes a leaf of ours with its authority's key or its own, as no authority should look. */
START_TEST(ca_given_is_checked)
{
	char cert[128], key[128], *why = NULL;
	EVP_PKEY *other = EVP_EC_gen("P-256");
	X509 *leaf;
	FILE *f;

	env_open("a.example");
	(void)snprintf(cert, sizeof(cert), "%s/cert.pem", env.dir);
	(void)snprintf(key, sizeof(key), "%s/key.pem", env.dir);
	f = fopen(key, "w");
	AN(PEM_write_PrivateKey(f, other, NULL, NULL, 0, NULL, NULL));
	(void)fclose(f);
	(void)chmod(key, 0600);
	f = fopen(cert, "w");
	AN(PEM_write_X509(f, ca_cert(env.ca)));
	(void)fclose(f);
	ck_assert_ptr_null(ca_load(cert, key, &why));
	ck_assert_ptr_nonnull(strstr(why, "does not belong"));
	free(why);
	/* A leaf that carries the other key. */
	leaf = env_mint("a.example");
	AN(X509_set_pubkey(leaf, other));
	AN(X509_sign(leaf, ca_key(env.ca), EVP_sha256()));
	f = fopen(cert, "w");
	AN(PEM_write_X509(f, leaf));
	(void)fclose(f);
	ck_assert_ptr_null(ca_load(cert, key, &why));
	ck_assert_ptr_nonnull(strstr(why, "no authority"));
	free(why);
	X509_free(leaf);
	EVP_PKEY_free(other);
	/* Ours, given by its file; then when it has ended. */
	env_close();
	env.ca = ca_load(env.file, NULL, &why);
	ck_assert_ptr_nonnull(env.ca);
	ca_free(&env.ca);
	clock_test_advance(INT64_C(3700) * 86400 * 1000);
	ck_assert_ptr_null(ca_load(env.file, NULL, &why));
	ck_assert_ptr_nonnull(strstr(why, "expired"));
	free(why);
}
END_TEST

/* A copy of our authority with another key, signed by itself and written behind the key. */
static X509 *
write_authority(FILE *f, EVP_PKEY *key, const EVP_MD *md)
{
	X509 *x = X509_dup(ca_cert(env.ca));

	ck_assert_int_eq(X509_set_pubkey(x, key), 1);
	ck_assert_int_gt(X509_sign(x, key, md), 0);
	ck_assert_int_eq(PEM_write_X509(f, x), 1);
	return x;
}

/* Known before the first client: its key makes no signature of ours, or is too weak to be shown. */
START_TEST(ca_given_must_serve)
{
	char *why = NULL;
	EVP_PKEY *key = _i == 0 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") : EVP_EC_gen("P-256");
	EVP_PKEY *weak = EVP_RSA_gen(1024);
	FILE *f;

	env_open("a.example");
	f = fopen(env.file, "w");
	ck_assert_int_eq(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
	X509_free(write_authority(f, key, _i == 0 ? NULL : EVP_sha256()));
	if (_i == 1)
		X509_free(write_authority(f, weak, EVP_sha256()));
	(void)fclose(f);
	env_close();
	env.ca = ca_load(env.file, NULL, &why);
	if (_i == 2)
		ck_assert_ptr_nonnull(env.ca);
	else
		ck_assert_msg(env.ca == NULL && strstr(why, "EC key") != NULL, "%s", why);
	free(why);
	EVP_PKEY_free(key);
	EVP_PKEY_free(weak);
}
END_TEST

static const struct {
	const char *hosts;
	bool can;
} constrain_rows[] = {
	{"a.example *.b.example 192.0.2.7 [::1] c.example:444 [2001:db8::1]:444", true},
	{"*", false}, {"a.example *", false}, {"deb*.example", false}, {"*.example:443", true},
};

START_TEST(ca_tells_what_it_can)
{
	char why[512] = "";

	env_set_hosts(constrain_rows[_i].hosts);
	ck_assert_int_eq(ca_can_constrain(&env.hosts, why, sizeof(why)), constrain_rows[_i].can);
	ck_assert_int_eq(why[0] == '\0', constrain_rows[_i].can);
}
END_TEST

Suite *
check_mint_suite(void)
{
	Suite *s = suite_create("mint");
	TCase *tc = tcase_create("mint");

	tcase_add_checked_fixture(tc, env_start, env_stop);
	tcase_add_loop_test(tc, ca_is_constrained, 0, (int)NELEM(name_rows));
	tcase_add_test(tc, leaf_is_short_lived);
	tcase_add_test(tc, leaf_of_a_long_host);
	tcase_add_test(tc, leaf_is_remembered);
	tcase_add_test(tc, leaves_are_bounded);
	tcase_add_test(tc, ca_is_kept);
	tcase_add_test(tc, ca_is_replaced);
	tcase_add_loop_test(tc, ca_is_no_link, 0, 2);
	tcase_add_loop_test(tc, ca_is_refused, 0, 4);
	tcase_add_test(tc, ca_given_is_checked);
	tcase_add_loop_test(tc, ca_given_must_serve, 0, 3);
	tcase_add_loop_test(tc, ca_tells_what_it_can, 0, (int)NELEM(constrain_rows));
	suite_add_tcase(s, tc);
	return s;
}
