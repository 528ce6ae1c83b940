/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CONTROL_H
#define CONTROL_H
/*
 * What a client and the running depot say to each other on admin.sock, and
 * the client's side of it (admin.c is the other one).
 *
 *   request   4 bytes: length, high byte first; then the command's words, a NUL behind each.
 *             The length may carry a descriptor (SCM_RIGHTS), for commands that read a file
 *   reply     frames of 1 byte kind, 4 bytes length, bytes:
 *               'b' nothing: the request was read. Comes first, within CONTROL_PATIENCE_MS
 *               'o' for standard output, 'e' for standard error,
 *               'x' one byte, the exit status; nothing follows
 *
 * A connection that ends without 'x' means that the depot ended in the middle.
 */
#include <stdint.h>

#include "proxy/cmd.h"

enum {
	CONTROL_REQUEST_MAX = 64 << 10,
	CONTROL_WORDS_MAX = 256,
	CONTROL_FRAME_MAX = 1 << 20,
	CONTROL_FRAME_HEAD = 5,
	CONTROL_TRIES_MAX = 3,
	CONTROL_GRACE_MS = 250,		/* for one whose port is bound, and which has no lock yet */
	CONTROL_PATIENCE_MS = 10000,	/* for a depot that starts or stops, and for its first frame */
};
#define CONTROL_SOCKET "admin.sock"

static inline void
control_put_u32(uint8_t p[4], uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static inline uint32_t
control_get_u32(const uint8_t p[4])
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

struct sockaddr_un;
/*
 * The socket's address below cache_dir, whatever its length: *dir_fd (-1: not needed) is to stay
 * open until it was used. False with errno: no such directory.
 */
bool control_address(const char *cache_dir, struct sockaddr_un *sa, int *dir_fd) MUSTCHECK;

/* Sends the call to the running depot, copies its answer; the exit status. */
int control_run(const struct cmd_call *call) MUSTCHECK;
/* The same for another command that the depot does, with a descriptor; cache_dir says which depot. */
int control_ask(const struct cmd_call *call, const char *cache_dir, int fd) MUSTCHECK;
/* A connection to the depot of this cache_dir, or -1 and errno. */
int control_connect(const char *cache_dir) MUSTCHECK;

#endif
