/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef UPWAY_H
#define UPWAY_H
/*
 * The way to an origin: trust, parent proxies, credentials, addresses that
 * may be reached, and words for what goes wrong on it. For fetches and for
 * tunnels; upstream thread only.
 */
#include <curl/curl.h>
#include <netinet/in.h>
#include <openssl/x509.h>
#include <sys/queue.h>

#include "include/config.h"
#include "include/key.h"
#include "include/obj.h"
#include "include/reason.h"
#include "proxy/upaddr.h"

struct upstream;
struct upway_store;
struct upway_parent;

enum { UPWAY_TEXT_BYTES = 1024, UPWAY_SEEN_BYTES = 256 };

/* What is the same for all transfers to one host: in its struct uphost. */
struct upway_host {
	const struct config_upstream *conf;
	bool direct;			/* no parent_proxy, or no_proxy has the host */
	struct curl_slist *connect_to;	/* conf's, as libcurl wants it */
};

/* The way of one transfer. Zeroed by its owner before the first try, but for via. */
struct upway {
	struct upstream *u;
	const struct upway_host *host;
	const char *via;		/* the client's Via, with our own behind it; the owner's */
	struct curl_slist *proxy_headers;	/* for the parent proxy alone */
	struct upway_parent *parent;	/* asked for this try; NULL: directly */
	unsigned index;			/* in parent_proxy */
	uint32_t tried;			/* members of parent_proxy that failed this transfer */
	unsigned switches_n;		/* how often another one was taken because of that */
	/* What libcurl's callbacks saw in this try. */
	struct upaddr_choice choice;	/* which of a host's addresses is wanted; the owner's */
	int fd;				/* the latest socket made; only asked whether it is connected */
	bool connected;			/* TCP was, as far as anybody looked */
	bool denied, allowed, self;	/* an address was refused; one was not; it was our own */
	enum access_verdict verdict;	/* why it was refused */
	char address[INET6_ADDRSTRLEN];
	bool cert_wanted;		/* it asked for a certificate of ours, and there is none */
	int cert_error;			/* X509_V_ERR_..., 0: none */
	char cert_seen[UPWAY_SEEN_BYTES];	/* issuer of what was refused; else the leaf's names */
	struct upway_goodbye *goodbye;	/* awaited; NULL: not */
};

/* Whose failure it was. */
enum upway_blame {
	BLAME_NOBODY,		/* the origin, or who knows: the way itself was good */
	BLAME_PARENT,		/* this parent proxy can't be used: it is left out for a while */
	BLAME_SILENT,		/* it does not answer; twice in a row: left out too */
	BLAME_ROUTE,		/* it does not get through to this origin: another one may */
};

/* Reads every ca_file of the configuration, from any thread; false with the reason in the log. */
bool upway_load_stores(struct upway_store **list, const struct config *config) MUSTCHECK;
void upway_free_stores(struct upway_store **list);
void upway_fini(struct upstream *u);

/* Is the host one that no_proxy names: itself, a domain it is in, or its address? */
bool upway_is_no_proxy(const struct config *config, struct slice host);
/* False: out of memory. */
bool upway_host_init(struct upway_host *wh, struct upstream *u, struct slice host) MUSTCHECK;
void upway_host_fini(struct upway_host *wh);

/*
 * Chooses the parent proxy (or none) and tells libcurl everything about the
 * way. False: out of memory.
 */
bool upway_prepare(struct upway *way, struct upstream *u, const struct upway_host *wh,
    CURL *curl, bool tunnel) MUSTCHECK;
/* After the last try. */
void upway_close(struct upway *way);
/*
 * "chain, 1.1 apt-depot (id)": who was on the way here, and we. So each depot
 * and each parent proxy notices a request that has been there. Malloced.
 */
char *upway_via(const struct upstream *u, struct slice chain) MUSTCHECK;
/* Is there TLS between us and the parent proxy: no bare socket behind libcurl's connection? */
bool upway_is_tls_parent(const struct upway *way);
/* libcurl is about to use a connection, perhaps one made earlier: may it? */
bool upway_reuse_ok(struct upway *way, const char *peer_ip);
/* While the request has not gone out, now and then: how far did it get? */
void upway_tick(struct upway *way);
/*
 * libcurl has the head of an answer that ends with its connection: over TLS it is whole only if the
 * other side says so. Afterwards: it has not.
 */
void upway_await_goodbye(struct upway *way, CURL *curl);
bool upway_was_cut(const struct upway *way);
/* The way worked: TCP, CONNECT and TLS. */
void upway_worked(struct upway *way);

/*
 * Why a transfer broke: the reason, whose doing it was, and a sentence that
 * names the hop and what to set. `waited_ms`: our own deadline passed, there
 * is no result of libcurl's; `sent`: the request had gone out.
 */
struct upway_failure {
	struct slice authority;		/* of the origin */
	struct slice host;
	bool tls, sent;
	CURLcode result;
	int64_t waited_ms;
	const char *error;		/* libcurl's words, or "" */
};
enum reason upway_explain(const struct upway *way, CURL *curl, const struct upway_failure *f,
    enum upway_blame *blame, char text[UPWAY_TEXT_BYTES]);
/* " through the parent proxy host:port", or nothing; never its credentials. */
void upway_text(const struct upway *way, char *out, size_t cap);
/*
 * Notes a failure. True: another parent proxy (or the direct way) is to be
 * tried in place of this one, at once and not as one of the origin's tries.
 */
bool upway_failed(struct upway *way, enum upway_blame blame) MUSTCHECK;
/* Bytes came: what failed before is forgiven. */
void upway_progress(struct upway *way);

/* The hosts and addresses that a certificate is for, for people: "a.example, 192.0.2.1". */
void upway_cert_names(const X509 *cert, char *out, size_t cap);
/* Why TLS failed, from what OpenSSL said (libcurl's error text); NULL: it does not say. Pure. */
const char *upway_tls_words(const char *error);

#endif
