/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef HELLO_H
#define HELLO_H
/* The server name that a TLS client asks for, read from its first bytes (RFC 8446, RFC 6066). */
#include <stddef.h>

#include "include/slice.h"

enum { HELLO_BYTES_MAX = 32 << 10 };	/* of records; a longer one is refused */

enum hello_result {
	HELLO_NAMED,	/* *name is set */
	HELLO_NAMELESS,	/* well-formed, but it names no host */
	HELLO_MORE,	/* the rest has not come yet */
	HELLO_BAD,	/* no ClientHello, or too long */
};

/*
 * Reads what has come so far. The message is put together in scratch
 * (HELLO_BYTES_MAX), where *name lies. Pure.
 */
enum hello_result hello_parse(const void *bytes, size_t n, char *scratch, struct slice *name);

#endif
