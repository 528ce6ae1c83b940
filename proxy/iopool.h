/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef IOPOOL_H
#define IOPOOL_H
/*
 * Threads that may wait for the disk, so that loops never do: they open cold
 * bodies, hash suspect ones, and read ahead. A job is run by one of them and
 * then posted back as mail.
 */
#include "include/obj.h"
#include "proxy/mailbox.h"

struct iopool;

struct iojob {
	struct mail mail;		/* delivered to `home` when done */
	struct iojob *next;
	struct mailbox *home;
	void (*run)(struct iojob *job);	/* on a pool thread */
};

struct iopool *iopool_start(unsigned threads_n) MUSTCHECK;
/* Runs what is queued, then ends the threads. */
void iopool_stop(struct iopool **p_p);
void iopool_submit(struct iopool *p, struct iojob *job);

#endif
