/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef LISTENER_H
#define LISTENER_H
/*
 * Listening sockets: one per address, without SO_REUSEPORT, so that a second
 * daemon on the port notices. They live on the first worker's loop, which
 * accepts in batches and gives each connection to the worker that has the
 * fewest: a build farm is few long connections, which hashing by the kernel
 * would pile on one core.
 */
#include "include/access.h"
#include "include/reason.h"

struct config;
struct depot;
struct listener;

/*
 * Binds all of listen, listen_tls and listen_transparent before anything else
 * starts. *why (malloced) says which could not be and what to do.
 */
enum reason listener_open(struct listener **l_p, const struct config *c, char **why) MUSTCHECK;
/* Starts accepting, on the loop of the first worker. From main, once. */
void listener_start(struct listener *l, struct depot *d);
/* No more connections from here on. From any thread. */
void listener_stop(struct listener *l);
/* After the first worker has ended and before it is freed. */
void listener_close(struct listener **l_p);
/* Would a connection to this address and port end at one of our own sockets? */
bool listener_is_own_address(const struct listener *l, const struct sockaddr *sa);
/* Is host:port one of ours? */
bool listener_is_self(const struct listener *l, struct slice host, uint16_t port);
/* The port of the first TCP listener, for pages; 0: none. */
uint16_t listener_port(const struct listener *l);

#endif
