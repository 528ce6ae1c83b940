/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef ADMIN_PRIV_H
#define ADMIN_PRIV_H
/*
 * What the functions behind DEPOT commands get. Each runs on a thread of its
 * own, which may wait for the disk, for flights, or for anything else that
 * has a limit of its own; one that takes long asks admin_cancelled now and
 * then. What it prints is sent as it goes.
 */
#include <stdbool.h>
#include <stdio.h>

#include "include/cache.h"
#include "proxy/cmd.h"
#include "proxy/depot.h"

struct admin_conn;

struct admin_call {
	struct depot *depot;
	struct cache_view *view;	/* this thread's own */
	FILE *out, *errors;		/* the client's standard output and standard error */
	const struct cmd_call *cmd;	/* words and options, checked against the table */
	int fd;				/* that the client passed; -1: none. admin.c closes it */
	struct admin_conn *conn;
};

/* The answer is the client's exit status. */
typedef int admin_run_f(struct admin_call *a);

/* Has the client left, or is the depot to stop? */
bool admin_cancelled(const struct admin_call *a);
/* Waits; false at once when cancelled. */
bool admin_sleep(const struct admin_call *a, int ms) MUSTCHECK;
/*
 * The canonical URL of a word, which may have any of the forms that clients
 * send (and HTTPS///host/path or host/path besides), as a client's request
 * would be understood. False after a line to a->errors. Text: from the arena.
 */
bool admin_parse_url(const struct admin_call *a, const char *word, struct arena *arena,
    struct url *url) MUSTCHECK;

admin_run_f admin_status, admin_top;		/* admin_status.c */
admin_run_f admin_ls, admin_cat, admin_evict, admin_verify;	/* admin_stored.c */
admin_run_f admin_generations, admin_pin, admin_unpin;	/* admin_gens.c */
admin_run_f admin_import;			/* admin_import.c */
admin_run_f admin_explain;			/* explain.c */

#endif
