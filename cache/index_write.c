/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Changes of the index as transactions. Only the writer thread runs this
 * (index_queue.c): it hands over a batch of changes, which are applied in
 * one durable LMDB transaction and only then made visible outside of LMDB
 * (totals, versions), reported to their `done`, and followed by the unlinking
 * of files that lost their last record. A batch that fails is tried again
 * one change at a time, so that one bad apple does not spoil the others; what
 * fails even so is reported and counted. When LMDB declares its environment
 * dead, it is replaced under the views; nothing here ends the process.
 */
#include "cache/index_priv.h"
#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

enum {
	INDEX_ERROR_LOG_MS = 10000,	/* a full disk should not fill the log too */
	INDEX_REOPEN_MS = 5000,		/* between attempts to replace a dead environment */
};

/* ---- records within a transaction; each returns 0 or an LMDB code ---- */

static int
index_txn_put(struct index *ix, enum index_db db, const void *key, size_t key_n,
    const void *rec, size_t rec_n)
{
	MDB_val k = index_val(key, key_n), val = index_val(rec, rec_n);

	ix->batch.wrote = true;
	return mdb_put(ix->batch.txn, ix->dbi[db], &k, &val, 0);
}

/* Deletes a record; that there is none is as good. */
static int
index_txn_del(struct index *ix, enum index_db db, const void *key, size_t key_n)
{
	MDB_val k = index_val(key, key_n);
	int rc = mdb_del(ix->batch.txn, ix->dbi[db], &k, NULL);

	ix->batch.wrote |= rc == 0;
	return rc == MDB_NOTFOUND ? 0 : rc;
}

/* MDB_NOTFOUND also for a damaged record: it is about to be overwritten or deleted. */
int
index_txn_get_blob(struct index *ix, const uint8_t digest[32], struct record_blob *rec)
{
	MDB_val k = index_val(digest, 32), val;
	int rc = mdb_get(ix->batch.txn, ix->dbi[INDEX_DB_BLOB], &k, &val);

	if (rc == 0 && !record_blob_decode(rec, digest, val.mv_data, val.mv_size)) {
		COUNT(index_errors_total);
		rc = MDB_NOTFOUND;
	}
	return rc;
}

int
index_txn_put_blob(struct index *ix, const uint8_t digest[32], const struct record_blob *rec)
{
	uint8_t out[RECORD_BLOB_BYTES];
	size_t n = record_blob_encode(out, digest, rec);

	return index_txn_put(ix, INDEX_DB_BLOB, digest, 32, out, n);
}

/* As index_txn_get_blob, for a URL; text points into LMDB until the next write. */
static int
index_txn_get_object(struct index *ix, const struct key *key, struct object_rec *rec,
    uint64_t *born_seq)
{
	MDB_val k = index_val(key->b, KEY_BYTES), val;
	int rc = mdb_get(ix->batch.txn, ix->dbi[INDEX_DB_URL], &k, &val);

	if (rc == 0 && !record_object_decode(rec, born_seq, key, val.mv_data, val.mv_size)) {
		COUNT(index_errors_total);
		rc = MDB_NOTFOUND;
	}
	return rc;
}

/* Did wrong bytes go out under this URL? */
static bool
index_txn_is_marked(struct index *ix, const struct key *key)
{
	uint8_t wrong_key[INDEX_WRONG_KEY_BYTES];
	MDB_val k = index_val(wrong_key, sizeof(wrong_key)), val;

	index_wrong_key(wrong_key, key);
	return mdb_get(ix->batch.txn, ix->dbi[INDEX_DB_META], &k, &val) == 0 &&
	    val.mv_size == KEY_BYTES && memcmp(val.mv_data, key->b, KEY_BYTES) == 0;
}

/* Writes a URL's record; *fits is false when its text is too long for one. */
static int
index_txn_put_object(struct index *ix, const struct key *key, const struct object_rec *rec,
    uint64_t born_seq, bool *fits)
{
	uint8_t out[RECORD_MAX_BYTES];
	struct object_rec marked = *rec;
	size_t n;

	marked.validators_shared |= index_txn_is_marked(ix, key);
	n = record_object_encode(out, key, &marked, born_seq);
	*fits = n != 0;
	return n != 0 ? index_txn_put(ix, INDEX_DB_URL, key->b, KEY_BYTES, out, n) : 0;
}

/* The file goes after the commit, unless the batch gives it a record again. */
static void
index_batch_unlink(struct index_batch *b, const uint8_t digest[32])
{
	MUST(b->unlink_n < NELEM(b->unlink));
	memcpy(b->unlink[b->unlink_n++], digest, 32);
}

/* A blob's record goes, and its file. */
static int
index_txn_drop_blob(struct index *ix, const uint8_t digest[32], const struct record_blob *rec)
{
	struct index_batch *b = &ix->batch;
	int rc = index_txn_del(ix, INDEX_DB_BLOB, digest, 32);

	if (rc != 0)
		return rc;
	b->state.blobs_n -= b->state.blobs_n > 0;
	b->state.blob_bytes -= b->state.blob_bytes < rec->pub.size_bytes ? b->state.blob_bytes :
	    rec->pub.size_bytes;
	b->state_changed = true;
	b->dropped = true;
	index_batch_unlink(b, digest);
	return 0;
}

/* A blob's bytes are new here, or were proven again: they get the next store number. */
static void
index_batch_number_blob(struct index_batch *b, struct record_blob *rec, bool is_new)
{
	rec->seq = ++b->state.seq;
	b->state_changed = true;
	if (is_new) {
		rec->born_seq = rec->seq;
		b->state.blobs_n++;
		b->state.blob_bytes += rec->pub.size_bytes;
	}
}

/*
 * A URL names this blob no longer. References are counted only between
 * records that carry the same birth number: a URL whose blob was dropped and
 * came back under another URL is a hit again, but does not keep it.
 */
static int
index_txn_unref(struct index *ix, const uint8_t digest[32], uint64_t born_seq)
{
	struct record_blob blob;
	int rc = index_txn_get_blob(ix, digest, &blob);

	if (rc != 0)
		return rc == MDB_NOTFOUND ? 0 : rc;
	if (blob.born_seq != born_seq || blob.pub.refs_n == 0)
		return 0;
	if (--blob.pub.refs_n == 0)
		return index_txn_drop_blob(ix, digest, &blob);
	return index_txn_put_blob(ix, digest, &blob);
}

/* The URL's journal and its marks go: all keys that begin with the URL's. */
static int
index_txn_drop_journal(struct index *ix, const struct key *key)
{
	MDB_val k = index_val(key->b, KEY_BYTES), val;
	MDB_cursor *cur;
	int rc = mdb_cursor_open(ix->batch.txn, ix->dbi[INDEX_DB_PARTIAL], &cur);

	if (rc != 0)
		return rc;
	rc = mdb_cursor_get(cur, &k, &val, MDB_SET_RANGE);
	while (rc == 0 && k.mv_size >= KEY_BYTES && memcmp(k.mv_data, key->b, KEY_BYTES) == 0) {
		ix->batch.wrote = true;
		rc = mdb_cursor_del(cur, 0);
		if (rc == 0)	/* LMDB knows that the next one has moved up */
			rc = mdb_cursor_get(cur, &k, &val, MDB_NEXT);
	}
	mdb_cursor_close(cur);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

/* ---- the changes ---- */

/* Are the bytes of a recorded blob of this size beyond doubt? */
static bool
index_blob_is_trusted(const struct index *ix, const struct record_blob *blob, uint64_t size_bytes)
{
	return !blob->pub.suspect && !index_seq_is_suspect(ix, blob->seq) &&
	    blob->pub.size_bytes == size_bytes;
}

/* Puts the file in its place and says what is there, once however often the change is tried. */
static bool
index_op_adopt(struct index *ix, struct index_op *op, const struct record_blob *blob, bool is_new)
{
	const struct object_rec *rec = &op->object;
	struct blob_stat known;
	bool trusted;

	if (op->adopted)
		return true;
	/* A file without a record, or in doubt, is worth less than the one just verified. */
	trusted = !is_new && index_blob_is_trusted(ix, blob, rec->size_bytes);
	if (trusted)
		known = (struct blob_stat){blob->pub.size_bytes, blob->pub.mtime_ns};
	if (op->bytes != NULL)
		op->result = blob_write(ix->blobs, rec->digest, op->bytes, rec->size_bytes,
		    trusted ? &known : NULL, &op->adopted_st);
	else
		op->result = blob_adopt(ix->blobs, &op->key, rec->digest, rec->size_bytes,
		    trusted ? &known : NULL, &op->adopted_st);
	op->adopted = op->result == REASON_OK;
	op->shared = !is_new;
	return op->adopted;
}

/* Writes the URL's record over its old one; references move from the old blob to this. */
static int
index_apply_url(struct index *ix, struct index_op *op, struct record_blob *blob, bool blob_changed)
{
	struct object_rec *rec = &op->object, old;
	uint64_t old_born_seq = 0;
	int rc = index_txn_get_object(ix, &op->key, &old, &old_born_seq);
	bool had_old = rc == 0, had_this, fits;
	uint8_t old_digest[32];

	if (rc != 0 && rc != MDB_NOTFOUND)
		return rc;
	rec->size_bytes = blob->pub.size_bytes;
	had_this = had_old && old_born_seq == blob->born_seq &&
	    memcmp(old.digest, rec->digest, 32) == 0;
	if (had_old)
		memcpy(old_digest, old.digest, 32);
	blob->pub.refs_n += !had_this;
	rc = 0;
	if (!had_this || blob_changed)
		rc = index_txn_put_blob(ix, rec->digest, blob);
	if (rc == 0 && had_old && !had_this)
		rc = index_txn_unref(ix, old_digest, old_born_seq);
	if (rc != 0)
		return rc;
	rc = index_txn_put_object(ix, &op->key, rec, blob->born_seq, &fits);
	if (rc == 0 && !fits)
		op->result = REASON_INDEX_ERROR;
	return rc;
}

/* Could a record hold this text? Asked before anything is moved. */
static bool
index_op_fits(struct index_op *op)
{
	const struct object_rec *rec = &op->object;

	if (rec->url.n + rec->etag.n + rec->fields.n <= OBJECT_TEXT_MAX)
		return true;
	op->result = REASON_INDEX_ERROR;
	return false;
}

static int
index_apply_store(struct index *ix, struct index_op *op)
{
	const struct object_rec *rec = &op->object;
	struct record_blob blob = {0};
	int rc = index_txn_get_blob(ix, rec->digest, &blob);
	bool is_new = rc == MDB_NOTFOUND, same;

	if (rc != 0 && !is_new)
		return rc;
	if (!index_op_fits(op) || !index_op_adopt(ix, op, &blob, is_new))
		return 0;
	same = !is_new && index_blob_is_trusted(ix, &blob, op->adopted_st.size_bytes) &&
	    blob.pub.mtime_ns == op->adopted_st.mtime_ns;
	if (!same) {
		if (!is_new)	/* a record of another size can only be damage */
			ix->batch.state.blob_bytes +=
			    op->adopted_st.size_bytes - blob.pub.size_bytes;
		blob.pub.size_bytes = op->adopted_st.size_bytes;
		blob.pub.mtime_ns = op->adopted_st.mtime_ns;
		blob.pub.suspect = false;
		blob.pub.stored_at_s = rec->stored_at_ms / 1000;
		blob.pub.used_at_s = blob.pub.stored_at_s;
		blob.pub.from = rec->from;
		index_batch_number_blob(&ix->batch, &blob, is_new);
	}
	if (is_new || (blob.pub.restricted && !rec->from_credentials)) {
		same = false;
		blob.pub.restricted = rec->from_credentials;
	}
	/* Fetched once more, and better known: it was imported, say, and is listed by now. */
	if (rec->from.way != PROVENANCE_UNKNOWN && (blob.pub.from.way == PROVENANCE_UNKNOWN ||
	    rec->from.proof > blob.pub.from.proof)) {
		same = false;
		blob.pub.from = rec->from;
	}
	rc = index_apply_url(ix, op, &blob, !same);
	if (rc == 0)
		rc = index_txn_drop_journal(ix, &op->key);
	if (rc == 0) {
		ix->batch.stored_n += is_new;
		ix->batch.shared_n += !is_new;
	}
	return rc;
}

static int
index_apply_link(struct index *ix, struct index_op *op)
{
	struct record_blob blob;
	int rc = index_txn_get_blob(ix, op->object.digest, &blob);

	if (rc == MDB_NOTFOUND) {
		op->result = REASON_NOT_FOUND;
		return 0;
	}
	if (rc != 0 || !index_op_fits(op))
		return rc;
	return index_apply_url(ix, op, &blob, false);
}

static int
index_apply_confirm(struct index *ix, struct index_op *op)
{
	struct object_rec *rec = &op->object, old;
	uint64_t born_seq;
	bool fits;
	int rc = index_txn_get_object(ix, &op->key, &old, &born_seq);

	if (rc == MDB_NOTFOUND || (rc == 0 && memcmp(old.digest, rec->digest, 32) != 0))
		return 0;	/* replaced or dropped while the origin was asked */
	if (rc != 0)
		return rc;
	rec->size_bytes = old.size_bytes;
	rec->stored_at_ms = old.stored_at_ms;
	rec->from_credentials = old.from_credentials;
	rec->validators_shared = old.validators_shared;
	return index_txn_put_object(ix, &op->key, rec, born_seq, &fits);
}

/* only_dangling: not if its blob is there. */
static int
index_apply_forget(struct index *ix, const struct index_op *op, bool only_dangling)
{
	uint8_t digest[32];
	struct record_blob blob;
	struct object_rec old;
	uint64_t born_seq;
	int rc = index_txn_get_object(ix, &op->key, &old, &born_seq);
	bool known = rc == 0;

	if (known && only_dangling) {
		rc = index_txn_get_blob(ix, old.digest, &blob);
		if (rc != MDB_NOTFOUND)
			return rc;
	} else if (rc != 0 && rc != MDB_NOTFOUND)
		return rc;
	if (known)
		memcpy(digest, old.digest, 32);
	rc = index_txn_del(ix, INDEX_DB_URL, op->key.b, KEY_BYTES);
	if (rc == 0 && known)
		rc = index_txn_unref(ix, digest, born_seq);
	return rc;
}

static int
index_apply_drop_blob(struct index *ix, const struct index_op *op)
{
	struct record_blob blob;
	int rc = index_txn_get_blob(ix, op->digest, &blob);

	if (rc == 0)
		return index_txn_drop_blob(ix, op->digest, &blob);
	if (rc != MDB_NOTFOUND)
		return rc;
	index_batch_unlink(&ix->batch, op->digest);
	return index_txn_del(ix, INDEX_DB_BLOB, op->digest, 32);
}

static int
index_apply_clear_suspect(struct index *ix, const struct index_op *op)
{
	struct record_blob blob;
	int rc = index_txn_get_blob(ix, op->digest, &blob);

	if (rc != 0)
		return rc == MDB_NOTFOUND ? 0 : rc;
	blob.pub.suspect = false;
	blob.pub.mtime_ns = op->mtime_ns;
	index_batch_number_blob(&ix->batch, &blob, false);
	return index_txn_put_blob(ix, op->digest, &blob);
}

static int
index_apply_record_blob(struct index *ix, const struct index_op *op)
{
	struct record_blob blob;
	int rc = index_txn_get_blob(ix, op->digest, &blob);

	if (rc != MDB_NOTFOUND)
		return rc;
	blob = (struct record_blob){.pub = {
		.size_bytes = op->number,
		.mtime_ns = op->mtime_ns,
		.stored_at_s = op->mtime_ns / 1000000000,
		.used_at_s = op->mtime_ns / 1000000000,
		.suspect = op->mark != 0,
		.restricted = ix->has_credentials,
	}};
	index_batch_number_blob(&ix->batch, &blob, true);
	return index_txn_put_blob(ix, op->digest, &blob);
}

static int
index_apply_sweep_blob(struct index *ix, const struct index_op *op)
{
	struct record_blob blob;
	int rc = index_txn_get_blob(ix, op->digest, &blob);

	if (rc != MDB_NOTFOUND)
		return rc;
	index_batch_unlink(&ix->batch, op->digest);
	return 0;
}

static int
index_apply_repo(struct index *ix, const struct index_op *op)
{
	if (op->repo_value_n == 0)
		return index_txn_del(ix, INDEX_DB_REPO, op->repo_key, op->repo_key_n);
	return index_txn_put(ix, INDEX_DB_REPO, op->repo_key, op->repo_key_n, op + 1,
	    op->repo_value_n);
}

static int
index_apply_partial_begin(struct index *ix, const struct index_op *op)
{
	uint8_t out[RECORD_MAX_BYTES];
	size_t n = record_partial_encode(out, &op->key, &op->partial);
	int rc = index_txn_drop_journal(ix, &op->key);

	if (rc != 0 || n == 0)
		return rc;
	return index_txn_put(ix, INDEX_DB_PARTIAL, op->key.b, KEY_BYTES, out, n);
}

static int
index_apply_partial_mark(struct index *ix, const struct index_op *op)
{
	uint8_t mark_key[RECORD_MARK_KEY_BYTES], out[RECORD_MARK_BYTES];
	MDB_val k = index_val(op->key.b, KEY_BYTES), val;
	int rc = mdb_get(ix->batch.txn, ix->dbi[INDEX_DB_PARTIAL], &k, &val);

	if (rc != 0)	/* the journal has ended meanwhile */
		return rc == MDB_NOTFOUND ? 0 : rc;
	record_mark_key(mark_key, &op->key, op->mark);
	(void)record_mark_encode(out, mark_key, op->digest);
	ix->batch.marks_n++;
	return index_txn_put(ix, INDEX_DB_PARTIAL, mark_key, sizeof(mark_key), out, sizeof(out));
}

static int
index_apply_mark_wrong(struct index *ix, const struct index_op *op)
{
	uint8_t wrong_key[INDEX_WRONG_KEY_BYTES];

	index_wrong_key(wrong_key, &op->key);
	return index_txn_put(ix, INDEX_DB_META, wrong_key, sizeof(wrong_key), op->key.b, KEY_BYTES);
}

/* Applies one change to the open transaction; op->result tells of what is not LMDB's fault. */
static int
index_apply(struct index *ix, struct index_op *op)
{
	struct index_batch *b = &ix->batch;

	switch (op->kind) {
	case INDEX_OP_STORE:
		return index_apply_store(ix, op);
	case INDEX_OP_LINK:
		return index_apply_link(ix, op);
	case INDEX_OP_CONFIRM:
		return index_apply_confirm(ix, op);
	case INDEX_OP_FORGET:
		return index_apply_forget(ix, op, false);
	case INDEX_OP_FORGET_DANGLING:
		return index_apply_forget(ix, op, true);
	case INDEX_OP_DROP_BLOB:
		return index_apply_drop_blob(ix, op);
	case INDEX_OP_CLEAR_SUSPECT:
		return index_apply_clear_suspect(ix, op);
	case INDEX_OP_RECORD_BLOB:
		return index_apply_record_blob(ix, op);
	case INDEX_OP_SWEEP_BLOB:
		return index_apply_sweep_blob(ix, op);
	case INDEX_OP_REPO:
		return index_apply_repo(ix, op);
	case INDEX_OP_PARTIAL_BEGIN:
		return index_apply_partial_begin(ix, op);
	case INDEX_OP_PARTIAL_MARK:
		return index_apply_partial_mark(ix, op);
	case INDEX_OP_PARTIAL_END:
		return index_txn_drop_journal(ix, &op->key);
	case INDEX_OP_MARK_WRONG:
		return index_apply_mark_wrong(ix, op);
	case INDEX_OP_SYNCED:
		b->state_changed |= op->number > b->state.synced_seq;
		if (op->number > b->state.synced_seq)
			b->state.synced_seq = op->number;
		return 0;
	case INDEX_OP_REBUILT:
		b->state_changed |= b->state.rebuild;
		b->state.rebuild = false;
		return 0;
	case INDEX_OP_FLUSH:
	case INDEX_OP_FAILED:
		return 0;
	}
	WRONG("kind of index change");
}

/* ---- transactions ---- */

/* Begins a batch from what is committed. */
int
index_batch_begin(struct index *ix)
{
	struct index_batch *b = &ix->batch;

	b->state = ix->state;
	b->state_changed = b->dropped = b->wrote = false;
	b->unlink_n = 0;
	b->stored_n = b->shared_n = b->marks_n = 0;
	b->txn = NULL;
	return ix->env != NULL ? mdb_txn_begin(ix->env, NULL, 0, &b->txn) : MDB_PANIC;
}

/* Files on the list that have a record at the end of the batch stay. */
static void
index_batch_spare_files(struct index *ix)
{
	struct index_batch *b = &ix->batch;
	struct record_blob blob;
	uint32_t kept_n = 0;

	for (uint32_t i = 0; i < b->unlink_n; i++)
		if (index_txn_get_blob(ix, b->unlink[i], &blob) == MDB_NOTFOUND)
			memmove(b->unlink[kept_n++], b->unlink[i], 32);
	b->unlink_n = kept_n;
}

/* Writes the state and commits, if anything was written. On failure nothing has happened. */
int
index_batch_commit(struct index *ix)
{
	uint8_t out[RECORD_STATE_BYTES];
	struct index_batch *b = &ix->batch;
	int rc = atomic_exchange(&ix->test_commit_rc, 0);

	if (rc == 0)
		rc = atomic_load(&ix->test_commit_fails);
	index_batch_spare_files(ix);
	if (rc == 0 && b->state_changed) {
		size_t n = record_state_encode(out, &b->state);

		rc = index_txn_put(ix, INDEX_DB_META, "state", 5, out, n);
	}
	if (rc != 0 || !b->wrote)
		mdb_txn_abort(b->txn);
	else
		rc = mdb_txn_commit(b->txn);
	b->txn = NULL;
	return rc;
}

/* What was committed becomes what others see. */
void
index_batch_publish(struct index *ix)
{
	struct index_batch *b = &ix->batch;

	COUNT_ADD(index_commits_total, b->wrote);
	COUNT_ADD(blobs_stored_total, b->stored_n);
	COUNT_ADD(blobs_shared_total, b->shared_n);
	COUNT_ADD(partial_marks_total, b->marks_n);
	COUNT_ADD(cache_bytes, b->state.blob_bytes - ix->state.blob_bytes);
	COUNT_ADD(cache_blobs, b->state.blobs_n - ix->state.blobs_n);
	ix->state = b->state;
	atomic_store(&ix->blob_bytes, ix->state.blob_bytes);
	atomic_store(&ix->blobs_n, ix->state.blobs_n);
	atomic_store(&ix->sync_point, ix->state.seq);
	if (b->dropped)
		atomic_fetch_add_explicit(&ix->drops, 1, memory_order_release);
}

/* Files whose last record is gone, now that this is certain. */
static void
index_batch_unlink_files(struct index *ix)
{
	struct index_batch *b = &ix->batch;

	for (uint32_t i = 0; i < b->unlink_n; i++)
		if (blob_remove(ix->blobs, b->unlink[i]) != REASON_OK)
			COUNT(index_errors_total); /* swept after the next unclean stop */
	b->unlink_n = 0;
}

bool
index_state_commit(struct index *ix, const struct record_state *st)
{
	uint32_t format = RECORD_FORMAT;
	int rc = index_batch_begin(ix);

	if (rc == 0)
		rc = index_txn_put(ix, INDEX_DB_META, "format", 6, &format, sizeof(format));
	if (rc != 0) {
		if (ix->batch.txn != NULL)
			mdb_txn_abort(ix->batch.txn);
	} else {
		ix->batch.state = *st;
		ix->batch.state_changed = true;
		rc = index_batch_commit(ix);
	}
	if (rc == 0)
		ix->state = *st;
	else
		log_error("index: %s", mdb_strerror(rc));
	return rc == 0;
}

/* Counts a failed transaction; says so now and then; replaces an environment that can't go on. */
void
index_note_error(struct index *ix, int rc)
{
	int64_t now_ms = clock_mono_ms();

	COUNT(index_errors_total);
	ix->errors_unlogged_n++;
	if (ix->error_logged_ms == 0 || now_ms - ix->error_logged_ms >= INDEX_ERROR_LOG_MS) {
		log_error("index: %s (%llu failed since the last such line): "
		    "bodies are served but not stored", mdb_strerror(rc),
		    (unsigned long long)ix->errors_unlogged_n);
		ix->error_logged_ms = now_ms;
		ix->errors_unlogged_n = 0;
	}
	if (rc != MDB_PANIC || now_ms < ix->reopen_ms)
		return;
	ix->reopen_ms = now_ms + INDEX_REOPEN_MS;
	rc = index_env_replace(ix);
	if (rc == 0)
		log_notice("index: opened again after an error");
}

/* Does this change need a transaction at all? */
static bool
index_op_writes(const struct index_op *op)
{
	return !op->skip && op->kind != INDEX_OP_FLUSH && op->kind != INDEX_OP_FAILED;
}

/* Applies a list of changes (up to, not including, end) in one transaction. */
static int
index_batch_try(struct index *ix, struct index_op *first, const struct index_op *end)
{
	int rc = index_batch_begin(ix);

	for (struct index_op *op = first; op != end && rc == 0; op = op->next) {
		if (!index_op_writes(op))
			continue;
		op->result = REASON_OK;
		rc = index_apply(ix, op);
	}
	if (rc == 0)
		rc = index_batch_commit(ix);
	else if (ix->batch.txn != NULL)
		mdb_txn_abort(ix->batch.txn);
	ix->batch.txn = NULL;
	if (rc == 0) {
		index_batch_publish(ix);
		index_env_reserve(ix);
	} else
		ix->batch.unlink_n = 0;		/* their records are still there */
	return rc;
}

/*
 * A change failed for good. A stored body that no record names must not stay.
 * A dropped one goes even so, for it may be what fills the disk: its record
 * then names a file that is not there, which is a miss.
 */
static void
index_op_fail(struct index *ix, struct index_op *op, enum reason r)
{
	const uint8_t *digest = NULL;

	op->result = r;
	if (op->kind == INDEX_OP_STORE && op->adopted && !op->shared)
		digest = op->object.digest;
	if (op->kind == INDEX_OP_DROP_BLOB)
		digest = op->digest;
	if (digest != NULL && blob_remove(ix->blobs, digest) != REASON_OK)
		COUNT(index_errors_total);
}

/* One change at a time, each in its own transaction. */
static void
index_batch_retry(struct index *ix, struct index_op *first)
{
	for (struct index_op *op = first; op != NULL; op = op->next) {
		int rc;

		if (!index_op_writes(op))
			continue;
		rc = index_batch_try(ix, op, op->next);
		if (rc != 0) {
			index_note_error(ix, rc);
			index_op_fail(ix, op, index_rc_reason(rc));
		}
		index_batch_unlink_files(ix);
	}
}

/* Of several confirmations of one record only the last is written. */
static void
index_batch_merge(struct index_op *first)
{
	struct index_op *last[256] = {NULL};

	for (struct index_op *op = first; op != NULL; op = op->next) {
		struct index_op **slot = &last[op->key.b[0]];

		if (op->kind != INDEX_OP_CONFIRM)
			continue;
		if (*slot != NULL && memcmp(&(*slot)->key, &op->key, sizeof(op->key)) == 0 &&
		    memcmp((*slot)->object.digest, op->object.digest, 32) == 0)
			(*slot)->skip = true;
		*slot = op;
	}
}

/* ---- outcomes ---- */

/* Remembered records of this key are no longer good. */
static void
index_op_bump(struct index *ix, const struct index_op *op)
{
	uint16_t bucket;

	memcpy(&bucket, op->key.b, sizeof(bucket));
	atomic_fetch_add_explicit(&ix->versions[bucket], 1, memory_order_release);
}

/* Versions, outcomes, memory. Flushes report last: they promise unlinks and last-used times too. */
static void
index_batch_finish(struct index *ix, struct index_op *first)
{
	struct index_op *op, *next;
	bool flush = false;

	for (op = first; op != NULL; op = op->next)
		index_op_bump(ix, op);
	for (op = first; op != NULL; op = op->next) {
		flush |= op->kind == INDEX_OP_FLUSH;
		if (op->done != NULL && op->kind != INDEX_OP_FLUSH) {
			op->done(op->arg, op->result);
			op->done = NULL;
		}
	}
	index_batch_unlink_files(ix);
	if (flush) {
		index_touch_drain(ix);
		index_touch_flush(ix, 1);
	}
	for (op = first; op != NULL; op = next) {
		next = op->next;
		if (op->done != NULL)
			op->done(op->arg, op->result);
		index_op_free(ix, op);
	}
}

/* One batch, from application to outcomes. */
void
index_batch_run(struct index *ix, struct index_op *first)
{
	bool writes = false;

	index_batch_merge(first);
	for (const struct index_op *op = first; op != NULL; op = op->next)
		writes |= index_op_writes(op);
	ix->batch.unlink_n = 0;
	if (writes) {
		int rc = index_batch_try(ix, first, NULL);

		if (rc != 0) {
			index_note_error(ix, rc);
			index_batch_retry(ix, first);
		}
		index_env_look(ix);
	}
	index_batch_finish(ix, first);
}
