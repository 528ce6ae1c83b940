/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The command line: what was typed becomes a struct cmd_call, which is run
 * here, or sent to the running depot (control.c). The depot parses what it
 * gets with the same function. Also the commands that need nothing else:
 * check, apt-conf, version and help.
 *
 * Options may stand anywhere behind the command; "--" ends them.
 */
#include "proxy/cmd.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "include/config.h"
#include "include/key.h"
#include "proxy/control.h"
#include "proxy/depot.h"
#include "proxy/fill.h"
#include "proxy/page.h"

static const char cmd_default_file[] = "/etc/apt-depot.conf";

static const struct cmd cmd_table[] = {
#define X(id, where, name, least, most, options, usage, help, more)            \
	{CMD_##id, CMD_##where, name, least, most, options, usage, help, more},
#include "proxy/command.def"
#undef X
};

/* ---- parsing ---- */

static const struct cmd *
cmd_find(const char *name)
{
	unsigned i;

	for (i = 0; i < NELEM(cmd_table); i++)
		if (strcmp(name, cmd_table[i].name) == 0)
			return &cmd_table[i];
	return NULL;
}

/* Is this one of the command's own options? *takes_value: it is followed by one. */
static bool
cmd_knows_option(const struct cmd *cmd, struct slice name, bool *takes_value)
{
	const char *p = cmd->options;

	while (*p != '\0') {
		size_t n = strcspn(p, " ");

		*takes_value = p[n - 1] == '=';
		if (slice_eq(name, (struct slice){p, *takes_value ? n - 1 : n}))
			return true;
		p += n;
		p += strspn(p, " ");
	}
	return false;
}

/* Where the parser stands. */
struct cmd_cursor {
	struct cmd_call *call;
	int argc, at;
	char *const *argv;
	char *joined;			/* "name=value" of those that came as two words */
	size_t joined_n;
	FILE *errors;
};

/* One line about what is wrong, and where there is more to read. */
PRINTF_LIKE(2, 3)
static int
cmd_misuse(const struct cmd_cursor *cur, const char *fmt, ...)
{
	const struct cmd *cmd = cur->call->cmd;
	va_list ap;

	(void)fputs("apt-depot: ", cur->errors);
	va_start(ap, fmt);
	(void)vfprintf(cur->errors, fmt, ap);
	va_end(ap);
	(void)fprintf(cur->errors, cmd != NULL && cmd->where != CMD_SERVE ?
	    "\nusage: apt-depot %s %s\n" : "\n", cmd != NULL ? cmd->name : "",
	    cmd != NULL ? cmd->usage : "");
	(void)fputs("\"apt-depot help\" lists the commands.\n", cur->errors);
	return CMD_USAGE;
}

static void
cmd_list_add(struct strlist *list, char *text)
{
	list->v[list->n++] = text;
}

/* -h, -V: another command in place of this one; help is about it. */
static int
cmd_turn_to(struct cmd_cursor *cur, enum cmd_id id)
{
	struct cmd_call *call = cur->call;

	call->words.n = call->options.n = 0;
	if (id == CMD_help && call->cmd->where != CMD_SERVE)
		cmd_list_add(&call->words, (char *)(uintptr_t)call->cmd->name);
	call->cmd = &cmd_table[id];
	cur->at = cur->argc;
	return 0;
}

/* -c FILE, -cFILE, -o key=value, -h, -V. */
static int
cmd_parse_short(struct cmd_cursor *cur, char *arg)
{
	struct cmd_call *call = cur->call;
	char *value = arg + 2;

	switch (arg[1]) {
	case 'c':
	case 'o':
		if (*value == '\0' && cur->at < cur->argc)
			value = cur->argv[cur->at++];
		if (*value == '\0')
			return cmd_misuse(cur, "%s needs a value", arg);
		if (arg[1] == 'c')
			call->file = value;
		else
			cmd_list_add(&call->settings, value);
		return 0;
	case 'h':
	case 'V':
		if (*value == '\0')
			return cmd_turn_to(cur, arg[1] == 'h' ? CMD_help : CMD_version);
		break;
	default:
		break;
	}
	return cmd_misuse(cur, "unknown option: %s", arg);
}

/* --name, --name=value, --name value. */
static int
cmd_parse_long(struct cmd_cursor *cur, char *arg)
{
	struct cmd_call *call = cur->call;
	const char *eq = strchr(arg, '=');
	struct slice name = {arg + 2, eq != NULL ? (size_t)(eq - arg) - 2 : strlen(arg) - 2};
	bool takes_value;
	char *p;
	size_t n;

	if (strcmp(arg, "--help") == 0 || strcmp(arg, "--version") == 0)
		return cmd_turn_to(cur, arg[2] == 'h' ? CMD_help : CMD_version);
	if (!cmd_knows_option(call->cmd, name, &takes_value))
		return cmd_misuse(cur, "%s has no option %s", call->cmd->name, arg);
	if (!takes_value && eq != NULL)
		return cmd_misuse(cur, "--%.*s takes no value", SLICE_ARG(name));
	if (takes_value && eq == NULL) {
		if (cur->at >= cur->argc)
			return cmd_misuse(cur, "%s needs a value", arg);
		p = cur->joined + cur->joined_n;
		n = name.n + strlen(cur->argv[cur->at]) + 2;
		(void)snprintf(p, n, "%.*s=%s", SLICE_ARG(name), cur->argv[cur->at++]);
		cur->joined_n += n;
		cmd_list_add(&call->options, p);
	} else
		cmd_list_add(&call->options, arg + 2);
	if (slice_eq(name, SLICE("json")))
		call->json = true;
	return 0;
}

/* Room for as many of everything as there are arguments, in one piece. */
static bool
cmd_call_room(struct cmd_cursor *cur)
{
	size_t n = (size_t)cur->argc + 1, bytes = 0;
	int i;
	char **v;

	for (i = 0; i < cur->argc; i++)
		bytes += strlen(cur->argv[i]) + 2;
	v = calloc(1, 3 * n * sizeof(*v) + 2 * bytes);
	if (v == NULL)
		return false;
	cur->call->settings.v = v;
	cur->call->options.v = v + n;
	cur->call->words.v = v + 2 * n;
	cur->joined = (char *)(v + 3 * n);
	return true;
}

int
cmd_parse(struct cmd_call *call, int argc, char *const *argv, FILE *errors)
{
	struct cmd_cursor cur = {.call = call, .argc = argc, .at = 1, .argv = argv, .errors = errors};
	bool words_only = false;
	int status = 0;

	memset(call, 0, sizeof(*call));
	if (argc < 1)
		return cmd_misuse(&cur, "no command");
	call->cmd = cmd_find(argv[0]);
	if (call->cmd == NULL)
		return cmd_misuse(&cur, "unknown command: %s", argv[0]);
	if (!cmd_call_room(&cur))
		return CMD_FAILED;
	while (cur.at < argc && status == 0) {
		char *arg = argv[cur.at++];

		if (words_only || arg[0] != '-' || arg[1] == '\0')
			cmd_list_add(&call->words, arg);
		else if (strcmp(arg, "--") == 0)
			words_only = true;
		else if (arg[1] == '-')
			status = cmd_parse_long(&cur, arg);
		else
			status = cmd_parse_short(&cur, arg);
	}
	if (status == 0 && call->words.n > call->cmd->most)
		status = cmd_misuse(&cur, "too many arguments: %s",
		    call->words.v[call->cmd->most]);
	else if (status == 0 && call->words.n < call->cmd->least)
		status = cmd_misuse(&cur, "%s needs more: %s", call->cmd->name, call->cmd->usage);
	if (status != 0)
		cmd_call_fini(call);
	return status;
}

void
cmd_call_fini(struct cmd_call *call)
{
	free(call->settings.v);
	memset(call, 0, sizeof(*call));
}

const char *
cmd_option(const struct cmd_call *call, const char *name)
{
	size_t i, n = strlen(name);
	const char *found = NULL;

	for (i = 0; i < call->options.n; i++) {
		const char *o = call->options.v[i];

		if (strncmp(o, name, n) == 0 && (o[n] == '=' || o[n] == '\0'))
			found = o[n] == '=' ? o + n + 1 : "";
	}
	return found;
}

const char *
cmd_word(const struct cmd_call *call, unsigned n)
{
	return n < call->words.n ? call->words.v[n] : NULL;
}

/* ---- running ---- */

/* What runs in this process, by cmd_id. */
static cmd_run_f *
cmd_local(enum cmd_id id)
{
	static cmd_run_f *const local[CMD__N] = {
		[CMD_check] = cmd_check,
		[CMD_sources] = cmd_sources,
		[CMD_import] = cmd_import,
		[CMD_doctor] = cmd_doctor,
		[CMD_ca] = cmd_ca,
		[CMD_warm] = cmd_warm,
		[CMD_apt_conf] = cmd_apt_conf,
		[CMD_version] = cmd_version,
		[CMD_help] = cmd_help,
	};

	return local[id];
}

/* Moves the command before any -c and -o to the front; without one it is serve, in argv[0]'s place. */
static int
cmd_put_first(int argc, char **argv)
{
	static char default_command[] = "serve";
	char *name;
	int at = 1;

	while (at < argc && (strncmp(argv[at], "-c", 2) == 0 || strncmp(argv[at], "-o", 2) == 0))
		at += argv[at][2] == '\0' ? 2 : 1;
	if (at < argc && argv[at][0] != '-') {
		name = argv[at];
		memmove(argv + 2, argv + 1, (size_t)(at - 1) * sizeof(*argv));
		argv[1] = name;
		return 1;
	}
	argv[0] = default_command;
	return 0;
}

int
cmd_main(int argc, char **argv, cmd_run_f *serve)
{
	struct cmd_call call;
	int from = cmd_put_first(argc, argv), status = cmd_parse(&call, argc - from, argv + from, stderr);

	if (status != 0)
		return status;
	switch (call.cmd->where) {
	case CMD_SERVE:
		status = serve(&call);
		break;
	case CMD_HERE:
		AN(cmd_local(call.cmd->id));
		status = cmd_local(call.cmd->id)(&call);
		break;
	case CMD_DEPOT:
		status = control_run(&call);
		break;
	}
	cmd_call_fini(&call);
	/* An empty file must not look like an answer. */
	if ((fflush(stdout) != 0 || ferror(stdout)) && status == CMD_OK) {
		(void)fprintf(stderr, "apt-depot: cannot write: %s\n", strerror(errno));
		return CMD_FAILED;
	}
	return status;
}

const char *
cmd_config_file(const struct cmd_call *call)
{
	if (call->file == NULL && access(cmd_default_file, R_OK) == 0)
		return cmd_default_file;
	return call->file;
}

struct config *
cmd_config(const struct cmd_call *call)
{
	FILE *warnings = fopen("/dev/null", "we");	/* the depot itself said them */
	struct config *c;

	c = config_load(cmd_config_file(call), &call->settings, stderr, warnings != NULL ? warnings : stderr);
	if (warnings != NULL)
		(void)fclose(warnings);
	return c;
}

/* ---- commands that need nothing else ---- */

int
cmd_check(const struct cmd_call *call)
{
	struct config *c;

	if (call->file == NULL) {
		(void)fputs("apt-depot: check needs -c FILE\n", stderr);
		return CMD_USAGE;
	}
	c = config_load(call->file, &call->settings, stderr, stderr);
	if (c == NULL)
		return CMD_FAILED;
	(void)printf("%s: ok\n", call->file);
	config_free(&c);
	return CMD_OK;
}

int
cmd_version(const struct cmd_call *call)
{
	(void)call;
	(void)printf("apt-depot %s\n", depot_version);
	return CMD_OK;
}

/* The port of the first address of the list that has one; 0: none has. */
static unsigned
cmd_first_port(const struct strlist *addresses)
{
	struct slice host;
	uint16_t port;
	size_t i;

	for (i = 0; i < addresses->n; i++) {
		const char *colon = strrchr(addresses->v[i], ':');

		if (strncmp(addresses->v[i], "unix:", 5) == 0)
			continue;
		if (url_split_authority(slice_of(addresses->v[i]), &host, &port) && port != 0)
			return port;
		if (colon != NULL && atoi(colon + 1) > 0)
			return (unsigned)atoi(colon + 1);
	}
	return 0;
}

bool
cmd_guess_self(const struct config *c, char *out, size_t cap, bool *tls)
{
	unsigned port = cmd_first_port(&c->listen);
	char host[256] = "";

	*tls = port == 0;
	if (*tls)
		port = cmd_first_port(&c->listen_tls);
	if (port == 0)
		return false;
	if (c->names.n > 0)
		(void)snprintf(host, sizeof(host), "%s", c->names.v[0]);
	else if (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0')
		(void)strcpy(host, "localhost");
	(void)snprintf(out, cap, "%s:%u", host, port);
	return true;
}

int
cmd_apt_conf(const struct cmd_call *call)
{
	const char *proxy = cmd_option(call, "proxy");
	struct slice rest = slice_of(proxy), userinfo, authority, path, h;
	char host[512];
	struct config *c = cmd_config(call);
	uint16_t port;
	bool tls = false;

	if (c == NULL)
		return CMD_USAGE;
	if (proxy == NULL) {
		if (!cmd_guess_self(c, host, sizeof(host), &tls)) {
			(void)fputs("apt-depot: the configuration listens on no address that clients could "
			    "be told: say with --proxy http://host:port how they reach the depot\n", stderr);
			config_free(&c);
			return CMD_USAGE;
		}
	} else {
		if (!url_take_scheme(&rest, &tls)) {
			rest = slice_of(proxy);	/* a bare host:port will do */
			tls = false;
		}
		url_split(rest, &userinfo, &authority, &path);
		if (!url_split_authority(authority, &h, &port) || authority.n >= sizeof(host)) {
			(void)fprintf(stderr, "apt-depot: --proxy %s is no URL: write "
			    "http://host:3142\n", proxy);
			config_free(&c);
			return CMD_USAGE;
		}
		(void)snprintf(host, sizeof(host), "%.*s", SLICE_ARG(authority));
	}
	page_print_apt_conf(stdout, host, tls, c->connect == CONNECT_TUNNEL);
	config_free(&c);
	return CMD_OK;
}

/* ---- help ---- */

static void
cmd_print_list(FILE *out)
{
	unsigned i;

	(void)fputs("usage: apt-depot [COMMAND] [-c FILE] [-o KEY=VALUE]... [ARGUMENTS]\n\n", out);
	for (i = 0; i < NELEM(cmd_table); i++)
		(void)fprintf(out, "  %-12s %s%s\n", cmd_table[i].name, cmd_table[i].help,
		    cmd_table[i].where == CMD_DEPOT ? " *" : "");
	(void)fputs("\n  * asks the running depot. It is found by its cache directory: give these\n"
	    "    commands the -c or -o that it was started with.\n"
	    "\"apt-depot help COMMAND\" says more about one. Without a file, serve uses the built-in\n"
	    "defaults; the other commands read /etc/apt-depot.conf where there is one. Options are\n"
	    "described in apt-depot.conf(5).\n"
	    "\n"
	    "Point apt at the depot with\n"
	    "    Acquire::http::Proxy \"http://DEPOT:3142\";\n"
	    "and write sources as http://HTTPS///developer.download.nvidia.com/...\n", out);
}

/* A usage text in mdoc, where a leading dot or a backslash would be a command. */
static void
cmd_print_man(FILE *out)
{
	unsigned i;

	for (i = 0; i < NELEM(cmd_table); i++) {
		const struct cmd *c = &cmd_table[i];

		(void)fprintf(out, ".It Cm %s%s%s\n", c->name, c->usage[0] != '\0' ? " Ar " : "",
		    c->usage);
		if (c->more[0] != '\0')
			fill_words(out, c->more, "", 78);
		else
			(void)fprintf(out, "%c%s.\n", c->help[0] - 'a' + 'A', c->help + 1);
	}
}

static void
cmd_print_readme(FILE *out)
{
	unsigned i;

	(void)fputs("| command | what it does |\n|---|---|\n", out);
	for (i = 0; i < NELEM(cmd_table); i++) {
		const struct cmd *c = &cmd_table[i];
		const char *p;

		(void)fprintf(out, "| `%s%s", c->name, c->usage[0] != '\0' ? " " : "");
		for (p = c->usage; *p != '\0'; p++)
			(void)fprintf(out, *p == '|' ? "\\%c" : "%c", *p);
		(void)fprintf(out, "` | %s |\n", c->help);
	}
}

void
cmd_clean(char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < ' ' || (unsigned char)*text >= 0x7f)
			*text = '?';
}

int
cmd_help(const struct cmd_call *call)
{
	const char *name = cmd_word(call, 0);
	const struct cmd *cmd = name != NULL ? cmd_find(name) : NULL;

	if (cmd_option(call, "man") != NULL)
		cmd_print_man(stdout);
	else if (cmd_option(call, "readme") != NULL)
		cmd_print_readme(stdout);
	else if (cmd_option(call, "sample") != NULL)
		config_print_sample(stdout);
	else if (cmd_option(call, "options") != NULL)
		config_print_man(stdout);
	else if (name == NULL)
		cmd_print_list(stdout);
	else if (cmd == NULL) {
		(void)fprintf(stderr, "apt-depot: there is no command %s; \"apt-depot help\" lists "
		    "them\n", name);
		return CMD_USAGE;
	} else {
		(void)printf("usage: apt-depot %s %s\n\n", cmd->name, cmd->usage);
		fill_words(stdout, cmd->more[0] != '\0' ? cmd->more : cmd->help, "  ", 78);
		if (cmd->where == CMD_DEPOT)
			(void)puts("\n  Asks the running depot, found by its cache directory: -c FILE or\n"
			    "  -o cache_dir=DIR, as it was started.");
	}
	return CMD_OK;
}
