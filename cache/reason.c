/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Names, texts and statuses of the table in include/reason.def. */
#include "include/reason.h"
#include "include/obj.h"

static const struct {
	const char *name, *text, *advice;
	int status;
} reason_table[REASON__N] = {
#define R(n, s, t, a) [REASON_##n] = {#n, t, a, s},
#include "include/reason.def"
#undef R
};

const char *
reason_name(enum reason r)
{
	MUST((unsigned)r < REASON__N);
	return reason_table[r].name;
}

const char *
reason_text(enum reason r)
{
	MUST((unsigned)r < REASON__N);
	return reason_table[r].text;
}

const char *
reason_advice(enum reason r)
{
	MUST((unsigned)r < REASON__N);
	return reason_table[r].advice;
}

int
reason_status(enum reason r)
{
	MUST((unsigned)r < REASON__N);
	return reason_table[r].status;
}
