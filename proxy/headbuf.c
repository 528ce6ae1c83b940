/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Heads to send. Workers build their answers over memory of their own.
 */
#include "proxy/headbuf.h"

#include <stdarg.h>
#include <stdio.h>

#include "proxy/httpdate.h"

/* Starts an empty head. */
void
headbuf_init(struct headbuf *h, char *memory, size_t cap)
{
	*h = (struct headbuf){.p = memory, .cap = cap};
}

/* Makes room for n bytes and returns where they go, or NULL from the first that don't fit on. */
static char *
headbuf_reserve(struct headbuf *h, size_t n)
{
	char *at;

	MUST(h->n <= h->cap);
	if (h->overflow || n > h->cap - h->n) {
		h->overflow = true;
		return NULL;
	}
	at = h->p + h->n;
	h->n += n;
	return at;
}

/* Appends text. */
void
headbuf_text(struct headbuf *h, struct slice s)
{
	char *at = headbuf_reserve(h, s.n);

	if (at != NULL && s.n != 0)
		memcpy(at, s.p, s.n);
}

/* Appends text without the bytes that would end the line it is in. */
static void
headbuf_line_text(struct headbuf *h, struct slice s)
{
	char *at = headbuf_reserve(h, s.n), *start = at;

	if (at == NULL)
		return;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] != '\r' && s.p[i] != '\n' && s.p[i] != '\0')
			*at++ = s.p[i];
	h->n -= s.n - (size_t)(at - start);
}

/* Writes v in decimal so that it ends right before `end`; returns where it starts. */
static char *
headbuf_decimal(char *end, uint64_t v)
{
	do {
		*--end = (char)('0' + v % 10);
		v /= 10;
	} while (v != 0);
	return end;
}

/* Writes the status line. */
void
headbuf_status(struct headbuf *h, int status, struct slice phrase)
{
	char digits[3];

	MUST(status >= 100 && status <= 999);
	AZ(h->n);
	(void)headbuf_decimal(digits + sizeof(digits), (uint64_t)status);
	headbuf_text(h, SLICE("HTTP/1.1 "));
	headbuf_text(h, (struct slice){digits, sizeof(digits)});
	headbuf_text(h, SLICE(" "));
	headbuf_line_text(h, phrase.n != 0 ? phrase : slice_of(http_phrase(status)));
	headbuf_text(h, SLICE("\r\n"));
}

/* Writes a field. */
void
headbuf_field(struct headbuf *h, struct slice name, struct slice value)
{
	headbuf_text(h, name);
	headbuf_text(h, SLICE(": "));
	headbuf_line_text(h, value);
	headbuf_text(h, SLICE("\r\n"));
}

/* Writes a field whose value is a number. */
void
headbuf_field_u64(struct headbuf *h, struct slice name, uint64_t value)
{
	char digits[20], *end = digits + sizeof(digits), *at = headbuf_decimal(end, value);

	headbuf_field(h, name, (struct slice){at, (size_t)(end - at)});
}

/* Writes a field whose value is a date. */
void
headbuf_field_date(struct headbuf *h, struct slice name, int64_t unix_s)
{
	char text[HTTP_DATE_BYTES];

	http_date_format(unix_s, text);
	headbuf_field(h, name, (struct slice){text, HTTP_DATE_BYTES - 1});
}

/* Appends formatted text as it is: peers' text goes through headbuf_field. */
void
headbuf_printf(struct headbuf *h, const char *fmt, ...)
{
	size_t room = h->cap - h->n;
	va_list ap;
	int n;

	if (h->overflow)
		return;
	va_start(ap, fmt);
	n = vsnprintf(h->p + h->n, room, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room)
		h->overflow = true;
	else
		h->n += (size_t)n;
}

/* Ends the head. */
void
headbuf_end(struct headbuf *h)
{
	headbuf_text(h, SLICE("\r\n"));
}

/* Did everything fit? */
bool
headbuf_ok(const struct headbuf *h)
{
	return !h->overflow;
}

/* The standard phrase of a status. */
const char *
http_phrase(int status)
{
	static const struct {
		int status;
		const char *phrase;
	} phrases[] = {
		{200, "OK"}, {206, "Partial Content"}, {304, "Not Modified"},
		{404, "Not Found"}, {416, "Range Not Satisfiable"}, {502, "Bad Gateway"},
		{503, "Service Unavailable"}, {504, "Gateway Timeout"},
		{100, "Continue"}, {101, "Switching Protocols"}, {201, "Created"},
		{202, "Accepted"}, {203, "Non-Authoritative Information"}, {204, "No Content"},
		{205, "Reset Content"}, {300, "Multiple Choices"}, {301, "Moved Permanently"},
		{302, "Found"}, {303, "See Other"}, {305, "Use Proxy"},
		{307, "Temporary Redirect"}, {308, "Permanent Redirect"},
		{400, "Bad Request"}, {401, "Unauthorized"}, {402, "Payment Required"},
		{403, "Forbidden"}, {405, "Method Not Allowed"}, {406, "Not Acceptable"},
		{407, "Proxy Authentication Required"}, {408, "Request Timeout"},
		{409, "Conflict"}, {410, "Gone"}, {411, "Length Required"},
		{412, "Precondition Failed"}, {413, "Content Too Large"},
		{414, "URI Too Long"}, {415, "Unsupported Media Type"},
		{417, "Expectation Failed"}, {421, "Misdirected Request"},
		{422, "Unprocessable Content"}, {425, "Too Early"}, {426, "Upgrade Required"},
		{428, "Precondition Required"}, {429, "Too Many Requests"},
		{431, "Request Header Fields Too Large"},
		{451, "Unavailable For Legal Reasons"}, {500, "Internal Server Error"},
		{501, "Not Implemented"}, {505, "HTTP Version Not Supported"},
		{507, "Insufficient Storage"}, {508, "Loop Detected"},
		{511, "Network Authentication Required"},
	};

	for (size_t i = 0; i < NELEM(phrases); i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "Unknown";
}
