/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Signatures: real ones by real keys through the helper; gpgv's lines, forms and decisions by table. */
#include "cache/keyring.h"
#include "cache/sign_priv.h"
#include "include/counter.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

Suite *check_sign_suite(void);

static char dir[] = "/tmp/depot-sign-XXXXXX";
static bool have_gpg;
static struct sign *s;

/*
 * Four keys: ann (with a signing subkey), bob, old (expired in 2021), rev (revoked). Their public
 * parts are below keys/; bob's is armoured, and carol's is nowhere.
 */
static const char make_keys[] =
    "set -e; cd %s; export GNUPGHOME=$PWD/g; mkdir -m 700 g; mkdir keys none;\n"
    "gpg() { command gpg --batch --quiet --no-tty --pinentry-mode loopback --passphrase '' \"$@\"; }\n"
    "gpg --quick-gen-key 'Ann <ann@depot.example>' ed25519 cert never\n"
    "gpg --quick-add-key $(gpg --with-colons -k ann@ | sed -n 's/^fpr:*\\([^:]*\\):/\\1/p' | head -1)"
    " ed25519 sign never\n"
    "gpg --quick-gen-key 'Bob <bob@depot.example>' ed25519 sign never\n"
    "gpg --quick-gen-key 'Carol <carol@depot.example>' ed25519 sign never\n"
    "gpg --faked-system-time 20200101T000000 --quick-gen-key 'Old <old@depot.example>' ed25519 sign 1y\n"
    "gpg --quick-gen-key 'Rev <rev@depot.example>' ed25519 sign never\n"
    "printf 'Origin: x\\nSuite: y\\n- dash\\n' >Release\n"
    "for k in ann bob carol rev; do gpg -u $k@ --clearsign <Release >$k.in;\n"
    "  gpg -u $k@ --armor --detach-sign <Release >$k.sig; done\n"
    "gpg --faked-system-time 20200201T000000 -u old@ --clearsign <Release >old.in\n"
    "gpg --faked-system-time 20200201T000000 --default-sig-expire 1w -u old@"
    " --clearsign <Release >expsig.in\n"
    "gpg -u ann@ -u bob@ --clearsign <Release >both.in\n"
    "gpg -u carol@ -u bob@ --clearsign <Release >stranger.in\n"
    "sed 's/Suite: y/Suite: z/' ann.in >bad.in\n"
    "sed 's/^:---/---/' g/openpgp-revocs.d/$(gpg --with-colons -k rev@ |"
    " sed -n 's/^fpr:*\\([^:]*\\):/\\1/p' | head -1).rev | gpg --import\n"
    "gpg --export ann@ >keys/ann.gpg; gpg --export --armor bob@ >keys/bob.asc\n"
    "gpg --export old@ rev@ >keys/two.gpg; gpg --export --armor old@ >keys/old-again.asc\n"
    "gpg --with-colons -k ann@ | sed -n 's/^fpr:*\\([^:]*\\):/\\1/p' | head -1 >ann.fpr\n"
    "echo nonsense >keys/broken.asc; echo nothing >keys/README\n"
    "gpgconf --kill all\n";

static void
setup_keys(void)
{
	char script[sizeof(make_keys) + sizeof(dir)];

	ck_assert_ptr_nonnull(mkdtemp(dir));
	if (system("command -v gpg >/dev/null && command -v gpgv >/dev/null") != 0)
		return;
	/* The format is this file's own, with one place for the directory. */
	(void)snprintf(script, sizeof(script), "%.*s%s%s",
	    (int)(strstr(make_keys, "%s") - make_keys), make_keys, dir,
	    strstr(make_keys, "%s") + 2);
	ck_assert_msg(system(script) == 0, "gpg could not make the test's keys");
	have_gpg = true;
}

static void
teardown_keys(void)
{
	char command[64];

	(void)snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static const char *
below(const char *name)
{
	static _Thread_local char path[4][128];
	static _Thread_local unsigned n;
	char *p = path[n++ % 4];

	(void)snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static void
teardown(void)
{
	sign_stop(&s);
}

static void
start(const char *gpgv, int timeout_ms)
{
	struct sign_conf conf = {.keyring_dir = below("keys"), .gpgv = gpgv,
	    .timeout_ms = timeout_ms};
	char *why = NULL;

	ck_assert_msg(sign_start(&s, &conf, &why), "%s", why);
	free(why);
}

static int
open_below(const char *name)
{
	int fd = open(below(name), O_RDONLY | O_CLOEXEC);

	ck_assert_msg(fd >= 0, "%s", name);
	return fd;
}

static struct sign_result
verify(const char *text, const char *signature)
{
	struct sign_input in = {open_below(text), signature != NULL ? open_below(signature) : -1};
	struct sign_result r;

	ck_assert_int_eq(sign_verify(s, &in, &r), r.verdict);
	(void)close(in.text_fd);
	if (in.signature_fd >= 0)
		(void)close(in.signature_fd);
	return r;
}

static const struct {
	const char *text, *signature;
	enum sign_verdict verdict;
	unsigned signers_n;
} real_cases[] = {
	{"ann.in", NULL, SIGN_GOOD, 1},
	{"bob.in", NULL, SIGN_GOOD, 1},
	{"both.in", NULL, SIGN_GOOD, 2},
	{"stranger.in", NULL, SIGN_GOOD, 1},
	{"carol.in", NULL, SIGN_NO_KEY, 0},
	{"old.in", NULL, SIGN_EXPIRED_KEY, 1},
	{"rev.in", NULL, SIGN_REVOKED, 1},
	{"bad.in", NULL, SIGN_BAD, 0},
	{"Release", NULL, SIGN_NO_SIGNATURE, 0},
	{"Release", "ann.sig", SIGN_GOOD, 1},
	{"Release", "carol.sig", SIGN_NO_KEY, 0},
	{"expsig.in", NULL, SIGN_EXPIRED_SIG, 1},
	{"ann.in", "ann.sig", SIGN_BAD, 0},
	{"Release", "Release", SIGN_NO_SIGNATURE, 0},
	{"Release", "keys/ann.gpg", SIGN_UNAVAILABLE, 0},	/* gpgv finds no signature, says nothing */
};

START_TEST(test_real_signatures)
{
	struct sign_result r;

	if (!have_gpg) {
		(void)fprintf(stderr, "sign: skipped: gpg or gpgv is not installed\n");
		return;
	}
	start(NULL, 0);
	r = verify(real_cases[_i].text, real_cases[_i].signature);
	ck_assert_msg(r.verdict == real_cases[_i].verdict ||
	    (real_cases[_i].verdict == SIGN_UNAVAILABLE && r.verdict != SIGN_GOOD),
	    "%s: expected verdict %d, got %d: %s", real_cases[_i].text,
	    real_cases[_i].verdict, r.verdict, r.words);
	ck_assert_uint_eq(r.signers.n, real_cases[_i].signers_n);
	ck_assert_str_ne(r.words, "");
	ck_assert_int_eq(counter_read(COUNTER_signatures_good_total), r.verdict == SIGN_GOOD);
}
END_TEST

/* The primary key's fingerprint stands for its subkeys. */
START_TEST(test_fingerprint)
{
	char want[SIGN_FINGERPRINT_BYTES] = "";
	struct sign_result r;
	FILE *f;

	if (!have_gpg)
		return;
	start(NULL, 0);
	r = verify("ann.in", NULL);
	f = fopen(below("ann.fpr"), "r");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%64s", want), 1);
	(void)fclose(f);
	ck_assert_str_eq(r.signers.fingerprint[0], want);
}
END_TEST

/* A key that is added while it runs counts at the next request. */
START_TEST(test_keys_are_read_anew)
{
	if (!have_gpg)
		return;
	start(NULL, 0);
	ck_assert_int_eq(rename(below("keys/bob.asc"), below("bob.asc")), 0);
	ck_assert_int_eq(verify("bob.in", NULL).verdict, SIGN_NO_KEY);
	ck_assert_int_eq(rename(below("bob.asc"), below("keys/bob.asc")), 0);
	ck_assert_int_eq(verify("bob.in", NULL).verdict, SIGN_GOOD);
}
END_TEST

static void *
verify_thread(void *arg)
{
	int i;

	for (i = 0; i < 5; i++)
		if (verify(arg, NULL).verdict != (strcmp(arg, "bad.in") == 0 ? SIGN_BAD : SIGN_GOOD))
			return arg;
	return NULL;
}

START_TEST(test_threads)
{
	static char names[4][8] = {"ann.in", "bob.in", "bad.in", "ann.in"};
	pthread_t t[4];
	void *failed;
	int i;

	if (!have_gpg)
		return;
	start(NULL, 0);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, verify_thread, names[i]), 0);
	for (i = 0; i < 4; i++) {
		ck_assert_int_eq(pthread_join(t[i], &failed), 0);
		ck_assert_ptr_null(failed);
	}
}
END_TEST

/* A program in place of gpgv. */
static const char *
fake(const char *script)
{
	const char *path = below("fake");
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	(void)fprintf(f, "#!/bin/sh\n[ -s /proc/self/fd/5 ] || { echo '[GNUPG:] NODATA 1' >&3; exit 2; }\n"
	    "%s\n", script);
	(void)fclose(f);
	ck_assert_int_eq(chmod(path, 0755), 0);
	return path;
}

static const struct {
	const char *script, *words;
} fake_cases[] = {
	{"exec sleep 100", "in time"},
	{"exec 3>&-; exec sleep 100", "in time"},		/* closes the pipe, lives on */
	{"kill -SEGV $$", "killed"},
	{"yes '[GNUPG:] NEWSIG' | head -20000 >&3", "more signatures"},
	{"exit 0", "nothing of a signature"},
	{"echo '[GNUPG:] GOODSIG 0123456789ABCDEF x' >&3", "nothing of a signature"},
	/* It may not write to files. */
	{"echo x >$0.out && printf '[GNUPG:] %s\\n' 'GOODSIG 1 x' 'VALIDSIG 0123456789ABCDEF' >&3", ""},
};

START_TEST(test_gpgv_fails)
{
	struct sign_result r;

	if (!have_gpg)
		return;
	start(fake(fake_cases[_i].script), 700);
	r = verify("ann.in", NULL);
	ck_assert_int_eq(r.verdict, SIGN_UNAVAILABLE);
	ck_assert_ptr_nonnull(strstr(r.words, fake_cases[_i].words));
	ck_assert_int_eq(counter_read(COUNTER_signatures_unavailable_total), 1);
	/* And the next one is served. */
	(void)fake("echo '[GNUPG:] BADSIG 0123456789ABCDEF x' >&3");
	ck_assert_int_eq(verify("ann.in", NULL).verdict, SIGN_BAD);
}
END_TEST

/* The helper dies: no answer ever again, and nobody waits for one. */
START_TEST(test_helper_dies)
{
	char command[64];

	if (!have_gpg)
		return;
	start(NULL, 0);
	(void)snprintf(command, sizeof(command), "kill -9 $(cat /proc/%ld/task/*/children)",
	    (long)getpid());
	if (system(command) != 0)
		return;		/* this kernel does not list children */
	ck_assert_int_eq(verify("ann.in", NULL).verdict, SIGN_UNAVAILABLE);
	ck_assert_int_eq(verify("bob.in", NULL).verdict, SIGN_UNAVAILABLE);
	ck_assert_int_eq(counter_read(COUNTER_signatures_unavailable_total), 2);
}
END_TEST

static bool
refuse_to_confine(void *arg, char why[SIGN_WORDS_BYTES])
{
	(void)snprintf(why, SIGN_WORDS_BYTES, "%s", (const char *)arg);
	return false;
}

START_TEST(test_refuses_to_start)
{
	static char words[] = "cannot become nobody";
	const struct {
		struct sign_conf conf;
		const char *words;
	} cases[] = {
		{{.keyring_dir = NULL}, "needs keyring_dir"},
		{{.keyring_dir = "relative"}, "needs keyring_dir"},
		{{.keyring_dir = "/no/such/directory"}, "No such file"},
		{{.keyring_dir = below("none")}, "has no *.gpg or *.asc"},
		{{.keyring_dir = below("keys"), .gpgv = "/no/gpgv"}, "apt-get install gpgv"},
		{{.keyring_dir = below("keys"), .gpgv = "/bin/true"}, "gpgv"},
		{{.keyring_dir = below("keys"), .confine = refuse_to_confine, .arg = words}, words},
	};
	size_t i;

	if (!have_gpg)
		return;
	for (i = 0; i < NELEM(cases); i++) {
		char *why = NULL;

		ck_assert(!sign_start(&s, &cases[i].conf, &why));
		ck_assert_ptr_null(s);
		ck_assert_ptr_nonnull(why);
		ck_assert_msg(strstr(why, cases[i].words) != NULL, "%s", why);
		free(why);
	}
}
END_TEST

/* ---- gpgv's lines ---- */

#define FPR_A "0123456789ABCDEF0123456789ABCDEF01234567"
#define FPR_B "89ABCDEF0123456789ABCDEF0123456789ABCDEF"
#define VALID(f) "[GNUPG:] VALIDSIG " f " 2026-01-01 1 0 4 0 22 10 00 " f "\n"

static const struct {
	const char *text;
	enum sign_verdict verdict;
	const char *signer;
} status_cases[] = {
	{"", SIGN_UNAVAILABLE, NULL},
	{"[GNUPG:] NODATA 3\n", SIGN_NO_SIGNATURE, NULL},
	{"[GNUPG:] GOODSIG 0123456789ABCDEF Ann\n" VALID(FPR_A), SIGN_GOOD, FPR_A},
	/* Good counts only with its fingerprint, and a fingerprint only behind its word. */
	{"[GNUPG:] GOODSIG 0123456789ABCDEF Ann\n", SIGN_UNAVAILABLE, NULL},
	{VALID(FPR_A), SIGN_UNAVAILABLE, NULL},
	{"[GNUPG:] BADSIG 0123456789ABCDEF Ann\n" VALID(FPR_A), SIGN_BAD, NULL},
	{"[GNUPG:] GOODSIG 1 x\n[GNUPG:] VALIDSIG nothex\n", SIGN_UNAVAILABLE, NULL},
	{"[GNUPG:] GOODSIG 1 x\n" VALID(FPR_A) "[GNUPG:] BADSIG 1 y\n", SIGN_BAD, NULL},
	{"[GNUPG:] EXPKEYSIG 1 x\n" VALID(FPR_B), SIGN_EXPIRED_KEY, FPR_B},
	{"[GNUPG:] EXPSIG 1 x\n" VALID(FPR_B), SIGN_EXPIRED_SIG, FPR_B},
	{"[GNUPG:] REVKEYSIG 1 x\n" VALID(FPR_B), SIGN_REVOKED, FPR_B},
	{"[GNUPG:] EXPKEYSIG 1 x\n" VALID(FPR_B) "[GNUPG:] GOODSIG 1 x\n" VALID(FPR_A), SIGN_GOOD, FPR_A},
	{"[GNUPG:] ERRSIG 0123456789ABCDEF 22 10 00 1 9 -\n[GNUPG:] NO_PUBKEY 0123456789ABCDEF\n",
	    SIGN_NO_KEY, NULL},
	{"[GNUPG:] ERRSIG 0123456789ABCDEF 22 10 00 1 5 -\n", SIGN_BAD, NULL},
	{"[GNUPG:] ERRSIG 0123456789ABCDEF 22 10 00 1 4 -\n[GNUPG:] GOODSIG 1 x\n" VALID(FPR_A),
	    SIGN_GOOD, FPR_A},
	/* Not gpgv's own line. */
	{"gpgv: [GNUPG:] GOODSIG 1 x\n" VALID(FPR_A), SIGN_UNAVAILABLE, NULL},
	{"[DEPOT] no keys\n", SIGN_UNAVAILABLE, NULL},
};

START_TEST(test_status_lines)
{
	struct sign_result r;

	sign_parse_status(slice_of(status_cases[_i].text), &r);
	ck_assert_int_eq(r.verdict, status_cases[_i].verdict);
	ck_assert_uint_eq(r.signers.n, status_cases[_i].signer != NULL);
	if (status_cases[_i].signer != NULL)
		ck_assert_str_eq(r.signers.fingerprint[0], status_cases[_i].signer);
	ck_assert_str_ne(r.words, "");
}
END_TEST

/* ---- the form ---- */

#define BEGIN "-----BEGIN PGP SIGNED MESSAGE-----\n"
#define SIG "-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n"

static const struct {
	const char *text;
	enum sign_verdict verdict;
} form_cases[] = {
	{BEGIN "Hash: SHA256\n\nOrigin: x\n" SIG, SIGN_GOOD},
	{BEGIN "Hash: SHA256\r\n\r\nOrigin: x\n- -dash\n" SIG "\n \n", SIGN_GOOD},
	{BEGIN "\nOrigin: x\n" SIG, SIGN_GOOD},
	{"Origin: x\n", SIGN_NO_SIGNATURE},
	{"", SIGN_NO_SIGNATURE},
	{"Origin: evil\n" BEGIN "\nOrigin: x\n" SIG, SIGN_BAD},
	{"\n" BEGIN "\nOrigin: x\n" SIG, SIGN_BAD},
	{BEGIN "Origin: evil\n\nOrigin: x\n" SIG, SIGN_BAD},
	{BEGIN "\nOrigin: x\n" SIG "Origin: evil\n", SIGN_BAD},
	{BEGIN "\nOrigin: x\n" SIG BEGIN "\nOrigin: y\n" SIG, SIGN_BAD},
	{BEGIN "\nOrigin: x\n-----BEGIN PGP MESSAGE-----\n" SIG, SIGN_BAD},
	{BEGIN "\nOrigin: x\n", SIGN_BAD},
	{BEGIN, SIGN_BAD},
	{BEGIN "\nOrigin: x\n-----BEGIN PGP SIGNATURE-----\nabc\n", SIGN_BAD},
};

START_TEST(test_form)
{
	char words[SIGN_WORDS_BYTES] = "";

	ck_assert_int_eq(sign_check_form(slice_of(form_cases[_i].text), words),
	    form_cases[_i].verdict);
	ck_assert_int_eq(words[0] == '\0', form_cases[_i].verdict == SIGN_GOOD);
}
END_TEST

/* ---- decisions ---- */

static const struct {
	enum sign_verdict verdict;
	const char *now, *before;
	enum sign_action report, hold;
} decisions[] = {
	{SIGN_GOOD, FPR_A, NULL, SIGN_ADOPT, SIGN_ADOPT},
	{SIGN_GOOD, FPR_A, FPR_A, SIGN_ADOPT, SIGN_ADOPT},
	{SIGN_GOOD, FPR_A, FPR_B, SIGN_ADOPT_REPORT, SIGN_HOLD},
	{SIGN_EXPIRED_KEY, FPR_A, FPR_A, SIGN_ADOPT_REPORT, SIGN_HOLD},
	{SIGN_EXPIRED_KEY, FPR_A, FPR_B, SIGN_HOLD, SIGN_HOLD},
	{SIGN_EXPIRED_KEY, FPR_A, NULL, SIGN_HOLD, SIGN_HOLD},
	{SIGN_EXPIRED_SIG, FPR_A, FPR_A, SIGN_HOLD, SIGN_HOLD},
	{SIGN_REVOKED, FPR_A, FPR_A, SIGN_HOLD, SIGN_HOLD},
	{SIGN_BAD, NULL, FPR_A, SIGN_HOLD, SIGN_HOLD},
	{SIGN_NO_KEY, NULL, FPR_A, SIGN_HOLD, SIGN_HOLD},
	{SIGN_NO_SIGNATURE, NULL, NULL, SIGN_HOLD, SIGN_HOLD},
	{SIGN_UNAVAILABLE, NULL, FPR_A, SIGN_HOLD, SIGN_HOLD},
};

START_TEST(test_decisions)
{
	struct sign_result now = {.verdict = decisions[_i].verdict, .words = "what was found"};
	struct sign_signers before = {0};
	char words[SIGN_WORDS_BYTES];
	int hold;

	if (decisions[_i].now != NULL)
		(void)strcpy(now.signers.fingerprint[now.signers.n++], decisions[_i].now);
	if (decisions[_i].before != NULL) {
		(void)strcpy(before.fingerprint[before.n++], "00");
		(void)strcpy(before.fingerprint[before.n++], decisions[_i].before);
	}
	for (hold = 0; hold < 2; hold++) {
		enum sign_action want = hold ? decisions[_i].hold : decisions[_i].report;

		ck_assert_int_eq(sign_decide(&now, &before, hold, words), want);
		ck_assert_int_eq(words[0] == '\0', want == SIGN_ADOPT);
		if (want != SIGN_ADOPT)
			ck_assert_ptr_nonnull(strstr(words, "what was found"));
	}
}
END_TEST

/* ---- key files ---- */

#define ASC(body) "-----BEGIN PGP PUBLIC KEY BLOCK-----\n" body "-----END PGP PUBLIC KEY BLOCK-----\n"

static const struct {
	const char *file;
	const char *bytes;		/* NULL: refused */
} key_cases[] = {
	{"\x99\x01key", "\x99\x01key"},
	{ASC("\n/wFrZXk=\n"), "\xff\x01key"},
	{ASC("Version: x\nComment: y\n\n/wFr\nZXk=\n"), "\xff\x01key"},
	{ASC("\n/wFrZXk=\r\n=ba+b\r\n"), NULL},			/* a wrong checksum */
	{"hello\n" ASC("\n/wFrZXk=\n") "\n\n" ASC("\nAmI=\n"), "\xff\x01key\x02" "b"},
	{ASC("\n/wFr*Xk=\n"), NULL},
	{ASC("\n/wFr=Zk=\n"), NULL},
	{ASC("\n"), NULL},
	{"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n/wFrZXk=\n", NULL},
	{"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n/wFrZXk=\n-----END PGP PRIVATE KEY BLOCK-----\n", NULL},
	{"nonsense\n", NULL},
	{"", NULL},
};

START_TEST(test_key_files)
{
	const char *bytes = key_cases[_i].bytes, *why = NULL;
	struct keyring k = {0};

	ck_assert_int_eq(keyring_add(&k, slice_of(key_cases[_i].file), &why), bytes != NULL);
	ck_assert_uint_eq(k.n, bytes != NULL ? strlen(bytes) : 0);
	ck_assert_uint_eq(k.files_n, bytes != NULL);
	if (bytes != NULL)
		ck_assert_mem_eq(k.p, bytes, k.n);
	else
		ck_assert_ptr_nonnull(why);
	keyring_fini(&k);
}
END_TEST

START_TEST(test_keybox)
{
	static const char box[] = "\0\0\0\x20\1\1\0\2KBXf\0\0\0\0";
	struct keyring k = {0};
	const char *why;

	ck_assert(!keyring_add(&k, (struct slice){box, sizeof(box) - 1}, &why));
	ck_assert_ptr_nonnull(strstr(why, "keybox"));
	keyring_fini(&k);
}
END_TEST

/* What gpg armoured comes out as what it exported: long lines, checksum and all. */
START_TEST(test_armour_of_gpg)
{
	char asc[8192], gpg[8192];
	struct keyring k = {0};
	const char *why;
	ssize_t asc_n, gpg_n;
	int fd;

	if (!have_gpg)
		return;
	fd = open_below("keys/old-again.asc");
	asc_n = read(fd, asc, sizeof(asc));
	(void)close(fd);
	fd = open_below("keys/two.gpg");
	gpg_n = read(fd, gpg, sizeof(gpg));
	(void)close(fd);
	ck_assert_int_gt(asc_n, 100);
	ck_assert(keyring_add(&k, (struct slice){asc, (size_t)asc_n}, &why));
	ck_assert_int_gt(gpg_n, (int)k.n);
	ck_assert_mem_eq(k.p, gpg, k.n);	/* old comes first in the keyring of two */
	/* A digit changed: the checksum notices. */
	asc[asc_n / 2] = asc[asc_n / 2] == 'A' ? 'B' : 'A';
	keyring_fini(&k);
	ck_assert(!keyring_add(&k, (struct slice){asc, (size_t)asc_n}, &why));
	keyring_fini(&k);
}
END_TEST

Suite *
check_sign_suite(void)
{
	Suite *suite = suite_create("sign");
	TCase *real = tcase_create("real"), *pure = tcase_create("pure");

	tcase_add_unchecked_fixture(real, setup_keys, teardown_keys);
	tcase_add_checked_fixture(real, NULL, teardown);
	tcase_set_timeout(real, 30);
	tcase_add_loop_test(real, test_real_signatures, 0, (int)NELEM(real_cases));
	tcase_add_test(real, test_fingerprint);
	tcase_add_test(real, test_keys_are_read_anew);
	tcase_add_test(real, test_threads);
	tcase_add_loop_test(real, test_gpgv_fails, 0, (int)NELEM(fake_cases));
	tcase_add_test(real, test_helper_dies);
	tcase_add_test(real, test_refuses_to_start);
	tcase_add_test(real, test_armour_of_gpg);
	suite_add_tcase(suite, real);
	tcase_add_loop_test(pure, test_status_lines, 0, (int)NELEM(status_cases));
	tcase_add_loop_test(pure, test_form, 0, (int)NELEM(form_cases));
	tcase_add_loop_test(pure, test_decisions, 0, (int)NELEM(decisions));
	tcase_add_loop_test(pure, test_key_files, 0, (int)NELEM(key_cases));
	tcase_add_test(pure, test_keybox);
	suite_add_tcase(suite, pure);
	return suite;
}
