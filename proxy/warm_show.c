/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What people see of the command warm while it downloads. On a terminal, a
 * table that is drawn over itself, a line for each file under way and one for
 * all of it; elsewhere a plain line now and then, so that a log shows that it
 * lives. A line for each file that is over stays in both cases (warm_fetch.c).
 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "proxy/warm_priv.h"

enum {
	WARM_DRAW_MS = 250,
	WARM_LINE_MS = 30000,		/* between two plain lines */
	WARM_COLUMNS_MIN = 50,		/* narrower screens get no table */
	WARM_NUMBERS_COLUMNS = 44,	/* all columns but the first */
	WARM_STILL_MS = 1000,		/* a rate over less says nothing */
};

/* Of a file or all of it: what has come of how much, in the unit of the latter. all < 0: not known. */
static void
warm_pair_text(uint64_t have, int64_t all, char out[48])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double v = all >= 0 ? (double)all : (double)have, scale = 1;
	unsigned u = 0;

	for (; v / scale >= 1024 && u + 1 < NELEM(units); u++)
		scale *= 1024;
	if (all < 0)
		(void)snprintf(out, 48, "%.*f %s", u > 0, (double)have / scale, units[u]);
	else
		(void)snprintf(out, 48, "%.*f/%.*f %s", u > 0, (double)have / scale, u > 0,
		    (double)all / scale, units[u]);
}

/* A time as clocks show it; "-": nobody knows. */
static void
warm_left_text(uint64_t left, double rate, char out[24])
{
	double s = rate > 0 ? (double)left / rate : -1;

	if (s < 0 || s >= 360000)
		(void)snprintf(out, 24, "-");
	else if (s >= 3600)
		(void)snprintf(out, 24, "%d:%02d:%02d", (int)s / 3600, (int)s / 60 % 60, (int)s % 60);
	else
		(void)snprintf(out, 24, "%d:%02d", (int)s / 60, (int)s % 60);
}

void
warm_row_text(const char *name, uint64_t have, int64_t all, double rate, unsigned columns,
    char out[WARM_ROW_BYTES])
{
	char pair[48], share[8] = "", speed[32] = "-", left[24];
	int name_n = (int)(columns - 1 - WARM_NUMBERS_COLUMNS);

	warm_pair_text(have, all, pair);
	if (all > 0)
		(void)snprintf(share, sizeof(share), "%u%%",
		    (unsigned)(have < (uint64_t)all ? have * 100 / (uint64_t)all : 100));
	if (rate >= 0) {
		warm_size_text((uint64_t)rate, left);
		(void)snprintf(speed, sizeof(speed), "%s/s", left);
	}
	warm_left_text(all > 0 && have < (uint64_t)all ? (uint64_t)all - have : 0,
	    all < 0 ? 0 : rate, left);
	(void)snprintf(out, WARM_ROW_BYTES, "%-*.*s %17s %4s %12s %7s", name_n, name_n, name, pair,
	    share, speed, left);
}

void
warm_show_begin(struct warm_show *s, bool quiet, int64_t now_ms)
{
	const char *term = getenv("TERM");

	memset(s, 0, sizeof(*s));
	s->quiet = quiet;
	s->screen = !quiet && isatty(STDOUT_FILENO) == 1 &&
	    (term == NULL || strcmp(term, "dumb") != 0);
	s->line_ms = now_ms;
	/* A picture goes out in one piece. */
	if (s->screen)
		(void)setvbuf(stdout, NULL, _IOFBF, 65536);
}

void
warm_show_clear(struct warm_show *s)
{
	if (s->lines_n > 0)
		(void)printf("\033[%uF\033[J", s->lines_n);
	s->lines_n = 0;
	s->drawn_ms = 0;
}

/* Bytes a second of the last few seconds; < 0: not known yet. */
static double
warm_show_rate(struct warm_show *s, uint64_t bytes, int64_t now_ms)
{
	unsigned first;

	if (s->past_n == 0 || now_ms - s->past[(s->past_n - 1) % WARM_PAST_MAX].ms >= WARM_DRAW_MS) {
		s->past[s->past_n % WARM_PAST_MAX].ms = now_ms;
		s->past[s->past_n % WARM_PAST_MAX].bytes = bytes;
		s->past_n++;
	}
	first = s->past_n > WARM_PAST_MAX ? s->past_n - WARM_PAST_MAX : 0;
	first %= WARM_PAST_MAX;
	if (now_ms - s->past[first].ms < WARM_STILL_MS || bytes < s->past[first].bytes)
		return -1;
	return (double)(bytes - s->past[first].bytes) * 1000 / (double)(now_ms - s->past[first].ms);
}

/* The table, as far as it has room. */
static void
warm_show_table(struct warm_show *s, const struct warm_progress *p, const char *title, double rate,
    int64_t now_ms)
{
	struct winsize size = {0, 0, 0, 0};
	unsigned columns = 80, rows = 24, i;
	char row[WARM_ROW_BYTES];

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
		columns = size.ws_col;
		rows = size.ws_row;
	}
	warm_show_clear(s);
	s->drawn_ms = now_ms;
	if (columns < WARM_COLUMNS_MIN)
		return;
	if (columns > WARM_ROW_BYTES)
		columns = WARM_ROW_BYTES;
	for (i = 0; i < p->running_n && i + 2 < rows; i++) {
		const struct warm_file *f = p->running[i];
		int64_t ms = now_ms - f->started_ms;

		warm_row_text(f->name, f->got_bytes, f->size_bytes, ms < WARM_STILL_MS ? -1 :
		    (double)f->got_bytes * 1000 / (double)ms, columns, row);
		(void)printf("%s\n", row);
		s->lines_n++;
	}
	warm_row_text(title, p->bytes, (int64_t)p->total_bytes, rate, columns, row);
	(void)printf("%s\n", row);
	s->lines_n++;
	(void)fflush(stdout);
}

void
warm_show_draw(struct warm_show *s, const struct warm_progress *p, int64_t now_ms)
{
	char title[64], pair[48], speed[24], left[24];
	double rate = warm_show_rate(s, p->bytes, now_ms);

	(void)snprintf(title, sizeof(title), "%u of %u files", p->done_n, p->n);
	if (s->screen && now_ms - s->drawn_ms >= WARM_DRAW_MS)
		warm_show_table(s, p, title, rate, now_ms);
	if (s->screen || s->quiet || now_ms - s->line_ms < WARM_LINE_MS)
		return;
	s->line_ms = now_ms;
	warm_pair_text(p->bytes, (int64_t)p->total_bytes, pair);
	warm_size_text(rate > 0 ? (uint64_t)rate : 0, speed);
	warm_left_text(p->total_bytes > p->bytes ? p->total_bytes - p->bytes : 0, rate, left);
	(void)printf("%s, %s, %s/s, %s left\n", title, pair, speed, left);
	(void)fflush(stdout);
}
