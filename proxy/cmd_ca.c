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
cmd_ca_address(const struct config *c, char *out, size_t cap)
{
	char host[256] = "depot";
	const char *port = c->listen.n > 0 ? strrchr(c->listen.v[0], ':') : NULL;

	if (c->names.n > 0)
		(void)snprintf(host, sizeof(host), "%s", c->names.v[0]);
	else
		(void)gethostname(host, sizeof(host) - 1);
	(void)snprintf(out, cap, "%s%s", host, port != NULL ? port : ":3142");
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

/* How clients are told. */
static void
cmd_ca_print_help(const struct config *c)
{
	char address[512];
	size_t i;

	cmd_ca_address(c, address, sizeof(address));
	(void)printf("\n"
	    "# On a client, for every program that uses the system's list (curl, wget, apt):\n"
	    "#   curl -o /usr/local/share/ca-certificates/apt-depot.crt http://%s/-/ca.pem\n"
	    "#   update-ca-certificates\n"
	    "# For apt alone, with a file that the user _apt may read, in /etc/apt/apt.conf.d/:\n",
	    address);
	for (i = 0; i < c->intercept_hosts.patterns.n; i++) {
		struct slice host = slice_of(c->intercept_hosts.patterns.v[i]);

		if (slice_starts(host, SLICE("*")))
			host = slice_skip(host, 1);
		(void)printf("#   Acquire::https::%s%.*s::CaInfo \"/etc/apt/apt-depot-ca.pem\";\n",
		    host.n > 0 && host.p[0] != '.' ? "" : "HOST", SLICE_ARG(host));
	}
	(void)fputs("# In a Dockerfile, in an image that has the package ca-certificates:\n"
	    "#   COPY apt-depot-ca.pem /usr/local/share/ca-certificates/apt-depot.crt\n"
	    "#   RUN update-ca-certificates\n"
	    "# Compare the fingerprint before you trust what came over plain http.\n", stdout);
}

int
cmd_ca(const struct cmd_call *call)
{
	struct config *c = cmd_config(call);
	char fingerprint[CA_FINGERPRINT_BYTES], *why = NULL;
	struct ca *ca;

	if (c == NULL)
		return CMD_FAILED;
	ca = ca_of_config(c, false, &why);
	if (ca == NULL) {
		(void)fprintf(stderr, "apt-depot: %s\n", why != NULL ? why : "out of memory");
		free(why);
		config_unref(&c);
		return CMD_FAILED;
	}
	ca_fingerprint(ca, fingerprint);
	if (call->json)
		cmd_ca_print_json(ca, fingerprint);
	else {
		(void)printf("%s\n# SHA-256 fingerprint:\n#   %s\n", ca_pem(ca), fingerprint);
		cmd_ca_print_help(c);
	}
	ca_free(&ca);
	config_unref(&c);
	return CMD_OK;
}
