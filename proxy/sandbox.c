/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The mechanism behind sandbox = auto; what the daemon and its gpgv helper
 * need is decided in confine.c, their only caller.
 *
 * Landlock is spoken to directly: the C library knows its calls in none of
 * the releases that we build on, and their headers have only its beginnings.
 * Each version (ABI) of it knows more; we restrict what this kernel knows.
 * Version 1 forbids every rename between directories, which is how a body
 * comes to its place, so it is left alone.
 *
 * seccomp takes away what a taken-over daemon would try next: running
 * programs, becoming somebody, looking into other processes, mounting,
 * loading code into the kernel. Not a list of what is allowed: getaddrinfo
 * loads whatever the machine's nsswitch.conf names, and a call that such a
 * library makes once a month must not fail at night. What is refused shows
 * in the kernel's audit log.
 */
#include "proxy/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "include/obj.h"

/* ---- Landlock ---- */

/* linux/landlock.h, as far as this goes; the numbers are the kernel's for good. */
enum {
	LANDLOCK_NR_CREATE = 444,
	LANDLOCK_NR_ADD = 445,
	LANDLOCK_NR_RESTRICT = 446,
	LANDLOCK_VERSION = 1,		/* flag: say which version there is */
	LANDLOCK_PATH_BENEATH = 1,
	LANDLOCK_LEAST = 2,		/* version */
};
#define FS_EXECUTE (UINT64_C(1) << 0)
#define FS_WRITE_FILE (UINT64_C(1) << 1)
#define FS_READ_FILE (UINT64_C(1) << 2)
#define FS_READ_DIR (UINT64_C(1) << 3)
#define FS_REMOVE_DIR (UINT64_C(1) << 4)
#define FS_REMOVE_FILE (UINT64_C(1) << 5)
#define FS_MAKE_CHAR (UINT64_C(1) << 6)
#define FS_MAKE_DIR (UINT64_C(1) << 7)
#define FS_MAKE_REG (UINT64_C(1) << 8)
#define FS_MAKE_SOCK (UINT64_C(1) << 9)
#define FS_MAKE_FIFO (UINT64_C(1) << 10)
#define FS_MAKE_BLOCK (UINT64_C(1) << 11)
#define FS_MAKE_SYM (UINT64_C(1) << 12)
#define FS_REFER (UINT64_C(1) << 13)		/* version 2: renames between directories */
#define FS_TRUNCATE (UINT64_C(1) << 14)		/* version 3 */
#define FS_IOCTL_DEV (UINT64_C(1) << 15)	/* version 5 */
#define NET_BIND_TCP (UINT64_C(1) << 0)		/* version 4 */
#define SCOPE_ABSTRACT_UNIX (UINT64_C(1) << 0)	/* version 6 */
#define SCOPE_SIGNAL (UINT64_C(1) << 1)
#define FS_ON_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)

struct landlock_rules {
	uint64_t fs, net, scoped;
};
struct landlock_path {
	uint64_t allowed;
	int32_t fd;
} __attribute__((packed));

void
sandbox_allow(struct sandbox *sb, unsigned what, const char *path)
{
	char *copy;

	if (path == NULL)
		return;
	copy = sb->paths_n < SANDBOX_PATHS_MAX ? strdup(path) : NULL;
	if (copy == NULL) {
		sb->lost = true;
		return;
	}
	sb->paths[sb->paths_n].what = what;
	sb->paths[sb->paths_n++].path = copy;
}

/* The directory part of a path. */
static void
sandbox_allow_parent(struct sandbox *sb, unsigned what, const char *path)
{
	char dir[4096];
	char *slash;

	(void)snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (slash == NULL)
		(void)strcpy(dir, ".");
	else
		slash[slash == dir] = '\0';
	sandbox_allow(sb, what, dir);
}

void
sandbox_allow_around(struct sandbox *sb, unsigned what, const char *path)
{
	char *real;

	if (path == NULL)
		return;
	sandbox_allow_parent(sb, what, path);
	real = realpath(path, NULL);
	if (real != NULL && strcmp(real, path) != 0)
		sandbox_allow_parent(sb, what, real);
	free(real);
}

/* Everything that this version of Landlock can keep us from. */
static struct landlock_rules
sandbox_known(const struct sandbox *sb, int version)
{
	struct landlock_rules r = {.fs = FS_REFER - 1 + FS_REFER};

	if (version >= 3)
		r.fs |= FS_TRUNCATE;
	if (version >= 5)
		r.fs |= FS_IOCTL_DEV;
	/* Listeners are open by now. Connecting is the job: to any port that is configured. */
	if (version >= 4 && sb->may_connect)
		r.net = NET_BIND_TCP;
	if (version >= 6)
		r.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
	return r;
}

/* What a rule of ours is in Landlock's terms. */
static uint64_t
sandbox_rights(unsigned what)
{
	uint64_t fs = 0;

	if ((what & SANDBOX_READ) != 0)
		fs |= FS_READ_FILE | FS_READ_DIR;
	if ((what & SANDBOX_RUN) != 0)
		fs |= FS_READ_FILE | FS_READ_DIR | FS_EXECUTE;
	if ((what & SANDBOX_APPEND) != 0)
		fs |= FS_WRITE_FILE | FS_TRUNCATE | FS_MAKE_REG;
	if ((what & SANDBOX_REMOVE) != 0)
		fs |= FS_REMOVE_FILE;
	if ((what & SANDBOX_OWN) != 0)
		fs |= FS_READ_FILE | FS_READ_DIR | FS_WRITE_FILE | FS_TRUNCATE | FS_REMOVE_DIR |
		    FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | FS_MAKE_SOCK | FS_REFER;
	return fs;
}

/* Adds one path to the rules; false with errno. One that is not there is no failure. */
static bool
sandbox_add_path(int rules, unsigned what, const char *path, uint64_t known)
{
	struct landlock_path p = {.allowed = sandbox_rights(what) & known,
	    .fd = open(path, O_PATH | O_CLOEXEC)};
	struct stat st;
	int err = 0;

	if (p.fd < 0)
		return true;
	if (fstat(p.fd, &st) == 0 && !S_ISDIR(st.st_mode))
		p.allowed &= FS_ON_FILES;
	if (syscall(LANDLOCK_NR_ADD, rules, LANDLOCK_PATH_BENEATH, &p, 0) != 0)
		err = errno;
	(void)close(p.fd);
	errno = err;
	return err == 0;
}

/* Confines the process to its paths. Writes what came of it; true: it is on. */
static bool
sandbox_enter_landlock(const struct sandbox *sb, char *words, size_t cap)
{
	long version = syscall(LANDLOCK_NR_CREATE, NULL, 0, LANDLOCK_VERSION);
	struct landlock_rules known;
	bool ok = true;
	unsigned i;
	int rules;

	if (version < LANDLOCK_LEAST || sb->lost) {
		(void)snprintf(words, cap, sb->lost ? "no Landlock (too many paths)" : version < 0 ?
		    "no Landlock (the kernel lacks it, or a container's filter hides it)" :
		    "no Landlock (the kernel's first version forbids renames; 5.19 has a better one)");
		return false;
	}
	known = sandbox_known(sb, (int)version);
	/* Older kernels take the longer struct, as what they don't know is zero. */
	rules = (int)syscall(LANDLOCK_NR_CREATE, &known, sizeof(known), 0);
	ok = rules >= 0;
	for (i = 0; i < sb->paths_n && ok; i++)
		ok = sandbox_add_path(rules, sb->paths[i].what, sb->paths[i].path, known.fs);
	ok = ok && syscall(LANDLOCK_NR_RESTRICT, rules, 0) == 0;
	if (ok)
		(void)snprintf(words, cap, "Landlock (version %ld)", version);
	else
		(void)snprintf(words, cap, "no Landlock (%s)", strerror(errno));
	if (rules >= 0)
		(void)close(rules);
	return ok;
}

/* ---- seccomp ---- */

/* The sanitizers' reports need a debugger's calls, and run a program to name functions. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANDBOX_SANITIZED = 1 };
#else
enum { SANDBOX_SANITIZED = 0 };
#endif

static const char *const sandbox_debug_calls[] = {"ptrace", "process_vm_readv", "process_vm_writev"};
static const char *const sandbox_run_calls[] = {"execve", "execveat"};

static const char *const sandbox_refused_calls[] = {
	/* other processes */
	"kcmp", "pidfd_getfd", "process_madvise", "perf_event_open", "userfaultfd",
	/* the kernel's own code and state */
	"bpf", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load",
	"reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "syslog", "nfsservctl",
	"settimeofday", "clock_settime", "clock_settime64", "stime", "adjtimex", "clock_adjtime",
	"clock_adjtime64", "sethostname", "setdomainname", "iopl", "ioperm", "modify_ldt",
	"io_uring_setup", "io_uring_enter", "io_uring_register", "vhangup", "lookup_dcookie",
	/* keys */
	"add_key", "keyctl", "request_key",
	/* another view of the machine */
	"mount", "umount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree",
	"open_tree_attr", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "unshare",
	"setns", "open_by_handle_at", "personality",
	/* another user */
	"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid",
	"setfsgid", "setgroups", "setuid32", "setgid32", "setreuid32", "setregid32",
	"setresuid32", "setresgid32", "setfsuid32", "setfsgid32", "setgroups32", "capset",
	/* devices */
	"mknod", "mknodat",
};

/* Adds a refusal of each named call that this machine has; counts them. */
static int
sandbox_refuse(scmp_filter_ctx ctx, const char *const *names, size_t n, unsigned *refused_n)
{
	size_t i;
	int nr, rc = 0;

	for (i = 0; i < n && rc == 0; i++) {
		nr = seccomp_syscall_resolve_name(names[i]);
		if (nr < 0)
			continue;	/* not on this machine, or newer than the library */
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), nr, 0);
		*refused_n += rc == 0;
	}
	return rc;
}

/* Sockets: those of the internet, of this machine and the resolver's questions to the kernel. */
static int
sandbox_refuse_sockets(scmp_filter_ctx ctx, bool may_connect)
{
	int family, rc = 0;

	if (!may_connect)
		return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 0);
	for (family = 0; family < AF_MAX && rc == 0; family++) {
		if (family == AF_UNIX || family == AF_INET || family == AF_INET6 ||
		    family == AF_NETLINK)
			continue;
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
		    SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)family));
	}
	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
		    SCMP_A0(SCMP_CMP_GE, (scmp_datum_t)AF_MAX));
	return rc;
}

/* New namespaces by clone. */
static int
sandbox_refuse_namespaces(scmp_filter_ctx ctx)
{
	static const scmp_datum_t flags[] = {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS,
	    CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET};
	size_t i;
	int rc = 0;

#ifndef __s390__	/* has them in another argument */
	for (i = 0; i < NELEM(flags) && rc == 0; i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
		    SCMP_A0(SCMP_CMP_MASKED_EQ, flags[i], flags[i]));
#endif
	return rc;
}

/*
 * clone3, whose flags a filter can't see, is "not there": glibc does without. A filter of its own,
 * which does not log: it is asked for at each thread's start.
 */
static int
sandbox_hide_clone3(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int nr = seccomp_syscall_resolve_name("clone3"), rc = ctx == NULL ? -ENOMEM : 0;

	if (rc == 0)
		(void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_SSB, 1);
	if (rc == 0 && nr >= 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), nr, 0);
	if (rc == 0 && nr >= 0)
		rc = seccomp_load(ctx);
	if (ctx != NULL)
		seccomp_release(ctx);
	return rc;
}

/* Refuses system calls. Writes what came of it; true: it is on. */
static bool
sandbox_enter_seccomp(const struct sandbox *sb, char *words, size_t cap)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	unsigned n = 0;
	int rc = ctx == NULL ? -ENOMEM : 0;

	if (rc == 0) {
		/* In the audit log; and without the slow way round speculation: no foreign code. */
		(void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_LOG, 1);
		(void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_SSB, 1);
		(void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
		rc = sandbox_refuse(ctx, sandbox_refused_calls, NELEM(sandbox_refused_calls), &n);
	}
	if (rc == 0 && !SANDBOX_SANITIZED)
		rc = sandbox_refuse(ctx, sandbox_debug_calls, NELEM(sandbox_debug_calls), &n);
	if (rc == 0 && !SANDBOX_SANITIZED && !sb->may_run)
		rc = sandbox_refuse(ctx, sandbox_run_calls, NELEM(sandbox_run_calls), &n);
	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
		    SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, TIOCSTI));
	if (rc == 0)
		rc = sandbox_refuse_sockets(ctx, sb->may_connect);
	if (rc == 0)
		rc = sandbox_refuse_namespaces(ctx);
	if (rc == 0)
		rc = seccomp_load(ctx);
	if (ctx != NULL)
		seccomp_release(ctx);
	if (rc == 0)
		rc = sandbox_hide_clone3();
	if (rc == 0)
		(void)snprintf(words, cap, "seccomp (%u system calls refused)", n);
	else
		(void)snprintf(words, cap, "no seccomp (%s)", strerror(-rc));
	return rc == 0;
}

/* ---- rights ---- */

/* Capabilities of a process that stays root: files of other owners are read and written on. */
static void
sandbox_drop_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct had[2], keep[2] = {{0}, {0}};
	const uint32_t wanted = 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH |
	    1u << CAP_FOWNER;
	int cap;

	for (cap = 0; cap <= CAP_LAST_CAP + 16; cap++)
		(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capget, &head, had) != 0)
		return;
	keep[0].effective = had[0].effective & wanted;
	keep[0].permitted = had[0].permitted & wanted;
	(void)syscall(SYS_capset, &head, keep);
}

void
sandbox_drop_rights(void)
{
	const struct rlimit none = {0, 0};

	sandbox_drop_capabilities();
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	(void)setrlimit(RLIMIT_CORE, &none);
}

void
sandbox_enter(struct sandbox *sb, char report[SANDBOX_REPORT_BYTES])
{
	char landlock[160], seccomp[160];

	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);	/* both want it */
	(void)sandbox_enter_landlock(sb, landlock, sizeof(landlock));
	(void)sandbox_enter_seccomp(sb, seccomp, sizeof(seccomp));
	(void)snprintf(report, SANDBOX_REPORT_BYTES, "%s, %s", landlock, seccomp);
	while (sb->paths_n > 0)
		free(sb->paths[--sb->paths_n].path);
}
