/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * A client for what CONNECT costs the server: bodies through an intercepted
 * connection, many short intercepted connections, bytes through a tunnel.
 * tests/bench/scenarios.py is the only caller.
 *
 *     bench-secure body ADDR:PORT HOST PATH SECONDS      GETs, pipelined, inside TLS; after the
 *                                                        first answer's head nothing is decrypted:
 *                                                        the client shall not be the limit
 *     bench-secure mint ADDR:PORT HOST N                 N connections to nN.HOST, handshake only
 *     bench-secure tunnel ADDR:PORT TARGET SECONDS       what TARGET sends, thrown away; TARGET
 *                                                        "-": no CONNECT, the port itself relays
 *     bench-secure source PORT                           the TARGET: sends for ever
 *
 * One line of JSON goes to stdout. One thread, blocking sockets: what the
 * server costs is measured from outside.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SECURE_PIECE = 4 << 20, SECURE_AHEAD = 64, SECURE_RECORD = 16384 };

static char secure_buf[SECURE_PIECE];

/* Ends the program with words. */
static void __attribute__((noreturn))
secure_die(const char *what)
{
	(void)fprintf(stderr, "bench-secure: %s\n", what);
	exit(1);
}

static double
secure_now_s(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* 127.0.0.1:3142 as an address. */
static struct sockaddr_in
secure_address(const char *text)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	const char *colon = strrchr(text, ':');
	char host[64] = "127.0.0.1";

	if (colon != NULL && (size_t)(colon - text) < sizeof(host)) {
		memcpy(host, text, (size_t)(colon - text));
		host[colon - text] = '\0';
	}
	if (inet_pton(AF_INET, host, &sin.sin_addr) != 1)
		secure_die("bad address");
	sin.sin_port = htons((uint16_t)atoi(colon != NULL ? colon + 1 : text));
	return sin;
}

/* A connection; with a target, one whose CONNECT was accepted. */
static int
secure_connect(const struct sockaddr_in *to, const char *target)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	char text[1024];
	size_t n = 0;
	ssize_t k;

	if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof(*to)) != 0)
		secure_die("can't connect");
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (target == NULL)
		return fd;
	(void)snprintf(text, sizeof(text), "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target);
	if (send(fd, text, strlen(text), 0) < 0)
		secure_die("can't send");
	/* A byte at a time: what follows the head is another layer's. */
	while (n < 4 || memcmp(text + n - 4, "\r\n\r\n", 4) != 0) {
		k = n < sizeof(text) ? recv(fd, text + n, 1, 0) : 0;
		if (k <= 0)
			secure_die("no answer to CONNECT");
		n++;
	}
	if (strncmp(text, "HTTP/1.1 200", 12) != 0)
		secure_die("CONNECT was refused");
	return fd;
}

/* A TLS session with the host through the proxy. */
static SSL *
secure_open(SSL_CTX *ctx, const struct sockaddr_in *to, const char *host)
{
	char target[300];
	SSL *ssl = SSL_new(ctx);

	(void)snprintf(target, sizeof(target), "%s:443", host);
	if (ssl == NULL || SSL_set_fd(ssl, secure_connect(to, target)) != 1 ||
	    SSL_set_tlsext_host_name(ssl, host) != 1 || SSL_connect(ssl) != 1)
		secure_die("no TLS");
	return ssl;
}

static void
secure_close(SSL *ssl)
{
	int fd = SSL_get_fd(ssl);

	(void)SSL_shutdown(ssl);
	SSL_free(ssl);
	(void)close(fd);
}

/* Asks for the same, several times; reads the first answer's head. */
static void
secure_ask(SSL *ssl, const char *host, const char *path)
{
	size_t n = 0;
	int i, k;

	k = snprintf(secure_buf, SECURE_PIECE, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host);
	for (i = 0; i < SECURE_AHEAD; i++)
		if (SSL_write(ssl, secure_buf, k) != k)
			secure_die("can't ask");
	while (n < 4 || strstr(secure_buf, "\r\n\r\n") == NULL) {
		k = n < 65536 ? SSL_read(ssl, secure_buf + n, 256) : 0;
		if (k <= 0)
			secure_die("no answer");
		n += (size_t)k;
		secure_buf[n] = '\0';
	}
	if (strncmp(secure_buf, "HTTP/1.1 200", 12) != 0)
		secure_die("not the answer that was expected");
}

static SSL_CTX *
secure_context(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (ctx == NULL)
		secure_die("no TLS context");
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
	return ctx;
}

static int
secure_body(const char *address, const char *host, const char *path, double seconds)
{
	struct sockaddr_in to = secure_address(address);
	SSL_CTX *ctx = secure_context();
	SSL *ssl = secure_open(ctx, &to, host);
	int fd = SSL_get_fd(ssl);
	double began;
	uint64_t bytes = 0;
	ssize_t k;

	secure_ask(ssl, host, path);
	began = secure_now_s();
	while (secure_now_s() - began < seconds) {
		k = recv(fd, secure_buf, SECURE_PIECE, MSG_TRUNC);
		if (k <= 0)
			secure_die("the connection ended: ask for a larger file");
		bytes += (uint64_t)k;
	}
	/* Each record is 22 bytes longer than what it carries. */
	bytes = bytes / (SECURE_RECORD + 22) * SECURE_RECORD;
	(void)printf("{\"bytes\":%llu,\"wall_s\":%.3f,\"cipher\":\"%s\"}\n",
	    (unsigned long long)bytes, secure_now_s() - began, SSL_get_cipher(ssl));
	SSL_free(ssl);
	(void)close(fd);
	SSL_CTX_free(ctx);
	return 0;
}

static int
secure_mint(const char *address, const char *domain, unsigned n)
{
	struct sockaddr_in to = secure_address(address);
	SSL_CTX *ctx = secure_context();
	double began = secure_now_s();
	char host[256];
	unsigned i;

	for (i = 0; i < n; i++) {
		(void)snprintf(host, sizeof(host), "n%u-%ld.%s", i, (long)getpid(), domain);
		secure_close(secure_open(ctx, &to, host));
	}
	(void)printf("{\"handshakes\":%u,\"wall_s\":%.3f}\n", n, secure_now_s() - began);
	SSL_CTX_free(ctx);
	return 0;
}

/* Bytes are counted and thrown away inside the kernel. */
static int
secure_tunnel(const char *address, const char *target, double seconds)
{
	struct sockaddr_in to = secure_address(address);
	int fd = secure_connect(&to, strcmp(target, "-") == 0 ? NULL : target);
	double began = secure_now_s();
	uint64_t bytes = 0;
	ssize_t k;

	while (secure_now_s() - began < seconds) {
		k = recv(fd, secure_buf, SECURE_PIECE, MSG_TRUNC);
		if (k <= 0)
			secure_die("the tunnel ended");
		bytes += (uint64_t)k;
	}
	(void)printf("{\"bytes\":%llu,\"wall_s\":%.3f}\n", (unsigned long long)bytes,
	    secure_now_s() - began);
	(void)close(fd);
	return 0;
}

static void *
secure_send_for_ever(void *arg)
{
	int fd = (int)(intptr_t)arg;

	while (send(fd, secure_buf, 1 << 20, MSG_NOSIGNAL) > 0)
		;
	(void)close(fd);
	return NULL;
}

static int
secure_source(const char *port)
{
	struct sockaddr_in at = secure_address(port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, client;
	pthread_t thread;

	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(fd, 16) != 0)
		secure_die("can't listen");
	while ((client = accept(fd, NULL, NULL)) >= 0)
		if (pthread_create(&thread, NULL, secure_send_for_ever, (void *)(intptr_t)client) == 0)
			(void)pthread_detach(thread);
	return 1;
}

int
main(int argc, char **argv)
{
	if (argc == 6 && strcmp(argv[1], "body") == 0)
		return secure_body(argv[2], argv[3], argv[4], atof(argv[5]));
	if (argc == 5 && strcmp(argv[1], "mint") == 0)
		return secure_mint(argv[2], argv[3], (unsigned)atoi(argv[4]));
	if (argc == 5 && strcmp(argv[1], "tunnel") == 0)
		return secure_tunnel(argv[2], argv[3], atof(argv[4]));
	if (argc == 3 && strcmp(argv[1], "source") == 0)
		return secure_source(argv[2]);
	secure_die("see the head of its source");
}
