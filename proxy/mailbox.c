/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * A stack that posters push to with one atomic exchange and the owner takes whole; see mailbox.h.
 */
#include "proxy/mailbox.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "include/obj.h"

int
mailbox_init(struct mailbox *mb)
{
	atomic_init(&mb->head, NULL);
	mb->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return mb->event_fd < 0 ? errno : 0;
}

void
mailbox_fini(struct mailbox *mb)
{
	if (mb->event_fd >= 0)
		(void)close(mb->event_fd);
	mb->event_fd = -1;
}

void
mailbox_post(struct mailbox *mb, struct mail *m)
{
	uint64_t one = 1;
	struct mail *head = atomic_load_explicit(&mb->head, memory_order_relaxed);

	do
		m->next = head;
	while (!atomic_compare_exchange_weak_explicit(&mb->head, &head, m, memory_order_release,
	    memory_order_relaxed));
	/* Only the first message after a drain needs to wake the owner. */
	if (head == NULL)
		(void)!write(mb->event_fd, &one, sizeof(one));
}

void
mailbox_drain(struct mailbox *mb)
{
	struct mail *m, *next, *in_order = NULL;
	uint64_t n;

	(void)!read(mb->event_fd, &n, sizeof(n));
	m = atomic_exchange_explicit(&mb->head, NULL, memory_order_acquire);
	for (; m != NULL; m = next) {
		next = m->next;
		m->next = in_order;
		in_order = m;
	}
	for (m = in_order; m != NULL; m = next) {
		next = m->next;
		m->deliver(m);
	}
}
