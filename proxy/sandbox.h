/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef SANDBOX_H
#define SANDBOX_H
/*
 * Giving up, for good, what a process does not need: which paths it may open
 * (Landlock), which system calls it may make (seccomp), which capabilities it
 * has. All of it is best effort: what the kernel, or a container around us,
 * does not let us set up is named in the report and left out.
 */
#include <stdbool.h>
#include <stddef.h>

enum {
	SANDBOX_READ = 1,	/* files and directories below */
	SANDBOX_RUN = 2,	/* programs below */
	SANDBOX_APPEND = 4,	/* files below are written and made: logs */
	SANDBOX_REMOVE = 8,	/* files below are removed */
	SANDBOX_OWN = 16,	/* everything below is ours */
	SANDBOX_PATHS_MAX = 256,
	SANDBOX_REPORT_BYTES = 512,
};

/* What will be left. Zeroed to begin with. */
struct sandbox {
	bool may_run;		/* programs: for gpgv's helper */
	bool may_connect;	/* sockets of any kind */
	unsigned paths_n;
	bool lost;		/* a path did not fit: no Landlock then */
	struct {
		unsigned what;
		char *path;
	} paths[SANDBOX_PATHS_MAX];
};

/* Adds a path; one that is not there when sandbox_enter comes is passed over. NULL: nothing. */
void sandbox_allow(struct sandbox *sb, unsigned what, const char *path);
/* The directory that holds a path, and the one that holds what it is a link to. */
void sandbox_allow_around(struct sandbox *sb, unsigned what, const char *path);
/* Enters it, and frees the paths. Before any thread. The report names what is on and what is not. */
void sandbox_enter(struct sandbox *sb, char report[SANDBOX_REPORT_BYTES]);

/*
 * No new rights by running programs, no cores and no debuggers (memory has keys and passwords). A
 * process that stays root keeps the capabilities to pass over the owners of files, and no other.
 */
void sandbox_drop_rights(void);

#endif
