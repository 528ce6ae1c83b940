/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The message log and the access log. Everybody calls log_msg and
 * log_access_line; main opens, reopens and closes.
 *
 * A line is put together on the caller's stack and copied into the stream's
 * filling half; the stream's thread swaps the halves and writes, so that a
 * reader of one who reads no more stops neither a loop nor the other. Life of a
 * stream: closed (lines go to stderr at once), open (log_open to log_close;
 * log_open again changes level, format and paths, log_reopen opens the same
 * paths anew). A full half means that lines are dropped and counted: a
 * terminal that was stopped, or a disk that hangs, must not stop a loop.
 *
 * A forked child has no such threads: it writes its lines itself.
 */
#include "include/log.h"

#include "include/clock.h"
#include "include/counter.h"
#include "proxy/log_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	LOG_GATHER_NS = 2 * 1000 * 1000,
	LOG_NOTE_MS = 1000,		/* missing lines are spoken of this often */
	LOG_CLOSE_S = 2,		/* a stop waits so long for who reads a stream */
	LOG_URL_BYTES = 9000,
	LOG_AGENT_BYTES = 400,
	LOG_PANIC_WAIT_MS = 100,
};

struct log_stream {
	char *path;		/* NULL: standard descriptor `standard` */
	int standard;
	int fd;			/* -1: closed */
	char *half[2];		/* allocated while open */
	unsigned filling;	/* the half that callers append to */
	size_t used;		/* bytes in it */
	uint64_t dropped;	/* lines since the last note about it */
	bool failed;		/* the last write */
	bool stuck;		/* its thread did not end: nothing is written any more */
	bool waits;		/* its thread, for a line */
	pthread_cond_t wake;
	pthread_t thread;
	atomic_bool writing;	/* its thread has a half in hand */
};

static struct {
	pthread_mutex_t lock;		/* guards everything below but the atomics */
	bool running, stopping, fork_set;
	int64_t noted_ms;		/* when missing lines were last spoken of; 0: never */
	struct log_stream messages, access;
	atomic_int level, format;	/* enum log_level, enum log_format */
	atomic_bool access_on;
} log_state = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.messages = {.standard = STDERR_FILENO, .fd = -1, .wake = PTHREAD_COND_INITIALIZER},
	.access = {.standard = STDOUT_FILENO, .fd = -1, .wake = PTHREAD_COND_INITIALIZER},
	.level = LOG_INFO,
	.format = LOG_TEXT,
};

/* ---- putting lines together ---- */

/* Appends bytes, as far as they fit. */
static void
log_out_put(struct log_out *out, const char *p, size_t n)
{
	if (n > out->cap - out->n)
		n = out->cap - out->n;
	memcpy(out->p + out->n, p, n);
	out->n += n;
}

/* Appends formatted text, as far as it fits. */
static void PRINTF_LIKE(2, 3)
log_out_fmt(struct log_out *out, const char *fmt, ...)
{
	va_list ap;
	char text[256];
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0)
		log_out_put(out, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

/* Length of the valid UTF-8 sequence of more than one byte at p, or 0. RFC 3629 section 4. */
static size_t
log_utf8_length(const unsigned char *p, size_t n)
{
	size_t need, i;
	unsigned code, least;

	if (p[0] >= 0xc2 && p[0] <= 0xdf) {
		need = 2, code = p[0] & 0x1f, least = 0xa0;	/* below: C1 controls */
	} else if (p[0] >= 0xe0 && p[0] <= 0xef) {
		need = 3, code = p[0] & 0x0f, least = 0x800;
	} else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
		need = 4, code = p[0] & 0x07, least = 0x10000;
	} else {
		return 0;
	}
	if (n < need)
		return 0;
	for (i = 1; i < need; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (p[i] & 0x3f);
	}
	if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	return need;
}

/* One byte that can't stand as it is. */
static size_t
log_escape_byte(char text[8], unsigned char byte, enum log_escape how)
{
	if (how == LOG_ESCAPE_JSON && (byte == '"' || byte == '\\'))
		return (size_t)snprintf(text, 8, "\\%c", byte);
	if (how == LOG_ESCAPE_JSON)
		return (size_t)snprintf(text, 8, "\\u%04x", byte < 0x80 ? byte : 0xfffdU);
	if (how == LOG_ESCAPE_QUOTED && (byte == '"' || byte == '\\'))
		return (size_t)snprintf(text, 8, "\\%c", byte);
	if (byte == '\n')
		return (size_t)snprintf(text, 8, "\\n");
	return (size_t)snprintf(text, 8, "\\x%02x", byte);
}

/* May the ASCII byte stand as it is? */
static bool
log_byte_is_plain(unsigned char byte, enum log_escape how)
{
	if (byte < ' ' || byte >= 0x7f)
		return false;
	if (how == LOG_ESCAPE_LINE)
		return true;
	return byte != '"' && byte != '\\' && (how != LOG_ESCAPE_BARE || byte != ' ');
}

void
log_escape_put(struct log_out *out, struct slice s, enum log_escape how, size_t limit)
{
	const unsigned char *p = (const unsigned char *)s.p;
	size_t i = 0, start = out->n, n;
	char text[8];

	while (i < s.n) {
		if (out->n - start + sizeof(text) + 3 > limit) {
			log_out_put(out, "...", 3);
			return;
		}
		if (log_byte_is_plain(p[i], how)) {
			log_out_put(out, s.p + i++, 1);
		} else if (p[i] >= 0x80 && (n = log_utf8_length(p + i, s.n - i)) != 0) {
			log_out_put(out, s.p + i, n);
			i += n;
		} else {
			n = log_escape_byte(text, p[i++], how);
			log_out_put(out, text, n);
		}
	}
}

/* Appends 2026-11-22T18:41:50.123Z; the text of a second is made once per thread. */
static void
log_time_put(struct log_out *out)
{
	static __thread int64_t second = INT64_MIN;
	static __thread char text[24];
	int64_t now_ms = clock_wall_ms();
	time_t now = (time_t)(now_ms / 1000);
	struct tm tm;

	if (second != now) {
		gmtime_r(&now, &tm);
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
		second = now;
	}
	log_out_fmt(out, "%s.%03dZ", text, (int)(now_ms % 1000));
}

/* The level's name. */
static const char *
log_level_name(enum log_level level)
{
	switch (level) {
	case LOG_DEBUG:
		return "debug";
	case LOG_INFO:
		return "info";
	case LOG_NOTICE:
		return "notice";
	case LOG_WARNING:
		return "warning";
	case LOG_ERROR:
		return "error";
	}
	WRONG("log level");
}

/* Takes one "name=digits " off the front: in JSON, such numbers are fields of their own. */
static bool
log_number_cut(struct slice *text, struct slice *name, struct slice *digits)
{
	size_t i = 0, equals;

	while (i < text->n && text->p[i] >= 'a' && text->p[i] <= 'z')
		i++;
	equals = i;
	if (i == 0 || i == text->n || text->p[i++] != '=')
		return false;
	while (i < text->n && text->p[i] >= '0' && text->p[i] <= '9')
		i++;
	if (i == equals + 1 || i - equals > 19 || (i < text->n && text->p[i] != ' '))
		return false;
	*name = (struct slice){text->p, equals};
	*digits = (struct slice){text->p + equals + 1, i - equals - 1};
	*text = slice_skip(*text, i + 1);
	return true;
}

/* Appends a message as a line of text. */
static void
log_line_text(struct log_out *out, enum log_level level, struct slice msg)
{
	log_time_put(out);
	log_out_fmt(out, " %-5s ", log_level_name(level));
	log_escape_put(out, msg, LOG_ESCAPE_LINE, out->cap - out->n);
}

/* Appends a message as a JSON object. */
static void
log_line_json(struct log_out *out, enum log_level level, struct slice msg)
{
	struct slice name, digits;

	log_out_fmt(out, "{\"ts\":\"");
	log_time_put(out);
	log_out_fmt(out, "\",\"level\":\"%s\"", log_level_name(level));
	while (log_number_cut(&msg, &name, &digits))
		log_out_fmt(out, ",\"%.*s\":%.*s", SLICE_ARG(name), SLICE_ARG(digits));
	log_out_fmt(out, ",\"msg\":\"");
	log_escape_put(out, msg, LOG_ESCAPE_JSON, out->cap - out->n - 2);
	log_out_put(out, "\"}", 2);
}

/* ---- writing ---- */

/* Writes all of it, waiting where the descriptor says so. False: it can't. */
static bool
log_write(int fd, const char *p, size_t n)
{
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};
	ssize_t done;

	while (n != 0) {
		done = write(fd, p, n);
		if (done > 0) {
			p += done;
			n -= (size_t)done;
		} else if (done < 0 && errno == EAGAIN) {
			poll(&pfd, 1, -1);
		} else if (done >= 0 || errno != EINTR) {
			return false;
		}
	}
	return true;
}

/* How many lines the bytes are. */
static uint64_t
log_lines_count(const char *p, size_t n)
{
	const char *end = p + n;
	uint64_t lines_n = 0;

	while (n != 0 && (p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		lines_n++;
		p++;
	}
	return lines_n;
}

/* Counts lines that nobody will see. */
static void
log_drop(struct log_stream *s, uint64_t lines_n)
{
	s->dropped += lines_n;
	COUNT_ADD(log_lines_dropped_total, lines_n);
}

/* Appends a line to the filling half, for the stream's thread. With the lock. */
static void
log_stream_append(struct log_stream *s, const char *line, size_t n)
{
	if (n > LOG_HALF_BYTES - s->used) {
		log_drop(s, 1);
		return;
	}
	memcpy(s->half[s->filling] + s->used, line, n);
	s->used += n;
	if (s->waits) {
		s->waits = false;
		AZ(pthread_cond_signal(&s->wake));
	}
}

/* Hands a finished line over, or writes it at once where no thread does. */
static void
log_put(struct log_stream *s, const char *line, size_t n)
{
	int fd = -1;

	AZ(pthread_mutex_lock(&log_state.lock));
	if (s->stuck)
		log_drop(s, 1);
	else if (log_state.running && s->fd >= 0)
		log_stream_append(s, line, n);
	else {
		fd = s->fd >= 0 ? s->fd : s->standard;
	}
	AZ(pthread_mutex_unlock(&log_state.lock));
	if (fd >= 0 && !log_write(fd, line, n))
		COUNT(log_lines_dropped_total);
}

/* Writes what a stream has waiting. Called and left with the lock, which is open meanwhile. */
static void
log_stream_write(struct log_stream *s)
{
	const char *p = s->half[s->filling];
	size_t n = s->used;
	int fd = s->fd;
	bool ok;

	if (n == 0)
		return;
	s->filling ^= 1;
	s->used = 0;
	atomic_store(&s->writing, true);
	AZ(pthread_mutex_unlock(&log_state.lock));
	ok = log_write(fd, p, n);
	atomic_store(&s->writing, false);
	AZ(pthread_mutex_lock(&log_state.lock));
	s->failed = !ok;
	if (!ok)
		log_drop(s, log_lines_count(p, n));
}

/*
 * Says in the message log that lines of either stream are missing, once it can be written. With the
 * lock.
 */
static void
log_note_dropped(void)
{
	uint64_t dropped = log_state.messages.dropped + log_state.access.dropped;
	int64_t now_ms = clock_mono_ms();
	char line[512], msg[128];
	struct log_out out = {line, 0, sizeof(line) - 1};
	struct slice text = {msg, 0};

	if (dropped == 0 || log_state.messages.failed || log_state.messages.fd < 0 ||
	    (log_state.noted_ms != 0 && now_ms - log_state.noted_ms < LOG_NOTE_MS))
		return;
	log_state.noted_ms = now_ms;
	log_state.messages.dropped = log_state.access.dropped = 0;
	text.n = (size_t)snprintf(msg, sizeof(msg), "%llu log lines dropped: the log's file or "
	    "terminal was too slow or failed", (unsigned long long)dropped);
	if (atomic_load_explicit(&log_state.format, memory_order_relaxed) == LOG_JSON)
		log_line_json(&out, LOG_WARNING, text);
	else
		log_line_text(&out, LOG_WARNING, text);
	line[out.n++] = '\n';
	log_stream_append(&log_state.messages, line, out.n);
}

/* A stream's thread: waits for lines, lets some gather, writes them. */
static void *
log_thread(void *arg)
{
	const struct timespec gather = {0, LOG_GATHER_NS};
	struct log_stream *s = arg;
	bool stopping = false;

	(void)pthread_setname_np(pthread_self(), s == &log_state.access ? "log-access" : "log");
	AZ(pthread_mutex_lock(&log_state.lock));
	while (!stopping) {
		while (!log_state.stopping && s->used == 0) {
			s->waits = true;
			AZ(pthread_cond_wait(&s->wake, &log_state.lock));
		}
		s->waits = false;
		stopping = log_state.stopping;
		if (!stopping) {
			/* One write for two milliseconds of a busy loop, not one per line. */
			AZ(pthread_mutex_unlock(&log_state.lock));
			nanosleep(&gather, NULL);
			AZ(pthread_mutex_lock(&log_state.lock));
		}
		log_stream_write(s);
		log_note_dropped();
	}
	/* What came while the last half was written. */
	log_state.noted_ms = 0;
	log_note_dropped();
	log_stream_write(s);
	AZ(pthread_mutex_unlock(&log_state.lock));
	return NULL;
}

/* ---- opening and closing ---- */

/* A descriptor of the stream's target for us alone, or -1 and errno. */
static int
log_target_open(const char *path, int standard)
{
	if (path == NULL)
		return fcntl(standard, F_DUPFD_CLOEXEC, 3);
	return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
}

/* Points the stream at it, under the same descriptor number: the writer may be using it. */
static void
log_stream_turn(struct log_stream *s, int fd)
{
	AZ(pthread_mutex_lock(&log_state.lock));
	if (s->fd < 0) {
		s->fd = fd;
	} else {
		MUST(dup3(fd, s->fd, O_CLOEXEC) == s->fd);
		close(fd);
	}
	AZ(pthread_mutex_unlock(&log_state.lock));
}

/* Does the path lead to something else by now, so that nobody will find what is written? */
static bool
log_stream_is_lost(const struct log_stream *s)
{
	struct stat is, was;

	return s->path != NULL && s->fd >= 0 && (stat(s->path, &is) != 0 || fstat(s->fd, &was) != 0 ||
	    is.st_dev != was.st_dev || is.st_ino != was.st_ino);
}

/* Messages that would be lost go to stderr, until a file can be opened again. */
static bool
log_fall_back(void)
{
	int fd;

	if (!log_stream_is_lost(&log_state.messages) ||
	    (fd = log_target_open(NULL, STDERR_FILENO)) < 0)
		return false;
	log_stream_turn(&log_state.messages, fd);
	return true;
}

/* Closes and frees, after the thread has ended; what a stuck one has in hand stays. */
static void
log_stream_close(struct log_stream *s)
{
	if (s->stuck)
		return;
	if (s->fd >= 0)
		close(s->fd);
	free(s->half[0]);
	free(s->half[1]);
	free(s->path);
	s->path = s->half[0] = s->half[1] = NULL;
	s->fd = -1;
	s->used = 0;
}

/* Around fork: nobody is in the middle of a line. */
static void
log_fork_prepare(void)
{
	AZ(pthread_mutex_lock(&log_state.lock));
}

static void
log_fork_parent(void)
{
	AZ(pthread_mutex_unlock(&log_state.lock));
}

/* In the child: waiting lines are the parent's to write; ours are written at once. */
static void
log_fork_child(void)
{
	log_state.running = false;
	log_state.messages.used = log_state.access.used = 0;
	AZ(pthread_mutex_unlock(&log_state.lock));
}

/* Ends a stream's thread; one whose write does not return is left behind. */
static void
log_stream_stop(struct log_stream *s)
{
	struct timespec until;

	AZ(pthread_mutex_lock(&log_state.lock));
	log_state.stopping = true;
	AZ(pthread_cond_signal(&s->wake));
	AZ(pthread_mutex_unlock(&log_state.lock));
	AZ(clock_gettime(CLOCK_REALTIME, &until));
	until.tv_sec += LOG_CLOSE_S;
	if (pthread_timedjoin_np(s->thread, NULL, &until) == 0)
		return;
	AZ(pthread_mutex_lock(&log_state.lock));
	s->stuck = true;
	AZ(pthread_mutex_unlock(&log_state.lock));
}

/* Starts the streams' threads, which take no signals. */
static int
log_start(void)
{
	sigset_t all, was;
	int err;

	if (!log_state.fork_set) {
		err = pthread_atfork(log_fork_prepare, log_fork_parent, log_fork_child);
		if (err != 0)
			return err;
		log_state.fork_set = true;
	}
	log_state.stopping = false;
	sigfillset(&all);
	AZ(pthread_sigmask(SIG_SETMASK, &all, &was));
	err = pthread_create(&log_state.messages.thread, NULL, log_thread, &log_state.messages);
	if (err == 0) {
		err = pthread_create(&log_state.access.thread, NULL, log_thread, &log_state.access);
		if (err != 0)
			log_stream_stop(&log_state.messages);
	}
	AZ(pthread_sigmask(SIG_SETMASK, &was, NULL));
	if (err != 0)
		return err;
	AZ(pthread_mutex_lock(&log_state.lock));
	log_state.running = true;
	AZ(pthread_mutex_unlock(&log_state.lock));
	return 0;
}

void
log_style(enum log_level level, enum log_format format)
{
	atomic_store_explicit(&log_state.level, (int)level, memory_order_relaxed);
	atomic_store_explicit(&log_state.format, (int)format, memory_order_relaxed);
}

/* May our user write the file, or make it? The sandbox has no say in this. */
static bool
log_user_may_write(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir;
	bool may;

	if (access(path, W_OK) == 0)
		return true;
	if (errno != ENOENT)
		return false;
	dir = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
	may = dir != NULL && access(dir, W_OK | X_OK) == 0;
	free(dir);
	return may;
}

/* Says that a log can't be opened, and what to do: where somebody will read it. */
static void
log_refuse(const char *key, const char *path, int err)
{
	const char *remedy = "name a file in a directory that is there and that the depot's user may "
	    "write to";

	/* Landlock knows the directories themselves, whatever has their names by now. */
	if (err == EACCES && path != NULL && log_user_may_write(path))
		remedy = "the sandbox lets logs be written only in the directories that were there, and "
		    "named, at the start: restart the depot";
	log_error("%s = %s: %s: %s%s", key, path != NULL ? path : "-", strerror(err), remedy,
	    log_fall_back() ? "; until then messages go to stderr" : "");
}

/* What a stream is to become: made in full before any is changed. */
struct log_target {
	struct log_stream *stream;
	const char *key;
	char *path;		/* NULL: the stream's standard descriptor */
	int fd;			/* -1: it stays as it is */
};

/* Makes room for lines, and opens what they go to; says what is wrong with that. */
static int
log_target_prepare(struct log_target *t, const char *path)
{
	struct log_stream *s = t->stream;
	unsigned i;
	int err;

	if (path != NULL && (t->path = strdup(path)) == NULL)
		return ENOMEM;
	for (i = 0; i < 2; i++)
		if (s->half[i] == NULL && (s->half[i] = malloc(LOG_HALF_BYTES)) == NULL)
			return ENOMEM;
	t->fd = log_target_open(path, s->standard);
	if (t->fd >= 0)
		return 0;
	err = errno;
	log_refuse(t->key, path, err);
	return err;
}

/* The stream goes there from now on; or, when something was wrong with one, nowhere else. */
static void
log_target_take(struct log_target *t, bool good)
{
	if (t->fd >= 0 && good) {
		log_stream_turn(t->stream, t->fd);
		free(t->stream->path);
		t->stream->path = t->path;
		return;
	}
	if (t->fd >= 0)
		close(t->fd);
	free(t->path);
}

int
log_open(const char *file, const char *access, enum log_level level, enum log_format format)
{
	const char *access_path = access != NULL && strcmp(access, "-") != 0 ? access : NULL;
	struct log_target to_file = {.stream = &log_state.messages, .key = "log_file", .fd = -1};
	struct log_target to_access = {.stream = &log_state.access, .key = "access_log", .fd = -1};
	int err;

	err = log_target_prepare(&to_file, file);
	if (err == 0 && access != NULL)
		err = log_target_prepare(&to_access, access_path);
	log_target_take(&to_file, err == 0);
	log_target_take(&to_access, err == 0);
	if (err == 0 && !log_state.running)
		err = log_start();
	if (err != 0) {
		if (!log_state.running) {
			log_stream_close(&log_state.messages);
			log_stream_close(&log_state.access);
		}
		return err;
	}
	log_style(level, format);
	atomic_store_explicit(&log_state.access_on, access != NULL, memory_order_relaxed);
	return 0;
}

/* The stream's path again. */
static int
log_stream_reopen(struct log_stream *s)
{
	int fd = log_target_open(s->path, s->standard);

	if (fd < 0)
		return errno;
	log_stream_turn(s, fd);
	return 0;
}

void
log_reopen(void)
{
	int err;

	err = log_state.messages.fd >= 0 ? log_stream_reopen(&log_state.messages) : 0;
	if (err != 0)
		log_refuse("log_file", log_state.messages.path, err);
	err = log_access_enabled() ? log_stream_reopen(&log_state.access) : 0;
	if (err != 0)
		log_refuse("access_log", log_state.access.path, err);
}

void
log_close(void)
{
	bool was_running;

	AZ(pthread_mutex_lock(&log_state.lock));
	was_running = log_state.running;
	AZ(pthread_mutex_unlock(&log_state.lock));
	if (was_running) {
		log_stream_stop(&log_state.access);
		log_stream_stop(&log_state.messages);
	}
	atomic_store_explicit(&log_state.access_on, false, memory_order_relaxed);
	AZ(pthread_mutex_lock(&log_state.lock));
	log_state.running = false;
	log_stream_close(&log_state.messages);
	log_stream_close(&log_state.access);
	AZ(pthread_mutex_unlock(&log_state.lock));
}

/* ---- callers ---- */

bool
log_enabled(enum log_level level)
{
	return (int)level >= atomic_load_explicit(&log_state.level, memory_order_relaxed);
}

void
log_msg(enum log_level level, const char *fmt, ...)
{
	char msg[LOG_LINE_BYTES / 4], line[LOG_LINE_BYTES];
	struct log_out out = {line, 0, sizeof(line) - 1};
	struct slice text = {msg, 0};
	va_list ap;
	int n, err = errno;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	n = vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (n > 0)
		text.n = (size_t)n < sizeof(msg) ? (size_t)n : sizeof(msg) - 1;
	while (text.n != 0 && msg[text.n - 1] == '\n')
		text.n--;
	if (atomic_load_explicit(&log_state.format, memory_order_relaxed) == LOG_JSON)
		log_line_json(&out, level, text);
	else
		log_line_text(&out, level, text);
	line[out.n++] = '\n';
	log_put(&log_state.messages, line, out.n);
	/* Callers may still need it: a log line must not change what they see. */
	errno = err;
}

bool
log_access_enabled(void)
{
	return atomic_load_explicit(&log_state.access_on, memory_order_relaxed);
}

/* How one field of the access log is written. */
struct log_fields {
	struct log_out *out;
	bool json;
};

/* name=value, "-" where there is none, or name="value"; in JSON always the latter. */
static void
log_field_text(const struct log_fields *f, const char *name, struct slice value, bool quoted, size_t limit)
{
	if (f->json)
		log_out_fmt(f->out, ",\"%s\":\"", name);
	else
		log_out_fmt(f->out, quoted ? " %s=\"" : " %s=", name);
	if (!f->json && !quoted && value.n == 0)
		log_out_put(f->out, "-", 1);
	log_escape_put(f->out, value, f->json ? LOG_ESCAPE_JSON : quoted ? LOG_ESCAPE_QUOTED :
	    LOG_ESCAPE_BARE, limit);
	if (f->json || quoted)
		log_out_put(f->out, "\"", 1);
}

/* name=number, "-" or null where it is not known. */
static void
log_field_number(const struct log_fields *f, const char *name, bool known, uint64_t value)
{
	log_out_fmt(f->out, f->json ? ",\"%s\":" : " %s=", name);
	if (known)
		log_out_fmt(f->out, "%llu", (unsigned long long)value);
	else
		log_out_fmt(f->out, f->json ? "null" : "-");
}

/* The request as a JSON object, or as key=value pairs. */
static void
log_access_put(struct log_out *out, const struct log_access *a, bool json)
{
	const struct log_fields f = {out, json};

	log_out_fmt(out, json ? "{\"ts\":\"" : "time=");
	log_time_put(out);
	if (json)
		log_out_fmt(out, "\",\"level\":\"info\",\"msg\":\"request\"");
	log_field_text(&f, "client", slice_of(a->client), false, 128);
	log_field_number(&f, "req", true, a->req_id);
	log_field_number(&f, "flight", a->flight_id != 0, a->flight_id);
	log_field_text(&f, "method", a->method, false, 64);
	log_field_number(&f, "status", a->status > 0, (uint64_t)a->status);
	log_field_number(&f, "bytes", true, a->body_bytes);
	log_field_number(&f, "total", a->total_bytes >= 0, (uint64_t)a->total_bytes);
	log_field_number(&f, "wait_ms", true, a->wait_ms);
	log_field_number(&f, "ms", true, a->total_ms);
	log_field_text(&f, "cache", slice_of(a->cache), true, 256);
	log_field_text(&f, "end", slice_of(a->end), false, 64);
	log_field_text(&f, "url", a->url, false, LOG_URL_BYTES);
	log_field_text(&f, "agent", a->user_agent, true, LOG_AGENT_BYTES);
	if (json)
		log_out_put(out, "}", 1);
}

void
log_access_line(const struct log_access *a)
{
	char line[LOG_LINE_BYTES];
	struct log_out out = {line, 0, sizeof(line) - 1};

	if (!log_access_enabled())
		return;
	log_access_put(&out, a, atomic_load_explicit(&log_state.format, memory_order_relaxed) == LOG_JSON);
	line[out.n++] = '\n';
	log_put(&log_state.access, line, out.n);
}

/* ---- for panic.c ---- */

int
log_panic_fd(void)
{
	return log_state.messages.fd >= 0 ? log_state.messages.fd : STDERR_FILENO;
}

void
log_panic_flush(void)
{
	struct log_stream *both[] = {&log_state.messages, &log_state.access};
	const struct timespec millisecond = {0, 1000 * 1000};
	size_t i;

	for (i = 0; i < LOG_PANIC_WAIT_MS && (atomic_load(&log_state.messages.writing) ||
	    atomic_load(&log_state.access.writing)); i++)
		nanosleep(&millisecond, NULL);
	if (pthread_mutex_trylock(&log_state.lock) != 0)
		return;
	for (i = 0; i < NELEM(both); i++) {
		if (both[i]->fd >= 0 && both[i]->used != 0 &&
		    log_write(both[i]->fd, both[i]->half[both[i]->filling], both[i]->used))
			both[i]->used = 0;
	}
	AZ(pthread_mutex_unlock(&log_state.lock));
}
