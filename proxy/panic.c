/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The last words of a process: see panic.h. main calls panic_init; workers
 * say with panic_works_on which request they are at; obj_fail and the signal handlers
 * come here, and nobody comes back. The core dump follows from abort or from
 * the signal itself.
 */
#include "proxy/panic.h"

#include "include/obj.h"
#include "proxy/log_priv.h"

#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef APT_DEPOT_VERSION
#define APT_DEPOT_VERSION "unknown"
#endif

enum { PANIC_FRAMES = 64 };

static __thread struct {
	const char *kind;		/* NULL: nothing */
	const void *obj;
	panic_describe_f *describe;
} panic_work;

static pid_t panic_pid;			/* who panic_init was for: not its children */
static atomic_flag panic_begun = ATOMIC_FLAG_INIT;

/* Is the log another file than stderr? */
static bool
panic_log_is_apart(void)
{
	struct stat log, err;

	return fstat(log_panic_fd(), &log) == 0 && (fstat(STDERR_FILENO, &err) != 0 ||
	    log.st_dev != err.st_dev || log.st_ino != err.st_ino);
}

/* Writes text to stderr, and to the log where that is another file. */
static void
panic_write(const char *text, size_t n)
{
	ssize_t done;

	do
		done = write(STDERR_FILENO, text, n);
	while (done < 0 && errno == EINTR);
	if (!panic_log_is_apart())
		return;
	do
		done = write(log_panic_fd(), text, n);
	while (done < 0 && errno == EINTR);
}

/* One line of the report. */
static void PRINTF_LIKE(1, 2)
panic_print(const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n > 0)
		panic_write(line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

/* What every report ends with. */
static void
panic_report(void)
{
	void *frames[PANIC_FRAMES];
	char name[16] = "?", what[768] = "";
	int n;

	prctl(PR_GET_NAME, name, 0, 0, 0);
	panic_print("panic: apt-depot %s, process %d, thread %s\n", APT_DEPOT_VERSION,
	    (int)getpid(), name);
	n = backtrace(frames, PANIC_FRAMES);
	backtrace_symbols_fd(frames, n, STDERR_FILENO);
	if (panic_log_is_apart())
		backtrace_symbols_fd(frames, n, log_panic_fd());
	/* Behind the backtrace: where the object is broken, this may be the end. */
	if (panic_work.kind != NULL) {
		if (panic_work.describe != NULL)
			panic_work.describe(panic_work.obj, what, sizeof(what));
		panic_print("panic: working on %s %p %s\n", panic_work.kind, panic_work.obj, what);
	}
	panic_print("panic: this is a bug in apt-depot: please report the lines above\n");
	log_panic_flush();
}

/* Lets the first of several threads through; the others wait for the end it brings. */
static void
panic_begin(void)
{
	if (atomic_flag_test_and_set(&panic_begun))
		for (;;)
			pause();
}

/* An assertion that does not hold. */
static void
panic_assert(const char *func, const char *file, int line, const char *what)
{
	panic_begin();
	panic_print("panic: %s at %s:%d: this should be true: %s (errno %d)\n", func, file, line,
	    what, errno);
	panic_report();
	signal(SIGABRT, SIG_DFL);
	abort();
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* A signal of a broken program. The handler is gone already: raising it again ends us. */
static void
panic_signal_cb(int sig, siginfo_t *info, void *context)
{
	(void)context;
	/* A child's crash is its parent's to judge: the index check counts on it. */
	if (getpid() == panic_pid) {
		panic_begin();
		panic_print("panic: signal %d (%s) at address %p\n", sig, sigabbrev_np(sig),
		    info->si_addr);
		panic_report();
	}
	raise(sig);
}

/* Catches what a broken program ends by. */
static void
panic_catch_signals(void)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
	struct sigaction sa = {.sa_sigaction = panic_signal_cb};
	size_t i;

	sa.sa_flags = (int)(SA_SIGINFO | SA_RESETHAND);
	sigfillset(&sa.sa_mask);
	for (i = 0; i < NELEM(signals); i++)
		AZ(sigaction(signals[i], &sa, NULL));
}
#else
/* The sanitizers report these signals better than we do. */
static void
panic_catch_signals(void)
{
}
#endif

void
panic_init(void)
{
	void *frame[1];

	/* The first call loads a library, which must not happen in the handler. */
	backtrace(frame, 1);
	panic_pid = getpid();
	obj_panic = panic_assert;
	panic_catch_signals();
}

void
panic_works_on(const char *kind, const void *obj, panic_describe_f *describe)
{
	panic_work.kind = kind;
	panic_work.obj = obj;
	panic_work.describe = describe;
}
