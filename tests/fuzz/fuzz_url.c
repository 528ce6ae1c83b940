/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Fuzzes canonical URLs. Input: a base URL, a line end, a Location. Whatever is
 * accepted must be canonical for good: building it again changes nothing.
 */
#include "include/aptfile.h"
#include "include/key.h"
#include "include/obj.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char memory[65536];

/* What every accepted URL promises. */
static void
url_check(const struct url *u)
{
	static char again_memory[65536];
	struct arena a;
	struct url again;
	struct aptfile af;
	struct slice path;
	size_t i;

	for (i = 0; i < u->text.n; i++)
		MUST((unsigned char)u->text.p[i] > ' ' && u->text.p[i] != 0x7f);
	AZ(u->text.p[u->text.n]);
	AN(u->host.n);
	AN(u->port);
	MUST(u->path.n >= 1 && u->path.p[0] == '/');
	AZ(memmem(u->path.p, u->path.n, "#", 1));
	arena_init(&a, again_memory, sizeof(again_memory));
	AZ(url_parse(&again, &a, u->text));
	MUST(slice_eq(again.text, u->text));
	MUST(slice_eq(again.host, u->host));
	MUST(again.port == u->port && again.tls == u->tls);
	/* The form that origins get names the same object. */
	path = url_upstream_path(u, &a);
	AN(path.p);
	AZ(url_build(&again, &a, u->tls, u->authority, path));
	MUST(slice_eq(again.text, u->text));
	aptfile_classify(&af, u->path);
	MUST(slice_starts(u->path, af.root));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = {(const char *)data, size}, location = SLICE_NONE;
	const char *end = size != 0 ? memchr(data, '\n', size) : NULL;
	struct arena a;
	struct url base, u;

	if (size > 8192)
		return 0;
	if (end != NULL) {
		text.n = (size_t)(end - text.p);
		location = (struct slice){end + 1, size - text.n - 1};
	}
	arena_init(&a, memory, sizeof(memory));
	if (url_parse(&base, &a, text) != REASON_OK)
		return 0;
	url_check(&base);
	if (end != NULL && url_resolve(&u, &a, &base, location) == REASON_OK)
		url_check(&u);
	return 0;
}
