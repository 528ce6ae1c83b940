/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef OBJ_H
#define OBJ_H
/*
 * Assertions and object checks. They stay in release builds: an invariant of
 * ours that does not hold ends the process with a report (proxy/panic.c sets
 * obj_panic), because after it nothing said to a client could be trusted.
 * Bytes that come from a socket, a file, the index or the configuration are
 * never asserted about; they are validated.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MUSTCHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

typedef void obj_panic_f(const char *func, const char *file, int line, const char *what);

/* Called with what failed; must not return. Default: message to stderr, abort. */
extern obj_panic_f *obj_panic;

__attribute__((noreturn)) void obj_fail(const char *func, const char *file, int line,
    const char *what);

#define MUST(cond)                                                             \
	do {                                                                   \
		if (__builtin_expect(!(cond), 0))                              \
			obj_fail(__func__, __FILE__, __LINE__, #cond);         \
	} while (0)
#define AN(x) MUST((x) != 0)
#define AZ(x) MUST((x) == 0)
#define WRONG(why) obj_fail(__func__, __FILE__, __LINE__, (why))

/* Objects begin with `uint32_t magic`; CHECK_OBJ proves a pointer is one, alive. */
#define CHECK_OBJ(ptr, type_magic)                                             \
	do {                                                                   \
		MUST((ptr) != NULL);                                           \
		MUST((ptr)->magic == (type_magic));                            \
	} while (0)

/* Zeroed memory with its magic set, or NULL when memory is out. */
#define OBJ_NEW(ptr, type_magic)                                               \
	do {                                                                   \
		(ptr) = calloc(1, sizeof(*(ptr)));                             \
		if ((ptr) != NULL)                                             \
			(ptr)->magic = (type_magic);                           \
	} while (0)

/* Frees *ptr_p and leaves NULL and a dead magic behind. */
#define OBJ_FREE(ptr)                                                          \
	do {                                                                   \
		(ptr)->magic = 0;                                              \
		free(ptr);                                                     \
		(ptr) = NULL;                                                  \
	} while (0)

#define CONTAINER_OF(ptr, type, member)                                        \
	((type *)(void *)((char *)(ptr) - offsetof(type, member)))
#define NELEM(a) (sizeof(a) / sizeof((a)[0]))

#endif
