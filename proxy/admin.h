/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef ADMIN_H
#define ADMIN_H
/* The control socket, cache_dir/admin.sock: its thread, and one for each command that runs. */
#include "proxy/depot.h"

struct admin;

/* After everything that a command may ask has started. NULL, with a log line: no socket. */
struct admin *admin_start(struct depot *d) MUSTCHECK;
/* Calls off what runs, waits for it. Before anything that a command may ask is stopped. */
void admin_stop(struct admin **a_p);

#endif
