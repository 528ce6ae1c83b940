/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Which connections are our own coming back; tunnel.c fills it, entry.c asks. */
#include "proxy/loopset.h"

#include <netinet/in.h>
#include <pthread.h>
#include <string.h>

#include "include/obj.h"

enum { LOOPSET_BUCKETS = 256 };

static pthread_mutex_t loopset_lock = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(loopset_list, loopset_entry) loopset_buckets[LOOPSET_BUCKETS];	/* by port */

/* Port and address, IPv4 as it looks on a socket of both families. Port 0: it has none. */
static void
loopset_read(const struct sockaddr *sa, struct loopset_entry *e)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	memset(e->addr, 0, sizeof(e->addr));
	e->port = 0;
	if (sa->sa_family == AF_INET) {
		memcpy(&v4, sa, sizeof(v4));
		e->addr[10] = e->addr[11] = 0xff;
		memcpy(e->addr + 12, &v4.sin_addr, 4);
		e->port = ntohs(v4.sin_port);
	} else if (sa->sa_family == AF_INET6) {
		memcpy(&v6, sa, sizeof(v6));
		memcpy(e->addr, &v6.sin6_addr, 16);
		e->port = ntohs(v6.sin6_port);
	}
}

void
loopset_add_socket(struct loopset_entry *e, int fd)
{
	struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
	socklen_t n = sizeof(sa);

	AZ(e->port);
	if (getsockname(fd, (struct sockaddr *)&sa, &n) != 0)
		return;
	loopset_read((const struct sockaddr *)&sa, e);
	if (e->port == 0)
		return;
	AZ(pthread_mutex_lock(&loopset_lock));
	LIST_INSERT_HEAD(&loopset_buckets[e->port % LOOPSET_BUCKETS], e, link);
	AZ(pthread_mutex_unlock(&loopset_lock));
}

void
loopset_remove(struct loopset_entry *e)
{
	if (e->port == 0)
		return;
	AZ(pthread_mutex_lock(&loopset_lock));
	LIST_REMOVE(e, link);
	AZ(pthread_mutex_unlock(&loopset_lock));
	e->port = 0;
}

bool
loopset_has(const struct sockaddr *peer)
{
	struct loopset_entry asked, *e;
	bool found = false;

	loopset_read(peer, &asked);
	if (asked.port == 0)
		return false;
	AZ(pthread_mutex_lock(&loopset_lock));
	LIST_FOREACH(e, &loopset_buckets[asked.port % LOOPSET_BUCKETS], link)
		if (e->port == asked.port && memcmp(e->addr, asked.addr, sizeof(e->addr)) == 0)
			found = true;
	AZ(pthread_mutex_unlock(&loopset_lock));
	return found;
}
