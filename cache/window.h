/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef WINDOW_H
#define WINDOW_H
/*
 * Copies of those parts of large bodies that several readers are being sent:
 * windows of 1 MiB. Each worker has its own; all of them together have 32 MiB
 * (4 each where there are more than eight workers). What is copied never
 * changes, so nobody has to take a copy back. One thread.
 */
#include <stdbool.h>
#include <stdint.h>

#include "include/obj.h"
#include "include/reason.h"

enum { WINDOW_BYTES = 1 << 20 };

struct windows;

struct windows *windows_new(void) MUSTCHECK;
void windows_free(struct windows **ws_p);
/* Once a second or so: lets go of what was not used for a second. */
void windows_tick(struct windows *ws, int64_t now_ms);

uint64_t window_id(void);		/* for a body, its own for ever; any thread */
/*
 * Bytes of the body from `at` on, up to *n in one piece, good until the next call. `fill`: where
 * they are not here, up to *n of them are copied from fd, without waiting for the disk. NULL: they
 * are not here.
 */
const char *window_bytes(struct windows *ws, uint64_t id, int fd, uint64_t at, uint64_t *n,
    bool fill, int64_t now_ms);

#endif
