/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Arbitrary bytes as a Release.gpg: what is said of them is the same with armour around them. */
#include "cache/sigfit.h"

#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static unsigned char armoured[200000];
	enum sigfit fit = sigfit_check(data, n, "a", 1);
	int at = 0;

	if (n == 0 || n > 48000 || (data[0] & 0x80) == 0)
		return 0;
	at = snprintf((char *)armoured, sizeof(armoured), "-----BEGIN PGP SIGNATURE-----\n\n");
	at += EVP_EncodeBlock(armoured + at, data, (int)n);
	MUST(sigfit_check(armoured, (size_t)at, "a", 1) == fit);
	return 0;
}
