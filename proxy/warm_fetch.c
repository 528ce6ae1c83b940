/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Downloads of the command warm: an ordinary client of the depot, several
 * connections at a time, each body read to its end (a range or a HEAD would
 * not make the depot fetch it), compared with size and SHA256, and thrown
 * away. What fails is tried again; what is cached already goes at the speed
 * of the loopback.
 */
#include <curl/curl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "include/clock.h"
#include "proxy/warm_priv.h"

enum {
	WARM_TRIES = 3,
	WARM_CONNECT_MS = 10000,
	WARM_QUIET_S = 90,		/* the depot itself gives up on an origin before */
	WARM_POLL_MS = 250,
};

/* One connection's work. */
struct warm_job {
	CURL *curl;
	struct warm_file *f;		/* NULL: none */
	EVP_MD_CTX *md;
	warm_sink_f *sink;
	void *arg;
	unsigned tries_n;
	char error[CURL_ERROR_SIZE];
};

/* All of them. */
struct warm_run {
	const struct warm_conf *conf;
	CURLM *multi;
	struct warm_file *files;
	unsigned n, next, done_n, failed_n, cached_n;
	uint64_t total_bytes, got_bytes;
	struct warm_job jobs[WARM_JOBS_MAX];
	struct warm_show show;
};

/* ---- one transfer ---- */

static size_t
warm_write_cb(char *p, size_t size, size_t n, void *arg)
{
	struct warm_job *job = arg;
	long status = 0;

	n *= size;
	(void)curl_easy_getinfo(job->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200)
		return n;		/* an error page */
	job->f->got_bytes += n;
	MUST(EVP_DigestUpdate(job->md, p, n) == 1);
	return job->sink == NULL || job->sink(job->arg, p, n) ? n : 0;
}

static size_t
warm_header_cb(char *p, size_t size, size_t n, void *arg)
{
	struct warm_job *job = arg;

	n *= size;
	if (n > 13 && strncasecmp(p, "Cache-Status:", 13) == 0)
		job->f->cached = memmem(p, n, "; hit", 5) != NULL;
	return n;
}

/* Sets a connection up for a file. */
static void
warm_prepare(const struct warm_conf *conf, struct warm_job *job)
{
	CURL *e = job->curl;

	job->f->got_bytes = 0;
	job->f->started_ms = clock_mono_ms();
	job->error[0] = '\0';
	MUST(EVP_DigestInit_ex(job->md, EVP_sha256(), NULL) == 1);
	(void)curl_easy_setopt(e, CURLOPT_URL, conf->depot);
	if (conf->unix_path[0] != '\0')
		(void)curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, conf->unix_path);
	(void)curl_easy_setopt(e, CURLOPT_REQUEST_TARGET, job->f->target);
	(void)curl_easy_setopt(e, CURLOPT_PROXY, "");
	(void)curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	(void)curl_easy_setopt(e, CURLOPT_USERAGENT, "apt-depot warm");
	(void)curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(e, CURLOPT_BUFFERSIZE, 512L << 10);
	(void)curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)WARM_CONNECT_MS);
	(void)curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
	(void)curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)WARM_QUIET_S);
	(void)curl_easy_setopt(e, CURLOPT_ERRORBUFFER, job->error);
	(void)curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, warm_write_cb);
	(void)curl_easy_setopt(e, CURLOPT_WRITEDATA, job);
	(void)curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, warm_header_cb);
	(void)curl_easy_setopt(e, CURLOPT_HEADERDATA, job);
	(void)curl_easy_setopt(e, CURLOPT_PRIVATE, job);
}

/* Is what came what it should be? Else why has words. */
static bool
warm_judge(struct warm_job *job, CURLcode result, long *status)
{
	struct warm_file *f = job->f;
	unsigned char digest[EVP_MAX_MD_SIZE];

	*status = 0;
	(void)curl_easy_getinfo(job->curl, CURLINFO_RESPONSE_CODE, status);
	f->unreached = result == CURLE_COULDNT_CONNECT || result == CURLE_COULDNT_RESOLVE_HOST;
	if (result != CURLE_OK)
		(void)snprintf(f->why, sizeof(f->why), "%s", job->error[0] != '\0' ? job->error :
		    curl_easy_strerror(result));
	else if (*status != 200)
		(void)snprintf(f->why, sizeof(f->why), "the depot answered %ld: its log says why, and "
		    "so does apt-depot explain", *status);
	else if (f->size_bytes >= 0 && f->got_bytes != (uint64_t)f->size_bytes)
		(void)snprintf(f->why, sizeof(f->why), "%llu bytes came, its list says %lld",
		    (unsigned long long)f->got_bytes, (long long)f->size_bytes);
	else {
		MUST(EVP_DigestFinal_ex(job->md, digest, NULL) == 1);
		if (!f->has_sha256 || memcmp(digest, f->sha256, 32) == 0)
			return true;
		(void)snprintf(f->why, sizeof(f->why), "its SHA256 is not the one in its list");
	}
	return false;
}

static bool
warm_job_init(struct warm_job *job)
{
	memset(job, 0, sizeof(*job));
	job->curl = curl_easy_init();
	job->md = EVP_MD_CTX_new();
	return job->curl != NULL && job->md != NULL;
}

static void
warm_job_fini(struct warm_job *job)
{
	if (job->curl != NULL)
		curl_easy_cleanup(job->curl);
	EVP_MD_CTX_free(job->md);
}

bool
warm_fetch_one(const struct warm_conf *conf, struct warm_file *f, warm_sink_f *sink, void *arg,
    long *status)
{
	struct warm_job job;
	bool ok = false;

	*status = 0;
	(void)snprintf(f->why, sizeof(f->why), "out of memory");
	if (warm_job_init(&job)) {
		job.f = f;
		job.sink = sink;
		job.arg = arg;
		warm_prepare(conf, &job);
		ok = warm_judge(&job, curl_easy_perform(job.curl), status);
	}
	warm_job_fini(&job);
	f->done = true;
	f->ok = ok;
	return ok;
}

/* One file is over. */
static void
warm_report(struct warm_run *run, const struct warm_file *f)
{
	char size[24];

	warm_show_clear(&run->show);
	if (!f->ok) {
		(void)fflush(stdout);
		(void)fprintf(stderr, "apt-depot: %s: %s\n", f->name, f->why);
	} else if (!run->conf->quiet) {
		warm_size_text(f->got_bytes, size);
		(void)printf("[%u/%u] %s (%s)%s\n", run->done_n, run->n, f->name, size,
		    f->cached ? ", was cached" : "");
		if (!run->show.screen)
			(void)fflush(stdout);
	}
}

/* Shows where it stands. */
static void
warm_draw(struct warm_run *run)
{
	struct warm_progress p = {
		.done_n = run->done_n, .n = run->n,
		.bytes = run->got_bytes, .total_bytes = run->total_bytes,
	};

	for (unsigned i = 0; i < run->conf->jobs; i++) {
		if (run->jobs[i].f == NULL)
			continue;
		p.running[p.running_n++] = run->jobs[i].f;
		p.bytes += run->jobs[i].f->got_bytes;
	}
	warm_show_draw(&run->show, &p, clock_mono_ms());
}

/* ---- all of them ---- */

/* Gives a free connection the next file. */
static void
warm_start(struct warm_run *run, struct warm_job *job)
{
	job->f = run->next < run->n ? &run->files[run->next++] : NULL;
	job->tries_n = 0;
	if (job->f == NULL)
		return;
	warm_prepare(run->conf, job);
	MUST(curl_multi_add_handle(run->multi, job->curl) == CURLM_OK);
}

/* A transfer ended: judged, tried again, or over. */
static void
warm_finish(struct warm_run *run, struct warm_job *job, CURLcode result)
{
	struct warm_file *f = job->f;
	long status;
	bool ok = warm_judge(job, result, &status);

	(void)curl_multi_remove_handle(run->multi, job->curl);
	/* What an upstream does not have it won't have a second later; the rest may. */
	if (!ok && ++job->tries_n < WARM_TRIES && (status == 0 || status == 200 || status >= 500)) {
		warm_prepare(run->conf, job);
		MUST(curl_multi_add_handle(run->multi, job->curl) == CURLM_OK);
		return;
	}
	f->done = true;
	f->ok = ok;
	run->done_n++;
	run->failed_n += !ok;
	run->got_bytes += f->got_bytes;
	/* What it announced was not known, or won't come. */
	run->total_bytes += f->got_bytes - (uint64_t)(f->size_bytes > 0 ? f->size_bytes : 0);
	warm_report(run, f);
	warm_start(run, job);
}

static void
warm_loop(struct warm_run *run)
{
	CURLMsg *m;
	int left, running = 1;

	while (run->done_n < run->n) {
		(void)curl_multi_perform(run->multi, &running);
		while ((m = curl_multi_info_read(run->multi, &left)) != NULL) {
			struct warm_job *job = NULL;
			CURLcode result = m->data.result;

			if (m->msg != CURLMSG_DONE)
				continue;
			(void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&job);
			warm_finish(run, job, result);
		}
		warm_draw(run);
		if (run->done_n < run->n)
			(void)curl_multi_poll(run->multi, NULL, 0, WARM_POLL_MS, NULL);
	}
	warm_show_clear(&run->show);
	(void)fflush(stdout);
}

unsigned
warm_fetch_all(const struct warm_conf *conf, struct warm_file *files, unsigned n)
{
	struct warm_run *run = calloc(1, sizeof(*run));
	unsigned failed_n = n, i, ready_n = 0;

	if (run != NULL && (run->multi = curl_multi_init()) != NULL) {
		run->conf = conf;
		run->files = files;
		run->n = n;
		warm_show_begin(&run->show, conf->quiet, clock_mono_ms());
		for (i = 0; i < n; i++)
			run->total_bytes += files[i].size_bytes > 0 ? (uint64_t)files[i].size_bytes : 0;
		for (i = 0; i < conf->jobs; i++)
			ready_n += warm_job_init(&run->jobs[i]);
		if (ready_n == conf->jobs) {
			for (i = 0; i < conf->jobs; i++)
				warm_start(run, &run->jobs[i]);
			warm_loop(run);
			failed_n = run->failed_n;
		}
		for (i = 0; i < conf->jobs; i++)
			warm_job_fini(&run->jobs[i]);
		(void)curl_multi_cleanup(run->multi);
	}
	free(run);
	return failed_n;
}
