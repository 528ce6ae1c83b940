/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* What the kept generations have said of a URL, one after the other: for people who ask. */
#include "cache/repo_priv.h"

/* What one generation says of the path; false: nothing. */
static bool
repo_history_says(const struct repo_gen *g, const struct aptfile *af, struct slice rel,
    struct flight_expect *e)
{
	const struct release_file *rf = af->class == APTFILE_BYHASH ? repo_gen_by_name(g, af) : NULL;

	if (af->class == APTFILE_BYHASH)
		return rf != NULL && repo_file_expect(rf, e);
	if (af->class != APTFILE_RELEASE)
		return repo_gen_says(g, rel, aptfile_may_be_package(af), e);
	*e = (struct flight_expect){.hash = APTFILE_SHA256, .size_bytes = -1};
	for (unsigned i = 0; i < REPO_FILE_N; i++)
		if (slice_eq(rel, repo_file_names[i]))
			return repo_gen_digest(g, (enum repo_file)i, e->digest);
	return false;
}

/* One repository's generations, those that say the same in one stretch. */
static void
repo_history_of(const struct repo_snap *snap, const struct url *url, const struct aptfile *af,
    struct slice rel, repo_history_f *fn, void *arg)
{
	struct repo_stretch s = {.gens_n = 0};

	for (unsigned i = 0; i < snap->gens_n; i++) {
		const struct repo_gen *g = snap->gens[i];
		struct flight_expect e;
		bool says = repo_history_says(g, af, rel, &e);

		if (s.gens_n > 0 && (!says || e.hash != s.expect.hash ||
		    memcmp(e.digest, s.expect.digest, sizeof(e.digest)) != 0)) {
			fn(arg, &s);
			s.gens_n = 0;
		}
		if (!says)
			continue;
		if (s.gens_n++ == 0) {
			s = (struct repo_stretch){.root = snap->repo->root, .expect = e, .gens_n = 1,
			    .last_seq = g->seq,
			    .until_s = i == 0 ? INT64_MAX : snap->gens[i - 1]->adopted_at_s};
			repo_version_key(url->text, &e, &s.version_key);
		}
		s.first_seq = g->seq;
		s.from_s = g->adopted_at_s;
	}
	if (s.gens_n > 0)
		fn(arg, &s);
}

void
repo_history(struct repo_view *v, const struct url *url, const struct aptfile *af,
    repo_history_f *fn, void *arg)
{
	const struct repo_dir *d;
	struct repo_path p;
	struct repo_walk w;

	repo_set_split(&p, url->text);
	repo_walk_begin(&w, repo_view_refresh(v), &p);
	while ((d = repo_walk_next(&w)) != NULL)
		if (repo_walk_may_name(&w, d, aptfile_may_be_package(af)))
			repo_history_of(&w.set->repos[d->repo], url, af, w.rel, fn, arg);
}
