/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef MAILBOX_H
#define MAILBOX_H
/*
 * How threads talk: a message is posted from anywhere and delivered on the
 * owner's event loop, in order. Posting never waits; the owner is woken once
 * for any number of messages.
 */
#include <stdatomic.h>

struct mail {
	struct mail *next;
	/* On the owner's loop; the message may be freed or posted again from here. */
	void (*deliver)(struct mail *m);
};

struct mailbox {
	_Atomic(struct mail *) head;	/* newest first */
	int event_fd;			/* readable while there is mail */
};

int mailbox_init(struct mailbox *mb);	/* 0, or an errno */
void mailbox_fini(struct mailbox *mb);
/* The message belongs to the mailbox until it is delivered. */
void mailbox_post(struct mailbox *mb, struct mail *m);
void mailbox_drain(struct mailbox *mb);	/* owner only */

#endif
