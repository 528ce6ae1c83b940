/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef LOG_H
#define LOG_H
/*
 * The log. Lines are put together by the calling thread and written by the
 * log's own thread, so that a slow terminal or disk never stops a loop; when
 * the buffer is full, lines are dropped and counted. cache/ and proxy/ both
 * log through here. One line is one event: what was expected, what came,
 * what we did. `req=` and `flight=` numbers let one grep follow a package
 * from request to last byte.
 */
#include <stdbool.h>
#include <stdint.h>

#include "include/obj.h"
#include "include/slice.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_NOTICE, LOG_WARNING, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

/*
 * file NULL: stderr. access: NULL: off, "-": standard output, else a path.
 * Returns 0 or an errno of the file that could not be opened, after a line
 * about it, and both stay as they were. Before log_open, and after log_close,
 * lines go to stderr at once.
 */
int log_open(const char *file, const char *access, enum log_level level,
    enum log_format format) MUSTCHECK;
/* Level and format alone, for lines before log_open (which starts a thread). */
void log_style(enum log_level level, enum log_format format);
/* SIGUSR1: same paths again. Where that fails, a line says so: to stderr, if the old file has gone. */
void log_reopen(void);
void log_close(void);		/* writes what is waiting, ends the thread */

bool log_enabled(enum log_level level);
void log_msg(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);
#define log_debug(...)                                                         \
	do {                                                                   \
		if (log_enabled(LOG_DEBUG))                                    \
			log_msg(LOG_DEBUG, __VA_ARGS__);                       \
	} while (0)
#define log_info(...) log_msg(LOG_INFO, __VA_ARGS__)
#define log_notice(...) log_msg(LOG_NOTICE, __VA_ARGS__)
#define log_warning(...) log_msg(LOG_WARNING, __VA_ARGS__)
#define log_error(...) log_msg(LOG_ERROR, __VA_ARGS__)

/* One finished request. Text is borrowed for the call; URLs carry no credentials. */
struct log_access {
	uint64_t req_id, flight_id;	/* flight_id 0: none */
	const char *client;		/* address text */
	struct slice method, url;
	struct slice user_agent;
	int status;			/* 0: cut before a status was sent */
	uint64_t body_bytes;		/* sent */
	int64_t total_bytes;		/* announced; -1 unknown */
	uint32_t wait_ms, total_ms;	/* to first byte; to last */
	const char *cache;		/* the Cache-Status value */
	const char *end;		/* "done" or a reason's name */
};

bool log_access_enabled(void);
void log_access_line(const struct log_access *a);

#endif
