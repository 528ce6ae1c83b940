/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef HOLDER_H
#define HOLDER_H
/* Who has a TCP port that we wanted? For the error message at start. */
#include <stddef.h>
#include <stdint.h>

/*
 * "NAME, process N", as far as /proc lets us see; else "another process".
 * Reads /proc: at start only.
 */
void holder_of_port(uint16_t port, char *out, size_t cap);

#endif
