/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef PROVENANCE_H
#define PROVENANCE_H
/*
 * Where a stored body came from, and what it was compared with before it was
 * stored: kept with the body, for people who ask.
 */
#include <stdint.h>

enum provenance_way {
	PROVENANCE_UNKNOWN,		/* its record was lost, or is of an earlier version */
	PROVENANCE_ORIGIN,		/* the origin, at this address */
	PROVENANCE_PARENT,		/* the parent proxy at this address */
	PROVENANCE_UNPACKED,		/* another compression of the same index, that was stored */
	PROVENANCE_IMPORTED,		/* a directory */
};

enum provenance_proof {
	PROVENANCE_UNPROVEN,		/* nothing said what it must be */
	PROVENANCE_NAME,		/* the digest in its by-hash name */
	PROVENANCE_LISTED,		/* the digest and size that a repository lists */
};

struct provenance {
	enum provenance_way way;
	enum provenance_proof proof;
	uint8_t address[16];		/* IPv6, or IPv4 mapped into it; ORIGIN, PARENT */
	uint16_t port;
};

#endif
