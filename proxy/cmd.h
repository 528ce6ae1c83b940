/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CMD_H
#define CMD_H
/*
 * The command line: the table of commands (command.def), and one parser for
 * what was typed and for what a client sends to the running depot.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "include/access.h"
#include "include/obj.h"

/* Exit statuses, which the manual promises. */
enum cmd_status {
	CMD_OK,
	CMD_FAILED,		/* it was tried and did not end well */
	CMD_USAGE,		/* it could not be tried: misuse, or no depot runs */
};

enum cmd_where { CMD_HERE, CMD_DEPOT, CMD_SERVE };

enum cmd_id {
#define X(id, where, name, least, most, options, usage, help, more) CMD_##id,
#include "proxy/command.def"
#undef X
	CMD__N
};

struct cmd {
	enum cmd_id id;
	enum cmd_where where;
	const char *name;
	unsigned least, most;
	const char *options, *usage, *help, *more;
};

/* One call. Text is borrowed from argv. */
struct cmd_call {
	const struct cmd *cmd;
	const char *file;		/* -c; NULL: none */
	struct strlist settings;	/* -o; memory is cmd_call_fini's */
	struct strlist options;		/* "name" or "name=value" of the command's own */
	struct strlist words;
	bool json;			/* --json */
};

/* argv[0] is the command's name. 0, or CMD_USAGE (or CMD_FAILED) after one line to `errors`. */
int cmd_parse(struct cmd_call *call, int argc, char *const *argv, FILE *errors) MUSTCHECK;
void cmd_call_fini(struct cmd_call *call);
/* The value of --NAME VALUE, "" where it takes none, NULL where it was not given. */
const char *cmd_option(const struct cmd_call *call, const char *name);
/* The n-th word behind the command, or NULL. */
const char *cmd_word(const struct cmd_call *call, unsigned n);

typedef int cmd_run_f(const struct cmd_call *call);
/* The program: parses, runs, and answers with the exit status. serve: the daemon. */
int cmd_main(int argc, char **argv, cmd_run_f *serve) MUSTCHECK;

/* -c, or /etc/apt-depot.conf where there is one; NULL: no file. */
const char *cmd_config_file(const struct cmd_call *call);
/* The configuration as a command finds it: that file and -o. */
struct config *cmd_config(const struct cmd_call *call) MUSTCHECK;
/*
 * The host:port by which clients are likely to know this depot, and whether it is TLS there: the first
 * of names or this machine's, the first port of listen, else of listen_tls. False: it has neither.
 */
bool cmd_guess_self(const struct config *c, char *out, size_t cap, bool *tls) MUSTCHECK;

/* A peer's text for a terminal and for JSON: what is not printable ASCII becomes '?'. */
void cmd_clean(char *text);

/* Those that run here. */
cmd_run_f cmd_check, cmd_apt_conf, cmd_version, cmd_help;	/* cmd.c */
cmd_run_f cmd_sources;						/* cmd_sources.c */
cmd_run_f cmd_doctor;						/* doctor.c */
cmd_run_f cmd_warm;						/* warm.c */
cmd_run_f cmd_import;						/* admin_import.c */
cmd_run_f cmd_ca;						/* cmd_ca.c */

#endif
