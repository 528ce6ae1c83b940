/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CONFIG_H
#define CONFIG_H
/*
 * The configuration: one struct made from the table in option.def, read once
 * by main and then shared read-only. Fields carry the option's name. A SIGHUP
 * makes a new struct; users hold a reference, the old one goes with its last.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "include/access.h"
#include "include/log.h"
#include "include/slice.h"

enum { CONFIG_ANY = 0 };
enum config_connect { CONNECT_TUNNEL, CONNECT_REFUSE };
enum config_prefetch { PREFETCH_PIPELINE, PREFETCH_CLOSURE, PREFETCH_OFF };
enum config_signer { SIGNER_REPORT, SIGNER_HOLD };
enum config_family { FAMILY_ANY, FAMILY_4, FAMILY_6 };
enum config_sandbox { SANDBOX_AUTO, SANDBOX_OFF };

/*
 * Types of option.def and the field each makes:
 *   SIZE uint64_t bytes  TIME int64_t ms  COUNT uint64_t  BOOL bool  ENUM enum  TEXT char * (NULL: not set)
 *   LIST struct strlist  CIDRS struct cidrset  GLOBS struct globset  PORTS struct portset
 */
struct config;

/*
 * What a [upstream "glob"] section may override (keys marked upstream in option.def), resolved for
 * one host.
 */
struct config_upstream;

#include "include/config_fields.h"

/*
 * Reads defaults, then file (NULL: none), then the -o settings in order.
 * Problems go to `errors`, one line each: FILE:LINE: what is wrong: what to
 * do. Returns NULL when there was any. Keys that do nothing yet are warnings
 * in `warnings`. References: the caller holds one.
 */
struct config *config_load(const char *file, const struct strlist *settings, FILE *errors,
    FILE *warnings) MUSTCHECK;
struct config *config_ref(struct config *c);
void config_unref(struct config **c_p);

/* Has any upstream credentials of ours? */
bool config_any_auth(const struct config *c);
/*
 * The settings for one upstream host: global ones, overridden by the sections that match, later
 * ones winning. Lives as long as c.
 */
const struct config_upstream *config_for_upstream(const struct config *c, struct slice host);

/* Calls fn for each file that is opened again while the depot runs: ca_file, client_cert and so on. */
typedef void config_file_f(void *arg, const char *key, const char *path);
void config_each_file(const struct config *c, config_file_f *fn, void *arg);

/*
 * The settings as they stand in the file: the global ones (0), then under each section; NULL behind
 * the last. Every file and proxy that config_for_upstream can name is in one of them.
 */
const struct config_upstream *config_upstream_at(const struct config *c, size_t n);

/* Every option with type, default and help, as the sample file shows them. */
void config_print_reference(FILE *out);
/* Names options that differ between two configurations and can't change without a restart. */
void config_print_restart_needed(const struct config *was, const struct config *now, FILE *out);

#endif
