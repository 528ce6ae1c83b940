/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef UPAUTH_H
#define UPAUTH_H
/*
 * The credential files that `auth` names, for the upstream thread: read at
 * start, and again, by a pool thread, when they have changed or SIGHUP says so.
 */
#include "include/config.h"
#include "include/key.h"
#include "proxy/authfile.h"
#include "proxy/iopool.h"

struct upauth;

/*
 * Reads every file that the configuration names, before any thread. NULL: one
 * can't be read, and the log says which. Changes are read through the pool
 * and come back to `home`.
 */
struct upauth *upauth_new(const struct config *config, struct iopool *pool,
    struct mailbox *home) MUSTCHECK;
/* After the thread; waits for a pool thread that still reads for it. */
void upauth_free(struct upauth **ua_p);
/* The value of Authorization for a URL of an upstream whose `auth` is path; borrowed for now. */
enum authfile_match upauth_find(const struct upauth *ua, const char *path,
    const struct url *url, const char **value);
/* Does a pool thread read for it? */
bool upauth_is_looking(const struct upauth *ua);
/* What is new in it comes into force in place of was: says so in the log. */
void upauth_log_changes(const struct upauth *ua, const struct upauth *was);
/* Has a file changed? Each few seconds, or at once. */
void upauth_tick(struct upauth *ua, int64_t now_ms);
void upauth_reload(struct upauth *ua, int64_t now_ms);

#endif
