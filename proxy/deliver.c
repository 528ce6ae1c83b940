/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The sending end. Bodies go by sendfile, and where several clients read one
 * at a time from copies that they share (cache/window.h). Through TLS they go
 * by sendfile where the kernel encrypts, and otherwise through the worker's
 * scratch memory. Before bytes of a stored body are sent that were not sent
 * lately, one byte at the end of the next window is read with RWF_NOWAIT:
 * when that would have to wait for the disk, the caller has the window read
 * by a pool thread first.
 */
#include "proxy/deliver.h"

#include <errno.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

#include "include/counter.h"
#include "proxy/worker.h"

enum {
	/* At most this much a turn: what a send buffer holds at most. */
	DELIVER_TURN_BYTES = 4 << 20,
	/*
	 * By sendfile: small turns, so that all readers of a flight send what has just come while
	 * it is in the CPU's cache.
	 */
	DELIVER_SENDFILE_BYTES = 256 << 10,
	/* A client that takes so much in so little time makes copies worth it. */
	DELIVER_FAST_BYTES = 8 << 20,
	DELIVER_FAST_MS = 500,
	/* Through TLS: a turn is as long in time as the above; pieces stay in the CPU's cache. */
	DELIVER_SEALED_TURN_BYTES = 512 << 10,
	DELIVER_SEALED_BYTES = 128 << 10,
	DELIVER_WINDOW_BYTES = 4 << 20,	/* probed and read ahead at a time */
	DELIVER_COPY_BYTES = 64 << 10,	/* bodies up to this are copied behind their head */
	DELIVER_CHUNK_BYTES = 64 << 10,	/* payload of one chunk */
	DELIVER_CHUNK_EXTRA = 32,	/* size line and line ends */
};

/* Notes that n bytes were taken by the socket. */
static void
deliver_progress(struct req *req, uint64_t n)
{
	struct conn *c = req->c;

	if (n == 0)
		return;
	if (req->first_byte_ms == 0)
		req->first_byte_ms = c->w->now_ms;
	conn_sent(c, n);
	c->state_ms = c->w->now_ms;	/* the client reads: its time starts again */
}

/* Body bytes went out. */
static void
deliver_count_body(struct req *req, uint64_t n)
{
	int64_t now_ms = req->c->w->now_ms;

	req->at += n;
	req->sent_bytes += n;
	COUNT_ADD(sent_body_bytes_total, n);
	if (req->sent_bytes - req->fast_at < DELIVER_FAST_BYTES)
		return;
	/* The first bytes may only have filled the send buffer; this many are more than it holds. */
	req->fast = now_ms - (req->fast_at > 0 ? req->fast_ms : req->first_byte_ms) <= DELIVER_FAST_MS;
	req->fast_at = req->sent_bytes;
	req->fast_ms = now_ms;
}

/* What a failed send means. */
static enum deliver_result
deliver_errno(struct conn *c)
{
	if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM) {
		c->can_write = false;
		return DELIVER_BLOCKED;
	}
	return DELIVER_GONE;
}

/* Sends bytes from memory; what the socket does not take is kept in c->out. */
static enum deliver_result
deliver_memory(struct req *req, const char *p, size_t n, int flags)
{
	struct conn *c = req->c;
	ssize_t k = conn_send(c, p, n, flags);

	if (k < 0) {
		if (deliver_errno(c) == DELIVER_GONE)
			return DELIVER_GONE;
		k = 0;
	}
	deliver_progress(req, (uint64_t)k);
	if ((size_t)k == n)
		return DELIVER_DONE;
	c->can_write = false;
	c->out = malloc(n - (size_t)k);
	if (c->out == NULL)
		return DELIVER_GONE;
	memcpy(c->out, p + k, n - (size_t)k);
	c->out_n = n - (size_t)k;
	c->out_at = 0;
	return DELIVER_BLOCKED;
}

/* Sends what an earlier call had to keep. */
static enum deliver_result
deliver_kept(struct req *req)
{
	struct conn *c = req->c;
	ssize_t k;

	while (c->out_at < c->out_n) {
		k = conn_send(c, c->out + c->out_at, c->out_n - c->out_at, 0);
		if (k < 0)
			return deliver_errno(c);
		deliver_progress(req, (uint64_t)k);
		c->out_at += (size_t)k;
	}
	free(c->out);
	c->out = NULL;
	c->out_n = c->out_at = 0;
	return DELIVER_DONE;
}

/* Do other fast clients read what this fast one reads? */
static bool
deliver_shares(const struct req *req)
{
	return req->fast && (req->source == SOURCE_FLIGHT ? cache_flight_is_shared(&req->reader) :
	    object_is_shared(req->object));
}

/* Where the bytes of a body are, up to n of them in one piece; `copy`: copied if need be. */
static struct flight_span
deliver_span(struct req *req, uint64_t n, bool copy)
{
	struct worker *w = req->c->w;
	struct flight_span span;

	if (req->source == SOURCE_FLIGHT) {
		span = flight_reader_span(&req->reader, req->at, n);
		if (span.p == NULL)
			span.p = cache_flight_bytes(w->view, &req->reader, req->at, &span.n,
			    copy, w->now_ms);
		return span;
	}
	span.p = object_bytes(req->object, req->at, &n, copy, w->now_ms);
	span.fd = object_fd(req->object);
	span.n = n;
	return span;
}

/* Copies n bytes of the body; fewer at its end, -1: can't be read. */
static ssize_t
deliver_copy(struct req *req, char *to, size_t n)
{
	struct flight_span span = deliver_span(req, n, false);

	if (span.p == NULL)
		return pread(span.fd, to, (size_t)span.n, (off_t)req->at);
	memcpy(to, span.p, (size_t)span.n);
	return (ssize_t)span.n;
}

/* How far the body may be sent now; *final: and nothing comes after that. */
static uint64_t
deliver_limit(const struct req *req, bool *final)
{
	struct flight *f = req->reader.f;
	enum flight_state s;
	uint64_t n;

	*final = true;
	if (req->source != SOURCE_FLIGHT)
		return req->end;
	s = flight_state(f);	/* before the bytes: COMPLETE then means that these are all */
	n = flight_readable(&req->reader, req->at);
	if (s == FLIGHT_HELD) {
		*final = false;
		return req->at;		/* the bytes that there are turned out to be wrong */
	}
	if (s == FLIGHT_COMPLETE)
		return req->end_known >= 0 && req->end < n ? req->end : n;
	*final = s == FLIGHT_FAILED;
	return req->end_known >= 0 && req->end < n ? req->end : n;
}

uint64_t
deliver_window_end(const struct req *req)
{
	return req->end - req->at > DELIVER_WINDOW_BYTES ? req->at + DELIVER_WINDOW_BYTES : req->end;
}

/* True when the next window of a stored body would have to come from the disk. */
static bool
deliver_is_cold(struct req *req)
{
	struct iovec iov;
	uint64_t end;
	char byte;

	if (req->source != SOURCE_OBJECT || req->at < req->probed)
		return false;
	end = deliver_window_end(req);
	if (object_warm(req->object) && object_size(req->object) <= DELIVER_WINDOW_BYTES) {
		req->probed = end;
		return false;
	}
	iov = (struct iovec){&byte, 1};
	if (preadv2(object_fd(req->object), &iov, 1, (off_t)(end - 1), RWF_NOWAIT) < 0 &&
	    errno == EAGAIN)
		return true;
	req->probed = end;
	object_set_warm(req->object, true);
	return false;
}

/* One piece of a body through TLS. */
static enum deliver_result
deliver_sealed(struct req *req, uint64_t n)
{
	struct conn *c = req->c;
	struct flight_span span = {NULL, -1, n};
	ssize_t k, got = 0;

	if (req->source == SOURCE_OBJECT)
		span.fd = object_fd(req->object);
	else
		span = flight_reader_span(&req->reader, req->at, n);
	if (span.n == 0)
		return DELIVER_STARVED;
	if (span.p == NULL && tls_has_sendfile(c->tls))
		k = tls_sendfile(c->tls, span.fd, (off_t)req->at, (size_t)span.n);
	else {
		got = (ssize_t)(span.n < DELIVER_SEALED_BYTES ? span.n : DELIVER_SEALED_BYTES);
		if (span.p != NULL)
			memcpy(c->w->out, span.p, (size_t)got);
		else
			got = pread(span.fd, c->w->out, (size_t)got, (off_t)req->at);
		if (got <= 0)
			return DELIVER_CUT;
		k = tls_send(c->tls, c->w->out, (size_t)got);
	}
	if (k < 0)
		return deliver_errno(c);
	if (k == 0)
		return DELIVER_CUT;
	deliver_progress(req, (uint64_t)k);
	deliver_count_body(req, (uint64_t)k);
	if (k < got) {
		c->can_write = false;
		return DELIVER_BLOCKED;
	}
	return DELIVER_DONE;
}

/* One piece of a body, at most as much as is left of the turn. */
static enum deliver_result
deliver_piece(struct req *req, uint64_t n, uint64_t *budget)
{
	struct conn *c = req->c;
	bool shares = deliver_shares(req);
	struct flight_span span = deliver_span(req, n, shares && req->waived);
	off_t at = (off_t)req->at;
	ssize_t k;

	if (span.n == 0)
		return DELIVER_STARVED;	/* it was part of a body that moved to memory */
	/*
	 * Others may still use the copies that there are: they go first, come closer, and share the
	 * next one.
	 */
	if (shares && span.p == NULL && !req->waived) {
		req->waived = true;
		return DELIVER_TURN;
	}
	req->waived = false;
	if (span.p != NULL)
		/* short: the buffer is full */
		k = send(c->fd, span.p, (size_t)span.n, MSG_NOSIGNAL);
	else {
		/* By sendfile a turn is short: nothing more of it is left. */
		if (span.n > DELIVER_SENDFILE_BYTES)
			span.n = *budget = DELIVER_SENDFILE_BYTES;
		k = sendfile(c->fd, span.fd, &at, (size_t)span.n);
	}
	*budget -= span.n;
	if (k < 0)
		return deliver_errno(c);
	if (k == 0)
		return DELIVER_CUT;	/* shorter than its record says */
	deliver_progress(req, (uint64_t)k);
	deliver_count_body(req, (uint64_t)k);
	if (span.p != NULL && (uint64_t)k < span.n) {
		c->can_write = false;
		return DELIVER_BLOCKED;
	}
	return DELIVER_DONE;
}

/* A body whose length nobody knows: one chunk from memory, framed. */
static enum deliver_result
deliver_chunk(struct req *req, uint64_t n)
{
	char *p = req->c->w->out, line[DELIVER_CHUNK_EXTRA];
	ssize_t k;
	int line_n;

	if (n > DELIVER_CHUNK_BYTES)
		n = DELIVER_CHUNK_BYTES;
	k = deliver_copy(req, p + DELIVER_CHUNK_EXTRA, (size_t)n);
	if (k <= 0)
		return DELIVER_CUT;
	line_n = snprintf(line, sizeof(line), "%zx\r\n", (size_t)k);
	memcpy(p + DELIVER_CHUNK_EXTRA - line_n, line, (size_t)line_n);
	memcpy(p + DELIVER_CHUNK_EXTRA + k, "\r\n", 2);
	deliver_count_body(req, (uint64_t)k);
	return deliver_memory(req, p + DELIVER_CHUNK_EXTRA - line_n,
	    (size_t)line_n + (size_t)k + 2, 0);
}

/* All body bytes are out: the last chunk, where there are chunks. */
static enum deliver_result
deliver_finish(struct req *req)
{
	if (!req->chunked)
		return DELIVER_DONE;
	req->chunked = false;
	return deliver_memory(req, "0\r\n\r\n", 5, 0);
}

/* Piece after piece, for a turn. */
static enum deliver_result
deliver_turn(struct req *req)
{
	enum deliver_result r = DELIVER_DONE;
	uint64_t limit, n, budget = req->c->tls != NULL ? DELIVER_SEALED_TURN_BYTES :
	    DELIVER_TURN_BYTES;
	uint64_t allowed, was;
	bool final;

	if (req->c->out_n > 0) {
		r = deliver_kept(req);
		if (r != DELIVER_DONE)
			return r;
	}
	allowed = conn_allowance(req->c);
	if (allowed == 0)
		return DELIVER_PACED;
	if (budget > allowed)
		budget = allowed;
	for (;;) {
		limit = deliver_limit(req, &final);
		if (req->source == SOURCE_FLIGHT)
			switch (flight_follow(&req->reader, req->at)) {
			case FLIGHT_ON:
				break;
			case FLIGHT_MOVED:
				continue;
			case FLIGHT_LOST:
				return DELIVER_CUT;
			}
		if (req->at >= limit) {
			if (!final && !(req->end_known >= 0 && req->at >= req->end))
				return DELIVER_STARVED;
			if (req->source == SOURCE_FLIGHT &&
			    flight_state(req->reader.f) == FLIGHT_FAILED &&
			    !(req->end_known >= 0 && req->at >= req->end))
				return DELIVER_CUT;
			return deliver_finish(req);
		}
		if (budget == 0)
			return DELIVER_TURN;
		n = limit - req->at < budget ? limit - req->at : budget;
		if (deliver_is_cold(req))
			return DELIVER_COLD;
		if (req->chunked || req->c->tls != NULL) {
			was = req->at;
			r = req->chunked ? deliver_chunk(req, n) : deliver_sealed(req, n);
			n = req->at - was;
			budget = budget > n ? budget - n : 0;
		} else
			r = deliver_piece(req, n, &budget);
		if (r != DELIVER_DONE)
			return r;
	}
}

enum deliver_result
deliver_more(struct req *req)
{
	enum deliver_result r = deliver_turn(req);

	flight_rest(&req->reader);
	return r;
}

/* A small body behind its head, from memory; 0: it must go another way. */
static size_t
deliver_append_small(struct req *req, char *p)
{
	uint64_t n = req->end - req->at;
	bool final;

	if (req->chunked || n == 0 || n > DELIVER_COPY_BYTES ||
	    (req->source == SOURCE_OBJECT && (req->c->tls == NULL || deliver_is_cold(req))) ||
	    deliver_limit(req, &final) < req->end)
		return 0;
	if (req->source == SOURCE_TEXT)
		memcpy(p, req->text_body + req->at, (size_t)n);
	else if ((req->source == SOURCE_FLIGHT &&
	    flight_follow(&req->reader, req->at) != FLIGHT_ON) ||
	    deliver_copy(req, p, (size_t)n) != (ssize_t)n)
		n = 0;
	flight_rest(&req->reader);
	return (size_t)n;
}

enum deliver_result
deliver_start(struct req *req, size_t head_bytes)
{
	struct worker *w = req->c->w;
	size_t body = deliver_append_small(req, w->out + head_bytes);
	enum deliver_result r;
	bool final;

	if (body > 0) {
		/* Whatever the socket leaves is kept as bytes: the body counts as sent. */
		r = deliver_memory(req, w->out, head_bytes + body, 0);
		if (r == DELIVER_GONE)
			return r;
		deliver_count_body(req, body);
		return r == DELIVER_DONE ? deliver_finish(req) : r;
	}
	if (req->source == SOURCE_TEXT && req->at < req->end) {
		/* A long page: copied once more, which no hit ever is. */
		size_t n = (size_t)(req->end - req->at);
		char *all = malloc(head_bytes + n);

		if (all == NULL)
			return DELIVER_GONE;
		memcpy(all, w->out, head_bytes);
		memcpy(all + head_bytes, req->text_body + req->at, n);
		r = deliver_memory(req, all, head_bytes + n, 0);
		free(all);
		deliver_count_body(req, n);
		return r;
	}
	/* MSG_MORE only when more follows at once: the kernel would sit on the head for 200 ms. */
	r = deliver_memory(req, w->out, head_bytes, deliver_limit(req, &final) > req->at ?
	    MSG_MORE : 0);
	return r == DELIVER_DONE ? deliver_more(req) : r;
}
