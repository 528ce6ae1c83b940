/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef UPWAY_PRIV_H
#define UPWAY_PRIV_H
/* Between upway.c and upway_words.c. */
#include "proxy/upway.h"

/* A CA store: the system's, and what a ca_file adds. */
struct upway_store {
	struct upway_store *next;
	const char *file;		/* the configuration's; NULL: the system's only */
	X509_STORE *store;
	char label[32];			/* no other has it: see upway_set_tls */
};

/* A member of some parent_proxy; kept as long as the thread lives. */
struct upway_parent {
	struct upway_parent *next;
	const char *text;		/* the configuration's, with password */
	bool tls;
	char url[300], authority[280];	/* without user and password */
	char *basic;			/* those two, for Proxy-Authorization; NULL: none */
	int64_t out_until_ms;		/* left out until then; 0: it is not */
	unsigned silent_n;		/* time-outs since it last worked */
};

/* Control bytes and others that have no place in a message become '?'. */
void upway_clean(char *text);

#endif
