/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef WARM_PRIV_H
#define WARM_PRIV_H
/*
 * What the command warm consists of: warm.c (the command), warm_fetch.c
 * (downloads through the depot), warm_show.c (what people see of these),
 * warm_list.c (lists of packages and URLs).
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "include/key.h"
#include "include/obj.h"
#include "include/slice.h"

enum { WARM_URL_BYTES = 8192, WARM_JOBS_MAX = 64, WARM_NAME_BYTES = 160 };

/* ---- warm_list.c: pure ---- */
enum warm_form { WARM_URLS, WARM_DPKG, WARM_NAMES };
enum warm_form warm_list_form(struct slice text);
const char *warm_form_name(enum warm_form form);	/* in words */
/*
 * Takes the next entry: a URL, or NAME[:ARCH][=VERSION], in memory of the
 * caller's. Comments, heads and packages that are not installed are passed
 * over. False: the end.
 */
bool warm_list_next(enum warm_form form, struct slice *rest, char *out, size_t cap) MUSTCHECK;
/* A size as a person reads it. */
void warm_size_text(uint64_t bytes, char out[24]);

/* ---- warm_fetch.c ---- */
/* A file to go through the depot. */
struct warm_file {
	char *target;			/* as apt would ask for it; malloced */
	char name[WARM_NAME_BYTES];	/* for people */
	int64_t size_bytes;		/* -1: not known */
	bool has_sha256;
	uint8_t sha256[32];
	/* What became of it. */
	uint64_t got_bytes;
	int64_t started_ms;
	bool done, ok, cached;
	bool unreached;			/* no depot took the connection */
	char why[320];
};

struct warm_conf {
	char depot[600];		/* http://host:port */
	char unix_path[108];		/* "": over TCP */
	unsigned jobs;
	bool quiet;			/* nothing but errors while it runs */
};

/* Takes the bytes of a small file; false ends it. */
typedef bool warm_sink_f(void *arg, const void *p, size_t n);

/* One file, its bytes for the sink. *status: HTTP's, 0: none. False: f->why has words. */
bool warm_fetch_one(const struct warm_conf *conf, struct warm_file *f, warm_sink_f *sink,
    void *arg, long *status) MUSTCHECK;
/* All of them, several at a time, bytes thrown away; returns how many failed. */
unsigned warm_fetch_all(const struct warm_conf *conf, struct warm_file *files, unsigned n);

/* ---- warm_show.c ---- */
enum { WARM_ROW_BYTES = 256, WARM_PAST_MAX = 20 };

/* Where it stands. */
struct warm_progress {
	unsigned done_n, n;
	uint64_t bytes, total_bytes;
	const struct warm_file *running[WARM_JOBS_MAX];
	unsigned running_n;
};

/* All zero before warm_show_begin. */
struct warm_show {
	bool screen, quiet;
	unsigned lines_n;		/* drawn on the screen */
	int64_t drawn_ms, line_ms;
	/* For the rate of the last few seconds. */
	struct {
		int64_t ms;
		uint64_t bytes;
	} past[WARM_PAST_MAX];
	unsigned past_n;
};

void warm_show_begin(struct warm_show *s, bool quiet, int64_t now_ms);
/* Takes what was drawn off the screen: a line is to be printed, or it is over. */
void warm_show_clear(struct warm_show *s);
/* Draws, or prints a line, if it is time to. */
void warm_show_draw(struct warm_show *s, const struct warm_progress *p, int64_t now_ms);
/* A row of the table, one column less than there are. all < 0, rate < 0: not known. */
void warm_row_text(const char *name, uint64_t have, int64_t all, double rate, unsigned columns,
    char out[WARM_ROW_BYTES]);

#endif
