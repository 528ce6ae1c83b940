/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef HTTPDATE_H
#define HTTPDATE_H
/* Dates of HTTP. No I/O. */
#include <stdbool.h>
#include <stdint.h>

#include "include/slice.h"

enum { HTTP_DATE_BYTES = 30 };	/* "Sun, 06 Nov 1994 08:49:37 GMT" and NUL */
#define HTTP_NO_DATE INT64_MIN

/* IMF-fixdate, RFC 9110 5.6.7. The last date formatted is remembered per thread. */
void http_date_format(int64_t unix_s, char out[HTTP_DATE_BYTES]);
/* All three formats of RFC 9110 5.6.7; HTTP_NO_DATE when it is none. */
int64_t http_date_parse(struct slice s);
/* True only for the IMF-fixdate form, which is all that apt's clients accept in Last-Modified. */
bool http_date_is_imf(struct slice s);

#endif
