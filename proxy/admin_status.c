/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The commands status and top: what the depot is doing now. admin.c runs them. */
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "include/clock.h"
#include "include/config.h"
#include "include/counter.h"
#include "proxy/admin_priv.h"
#include "proxy/page_priv.h"

enum {
	ADMIN_TOP_MS = 1000,
	ADMIN_TOP_MAX = 512,
};

/* ---- status ---- */

/* Counters that say how the day went; those of trouble are shown when there was any. */
static const struct {
	enum counter c;
	const char *what;
	bool trouble, bytes;
} admin_counters[] = {
	{COUNTER_connections_open, "clients connected", false, false},
	{COUNTER_requests_total, "requests", false, false},
	{COUNTER_hits_total, "from the cache", false, false},
	{COUNTER_joins_total, "joined a running fetch", false, false},
	{COUNTER_misses_total, "started a fetch", false, false},
	{COUNTER_revalidated_total, "confirmed by upstream", false, false},
	{COUNTER_sent_body_bytes_total, "sent to clients", false, true},
	{COUNTER_upstream_body_bytes_total, "fetched from upstream", false, true},
	{COUNTER_tunnels_open, "tunnels open", false, false},
	{COUNTER_upstream_queued, "fetches waiting for a connection", true, false},
	{COUNTER_stale_served_total, "stale answers", true, false},
	{COUNTER_upstream_failures_total, "failed fetches", true, false},
	{COUNTER_errors_sent_total, "errors sent (5xx)", true, false},
	{COUNTER_cut_answers_total, "answers cut short", true, false},
	{COUNTER_refused_total, "requests refused (403)", true, false},
	{COUNTER_store_failures_total, "bodies not stored", true, false},
	{COUNTER_blobs_damaged_total, "damaged bodies dropped", true, false},
	{COUNTER_digest_mismatches_total, "wrong digests", true, false},
	{COUNTER_index_errors_total, "failed index writes", true, false},
	{COUNTER_index_lost, "cache_dir/index removed: restart", true, false},
	{COUNTER_log_lines_dropped_total, "log lines dropped", true, false},
};

/* One fetch in a line. rate < 0: not measured. */
static void
admin_print_flight(FILE *out, const struct flight_info *f, double rate)
{
	(void)fputs("  ", out);
	page_put_bytes(out, (double)f->visible_bytes);
	if (f->total_bytes >= 0) {
		(void)fputs(" of ", out);
		page_put_bytes(out, (double)f->total_bytes);
	}
	if (rate >= 0) {
		(void)fputs(", ", out);
		page_put_bytes(out, rate);
		(void)fputs("/s", out);
	}
	(void)fprintf(out, ", %s, %u %s, since ", flight_state_name(f->state), f->readers_n,
	    f->readers_n == 1 ? "reader" : "readers");
	page_put_span(out, f->age_ms / 1000);
	(void)fputs("  ", out);
	page_put_url(out, f->url, false);
	(void)putc('\n', out);
}

static void
admin_print_cache(FILE *out, const struct cache_totals *t)
{
	(void)fputs("cache      ", out);
	page_put_bytes(out, (double)t->blob_bytes);
	(void)fprintf(out, " in %" PRIu64 " file%s, at most ", t->blobs_n, t->blobs_n == 1 ? "" : "s");
	page_put_bytes(out, (double)t->max_bytes);
	if (t->partial_bytes > 0) {
		(void)fputs("; ", out);
		page_put_bytes(out, (double)t->partial_bytes);
		(void)fputs(" unfinished", out);
	}
	(void)putc('\n', out);
}

int
admin_status(struct admin_call *a)
{
	const struct config *c = a->depot->config;
	struct page_facts f;
	unsigned i;
	size_t k;

	page_facts_init(&f, a->depot, clock_wall_s());
	if (a->cmd->json) {
		page_print_status(a->out, &f);
		page_facts_fini(&f);
		return CMD_OK;
	}
	(void)fprintf(a->out, "apt-depot  %s, up ", f.version);
	page_put_span(a->out, f.now_s - f.started_s);
	(void)fprintf(a->out, ", process %ld\nlistens    ", (long)getpid());
	for (k = 0; k < c->listen.n; k++)
		(void)fprintf(a->out, "%s%s", k > 0 ? ", " : "", c->listen.v[k]);
	(void)fprintf(a->out, "\ncache_dir  %s\n", c->cache_dir);
	admin_print_cache(a->out, &f.cache);
	if (page_hit_permille() >= 0)
		(void)fprintf(a->out, "hit rate   %d.%d %%\n", page_hit_permille() / 10,
		    page_hit_permille() % 10);
	for (i = 0; i < NELEM(admin_counters); i++) {
		int64_t n = counter_read(admin_counters[i].c);

		if (admin_counters[i].trouble && n == 0)
			continue;
		(void)fprintf(a->out, "%s ", admin_counters[i].trouble ? "  !" : "   ");
		if (admin_counters[i].bytes)
			page_put_bytes(a->out, (double)n);
		else
			(void)fprintf(a->out, "%" PRId64, n);
		(void)fprintf(a->out, " %s\n", admin_counters[i].what);
	}
	for (i = 0; i < f.avoided_n; i++)
		(void)fprintf(a->out, "  ! address %s of %s is avoided for %" PRId64 " s: it %s\n",
		    f.avoided[i].address, f.avoided[i].origin,
		    (f.avoided[i].until_ms - f.now_ms) / 1000, f.avoided[i].why);
	(void)fprintf(a->out, "fetches    %u\n", f.flights_n);
	for (i = 0; i < f.flights_shown; i++)
		admin_print_flight(a->out, &f.flights[i], -1);
	page_facts_fini(&f);
	return CMD_OK;
}

/* ---- top ---- */

/* A fetch as it was a moment ago and as it is now. */
struct admin_rate {
	struct flight_info now;
	double rate;			/* bytes a second */
};

static int
admin_rate_compare(const void *ap, const void *bp)
{
	const struct admin_rate *a = ap, *b = bp;

	if (a->rate != b->rate)
		return a->rate < b->rate ? 1 : -1;
	return a->now.id < b->now.id ? -1 : a->now.id > b->now.id;
}

/* How much of it had come at the first look. */
static uint64_t
admin_bytes_before(const struct flight_info *was, unsigned was_n, uint64_t id)
{
	unsigned i;

	for (i = 0; i < was_n; i++)
		if (was[i].id == id)
			return was[i].visible_bytes;
	return 0;
}

static void
admin_print_top(struct admin_call *a, const struct admin_rate *r, unsigned n, double in, double out)
{
	unsigned i;

	if (a->cmd->json) {
		(void)fprintf(a->out, "{\"upstream_bytes_per_s\":%.0f,\"sent_bytes_per_s\":%.0f,"
		    "\"flights\":[", in, out);
		for (i = 0; i < n; i++) {
			(void)fprintf(a->out, "%s{\"id\":%" PRIu64 ",\"url\":\"", i > 0 ? "," : "",
			    r[i].now.id);
			page_put_url(a->out, r[i].now.url, false);
			(void)fprintf(a->out, "\",\"state\":\"%s\",\"bytes\":%" PRIu64
			    ",\"total_bytes\":%" PRId64 ",\"readers\":%u,\"bytes_per_s\":%.0f}",
			    flight_state_name(r[i].now.state), r[i].now.visible_bytes,
			    r[i].now.total_bytes, r[i].now.readers_n, r[i].rate);
		}
		(void)fputs("]}\n", a->out);
		return;
	}
	(void)fputs("from upstream ", a->out);
	page_put_bytes(a->out, in);
	(void)fputs("/s, to clients ", a->out);
	page_put_bytes(a->out, out);
	(void)fprintf(a->out, "/s, %" PRId64 " clients, %u fetches\n",
	    counter_read(COUNTER_connections_open), n);
	for (i = 0; i < n; i++)
		admin_print_flight(a->out, &r[i].now, r[i].rate);
}

int
admin_top(struct admin_call *a)
{
	struct flight_info *was = calloc(ADMIN_TOP_MAX, sizeof(*was));
	struct flight_info *now = calloc(ADMIN_TOP_MAX, sizeof(*now));
	struct admin_rate *rates = calloc(ADMIN_TOP_MAX, sizeof(*rates));
	int64_t in = counter_read(COUNTER_upstream_body_bytes_total);
	int64_t out = counter_read(COUNTER_sent_body_bytes_total), began_ms = clock_mono_ms();
	unsigned was_n, n = 0, i;
	double s;

	if (was != NULL && now != NULL && rates != NULL) {
		was_n = cache_flights(a->depot->cache, was, ADMIN_TOP_MAX);
		if (was_n > ADMIN_TOP_MAX)
			was_n = ADMIN_TOP_MAX;
		if (!admin_sleep(a, ADMIN_TOP_MS))
			goto out;
		s = (double)(clock_mono_ms() - began_ms) / 1000;
		n = cache_flights(a->depot->cache, now, ADMIN_TOP_MAX);
		if (n > ADMIN_TOP_MAX)
			n = ADMIN_TOP_MAX;
		for (i = 0; i < n; i++) {
			rates[i].now = now[i];
			rates[i].rate = (double)(now[i].visible_bytes -
			    admin_bytes_before(was, was_n, now[i].id)) / s;
		}
		qsort(rates, n, sizeof(*rates), admin_rate_compare);
		admin_print_top(a, rates, n,
		    (double)(counter_read(COUNTER_upstream_body_bytes_total) - in) / s,
		    (double)(counter_read(COUNTER_sent_body_bytes_total) - out) / s);
	}
out:
	free(was);
	free(now);
	free(rates);
	return CMD_OK;
}
