/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CA_H
#define CA_H
/*
 * The authority that signs for intercepted hosts: given by the operator, or
 * made here, good for the hosts of intercept_hosts and for nothing else
 * (X.509 name constraints). Read-only once it is loaded.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "include/access.h"
#include "include/config.h"

struct evp_pkey_st;	/* OpenSSL's EVP_PKEY */
struct x509_st;		/* OpenSSL's X509 */
struct ca;

enum { CA_FINGERPRINT_BYTES = 96 };

/*
 * The operator's: intercept_ca_cert with intercept_ca_key (NULL: in the same
 * file). On failure *why (malloced) says what is wrong and what to do.
 */
struct ca *ca_load(const char *cert_path, const char *key_path, char **why) MUSTCHECK;
/*
 * Ours, in the directory: loaded, or made when there is none or when it is no
 * good for one of the hosts and may_replace; an old one is kept aside. owner:
 * who gets the files when we are root; NULL: nobody. Logs what it made.
 */
struct ca *ca_open(const char *dir, const struct globset *hosts, const char *owner,
    bool may_replace, char **why) MUSTCHECK;
void ca_free(struct ca **ca_p);

/* Can an authority of ours be limited to these hosts? If not, why says what to write instead. */
bool ca_can_constrain(const struct globset *hosts, char *why, size_t why_cap) MUSTCHECK;

struct x509_st *ca_cert(const struct ca *ca);
struct evp_pkey_st *ca_key(const struct ca *ca);
/* Certificates between a leaf and what clients trust: n of them. */
struct x509_st *ca_chain(const struct ca *ca, unsigned n);	/* NULL: no more */
int64_t ca_not_after_s(const struct ca *ca);
/* What clients must trust, in PEM form, NUL-terminated; without the key. */
const char *ca_pem(const struct ca *ca);
/* SHA-256 of the certificate, as openssl x509 -fingerprint shows it. */
void ca_fingerprint(const struct ca *ca, char out[CA_FINGERPRINT_BYTES]);
/*
 * For people and for /-/ca.pem: the certificate, its fingerprint, and the lines that make apt,
 * other clients and images trust it. url: the depot's. What is no certificate is a comment.
 */
void ca_print(FILE *out, const struct ca *ca, const struct globset *hosts, const char *url);
/* OpenSSL's words for what went wrong last in this thread. Static text. */
const char *ca_openssl_words(void);
/* OpenSSL's pem_password_cb: refuses a key with a passphrase instead of asking on the terminal. */
int ca_no_passphrase_cb(char *buf, int size, int writing, void *arg);
/* Is there one already: given, or made at an earlier start? */
bool ca_is_there(const struct config *c);
/* The configured one. may_replace: as the daemon does; commands only look. */
struct ca *ca_of_config(const struct config *c, bool may_replace, char **why) MUSTCHECK;

#endif
