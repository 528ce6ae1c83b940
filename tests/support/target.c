/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* See target.h. */
#include "tests/support/target.h"

#include <check.h>

void
target_set(struct target *t, const char *text)
{
	struct arena a;

	arena_init(&a, t->room, sizeof(t->room));
	ck_assert_int_eq(url_parse(&t->url, &a, slice_of(text)), REASON_OK);
	key_of_url(&t->url, &t->key);
	aptfile_classify(&t->af, (struct slice){t->url.path.p, strcspn(t->url.path.p, "?")});
}
