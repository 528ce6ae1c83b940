/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef WINDOW_H
#define WINDOW_H
/*
 * Bodies mapped for sending, with a bound on how much of them is resident.
 * Sending from a mapping costs half of sendfile's CPU, but what was touched
 * counts as the daemon's memory. So each worker keeps a list of the windows
 * that it has touched, least recently used first; all workers together may
 * have so many bytes of them. One thread per list.
 */
#include <stdint.h>

#include "include/reason.h"
#include "include/obj.h"

struct windows;

/* A mapped body. Memory is the caller's; window_map to window_unmap. */
struct mapping {
	const char *p;			/* the whole body; NULL: not mapped */
	uint64_t size_bytes;
	struct window **window;		/* by number; NULL: not resident */
};

struct windows *windows_new(void) MUSTCHECK;
void windows_free(struct windows **ws_p);
/* Lets go of what was not touched for a second. */
void windows_tick(struct windows *ws, int64_t now_ms);

/* Maps the file. It stays unmapped when it is empty, or too large, or that fails. */
void window_map(struct mapping *m, int fd, uint64_t size_bytes);
void window_unmap(struct windows *ws, struct mapping *m);
/*
 * Bytes from `at` on, up to *n of them in one piece: good for one system call. NULL: not mapped,
 * or too much is in use at the moment; then sendfile.
 */
const char *window_touch(struct windows *ws, struct mapping *m, uint64_t at, uint64_t *n,
    int64_t now_ms);
uint64_t window_resident_bytes(void);		/* of all threads */

#endif
