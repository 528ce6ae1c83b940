/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The index's queue, which any thread may fill, and the writer thread that
 * empties it.
 *
 * Life of a change: index_store and its like copy it, text and all, into an
 * index_op and queue it; the writer gathers for a few milliseconds, takes up
 * to a batch and hands it to index_write.c, which applies it, calls `done`
 * and frees it. With nothing to do the writer sleeps without ticking; the
 * first touch of a blob wakes it, see index_touch.c.
 */
#include "cache/index_priv.h"
#include "include/clock.h"
#include "include/counter.h"

#include <errno.h>

/* ---- the queue ---- */

/* How long this change may be gathered with others. */
static int64_t
index_op_patience_ms(enum index_op_kind kind)
{
	switch (kind) {
	case INDEX_OP_STORE:
	case INDEX_OP_LINK:
	case INDEX_OP_DROP_BLOB:
	case INDEX_OP_REPO:
	case INDEX_OP_MARK_WRONG:
	case INDEX_OP_FAILED:
		return INDEX_SOON_MS;
	case INDEX_OP_FLUSH:
		return 0;
	case INDEX_OP_CONFIRM:
	case INDEX_OP_FORGET:
	case INDEX_OP_FORGET_DANGLING:
	case INDEX_OP_CLEAR_SUSPECT:
	case INDEX_OP_PARTIAL_BEGIN:
	case INDEX_OP_PARTIAL_MARK:
	case INDEX_OP_PARTIAL_END:
	case INDEX_OP_SYNCED:
	case INDEX_OP_RECORD_BLOB:
	case INDEX_OP_SWEEP_BLOB:
	case INDEX_OP_REBUILT:
		return INDEX_LAZY_MS;
	}
	WRONG("kind of index change");
}

/* A free spare, or NULL (lock held). */
static struct index_op *
index_spare_find(struct index *ix)
{
	for (unsigned i = 0; i < INDEX_SPARE_OPS; i++) {
		if (ix->spare_used[i])
			continue;
		ix->spare_used[i] = true;
		ix->spares[i] = (struct index_op){.kind = INDEX_OP_FAILED, .spare = true};
		return &ix->spares[i];
	}
	return NULL;
}

/* Memory is out: a change that somebody waits for becomes one that reports just that. */
static struct index_op *
index_op_new_spare(struct index *ix)
{
	struct index_op *op;

	AZ(pthread_mutex_lock(&ix->queue_lock));
	while ((op = index_spare_find(ix)) == NULL)
		AZ(pthread_cond_wait(&ix->spare_freed, &ix->queue_lock));
	AZ(pthread_mutex_unlock(&ix->queue_lock));
	op->result = REASON_NO_MEMORY;
	return op;
}

/* A change with room for text; NULL when memory is out and nobody waits for the outcome. */
static struct index_op *
index_op_new(struct index *ix, enum index_op_kind kind, size_t text_n, index_done_f *done,
    void *arg)
{
	struct index_op *op;

	CHECK_OBJ(ix, INDEX_MAGIC);
	op = malloc(sizeof(*op) + text_n);
	if (op != NULL) {
		memset(op, 0, sizeof(*op));
		op->kind = kind;
	} else {
		COUNT(index_errors_total);
		if (done == NULL)
			return NULL;
		op = index_op_new_spare(ix);
	}
	op->done = done;
	op->arg = arg;
	return op;
}

/* Gives the change's memory back. */
void
index_op_free(struct index *ix, struct index_op *op)
{
	if (!op->spare) {
		free(op);
		return;
	}
	AZ(pthread_mutex_lock(&ix->queue_lock));
	ix->spare_used[op - ix->spares] = false;
	AZ(pthread_cond_signal(&ix->spare_freed));
	AZ(pthread_mutex_unlock(&ix->queue_lock));
}

/* Hands a change to the writer, and wakes it when it would sleep for too long. */
static void
index_op_queue(struct index *ix, struct index_op *op)
{
	int64_t due_ms = clock_mono_ms() + index_op_patience_ms(op->kind);
	bool wake;

	op->next = NULL;
	AZ(pthread_mutex_lock(&ix->queue_lock));
	MUST(!ix->stopping || pthread_equal(pthread_self(), ix->writer));
	wake = ix->queue_n == 0 || due_ms < ix->due_ms;
	if (wake)
		ix->due_ms = due_ms;
	*ix->tail_p = op;
	ix->tail_p = &op->next;
	wake |= ++ix->queue_n == INDEX_BATCH_MAX;
	AZ(pthread_mutex_unlock(&ix->queue_lock));
	if (wake)
		AZ(sem_post(&ix->wake));
}

/* Copies the record's text behind the change. */
static void
index_op_keep_text(struct index_op *op, struct slice *text[3])
{
	char *at = (char *)(op + 1);

	for (unsigned i = 0; i < 3; i++) {
		if (text[i]->n != 0)
			memcpy(at, text[i]->p, text[i]->n);
		text[i]->p = at;
		at += text[i]->n;
	}
}

/* Queues a change of a URL. */
static void
index_object_queue(struct index *ix, enum index_op_kind kind, const struct key *key,
    const struct object_rec *rec, const void *bytes, index_done_f *done, void *arg)
{
	struct index_op *op = index_op_new(ix, kind, rec->url.n + rec->etag.n + rec->fields.n,
	    done, arg);

	if (op == NULL)
		return;
	if (!op->spare) {
		op->key = *key;
		op->object = *rec;
		op->bytes = bytes;
		index_op_keep_text(op, (struct slice *[]){&op->object.url, &op->object.etag,
		    &op->object.fields});
	}
	index_op_queue(ix, op);
}

void
index_store(struct index *ix, const struct key *key, const struct object_rec *rec,
    index_done_f *done, void *arg)
{
	index_object_queue(ix, INDEX_OP_STORE, key, rec, NULL, done, arg);
}

void
index_store_bytes(struct index *ix, const struct key *key, const struct object_rec *rec,
    const void *bytes, index_done_f *done, void *arg)
{
	index_object_queue(ix, INDEX_OP_STORE, key, rec, bytes, done, arg);
}

void
index_link(struct index *ix, const struct key *key, const struct object_rec *rec,
    index_done_f *done, void *arg)
{
	index_object_queue(ix, INDEX_OP_LINK, key, rec, NULL, done, arg);
}

void
index_confirm(struct index *ix, const struct key *key, const struct object_rec *rec)
{
	index_object_queue(ix, INDEX_OP_CONFIRM, key, rec, NULL, NULL, NULL);
}

/* Queues a change that has a key and nothing else. */
static void
index_key_queue(struct index *ix, enum index_op_kind kind, const struct key *key)
{
	struct index_op *op = index_op_new(ix, kind, 0, NULL, NULL);

	if (op == NULL)
		return;
	op->key = *key;
	index_op_queue(ix, op);
}

void
index_forget(struct index *ix, const struct key *key)
{
	index_key_queue(ix, INDEX_OP_FORGET, key);
}

void
index_forget_dangling(struct index *ix, const struct key *key)
{
	index_key_queue(ix, INDEX_OP_FORGET_DANGLING, key);
}

void
index_partial_end(struct index *ix, const struct key *key)
{
	index_key_queue(ix, INDEX_OP_PARTIAL_END, key);
}

void
index_mark_wrong(struct index *ix, const struct key *key)
{
	index_key_queue(ix, INDEX_OP_MARK_WRONG, key);
}

/* Queues a change of a blob. */
static void
index_digest_queue(struct index *ix, enum index_op_kind kind, const uint8_t digest[32],
    uint64_t number, int64_t mtime_ns, bool flag)
{
	struct index_op *op = index_op_new(ix, kind, 0, NULL, NULL);

	if (op == NULL)
		return;
	memcpy(op->digest, digest, sizeof(op->digest));
	op->number = number;
	op->mtime_ns = mtime_ns;
	op->mark = flag;
	index_op_queue(ix, op);
}

void
index_drop_blob(struct index *ix, const uint8_t digest[32])
{
	index_digest_queue(ix, INDEX_OP_DROP_BLOB, digest, 0, 0, false);
}

void
index_clear_suspect(struct index *ix, const uint8_t digest[32], int64_t mtime_ns)
{
	index_digest_queue(ix, INDEX_OP_CLEAR_SUSPECT, digest, 0, mtime_ns, false);
}

void
index_record_blob(struct index *ix, const uint8_t digest[32], const struct blob_stat *st,
    bool suspect)
{
	index_digest_queue(ix, INDEX_OP_RECORD_BLOB, digest, st->size_bytes, st->mtime_ns,
	    suspect);
}

void
index_sweep_blob(struct index *ix, const uint8_t digest[32])
{
	index_digest_queue(ix, INDEX_OP_SWEEP_BLOB, digest, 0, 0, false);
}

void
index_partial_begin(struct index *ix, const struct key *key, const struct partial_rec *rec)
{
	struct index_op *op = index_op_new(ix, INDEX_OP_PARTIAL_BEGIN,
	    rec->url.n + rec->etag.n + rec->fields.n, NULL, NULL);

	if (op == NULL)
		return;
	op->key = *key;
	op->partial = *rec;
	index_op_keep_text(op, (struct slice *[]){&op->partial.url, &op->partial.etag,
	    &op->partial.fields});
	index_op_queue(ix, op);
}

void
index_partial_mark(struct index *ix, const struct key *key, uint32_t mark,
    const uint8_t digest[32])
{
	struct index_op *op = index_op_new(ix, INDEX_OP_PARTIAL_MARK, 0, NULL, NULL);

	if (op == NULL)
		return;
	op->key = *key;
	op->mark = mark;
	memcpy(op->digest, digest, sizeof(op->digest));
	index_op_queue(ix, op);
}

void
index_put_repo(struct index *ix, const void *key, size_t key_n, const void *value,
    size_t value_n, index_done_f *done, void *arg)
{
	struct index_op *op = index_op_new(ix, INDEX_OP_REPO, value_n, done, arg);

	MUST(key_n <= INDEX_REPO_KEY_MAX && value_n <= INDEX_REPO_VALUE_MAX);
	if (op == NULL)
		return;
	if (!op->spare) {
		memcpy(op->repo_key, key, key_n);
		op->repo_key_n = (uint32_t)key_n;
		op->repo_value_n = (uint32_t)value_n;
		if (value_n != 0)
			memcpy(op + 1, value, value_n);
	}
	index_op_queue(ix, op);
}

/* Queues a change that has a number at most. */
static void
index_number_queue(struct index *ix, enum index_op_kind kind, uint64_t number)
{
	struct index_op *op = index_op_new(ix, kind, 0, NULL, NULL);

	if (op == NULL)
		return;
	op->number = number;
	index_op_queue(ix, op);
}

void
index_synced(struct index *ix, uint64_t sync_point)
{
	index_number_queue(ix, INDEX_OP_SYNCED, sync_point);
}

void
index_rebuilt(struct index *ix)
{
	index_number_queue(ix, INDEX_OP_REBUILT, 0);
}

void
index_wait_begin(struct index_wait *w)
{
	AZ(sem_init(&w->done, 0, 0));
}

void
index_wait_done(void *arg, enum reason r)
{
	struct index_wait *w = arg;

	w->r = r;
	AZ(sem_post(&w->done));
}

enum reason
index_wait_end(struct index_wait *w)
{
	while (sem_wait(&w->done) != 0)
		MUST(errno == EINTR);
	AZ(sem_destroy(&w->done));
	return w->r;
}

void
index_flush(struct index *ix)
{
	struct index_wait w;

	index_wait_begin(&w);
	index_op_queue(ix, index_op_new(ix, INDEX_OP_FLUSH, 0, index_wait_done, &w));
	(void)index_wait_end(&w);
}

/* ---- the thread ---- */

/* Sleeps until woken or until_ms (INT64_MAX: for ever). */
static void
index_writer_sleep(struct index *ix, int64_t now_ms, int64_t until_ms)
{
	struct timespec ts;
	int64_t left_ms = until_ms - now_ms;

	if (until_ms == INT64_MAX) {
		(void)sem_wait(&ix->wake);	/* EINTR is a wake-up like any other */
	} else if (left_ms > 0) {
		ts = clock_deadline(left_ms);
		(void)sem_clockwait(&ix->wake, CLOCK_MONOTONIC, &ts);
	}
	while (sem_trywait(&ix->wake) == 0)
		;
}

/* Takes up to a batch off the queue when it is due; NULL otherwise, with when that will be. */
static struct index_op *
index_writer_take(struct index *ix, int64_t now_ms, int64_t *due_ms, bool *stop)
{
	struct index_op *first = NULL, **end = &first;

	AZ(pthread_mutex_lock(&ix->queue_lock));
	*stop = ix->stopping && ix->queue_n == 0;
	*due_ms = ix->queue_n > 0 ? ix->due_ms : INT64_MAX;
	if (ix->queue_n > 0 &&
	    (now_ms >= ix->due_ms || ix->queue_n >= INDEX_BATCH_MAX || ix->stopping)) {
		first = ix->head;
		for (unsigned n = 0; n < INDEX_BATCH_MAX && *end != NULL; n++) {
			end = &(*end)->next;
			ix->queue_n--;
		}
		ix->head = *end;
		*end = NULL;
		if (ix->head == NULL)
			ix->tail_p = &ix->head;
		ix->due_ms = now_ms;	/* what is left has waited long enough */
	}
	AZ(pthread_mutex_unlock(&ix->queue_lock));
	return first;
}

static void *
index_writer_main(void *arg)
{
	struct index *ix = arg;
	struct index_op *batch;
	int64_t now_ms, due_ms, touch_ms;
	bool stop = false;

	CHECK_OBJ(ix, INDEX_MAGIC);
	(void)pthread_setname_np(pthread_self(), "index-writer");
	while (!stop) {
		now_ms = clock_mono_ms();
		touch_ms = index_touch_step(ix, now_ms);
		batch = index_writer_take(ix, now_ms, &due_ms, &stop);
		if (batch != NULL)
			index_batch_run(ix, batch);
		else if (!stop)
			index_writer_sleep(ix, now_ms, due_ms < touch_ms ? due_ms : touch_ms);
	}
	index_touch_drain(ix);
	index_touch_flush(ix, 1);
	return NULL;
}

enum reason
index_writer_start(struct index *ix)
{
	return pthread_create(&ix->writer, NULL, index_writer_main, ix) == 0 ? REASON_OK :
	    REASON_NO_MEMORY;
}

void
index_writer_stop(struct index *ix)
{
	AZ(pthread_mutex_lock(&ix->queue_lock));
	ix->stopping = true;
	AZ(pthread_mutex_unlock(&ix->queue_lock));
	AZ(sem_post(&ix->wake));
	AZ(pthread_join(ix->writer, NULL));
}
