/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Finds the process that listens on a port: the socket's inode in
 * /proc/net/tcp*, then the process that has it among its descriptors.
 */
#include "proxy/holder.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOLDER_LISTEN = 0x0a };	/* TCP_LISTEN as /proc/net/tcp shows it */

/* The inode of a listening socket on this port in one of the tables, and whose it is; 0: none. */
static unsigned long
holder_inode(const char *table, uint16_t port, uid_t *uid)
{
	char line[512];
	unsigned long inode, found = 0;
	unsigned local_port, state;
	FILE *f = fopen(table, "re");

	if (f == NULL)
		return 0;
	while (found == 0 && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "%*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %u %*s %lu",
		    &local_port, &state, uid, &inode) == 4 && local_port == port &&
		    state == HOLDER_LISTEN)
			found = inode;
	(void)fclose(f);
	return found;
}

/* Has this process the socket among its descriptors? */
static bool
holder_has_socket(const char *pid, unsigned long inode)
{
	char path[320], target[64], want[64];
	struct dirent *e;
	bool has = false;
	ssize_t n;
	DIR *d;

	(void)snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	(void)snprintf(want, sizeof(want), "socket:[%lu]", inode);
	d = opendir(path);
	while (d != NULL && !has && (e = readdir(d)) != NULL) {
		n = readlinkat(dirfd(d), e->d_name, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		has = strcmp(target, want) == 0;
	}
	if (d != NULL)
		(void)closedir(d);
	return has;
}

/* The process's own name. */
static void
holder_name(const char *pid, char *out, size_t cap)
{
	char path[320];
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	f = fopen(path, "re");
	if (f == NULL || fgets(out, (int)cap, f) == NULL)
		(void)snprintf(out, cap, "?");
	out[strcspn(out, "\n")] = '\0';
	if (f != NULL)
		(void)fclose(f);
}

void
holder_of_port(uint16_t port, char *out, size_t cap)
{
	uid_t uid;
	unsigned long inode = holder_inode("/proc/net/tcp6", port, &uid);
	char name[64];
	struct dirent *e;
	DIR *d = opendir("/proc");

	if (inode == 0)
		inode = holder_inode("/proc/net/tcp", port, &uid);
	/* Of another user's process one sees no more. */
	if (inode != 0)
		(void)snprintf(out, cap, "a process of user %u", (unsigned)uid);
	else
		(void)snprintf(out, cap, "another process");
	while (d != NULL && inode != 0 && (e = readdir(d)) != NULL) {
		if (e->d_name[0] < '1' || e->d_name[0] > '9' ||
		    !holder_has_socket(e->d_name, inode))
			continue;
		holder_name(e->d_name, name, sizeof(name));
		(void)snprintf(out, cap, "%s, process %.16s,", name, e->d_name);
		break;
	}
	if (d != NULL)
		(void)closedir(d);
}
