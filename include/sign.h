/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef SIGN_H
#define SIGN_H
/*
 * Signatures of Release files, for verify_signatures. gpgv does the work, in
 * a helper process that sign_start forks while the daemon is still one
 * thread with all its rights: afterwards nothing of it may run a program.
 * sign_verify waits for an answer, so it is for threads that may wait.
 */
#include <stdbool.h>
#include <stddef.h>

#include "include/obj.h"
#include "include/slice.h"

enum {
	SIGN_SIGNERS_MAX = 8,
	SIGN_FINGERPRINT_BYTES = 65,	/* up to 64 hex digits and NUL */
	SIGN_WORDS_BYTES = 512,
	SIGN_TIMEOUT_MS = 10000,	/* for one run of gpgv */
};

/* What the signatures of a text come to. A file may have several; one good one is enough. */
enum sign_verdict {
	SIGN_GOOD,
	SIGN_EXPIRED_KEY,	/* right, but by a key whose time is over */
	SIGN_EXPIRED_SIG,	/* right, but the signature itself was limited in time */
	SIGN_REVOKED,		/* right, but by a key that its owner has withdrawn */
	SIGN_BAD,		/* not of this text, or not all of the text is signed */
	SIGN_NO_KEY,		/* none by a key of keyring_dir */
	SIGN_NO_SIGNATURE,
	SIGN_UNAVAILABLE,	/* gpgv could not be asked */
	SIGN__N
};

/* Fingerprints of primary keys, upper-case hex. */
struct sign_signers {
	unsigned n;
	char fingerprint[SIGN_SIGNERS_MAX][SIGN_FINGERPRINT_BYTES];
};

struct sign_result {
	enum sign_verdict verdict;
	struct sign_signers signers;	/* of GOOD, EXPIRED_*, REVOKED: who signed so */
	char words[SIGN_WORDS_BYTES];	/* what was found, for people */
};

/* InRelease, whose signature is inside (signature_fd -1), or Release with Release.gpg. */
struct sign_input {
	int text_fd, signature_fd;	/* regular files; read from their begin */
};

struct sign_conf {
	const char *keyring_dir;	/* *.gpg and *.asc in it, read anew for each request */
	/* In the helper: gives up what gpgv does not need; false and why: it can't be. */
	bool (*confine)(void *arg, char why[SIGN_WORDS_BYTES]);
	void *arg;
	const char *gpgv;		/* tests: the program; NULL: searched in PATH */
	int timeout_ms;			/* tests; 0: SIGN_TIMEOUT_MS */
};

struct sign;

/*
 * Forks the helper and lets it try gpgv once. False: *why_p (malloced, may be NULL) says what to
 * do. Before any thread.
 */
bool sign_start(struct sign **s_p, const struct sign_conf *conf, char **why_p) MUSTCHECK;
void sign_stop(struct sign **s_p);
/*
 * Is there a key in the directory, as far as we may look? False: why says what is wrong. For the
 * configuration: the helper, which may be another user, looks for itself.
 */
bool sign_keys_ok(const char *keyring_dir, char why[SIGN_WORDS_BYTES]) MUSTCHECK;
/* Any thread that may wait, for SIGN_TIMEOUT_MS and a little; one request at a time. */
enum sign_verdict sign_verify(struct sign *s, const struct sign_input *in,
    struct sign_result *out);

/* What to do with a generation whose signatures were looked at. */
enum sign_action { SIGN_ADOPT, SIGN_ADOPT_REPORT, SIGN_HOLD };

/*
 * before: who signed the current generation (n 0: there is none). hold_changes: on_signer_change =
 * hold. `words` says why for REPORT and HOLD. Pure.
 */
enum sign_action sign_decide(const struct sign_result *now, const struct sign_signers *before,
    bool hold_changes, char words[SIGN_WORDS_BYTES]) MUSTCHECK;

#endif
