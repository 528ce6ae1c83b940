/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The daemon: start order, signals, orderly stop. No decision about a request
 * is made here, and none about the command line (cmd.c).
 *
 *   start  configuration, gpgv helper, listeners (bound before anything else,
 *          so that a taken port shows at once), files that root opens, drop of
 *          privileges, sandbox, cache, log, pool, upstream, workers, accept
 *   stop   no more connections, workers finish or cut, upstream keeps what
 *          can be continued, the cache commits, exit 0
 */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "include/cache.h"
#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"
#include "include/sign.h"
#include "proxy/confine.h"
#include "proxy/admin.h"
#include "proxy/cmd.h"
#include "proxy/depot.h"
#include "proxy/iopool.h"
#include "proxy/limits.h"
#include "proxy/listener.h"
#include "proxy/notify.h"
#include "proxy/panic.h"
#include "proxy/tlsconf.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

/* How many connections are possible, 0: none; raises the limit on descriptors as far as we may. */
static unsigned
main_room_for_connections(const struct depot *d, uint64_t wanted)
{
	struct rlimit r;
	uint64_t allowed;

	if (getrlimit(RLIMIT_NOFILE, &r) != 0)
		return (unsigned)wanted;
	if (r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
		(void)getrlimit(RLIMIT_NOFILE, &r);
	}
	allowed = depot_room_for_connections(r.rlim_cur, d->config->workers);
	if (allowed >= wanted)
		return (unsigned)wanted;
	if (allowed == 0)
		log_error("the limit on open files, %llu, is too small to serve with %llu workers: raise it "
		    "(ulimit -n, LimitNOFILE=), 1024 is a good minimum, or set fewer workers",
		    (unsigned long long)r.rlim_cur, (unsigned long long)d->config->workers);
	else if (d->max_connections != allowed)
		log_notice("max_connections lowered to %llu: the limit on open files is %llu (ulimit "
		    "-n, LimitNOFILE=)", (unsigned long long)allowed, (unsigned long long)r.rlim_cur);
	return (unsigned)allowed;
}

/* Size of the file system that holds cache_dir (or the nearest directory above it that exists). */
static uint64_t
main_fs_bytes(const char *dir)
{
	struct statvfs vfs;
	char path[4096];
	char *slash;

	(void)snprintf(path, sizeof(path), "%s", dir);
	while (statvfs(path, &vfs) != 0) {
		slash = strrchr(path, '/');
		if (slash == NULL || slash == path)
			(void)snprintf(path, sizeof(path), "%s", slash == NULL ? "." : "/");
		else
			*slash = '\0';
		if (path[1] == '\0' && statvfs(path, &vfs) != 0)
			return 0;
	}
	return (uint64_t)vfs.f_blocks * vfs.f_frsize;
}

/* A fetch that the cache begins by itself: of a repository's indexes. */
static void
main_fetch(void *arg, struct flight *f, bool no_cache)
{
	struct depot *d = arg;
	struct upstream_ask ask = {.no_cache = no_cache, .fresh = no_cache};

	upstream_fetch(d->upstream, f, &ask);
}

static int64_t
main_adopt_older_s(void *arg, struct slice host)
{
	const struct depot *d = arg;

	return config_for_upstream(d->config, host)->adopt_older / 1000;
}

/* May what was guessed be asked for, by the rules for what clients ask for? */
static bool
main_may_fetch(void *arg, const struct url *url)
{
	const struct depot *d = arg;
	const struct config *c = d->config;

	return !c->offline &&
	    depot_check_target(c, url->host, url->port, &c->allow_ports) == REASON_OK;
}

/* What the cache gets of a configuration. */
static struct cache_conf
main_cache_conf(const struct depot *d, const struct config *c)
{
	uint64_t fs_bytes = main_fs_bytes(c->cache_dir);

	return (struct cache_conf){
		.dir = c->cache_dir,
		.max_bytes = config_resolve_size(&c->cache_max, fs_bytes),
		.min_free_bytes = config_resolve_size(&c->cache_min_free, fs_bytes),
		.stale_if_error_s = c->stale_if_error / 1000,
		.offline = c->offline,
		.ahead = c->prefetch == PREFETCH_CLOSURE,
		.has_credentials = config_any_auth(c),
		.sign = d->sign,
		.hold_signer_changes = c->on_signer_change == SIGNER_HOLD,
		.keep_generations = (unsigned)c->keep_generations,
		.generation_hold_ms = c->generation_hold,
	};
}

/* Opens the cache as configured; says what to do when that can't be. */
static bool
main_open_cache(struct depot *d)
{
	const struct cache_conf conf = main_cache_conf(d, d->config);
	char *why = NULL;
	enum reason r = cache_open(&d->cache, &conf, &why);

	if (r != REASON_OK)
		(void)fprintf(stderr, "apt-depot: cache_dir: %s\n", why != NULL ? why : reason_text(r));
	free(why);
	return r == REASON_OK;
}

/* Is this one of our own names or listeners? For routing. */
static bool
main_is_self(const void *arg, struct slice host, uint16_t port)
{
	const struct depot *d = arg;
	const struct strlist *names = &d->config->names;
	size_t i;

	for (i = 0; i < names->n; i++) {
		struct slice name;
		uint16_t none;

		if (url_split_authority(slice_of(names->v[i]), &name, &none) &&
		    slice_caseeq(name, host))
			return true;
	}
	return listener_is_self(d->listener, host, port);
}

/* Sixteen hex digits that no other process has, for loop detection in Via. */
static void
main_make_id(char id[17])
{
	unsigned char raw[8] = {0};
	int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, raw, sizeof(raw)) != (ssize_t)sizeof(raw)) {
		uint64_t v = (uint64_t)clock_wall_ms() << 16 ^ (uint64_t)getpid();

		memcpy(raw, &v, sizeof(raw));
	}
	if (fd >= 0)
		(void)close(fd);
	key_hex_of(raw, sizeof(raw), id);
}

/* Starts every thread; what was started is stopped by main_stop. */
static bool
main_start(struct depot *d)
{
	unsigned i, n = (unsigned)d->config->workers;

	d->iopool = iopool_start((unsigned)d->config->io_threads);
	d->upstream = upstream_start(d);
	d->workers = calloc(n, sizeof(struct worker *));
	if (d->iopool == NULL || d->upstream == NULL || d->workers == NULL)
		return false;
	cache_set_hooks(d->cache, &(struct cache_hooks){
		.arg = d, .fetch = main_fetch, .adopt_older_s = main_adopt_older_s,
		.may_fetch = main_may_fetch,
	});
	for (i = 0; i < n; i++) {
		d->workers[i] = worker_start(d, i);
		if (d->workers[i] == NULL)
			return false;
		d->workers_n++;
	}
	d->admin = admin_start(d);
	listener_start(d->listener, d);
	return true;
}

/* The orderly end, in the order in which work flows. */
static void
main_stop(struct depot *d)
{
	unsigned i;

	atomic_store(&d->stopping, true);
	admin_stop(&d->admin);
	listener_stop(d->listener);
	for (i = 0; i < d->workers_n; i++)
		worker_stop(d->workers[i]);
	for (i = 0; i < d->workers_n; i++)
		worker_join(d->workers[i]);
	cache_set_hooks(d->cache, NULL);
	upstream_stop(&d->upstream);
	listener_close(&d->listener);	/* until then addresses are compared with its own */
	iopool_stop(&d->iopool);
	for (i = 0; i < d->workers_n; i++)
		worker_free(&d->workers[i]);
	free(d->workers);
	d->workers = NULL;
	limits_free(&d->limits);
	cache_close(&d->cache);
	tlsconf_close(&d->tls);
}

/* The limits of each client address. */
static struct limits_conf
main_limits_conf(const struct config *c)
{
	return (struct limits_conf){
		.connections = c->client_connections,
		.rate = c->client_rate,
		.bandwidth = c->client_bandwidth,
	};
}

/* Why a file can be out of reach by now. */
static const char *
main_access_hint(int err)
{
	return err != EACCES ? "" : ": the depot's user may not use that file, or the sandbox gave up its "
	    "directory at the start: chown it, or restart";
}

/* Brings what a running depot can change into force: for readers, one store each. */
static void
main_apply(struct depot *d, const struct config *c)
{
	const struct cache_conf cache = main_cache_conf(d, c);
	const struct limits_conf limits = main_limits_conf(c);
	char *why = NULL;
	unsigned room;

	if (!upstream_reload(d->upstream, c))
		log_error("reload: the way upstream is kept as it was");
	d->config = c;
	d->route.https_upgrade = &c->https_upgrade;
	room = main_room_for_connections(d, c->max_connections);
	if (room != 0)
		d->max_connections = room;
	limits_set(d->limits, &limits);
	cache_set_conf(d->cache, &cache);
	if (!tlsconf_reload(d->tls, c, &why))
		log_error("reload: the certificate of listen_tls is kept as it was: %s",
		    why != NULL ? why : "out of memory");
	free(why);
}

/* SIGHUP: reads the configuration again, and says line by line what has come of it. */
static void
main_reload(struct depot *d, struct config **c_p, const struct cmd_call *args)
{
	char *text = NULL, *line, *rest;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);
	struct config *now;
	bool ok, denied;

	if (out == NULL)
		return;
	now = config_load_again(*c_p, args->file, &args->settings, out);
	/* The last that can be refused: from here on all of it comes into force. */
	ok = now != NULL &&
	    log_open(now->log_file, now->access_log, now->log_level, now->log_format) == 0;
	if (ok)
		config_succeed(c_p, now, out);
	else
		config_free(&now);
	(void)fclose(out);
	if (ok)
		main_apply(d, *c_p);
	denied = strstr(text, strerror(EACCES)) != NULL;
	for (rest = text; (line = strsep(&rest, "\n")) != NULL;)
		if (line[0] != '\0')
			log_msg(ok ? LOG_NOTICE : LOG_ERROR, "reload: %s", line);
	if (ok)
		COUNT(reloads_total);
	else {
		COUNT(reload_errors_total);
		log_error("reload: the configuration is kept as it was%s",
		    main_access_hint(denied ? EACCES : 0));
		upstream_reload_auth(d->upstream);
	}
	free(text);
}

/* Waits for signals until one says stop. */
static void
main_wait(struct depot *d, struct config **c_p, const struct cmd_call *args, const sigset_t *set)
{
	int sig;

	for (;;) {
		if (sigwait(set, &sig) != 0)
			continue;
		if (sig == SIGTERM || sig == SIGINT) {
			log_notice("stopping: %s", strsignal(sig));
			return;
		}
		if (sig == SIGHUP)
			main_reload(d, c_p, args);
		if (sig == SIGUSR1)
			log_reopen();
	}
}

/* Signals are taken by main alone, through sigwait; threads inherit the mask. */
static void
main_block_signals(sigset_t *set)
{
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN);	/* a file size limit is one more full disk */
	(void)sigemptyset(set);
	(void)sigaddset(set, SIGTERM);
	(void)sigaddset(set, SIGINT);
	(void)sigaddset(set, SIGHUP);
	(void)sigaddset(set, SIGUSR1);
	AZ(pthread_sigmask(SIG_BLOCK, set, NULL));
}

/* Says what kept it from starting; why is malloced, or NULL. */
static bool
main_refuse(char *why)
{
	(void)fprintf(stderr, "apt-depot: %s\n", why != NULL ? why : "out of memory");
	free(why);
	return false;
}

/* verify_signatures: the helper that runs gpgv, while there is one thread and every right. */
static bool
main_start_sign(struct depot *d, struct confine *cf)
{
	const struct sign_conf conf = {.keyring_dir = d->config->keyring_dir,
	    .confine = confine_helper, .arg = cf};
	char *why = NULL;

	if (!d->config->verify_signatures || sign_start(&d->sign, &conf, &why))
		return true;
	return main_refuse(why);
}

/* Everything up to the first thread; false with the reason on stderr. */
static bool
main_prepare(struct depot *d, struct confine *cf)
{
	const struct config *c = d->config;
	const struct limits_conf limits = main_limits_conf(c);
	char *why = NULL;

	if (listener_open(&d->listener, c, &why) != REASON_OK) {
		(void)fprintf(stderr, "apt-depot: %s\n", why != NULL ? why : "cannot listen");
		free(why);
		return false;
	}
	/* Keys may be readable for root only. */
	d->tls = tlsconf_open(c, &why);
	if (d->tls == NULL)
		return main_refuse(why);
	if (!confine_open_files(cf) || !confine_become_user(cf))
		return false;
	d->max_connections = main_room_for_connections(d, c->max_connections);
	if (d->max_connections == 0)
		return false;
	d->route.https_upgrade = &c->https_upgrade;
	d->route.is_self = main_is_self;
	d->route.is_self_arg = d;
	d->limits = limits_new(&limits);
	if (d->limits == NULL)
		return main_refuse(NULL);
	d->started_s = clock_wall_s();
	main_make_id(d->id);
	confine_enter(cf);
	/* The index may fork a child to look at itself: before any thread. */
	if (!main_open_cache(d))
		return false;
	return tlsconf_open_own_ca(d->tls, c, &why) || main_refuse(why);
}

/* Serves until told to stop. */
static int
main_serve(const struct cmd_call *args)
{
	struct config *c = config_load(args->file, &args->settings, stderr, stderr);
	struct depot d = {.config = c};
	struct confine cf = {.config = c, .config_file = args->file, .pid_fd = -1};
	sigset_t set;
	int err;

	if (c == NULL)
		return 1;
	log_style(c->log_level, c->log_format);
	main_block_signals(&set);
	notify_open();
	panic_init();
	if (!confine_find_user(&cf) || !main_start_sign(&d, &cf)) {
		config_free(&c);
		return 1;
	}
	(void)curl_global_init(CURL_GLOBAL_DEFAULT);
	if (!main_prepare(&d, &cf)) {
		listener_close(&d.listener);
		cache_close(&d.cache);
		tlsconf_close(&d.tls);
		sign_stop(&d.sign);
		confine_remove_pid(&cf);
		limits_free(&d.limits);
		config_free(&c);
		return 1;
	}
	err = log_open(c->log_file, c->access_log, c->log_level, c->log_format);
	confine_write_pid(&cf);		/* who finds it serving finds its pid */
	if (err != 0 || !main_start(&d)) {
		if (err == 0)
			(void)fprintf(stderr, "apt-depot: out of memory or threads\n");
		main_stop(&d);
		sign_stop(&d.sign);
		confine_remove_pid(&cf);
		config_free(&c);
		return 1;
	}
	log_notice("sandbox: %s", cf.report[0] != '\0' ? cf.report : "off");
	log_notice("apt-depot %s ready: port %u, %u workers, cache in %s", depot_version,
	    listener_port(d.listener), d.workers_n, c->cache_dir);
	notify_manager("READY=1");
	main_wait(&d, &c, args, &set);
	notify_manager("STOPPING=1");
	main_stop(&d);
	sign_stop(&d.sign);
	confine_remove_pid(&cf);
	log_notice("stopped");
	log_close();
	config_free(&c);
	curl_global_cleanup();
	return 0;
}

int
main(int argc, char **argv)
{
	return cmd_main(argc, argv, main_serve);
}
