/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef SIGN_PRIV_H
#define SIGN_PRIV_H
/* What sign.c, the helper process and their tests share. */
#include <stdint.h>

#include "include/sign.h"

enum {
	SIGN_STATUS_BYTES = 16 << 10,	/* of what gpgv says */
	SIGN_INPUT_MAX = 64 << 20,	/* of a signed file */
	SIGN_OWN_WORD_BYTES = 8,	/* of "[DEPOT] " */
};

/* Before a line in the status text that is the helper's, not gpgv's. */
#define SIGN_OWN_WORD "[DEPOT] "

enum sign_kind { SIGN_ASK_CLEAR, SIGN_ASK_DETACHED };

/* A request; its one or two files come as descriptors with it: text, signature. */
struct sign_ask {
	uint32_t kind;
};

/* How a run ended. */
enum sign_end { SIGN_END_EXIT, SIGN_END_KILLED, SIGN_END_TIMEOUT, SIGN_END_FAILED };

/* The answer, cut behind its text. */
struct sign_reply {
	uint32_t end, status;		/* status: exit status or signal */
	uint32_t cut;			/* gpgv had more to say */
	uint32_t text_n;
	char text[SIGN_STATUS_BYTES];
};

/* sign_status.c */

/* Reads gpgv's status lines into out. */
void sign_parse_status(struct slice text, struct sign_result *out);
/*
 * Is an InRelease signed from its first line to its last? GOOD: as far as its form goes. A
 * signature says nothing of text before, behind or in the head of the signed part, which readers
 * might take for a part of it.
 */
enum sign_verdict sign_check_form(struct slice text, char words[SIGN_WORDS_BYTES]) MUSTCHECK;

/* sign_helper.c: the process; returns when the other end of the socket is closed. */
void sign_helper_run(const struct sign_conf *conf, int sock);

#endif
