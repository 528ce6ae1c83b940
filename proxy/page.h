/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef PAGE_H
#define PAGE_H
/*
 * The depot's own pages: usage, dashboard, metrics, health, client file. They
 * are made in memory from what is at hand: nothing here waits.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "include/reason.h"

struct req;

struct page {
	int status;
	const char *phrase;	/* NULL: the standard one */
	const char *type;	/* Content-Type */
	const char *location;	/* NULL: none */
	enum reason reason;	/* not OK: an error, to which body adds what to do */
	char *body;		/* malloced; NULL: out of memory */
	size_t body_n;
};

/* For routes USAGE, PAGE and REPORT. */
void page_make(const struct req *req, struct page *out);

/*
 * A file for /etc/apt/apt.conf.d that names the depot at host:port. tls: it
 * speaks TLS there. connect: it makes tunnels.
 */
void page_print_apt_conf(FILE *out, const char *host, bool tls, bool connect);

#endif
