/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CONFIG_FIELDS_H
#define CONFIG_FIELDS_H
/*
 * struct config and struct config_upstream, made from option.def. Include
 * config.h, which defines what the fields need.
 */

/* An amount of disk: the smaller of a number of bytes and a part of the file system. */
struct config_space {
	uint64_t bytes;		/* UINT64_MAX: no such limit */
	unsigned percent;	/* 100: no such limit */
};

/* The amount in bytes on a file system of this size. */
uint64_t config_resolve_size(const struct config_space *space, uint64_t fs_bytes);

#define FIELD_SIZE uint64_t
#define FIELD_TIME int64_t
#define FIELD_COUNT uint64_t
#define FIELD_BOOL bool
#define FIELD_ENUM(tag) enum tag
#define FIELD_TEXT char *
#define FIELD_LIST struct strlist
#define FIELD_CIDRS struct cidrset
#define FIELD_GLOBS struct globset
#define FIELD_PORTS struct portset
#define FIELD_SPACE struct config_space

#define FIELD_IF_GLOBAL(...)
#define FIELD_IF_UPSTREAM(...) __VA_ARGS__

/* Owned by the config or by one of its sections: the text and lists here are borrowed. */
struct config_upstream {
#define S(title)
#define O(name, type, scope, reload, def, range, check, help)           \
	FIELD_IF_##scope(FIELD_##type name;)
#include "include/option.def"
#undef O
#undef S
};

struct config_section;	/* one [upstream "glob"], see config_upstream.c */
struct config_mixes;	/* hosts that more than one section matches */

/* Read-only once it is loaded, apart from the mixes, which have a lock. */
struct config {
	uint32_t magic;
	struct config *before;	/* whose place it took while the depot ran */
#define S(title)
#define O(name, type, scope, reload, def, range, check, help)           \
	FIELD_##type name;
#include "include/option.def"
#undef O
#undef S
	struct config_upstream upstream;	/* the global values of what a section may set */
	struct config_section *sections;	/* in the file's order */
	size_t sections_n;
	struct config_mixes *mixes;
};

#undef FIELD_SIZE
#undef FIELD_TIME
#undef FIELD_COUNT
#undef FIELD_BOOL
#undef FIELD_ENUM
#undef FIELD_TEXT
#undef FIELD_LIST
#undef FIELD_CIDRS
#undef FIELD_GLOBS
#undef FIELD_PORTS
#undef FIELD_SPACE
#undef FIELD_IF_GLOBAL
#undef FIELD_IF_UPSTREAM

#endif
