/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef UPSTREAM_PRIV_H
#define UPSTREAM_PRIV_H
/*
 * What the files of the upstream thread share: upstream.c (thread, queue),
 * upway.c (how an origin is reached), updial.c (connections for tunnels),
 * fetch.c (one transfer's steps), fetch_head.c (what a response head means),
 * fetch_verdict.c (expected digests).
 */
#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/queue.h>

#include "include/cache.h"
#include "include/config.h"
#include "include/key.h"
#include "include/obj.h"
#include "proxy/curlev.h"
#include "proxy/httpresp.h"
#include "proxy/upauth.h"
#include "proxy/upstream.h"
#include "proxy/upway.h"

#define UPSTREAM_MAGIC 0x09517001u
#define FETCH_MAGIC 0xfe7c8001u

enum {
	UPSTREAM_TICK_MS = 100,
	UPSTREAM_INDEX_SLOTS = 2,	/* per host and in all, that bulk can't take */
	UPSTREAM_WAITED_SLOTS = 2,	/* of bulk's, that what nobody waits for yet can't take */
	UPSTREAM_QUEUE_MAX = 16384,	/* fetches that may wait, in all */
	FETCH_REDIRECTS_MAX = 10,
	UPHOST_NO_RANGES_MS = 600000,	/* ranges are of no use there */
	FETCH_WRONG_MAX = 3,		/* wrong bodies until it fails */
	FETCH_HELD_MS = 20000,		/* readers of wrong bytes are held for so long, then cut */
	FETCH_LOOK_MS = 500,		/* between two looks whether upstream has an index by now */
	FETCH_BUFFER_BYTES = 512 << 10,	/* received bytes are written in pieces of this size */
	FETCH_URL_BYTES = 3 * 8192 + 256,
};

TAILQ_HEAD(fetch_list, fetch);

/* Who goes first when slots are short: in this order. */
enum upclass {
	UP_INDEX,		/* small, and clients wait for them one by one */
	UP_BULK,		/* a client waits for it */
	UP_AHEAD,		/* its turn on its client's connection has not come */
	UP_CLASS_N
};

/* One origin: how much of it is in use, who waits. Gone when nobody does. */
struct uphost {
	TAILQ_ENTRY(uphost) link;
	bool old;			/* of an earlier configuration: it is not found any more */
	char authority[300];		/* scheme and authority */
	const struct config_upstream *conf;
	struct upway_host way;		/* how it is reached */
	unsigned active_n, bulk_n, dials_n;
	int64_t fresh_ms;		/* when a Release was last asked for on a new connection */
	struct fetch_list waiting[UP_CLASS_N];
	struct upaddrs addrs;		/* what is known of its addresses */
	uint64_t rate;			/* bytes per second that one connection gave lately */
	int64_t rate_ms;		/* when that was noted */
	/* More parallel ranges than this are not tried here until then (monotonic clock). */
	unsigned segments_max;
	int64_t segments_max_until_ms;
};

struct upstream {
	uint32_t magic;
	struct depot *depot;
	const struct config *config;	/* whose files are in stores and auth; of new hosts */
	struct upstream_change *change;	/* a reload that waits for upauth's pool thread */
	pthread_t thread;
	struct event_base *base;
	struct event *mail_event, *tick_event, *flush_event, *start_event;
	struct mailbox mailbox;
	struct curlev *curlev;
	int64_t now_ms;
	struct fetch_list fetches;	/* all of them */
	struct fetch_list dirty;	/* hold received bytes that are not written yet */
	bool flush_armed;
	TAILQ_HEAD(, uphost) hosts;
	TAILQ_HEAD(, updial) dials;	/* connections for tunnels: being made, or relayed */
	struct upway_store *stores;	/* CA stores by ca_file */
	struct upway_parent *parents;	/* parent proxies that were used */
	struct upauth *auth;		/* credentials of the configuration */
	unsigned active_n, bulk_n, waiting_n;
	char *spare_buffers[16];
	unsigned spare_buffers_n;
	pthread_mutex_t avoided_lock;	/* held with no other */
	struct upstream_avoided avoided[UPSTREAM_AVOIDED_MAX];	/* for pages; address "": free */
	struct mail stop_mail, reload_mail;
	_Atomic bool reload_posted;
};

/* The steps of a fetch, and what it waits for in each. */
#define FETCH_STATES(S)                                                        \
	S(NEW, "its start")                                                    \
	S(PARTIAL, "the verifier to read the kept part")                       \
	S(QUEUED, "a connection slot")                                         \
	S(ASK, "the origin's answer")                                          \
	S(BODY, "the rest of the body")                                        \
	S(SEGMENTS, "the rest of the body, in parallel ranges")                \
	S(VERIFY, "the verifier's word, or its repository's")                  \
	S(PAUSE, "the time to try again")                                      \
	S(OVER, "nothing")

enum fetch_state {
#define S(name, waits_for) FETCH_##name,
	FETCH_STATES(S)
#undef S
	FETCH_STATE_N
};

/* How fast one transfer is, looked at now and then. */
struct uprate {
	int64_t since_ms;		/* 0: not being measured */
	uint64_t bytes;			/* what had come by then */
	int64_t again_ms;		/* not replaced again before */
	unsigned replaced_n;
};

/* What is to be done with the answer whose head has come. */
enum fetch_plan {
	PLAN_NONE,		/* no final head yet */
	PLAN_BODY,		/* the object: hand it to the flight */
	/* it starts over: prove that it begins with what we have, then go on */
	PLAN_COMPARE,
	PLAN_CONFIRM,		/* 304 */
	PLAN_HEAD,		/* HEAD: the head is all */
	PLAN_REDIRECT,
	PLAN_RETRY,		/* 5xx: worth another try */
	PLAN_CUT,		/* it has reached what its segments fetch: they go on alone */
	PLAN_RESTART,		/* the kept part belongs to another version: from the start */
	PLAN_FAIL,		/* fail_reason, fail_detail */
};

struct fetch {
	uint32_t magic;
	struct upstream *u;
	struct flight *f;		/* a reference */
	TAILQ_ENTRY(fetch) link;	/* upstream's list of all */
	TAILQ_ENTRY(fetch) wait_link;	/* host's waiting list */
	TAILQ_ENTRY(fetch) dirty_link;
	bool dirty;
	enum fetch_state state;
	struct mail order;		/* workers: start this */
	struct mail crowd;		/* flight: readers came or went */
	_Atomic bool crowd_posted;
	struct mail partial;		/* verifier: the kept part is read */
	uint64_t partial_bytes;
	struct mail verdict;		/* verifier: the body is what it should be, or not */
	_Atomic bool verdict_posted;
	struct event pause;
	bool partial_pending;		/* `partial` is under way, or will be */
	bool dead;			/* over: only mail under way keeps it from being freed */

	/* What is asked for. */
	bool head_only, no_cache, no_store, check;	/* check: conditional */
	char *via;			/* its Via field, malloced */
	char *fields;			/* client's fields, malloced; "" none */
	struct url url;			/* where it is asked for now; text in url_text */
	char *url_text;
	struct key visited[FETCH_REDIRECTS_MAX + 1];
	unsigned visited_n;
	/* resume: with which the part must agree; check: what is stored */
	struct cache_validators want;
	int64_t want_total;

	/* One try. */
	struct uphost *host;		/* holds a slot there */
	struct uphost *waiting_at;	/* waits for one there */
	enum upclass class;
	CURL *curl;
	struct curl_slist *headers;
	struct httpresp *resp;
	enum fetch_plan plan;
	bool sent, sniffed, began_here, reused;
	bool paused;			/* until its readers have made room, or for segments_relieve */
	struct upway way;
	enum authfile_match auth_match;	/* whether `auth` has credentials for this URL */
	uint64_t resume_at;		/* asked with Range from here; 0: whole */
	uint64_t compare_at;
	char *buf;			/* FETCH_BUFFER_BYTES */
	size_t buf_n;
	int64_t quiet_ms;		/* since when nothing has come */
	int64_t head_ms;		/* when the final head was complete */
	int64_t asked_wall_ms;
	uint64_t body_bytes;
	enum reason fail_reason;
	char fail_detail[512];
	char error[CURL_ERROR_SIZE];

	char address[INET6_ADDRSTRLEN];	/* who answers, or answered last */
	struct provenance from;		/* the same, for the record */
	curl_socket_t socket;		/* CURL_SOCKET_BAD: not known */
	struct uprate speed;

	/* All tries. */
	bool abroad;			/* redirected to another host than the flight's */
	bool begun;			/* the flight has its head: from now on one version only */
	bool fresh;			/* no kept-alive connection is trusted */
	bool any_address;		/* all are avoided: take what there is */
	bool same_try;			/* repeated for that reason: one try, and counted as one */
	struct segments *segments;	/* NULL: one stream */
	bool no_segments;		/* tried, and not again for this one */
	unsigned behind_n;		/* ticks in a row in which more connections would have helped */
	bool look;			/* only to see what upstream has: its asker repeats it if need be */
	bool alternate_gone;		/* the flight's other URL has not got it */
	bool alternate_bad;		/* it gave wrong bytes: not asked any more */
	unsigned tries_n, timeouts_n;	/* since the last byte */
	int64_t retry_after_s;		/* what the last 429 or 503 asked for; 0: nothing */
	bool waited;			/* for that, once */
	int64_t progress_ms;		/* when the body last grew */
	int64_t lonely_ms;		/* since when nobody reads; 0: somebody does */
	int64_t rate_ms;		/* for the rate: when the body began here */
	uint64_t rate_from;
	/* Digests of wrong bodies, or of words about wrong answers. */
	struct key wrong[FETCH_WRONG_MAX];
	unsigned wrong_n;
	int64_t wrong_ms;		/* when the first one was found */
	bool wrong_answer;		/* doubted for its head; wrong_text is known */
	bool let_go;			/* readers of wrong bytes were cut */
	char wrong_text[512];
	/* An index that upstream does not have yet is looked for again and again. */
	int64_t wait_until_ms;		/* until then; 0: it is not */
	int64_t wait_ms;		/* revalidate_wait of its host */
	enum reason wait_reason;	/* why the first answer was no good */
};

/* ---- upstream.c ---- */
/* Waits for a slot at its host, then fetch_start. */
void upstream_queue(struct fetch *ft);
void upstream_unqueue(struct fetch *ft);
/* Its readers have changed: one that is queued may belong in another class. */
void upstream_requeue(struct fetch *ft);
void upstream_leave_slot(struct fetch *ft);
/*
 * One more connection for a segment, if nobody waits for a slot there. Segments count as bulk;
 * those of a body that nobody waits for yet leave as much free as its fetch would.
 */
bool upstream_take_extra(struct upstream *u, struct uphost *h, bool ahead) MUSTCHECK;
void upstream_leave_extra(struct upstream *u, struct uphost *h);
/* The fetch's slot becomes a segment's: the fetch has none then. */
void upstream_pass_slot(struct fetch *ft);
/* Does somebody wait for a slot that this host's segments could make free? */
bool upstream_is_wanted(const struct upstream *u, const struct uphost *h);
/* This address of the host did badly: others are taken for a minute. */
void upstream_avoid(struct upstream *u, struct uphost *h, const char *ip, const char *why);
/* Connected to this one: those tried before it did not answer. */
void upstream_note_peer(struct upstream *u, struct uphost *h, const struct upaddr_choice *c,
    const char *ip);
/* The record of this origin, made at first use; NULL: out of memory. */
struct uphost *upstream_host(struct upstream *u, const struct url *url) MUSTCHECK;
/* This address of the host sent wrong bytes: others are better, for a while. */
void upstream_note_bad_address(struct upstream *u, const struct url *url, const char *ip);
char *upstream_buffer_get(struct upstream *u);
void upstream_buffer_put(struct upstream *u, char **buf_p);
void upstream_flush_later(struct upstream *u);

/* ---- updial.c ---- */
extern const uint32_t updial_magic;	/* the first word of what libcurl's owner is then */
void updial_done(void *owner, CURLcode result);
/* True: the handle stays in the multi, its connection is relayed. */
bool updial_peek(void *owner, CURLcode result);
void updial_tick(struct upstream *u);
void updial_abort_all(struct upstream *u);

/* ---- fetch.c ---- */
struct fetch *fetch_new(struct upstream *u, struct flight *f, const struct upstream_ask *ask);
void fetch_begin(struct fetch *ft);	/* on the upstream thread */
void fetch_start(struct fetch *ft);	/* it has its slot */
void fetch_done(struct fetch *ft, CURLcode result);
void fetch_tick(struct fetch *ft);	/* time-outs, loneliness */
void fetch_abort(struct fetch *ft, enum reason why);	/* the depot stops */

/* The plan is to fail: fails, unless another answer may mend it; then it is asked for again. */
void fetch_fail_planned(struct fetch *ft, int status);
/* One try broke, for reason r and in words: tries again or fails. The fetch may be gone then. */
void fetch_again(struct fetch *ft, enum reason r, int status, const char *detail);
/* Every byte is in the flight: the fetch is over, or waits for the verdict. */
void fetch_complete(struct fetch *ft);
/* Gives up the running try and does as fetch_again. */
void fetch_break_off(struct fetch *ft, enum reason r, const char *detail);
void fetch_set_state(struct fetch *ft, enum fetch_state to);
/* Lets go of the handle and the slot of one try. */
void fetch_end_try(struct fetch *ft);
void fetch_over(struct fetch *ft);
void fetch_free_when_quiet(struct fetch *ft);
void fetch_go_home(struct fetch *ft);
/* The next try begins after ms milliseconds. */
void fetch_pause(struct fetch *ft, int64_t ms);
/* A transfer that is paused goes on. */
void fetch_unpause(struct fetch *ft);
/* Ends it badly, in words; what has come is kept where it can be continued. */
void fetch_fail(struct fetch *ft, enum reason r, int status, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* ---- fetch_body.c ---- */
/* libcurl: body bytes; arg is the fetch. Anything but n ends the transfer. */
size_t fetch_write_cb(char *p, size_t one, size_t n, void *arg);
/* Hands the head to the flight: from now on readers have something to read. */
bool fetch_begin_body(struct fetch *ft);
/* Looks at the first bytes, then begins; true when the body may go on. */
bool fetch_sniff(struct fetch *ft);
/* Received bytes are to be written soon; now. */
void fetch_flush_soon(struct fetch *ft);
void fetch_flush(struct fetch *ft);

/* ---- fetch_rate.c ---- */
/* One connection of this host brought so many bytes in so much time. */
void uphost_note_rate(struct uphost *h, uint64_t bytes, int64_t ms, int64_t now_ms);
/* What one connection gave here lately, in bytes per second; 0: not known. */
uint64_t uphost_rate(const struct uphost *h, int64_t now_ms);
/* No more parallel ranges than this here, for so long. */
void uphost_limit_segments(struct uphost *h, unsigned max, int64_t until_ms);
/* A transfer that is far too slow gets a second connection, or is given up for its segments: true. */
bool fetch_check_slow(struct fetch *ft);
/*
 * The last reader has left: the one policy. What is nearly here is finished,
 * what has hardly begun is dropped a little later, the rest stops and keeps
 * its part. True: it has ended.
 */
bool fetch_check_lonely(struct fetch *ft);
/* The address that answered last did badly: others are taken for a minute. */
void fetch_avoid_address(struct fetch *ft, const char *why);

/* ---- fetch_verdict.c ---- */
void fetch_verdict(void *ft);		/* for the flight: posts fetch_verdict_mail */
void fetch_verdict_mail(struct mail *m);
/* Everything has come; the verifier will say whether it is right. */
void fetch_await_verdict(struct fetch *ft);
/* The answer failed (PLAN_FAIL) in a way that another one may mend: true, and it is asked for. */
bool fetch_heal_answer(struct fetch *ft) MUSTCHECK;
void fetch_check_held(struct fetch *ft);	/* each tick */
/*
 * A CDN shows a Release before the indexes that it lists. Are clients to be held while this one,
 * which failed in this way, is looked for? Then fetch_look does, a little later.
 */
bool fetch_may_wait(struct fetch *ft, enum reason r) MUSTCHECK;
void fetch_look(struct fetch *ft);
/* Each tick: the last look takes longer than clients are held; true: it has ended. */
bool fetch_check_look(struct fetch *ft) MUSTCHECK;

/* ---- fetch_request.c ---- */
/* From which byte on to ask, and whether with conditions. */
void fetch_choose_range(struct fetch *ft);
/* URL, header fields, and the way to the origin. False: out of memory. */
bool fetch_make_request(struct fetch *ft) MUSTCHECK;
/* The same for the range [first, end) on a handle of its own, with the way set up by the caller. */
bool fetch_make_range(struct fetch *ft, const struct config_upstream *conf, CURL *curl,
    struct curl_slist **headers, uint64_t first, uint64_t end) MUSTCHECK;
/* The depot asks elsewhere; the client never hears of it. The fetch may be gone afterwards. */
void fetch_redirect(struct fetch *ft);

/* ---- fetch_head.c ---- */
/* The final head is complete: decides on the plan. */
void fetch_judge_head(struct fetch *ft);
/* Is its body, whole or part, other than the file that was asked for? */
bool fetch_is_encoded(const struct fetch *ft, const struct httpresp *r);
/* Do the validators of this answer prove that it is the object we have a part of? */
bool fetch_is_same_version(const struct fetch *ft, const struct httpresp *r);
/* The origin's status where clients should see it; else 0. */
int fetch_status_to_pass(const struct fetch *ft);
/* The first bytes: a page where a repository file should be? */
bool fetch_is_html(const char *p, size_t n);
/* The flight's head as this answer gives it. Text is borrowed from ft->resp. */
struct flight_head fetch_flight_head(const struct fetch *ft);
PRINTF_LIKE(3, 4)
void fetch_plan_fail(struct fetch *ft, enum reason r, const char *fmt, ...);
void fetch_plan_too_large(struct fetch *ft);

#endif
