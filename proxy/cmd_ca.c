/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * "apt-depot ca": shows the authority that signs for intercepted hosts, and
 * the lines that make clients trust it. Needs no running depot: before its
 * first start the authority is made here.
 */
#include "proxy/cmd.h"

#include <stdio.h>
#include <unistd.h>

#include "include/config.h"
#include "proxy/ca.h"

/* The name by which clients are likely to know this machine, and the port. */
static void
cmd_ca_guess_url(const struct config *c, char *out, size_t cap)
{
	char host[256] = "depot";
	const char *port = c->listen.n > 0 ? strrchr(c->listen.v[0], ':') : NULL;

	if (c->names.n > 0)
		(void)snprintf(host, sizeof(host), "%s", c->names.v[0]);
	else
		(void)gethostname(host, sizeof(host) - 1);
	(void)snprintf(out, cap, "http://%s%s", host, port != NULL ? port : ":3142");
}

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
	char fingerprint[CA_FINGERPRINT_BYTES], url[512], *why = NULL;
	struct ca *ca;

	if (c == NULL)
		return CMD_FAILED;
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
		cmd_ca_guess_url(c, url, sizeof(url));
		ca_print(stdout, ca, &c->intercept_hosts, url);
	}
	ca_free(&ca);
	config_free(&c);
	return CMD_OK;
}
