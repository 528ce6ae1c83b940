/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * TLS sessions with clients. entry.c makes one and drives its handshake;
 * afterwards conn.c, deliver.c and tunnel.c read and write through it, all on
 * the connection's worker. conn_close frees it.
 *
 * Where the kernel can encrypt (kTLS), OpenSSL sits on the descriptor itself,
 * and what is sent after the handshake goes past it. Otherwise there is a BIO
 * of ours below it: for sessions inside of another, for first bytes that came
 * together with the CONNECT, and because a system call for each record of 16
 * KiB costs as much as the encryption. tls_send has several records gathered
 * and sends them in one piece. What the socket does not take of that is kept,
 * and so much plain text is still owed: the caller offers it again, and it is
 * counted then, not encrypted again.
 *
 * Edge-triggered sockets need to know whether a read has emptied the socket:
 * SSL_read also says "want read" after a record without data. errno tells the
 * two apart, since OpenSSL clears it before each system call.
 */
#include "proxy/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "include/counter.h"

#define TLS_MAGIC 0x7150e001u

#ifndef TCP_ULP
#define TCP_ULP 31
#endif

enum {
	TLS_EMPTY_READS_MAX = 32,	/* of records without data, in one go */
	TLS_BATCH_BYTES = 128 << 10,	/* plain text encrypted before it is sent */
	/* that in full records, with all that TLS adds to them */
	TLS_GATHER_BYTES = TLS_BATCH_BYTES + TLS_BATCH_BYTES / 64 + 4096,
};

/* Records on their way to the socket. */
struct tls_gather {
	size_t n;
	char b[TLS_GATHER_BYTES];
};

struct tls {
	uint32_t magic;
	int fd;
	SSL *ssl;
	struct tls *under;		/* owned; NULL: on the socket */
	char *early;			/* received before the session was made; NULL: all taken */
	size_t early_n, early_at;
	char *host;			/* pinned; NULL: it is with the depot itself */
	uint16_t port;
	bool ready, broken, finished;
	bool heard;			/* something was read */
	bool other_name;		/* the client asked for another host than the pinned one */
	bool kernel_sends;
	bool crossed;
	struct tls_gather *gather;	/* within tls_send_batch: its own; NULL: records are sent */
	bool on_bio;			/* ours is below it */
	char *kept;			/* records that the socket did not take; NULL: none */
	size_t kept_n, kept_at;
	size_t owed;			/* plain text in them that tls_send has not counted */
	size_t batch_bytes;		/* less for those who are slow to take it */
	unsigned empty_reads;
};

/* ---- contexts ---- */

/* Does this kernel have TLS at all? Asked once: each session would look for the module anew. */
static bool
tls_kernel_has_ktls(void)
{
	static int known = -1;
	int fd;

	if (known < 0) {
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		known = fd >= 0 && (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) == 0 ||
		    errno != ENOENT);
		if (fd >= 0)
			(void)close(fd);
	}
	return known == 1;
}

/* HTTP/1.1 is all that is spoken here; a client that offers only something else is told so. */
static int
tls_choose_protocol_cb(SSL *ssl, const unsigned char **out, unsigned char *out_n,
    const unsigned char *in, unsigned in_n, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1\x08http/1.0";

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_n, ours, sizeof(ours) - 1,
	    in, in_n) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	return SSL_TLSEXT_ERR_OK;
}

/* A pinned session serves one host; a client that names none is taken at its CONNECT's word. */
static int
tls_check_name_cb(SSL *ssl, int *alert, void *arg)
{
	struct tls *t = SSL_get_app_data(ssl);
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	struct slice asked = slice_of(name);

	(void)arg;
	CHECK_OBJ(t, TLS_MAGIC);
	if (name == NULL || t->host == NULL)
		return SSL_TLSEXT_ERR_NOACK;
	if (asked.n > 0 && asked.p[asked.n - 1] == '.')
		asked.n--;
	if (slice_caseeq(asked, slice_of(t->host)))
		return SSL_TLSEXT_ERR_OK;
	t->other_name = true;
	*alert = SSL_AD_UNRECOGNIZED_NAME;
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

bool
tls_prepare_context(SSL_CTX *ctx)
{
	/* Every cipher has forward secrecy and is authenticated; the cheapest for AES-NI first. */
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_cipher_list(ctx,
	    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
	    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
	    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305") != 1 ||
	    SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
	    "TLS_CHACHA20_POLY1305_SHA256") != 1)
		return false;
	/* Bodies have a length: a client that closes without saying so has lost nothing. */
	(void)SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
	    SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
	    SSL_OP_IGNORE_UNEXPECTED_EOF | (tls_kernel_has_ktls() ? SSL_OP_ENABLE_KTLS : 0));
	(void)SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY);
	(void)SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
	    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	/* One system call for several records; nothing is lost, since reads go on to EAGAIN. */
	SSL_CTX_set_read_ahead(ctx, 1);
	/* Resumption by tickets alone: nothing is kept here, and one is enough. */
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_num_tickets(ctx, 1);
	(void)SSL_CTX_set_timeout(ctx, 2 * 3600);
	SSL_CTX_set_alpn_select_cb(ctx, tls_choose_protocol_cb, NULL);
	(void)SSL_CTX_set_tlsext_servername_callback(ctx, tls_check_name_cb);
	return true;
}

/* ---- below a session that does not sit on the socket ---- */

/* Early bytes first, then what the session below or the socket has. */
static int
tls_bio_read(BIO *bio, char *p, int n)
{
	struct tls *t = BIO_get_data(bio);
	ssize_t k;

	CHECK_OBJ(t, TLS_MAGIC);
	BIO_clear_retry_flags(bio);
	if (n <= 0)
		return 0;
	if (t->early != NULL) {
		k = (ssize_t)(t->early_n - t->early_at);
		if (k > n)
			k = n;
		memcpy(p, t->early + t->early_at, (size_t)k);
		t->early_at += (size_t)k;
		if (t->early_at == t->early_n) {
			free(t->early);
			t->early = NULL;
		}
		return (int)k;
	}
	errno = 0;
	k = t->under != NULL ? tls_recv(t->under, p, (size_t)n) : recv(t->fd, p, (size_t)n, 0);
	if (k < 0 && (errno == EAGAIN || errno == EINTR))
		BIO_set_retry_read(bio);
	return (int)k;
}

/* To the socket, or to the session that this one lies in. */
static ssize_t
tls_below_send(struct tls *t, const char *p, size_t n)
{
	errno = 0;
	return t->under != NULL ? tls_send(t->under, p, n) : send(t->fd, p, n, MSG_NOSIGNAL);
}

/* Sends what was kept; false: not all of it went, errno says why. */
static bool
tls_flush(struct tls *t)
{
	ssize_t k;

	while (t->kept_at < t->kept_n) {
		k = tls_below_send(t, t->kept + t->kept_at, t->kept_n - t->kept_at);
		if (k < 0)
			return false;
		t->kept_at += (size_t)k;
	}
	free(t->kept);
	t->kept = NULL;
	t->kept_n = t->kept_at = 0;
	return true;
}

static int
tls_bio_write(BIO *bio, const char *p, int n)
{
	struct tls *t = BIO_get_data(bio);
	ssize_t k = -1;

	CHECK_OBJ(t, TLS_MAGIC);
	BIO_clear_retry_flags(bio);
	if (t->gather != NULL && t->gather->n + (size_t)n <= sizeof(t->gather->b)) {
		memcpy(t->gather->b + t->gather->n, p, (size_t)n);
		t->gather->n += (size_t)n;
		return n;
	}
	/* Handshakes, alerts: behind what was kept, never before it. */
	AZ(t->gather);
	if (t->kept == NULL || tls_flush(t))
		k = tls_below_send(t, p, (size_t)n);
	if (k < 0 && errno == EAGAIN)
		BIO_set_retry_write(bio);
	return (int)k;
}

static long
tls_bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	(void)bio;
	(void)num;
	(void)ptr;
	return cmd == BIO_CTRL_FLUSH || cmd == BIO_CTRL_DUP;
}

/* Made at the first use, kept for good. */
static BIO_METHOD *
tls_bio_method(void)
{
	static _Atomic(BIO_METHOD *) kept;
	BIO_METHOD *made, *none = NULL;

	made = atomic_load(&kept);
	if (made != NULL)
		return made;
	made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "apt-depot");
	if (made == NULL)
		return NULL;
	(void)BIO_meth_set_read(made, tls_bio_read);
	(void)BIO_meth_set_write(made, tls_bio_write);
	(void)BIO_meth_set_ctrl(made, tls_bio_ctrl);
	if (!atomic_compare_exchange_strong(&kept, &none, made)) {
		BIO_meth_free(made);
		made = none;
	}
	return made;
}

/* One of ours, for the session; NULL: no memory. */
static BIO *
tls_bio_new(struct tls *t)
{
	BIO *bio = tls_bio_method() != NULL ? BIO_new(tls_bio_method()) : NULL;

	if (bio == NULL)
		return NULL;
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	t->on_bio = true;
	return bio;
}

/* Puts the session on the socket, or on what is between. */
static bool
tls_attach(struct tls *t)
{
	BIO *bio;

	if (t->under == NULL && t->early == NULL && tls_kernel_has_ktls())
		return SSL_set_fd(t->ssl, t->fd) == 1;
	bio = tls_bio_new(t);
	if (bio != NULL)
		SSL_set_bio(t->ssl, bio, bio);
	return bio != NULL;
}

/* The handshake is over: does the kernel encrypt? It can't for each cipher. */
static void
tls_settle(struct tls *t)
{
	BIO *bio;

	if (t->on_bio)
		return;
	t->kernel_sends = BIO_get_ktls_send(SSL_get_wbio(t->ssl)) != 0;
	/* Without memory each record is sent by itself. */
	bio = t->kernel_sends ? NULL : tls_bio_new(t);
	if (bio != NULL)
		SSL_set0_wbio(t->ssl, bio);
}

/* ---- birth and end ---- */

struct tls *
tls_new(SSL_CTX *ctx, int fd, struct tls **under_p, char **early_p, size_t early_n)
{
	struct tls *t;

	OBJ_NEW(t, TLS_MAGIC);
	if (t == NULL)
		return NULL;
	t->fd = fd;
	t->under = *under_p;
	t->early = early_n > 0 ? *early_p : NULL;
	t->early_n = early_n;
	t->batch_bytes = TLS_BATCH_BYTES;
	t->ssl = SSL_new(ctx);
	if (t->ssl == NULL || SSL_set_app_data(t->ssl, t) != 1 || !tls_attach(t)) {
		t->under = NULL;
		t->early = NULL;
		tls_free(&t);
		ERR_clear_error();
		return NULL;
	}
	SSL_set_accept_state(t->ssl);
	*under_p = NULL;
	if (early_n > 0)
		*early_p = NULL;
	return t;
}

void
tls_free(struct tls **t_p)
{
	struct tls *t = *t_p;

	*t_p = NULL;
	if (t == NULL)
		return;
	CHECK_OBJ(t, TLS_MAGIC);
	SSL_free(t->ssl);
	tls_free(&t->under);
	free(t->early);
	free(t->kept);
	free(t->host);
	OBJ_FREE(t);
}

struct ssl_st *
tls_session(struct tls *t)
{
	CHECK_OBJ(t, TLS_MAGIC);
	return t->ssl;
}

bool
tls_pin(struct tls *t, struct slice host, uint16_t port)
{
	/* A ticket of another host's session must not open this one: at most 32 bytes. */
	unsigned char id[SSL_MAX_SID_CTX_LENGTH];

	CHECK_OBJ(t, TLS_MAGIC);
	AZ(t->host);
	t->host = strndup(host.p, host.n);
	t->port = port;
	return t->host != NULL && EVP_Digest(host.p, host.n, id, NULL, EVP_sha256(), NULL) == 1 &&
	    SSL_set_session_id_context(t->ssl, id, sizeof(id)) == 1;
}

bool
tls_pinned(const struct tls *t, struct slice *host, uint16_t *port)
{
	CHECK_OBJ(t, TLS_MAGIC);
	if (t->host == NULL)
		return false;
	*host = slice_of(t->host);
	*port = t->port;
	return true;
}

/* ---- the handshake ---- */

/* Do OpenSSL's words for the last error mean that this is another protocol? */
static bool
tls_error_is_other(unsigned long err)
{
	if (ERR_GET_LIB(err) != ERR_LIB_SSL)
		return false;
	switch (ERR_GET_REASON(err)) {
	case SSL_R_HTTP_REQUEST:
	case SSL_R_HTTPS_PROXY_REQUEST:
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_UNKNOWN_PROTOCOL:
	case SSL_R_BAD_PACKET_LENGTH:
		return true;
	default:
		return false;
	}
}

/* In words, and with what to do where that is known. */
static void
tls_explain(const struct tls *t, unsigned long err, char *why, size_t cap)
{
	const char *text = ERR_reason_error_string(err);
	int reason = ERR_GET_LIB(err) == ERR_LIB_SSL ? ERR_GET_REASON(err) : 0;

	if (t->other_name)
		(void)snprintf(why, cap, "the client's TLS asks for another host than its CONNECT");
	else if (err == 0)
		(void)snprintf(why, cap, "the client closed the connection");
	else if (reason == SSL_R_TLSV1_ALERT_UNKNOWN_CA || reason == SSL_R_SSLV3_ALERT_BAD_CERTIFICATE
	    || reason == SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN)
		(void)snprintf(why, cap, "the client does not trust the certificate: %s",
		    t->host != NULL ? "install /-/ca.pem there, as \"apt-depot ca\" says" :
		    "it must know who signed tls_cert");
	else if (reason == SSL_R_UNSUPPORTED_PROTOCOL)
		(void)snprintf(why, cap, "the client speaks nothing newer than TLS 1.1");
	else
		(void)snprintf(why, cap, "%s", text != NULL ? text : "TLS error");
}

enum tls_progress
tls_handshake(struct tls *t, char *why, size_t why_cap)
{
	unsigned long err;
	int k, what;

	CHECK_OBJ(t, TLS_MAGIC);
	ERR_clear_error();
	/* A record that brought nothing forward is followed by what is there already. */
	do {
		errno = 0;
		k = SSL_do_handshake(t->ssl);
		what = k == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, k);
	} while (what == SSL_ERROR_WANT_READ && errno != EAGAIN &&
	    t->empty_reads++ < TLS_EMPTY_READS_MAX);
	if (what == SSL_ERROR_NONE) {
		t->ready = true;
		t->empty_reads = 0;
		tls_settle(t);
		COUNT(tls_handshakes_total);
		if (SSL_session_reused(t->ssl))
			COUNT(tls_resumed_total);
		return TLS_READY;
	}
	if ((what == SSL_ERROR_WANT_READ || what == SSL_ERROR_WANT_WRITE) && errno == EAGAIN)
		return TLS_WAITS;
	err = ERR_peek_error();
	t->broken = true;
	tls_explain(t, err, why, why_cap);
	ERR_clear_error();
	return tls_error_is_other(err) ? TLS_IS_OTHER : TLS_FAILED;
}

/* ---- bytes ---- */

/* What a call that moved nothing means: 0 at the end, else -1 with errno. */
static ssize_t
tls_failed(struct tls *t, int k, bool reading)
{
	int saved = errno, what = SSL_get_error(t->ssl, k);

	switch (what) {
	case SSL_ERROR_WANT_READ:
		if (!reading)
			t->crossed = true;
		if (saved != EAGAIN && reading) {
			errno = ++t->empty_reads > TLS_EMPTY_READS_MAX ? EPROTO : EINTR;
			return -1;
		}
		t->empty_reads = 0;
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_WANT_WRITE:
		if (reading)
			t->crossed = true;
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_ZERO_RETURN:
		errno = EPIPE;
		return reading ? 0 : -1;
	case SSL_ERROR_SYSCALL:
		t->broken = true;
		errno = saved != 0 && saved != EAGAIN ? saved : EPIPE;
		return -1;
	default:
		t->broken = true;
		errno = EPROTO;
		return -1;
	}
}

ssize_t
tls_recv(struct tls *t, void *p, size_t n)
{
	int k;

	CHECK_OBJ(t, TLS_MAGIC);
	AN(n);
	ERR_clear_error();
	errno = 0;
	k = SSL_read(t->ssl, p, n > INT_MAX ? INT_MAX : (int)n);
	if (k <= 0)
		return tls_failed(t, k, true);
	t->empty_reads = 0;
	t->heard = true;
	return k;
}

bool
tls_is_mute(const struct tls *t)
{
	CHECK_OBJ(t, TLS_MAGIC);
	return t->ready && !t->heard;
}

/* May one more record be made? A client may have asked for small ones (RFC 6066 4): so, many. */
static bool
tls_has_room(const struct tls *t)
{
	return t->gather == NULL || sizeof(t->gather->b) - t->gather->n >= SSL3_RT_MAX_PACKET_SIZE;
}

/* Encrypts n bytes; how many records took, -1 and errno when that is none. */
static ssize_t
tls_encrypt(struct tls *t, const char *p, size_t n)
{
	size_t done = 0;
	int k;

	ERR_clear_error();
	while (done < n && tls_has_room(t)) {
		errno = 0;
		k = SSL_write(t->ssl, p + done, n - done > INT_MAX ? INT_MAX : (int)(n - done));
		if (k <= 0) {
			(void)tls_failed(t, k, false);
			return done > 0 && errno == EAGAIN ? (ssize_t)done : -1;
		}
		done += (size_t)k;
	}
	return (ssize_t)done;
}

/* Sends what was gathered and keeps what is not taken; false: errno, and it is not EAGAIN. */
static bool
tls_send_gathered(struct tls *t, const struct tls_gather *g)
{
	size_t n = g->n;
	ssize_t k = tls_below_send(t, g->b, n);

	if (k < 0 && errno != EAGAIN)
		return false;
	if (k < 0)
		k = 0;
	if ((size_t)k == n)
		return true;
	t->kept = malloc(n - (size_t)k);
	if (t->kept == NULL) {
		t->broken = true;	/* a record is lost */
		errno = EPIPE;
		return false;
	}
	memcpy(t->kept, g->b + k, n - (size_t)k);
	t->kept_n = n - (size_t)k;
	t->kept_at = 0;
	return true;
}

/* The next records: encrypts, sends, and says how much of p that counts for; -1: broken. */
static ssize_t
tls_send_batch(struct tls *t, const char *p, size_t n)
{
	struct tls_gather g;
	ssize_t k;

	if (n > t->batch_bytes)
		n = t->batch_bytes;
	g.n = 0;
	t->gather = &g;
	k = tls_encrypt(t, p, n);
	t->gather = NULL;
	if (k <= 0 || !tls_send_gathered(t, &g))
		return -1;
	if (t->kept == NULL) {
		if (t->batch_bytes < TLS_BATCH_BYTES)
			t->batch_bytes *= 2;
		return k;
	}
	/* The next time there is as little to keep as can be. */
	t->batch_bytes = SSL3_RT_MAX_PLAIN_LENGTH;
	t->owed = t->kept_n < (size_t)k ? t->kept_n : (size_t)k;
	return k - (ssize_t)t->owed;
}

/* What was kept goes first; how much plain text that brings to an end. -1: none, errno. */
static ssize_t
tls_send_owed(struct tls *t)
{
	size_t was = t->owed, left;
	bool all = tls_flush(t);

	if (!all && errno != EAGAIN)
		return -1;
	left = all ? 0 : t->kept_n - t->kept_at;
	if (left < t->owed)
		t->owed = left;
	if (!all && was == t->owed)
		return -1;
	return (ssize_t)(was - t->owed);
}

ssize_t
tls_send(struct tls *t, const void *p, size_t n)
{
	const char *bytes = p;
	size_t sent = 0;
	ssize_t k;

	CHECK_OBJ(t, TLS_MAGIC);
	AN(n);
	if (t->broken) {
		errno = EPIPE;
		return -1;
	}
	/*
	 * Not by SSL_write: it remembers where the bytes of a record were that the socket did not
	 * take, and goes on reading there, whatever it is offered and whatever is there by then.
	 */
	if (t->kernel_sends) {
		errno = 0;
		return send(t->fd, p, n, MSG_NOSIGNAL);
	}
	/* What lies below does the same, or there is nothing to gather for. */
	if (!t->on_bio || t->under != NULL)
		return tls_encrypt(t, p, n);
	if (t->kept != NULL || t->owed > 0) {
		k = tls_send_owed(t);
		if (k < 0)
			return -1;
		sent = (size_t)k < n ? (size_t)k : n;
		t->owed += (size_t)k - sent;	/* less was offered than before: the rest later */
	}
	while (sent < n && t->kept == NULL && t->owed == 0) {
		k = tls_send_batch(t, bytes + sent, n - sent);
		if (k < 0)
			return -1;
		sent += (size_t)k;
	}
	if (sent > 0)
		return (ssize_t)sent;
	errno = EAGAIN;
	return -1;
}

bool
tls_has_sendfile(const struct tls *t)
{
	CHECK_OBJ(t, TLS_MAGIC);
	return t->kernel_sends;
}

ssize_t
tls_sendfile(struct tls *t, int fd, off_t at, size_t n)
{
	ossl_ssize_t k;

	CHECK_OBJ(t, TLS_MAGIC);
	MUST(t->kernel_sends);
	ERR_clear_error();
	errno = 0;
	k = SSL_sendfile(t->ssl, fd, at, n, 0);
	return k > 0 ? (ssize_t)k : k == 0 ? 0 : tls_failed(t, (int)k, false);
}

bool
tls_is_crossed(const struct tls *t)
{
	for (; t != NULL; t = t->under)
		if (t->crossed)
			return true;
	return false;
}

bool
tls_is_held(const struct tls *t)
{
	struct pollfd room;

	CHECK_OBJ(t, TLS_MAGIC);
	while (t->under != NULL)
		t = t->under;
	if (!t->kernel_sends)
		return false;
	/* Room for new bytes is more than a record, and the close_notify takes it along. */
	room = (struct pollfd){.fd = t->fd, .events = POLLOUT};
	return poll(&room, 1, 0) == 0;
}

void
tls_finish(struct tls *t)
{
	CHECK_OBJ(t, TLS_MAGIC);
	if (!t->ready || t->broken || t->finished)
		return;
	t->finished = true;
	ERR_clear_error();
	(void)SSL_shutdown(t->ssl);
	ERR_clear_error();
	if (t->under != NULL)
		tls_finish(t->under);
}
