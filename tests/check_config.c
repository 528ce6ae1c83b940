/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The configuration: values, files, -o settings, sections, messages, the sample file. */
#include "proxy/config_priv.h"

#include "include/obj.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

Suite *check_config_suite(void);

/* Where `make` runs the tests. */
static const char sample_path[] = "conf/apt-depot.conf";

static char *config_errors, *config_warnings;	/* of the last load */

/* Loads text (NULL: no file) and settings; messages go to the two strings above. */
static struct config *
load(const char *text, char **settings, size_t settings_n)
{
	struct strlist list = {settings, settings_n};
	size_t errors_n, warnings_n;
	FILE *errors, *warnings, *in = NULL;
	char *copy = NULL;
	struct config *c;

	free(config_errors);
	free(config_warnings);
	errors = open_memstream(&config_errors, &errors_n);
	warnings = open_memstream(&config_warnings, &warnings_n);
	if (text != NULL)
		in = fmemopen(copy = strdup(text), strlen(text), "r");
	c = config_load_stream(in, "x.conf", &list, NULL, errors, warnings);
	if (in != NULL)
		fclose(in);
	free(copy);
	fclose(errors);
	fclose(warnings);
	ck_assert_msg((c == NULL) == (config_errors[0] != '\0'), "errors: %s", config_errors);
	return c;
}

/* Loads one -o setting. */
static struct config *
load_setting(const char *setting)
{
	char *copy = strdup(setting);
	struct config *c = load(NULL, &copy, 1);

	free(copy);
	return c;
}

/* ---- values ---- */

/* Settings, and what a field of the result must be. */
static const struct {
	const char *setting;
	size_t at;
	uint64_t value;		/* of eight bytes there */
} number_cases[] = {
#define AT(name) offsetof(struct config, name)
	{"connect_timeout=10", AT(connect_timeout), 10000},
	{"connect_timeout = 250ms", AT(connect_timeout), 250},
	{"connect_timeout=10 s", AT(connect_timeout), 10000},
	{"read_timeout=2m", AT(read_timeout), 120000},
	{"read_timeout=1H", AT(read_timeout), 3600000},
	{"index_max_age=0", AT(index_max_age), 0},
	{"connect_timeout=0", AT(connect_timeout), 3600000},
	{"read_timeout=0s", AT(read_timeout), 3600000},
	{"client_timeout=0", AT(client_timeout), 86400000},
	{"segment_min=0", AT(segment_min), 1 << 20},
	{"index_max_age=0s", AT(index_max_age), 0},
	{"revalidate_wait=0", AT(revalidate_wait), 0},
	{"stale_if_error=30d", AT(stale_if_error), 30LL * 86400000},
	{"generation_hold=0", AT(generation_hold), 0},
	{"segment_min=64M", AT(segment_min), 64ULL << 20},
	{"segment_min=64MiB", AT(segment_min), 64ULL << 20},
	{"segment_min=64mb", AT(segment_min), 64ULL << 20},
	{"segment_min=1048576", AT(segment_min), 1ULL << 20},
	{"segment_min=1048577B", AT(segment_min), (1ULL << 20) + 1},
	{"segment_min=3G", AT(segment_min), 3ULL << 30},
	{"segment_min=1T", AT(segment_min), 1ULL << 40},
	{"client_bandwidth=0", AT(client_bandwidth), 0},
	{"cache_max=500G", AT(cache_max.bytes), 500ULL << 30},
	{"cache_max=0", AT(cache_max.bytes), 0},
	{"cache_max=80%", AT(cache_max.bytes), UINT64_MAX},
	{"cache_max=2G or 5%", AT(cache_max.bytes), 2ULL << 30},
	{"cache_max=5 % or 2G", AT(cache_max.bytes), 2ULL << 30},
	{"workers=7", AT(workers), 7},
	{"upstream_connections=1024", AT(upstream_connections), 1024},
};

START_TEST(test_number)
{
	struct config *c = load_setting(number_cases[_i].setting);
	uint64_t value;

	ck_assert_msg(c != NULL, "%s: %s", number_cases[_i].setting, config_errors);
	memcpy(&value, (const char *)c + number_cases[_i].at, sizeof(value));
	ck_assert_msg(value == number_cases[_i].value, "%s: %llu", number_cases[_i].setting,
		(unsigned long long)value);
	config_free(&c);
}
END_TEST

/* Settings that are refused, and a part of what is said. */
static const struct {
	const char *setting, *says;
} bad_cases[] = {
	{"connect_timeout=", "there is no value"},
	{"connect_timeout=10x", "\"10x\" is not a time: write seconds"},
	{"connect_timeout=-1", "not a time"},
	{"connect_timeout=1.5s", "not a time"},
	{"connect_timeout=s", "not a time"},
	{"connect_timeout=2d", "out of range: the range is 0 or 1ms..1h"},
	{"connect_timeout=99999999999999999999s", "not a time"},
	{"connect_timeout=\"10s\"", "quotes: remove them"},
	{"workers=257", "out of range"},
	{"workers=4k", "not a number"},
	{"workers=18446744073709551617", "not a number"},
	{"segment_min=2T", "out of range"},
	{"segment_min=20000000T", "not a size"},
	{"segment_min=1.5G", "not a size"},
	{"cache_max=80 %%", "neither a size nor a percentage"},
	{"cache_max=101%", "neither a size nor a percentage"},
	{"cache_max=%", "neither a size nor a percentage"},
	{"cache_max=1G or", "neither a size nor a percentage"},
	{"cache_max=1G or x", "neither a size nor a percentage"},
	{"cache_max=much", "neither a size nor a percentage"},
	{"offline=maybe", "neither yes nor no"},
	{"connect=intercept", "write one of: tunnel refuse"},
	{"connect=tunne", "write one of: tunnel refuse"},
	{"log_level=", "there is no value"},
	{"address_family=5", "write one of: any 4 6"},
	{"READ_TIMEOUT=1", "did you mean read_timeout?"},
	{"listen=", "listen: there is no address"},
	{"listen=3142", "write :3142"},
	{"listen=depot:3142", "not a numeric address"},
	{"listen=127.0.0.1", "does not end in a port"},
	{"listen=127.0.0.1:65536", "does not end in a port"},
	{"listen=[::1:3142", "does not end in a port"},
	{"listen=::1:3142", "does not end in a port"},
	{"listen=unix:relative", "unix:/path"},
	{"listen=127.0.0.1:1, :2, 127.0.0.1:1", "listen: \"127.0.0.1:1\" is listed twice"},
	{"listen=unix:/run/x, unix:/run/x", "listed twice"},
	{"listen=:1, 127.0.0.1:1", "\"127.0.0.1:1\" and \":1\" of listen have"},
	{"listen=[::2]:1, [::]:1", "\"[::]:1\" and \"[::2]:1\" of listen have"},
	{"listen=0.0.0.0:1, :1", "in common: remove one"},
	{"listen=0.0.0.0:1, 10.0.0.7:1", "in common"},
	{"listen=[::1]:1, [0:0::1]:1", "in common"},
	{"listen=[::ffff:10.0.0.7]:1, 10.0.0.7:01", "in common"},
	{"names=a b", "not a host name"},
	{"names=depot:3142", "not a host name"},
	{"allow_clients=10.0.0.0/33", "not an address or CIDR"},
	{"allow_clients=10.0.0.0/8 192.168.0.0/16", "commas"},
	{"deny_addresses=none", "not an address or CIDR"},
	{"allow_upstreams=http://x/", "not a host glob"},
	{"allow_ports=80,https", "\"https\" is not a port"},
	{"allow_ports=0", "not a port"},
	{"parent_proxy=socks5://h:1", "write http://user:password@host:port"},
	{"parent_proxy=http://h", "not a proxy's host and port"},
	{"parent_proxy=http://h:0", "not a proxy's host and port"},
	{"parent_proxy=http://h:1/path", "not a proxy's host and port"},
	{"parent_proxy=http://u:50%@h:1", "%25 for %"},
	{"parent_proxy=http://u:why?@h:1", "%3F for ?"},
	{"parent_proxy=direct,http://h:1", "direct stands before another proxy"},
	{"no_proxy=a b", "write commas"},
	{"no_proxy=10.0.0.0/99", "\"10.0.0.0/99\" is not a whole address, nor a CIDR: write"},
	{"no_proxy=10.0.0.0/255.0.0.0", "nor a CIDR"},
	{"no_proxy=10.0.0.", "nor a CIDR"},
	{"no_proxy=127.1", "nor a CIDR"},
	{"no_proxy=10.*", "nor a CIDR"},
	{"no_proxy=[fd00::]/8", "nor a CIDR"},
	{"no_proxy=fd00::/200", "nor a CIDR"},
	{"no_proxy=.", "nor a CIDR"},
	{"no_proxy=a, http://x", "\"http://x\" is not a host: write"},
	{"no_proxy=http://x:80", "without http://"},
	{"no_proxy=x.example.", "without a dot at the end"},
	{"no_proxy=a.*.example", "not a host"},
	{"no_proxy=..example", "not a host"},
	{"no_proxy=a:80", "has a port, which is not looked at"},
	{"no_proxy=[::1]:80", "has a port"},
	{"no_proxy=10.0.0.7:80", "has a port"},
	{"connect_to=a:443:b", "not HOST:PORT:ADDRESS:PORT"},
	{"connect_to=a:443:b:1:2", "not HOST:PORT:ADDRESS:PORT"},
	{"connect_to=a:443:b:0", "not HOST:PORT:ADDRESS:PORT"},
	{"connect_to=a:443:::1:8443", "not HOST:PORT:ADDRESS:PORT"},
	{"cache_dir=/etc/passwd", "cache_dir: \"/etc/passwd\" can't be a directory"},
	{"cache_dir=/etc/passwd/depot", "(Not a directory): name one"},
	{"ca_file=/nonexistent/ca.pem", "/nonexistent/ca.pem can't be read (No such file"},
	{"ca_file=/dev/null", "can't be read"},
	{"ca_file=/", "can't be read (Is a directory)"},
	{"ca_file=/etc/passwd", "no certificate in PEM form"},
	{"client_key=/etc/passwd", "no private key"},
	{"auth=/nonexistent/netrc", "can't be read"},
	{"user=no-such-user-here", "there is no user \"no-such-user-here\""},
	{"read_timeot=3", "unknown option \"read_timeot\": did you mean read_timeout?"},
	{"cachedir=/x", "did you mean cache_dir?"},
	{"log-level=info", "did you mean log_level?"},
	{"frobnicate=1", "unknown option \"frobnicate\": the sample file"},
	{"listen", "there is no \"=\": write key = value"},
	{"=1", "unknown option \"\""},
};

START_TEST(test_bad)
{
	struct config *c = load_setting(bad_cases[_i].setting);

	ck_assert_msg(c == NULL, "%s is accepted", bad_cases[_i].setting);
	ck_assert_msg(strncmp(config_errors, "-o: ", 4) == 0, "%s", config_errors);
	ck_assert_msg(strstr(config_errors, bad_cases[_i].says) != NULL, "%s: %s",
		bad_cases[_i].setting, config_errors);
	ck_assert_msg(strchr(config_errors, '\n') == strrchr(config_errors, '\n'), "%s",
		config_errors);
}
END_TEST

/* Settings that are accepted without a word. */
static const char *const good_cases[] = {
	"listen=127.0.0.1:3142, [::1]:3142, :0, unix:/run/apt-depot.sock",
	"listen=127.0.0.1:0, 127.0.0.1:0, :0, 127.0.0.1:1, 127.0.0.2:1, 127.0.0.1:2, unix:/a, unix:/b",
	"listen=0.0.0.0:1, [::1]:1",
	"names=depot, depot.example.com",
	"allow_clients=::1, 10.1.2.3, fd00::/8",
	"allow_upstreams=*.example.com, host:8080, [::1]:443",
	"allow_ports=any",
	"parent_proxy=http://proxy.example:3128",
	"parent_proxy=http://us%40er:pa%2Css@proxy.example:3128/, direct",
	"parent_proxy=direct",
	"parent_proxy=HTTP://[fd00::1]:3128",
	"no_proxy=localhost, .example.com, *.example.com, *example.com, 10.0.0.0/8, 10.0.0.7, *",
	"no_proxy=[::1], ::1, fd00::/8, 0.0.0.0/0, a_b-c.1e, 9a",
	"connect_to=developer.example:443:127.0.0.1:8443",
	"connect_to=::127.0.0.1:8443",
	"connect_to=[::1]:443:[::2]:8443",
	"log_file=stderr",
	"access_log=-",
	"offline=YES",
	"offline=0",
	"https_upgrade=",
	"cache_dir=relative/dir",
	"user=root",
	"ca_file=",
};

START_TEST(test_good)
{
	struct config *c = load_setting(good_cases[_i]);

	ck_assert_msg(c != NULL, "%s: %s", good_cases[_i], config_errors);
	ck_assert_str_eq(config_warnings, "");
	config_free(&c);
}
END_TEST

START_TEST(test_defaults)
{
	struct config *c = load(NULL, NULL, 0);

	ck_assert_ptr_nonnull(c);
	ck_assert_uint_eq(c->listen.n, 1);
	ck_assert_str_eq(c->listen.v[0], ":3142");
	ck_assert_uint_ge(c->workers, 1);
	ck_assert_int_eq(c->read_timeout, 12000);
	ck_assert_uint_eq(c->cache_max.percent, 80);
	ck_assert_int_eq(c->log_level, LOG_INFO);
	ck_assert_int_eq(c->connect, CONNECT_TUNNEL);
	ck_assert_int_eq(c->address_family, FAMILY_ANY);
	ck_assert_ptr_null(c->log_file);
	ck_assert_ptr_null(c->access_log);
	ck_assert_ptr_null(c->ca_file);
	ck_assert(portset_has(&c->allow_ports, 443));
	ck_assert(!portset_has(&c->allow_ports, 8443));
	ck_assert(globset_has(&c->https_upgrade, SLICE("developer.download.nvidia.com"), 80));
	ck_assert_uint_eq(c->deny_upstreams.patterns.n, 0);
	config_free(&c);
	ck_assert_ptr_null(c);
}
END_TEST

START_TEST(test_space)
{
	struct config_space space = {2ULL << 30, 5};

	ck_assert_uint_eq(config_resolve_size(&space, 100ULL << 30), 2ULL << 30);
	ck_assert_uint_eq(config_resolve_size(&space, 10ULL << 30), (10ULL << 30) / 20);
	space = (struct config_space){UINT64_MAX, 80};
	ck_assert_uint_eq(config_resolve_size(&space, 1000), 800);
	ck_assert_uint_eq(config_resolve_size(&space, UINT64_MAX), UINT64_MAX / 5 * 4);
	space = (struct config_space){0, 100};
	ck_assert_uint_eq(config_resolve_size(&space, 1000), 0);
}
END_TEST

/* ---- files, settings, lists ---- */

START_TEST(test_syntax)
{
	struct config *c = load("\xef\xbb\xbf# a comment\r\n\r\n  read_timeout = 3s   # why\r\n"
		"\tlog_file=/var/log/a#b.log\n#offline=yes\naccess_log = -", NULL, 0);

	ck_assert_msg(c != NULL, "%s", config_errors);
	ck_assert_int_eq(c->read_timeout, 3000);
	ck_assert_str_eq(c->log_file, "/var/log/a#b.log");
	ck_assert_str_eq(c->access_log, "-");
	ck_assert(!c->offline);
	config_free(&c);
}
END_TEST

START_TEST(test_errors_name_lines)
{
	struct config *c = load("offline = no\nread_timeot = 1\n\nworkers = x\n[upstream]\n"
		"nonsense = 1\n[upstream \"a:443\"]\n[upstream \"a\"]\nworkers = 2\n", NULL, 0);

	ck_assert_ptr_null(c);
	ck_assert_str_eq(config_errors,
		"x.conf:2: unknown option \"read_timeot\": did you mean read_timeout?\n"
		"x.conf:4: workers: \"x\" is not a number: write a whole number\n"
		"x.conf:5: not a section that is known here: write [upstream \"host-glob\"]\n"
		"x.conf:7: \"a:443\" is not a host glob: write a host without port, *.domain or *\n"
		"x.conf:9: workers: can't be set for single upstreams: move it above the first "
		"[upstream] line\n");
}
END_TEST

/* Options that do not go together, and where that is said to be. */
static const struct {
	const char *text;
	const char *setting;		/* NULL: none */
	const char *says;
} together_cases[] = {
	{"\nparent_proxy = direct\nparent_proxy = http://h:1\n", NULL,
	    "x.conf:3: parent_proxy: direct stands before"},
	{"offline = no\nparent_proxy = http://h:1\n", "parent_proxy=direct,http://h:2",
	    "-o: parent_proxy: direct stands before"},
	{"listen = :1\nintercept_hosts = *\n", NULL, "x.conf:2: intercept_hosts: "},
	{"listen_tls = :3143\noffline = no\n", NULL, "x.conf:1: listen_tls needs a certificate"},
	{"offline = no\n", "listen_tls=:3143", "-o: listen_tls needs a certificate"},
	{"listen = :1\nlisten_transparent = :2, 10.0.0.7:1\n", NULL,
	    "x.conf:2: listen_transparent: \"10.0.0.7:1\" and \":1\" of listen have"},
	{"offline = no\nlisten =\n", NULL, "x.conf:2: listen: there is no address"},
	{"\nverify_signatures = yes\n", NULL, "x.conf:2: keyring_dir: verify_signatures = yes"},
	{"\n[upstream \"a\"]\nparent_proxy = direct, http://h:1\n", "offline=no",
	    "x.conf:2: parent_proxy: direct stands before"},
};

START_TEST(test_errors_of_options_together)
{
	char *setting = together_cases[_i].setting != NULL ? strdup(together_cases[_i].setting) : NULL;
	struct config *c = load(together_cases[_i].text, &setting, setting != NULL);

	ck_assert_ptr_null(c);
	ck_assert_msg(strncmp(config_errors, together_cases[_i].says,
		strlen(together_cases[_i].says)) == 0, "%s", config_errors);
	free(setting);
}
END_TEST

START_TEST(test_nul_byte)
{
	char text[] = "offline = no\nread\0timeout = 1\n";
	FILE *in = fmemopen(text, sizeof(text) - 1, "r"), *errors;
	size_t n;
	char *said;
	struct config *c;

	errors = open_memstream(&said, &n);
	c = config_load_stream(in, "x.conf", NULL, NULL, errors, NULL);
	fclose(in);
	fclose(errors);
	ck_assert_ptr_null(c);
	ck_assert_ptr_nonnull(strstr(said, "x.conf:2: not a line of text"));
	free(said);
}
END_TEST

START_TEST(test_no_file)
{
	char *said;
	size_t n;
	FILE *errors = open_memstream(&said, &n);

	ck_assert_ptr_null(config_load("/nonexistent/x.conf", NULL, errors, NULL));
	ck_assert_ptr_null(config_load("/", NULL, errors, NULL));
	fclose(errors);
	ck_assert_str_eq(said,
		"/nonexistent/x.conf: can't be read (No such file or directory): check the path "
		"given with -c\n"
		"/: can't be read (Is a directory): check the path given with -c\n");
	free(said);
}
END_TEST

/* Is the list these members, with commas between? */
static void
assert_list(const struct strlist *list, const char *want)
{
	char text[512] = "";
	size_t i;

	for (i = 0; i < list->n; i++) {
		strncat(text, i != 0 ? "," : "", sizeof(text) - strlen(text) - 1);
		strncat(text, list->v[i], sizeof(text) - strlen(text) - 1);
	}
	ck_assert_str_eq(text, want);
}

/* A list's first mention replaces, later ones add, an empty value empties; -o begins anew. */
static const struct {
	const char *file;
	const char *settings[4];
	const char *want;
} list_cases[] = {
	{"", {NULL}, ":3142"},
	{"listen = :1\n", {NULL}, ":1"},
	{"listen = :1, :2\nlisten = :3\n", {NULL}, ":1,:2,:3"},
	{"listen_transparent = :9\nlisten = :1\nlisten =\n", {NULL}, ""},
	{"listen = :1\nlisten =\nlisten = :2\n", {NULL}, ":2"},
	{"listen = :1,,:2,\n", {NULL}, ":1,:2"},
	{"listen = :1\n", {"listen=:4", NULL}, ":4"},
	{"listen = :1\n", {"listen=:4", "listen=:5", NULL}, ":4,:5"},
	{"listen_transparent = :9\nlisten = :1\n", {"listen=", NULL}, ""},
	{"", {"listen=:4,:5", "listen=", "listen=:6", NULL}, ":6"},
};

START_TEST(test_list)
{
	char *settings[4];
	size_t n = 0;
	struct config *c;

	for (; list_cases[_i].settings[n] != NULL; n++)
		settings[n] = strdup(list_cases[_i].settings[n]);
	c = load(list_cases[_i].file[0] != '\0' ? list_cases[_i].file : NULL, settings, n);
	ck_assert_msg(c != NULL, "%s", config_errors);
	assert_list(&c->listen, list_cases[_i].want);
	config_free(&c);
	while (n != 0)
		free(settings[--n]);
}
END_TEST

START_TEST(test_settings_win)
{
	char first[] = "read_timeout=5", second[] = "read_timeout=6";
	char *settings[] = {first, second};
	struct config *c = load("read_timeout = 4\n", settings, 2);

	ck_assert_ptr_nonnull(c);
	ck_assert_int_eq(c->read_timeout, 6000);
	ck_assert_str_eq(config_warnings, "");
	config_free(&c);
}
END_TEST

START_TEST(test_warnings)
{
	struct config *c = load("read_timeout = 4\nread_timeout = 5\nprefetch = closure\n", NULL,
		0);

	ck_assert_ptr_nonnull(c);
	ck_assert_int_eq(c->read_timeout, 5000);
	ck_assert_str_eq(config_warnings,
		"x.conf:2: read_timeout: already set in line 1: this line wins; remove the other\n");
	config_free(&c);
}
END_TEST

/* Whatever is wrong with it, a password is not repeated. */
static const char *const secret_cases[] = {
	"parent_proxy = socks5://user:hunter2@proxy:1\n",
	"parent_proxy = http://user:hunter2%00@proxy:1\n",
	"parent_proxy = http://user:hunter2@proxy\n",
	"parent_proxy = http://user:hunter2 @proxy:1\n",
	"parent_proxy = http://user:hunter2#3@proxy:1\n",
	"parent_proxy = http://user:hunter2?@proxy:1\n",
	"parent_proxy = http://user:hun,hunter2@proxy:1\n",
	"parent_proxy = \"http://user:hunter2@proxy:1\"\n",
	"parent_proxi = http://user:hunter2@proxy:1\n",
	"parent_proxy: http://user:hunter2@proxy:1\n",
	"http://user:hunter2@proxy:1\n",
	"http://user:hunter2@proxy:1 = 1\n",
	"[upstream \"a\"]\nparent_proxy = user:hunter2@proxy:1\n",
};

START_TEST(test_secret)
{
	ck_assert_ptr_null(load(secret_cases[_i], NULL, 0));
	ck_assert_msg(strstr(config_errors, "hunter2") == NULL, "%s", config_errors);
	ck_assert_msg(strstr(config_warnings, "hunter2") == NULL, "%s", config_warnings);
}
END_TEST

START_TEST(test_control_bytes)
{
	ck_assert_ptr_null(load_setting("read_timeout=\x1b[31m9"));
	ck_assert_ptr_null(strchr(config_errors, '\x1b'));
}
END_TEST

/* ---- sections ---- */

static const char sections_text[] =
	"read_timeout = 9\nparent_proxy = http://p:1\nconnect_to = a:1:b:2\n"
	"[upstream \"*.example.com\"]\nread_timeout = 8\nconnect_to = c:1:d:2\n"
	"connect_to = e:1:f:2\n"
	"[upstream slow.*]\nread_timeout = 30s\nparent_proxy =\n"
	"[upstream \"other.test\"]\nindex_max_age = 1h\n";

START_TEST(test_sections)
{
	struct config *c = load(sections_text, NULL, 0);
	const struct config_upstream *u;

	ck_assert_msg(c != NULL, "%s", config_errors);
	u = config_for_upstream(c, SLICE("elsewhere.test"));
	ck_assert_int_eq(u->read_timeout, 9000);
	assert_list(&u->connect_to, "a:1:b:2");
	assert_list(&u->parent_proxy, "http://p:1");
	u = config_for_upstream(c, SLICE("x.example.com"));
	ck_assert_int_eq(u->read_timeout, 8000);
	assert_list(&u->connect_to, "c:1:d:2,e:1:f:2");
	assert_list(&u->parent_proxy, "http://p:1");
	u = config_for_upstream(c, SLICE("slow.test"));
	ck_assert_int_eq(u->read_timeout, 30000);
	assert_list(&u->parent_proxy, "");
	u = config_for_upstream(c, SLICE("other.test"));
	ck_assert_int_eq(u->index_max_age, 3600000);
	ck_assert_int_eq(u->read_timeout, 9000);
	/* Two match: the later one wins where both speak. */
	u = config_for_upstream(c, SLICE("slow.example.com"));
	ck_assert_int_eq(u->read_timeout, 30000);
	assert_list(&u->connect_to, "c:1:d:2,e:1:f:2");
	assert_list(&u->parent_proxy, "");
	ck_assert_ptr_eq(u, config_for_upstream(c, SLICE("slow.example.com")));
	config_free(&c);
}
END_TEST

START_TEST(test_too_many_sections)
{
	char text[4096] = "";
	unsigned i;

	for (i = 0; i < CONFIG_SECTIONS_MAX + 1; i++)
		sprintf(text + strlen(text), "[upstream \"h%u\"]\n", i);
	ck_assert_ptr_null(load(text, NULL, 0));
	ck_assert_str_eq(config_errors,
		"x.conf:65: more than 64 sections: join some by a wider host glob\n");
}
END_TEST

/* Asks for a host that two sections match. */
static void *
ask_thread(void *arg)
{
	const struct config *c = arg;
	const struct config_upstream *u = config_for_upstream(c, SLICE("slow.example.com"));

	for (unsigned i = 0; i < 1000; i++)
		if (config_for_upstream(c, SLICE("slow.example.com")) != u)
			return NULL;
	return u->read_timeout == 30000 ? arg : NULL;
}

START_TEST(test_sections_threads)
{
	struct config *c = load(sections_text, NULL, 0);
	pthread_t threads[4];
	void *result;
	unsigned i;

	for (i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_thread, c), 0);
	for (i = 0; i < 4; i++) {
		ck_assert_int_eq(pthread_join(threads[i], &result), 0);
		ck_assert_ptr_eq(result, c);
	}
	config_free(&c);
}
END_TEST

/* ---- PEM files ---- */

static char pem_dir[] = "/tmp/check_config.XXXXXX";

/* The path of a file in the test's directory. */
static const char *
pem_path(const char *name)
{
	static char path[4][96];
	static unsigned next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", pem_dir, name);
	return p;
}

/* Makes a key and a self-signed certificate: NAME.key, NAME.pem, and both in NAME.both. */
static void
pem_make(const char *name, const char *key_name, const char *both_name)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	FILE *out;

	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
	X509_set_pubkey(cert, key);
	ck_assert_int_gt(X509_sign(cert, key, EVP_sha256()), 0);
	out = fopen(pem_path(name), "w");
	PEM_write_X509(out, cert);
	fclose(out);
	out = fopen(pem_path(key_name), "w");
	PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
	fclose(out);
	chmod(pem_path(key_name), 0600);
	out = fopen(pem_path(both_name), "w");
	PEM_write_X509(out, cert);
	PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
	fclose(out);
	chmod(pem_path(both_name), 0640);
	out = fopen(pem_path("locked.key"), "w");
	PEM_write_PrivateKey(out, key, EVP_aes_128_cbc(), (const unsigned char *)"pass", 4, NULL,
		NULL);
	fclose(out);
	out = fopen(pem_path("cut.pem"), "w");
	fputs("-----BEGIN CERTIFICATE-----\nMIIB\n", out);
	fclose(out);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static void
pem_setup(void)
{
	FILE *out;

	ck_assert_ptr_nonnull(mkdtemp(pem_dir));
	pem_make("a.pem", "a.key", "a.both");
	pem_make("b.pem", "b.key", "b.both");
	out = fopen(pem_path("a.auth"), "w");
	ck_assert_ptr_nonnull(out);
	fputs("machine h.example login user password hunter2\n", out);
	fclose(out);
}

static void
pem_teardown(void)
{
	static const char *const names[] = {"a.pem", "a.key", "a.both", "b.pem", "b.key", "b.both",
		"locked.key", "cut.pem", "a.auth"};
	size_t i;

	for (i = 0; i < NELEM(names); i++)
		unlink(pem_path(names[i]));
	rmdir(pem_dir);
}

/* Loads two settings whose values are files of the test's directory. */
static struct config *
load_pems(const char *key1, const char *file1, const char *key2, const char *file2)
{
	char one[160], two[160], *settings[] = {one, two};

	snprintf(one, sizeof(one), "%s=%s", key1, pem_path(file1));
	if (key2 != NULL)
		snprintf(two, sizeof(two), "%s=%s", key2, pem_path(file2));
	return load(NULL, settings, key2 != NULL ? 2 : 1);
}

static const struct {
	const char *key1, *file1, *key2, *file2, *says;
} pem_cases[] = {
	{"ca_file", "a.pem", NULL, NULL, NULL},
	{"ca_file", "a.both", NULL, NULL, NULL},
	{"ca_file", "a.key", NULL, NULL, "no certificate in PEM form"},
	{"ca_file", "cut.pem", NULL, NULL, "damaged, or cut short"},
	{"client_cert", "a.pem", "client_key", "a.key", NULL},
	{"client_cert", "a.both", NULL, NULL, NULL},
	{"client_cert", "a.pem", NULL, NULL, "name its key in client_key"},
	{"client_cert", "a.pem", "client_key", "b.key", "no private key that belongs"},
	{"client_cert", "a.pem", "client_key", "locked.key", "passphrase"},
	{"client_key", "a.key", NULL, NULL, "client_key is set without client_cert"},
};

START_TEST(test_pem)
{
	struct config *c = load_pems(pem_cases[_i].key1, pem_cases[_i].file1, pem_cases[_i].key2,
		pem_cases[_i].file2);

	if (pem_cases[_i].says == NULL) {
		ck_assert_msg(c != NULL, "%s", config_errors);
		ck_assert_str_eq(config_warnings, "");
		config_free(&c);
	} else {
		ck_assert_ptr_null(c);
		ck_assert_msg(strstr(config_errors, pem_cases[_i].says) != NULL, "%s",
			config_errors);
	}
}
END_TEST

/* What everybody on the machine may read or write is refused, with the way out. */
static const struct {
	const char *key, *file;
	mode_t mode;
	const char *says;
} open_cases[] = {
	{"client_key", "a.key", 0644, "a.key may be read by everybody on this machine: chmod o-rw"},
	{"client_key", "a.key", 0602, "a.key may be written by everybody"},
	{"client_key", "a.key", 0640, NULL},
	{"auth", "a.auth", 0604, "a.auth may be read by everybody on this machine: chmod o-rw"},
	{"auth", "a.auth", 0622, "a.auth may be written by everybody"},
	{"auth", "a.auth", 0440, NULL},
	{"auth", "a.key", 0600, "a.key, line 1: an entry begins with machine"},
	{"ca_file", "a.pem", 0646, "whom the depot trusts: chmod o-w"},
	{"ca_file", "a.pem", 0644, NULL},
	{"client_cert", "a.both", 0644, "a.both holds the private key too, and may be read by everybody"},
};

START_TEST(test_open_files)
{
	const char *key = open_cases[_i].key, *file = open_cases[_i].file;
	struct config *c;

	chmod(pem_path(file), open_cases[_i].mode);
	c = load_pems(key, file, strcmp(key, "client_key") == 0 ? "client_cert" : NULL, "a.pem");
	if (open_cases[_i].says == NULL) {
		ck_assert_msg(c != NULL, "%s", config_errors);
		config_free(&c);
		return;
	}
	ck_assert_ptr_null(c);
	ck_assert_msg(strstr(config_errors, open_cases[_i].says) != NULL, "%s", config_errors);
}
END_TEST

START_TEST(test_signatures_need_keys)
{
	static const char armour[] = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQENBA==\n"
	    "-----END PGP PUBLIC KEY BLOCK-----\n";
	char verify[] = "verify_signatures=yes", dir[] = "/tmp/check_keys.XXXXXX", keys[64], file[64];
	char *settings[] = {verify, keys};
	struct config *c = load(NULL, settings, 1);
	FILE *out;

	ck_assert_ptr_null(c);
	ck_assert_ptr_nonnull(strstr(config_errors, "keyring_dir"));
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(keys, sizeof(keys), "keyring_dir=%s", dir);
	ck_assert_ptr_null(load(NULL, settings, 2));
	ck_assert_ptr_nonnull(strstr(config_errors, "-o: keyring_dir: /tmp/check_keys."));
	ck_assert_ptr_nonnull(strstr(config_errors, "has no *.gpg or *.asc: "));
	ck_assert_ptr_null(load("\nkeyring_dir = /nonexistent\n", settings, 1));
	ck_assert_ptr_nonnull(strstr(config_errors, "x.conf:2: keyring_dir: /nonexistent can't be read"));
	snprintf(file, sizeof(file), "%s/a.asc", dir);
	out = fopen(file, "w");
	ck_assert_ptr_nonnull(out);
	fputs(armour, out);
	fclose(out);
	c = load(NULL, settings, 2);
	ck_assert_msg(c != NULL, "%s", config_errors);
	config_free(&c);
	unlink(file);
	rmdir(dir);
}
END_TEST

/* ---- the machine ---- */

START_TEST(test_cache_dir)
{
	struct config *c;

	setenv("CACHE_DIRECTORY", "/var/cache/unit:/var/cache/other", 1);
	setenv("XDG_CACHE_HOME", "/xdg", 1);
	setenv("HOME", "/home/x", 1);
	c = load(NULL, NULL, 0);
	ck_assert_str_eq(c->cache_dir, geteuid() == 0 ? "/var/cache/apt-depot" : "/var/cache/unit");
	config_free(&c);
	if (geteuid() == 0 && seteuid(65534) != 0)
		return;
	c = load(NULL, NULL, 0);
	ck_assert_str_eq(c->cache_dir, "/var/cache/unit");
	config_free(&c);
	unsetenv("CACHE_DIRECTORY");
	c = load(NULL, NULL, 0);
	ck_assert_str_eq(c->cache_dir, "/xdg/apt-depot");
	config_free(&c);
	unsetenv("XDG_CACHE_HOME");
	c = load("cache_dir =\n", NULL, 0);
	ck_assert_str_eq(c->cache_dir, "/home/x/.cache/apt-depot");
	config_free(&c);
	unsetenv("HOME");
	ck_assert_ptr_null(load(NULL, NULL, 0));
	ck_assert_ptr_nonnull(strstr(config_errors, "cache_dir: there is no default without HOME"));
	c = load_setting("cache_dir=/given");
	ck_assert_str_eq(c->cache_dir, "/given");
	config_free(&c);
	/* The leak checker needs both back. */
	if (getuid() == 0) {
		ck_assert_int_eq(seteuid(0), 0);
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	}
}
END_TEST

/* ---- reload ---- */

/* What *c becomes when this text takes its place; what is said of that, to be freed. */
static char *
succeed(struct config **c, const char *text)
{
	char *said;
	size_t n;
	FILE *out = open_memstream(&said, &n);

	config_succeed(c, load(text, NULL, 0), out);
	fclose(out);
	return said;
}

static const struct {
	const char *was, *now, *says;
} reload_cases[] = {
	{"offline = no\n", "listen = :1\nworkers = 7\ncache_max = 1G\ncache_dir = /x\nallow_ports = 1\n"
	    "log_level = debug\n",
	    "in effect: cache_max, log_level, allow_ports\n"
	    "needs a restart, the old value stays: listen, cache_dir, workers\n"},
	{"[upstream a]\nread_timeout = 3\n", "[upstream a]\nread_timeout = 4\n",
	    "in effect: [upstream] sections\n"},
	{"[upstream a]\nread_timeout = 3\n", "", "in effect: [upstream] sections\n"},
	{"", "user = root\n", "needs a restart, the old value stays: user\n"},
	{sections_text, sections_text, "nothing in the configuration has changed\n"},
};

START_TEST(test_reload_says_what_changed)
{
	struct config *c = load(reload_cases[_i].was, NULL, 0);
	char *said = succeed(&c, reload_cases[_i].now);

	ck_assert_str_eq(said, reload_cases[_i].says);
	free(said);
	config_free(&c);
}
END_TEST

START_TEST(test_reload_keeps_what_needs_a_restart)
{
	struct config *c = load("listen = :1\nread_timeout = 3\nuser = root\n", NULL, 0), *was = c;
	const char *address = c->listen.v[0];

	free(succeed(&c, "listen = :2\nread_timeout = 4\n[upstream a]\nread_timeout = 5\n"));
	ck_assert_ptr_ne(c, was);
	/* The very same text: somebody may hold it. */
	ck_assert_ptr_eq(c->listen.v[0], address);
	ck_assert_uint_eq(c->listen.n, 1);
	ck_assert_str_eq(c->user, "root");
	ck_assert_int_eq(config_for_upstream(c, SLICE("b"))->read_timeout, 4000);
	ck_assert_int_eq(config_for_upstream(c, SLICE("a"))->read_timeout, 5000);
	/* What somebody found in the old one is still there. */
	ck_assert_int_eq(config_for_upstream(was, SLICE("a"))->read_timeout, 3000);
	was = c;
	free(succeed(&c, "listen = :3\nread_timeout = 4\n[upstream a]\nread_timeout = 5\n"));
	ck_assert_ptr_eq(c, was);	/* nothing that could change did */
	config_free(&c);
	ck_assert_ptr_null(c);
	config_free(&c);	/* as free(NULL) */
}
END_TEST

/* Sections come and go with a reload, so what they may set has to. */
START_TEST(test_options_per_upstream_can_be_reloaded)
{
	const struct config_option *o = config_options();
	size_t i;

	for (i = 0; i < OPTION__N; i++)
		ck_assert_msg(!o[i].upstream || o[i].reload, "%s", o[i].name);
}
END_TEST

/* Root, who became somebody else, would find another default. */
START_TEST(test_reload_keeps_the_default_directory)
{
	struct config *was = load_setting("cache_dir=/given"), *now;

	now = config_load_stream(NULL, NULL, NULL, was, stderr, NULL);
	ck_assert_ptr_nonnull(now);
	ck_assert_str_eq(now->cache_dir, "/given");
	config_free(&now);
	config_free(&was);
}
END_TEST

START_TEST(test_reload_of_a_file)
{
	struct config *c = load("read_timeout = 3\n", NULL, 0);
	char *said;
	size_t n;
	FILE *out = open_memstream(&said, &n);

	ck_assert_ptr_null(config_load_again(c, "/nonexistent/x.conf", NULL, out));
	fclose(out);
	ck_assert_ptr_nonnull(strstr(said, "/nonexistent/x.conf: can't be read"));
	free(said);
	config_free(&c);
}
END_TEST

START_TEST(test_equal)
{
	static const char *const settings[] = {"allow_clients=1.2.3.4", "deny_upstreams=a",
		"allow_ports=1", "connect_to=a:1:b:2", "user=root", "offline=yes", "connect=refuse",
		"cache_max=1%", "client_timeout=3"};
	static const unsigned options[] = {OPTION_allow_clients, OPTION_deny_upstreams,
		OPTION_allow_ports, OPTION_connect_to, OPTION_user, OPTION_offline, OPTION_connect,
		OPTION_cache_max, OPTION_client_timeout};
	const struct config_option *o = &config_options()[options[_i]];
	struct config *a = load_setting(settings[_i]), *b = load_setting(settings[_i]);
	struct config *other = load(NULL, NULL, 0);

	ck_assert(config_value_equal(o->type, (char *)a + o->at, (char *)b + o->at));
	ck_assert(!config_value_equal(o->type, (char *)a + o->at, (char *)other + o->at));
	config_free(&a);
	config_free(&b);
	config_free(&other);
}
END_TEST

/* ---- the sample ---- */

/* All of a file, to be freed. */
static char *
read_all(const char *path)
{
	FILE *in = fopen(path, "r");
	char *text = calloc(1, 1 << 20);

	ck_assert_msg(in != NULL, "%s can't be read; run from the source tree's top", path);
	ck_assert_uint_gt(fread(text, 1, (1 << 20) - 1, in), 0);
	fclose(in);
	return text;
}

START_TEST(test_sample_is_accepted)
{
	char *sample = read_all(sample_path), *text, *line, *save = NULL;
	struct config *c, *defaults;
	const struct config_option *o;
	size_t n;
	FILE *out = open_memstream(&text, &n);
	unsigned i, settings_n = 0;

	for (line = strtok_r(sample, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (line[0] != '#' || line[1] == ' ' || line[1] == '#' || line[1] == '\0')
			continue;
		fprintf(out, "%s\n", line + 1);
		settings_n++;
	}
	fclose(out);
	ck_assert_uint_ge(settings_n, OPTION__N);
	c = load(text, NULL, 0);
	ck_assert_msg(c != NULL, "%s", config_errors);
	defaults = load(NULL, NULL, 0);
	for (i = 0; i < OPTION__N; i++) {
		o = &config_options()[i];
		/* Its default is another for users other than root. */
		if (i != OPTION_cache_dir)
			ck_assert_msg(config_value_equal(o->type, (char *)c + o->at,
				(char *)defaults + o->at), "%s", o->name);
	}
	ck_assert_int_eq(config_for_upstream(c, SLICE("a.slow.example"))->read_timeout, 30000);
	config_free(&c);
	config_free(&defaults);
	free(text);
	free(sample);
}
END_TEST

Suite *
check_config_suite(void)
{
	Suite *s = suite_create("config");
	TCase *tc = tcase_create("values");

	tcase_add_loop_test(tc, test_number, 0, NELEM(number_cases));
	tcase_add_loop_test(tc, test_bad, 0, NELEM(bad_cases));
	tcase_add_loop_test(tc, test_good, 0, NELEM(good_cases));
	tcase_add_test(tc, test_defaults);
	tcase_add_test(tc, test_space);
	tcase_add_loop_test(tc, test_equal, 0, 9);
	suite_add_tcase(s, tc);

	tc = tcase_create("files");
	tcase_add_test(tc, test_syntax);
	tcase_add_test(tc, test_errors_name_lines);
	tcase_add_loop_test(tc, test_errors_of_options_together, 0, NELEM(together_cases));
	tcase_add_test(tc, test_nul_byte);
	tcase_add_test(tc, test_no_file);
	tcase_add_loop_test(tc, test_list, 0, NELEM(list_cases));
	tcase_add_test(tc, test_settings_win);
	tcase_add_test(tc, test_warnings);
	tcase_add_loop_test(tc, test_secret, 0, NELEM(secret_cases));
	tcase_add_test(tc, test_control_bytes);
	tcase_add_test(tc, test_sections);
	tcase_add_test(tc, test_too_many_sections);
	tcase_add_test(tc, test_sections_threads);
	tcase_add_test(tc, test_cache_dir);
	tcase_add_loop_test(tc, test_reload_says_what_changed, 0, NELEM(reload_cases));
	tcase_add_test(tc, test_reload_keeps_what_needs_a_restart);
	tcase_add_test(tc, test_options_per_upstream_can_be_reloaded);
	tcase_add_test(tc, test_reload_of_a_file);
	tcase_add_test(tc, test_reload_keeps_the_default_directory);
	suite_add_tcase(s, tc);

	tc = tcase_create("pem");
	tcase_add_checked_fixture(tc, pem_setup, pem_teardown);
	tcase_add_loop_test(tc, test_pem, 0, NELEM(pem_cases));
	tcase_add_loop_test(tc, test_open_files, 0, (int)NELEM(open_cases));
	tcase_add_test(tc, test_signatures_need_keys);
	suite_add_tcase(s, tc);

	tc = tcase_create("sample");
	tcase_add_test(tc, test_sample_is_accepted);
	suite_add_tcase(s, tc);
	return s;
}
