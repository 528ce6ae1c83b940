/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Arbitrary bytes as what a client sends: the end of the head must not
 * depend on how the bytes trickle in, and what the parser accepts must keep
 * its promises and be accepted by everything that reads it afterwards.
 */
#include <stdint.h>

#include "proxy/httpcond.h"
#include "proxy/httpreq.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Lies a slice in the head, without bytes that could end a line? */
static void
fuzz_check_slice(struct slice s, const char *head, size_t head_n)
{
	if (s.p == NULL)
		return;
	MUST(s.p >= head && s.n <= head_n && (size_t)(s.p - head) <= head_n - s.n);
	for (size_t i = 0; i < s.n; i++)
		MUST(s.p[i] != '\r' && s.p[i] != '\n' && s.p[i] != '\0');
}

/* The promises of a head that was accepted. */
static void
fuzz_check_request(const struct httpreq *r, const char *head, size_t head_n)
{
	struct slice members[] = {r->method_text, r->target, r->host, r->range, r->if_range,
	    r->if_none_match, r->if_modified_since, r->if_match, r->if_unmodified_since,
	    r->authorization, r->user_agent, r->via};
	struct httpcond_object obj = {SLICE("\"a\""), 784111777, 1000, false};
	struct httpcond_verdict v;

	for (size_t i = 0; i < NELEM(members); i++)
		fuzz_check_slice(members[i], head, head_n);
	MUST(r->target.n > 0 && r->target.n <= HTTPREQ_TARGET_MAX);
	MUST(r->minor <= 1 && r->fields_n <= HTTPREQ_FIELDS_MAX && r->cc_max_age_s >= -1);
	MUST(r->minor == 0 || r->host.p != NULL);
	for (unsigned i = 0; i < r->fields_n; i++) {
		struct slice rest = r->fields[i].value, element;

		MUST(http_is_token(r->fields[i].name));
		fuzz_check_slice(r->fields[i].value, head, head_n);
		while (http_list_next(&rest, &element))
			MUST(element.n > 0);
	}
	httpcond_evaluate(r, &obj, &v);
	MUST(v.status == 200 || v.status == 206 || v.status == 304 || v.status == 412 ||
	    v.status == 416);
	MUST(v.status != 206 || (v.first < v.end && v.end <= 1000));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *buf = (const char *)data;
	size_t scanned = 0, end = httpreq_head_end(buf, n, &scanned), trickled = 0;
	static struct httpreq r;
	char *head;

	scanned = 0;
	for (size_t i = 0; i <= n && trickled == 0; i++)
		trickled = httpreq_head_end(buf, i, &scanned);
	MUST(trickled == end && end <= n);
	if (end == 0)
		end = n;
	head = malloc(end != 0 ? end : 1);
	AN(head);
	memcpy(head, buf, end);
	if (httpreq_parse(&r, head, end) == REASON_OK) {
		MUST(trickled != 0);
		fuzz_check_request(&r, head, end);
	}
	free(head);
	return 0;
}
