/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef SEGMENT_H
#define SEGMENT_H
/*
 * The parallel ranges of one fetch; see segments.c. Everything here runs on the
 * upstream thread; what may end the fetch is marked.
 */
#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>

#define SEGMENT_MAGIC 0x5e930001u

struct fetch;
struct segment;
struct segments;
struct uphost;
struct upstream;

/*
 * Called every UPSTREAM_TICK_MS: starts segments where they would help, replaces slow ones, gives
 * up. True: the fetch has changed hands or is gone.
 */
bool segments_tick(struct fetch *ft);
/* How many of n bytes the fetch's own stream may still take before it meets its segments. */
size_t segments_room(struct segments *all, size_t n);
/*
 * The fetch's own stream is over (why NULL: it met its segments): they bring the rest. False: they
 * can't, nothing has changed. True: the fetch may be gone.
 */
bool segments_take_over(struct fetch *ft, const char *why);
/* May parts of the body that one stream brings be asked for on other connections? */
bool segments_allowed(const struct fetch *ft);
/* Has a part been given, so that they could bring the rest? */
bool segments_proven(const struct fetch *ft);
/* Its stream is too slow: another one for the rest, if the origin gives parts; else it goes on. */
void segments_relieve(struct fetch *ft);
/* Is that being asked just now? */
bool segments_relieving(const struct fetch *ft);
/* Writes what the foremost segment has received. */
void segments_flush(struct segments *all);
/* Stops them all; what they wrote ahead is forgotten. */
void segments_free(struct segments **all_p);
/*
 * Somebody waits for a slot at this host (NULL: at any): one segment stops, of a body that nobody
 * waits for yet rather than of another (ahead_only: of no other). False: there is none that is not
 * its fetch's last connection.
 */
bool segments_yield(struct upstream *u, const struct uphost *h, bool ahead_only);

/* libcurl is done with a segment's transfer. The fetch may be gone afterwards. */
void segment_done(struct segment *sg, CURLcode result);

#endif
