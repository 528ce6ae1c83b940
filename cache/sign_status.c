/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What signatures mean, without any I/O: gpgv's status lines become a
 * verdict, the form of an InRelease is checked, and a verdict becomes a
 * decision about a generation. Called by sign.c and by the staging of
 * generations.
 *
 * gpgv's lines (doc/DETAILS of GnuPG) come in groups, one for each signature:
 * GOODSIG, EXPSIG, EXPKEYSIG or REVKEYSIG and then VALIDSIG with the
 * fingerprints; or BADSIG; or ERRSIG, with NO_PUBKEY where the key is not in
 * the keyring.
 */
#include "cache/sign_priv.h"

#include <ctype.h>
#include <stdio.h>

/* What was met in the status text. */
struct sign_tally {
	struct sign_signers by[SIGN__N];	/* who signed with which outcome */
	unsigned n[SIGN__N];
	enum sign_verdict current;		/* of the signature being described */
	bool no_data, unsupported;
	char no_key[SIGN_FINGERPRINT_BYTES];	/* the last key that is not here */
	char own[SIGN_WORDS_BYTES];		/* what the helper had to say */
};

/* Takes the next word off a line. */
static struct slice
sign_word(struct slice *rest)
{
	struct slice word;

	while (rest->n > 0 && rest->p[0] == ' ')
		*rest = slice_skip(*rest, 1);
	word = *rest;
	for (word.n = 0; word.n < rest->n && rest->p[word.n] != ' '; word.n++)
		;
	*rest = slice_skip(*rest, word.n);
	return word;
}

/* Copies a fingerprint or key number; false where it is none. */
static bool
sign_copy_hex(char out[SIGN_FINGERPRINT_BYTES], struct slice word)
{
	size_t i;

	if (word.n < 8 || word.n >= SIGN_FINGERPRINT_BYTES)
		return false;
	for (i = 0; i < word.n; i++) {
		if (!isxdigit((unsigned char)word.p[i]))
			return false;
		out[i] = (char)toupper((unsigned char)word.p[i]);
	}
	out[word.n] = '\0';
	return true;
}

static bool
sign_has(const struct sign_signers *s, const char *fingerprint)
{
	unsigned i;

	for (i = 0; i < s->n; i++)
		if (strcmp(s->fingerprint[i], fingerprint) == 0)
			return true;
	return false;
}

/* VALIDSIG: the signing key's fingerprint first, its primary key's tenth. */
static void
sign_take_valid(struct sign_tally *t, struct slice rest)
{
	struct sign_signers *s = &t->by[t->current];
	char fingerprint[SIGN_FINGERPRINT_BYTES];
	struct slice first = sign_word(&rest), word = first;
	unsigned i;

	for (i = 0; i < 9; i++)
		word = sign_word(&rest);
	if (!sign_copy_hex(fingerprint, word.n != 0 ? word : first))
		return;
	t->n[t->current]++;
	if (s->n < SIGN_SIGNERS_MAX && !sign_has(s, fingerprint))
		memcpy(s->fingerprint[s->n++], fingerprint, sizeof(fingerprint));
}

/* ERRSIG: the sixth word is the error; 9 means that the key is not here. */
static void
sign_take_error(struct sign_tally *t, struct slice rest)
{
	struct slice key = sign_word(&rest), word = key;
	unsigned i;

	for (i = 0; i < 5; i++)
		word = sign_word(&rest);
	if (slice_eq(word, SLICE("9"))) {
		t->n[SIGN_NO_KEY]++;
		(void)sign_copy_hex(t->no_key, key);
	} else
		t->unsupported = true;
}

/* The words that begin the description of a signature. */
static const struct {
	const char *word;
	enum sign_verdict verdict;
} sign_words[] = {
	{"GOODSIG", SIGN_GOOD}, {"EXPSIG", SIGN_EXPIRED_SIG}, {"EXPKEYSIG", SIGN_EXPIRED_KEY},
	{"REVKEYSIG", SIGN_REVOKED}, {"BADSIG", SIGN_BAD}, {"ERRSIG", SIGN_NO_KEY},
};

/* One line of gpgv's. */
static void
sign_take_line(struct sign_tally *t, struct slice rest)
{
	struct slice word = sign_word(&rest);
	size_t i;

	if (slice_eq(word, SLICE("VALIDSIG"))) {
		if (t->current != SIGN__N && t->current != SIGN_BAD && t->current != SIGN_NO_KEY)
			sign_take_valid(t, rest);
		t->current = SIGN__N;
		return;
	}
	if (slice_eq(word, SLICE("NODATA")))
		t->no_data = true;
	for (i = 0; i < NELEM(sign_words); i++) {
		if (!slice_eq(word, slice_of(sign_words[i].word)))
			continue;
		t->current = sign_words[i].verdict;
		if (t->current == SIGN_BAD)
			t->n[SIGN_BAD]++;
		else if (t->current == SIGN_NO_KEY)
			sign_take_error(t, rest);
	}
}

/* What weighs most: a bad signature, then a good one, then the others. */
static enum sign_verdict
sign_weigh(const struct sign_tally *t)
{
	static const enum sign_verdict order[] = {SIGN_BAD, SIGN_GOOD, SIGN_EXPIRED_KEY,
	    SIGN_EXPIRED_SIG, SIGN_REVOKED, SIGN_NO_KEY};
	size_t i;

	for (i = 0; i < NELEM(order); i++)
		if (t->n[order[i]] > 0)
			return order[i];
	if (t->unsupported)
		return SIGN_BAD;
	return t->no_data ? SIGN_NO_SIGNATURE : SIGN_UNAVAILABLE;
}

/* Says the verdict in words. */
static void
sign_say(const struct sign_tally *t, struct sign_result *out)
{
	const char *who = out->signers.n > 0 ? out->signers.fingerprint[0] : "";
	size_t cap = sizeof(out->words);

	switch (out->verdict) {
	case SIGN_GOOD:
		(void)snprintf(out->words, cap, "signed by %s", who);
		break;
	case SIGN_EXPIRED_KEY:
		(void)snprintf(out->words, cap, "signed by %s, a key that has expired: put its "
		    "renewed form into keyring_dir", who);
		break;
	case SIGN_EXPIRED_SIG:
		(void)snprintf(out->words, cap, "the signature by %s has expired: the repository "
		    "is no longer kept up, or an old copy of it was served", who);
		break;
	case SIGN_REVOKED:
		(void)snprintf(out->words, cap, "signed by %s, a key that was revoked", who);
		break;
	case SIGN_BAD:
		(void)snprintf(out->words, cap, t->n[SIGN_BAD] > 0 ?
		    "the signature does not belong to this text" :
		    "the signature uses a method that is weak or not known to gpgv");
		break;
	case SIGN_NO_KEY:
		(void)snprintf(out->words, cap, "signed by %s, which is not in keyring_dir: put "
		    "the repository's public key there if you trust it", t->no_key);
		break;
	case SIGN_NO_SIGNATURE:
		(void)snprintf(out->words, cap, "there is no signature");
		break;
	case SIGN_UNAVAILABLE:
		(void)snprintf(out->words, cap, "%s",
		    t->own[0] != '\0' ? t->own : "gpgv said nothing of a signature");
		break;
	case SIGN__N:
		WRONG("no verdict");
	}
}

void
sign_parse_status(struct slice text, struct sign_result *out)
{
	struct sign_tally t = {.current = SIGN__N};
	const char *end;
	struct slice line;

	while (text.n > 0) {
		end = memchr(text.p, '\n', text.n);
		line = text;
		if (end != NULL)
			line.n = (size_t)(end - text.p);
		text = slice_skip(text, line.n + (end != NULL));
		if (slice_starts(line, SLICE("[GNUPG:] ")))
			sign_take_line(&t, slice_skip(line, 9));
		else if (slice_starts(line, slice_of(SIGN_OWN_WORD)))
			(void)snprintf(t.own, sizeof(t.own), "%.*s",
			    SLICE_ARG(slice_skip(line, SIGN_OWN_WORD_BYTES)));
	}
	memset(out, 0, sizeof(*out));
	out->verdict = sign_weigh(&t);
	if (out->verdict != SIGN_BAD && out->verdict != SIGN_NO_KEY)
		out->signers = t.by[out->verdict];
	sign_say(&t, out);
}

/* ---- the form of an InRelease ---- */

/* Takes the next line off, without blanks at its end. */
static struct slice
sign_line(struct slice *rest)
{
	const char *end = rest->n > 0 ? memchr(rest->p, '\n', rest->n) : NULL;
	struct slice line = *rest;

	if (end != NULL)
		line.n = (size_t)(end - rest->p);
	*rest = slice_skip(*rest, line.n + (end != NULL));
	while (line.n > 0 && isspace((unsigned char)line.p[line.n - 1]))
		line.n--;
	return line;
}

/* Does a line in the text begin the signed part? */
static bool
sign_has_begin(struct slice text)
{
	static const char mark[] = "-----BEGIN PGP SIGNED MESSAGE-----";
	const char *at;

	while (text.n > 0 && (at = memmem(text.p, text.n, mark, sizeof(mark) - 1)) != NULL) {
		if (at == text.p || at[-1] == '\n')
			return true;
		text = slice_skip(text, (size_t)(at - text.p) + 1);
	}
	return false;
}

/* Writes the words, returns the verdict. */
static enum sign_verdict
sign_form(enum sign_verdict v, char words[SIGN_WORDS_BYTES], const char *text)
{
	(void)snprintf(words, SIGN_WORDS_BYTES, "%s", text);
	return v;
}

enum sign_verdict
sign_check_form(struct slice text, char words[SIGN_WORDS_BYTES])
{
	static const char unsigned_text[] = "a part of the text is not signed";
	struct slice rest = text, line = sign_line(&rest);

	if (!slice_eq(line, SLICE("-----BEGIN PGP SIGNED MESSAGE-----"))) {
		if (!sign_has_begin(text))
			return sign_form(SIGN_NO_SIGNATURE, words, "there is no signature");
		return sign_form(SIGN_BAD, words, unsigned_text);
	}
	/* The head names digests; anything else in it would be unsigned text. */
	while ((line = sign_line(&rest)).n > 0)
		if (!slice_starts(line, SLICE("Hash: ")))
			return sign_form(SIGN_BAD, words, unsigned_text);
	do {
		if (rest.n == 0)
			return sign_form(SIGN_BAD, words, "it ends before its signature");
		line = sign_line(&rest);
		if (line.n > 0 && line.p[0] == '-' && !slice_starts(line, SLICE("- ")) &&
		    !slice_eq(line, SLICE("-----BEGIN PGP SIGNATURE-----")) &&
		    line.n > 1)
			return sign_form(SIGN_BAD, words, unsigned_text);
	} while (!slice_eq(line, SLICE("-----BEGIN PGP SIGNATURE-----")));
	do {
		if (rest.n == 0)
			return sign_form(SIGN_BAD, words, "it ends inside its signature");
		line = sign_line(&rest);
	} while (!slice_eq(line, SLICE("-----END PGP SIGNATURE-----")));
	while (rest.n > 0)
		if (sign_line(&rest).n > 0)
			return sign_form(SIGN_BAD, words, unsigned_text);
	return SIGN_GOOD;
}

/* ---- what to do ---- */

/* Has one of the signers signed the current generation too? */
static bool
sign_is_same(const struct sign_signers *now, const struct sign_signers *before)
{
	unsigned i;

	for (i = 0; i < now->n; i++)
		if (sign_has(before, now->fingerprint[i]))
			return true;
	return false;
}

/* A good signature by somebody else than before. */
static enum sign_action
sign_decide_change(const struct sign_result *now, const struct sign_signers *before,
    bool hold_changes, char words[SIGN_WORDS_BYTES])
{
	(void)snprintf(words, SIGN_WORDS_BYTES, "%.80s; it was signed by %s before%s",
	    now->words, before->fingerprint[0], hold_changes ?
	    ": held back (on_signer_change = hold); report adopts it, or pin what you have" :
	    ": adopted (on_signer_change = report)");
	return hold_changes ? SIGN_HOLD : SIGN_ADOPT_REPORT;
}

/* A right signature by a key whose time is over: only a signer that is known already gets by. */
static enum sign_action
sign_decide_expired(const struct sign_result *now, const struct sign_signers *before,
    bool hold_changes, char words[SIGN_WORDS_BYTES])
{
	bool adopt = !hold_changes && sign_is_same(&now->signers, before);

	(void)snprintf(words, SIGN_WORDS_BYTES, "%.300s: %s", now->words, adopt ?
	    "adopted, as it signed the one before (on_signer_change = report)" :
	    hold_changes ? "held back (on_signer_change = hold)" :
	    "held back, as it did not sign the one before");
	return adopt ? SIGN_ADOPT_REPORT : SIGN_HOLD;
}

enum sign_action
sign_decide(const struct sign_result *now, const struct sign_signers *before, bool hold_changes,
    char words[SIGN_WORDS_BYTES])
{
	words[0] = '\0';
	switch (now->verdict) {
	case SIGN_GOOD:
		if (before->n == 0 || sign_is_same(&now->signers, before))
			return SIGN_ADOPT;
		return sign_decide_change(now, before, hold_changes, words);
	case SIGN_EXPIRED_KEY:
		return sign_decide_expired(now, before, hold_changes, words);
	case SIGN_EXPIRED_SIG:
	case SIGN_REVOKED:
	case SIGN_BAD:
	case SIGN_NO_KEY:
	case SIGN_NO_SIGNATURE:
	case SIGN_UNAVAILABLE:
		(void)snprintf(words, SIGN_WORDS_BYTES, "%.400s: held back", now->words);
		return SIGN_HOLD;
	case SIGN__N:
	default:
		WRONG("no verdict");
	}
}
