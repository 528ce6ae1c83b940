/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Which packages outlived the index that named them; see repo.h. */
#include "cache/repo.h"

#include <stdatomic.h>

#include "include/obj.h"

enum { REPO_PARENTS_MAX = 8 };

static _Atomic uint64_t repo_epoch_now = 1;

uint64_t
repo_epoch(void)
{
	return atomic_load_explicit(&repo_epoch_now, memory_order_acquire);
}

void
repo_release_changed(void)
{
	(void)atomic_fetch_add_explicit(&repo_epoch_now, 1, memory_order_release);
}

/* When the Release file of this name in this directory came; 0: there is none. */
static int64_t
repo_release_at_ms(struct index_view *view, struct slice dir, struct slice name)
{
	static _Thread_local char text[OBJECT_TEXT_MAX];
	char url[8192];
	struct object_rec rec;
	struct key key;

	if (dir.n + name.n > sizeof(url))
		return 0;
	memcpy(url, dir.p, dir.n);
	memcpy(url + dir.n, name.p, name.n);
	key_of_text((struct slice){url, dir.n + name.n}, &key);
	if (index_get_object(view, &key, &rec, text) != REASON_OK)
		return 0;
	return rec.stored_at_ms;
}

bool
repo_release_newer(struct index_view *view, struct slice url, int64_t checked_at_ms)
{
	static const struct slice names[] = {
		{"InRelease", sizeof("InRelease") - 1}, {"Release", sizeof("Release") - 1},
	};
	struct slice dir = url;
	unsigned up, i;

	for (up = 0; up < REPO_PARENTS_MAX; up++) {
		/* Cut the last segment; https://host/ has three slashes. */
		do
			dir.n--;
		while (dir.n > 0 && dir.p[dir.n - 1] != '/');
		if (dir.n < sizeof("http://h/") - 1 || dir.p[dir.n - 2] == '/')
			return false;
		for (i = 0; i < NELEM(names); i++)
			if (repo_release_at_ms(view, dir, names[i]) > checked_at_ms)
				return true;
	}
	return false;
}
