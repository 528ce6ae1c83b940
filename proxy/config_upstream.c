/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * [upstream "glob"] sections: what one host's settings are. config.c adds the
 * sections as it reads them; then nothing changes but the mixes, settings of
 * hosts that more than one section matches, made when first asked for.
 */
#include "proxy/config_priv.h"

#include "include/obj.h"

#include <stdlib.h>
#include <string.h>

/* ---- making ---- */

bool
config_sections_init(struct config *c)
{
	c->mixes = calloc(1, sizeof(*c->mixes));
	if (c->mixes == NULL)
		return false;
	AZ(pthread_mutex_init(&c->mixes->lock, NULL));
	return true;
}

struct config_section *
config_section_add(struct config *c, struct slice glob, struct globset *match, unsigned line)
{
	struct config_section *v, *s;

	v = realloc(c->sections, (c->sections_n + 1) * sizeof(*v));
	if (v == NULL)
		return NULL;
	c->sections = v;
	s = &v[c->sections_n];
	memset(s, 0, sizeof(*s));
	s->glob = strndup(glob.p, glob.n);
	if (s->glob == NULL)
		return NULL;
	s->match = *match;
	*match = (struct globset){{NULL, 0}};
	s->line = line;
	c->sections_n++;
	return s;
}

/* Lays what the section sets over *u. */
static void
config_section_lay(struct config_section *s, struct config_upstream *u)
{
	const struct config_option *o = config_options();
	unsigned i;

	for (i = 0; i < OPTION__N; i++, o++)
		if (s->set[i])
			config_value_copy(o->type, config_upstream_field(u, o),
			    config_upstream_field(&s->values, o));
}

void
config_sections_resolve(struct config *c)
{
	const struct config_option *o = config_options();
	size_t i;

	for (i = 0; i < OPTION__N; i++, o++)
		if (o->upstream)
			config_value_copy(o->type, config_upstream_field(&c->upstream, o),
			    config_field(c, o));
	for (i = 0; i < c->sections_n; i++) {
		c->sections[i].alone = c->upstream;
		config_section_lay(&c->sections[i], &c->sections[i].alone);
	}
}

/* Frees a section's text and values. */
static void
config_section_fini(struct config_section *s)
{
	const struct config_option *o = config_options();
	unsigned i;

	for (i = 0; i < OPTION__N; i++, o++)
		if (s->set[i])
			config_value_fini(o->type, config_upstream_field(&s->values, o));
	globset_fini(&s->match);
	free(s->glob);
}

void
config_sections_fini(struct config *c)
{
	struct config_mix *mix;
	size_t i;

	for (i = 0; i < c->sections_n; i++)
		config_section_fini(&c->sections[i]);
	free(c->sections);
	while ((mix = c->mixes->list) != NULL) {
		c->mixes->list = mix->next;
		free(mix);
	}
	AZ(pthread_mutex_destroy(&c->mixes->lock));
	free(c->mixes);
}

/* Do two sections set the same for the same hosts? */
static bool
config_section_equal(const struct config_section *a, const struct config_section *b)
{
	const struct config_option *o = config_options();
	unsigned i;

	if (strcmp(a->glob, b->glob) != 0 || memcmp(a->set, b->set, sizeof(a->set)) != 0)
		return false;
	for (i = 0; i < OPTION__N; i++, o++)
		if (a->set[i] && !config_value_equal(o->type,
		    (const char *)&a->values + o->upstream_at,
		    (const char *)&b->values + o->upstream_at))
			return false;
	return true;
}

bool
config_sections_equal(const struct config *a, const struct config *b)
{
	size_t i;

	if (a->sections_n != b->sections_n)
		return false;
	for (i = 0; i < a->sections_n; i++)
		if (!config_section_equal(&a->sections[i], &b->sections[i]))
			return false;
	return true;
}

/* ---- asking ---- */

/* The values under all sections of `matched`; without memory, those of the last one alone. */
static const struct config_upstream *
config_mix(const struct config *c, uint64_t matched, size_t last)
{
	struct config_mix *mix;
	size_t i;

	AZ(pthread_mutex_lock(&c->mixes->lock));
	for (mix = c->mixes->list; mix != NULL && mix->matched != matched; mix = mix->next)
		;
	if (mix == NULL && (mix = calloc(1, sizeof(*mix))) != NULL) {
		mix->matched = matched;
		mix->upstream = c->upstream;
		for (i = 0; i < c->sections_n; i++)
			if ((matched >> i & 1) != 0)
				config_section_lay(&c->sections[i], &mix->upstream);
		mix->next = c->mixes->list;
		c->mixes->list = mix;
	}
	AZ(pthread_mutex_unlock(&c->mixes->lock));
	return mix != NULL ? &mix->upstream : &c->sections[last].alone;
}

bool
config_any_auth(const struct config *c)
{
	size_t i;

	for (i = 0; i < c->sections_n; i++)
		if (c->sections[i].values.auth != NULL)
			return true;
	return c->upstream.auth != NULL;
}

const struct config_upstream *
config_for_upstream(const struct config *c, struct slice host)
{
	uint64_t matched = 0;
	size_t i, last = 0;

	CHECK_OBJ(c, CONFIG_MAGIC);
	for (i = 0; i < c->sections_n; i++) {
		if (globset_has(&c->sections[i].match, host, 0)) {
			matched |= UINT64_C(1) << i;
			last = i;
		}
	}
	if (matched == 0)
		return &c->upstream;
	if ((matched & (matched - 1)) == 0)
		return &c->sections[last].alone;
	return config_mix(c, matched, last);
}

/* The files of one upstream's settings. */
static void
config_each_upstream_file(const struct config_upstream *u, config_file_f *fn, void *arg)
{
	if (u->ca_file != NULL)
		fn(arg, "ca_file", u->ca_file);
	if (u->client_cert != NULL)
		fn(arg, "client_cert", u->client_cert);
	if (u->client_key != NULL)
		fn(arg, "client_key", u->client_key);
	if (u->auth != NULL)
		fn(arg, "auth", u->auth);
}

void
config_each_file(const struct config *c, config_file_f *fn, void *arg)
{
	size_t i;

	CHECK_OBJ(c, CONFIG_MAGIC);
	config_each_upstream_file(&c->upstream, fn, arg);
	for (i = 0; i < c->sections_n; i++)
		config_each_upstream_file(&c->sections[i].values, fn, arg);
}

const struct config_upstream *
config_upstream_at(const struct config *c, size_t n)
{
	CHECK_OBJ(c, CONFIG_MAGIC);
	if (n == 0)
		return &c->upstream;
	return n <= c->sections_n ? &c->sections[n - 1].alone : NULL;
}
