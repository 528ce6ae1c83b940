/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef LOOPSET_H
#define LOOPSET_H
/*
 * Our own ends of the tunnels that are open. A firewall rule that redirects
 * the depot's own traffic too would make a tunnel that leads to the depot, and
 * so on without end: such a connection's client is one of these.
 */
#include <stdbool.h>
#include <sys/queue.h>
#include <sys/socket.h>

struct loopset_entry {
	LIST_ENTRY(loopset_entry) link;
	unsigned char addr[16];
	unsigned short port;	/* 0: not in the set */
};

/* From any thread. The entry is the caller's, and stays where it is until it is taken out. */
void loopset_add_socket(struct loopset_entry *e, int fd);
void loopset_remove(struct loopset_entry *e);
bool loopset_has(const struct sockaddr *peer);

#endif
