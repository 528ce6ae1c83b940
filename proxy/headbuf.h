/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef HEADBUF_H
#define HEADBUF_H
/* Response heads to send. No I/O. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/obj.h"
#include "include/slice.h"

/* A head being put together in the caller's memory. Overflow sticks: ask headbuf_ok at last. */
struct headbuf {
	char *p;
	size_t n, cap;
	bool overflow;
};

void headbuf_init(struct headbuf *h, char *memory, size_t cap);
/* phrase empty: the standard one */
void headbuf_status(struct headbuf *h, int status, struct slice phrase);
/* As it is. */
void headbuf_text(struct headbuf *h, struct slice s);
/* Adds CRLF; drops CR, LF and NUL in the value. */
void headbuf_field(struct headbuf *h, struct slice name, struct slice value);
void headbuf_field_u64(struct headbuf *h, struct slice name, uint64_t value);
void headbuf_field_date(struct headbuf *h, struct slice name, int64_t unix_s);
void headbuf_printf(struct headbuf *h, const char *fmt, ...) PRINTF_LIKE(2, 3);
void headbuf_end(struct headbuf *h);	/* the empty line */
bool headbuf_ok(const struct headbuf *h);
/* "Partial Content"; "Unknown" for what has no standard phrase. */
const char *http_phrase(int status);

#endif
