/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef PANIC_H
#define PANIC_H
/*
 * The report of a process that must end: an assertion that failed, or a
 * signal such as SIGSEGV. It goes to the log and to stderr with write(2):
 * thread, place, what the thread was working on, a backtrace.
 */
#include <stddef.h>

/* Writes a few words about an object, or lines about its state. Must not lock or allocate. */
typedef void panic_describe_f(const void *obj, char *out, size_t cap);

/* Sets obj_panic and the signal handlers. Once, at start. */
void panic_init(void);

/*
 * What this thread works on until it says something else; kind is a literal,
 * NULL: nothing. describe may be NULL. Cheap enough for every event.
 */
void panic_works_on(const char *kind, const void *obj, panic_describe_f *describe);

#endif
