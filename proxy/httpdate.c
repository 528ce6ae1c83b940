/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * HTTP dates, converted by hand: neither the locale nor TZ may change what is
 * said to a client, and a date is formatted for every answer.
 */
#include "proxy/httpdate.h"

#include "include/clock.h"
#include "proxy/httpreq.h"

#define DATE_FIRST_S (-INT64_C(62135596800))	/* 0001-01-01 00:00:00 */
#define DATE_LAST_S INT64_C(253402300799)	/* 9999-12-31 23:59:59 */
enum { DAY_S = 86400, DAYS_400Y = 146097, DAYS_TO_1970 = 719468 };

static const char date_days[] = "SunMonTueWedThuFriSat";
static const char date_months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

struct date {
	int64_t year;
	unsigned month, day;		/* from 1 */
	unsigned hour, minute, second;
};

/* Counts the days from 1970 to a date; years begin in March so that the leap day comes last. */
static int64_t
date_days_of(int64_t year, unsigned month, unsigned day)
{
	int64_t y = year - (month <= 2), era = (y >= 0 ? y : y - 399) / 400;
	int64_t year_of_era = y - era * 400;
	int64_t from_march = month > 2 ? month - 3 : month + 9;
	int64_t day_of_year = (153 * from_march + 2) / 5 + day - 1;

	return era * DAYS_400Y + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 +
	    day_of_year - DAYS_TO_1970;
}

/* The inverse of date_days_of. */
static void
date_of_days(int64_t days, struct date *d)
{
	int64_t z = days + DAYS_TO_1970, era = (z >= 0 ? z : z - (DAYS_400Y - 1)) / DAYS_400Y;
	int64_t doe = z - era * DAYS_400Y;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t mp = (5 * doy + 2) / 153;

	d->day = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
	d->month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
	d->year = yoe + era * 400 + (d->month <= 2);
}

/* Is it a date of the calendar? A leap second is the second after it. */
static bool
date_is_valid(const struct date *d)
{
	static const uint8_t days_n[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	unsigned most;

	if (d->month < 1 || d->month > 12)
		return false;
	most = days_n[d->month - 1];
	if (d->month == 2 && d->year % 4 == 0 && (d->year % 100 != 0 || d->year % 400 == 0))
		most = 29;
	return d->year >= 1 && d->day >= 1 && d->day <= most && d->hour < 24 && d->minute < 60 &&
	    d->second <= 60;
}

/* Seconds since 1970. */
static int64_t
date_seconds(const struct date *d)
{
	return date_days_of(d->year, d->month, d->day) * DAY_S + (int64_t)d->hour * 3600 +
	    (int64_t)d->minute * 60 + d->second;
}

/* Writes two digits. */
static void
date_put2(char *p, unsigned v)
{
	p[0] = (char)('0' + v / 10 % 10);
	p[1] = (char)('0' + v % 10);
}

/* Writes "Sun, 06 Nov 1994 08:49:37 GMT". */
static void
date_put(char out[HTTP_DATE_BYTES], int64_t unix_s)
{
	int64_t days = (unix_s >= 0 ? unix_s : unix_s - (DAY_S - 1)) / DAY_S;
	unsigned of_day = (unsigned)(unix_s - days * DAY_S);
	struct date d;

	date_of_days(days, &d);
	memcpy(out, "Sun, 00 Jan 0000 00:00:00 GMT", HTTP_DATE_BYTES);
	/* 1970 began on a Thursday. */
	memcpy(out, date_days + 3 * (((days + 4) % 7 + 7) % 7), 3);
	date_put2(out + 5, d.day);
	memcpy(out + 8, date_months + (size_t)3 * (d.month - 1), 3);
	date_put2(out + 12, (unsigned)(d.year / 100));
	date_put2(out + 14, (unsigned)(d.year % 100));
	date_put2(out + 17, of_day / 3600);
	date_put2(out + 20, of_day / 60 % 60);
	date_put2(out + 23, of_day % 60);
}

/* Formats a date; what four digits of a year can't say becomes the nearest that they can. */
void
http_date_format(int64_t unix_s, char out[HTTP_DATE_BYTES])
{
	static _Thread_local int64_t last_s = INT64_MIN;
	static _Thread_local char last_text[HTTP_DATE_BYTES];

	if (unix_s < DATE_FIRST_S)
		unix_s = DATE_FIRST_S;
	else if (unix_s > DATE_LAST_S)
		unix_s = DATE_LAST_S;
	if (unix_s != last_s) {
		date_put(last_text, unix_s);
		last_s = unix_s;
	}
	memcpy(out, last_text, HTTP_DATE_BYTES);
}

/* Reads exactly n digits off the front. */
static bool
date_read_number(struct slice *s, size_t n, unsigned *out)
{
	uint64_t v;

	if (s->n < n || !slice_read_number((struct slice){s->p, n}, UINT64_MAX, &v))
		return false;
	*out = (unsigned)v;
	*s = slice_skip(*s, n);
	return true;
}

/* Reads a fixed text off the front. */
static bool
date_read_text(struct slice *s, struct slice text)
{
	if (!slice_starts(*s, text))
		return false;
	*s = slice_skip(*s, text.n);
	return true;
}

/* Reads one of the three-letter names; its place from 0. */
static bool
date_read_name(struct slice *s, const char *names, unsigned *out)
{
	if (s->n < 3)
		return false;
	for (unsigned i = 0; names[(size_t)3 * i] != '\0'; i++) {
		if (memcmp(s->p, names + (size_t)3 * i, 3) == 0) {
			*out = i;
			*s = slice_skip(*s, 3);
			return true;
		}
	}
	return false;
}

/* Reads a month's name. */
static bool
date_read_month(struct slice *s, struct date *d)
{
	unsigned from_0;

	if (!date_read_name(s, date_months, &from_0))
		return false;
	d->month = from_0 + 1;
	return true;
}

/* Reads "08:49:37". */
static bool
date_read_time(struct slice *s, struct date *d)
{
	return date_read_number(s, 2, &d->hour) && date_read_text(s, SLICE(":")) &&
	    date_read_number(s, 2, &d->minute) && date_read_text(s, SLICE(":")) &&
	    date_read_number(s, 2, &d->second);
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
static bool
date_read_imf(struct slice s, struct date *d)
{
	unsigned weekday, year;

	if (!(date_read_name(&s, date_days, &weekday) && date_read_text(&s, SLICE(", ")) &&
	    date_read_number(&s, 2, &d->day) && date_read_text(&s, SLICE(" ")) &&
	    date_read_month(&s, d) && date_read_text(&s, SLICE(" ")) &&
	    date_read_number(&s, 4, &year) && date_read_text(&s, SLICE(" ")) &&
	    date_read_time(&s, d) && slice_eq(s, SLICE(" GMT"))))
		return false;
	d->year = year;
	return date_is_valid(d);
}

/* Picks the century: the latest year that is not more than 50 years ahead (RFC 9110 5.6.7). */
static void
date_set_short_year(struct date *d, unsigned year_2)
{
	const int64_t latest_s = clock_wall_s() + 50 * (INT64_C(146097) * DAY_S / 400);
	struct date now;

	date_of_days(clock_wall_s() / DAY_S, &now);
	d->year = now.year - now.year % 100 + 100 + year_2;
	while (d->year > 100 && date_seconds(d) > latest_s)
		d->year -= 100;
}

/* "Sunday, 06-Nov-94 08:49:37 GMT", RFC 850 */
static bool
date_read_rfc850(struct slice s, struct date *d)
{
	static const char *const tails[] = {
		"day", "day", "sday", "nesday", "rsday", "day", "urday"};
	unsigned weekday, year_2;

	if (!(date_read_name(&s, date_days, &weekday) &&
	    date_read_text(&s, slice_of(tails[weekday])) && date_read_text(&s, SLICE(", ")) &&
	    date_read_number(&s, 2, &d->day) && date_read_text(&s, SLICE("-")) &&
	    date_read_month(&s, d) && date_read_text(&s, SLICE("-")) &&
	    date_read_number(&s, 2, &year_2) && date_read_text(&s, SLICE(" ")) &&
	    date_read_time(&s, d) && slice_eq(s, SLICE(" GMT"))))
		return false;
	date_set_short_year(d, year_2);
	return date_is_valid(d);
}

/* "Sun Nov  6 08:49:37 1994", asctime */
static bool
date_read_asctime(struct slice s, struct date *d)
{
	unsigned weekday, year;

	if (!(date_read_name(&s, date_days, &weekday) && date_read_text(&s, SLICE(" ")) &&
	    date_read_month(&s, d) && date_read_text(&s, SLICE(" "))))
		return false;
	if (!(date_read_text(&s, SLICE(" ")) ? date_read_number(&s, 1, &d->day) :
	    date_read_number(&s, 2, &d->day)))
		return false;
	if (!(date_read_text(&s, SLICE(" ")) && date_read_time(&s, d) &&
	    date_read_text(&s, SLICE(" ")) && date_read_number(&s, 4, &year) && s.n == 0))
		return false;
	d->year = year;
	return date_is_valid(d);
}

/* Reads a date in any of the three forms. */
int64_t
http_date_parse(struct slice s)
{
	struct date d = {0};

	if (date_read_imf(s, &d) || date_read_rfc850(s, &d) || date_read_asctime(s, &d))
		return date_seconds(&d);
	return HTTP_NO_DATE;
}

/* Is it the preferred form? */
bool
http_date_is_imf(struct slice s)
{
	struct date d = {0};

	return date_read_imf(s, &d);
}
