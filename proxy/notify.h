/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef NOTIFY_H
#define NOTIFY_H
/* News for the service manager that started us, if it wants any (sd_notify(3)). Main thread. */

/* Reaches the manager that NOTIFY_SOCKET names; before the sandbox, which forbids that. */
void notify_open(void);
/* "READY=1" once clients are served, "STOPPING=1". One datagram: waits for nothing. */
void notify_manager(const char *state);

#endif
