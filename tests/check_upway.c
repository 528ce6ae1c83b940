/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The pure parts of the way upstream, and which hosts may be asked at all. */
#include "proxy/upway.h"

#include <check.h>
#include <stdio.h>

#include "proxy/depot.h"

Suite *check_upway_suite(void);

START_TEST(explains_tls)
{
	static const char *const cases[][2] = {
		{"error:0A00042E:SSL routines::tlsv1 alert protocol version", "TLS 1.0 or 1.1"},
		{"error:0A000102:SSL routines::unsupported protocol", "TLS 1.0 or 1.1"},
		{"error:0A00010B:SSL routines::wrong version number", "does not speak TLS"},
		{"error:0A00045C:SSL routines::tlsv13 alert certificate required", "client_cert"},
		{"error:0A000410:SSL routines::sslv3 alert handshake failure", "client_cert"},
		{"error:0A000458:SSL routines::tlsv1 unrecognized name", "does not serve this name"},
	};
	size_t i;

	for (i = 0; i < NELEM(cases); i++) {
		const char *words = upway_tls_words(cases[i][0]);

		ck_assert_msg(words != NULL && strstr(words, cases[i][1]) != NULL, "%s", cases[i][0]);
	}
	ck_assert_ptr_null(upway_tls_words("Recv failure: Connection reset by peer"));
	ck_assert_ptr_null(upway_tls_words(""));
}
END_TEST

static const struct {
	const char *host;
	enum reason r;
} hosts[] = {
	{"h.example", REASON_OK},
	{"8.8.8.8", REASON_OK},
	{"8.8", REASON_OK},		/* 8.0.0.8 */
	{"134744072", REASON_OK},
	{"2600::1", REASON_OK},
	{"127.0.0.1.example", REASON_OK},
	{"localhost.example", REASON_OK},
	{"notlocalhost", REASON_OK},
	{"1e100.example", REASON_OK},
	{"256.0.0.1", REASON_OK},	/* no address in any notation: a name */
	{"127.0.0.1", REASON_DENIED_ADDRESS},
	{"127.1", REASON_DENIED_ADDRESS},
	{"127.0.1", REASON_DENIED_ADDRESS},
	{"2130706433", REASON_DENIED_ADDRESS},
	{"0x7f000001", REASON_DENIED_ADDRESS},
	{"0X7F.1", REASON_DENIED_ADDRESS},
	{"0x7f.0.0x0.01", REASON_DENIED_ADDRESS},
	{"017700000001", REASON_DENIED_ADDRESS},
	{"0177.0.0.1", REASON_DENIED_ADDRESS},
	{"0", REASON_DENIED_ADDRESS},
	{"10.1", REASON_DENIED_ADDRESS},
	{"0xa9fea9fe", REASON_DENIED_ADDRESS},	/* 169.254.169.254 */
	{"2852039166", REASON_DENIED_ADDRESS},
	{"169.254.43518", REASON_DENIED_ADDRESS},
	{"100.64.0.1", REASON_DENIED_ADDRESS},
	{"192.168.257", REASON_DENIED_ADDRESS},
	{"224.0.0.1", REASON_DENIED_ADDRESS},
	{"255.255.255.255", REASON_DENIED_ADDRESS},
	{"::", REASON_DENIED_ADDRESS},
	{"::1", REASON_DENIED_ADDRESS},
	{"::ffff:127.0.0.1", REASON_DENIED_ADDRESS},
	{"::ffff:a00:1", REASON_DENIED_ADDRESS},
	{"::127.0.0.1", REASON_DENIED_ADDRESS},
	{"64:ff9b::7f00:1", REASON_DENIED_ADDRESS},
	{"64:ff9b::a9fe:a9fe", REASON_DENIED_ADDRESS},
	{"2002:a00:1::1", REASON_DENIED_ADDRESS},
	{"2001:0:4136:e378:8000:63bf:3fff:fdd2", REASON_DENIED_ADDRESS},	/* Teredo */
	{"fe80::1", REASON_DENIED_ADDRESS},
	{"fd00::1", REASON_DENIED_ADDRESS},
	{"ff02::1", REASON_DENIED_ADDRESS},
	{"localhost", REASON_DENIED_ADDRESS},
	{"LocalHost", REASON_DENIED_ADDRESS},
	{"x.localhost", REASON_DENIED_ADDRESS},
	{"localhost.localdomain", REASON_DENIED_ADDRESS},
	{"ip6-localhost", REASON_DENIED_ADDRESS},
	{"ip6-loopback", REASON_DENIED_ADDRESS},
};

START_TEST(judges_hosts)
{
	struct config cfg;

	memset(&cfg, 0, sizeof(cfg));
	ck_assert(globset_add(&cfg.allow_upstreams, SLICE("*")));
	ck_assert(portset_add(&cfg.allow_ports, SLICE("any")));
	ck_assert_msg(depot_check_target(&cfg, slice_of(hosts[_i].host), 80, &cfg.allow_ports) ==
	    hosts[_i].r, "%s", hosts[_i].host);
	/* Allowed is allowed in every notation. */
	ck_assert(cidrset_add(&cfg.allow_addresses, SLICE("0.0.0.0/0")));
	ck_assert(cidrset_add(&cfg.allow_addresses, SLICE("::/0")));
	ck_assert_msg(depot_check_target(&cfg, slice_of(hosts[_i].host), 80, &cfg.allow_ports) ==
	    REASON_OK, "%s", hosts[_i].host);
	ck_assert(globset_add(&cfg.deny_upstreams, SLICE("*:80")));
	ck_assert_int_eq(depot_check_target(&cfg, slice_of(hosts[_i].host), 80, &cfg.allow_ports),
	    REASON_DENIED_UPSTREAM);
	globset_fini(&cfg.allow_upstreams);
	globset_fini(&cfg.deny_upstreams);
	cidrset_fini(&cfg.allow_addresses);
}
END_TEST

Suite *
check_upway_suite(void)
{
	Suite *s = suite_create("upway");
	TCase *t = tcase_create("upway");

	tcase_add_test(t, explains_tls);
	tcase_add_loop_test(t, judges_hosts, 0, NELEM(hosts));
	suite_add_tcase(s, t);
	return s;
}
