/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Times of generations, as URLs, commands and pages write them. */
#include "cache/repo_priv.h"

#include <stdio.h>
#include <time.h>

/* Two digits with a value of at most max; false: something else. */
static bool
repo_time_digits(const char *p, int max, int *out)
{
	if (p[0] < '0' || p[0] > '9' || p[1] < '0' || p[1] > '9')
		return false;
	*out = (p[0] - '0') * 10 + (p[1] - '0');
	return *out <= max;
}

/* "2026-11-01" */
static bool
repo_time_parse_date(const char *p, struct tm *tm)
{
	int century, y, m, d;

	if (!repo_time_digits(p, 99, &century) || !repo_time_digits(p + 2, 99, &y) || p[4] != '-' ||
	    !repo_time_digits(p + 5, 12, &m) || p[7] != '-' || !repo_time_digits(p + 8, 31, &d) ||
	    century * 100 + y < 1970 || m == 0 || d == 0)
		return false;
	*tm = (struct tm){.tm_year = century * 100 + y - 1900, .tm_mon = m - 1, .tm_mday = d};
	return true;
}

/* "Z", "+01:00", which apt sends as "%2b01:00"; how many seconds before the world's clocks. */
static bool
repo_time_parse_zone(struct slice s, int64_t *ahead_s)
{
	bool east = true;
	int h, m;

	*ahead_s = 0;
	if (s.n == 1)
		return s.p[0] == 'Z' || s.p[0] == 'z';
	if (slice_starts(s, SLICE("+")))
		s = slice_skip(s, 1);
	else if (slice_starts(s, SLICE("%2b")) || slice_starts(s, SLICE("%2B")))
		s = slice_skip(s, 3);
	else if (slice_starts(s, SLICE("-"))) {
		s = slice_skip(s, 1);
		east = false;
	} else
		return false;
	if (s.n != 5 || s.p[2] != ':' || !repo_time_digits(s.p, 23, &h) ||
	    !repo_time_digits(s.p + 3, 59, &m))
		return false;
	*ahead_s = (east ? 1 : -1) * (h * 3600 + m * 60);
	return true;
}

bool
repo_time_parse(struct slice at, int64_t *out_s)
{
	struct tm tm;
	int64_t ahead_s;
	size_t n = 19;

	if (at.n < 10 || !repo_time_parse_date(at.p, &tm))
		return false;
	if (at.n == 10) {
		*out_s = (int64_t)timegm(&tm) + 86399;
		return true;
	}
	if (at.n < 20 || (at.p[10] != 'T' && at.p[10] != 't') || at.p[13] != ':' ||
	    at.p[16] != ':' || !repo_time_digits(at.p + 11, 23, &tm.tm_hour) ||
	    !repo_time_digits(at.p + 14, 59, &tm.tm_min) ||
	    !repo_time_digits(at.p + 17, 60, &tm.tm_sec))
		return false;
	if (at.p[n] == '.')
		for (n++; n < at.n && at.p[n] >= '0' && at.p[n] <= '9'; n++)
			;
	if (!repo_time_parse_zone(slice_skip(at, n), &ahead_s))
		return false;
	*out_s = (int64_t)timegm(&tm) - ahead_s;
	return true;
}

void
repo_time_text(int64_t s, char out[32])
{
	time_t t = (time_t)s;
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL) {
		(void)snprintf(out, 32, "an unknown date");
		return;
	}
	(void)strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}
