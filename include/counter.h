/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef COUNTER_H
#define COUNTER_H
/*
 * Counters from the table in counter.def. Each thread adds to its own block,
 * so that counting on the hit path shares no cache line; reading sums them.
 */
#include <stdint.h>

enum counter {
#define C(name, kind, text) COUNTER_##name,
#include "include/counter.def"
#undef C
	COUNTER__N
};

enum counter_kind { COUNTER_TOTAL, COUNTER_GAUGE };

void counter_add(enum counter c, int64_t n);
#define COUNT(name) counter_add(COUNTER_##name, 1)
#define COUNT_ADD(name, n) counter_add(COUNTER_##name, (int64_t)(n))
#define COUNT_DOWN(name) counter_add(COUNTER_##name, -1)

void counter_share(void);	/* this thread, one of many that come and go, keeps no block */
int64_t counter_read(enum counter c);		/* sum over all threads */
const char *counter_name(enum counter c);
const char *counter_text(enum counter c);
enum counter_kind counter_kind_of(enum counter c);

#endif
