/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The model of what closure.c walks in: stanzas become entries of fixed size
 * with offsets into one text, then sorted places by name, by provided name,
 * by digest, and who needs whom. About 400 bytes for each package of Debian.
 *
 *   closure_new -> (begin_list, feed*, end_list)* -> finish -> walks -> free
 */
#include "cache/closure_priv.h"

#include <stdio.h>

#include "cache/debversion.h"
#include "cache/relpath.h"
#include "include/key.h"

static const uint32_t closure_fields = STANZA_BIT(PACKAGE) | STANZA_BIT(VERSION) |
    STANZA_BIT(ARCHITECTURE) | STANZA_BIT(FILENAME) | STANZA_BIT(SIZE) | STANZA_BIT(SHA256) |
    STANZA_BIT(DEPENDS) | STANZA_BIT(PRE_DEPENDS) | STANZA_BIT(RECOMMENDS) |
    STANZA_BIT(PROVIDES) | STANZA_BIT(ESSENTIAL) | STANZA_BIT(PRIORITY);

struct closure *
closure_new(uint64_t max_bytes)
{
	struct closure *c;

	OBJ_NEW(c, CLOSURE_MAGIC);
	if (c == NULL)
		return NULL;
	c->max_bytes = max_bytes < UINT32_MAX ? max_bytes : UINT32_MAX;
	(void)strcpy(c->archs[0], "all");
	c->archs_n = 1;
	return c;
}

void
closure_free(struct closure **c_p)
{
	struct closure *c = *c_p;

	*c_p = NULL;
	if (c == NULL)
		return;
	CHECK_OBJ(c, CLOSURE_MAGIC);
	stanza_free(&c->stanzas);
	unpack_free(&c->unpack);
	free(c->text);
	free(c->packages);
	free(c->provided);
	free(c->by_name);
	free(c->by_digest);
	free(c->edges);
	OBJ_FREE(c);
}

const char *
closure_why(const struct closure *c)
{
	CHECK_OBJ(c, CLOSURE_MAGIC);
	return c->why;
}

uint32_t
closure_packages_n(const struct closure *c)
{
	CHECK_OBJ(c, CLOSURE_MAGIC);
	return c->packages_n;
}

uint64_t
closure_bytes(const struct closure *c)
{
	CHECK_OBJ(c, CLOSURE_MAGIC);
	return sizeof(*c) + c->text_cap + (uint64_t)c->packages_cap * sizeof(*c->packages) +
	    (uint64_t)c->provided_cap * sizeof(*c->provided) + c->edges_cap * sizeof(*c->edges) +
	    (c->by_name != NULL ? (uint64_t)c->packages_n * 8 : 0);
}

struct slice
closure_slice(const struct closure *c, struct closure_text t)
{
	return (struct slice){c->text + t.at, t.n};
}

struct slice
closure_arch_name(const struct closure *c, uint16_t arch)
{
	return slice_of(c->archs[arch]);
}

uint16_t
closure_wanted_arch(const struct closure_entry *e)
{
	return e->arch != 0 ? e->arch : e->list_arch;
}

/* ---- memory ---- */

/* Room for one more element of elem_bytes; false: no memory, or beyond max_bytes. */
static bool
closure_grow(struct closure *c, void **v_p, uint32_t n, uint32_t *cap, size_t elem_bytes)
{
	uint32_t more = *cap < 64 ? 64 : *cap + *cap / 2;
	void *v;

	if (n < *cap)
		return true;
	if (closure_bytes(c) + (uint64_t)(more - *cap) * elem_bytes > c->max_bytes) {
		(void)snprintf(c->why, sizeof(c->why), "the list needs more than %llu bytes of memory",
		    (unsigned long long)c->max_bytes);
		return false;
	}
	v = realloc(*v_p, more * elem_bytes);
	if (v == NULL)
		return false;
	*v_p = v;
	*cap = more;
	return true;
}

/* Keeps a text; false: no room. */
static bool
closure_keep(struct closure *c, struct slice s, struct closure_text *out)
{
	size_t cap = c->text_cap;
	char *p;

	while (c->text_n + s.n > cap)
		cap = cap < 65536 ? 65536 : cap + cap / 2;
	if (cap != c->text_cap) {
		p = closure_bytes(c) + (cap - c->text_cap) <= c->max_bytes ? realloc(c->text, cap) :
		    NULL;
		if (p == NULL) {
			(void)snprintf(c->why, sizeof(c->why), "the list needs more than %llu bytes of "
			    "memory", (unsigned long long)c->max_bytes);
			return false;
		}
		c->text = p;
		c->text_cap = cap;
	}
	*out = (struct closure_text){(uint32_t)c->text_n, (uint32_t)s.n};
	if (s.n > 0)
		memcpy(c->text + c->text_n, s.p, s.n);
	c->text_n += s.n;
	return true;
}

/* The place of this architecture; one too many, or none, is "all". */
static uint16_t
closure_arch(struct closure *c, struct slice name)
{
	for (unsigned i = 0; i < c->archs_n; i++)
		if (slice_eq(slice_of(c->archs[i]), name))
			return (uint16_t)i;
	if (name.n == 0 || name.n >= CLOSURE_ARCH_BYTES || c->archs_n == CLOSURE_ARCHS_MAX)
		return 0;
	memcpy(c->archs[c->archs_n], name.p, name.n);
	return (uint16_t)c->archs_n++;
}

/* ---- fields ---- */

/* Cuts up to the separator off the front. */
static bool
closure_next_part(struct slice *rest, char separator, struct slice *part)
{
	const char *p;

	while (rest->n > 0) {
		p = memchr(rest->p, separator, rest->n);
		*part = slice_trim((struct slice){rest->p,
		    p != NULL ? (size_t)(p - rest->p) : rest->n});
		*rest = p != NULL ? slice_skip(*rest, (size_t)(p - rest->p) + 1) : SLICE_NONE;
		if (part->n > 0)
			return true;
	}
	return false;
}

bool
closure_next_group(struct slice *field, struct slice *group)
{
	return closure_next_part(field, ',', group);
}

bool
closure_next_relation(struct slice *group, struct closure_relation *r)
{
	struct slice s, in;
	const char *p;
	size_t n = 0;

	if (!closure_next_part(group, '|', &s))
		return false;
	memset(r, 0, sizeof(*r));
	while (n < s.n && strchr(" \t\r\n(:[<", s.p[n]) == NULL)
		n++;
	r->name = (struct slice){s.p, n};
	s = slice_skip(s, n);
	if (s.n > 0 && s.p[0] == ':') {
		for (n = 1; n < s.n && strchr(" \t\r\n([<", s.p[n]) == NULL; n++)
			;
		r->arch = (struct slice){s.p + 1, n - 1};
		s = slice_skip(s, n);
	}
	p = s.n > 0 ? memchr(s.p, '(', s.n) : NULL;
	if (p == NULL)
		return true;
	in = slice_skip(s, (size_t)(p - s.p) + 1);
	p = in.n > 0 ? memchr(in.p, ')', in.n) : NULL;
	if (p != NULL)
		in.n = (size_t)(p - in.p);
	in = slice_trim(in);
	for (n = 0; n < in.n && strchr("<>=", in.p[n]) != NULL; n++)
		;
	r->op = (struct slice){in.p, n};
	r->version = slice_trim(slice_skip(in, n));
	return true;
}

bool
closure_relation_allows(const struct closure_relation *r, struct slice version)
{
	int c;

	if (r->op.n == 0)
		return true;
	c = debversion_compare(version, r->version);
	if (slice_eq(r->op, SLICE("=")))
		return c == 0;
	if (slice_eq(r->op, SLICE("<<")))
		return c < 0;
	if (slice_eq(r->op, SLICE(">>")))
		return c > 0;
	return r->op.p[0] == '<' ? c <= 0 : c >= 0;	/* < and > are old words for <= and >= */
}

/* ---- reading ---- */

/* What the package stands in for, in the list of provided names. */
static bool
closure_keep_provides(struct closure *c, struct slice field, uint32_t package)
{
	struct closure_relation r;
	struct slice group;

	while (closure_next_group(&field, &group)) {
		struct closure_provided *p;
		void *v = c->provided;

		if (!closure_next_relation(&group, &r) || r.name.n == 0 ||
		    r.version.n > CLOSURE_VERSION_MAX)
			continue;
		if (!closure_grow(c, &v, c->provided_n, &c->provided_cap, sizeof(*p)))
			return false;
		c->provided = v;
		p = &c->provided[c->provided_n];
		p->package = package;
		if (!closure_keep(c, r.name, &p->name) || !closure_keep(c, r.version, &p->version))
			return false;
		c->provided_n++;
	}
	return true;
}

static bool
closure_is_base(const struct stanza *st)
{
	struct slice priority = st->f[STANZA_PRIORITY];

	return slice_caseeq(st->f[STANZA_ESSENTIAL], SLICE("yes")) ||
	    slice_eq(priority, SLICE("required")) || slice_eq(priority, SLICE("important"));
}

/*
 * One package; those without a name, file, size or SHA256 can't be fetched and checked. No real
 * version is as long as would make comparing it costly.
 */
static enum reason
closure_take_stanza(void *arg, const struct stanza *st)
{
	struct closure *c = arg;
	struct closure_entry *e, entry = {.list_arch = c->list_arch};
	void *v = c->packages;

	if (st->f[STANZA_PACKAGE].n == 0 || st->f[STANZA_FILENAME].n == 0 ||
	    !slice_read_number(st->f[STANZA_SIZE], RELPATH_SIZE_MAX, &entry.size_bytes) ||
	    !key_from_hex(st->f[STANZA_SHA256], entry.sha256) ||
	    st->f[STANZA_VERSION].n > CLOSURE_VERSION_MAX)
		return REASON_OK;
	if (c->packages_n >= CLOSURE_PACKAGES_MAX) {
		(void)snprintf(c->why, sizeof(c->why), "more than %d packages", CLOSURE_PACKAGES_MAX);
		return REASON_LIST_BAD;
	}
	if (!closure_grow(c, &v, c->packages_n, &c->packages_cap, sizeof(*e)))
		return REASON_NO_MEMORY;
	c->packages = v;
	entry.arch = closure_arch(c, st->f[STANZA_ARCHITECTURE]);
	if (c->list_arch == 0)
		c->list_arch = entry.list_arch = entry.arch;
	entry.base = closure_is_base(st);
	if (!closure_keep(c, st->f[STANZA_PACKAGE], &entry.name) ||
	    !closure_keep(c, st->f[STANZA_VERSION], &entry.version) ||
	    !closure_keep(c, st->f[STANZA_FILENAME], &entry.filename) ||
	    !closure_keep(c, st->f[STANZA_PRE_DEPENDS], &entry.pre_depends) ||
	    !closure_keep(c, st->f[STANZA_DEPENDS], &entry.depends) ||
	    !closure_keep(c, st->f[STANZA_RECOMMENDS], &entry.recommends) ||
	    !closure_keep_provides(c, st->f[STANZA_PROVIDES], c->packages_n))
		return REASON_NO_MEMORY;
	c->packages[c->packages_n++] = entry;
	return REASON_OK;
}

static enum reason
closure_take_text(void *arg, const void *p, size_t n)
{
	struct closure *c = arg;

	return stanza_feed(c->stanzas, p, n);
}

enum reason
closure_begin_list(struct closure *c, enum unpack_kind kind, uint64_t max_unpacked,
    struct slice arch)
{
	CHECK_OBJ(c, CLOSURE_MAGIC);
	MUST(c->unpack == NULL && c->by_name == NULL);
	c->list_arch = closure_arch(c, arch);
	c->unpack = unpack_new(kind, max_unpacked);
	c->stanzas = stanza_new(closure_fields, closure_take_stanza, c);
	return c->unpack == NULL || c->stanzas == NULL ? REASON_NO_MEMORY : REASON_OK;
}

/* Words for what went wrong, from whoever has them. */
static enum reason
closure_explain(struct closure *c, enum reason r)
{
	const char *why = r != REASON_LIST_BAD || c->why[0] != '\0' ? "" :
	    stanza_why(c->stanzas)[0] != '\0' ? stanza_why(c->stanzas) : unpack_why(c->unpack);

	if (why[0] != '\0')
		(void)snprintf(c->why, sizeof(c->why), "%s", why);
	return r;
}

enum reason
closure_feed(struct closure *c, const void *p, size_t n)
{
	CHECK_OBJ(c, CLOSURE_MAGIC);
	return closure_explain(c, unpack_feed(c->unpack, p, n, closure_take_text, c));
}

enum reason
closure_end_list(struct closure *c)
{
	enum reason r;

	CHECK_OBJ(c, CLOSURE_MAGIC);
	r = unpack_end(c->unpack);
	if (r == REASON_OK)
		r = stanza_end(c->stanzas);
	(void)closure_explain(c, r);
	stanza_free(&c->stanzas);
	unpack_free(&c->unpack);
	return r;
}

/* ---- indexes ---- */

static int
closure_order_slices(struct slice a, struct slice b)
{
	int d = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);

	return d != 0 ? d : (a.n > b.n) - (a.n < b.n);
}

/* Name, newest first, then as listed. */
static int
closure_order_names(const void *pa, const void *pb, void *arg)
{
	const struct closure *c = arg;
	uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
	int d = closure_order_slices(closure_slice(c, c->packages[a].name),
	    closure_slice(c, c->packages[b].name));

	if (d == 0)
		d = debversion_compare(closure_slice(c, c->packages[b].version),
		    closure_slice(c, c->packages[a].version));
	return d != 0 ? d : (a > b) - (a < b);
}

static int
closure_order_digests(const void *pa, const void *pb, void *arg)
{
	const struct closure *c = arg;

	return memcmp(c->packages[*(const uint32_t *)pa].sha256,
	    c->packages[*(const uint32_t *)pb].sha256, 32);
}

static int
closure_order_provided(const void *pa, const void *pb, void *arg)
{
	const struct closure *c = arg;
	const struct closure_provided *a = pa, *b = pb;
	int d = closure_order_slices(closure_slice(c, a->name), closure_slice(c, b->name));

	return d != 0 ? d : (a->package > b->package) - (a->package < b->package);
}

static int
closure_order_edges(const void *pa, const void *pb)
{
	uint64_t a = *(const uint64_t *)pa, b = *(const uint64_t *)pb;

	return (a > b) - (a < b);
}

void
closure_name_range(const struct closure *c, struct slice name, uint32_t *from, uint32_t *to)
{
	uint32_t low = 0, high = c->packages_n, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (closure_order_slices(closure_slice(c, c->packages[c->by_name[mid]].name), name) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	*from = low;
	while (low < c->packages_n &&
	    slice_eq(closure_slice(c, c->packages[c->by_name[low]].name), name))
		low++;
	*to = low;
}

void
closure_provided_range(const struct closure *c, struct slice name, uint32_t *from, uint32_t *to)
{
	uint32_t low = 0, high = c->provided_n, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (closure_order_slices(closure_slice(c, c->provided[mid].name), name) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	*from = low;
	while (low < c->provided_n && slice_eq(closure_slice(c, c->provided[low].name), name))
		low++;
	*to = low;
}

uint32_t
closure_find_digest(const struct closure *c, const uint8_t sha256[32])
{
	uint32_t low = 0, high = c->packages_n, mid;

	CHECK_OBJ(c, CLOSURE_MAGIC);
	while (low < high) {
		mid = low + (high - low) / 2;
		if (memcmp(c->packages[c->by_digest[mid]].sha256, sha256, 32) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low < c->packages_n &&
	    memcmp(c->packages[c->by_digest[low]].sha256, sha256, 32) == 0 ? c->by_digest[low] :
	    CLOSURE_NONE;
}

static enum reason
closure_too_many(struct closure *c)
{
	(void)snprintf(c->why, sizeof(c->why), "more than %d candidates for its dependencies",
	    CLOSURE_STEPS_MAX);
	return REASON_LIST_BAD;
}

/* Notes for each dependency of a field which package satisfies it. */
static enum reason
closure_add_edges(struct closure *c, uint32_t i, struct closure_text field)
{
	struct slice rest = closure_slice(c, field), group;
	struct closure_relation r;

	while (closure_next_group(&rest, &group)) {
		uint32_t cap = (uint32_t)c->edges_cap, target = CLOSURE_NONE;
		void *v = c->edges;

		while (target == CLOSURE_NONE && c->edges_steps_n <= CLOSURE_STEPS_MAX &&
		    closure_next_relation(&group, &r))
			target = closure_resolve(c, &r, closure_wanted_arch(&c->packages[i]),
			    &c->edges_steps_n);
		if (c->edges_steps_n > CLOSURE_STEPS_MAX)
			return closure_too_many(c);
		if (target == CLOSURE_NONE)
			continue;
		if (!closure_grow(c, &v, (uint32_t)c->edges_n, &cap, sizeof(*c->edges)))
			return REASON_NO_MEMORY;
		c->edges = v;
		c->edges_cap = cap;
		c->edges[c->edges_n++] = (uint64_t)target << 32 | i;
	}
	return REASON_OK;
}

/* What base packages need is base, too. */
static enum reason
closure_spread_base(struct closure *c)
{
	struct closure_walk *w = closure_walk_new(c, false);
	uint32_t *roots = malloc((c->packages_n + 1) * sizeof(*roots));
	const uint32_t *order;
	unsigned n = 0;
	enum reason r = REASON_NO_MEMORY;

	if (w != NULL && roots != NULL) {
		for (uint32_t i = 0; i < c->packages_n; i++)
			if (c->packages[i].base)
				roots[n++] = i;
		r = n > 0 ? closure_walk_add(w, roots, n) : REASON_OK;
		order = closure_walk_order(w, &n);
		for (unsigned i = 0; i < n; i++)
			c->packages[order[i]].base = true;
	}
	if (r == REASON_LIST_BAD)
		(void)closure_too_many(c);
	free(roots);
	closure_walk_free(&w);
	return r;
}

enum reason
closure_finish(struct closure *c, bool reverse)
{
	enum reason r = REASON_OK;

	CHECK_OBJ(c, CLOSURE_MAGIC);
	MUST(c->unpack == NULL && c->by_name == NULL);
	if (closure_bytes(c) + (uint64_t)c->packages_n * 8 > c->max_bytes)
		return REASON_NO_MEMORY;
	c->by_name = malloc((c->packages_n + 1) * sizeof(*c->by_name));
	c->by_digest = malloc((c->packages_n + 1) * sizeof(*c->by_digest));
	if (c->by_name == NULL || c->by_digest == NULL)
		return REASON_NO_MEMORY;
	for (uint32_t i = 0; i < c->packages_n; i++)
		c->by_name[i] = c->by_digest[i] = i;
	qsort_r(c->by_name, c->packages_n, sizeof(*c->by_name), closure_order_names, c);
	qsort_r(c->by_digest, c->packages_n, sizeof(*c->by_digest), closure_order_digests, c);
	if (c->provided_n > 0)
		qsort_r(c->provided, c->provided_n, sizeof(*c->provided), closure_order_provided, c);
	for (uint32_t i = 0; reverse && i < c->packages_n && r == REASON_OK; i++) {
		r = closure_add_edges(c, i, c->packages[i].pre_depends);
		if (r == REASON_OK)
			r = closure_add_edges(c, i, c->packages[i].depends);
	}
	if (r != REASON_OK)
		return r;
	if (c->edges_n > 0)
		qsort(c->edges, c->edges_n, sizeof(*c->edges), closure_order_edges);
	return closure_spread_base(c);
}

unsigned
closure_dependants(const struct closure *c, uint32_t i, uint32_t *out, unsigned max_n)
{
	size_t low = 0, high = c->edges_n, mid;
	unsigned n = 0;

	CHECK_OBJ(c, CLOSURE_MAGIC);
	while (low < high) {
		mid = low + (high - low) / 2;
		if (c->edges[mid] < (uint64_t)i << 32)
			low = mid + 1;
		else
			high = mid;
	}
	for (; low < c->edges_n && c->edges[low] >> 32 == i && n < max_n; low++)
		out[n++] = (uint32_t)c->edges[low];
	return n;
}

void
closure_get(const struct closure *c, uint32_t i, struct closure_package *out)
{
	const struct closure_entry *e;

	CHECK_OBJ(c, CLOSURE_MAGIC);
	MUST(i < c->packages_n);
	e = &c->packages[i];
	*out = (struct closure_package){
		.name = closure_slice(c, e->name), .version = closure_slice(c, e->version),
		.arch = closure_arch_name(c, e->arch), .filename = closure_slice(c, e->filename),
		.size_bytes = e->size_bytes, .sha256 = e->sha256, .base = e->base,
	};
}
