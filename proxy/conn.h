/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CONN_H
#define CONN_H
/*
 * A client connection: reads requests, answers them in order, one at a time,
 * while those behind are already being looked up and fetched.
 *
 *   birth   conn_new, on its worker, from an accepted socket
 *   life    conn_run, whenever something it waits for has happened
 *   end     conn_close with a reason; freed on a later turn of the loop
 *
 * States name what it waits for; conn_set_state alone changes them. Each has
 * a time limit, kept in conn.c's table.
 */
#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "include/cache.h"
#include "include/reason.h"
#include "proxy/httpcond.h"
#include "proxy/httpreq.h"
#include "proxy/mailbox.h"
#include "proxy/page.h"
#include "proxy/route.h"
#include "proxy/tls.h"

#define CONN_MAGIC 0xc0aa0001u
#define REQ_MAGIC 0x4e900001u

struct limits_client;
struct worker;
struct tunnel;

/* State, and what it waits for. */
#define CONN_STATES(S)                                                         \
	S(IDLE, "a request")                                                   \
	S(HEADER, "the rest of a request header")                              \
	S(PREFACE, "a load balancer's header")                                 \
	S(HELLO, "the first bytes of a redirected connection")                 \
	S(HANDSHAKE, "the TLS handshake")                                      \
	S(DIAL, "the host of a redirected connection")                         \
	S(FLIGHT, "bytes from upstream")                                       \
	S(INDEX, "an index of packages to be read")                            \
	S(DISK, "the disk")                                                    \
	S(WRITE, "the client to read")                                         \
	S(PACE, "its client's share of client_bandwidth")                     \
	S(TUNNEL, "either side of the tunnel")                                 \
	S(LINGER, "the client to close")                                       \
	S(RUN, "its next turn")                                                \
	S(DEAD, "nothing")

enum conn_state {
#define S(name, waits_for) CONN_##name,
	CONN_STATES(S)
#undef S
	CONN_STATE_N
};

/* The steps of one request; each answers what comes next. */
#define REQ_STEPS(S)                                                           \
	S(START, start)		/* route it, ask the cache */                  \
	S(OPEN, open)		/* make sure that the stored body is open */   \
	S(FOLLOW, follow)	/* wait for what the flight brings */          \
	S(HEAD, head)		/* decide on status and range, make the head */\
	S(BODY, body)		/* send */                                     \
	S(CONNECT, connect)	/* become a tunnel */                          \
	S(INTERCEPT, intercept)	/* say 200, then be the host */                \
	S(DONE, done)

enum req_step {
#define S(name, func) REQ_##name,
	REQ_STEPS(S)
#undef S
	REQ_STEP_N
};

/* What a request's bytes come from. */
enum req_source { SOURCE_TEXT, SOURCE_OBJECT, SOURCE_FLIGHT };

/* Why it was not answered from the cache alone: `fwd` of RFC 9211 2.2. */
enum req_forward { FORWARD_BYPASS, FORWARD_MISS, FORWARD_STALE, FORWARD_REQUEST };

enum { REQ_TEXT_BYTES = 6 << 10 };	/* of a pooled request; longer heads get their own */

struct req {
	uint32_t magic;
	struct req *next_free;
	TAILQ_ENTRY(req) link;		/* the connection's queue */
	struct conn *c;
	uint64_t id;
	enum req_step step;
	bool started;			/* the cache was asked (or it failed) */
	/* front: became the one to be answered; 0: not yet */
	int64_t arrived_ms, front_ms, first_byte_ms;
	int64_t early_ms;		/* when it began to wait for an index to be read; 0: it did not */

	struct route route;
	struct key key;
	struct aptfile af;

	struct object *object;		/* to be served, or to fall back on */
	bool object_strict;
	bool routed;			/* target, key and class are there */
	bool listed;			/* a generation says which bytes it must have */
	struct repo_gen *gen;		/* a Release's: noted when it is answered; a reference */
	struct flight_reader reader;	/* attached while it follows a flight */
	struct mail wake;		/* the flight's message to our worker */
	_Atomic bool wake_posted;	/* set under the flight's lock, cleared when it arrives */
	bool orphan;			/* waits only for that message; then it is freed */
	uint64_t flight_id;		/* for the log */
	unsigned asked_n;		/* bounded: how often the cache was asked */

	/* The answer. */
	enum reason reason;		/* set: answer with this error */
	const char *detail;		/* in the text arena, or static */
	const char *challenge;		/* WWW-Authenticate to go with it; NULL or "": none */
	int error_status;		/* overrides the reason's; 0: no */
	unsigned retry_after_s;		/* with an error; 0: not said */
	int status;
	enum req_forward forward;	/* while it follows a flight */
	const char *cache_status;	/* value of Cache-Status after our name */
	bool stored;			/* and that says: stored */
	bool whole;			/* its flight had everything before this was asked */
	enum req_source source;
	struct page page;		/* SOURCE_TEXT without a reason */
	char *text_body;		/* SOURCE_TEXT, malloced */
	uint64_t at, end;		/* body bytes still to be sent: [at, end) */
	int64_t end_known;		/* -1: end is the flight's, unknown yet */
	bool chunked;
	uint64_t sent_bytes;
	uint64_t probed;		/* object: bytes up to here are known to be in memory */
	bool fast;			/* its client takes what it can get */
	bool anew;			/* asks for a Release again: no cache between may answer */
	bool waived;			/* it let others go first, and may copy now (deliver.c) */
	uint64_t fast_at;		/* sent_bytes when that was looked at, and when */
	int64_t fast_ms;

	struct arena text;
	size_t text_cap;
	struct httpreq http;		/* from here on not cleared: the parser fills it */
	char memory[];			/* text_cap bytes */
};

/* How it came here. */
enum conn_way {
	WAY_PLAIN,		/* listen */
	WAY_TLS,		/* listen_tls */
	WAY_REDIRECTED,		/* listen_transparent */
};

TAILQ_HEAD(req_list, req);
TAILQ_HEAD(conn_list, conn);

struct conn {
	uint32_t magic;
	int fd;
	struct worker *w;
	TAILQ_ENTRY(conn) link;		/* the worker's list of its state */
	TAILQ_ENTRY(conn) run_link;	/* runnable */
	TAILQ_ENTRY(conn) pace_link;	/* the worker's list of those that wait for bandwidth */
	bool paced;
	struct limits_client *share;	/* its address' limits; NULL: there are none */
	bool runnable, can_read, can_write, eof, close_when_done;
	bool peer_closed;		/* a FIN has come; recv will say so after the data */
	bool refused_input;		/* bytes may follow that were never meant to be read */
	bool connecting;		/* a CONNECT is queued: what follows is not parsed */
	enum reason refusal;		/* why every request of it is refused; OK: it is not */
	enum conn_state state;
	int64_t state_ms;		/* when the state began, or last made progress */
	/* when the first byte of an unfinished header came; 0: none */
	int64_t header_ms;
	struct event ev;
	struct sockaddr_in6 peer;	/* or a sockaddr_in; family AF_UNIX without more */
	uint8_t way;			/* enum conn_way */
	struct req_list reqs;
	unsigned reqs_n;
	size_t reqs_bytes;		/* of memory for their text */
	uint64_t served_n;
	char *in;			/* bytes received and not parsed yet; NULL when none */
	size_t in_n, in_scanned;
	char *out;			/* bytes of a head that the socket did not take */
	size_t out_n, out_at;
	unsigned jobs_n;		/* messages under way to it: it may not be freed */
	struct tunnel *tunnel;
	struct tls *tls;		/* bytes go through it; NULL: plain */
	struct cache_client client;	/* the generations it was given */
};

enum {
	CONN_LOOKAHEAD_MAX = 20,
	CONN_LOOKAHEAD_BYTES = 256 << 10,	/* memory for their text: a few of the largest */
};

/* Takes over the descriptor. On its worker. one_too_many: every request is answered 503. */
void conn_new(struct worker *w, int fd, const struct sockaddr *sa, socklen_t sa_n,
    enum conn_way way, bool one_too_many);
/* Is it for one host, not for the depot: intercepted, or redirected here? */
bool conn_inside(const struct conn *c, struct route_inside *in);
/* Goes on as far as it can without waiting. */
void conn_run(struct conn *c);
void conn_set_state(struct conn *c, enum conn_state to);
/* Takes it out of the queue and lets go of it. */
void conn_end_request(struct conn *c, struct req *req);
/* The one way to end a connection. */
void conn_close(struct conn *c, enum reason why);
/* Ends one without a request, once its client has been sent all of the last answer. */
void conn_stop(struct conn *c);
/* Looks for connections whose time is up; each tick of the worker. */
void conn_check_timeouts(struct worker *w);
void conn_reap(struct worker *w);
/*
 * Its client's address is known for good: may it ask, and is it one too many
 * (then it is told so)? False: it is to be closed without a word.
 */
bool conn_admit(struct conn *c) MUSTCHECK;
/* How many bytes may be sent to it now; 0: it is run again when there are some. */
uint64_t conn_allowance(struct conn *c);
void conn_sent(struct conn *c, uint64_t bytes);
void conn_peer_text(const struct conn *c, char *out, size_t cap);

/* Does it still do what comes before requests (entry.h)? */
static inline bool
conn_is_entering(const struct conn *c)
{
	return c->state >= CONN_PREFACE && c->state <= CONN_DIAL;
}

/* As recv. */
static inline ssize_t
conn_recv(struct conn *c, void *p, size_t n)
{
	return c->tls == NULL ? recv(c->fd, p, n, 0) : tls_recv(c->tls, p, n);
}

/* As send; flags are for plain sockets. */
static inline ssize_t
conn_send(struct conn *c, const void *p, size_t n, int flags)
{
	return c->tls == NULL ? send(c->fd, p, n, MSG_NOSIGNAL | flags) : tls_send(c->tls, p, n);
}

/* ---- requests (req.c) ---- */
struct req *req_new(struct conn *c, const char *head, size_t head_bytes, enum reason *r);
/* Drops what it holds; frees now, or when a message under way has come. */
void req_end(struct req *req);

/* ---- the steps (req_step.c) ---- */
enum step_result { STEP_AGAIN, STEP_WAIT, STEP_CLOSE };
enum step_result req_run(struct req *req);
/* Asks the cache ahead of its turn, so that upstream work starts. */
void req_start_early(struct req *req);
/* Has it waited long enough for upstream? True: run it, it now has something else to say. */
bool req_give_up_waiting(struct req *req);
/* Tells the access log how it ended. */
void req_log(const struct req *req, enum reason end);

#endif
