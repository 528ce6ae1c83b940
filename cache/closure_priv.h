/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CLOSURE_PRIV_H
#define CLOSURE_PRIV_H
/* What closure.c (walks) and closure_model.c (reading, indexes) share. */
#include "cache/closure.h"
#include "cache/stanza.h"

#define CLOSURE_MAGIC 0xc1050001u
#define CLOSURE_WALK_MAGIC 0xc1050002u

/* A piece of the model's text. */
struct closure_text {
	uint32_t at, n;
};

struct closure_entry {
	struct closure_text name, version, filename, pre_depends, depends, recommends;
	uint64_t size_bytes;
	uint8_t sha256[32];
	uint16_t arch, list_arch;	/* places in archs */
	bool base;
};

struct closure_provided {
	struct closure_text name, version;	/* version.n == 0: any */
	uint32_t package;
};

enum { CLOSURE_ARCHS_MAX = 64, CLOSURE_ARCH_BYTES = 32, CLOSURE_VERSION_MAX = 256 };

struct closure {
	uint32_t magic;
	uint64_t max_bytes;
	char *text;
	size_t text_n, text_cap;
	uint32_t packages_n, packages_cap;
	struct closure_entry *packages;
	uint32_t provided_n, provided_cap;
	struct closure_provided *provided;	/* sorted by name, then place */
	uint32_t *by_name;			/* sorted by name, newest first */
	uint32_t *by_digest;
	uint64_t *edges;			/* needed << 32 | who needs it; sorted */
	size_t edges_n, edges_cap;
	uint64_t edges_steps_n;
	unsigned archs_n;
	char archs[CLOSURE_ARCHS_MAX][CLOSURE_ARCH_BYTES];	/* 0: "all" */
	uint16_t list_arch;
	/* While a list is read. */
	struct unpack *unpack;
	struct stanza_reader *stanzas;
	char why[CLOSURE_WHY_BYTES];
};

/* One alternative of a dependency. */
struct closure_relation {
	struct slice name, arch, op, version;	/* arch: behind the colon; op: "" none */
};

struct slice closure_slice(const struct closure *c, struct closure_text t);
struct slice closure_arch_name(const struct closure *c, uint16_t arch);
/* The next comma-separated group of a field; false: there is none. */
bool closure_next_group(struct slice *field, struct slice *group);
/* The next alternative of a group. */
bool closure_next_relation(struct slice *group, struct closure_relation *r);
bool closure_relation_allows(const struct closure_relation *r, struct slice version);
/* Places in by_name, and in provided, that have this name. */
void closure_name_range(const struct closure *c, struct slice name, uint32_t *from, uint32_t *to);
void closure_provided_range(const struct closure *c, struct slice name, uint32_t *from,
    uint32_t *to);
/*
 * What satisfies it best for a package of this architecture (an index in
 * archs); or NONE. Adds to *steps_n what looking cost.
 */
uint32_t closure_resolve(const struct closure *c, const struct closure_relation *r, uint16_t arch,
    uint64_t *steps_n);
/* The architecture that a package's dependencies are wanted in. */
uint16_t closure_wanted_arch(const struct closure_entry *e);
#endif
