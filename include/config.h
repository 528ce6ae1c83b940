/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CONFIG_H
#define CONFIG_H
/*
 * The configuration: one struct made from the table in option.def, read by
 * main and then shared read-only. Fields carry the option's name. A SIGHUP
 * makes a new struct, which keeps the old one alive: what was found in any is
 * good until the depot ends.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "include/access.h"
#include "include/log.h"
#include "include/slice.h"

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
 * do. Returns NULL when there was any. What is odd but works goes to `warnings`.
 */
struct config *config_load(const char *file, const struct strlist *settings, FILE *errors,
    FILE *warnings) MUSTCHECK;
/* The same for a depot that runs with `was`; problems and warnings go to `out`. */
struct config *config_load_again(const struct config *was, const char *file,
    const struct strlist *settings, FILE *out) MUSTCHECK;
/*
 * now takes the place of *c_p: options that need a restart become those of *c_p, which lives on
 * with now. Where nothing else differs *c_p stays. Either way *c_p is what holds from here on; `out`
 * gets lines about what has changed.
 */
void config_succeed(struct config **c_p, struct config *now, FILE *out);
/* With all those whose place it took. */
void config_free(struct config **c_p);

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

/* Every option with type, default and help: the sample file; a part of the manual, in mdoc. */
void config_print_sample(FILE *out);
void config_print_man(FILE *out);

#endif
