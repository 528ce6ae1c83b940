/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef SIGFIT_H
#define SIGFIT_H
/*
 * Does a Release.gpg belong to this Release? An OpenPGP signature carries the
 * first two bytes of the digest that it signs, so that can be told without any
 * key. It is no proof of anything: gpgv's and apt's business is who signed.
 * Pure.
 */
#include <stddef.h>

#include "include/obj.h"

enum sigfit {
	SIGFIT_UNKNOWN,		/* not a signature that can be read here */
	SIGFIT_YES,
	SIGFIT_NO,		/* over another text */
};

/* sig: armoured or not; one signature that fits is enough. */
enum sigfit sigfit_check(const void *sig, size_t sig_n, const void *text, size_t text_n) MUSTCHECK;

#endif
