/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef HTTPCOND_H
#define HTTPCOND_H
/*
 * What a request's preconditions and Range mean for an object: RFC 9110
 * sections 13.2.2 and 14.2, as a pure function.
 */
#include <stdbool.h>
#include <stdint.h>

#include "proxy/httpreq.h"

struct httpcond_object {
	struct slice etag;		/* with quotes, W/ allowed; empty: none */
	int64_t last_modified;		/* seconds; HTTP_NO_DATE: none */
	int64_t size_bytes;		/* -1: not known yet */
	bool validators_shared;		/* other bytes had them: If-Range never applies */
	bool exact_dates;		/* repository files: If-Modified-Since must be equal */
};

struct httpcond_verdict {
	int status;			/* 200, 206, 304, 412 or 416 */
	uint64_t first, end;		/* 206: bytes [first, end) */
};

/*
 * Range: one range of unit bytes; several, another unit or one that can't be
 * read are ignored (200). With size unknown a Range is ignored. If-Range takes
 * a strong ETag or a date that is equal; anything else means 200 in full. An
 * If-Modified-Since where the object has no Last-Modified means 200.
 */
void httpcond_evaluate(const struct httpreq *req, const struct httpcond_object *obj,
    struct httpcond_verdict *out);

/* Reads a single `bytes=` range against a size: 206 with [first, end), 416, or 200: ignore it. */
int range_parse(struct slice range, uint64_t size_bytes, uint64_t *first, uint64_t *end);

#endif
