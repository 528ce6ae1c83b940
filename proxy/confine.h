/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CONFINE_H
#define CONFINE_H
/*
 * Least privilege: what the daemon opens as root, whom it becomes, and what
 * is left to it and to gpgv's helper afterwards. For main, in this order:
 * confine_find_user, sign_start with confine_helper, listeners,
 * confine_open_files, confine_become_user, confine_enter.
 */
#include <stdbool.h>
#include <sys/types.h>

#include "include/config.h"
#include "proxy/sandbox.h"

/* Who to become. */
struct confine {
	const struct config *config;
	const char *config_file;	/* read again by SIGHUP; NULL: none */
	bool becomes;			/* started as root, with a user */
	uid_t uid;
	gid_t gid;
	int pid_fd;			/* of pid_file; -1: none */
	char report[SANDBOX_REPORT_BYTES];	/* what the sandbox came to; "" off */
};

/* Each says on stderr what is wrong, and what to do, where it is false. */
bool confine_find_user(struct confine *cf) MUSTCHECK;
/* Nothing in the open directory, or just what a new file system has? */
bool confine_dir_is_empty(int dirfd) MUSTCHECK;
/* Makes and looks at cache_dir; makes logs and pid_file, and gives them to the user. */
bool confine_open_files(struct confine *cf) MUSTCHECK;
/* Becomes the user for good, and makes sure that what is read later can be. */
bool confine_become_user(const struct confine *cf) MUSTCHECK;
/* sandbox = auto: gives up the rest. Before any thread. */
void confine_enter(struct confine *cf);
/* In the gpgv helper: all of that at once, without a network. For struct sign_conf. */
bool confine_helper(void *arg, char *why);

/* The process number in pid_file, once the depot serves; the file goes with the depot. */
void confine_write_pid(struct confine *cf);
void confine_remove_pid(struct confine *cf);

#endif
