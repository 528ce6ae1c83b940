/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Per-thread counter blocks. A thread's first count makes its block and puts
 * it on the list of all blocks; blocks outlive their threads, so that totals
 * never go back. Readers walk the list without a lock: it only grows. Threads
 * that come and go share one block instead (counter_share).
 */
#include "include/counter.h"
#include "include/obj.h"

#include <stdatomic.h>

struct counter_block {
	struct counter_block *next;
	_Atomic int64_t value[COUNTER__N];
};

static _Atomic(struct counter_block *) counter_blocks;
static _Thread_local struct counter_block *counter_mine;
static struct counter_block counter_spare;	/* shared */

static const struct {
	const char *name, *text;
	enum counter_kind kind;
} counter_table[COUNTER__N] = {
#define C(n, k, t) [COUNTER_##n] = {#n, t, COUNTER_##k},
#include "include/counter.def"
#undef C
};

/* Makes this thread's block; on no memory all such threads share one. */
static struct counter_block *
counter_block_new(void)
{
	struct counter_block *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return &counter_spare;
	b->next = atomic_load(&counter_blocks);
	while (!atomic_compare_exchange_weak(&counter_blocks, &b->next, b))
		;
	return b;
}

void
counter_share(void)
{
	if (counter_mine == NULL)
		counter_mine = &counter_spare;
}

void
counter_add(enum counter c, int64_t n)
{
	_Atomic int64_t *v;

	if (counter_mine == NULL)
		counter_mine = counter_block_new();
	v = &counter_mine->value[c];
	if (counter_mine == &counter_spare)
		atomic_fetch_add_explicit(v, n, memory_order_relaxed);
	else	/* the only writer: no locked instruction needed */
		atomic_store_explicit(v,
		    atomic_load_explicit(v, memory_order_relaxed) + n, memory_order_relaxed);
}

int64_t
counter_read(enum counter c)
{
	const struct counter_block *b;
	int64_t sum = atomic_load_explicit(&counter_spare.value[c], memory_order_relaxed);

	for (b = atomic_load(&counter_blocks); b != NULL; b = b->next)
		sum += atomic_load_explicit(&b->value[c], memory_order_relaxed);
	return sum;
}

const char *
counter_name(enum counter c)
{
	return counter_table[c].name;
}

const char *
counter_text(enum counter c)
{
	return counter_table[c].text;
}

enum counter_kind
counter_kind_of(enum counter c)
{
	return counter_table[c].kind;
}
