/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef ANSWER_H
#define ANSWER_H
/* Puts response heads together and sets up what of the body follows. On the request's worker. */
#include "proxy/conn.h"
#include "proxy/headbuf.h"

/* What was asked for, without credentials: canonical where it has come so far. */
struct slice answer_url(const struct req *req);
/* For the dashboard: its client did not get what it asked for; status 0: not to the end. */
void answer_note_trouble(const struct req *req, int status);
/* What the request's conditions make of the object or flight; total -1: not known yet. */
void answer_judge(struct req *req, int64_t total, struct httpcond_verdict *v);
/*
 * Each sets status, body range and framing of req, and writes all fields but Connection. False:
 * out of memory.
 */
bool answer_make_object(struct req *req, struct headbuf *h, const struct httpcond_verdict *v,
    int64_t total) MUSTCHECK;
bool answer_make_page(struct req *req, struct headbuf *h) MUSTCHECK;
bool answer_make_error(struct req *req, struct headbuf *h) MUSTCHECK;

#endif
