/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * "apt-depot ca": shows the authority that signs for intercepted hosts, and
 * the lines that make clients trust it. Needs no running depot: before its
 * first start the authority is made here.
 */
#include "proxy/cmd.h"

#include <stdio.h>
#include <string.h>

#include "include/config.h"
#include "proxy/ca.h"

/* One JSON object on a line; PEM text and fingerprint need no escapes but for line ends. */
static void
cmd_ca_print_json(const struct ca *ca, const char *fingerprint)
{
	const char *p;

	(void)printf("{\"sha256\":\"%s\",\"not_after_s\":%lld,\"pem\":\"", fingerprint,
	    (long long)ca_not_after_s(ca));
	for (p = ca_pem(ca); *p != '\0'; p++)
		if (*p == '\n')
			(void)fputs("\\n", stdout);
		else
			(void)putchar(*p);
	(void)puts("\"}");
}

int
cmd_ca(const struct cmd_call *call)
{
	struct config *c = cmd_config(call);
	char fingerprint[CA_FINGERPRINT_BYTES], url[512], self[480], *why = NULL;
	struct ca *ca;
	bool tls = false;

	if (c == NULL)
		return CMD_USAGE;
	ca = ca_of_config(c, false, &why);
	if (ca == NULL) {
		(void)fprintf(stderr, "apt-depot: %s\n", why != NULL ? why : "out of memory");
		free(why);
		config_free(&c);
		return CMD_FAILED;
	}
	if (call->json) {
		ca_fingerprint(ca, fingerprint);
		cmd_ca_print_json(ca, fingerprint);
	} else {
		if (!cmd_guess_self(c, self, sizeof(self), &tls))
			(void)strcpy(self, "DEPOT:3142");
		(void)snprintf(url, sizeof(url), "http%s://%s", tls ? "s" : "", self);
		ca_print(stdout, ca, &c->intercept_hosts, url);
	}
	ca_free(&ca);
	config_free(&c);
	return CMD_OK;
}
