/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef KEYRING_H
#define KEYRING_H
/*
 * The keys of a directory as one binary keyring, as gpgv wants it: files
 * *.gpg and *.asc, each binary or armoured.
 */
#include <stdbool.h>
#include <stddef.h>

#include "include/obj.h"
#include "include/slice.h"

enum {
	KEYRING_FILE_MAX = 4 << 20,	/* bytes of a key file */
	KEYRING_MAX = 16 << 20,		/* of all together */
	KEYRING_FILES_MAX = 1000,
	KEYRING_WHY_BYTES = 256,
};

/* Keys put together; zeroed to begin with. */
struct keyring {
	unsigned char *p;
	size_t n, cap;
	unsigned files_n;
};

/* Adds what a key file holds; false and why (static text): not a key file, or no memory. */
bool keyring_add(struct keyring *k, struct slice file, const char **why) MUSTCHECK;
/*
 * Reads a directory. Files that are no keys are passed over, and `why` names the last of them.
 * False: there is no key at all, and why says so.
 */
bool keyring_read_dir(struct keyring *k, const char *dir, char why[KEYRING_WHY_BYTES]) MUSTCHECK;
void keyring_fini(struct keyring *k);

#endif
