/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * One Release: parsed, judged by its date and signature, its set compared;
 * then stored, recorded and made current, or refused. It is the job of a gated
 * flight, whose readers wait for the outcome.
 */
#include "cache/sigfit.h"
#include "cache/stage_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

/* The body of a whole flight. */
static char *
stage_release_read(const struct flight *f, size_t *n_p)
{
	uint64_t n = flight_committed(f);
	char *text = n <= RELEASE_TEXT_MAX ? malloc((size_t)n + 1) : NULL;
	size_t at = 0;

	while (text != NULL && at < n) {
		ssize_t k = pread(flight_fd(f), text + at, (size_t)n - at, (off_t)at);

		if (k <= 0 && !(k < 0 && errno == EINTR)) {
			free(text);
			return NULL;
		}
		at += k > 0 ? (size_t)k : 0;
	}
	*n_p = at;
	return text;
}

/* When upstream last showed the current generation. */
static int64_t
stage_release_seen_at_s(struct index_view *view, const struct repo_gen *g)
{
	char record[OBJECT_TEXT_MAX];
	struct flight_expect e = {.hash = APTFILE_SHA256, .size_bytes = -1};
	int64_t seen_s = 0;
	char text[REPO_URL_BYTES];
	struct object_rec rec;
	struct slice url;
	struct key key;

	for (unsigned i = 0; i < REPO_FILE_N; i++) {
		if (!repo_gen_digest(g, (enum repo_file)i, e.digest) ||
		    !repo_url(repo_gen_root(g), repo_file_names[i], text, &url))
			continue;
		repo_version_key(url, &e, &key);
		if (index_get_object(view, &key, &rec, record) == REASON_OK &&
		    rec.checked_at_ms / 1000 > seen_s)
			seen_s = rec.checked_at_ms / 1000;
	}
	return seen_s;
}

/* Would apt say of it, if its clock is ours, that it is not valid yet? */
static bool
stage_release_is_future(const struct release *r)
{
	return r->date_s > clock_wall_s() + STAGE_FUTURE_S;
}

/* From the future, while clients have one that is not: a publisher's slip, or our clock is wrong. */
static bool
stage_release_is_too_early(struct stage_try *t, const struct release *r)
{
	char when[32];

	if (t->current == NULL || !stage_release_is_future(r) ||
	    stage_release_is_future(repo_gen_release(t->current)))
		return false;
	repo_time_text(r->date_s, when);
	(void)snprintf(t->why, t->why_cap, "upstream shows a Release of %s, which is %lld s ahead of "
	    "this machine's clock: apt would refuse it", when, (long long)(r->date_s - clock_wall_s()));
	return true;
}

/* Older than what is current: an edge of a CDN that lags? */
static bool
stage_release_is_too_old(struct stage_try *t, const struct release *r)
{
	int64_t wait_s = cache_adopt_older_s(t->st->cache, t->root), seen_s;
	char ours[32], theirs[32];

	/* Of one without a date nobody can say. */
	if (t->current == NULL || r->date_s == RELEASE_NO_TIME ||
	    r->date_s >= repo_gen_release(t->current)->date_s)
		return false;
	/* Whatever is not from the future is better than what is. */
	if (stage_release_is_future(repo_gen_release(t->current)) && !stage_release_is_future(r))
		return false;
	seen_s = stage_release_seen_at_s(t->view, t->current);
	repo_time_text(repo_gen_release(t->current)->date_s, ours);
	repo_time_text(r->date_s, theirs);
	(void)snprintf(t->why, t->why_cap, "upstream shows a Release of %s, ours is of %s, seen there "
	    "%lld s ago; adopt_older is %lld s", theirs, ours,
	    (long long)(clock_wall_s() - seen_s), (long long)wait_s);
	return clock_wall_s() - seen_s < wait_s;
}

/* Not adopted: the readers get what is current, or the reason. */
static void
stage_release_refuse(struct stage_try *t, struct flight *f, enum reason r)
{
	COUNT(releases_refused_total);
	log_warning("%.*s: Release not adopted: %s", SLICE_ARG(t->root), t->why);
	flight_fail(f, r, 0, false, "%s", t->why);
}

/* Makes the body findable under the key of this version. False: it could not be stored. */
static bool
stage_release_store(struct stage_try *t, struct flight *f, struct slice url)
{
	struct stage_reader sr = {.bell = &t->bell, .reader.wake = stage_wait_ring};
	struct flight_expect e = {.hash = APTFILE_SHA256, .size_bytes = -1};
	struct key key;
	bool stored;

	flight_attach(f, &sr.reader, false);
	flight_store_gated(f);
	(void)stage_wait_all(&t->bell, &sr, 1, clock_mono_ms() + STAGE_FETCH_MS);
	stored = flight_is_stored(f);
	flight_detach(&sr.reader);
	if (!stored)
		return false;
	memcpy(e.digest, f->digest, 32);
	repo_version_key(url, &e, &key);
	flight_link(f, &key);
	return true;
}

/* Waits for Release.gpg. A client's flight that we joined may only have confirmed what it had. */
static struct flight *
stage_release_wait_signature(struct stage_try *t)
{
	for (unsigned tries = 0; tries < 3; tries++) {
		stage_set_drop(t);
		if (!stage_set_fetch(t, repo_file_names[REPO_SIGNATURE], NULL))
			return NULL;
		(void)stage_wait_all(&t->bell, t->v, t->n,
		    clock_mono_ms() + STAGE_FETCH_MS);
		if (flight_state(t->v[0].reader.f) != FLIGHT_CONFIRMED)
			break;
	}
	return t->v[0].reader.f;
}

/* Does the Release.gpg that came belong to this Release? */
static bool
stage_release_signature_fits(struct stage_try *t)
{
	uint8_t digest[32];
	char sig[STAGE_SIGNATURE_BYTES];
	ssize_t n = pread(t->signature_fd, sig, sizeof(sig), 0);

	switch (n > 0 ? sigfit_check(sig, (size_t)n, t->text, t->text_n) : SIGFIT_UNKNOWN) {
	case SIGFIT_YES:
		return true;
	case SIGFIT_NO:
		return false;
	case SIGFIT_UNKNOWN:
		break;
	}
	/* That of another Release can't be this one's. */
	return t->current == NULL || !repo_gen_digest(t->current, REPO_SIGNATURE, digest) ||
	    memcmp(digest, t->signature, 32) != 0 ||
	    memcmp(t->release->identity, repo_gen_release(t->current)->identity, 32) == 0;
}

/* It is the signature of what is staged: kept under its version. */
static void
stage_release_take_signature(struct stage_try *t, struct flight *f, struct slice url)
{
	struct flight_expect e = {.hash = APTFILE_SHA256, .size_bytes = -1};
	struct key key;

	t->has_signature = true;
	memcpy(e.digest, f->digest, 32);
	repo_version_key(url, &e, &key);
	flight_link(f, &key);
}

/* Release.gpg beside a Release, as it is upstream now: none is as good as one that fits. */
static enum stage_verdict
stage_release_fetch_signature(struct stage_try *t)
{
	enum stage_verdict v = STAGE_AGREES;
	char text[REPO_URL_BYTES];
	struct slice url;
	struct flight *f;

	if (!repo_url(t->root, repo_file_names[REPO_SIGNATURE], text, &url))
		return v;
	t->has_signature = false;
	f = stage_release_wait_signature(t);
	if (f == NULL) {
		(void)snprintf(t->why, t->why_cap, "Release.gpg: %s", reason_text(REASON_NO_MEMORY));
		return STAGE_UNREACHABLE;
	}
	if (flight_state(f) == FLIGHT_COMPLETE && flight_is_stored(f)) {
		memcpy(t->signature, f->digest, 32);
		if (t->signature_fd >= 0)
			(void)close(t->signature_fd);
		t->signature_fd = fcntl(flight_fd(f), F_DUPFD_CLOEXEC, 0);
		if (stage_release_signature_fits(t))
			stage_release_take_signature(t, f, url);
		else {
			(void)snprintf(t->why, t->why_cap, "Release.gpg is the signature of another "
			    "Release");
			v = STAGE_DISAGREES;
		}
	} else if (flight_state(f) != FLIGHT_FAILED ||
	    (flight_reason(f) != REASON_UP_NOT_FOUND && flight_reason(f) != REASON_UP_GONE)) {
		(void)snprintf(t->why, t->why_cap, "Release.gpg: %s", flight_state(f) ==
		    FLIGHT_FAILED ? flight_detail(f) : "has not come");
		v = STAGE_UNREACHABLE;
	}
	stage_set_drop(t);
	return v;
}

/* Who signed it, and does the configuration accept that? */
static bool
stage_release_signature_ok(struct stage_try *t, struct flight *f, enum repo_file which)
{
	bool hold_changes;
	struct sign *sign = cache_sign(t->st->cache, &hold_changes);
	struct sign_input in = {.text_fd = flight_fd(f), .signature_fd = -1};
	const struct sign_signers none = {0};
	char words[SIGN_WORDS_BYTES] = "";
	struct sign_result now = {.verdict = SIGN_NO_SIGNATURE};

	if (sign == NULL)
		return true;
	if (which == REPO_RELEASE)
		in.signature_fd = t->signature_fd;
	if (which == REPO_INRELEASE || in.signature_fd >= 0)
		(void)sign_verify(sign, &in, &now);
	else
		(void)snprintf(now.words, sizeof(now.words), "there is no Release.gpg beside it");
	switch (sign_decide(&now, t->current != NULL ? repo_gen_signers(t->current) : &none,
	    hold_changes, words)) {
	case SIGN_ADOPT:
		break;
	case SIGN_ADOPT_REPORT:
		log_warning("%.*s: signature: %s", SLICE_ARG(t->root), words);
		break;
	case SIGN_HOLD:
		(void)snprintf(t->why, t->why_cap, "signature: %s", words);
		return false;
	}
	t->signers = now.signers;
	return true;
}

/*
 * Indexes that came before their generation, by another host's name or a client that asked for them
 * first: as they are stored, nobody will fetch them, and so read them, again.
 */
static void
stage_release_read_stored(struct stage_try *t)
{
	struct repo_gen *g = repo_current(t->st->repos, t->root);

	if (g != NULL)
		repo_gen_missing_tables(t->st->repos, g, stage_missing_table, t->st);
	repo_gen_unref(&g);
}

/* The set agrees: stored, recorded, current. */
static void
stage_release_adopt(struct stage_try *t, struct flight *f, struct release *release,
    enum repo_file which)
{
	struct repos *repos = t->st->repos;
	struct repo_new n = {.root = t->root, .release = release, .signers = t->signers,
	    .adopted_at_s = clock_wall_s()};
	char when[32];
	enum reason r;

	repo_time_text(release->date_s, when);
	if (!stage_release_store(t, f, f->url)) {
		release_free(&release);
		(void)snprintf(t->why, t->why_cap, "the Release of %s can't be stored", when);
		if (t->current != NULL)
			flight_fail(f, REASON_NO_DISK, 0, false, "%s", t->why);
		else
			flight_open_gate(f);
		return;
	}
	n.has[which] = true;
	memcpy(n.digest[which], f->digest, 32);
	n.has[REPO_SIGNATURE] = t->has_signature;
	memcpy(n.digest[REPO_SIGNATURE], t->signature, 32);
	r = repo_adopt(repos, &n);
	if (r != REASON_OK) {
		log_error("%.*s: the Release of %s can't be recorded: %s", SLICE_ARG(t->root), when,
		    reason_text(r));
		if (t->current != NULL)
			flight_fail(f, r, 0, false, "%s", reason_text(r));
		else
			flight_open_gate(f);
		return;
	}
	COUNT(generations_adopted_total);
	log_info("%.*s: the Release of %s is current now", SLICE_ARG(t->root), when);
	stage_release_read_stored(t);
	flight_open_gate(f);
	stage_tidy(t->st);
}

/* The current publication once more, perhaps in another form. */
static void
stage_release_confirm(struct stage_try *t, struct flight *f, enum repo_file which)
{
	uint8_t digest[32];

	if (!stage_release_store(t, f, f->url)) {
		flight_open_gate(f);
		return;
	}
	if (!repo_gen_digest(t->current, which, digest) || memcmp(digest, f->digest, 32) != 0) {
		log_info("%.*s: %.*s in another form", SLICE_ARG(t->root),
		    SLICE_ARG(repo_file_names[which]));
		(void)!repo_attach_file(t->st->repos, t->current, which, f->digest);
	}
	if (t->has_signature && (!repo_gen_digest(t->current, REPO_SIGNATURE, digest) ||
	    memcmp(digest, t->signature, 32) != 0))
		(void)!repo_attach_file(t->st->repos, t->current, REPO_SIGNATURE, t->signature);
	flight_open_gate(f);
}

/* Waits a moment before the next look; false: the depot stops. */
static bool
stage_pause(struct stage *st, int64_t until_ms)
{
	struct timespec ts = clock_deadline(until_ms - clock_mono_ms());
	bool quiet;

	AZ(pthread_mutex_lock(&st->lock));
	while (!st->quiet && clock_mono_ms() < until_ms)
		(void)pthread_cond_timedwait(&st->news, &st->lock, &ts);
	quiet = st->quiet;
	AZ(pthread_mutex_unlock(&st->lock));
	return !quiet;
}

/* One look: the signature beside it, where there is one, what is thought of that, and the set. */
static enum stage_verdict
stage_release_look(struct stage_try *t, struct flight *f, enum repo_file which)
{
	enum stage_verdict v = which == REPO_RELEASE ? stage_release_fetch_signature(t) :
	    STAGE_AGREES;

	if (v != STAGE_AGREES)
		return v;
	if (!stage_release_signature_ok(t, f, which))
		return STAGE_UNSIGNED;
	return stage_set_compare(t);
}

/* Compares until it agrees, or as long as its readers may be held. */
static enum stage_verdict
stage_release_compare(struct stage_try *t, struct stage_root *root, struct flight *f,
    enum repo_file which)
{
	enum stage_verdict v;
	int64_t next_ms;
	unsigned looks_n = 0;

	if (stage_root_tried_now(t->st, root, t->release, t->why, t->why_cap))
		return STAGE_UNREACHABLE;
	if (stage_root_is_broken(t, root))
		return STAGE_BROKEN;
	for (;;) {
		next_ms = clock_mono_ms() + STAGE_RETRY_MS;
		t->may_pass_over = stage_root_may_pass_over(t->st, root, t->release);
		v = stage_release_look(t, f, which);
		if (v == STAGE_BROKEN)
			stage_root_note_broken(t, root);
		if (v == STAGE_AGREES || v == STAGE_BROKEN || v == STAGE_UNSIGNED)
			return v;
		stage_root_disagree(t->st, root, t->release, t->why, t->current != NULL);
		/* Later looks are the background's; only first visitors have nothing else. */
		if (t->current != NULL || next_ms - root->first_ms >= STAGE_FIRST_MS ||
		    !stage_pause(t->st, next_ms))
			return v;
		/* Published a moment after this one was fetched, or this one came from an edge that lags. */
		if (++looks_n == STAGE_LOOKS)
			return STAGE_ANEW;
		t->no_cache = true;
	}
}

/* A parsed Release that is not the current one. */
static void
stage_release_candidate(struct stage_try *t, struct stage_root *root, struct flight *f,
    struct release *release, enum repo_file which)
{
	enum reason r = REASON_OK;

	if (stage_release_is_too_early(t, release))
		r = REASON_RELEASE_BAD;
	else if (stage_release_is_too_old(t, release))
		r = REASON_REPO_OLDER;
	else
		switch (stage_release_compare(t, root, f, which)) {
		case STAGE_AGREES:
			stage_root_settle(t->st, root);
			stage_release_adopt(t, f, release, which);
			return;
		case STAGE_BROKEN:
			r = REASON_LIST_BAD;
			break;
		case STAGE_UNSIGNED:
			r = REASON_REPO_SIGNATURE;
			break;
		case STAGE_DISAGREES:
		case STAGE_UNREACHABLE:
			r = REASON_REPO_DISAGREES;
			break;
		case STAGE_ANEW:
			release_free(&release);
			COUNT(releases_anew_total);
			/* Its readers ask again (req_step.c), and their flight is staged in turn. */
			flight_fail(f, REASON_REPO_ANEW, 0, false, "%s", t->why);
			return;
		}
	release_free(&release);
	if (t->current == NULL) {
		if (r != REASON_REPO_DISAGREES) {
			COUNT(releases_refused_total);
			log_warning("%.*s: no generation is made of it: %s", SLICE_ARG(t->root), t->why);
		}
		flight_open_gate(f);	/* what upstream has, as it is */
	} else if (r == REASON_REPO_DISAGREES)
		flight_fail(f, r, 0, false, "%s", t->why);
	else
		stage_release_refuse(t, f, r);
}

/* The current one again. A signature that is of another Release waits until that comes. */
static void
stage_release_again(struct stage_try *t, struct stage_root *root, struct flight *f,
    enum repo_file which)
{
	enum stage_verdict v = which == REPO_RELEASE ? stage_release_fetch_signature(t) :
	    STAGE_AGREES;

	stage_root_settle(t->st, root);
	if (v == STAGE_UNREACHABLE)
		stage_release_refuse(t, f, REASON_REPO_DISAGREES);
	else if (v == STAGE_AGREES && !stage_release_signature_ok(t, f, which))
		stage_release_refuse(t, f, REASON_REPO_SIGNATURE);
	else
		stage_release_confirm(t, f, which);
}

void
stage_release_job(struct stage *st, struct stage_job *job)
{
	char why[512] = "";
	struct stage_try *t = calloc(1, sizeof(*t));
	struct release *release = NULL;
	struct flight *f = job->f;
	enum repo_file which;
	enum reason r = REASON_NO_MEMORY;
	size_t n = 0;
	char *text = stage_release_read(f, &n);

	if (t != NULL)
		t->view = index_view_open(cache_parts(st->cache)->index);
	if (t == NULL || t->view == NULL || !repo_split_release(f->url, &t->root, &which)) {
		flight_fail(f, REASON_NO_MEMORY, 0, false, "%s", reason_text(REASON_NO_MEMORY));
		goto out;
	}
	t->st = st;
	t->why = why;
	t->why_cap = sizeof(why);
	t->signature_fd = -1;
	t->no_cache = job->root->disagrees;
	t->first_ms = job->root->first_ms;
	stage_wait_init(&t->bell);
	repo_note_root(st->repos, t->root);
	t->current = repo_current(st->repos, t->root);
	if (text != NULL)
		r = release_parse(&release, text, n, why, sizeof(why));
	else {
		r = REASON_RELEASE_BAD;
		if (flight_committed(f) > RELEASE_TEXT_MAX)
			(void)snprintf(why, sizeof(why), "it has %llu bytes; %d are the limit",
			    (unsigned long long)flight_committed(f), RELEASE_TEXT_MAX);
		else
			(void)snprintf(why, sizeof(why), "it could not be read back from the cache");
	}
	t->release = release;
	t->text = text;
	t->text_n = n;
	if (r != REASON_OK && t->current != NULL)
		stage_release_refuse(t, f, r);
	else if (r != REASON_OK) {
		COUNT(releases_refused_total);
		log_warning("%.*s: no generation is made of it: %s", SLICE_ARG(t->root), why);
		flight_open_gate(f);
	} else if (t->current != NULL && memcmp(release->identity,
	    repo_gen_release(t->current)->identity, 32) == 0) {
		stage_release_again(t, job->root, f, which);
		release_free(&release);
	} else
		stage_release_candidate(t, job->root, f, release, which);
	repo_gen_unref(&t->current);
	if (t->signature_fd >= 0)
		(void)close(t->signature_fd);
	stage_wait_fini(&t->bell);
out:
	if (t != NULL)
		index_view_close(&t->view);
	free(text);
	free(t);
}
