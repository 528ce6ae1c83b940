/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* What happens when an invariant does not hold; see include/obj.h. */
#include "include/obj.h"

#include <stdio.h>

static void
obj_panic_default(const char *func, const char *file, int line, const char *what)
{
	(void)fprintf(stderr, "apt-depot: panic in %s (%s:%d): %s\n", func, file, line, what);
	abort();
}

obj_panic_f *obj_panic = obj_panic_default;

void
obj_fail(const char *func, const char *file, int line, const char *what)
{
	obj_panic(func, file, line, what);
	abort();
}
