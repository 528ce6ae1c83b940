# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
#
# GNU make.  Two commands need nothing beforehand on Debian 12, 13 or Ubuntu 22.04 and later:
#     make run      installs what is missing, builds, serves on :3142
#     make test     the same set-up, then every test
# "make help" lists the rest.  New sources, unit tests, fuzz targets and bench programs are found
# by name (see below), so adding a file needs no change here.
#
#     proxy/*.c cache/*.c             all but proxy/main.c: libaptdepot.a, linked by everything
#     tests/check_NAME.c              a Check suite; defines Suite *check_NAME_suite(void)
#     tests/check_NAME.sh             a check that needs no compiler; fails by its exit status
#     tests/support/*.c               shared by the suites
#     tests/fuzz/fuzz_NAME.c          a libFuzzer target; tests/fuzz/corpus/NAME/ is its corpus
#     tests/bench/NAME.c              becomes build/bench-NAME
#
# Variables: BUILD (directory), SAN (e.g. address,undefined), WERROR=1, V=1 (show commands), CFLAGS,
# PREFIX, DESTDIR.

BUILD        ?= build
PREFIX       ?= /usr/local
SYSCONFDIR   ?= /etc
UNITDIR      ?= $(if $(filter /usr,$(PREFIX)),/lib/systemd/system,$(PREFIX)/lib/systemd/system)
FUZZ_SECONDS ?= 20
SAN          ?=
WERROR       ?=
CLANG        ?= clang
PYTHON       ?= python3
PKG_CONFIG   ?= pkg-config
INSTALL      ?= install

VERSION := $(or $(shell cat VERSION 2>/dev/null),$(shell git describe --tags 2>/dev/null),0.1.0)

# -- flags ----------------------------------------------------------------------------------------

PKGS       := libevent_core libevent_pthreads libcurl openssl zlib liblzma libzstd libseccomp
PKG_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell $(PKG_CONFIG) --libs $(PKGS) 2>/dev/null)
# These two have no .pc file in every release we build on.
PKG_LIBS   += -llmdb -lbz2
# What Check itself asks for, or its usual names where its .pc file is missing.
CHECK_LIBS  = $(or $(shell $(PKG_CONFIG) --libs check 2>/dev/null),-lcheck -lsubunit -lrt -lm)

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wpointer-arith -Wcast-qual -Wcast-align -Wwrite-strings -Wundef -Wvla -Wformat=2 \
	-Wswitch-enum -Wnull-dereference -Wimplicit-fallthrough $(if $(WERROR),-Werror)

CFLAGS ?= -O2 -g
BASE   := -std=gnu11 -D_GNU_SOURCE -pthread -fPIE -fno-strict-aliasing -fno-omit-frame-pointer \
	-I. -Iinclude -DAPT_DEPOT_VERSION='"$(VERSION)"' $(PKG_CFLAGS)
LINK   := -pthread -pie -rdynamic -Wl,--as-needed -Wl,-z,relro -Wl,-z,now

ifeq ($(SAN),)
# Some distributions' compilers predefine it at another level.
HARDEN := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong
else
# The sanitizers replace what _FORTIFY_SOURCE checks, and confuse gcc's null-dereference pass.
HARDEN := -fsanitize=$(SAN) -fno-sanitize-recover=all -Wno-null-dereference
LINK   += -fsanitize=$(SAN)
endif

COMPILE  = $(CC) $(BASE) $(CFLAGS) $(WARN) $(HARDEN) $(CPPFLAGS)
FUZZ_SAN = -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_CC  = $(CLANG) $(BASE) -O1 -g -Wall -Wextra -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION \
	$(FUZZ_SAN)

# -- sources --------------------------------------------------------------------------------------

LIB_SRC     := $(filter-out proxy/main.c,$(sort $(wildcard proxy/*.c cache/*.c)))
CHECK_NAMES := $(filter-out main,$(patsubst tests/check_%.c,%,$(sort $(wildcard tests/check_*.c))))
CHECK_SRC   := tests/check_main.c $(CHECK_NAMES:%=tests/check_%.c) \
	$(sort $(wildcard tests/support/*.c))
CHECK_SH    := $(sort $(wildcard tests/check_*.sh))
FUZZ_NAMES  := $(patsubst tests/fuzz/fuzz_%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
BENCH_NAMES := $(patsubst tests/bench/%.c,%,$(sort $(wildcard tests/bench/*.c)))
ALL_SRC     := $(LIB_SRC) proxy/main.c $(CHECK_SRC) $(BENCH_NAMES:%=tests/bench/%.c)

OBJ        := $(BUILD)/obj
LIB        := $(BUILD)/libaptdepot.a
BIN        := $(BUILD)/apt-depot
CHECK_BIN  := $(BUILD)/check
FUZZ_LIB   := $(BUILD)/fuzz/libaptdepot.a
FUZZ_BIN   := $(FUZZ_NAMES:%=$(BUILD)/fuzz/fuzz_%)
BENCH_BIN  := $(BENCH_NAMES:%=$(BUILD)/bench-%)

# Commands are named in two words each; V=1 shows them whole.
QUIET = $(if $(V),,@printf '  %-5s %s\n' $(1) $(patsubst $(CURDIR)/%,%,$@);)

# A sub-make takes every core unless whoever called make chose a number.  Lines that use it begin
# with +, since make cannot see through the variable that they are sub-makes.
SUBMAKE = $(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))

.PHONY: all lib run setup test check unit check-scripts e2e docker-test asan tsan fuzz fuzz-build \
	bench bench-build demo lint format-check install clean docker help
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

all: $(BIN)			## the daemon, build/apt-depot
lib: $(LIB)

# -- compiling ------------------------------------------------------------------------------------

# Rewritten only when the flags change; every object depends on it.
define write-if-changed
@mkdir -p $(@D); printf '%s\n' '$(subst ','\'',$(1))' >$@.$$$$; \
	if cmp -s $@.$$$$ $@; then rm -f $@.$$$$; else mv $@.$$$$ $@; fi
endef

FORCE:

$(BUILD)/flags: FORCE
	@$(PKG_CONFIG) --exists $(PKGS) 2>/dev/null || { \
		echo "apt-depot: build packages are missing; 'make setup' installs them" >&2; exit 1; }
	$(call write-if-changed,$(COMPILE))

$(BUILD)/check_suites.h: FORCE
	$(call write-if-changed,$(foreach name,$(CHECK_NAMES),CHECK_SUITE($(name))))

$(OBJ)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call QUIET,CC)$(COMPILE) -MMD -MP -c -o $@ $<

$(OBJ)/tests/check_main.o: $(BUILD)/check_suites.h
# private: $(BUILD)/flags must not inherit it.
$(OBJ)/tests/check_main.o: private CPPFLAGS += -I$(BUILD)

# Made afresh, so that a deleted source leaves no object behind.
$(LIB): $(LIB_SRC:%.c=$(OBJ)/%.o) $(BUILD)/flags
	@rm -f $@
	$(call QUIET,AR)$(AR) rcs $@ $(filter %.o,$^)

$(BIN): $(OBJ)/proxy/main.o $(LIB)
	$(call QUIET,LD)$(CC) $(CFLAGS) $(LINK) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) $(LDLIBS)

$(CHECK_BIN): $(CHECK_SRC:%.c=$(OBJ)/%.o) $(LIB)
	$(call QUIET,LD)$(CC) $(CFLAGS) $(LINK) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) $(CHECK_LIBS) $(LDLIBS)

$(BENCH_BIN): $(BUILD)/bench-%: $(OBJ)/tests/bench/%.o $(LIB)
	$(call QUIET,LD)$(CC) $(CFLAGS) $(LINK) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) -lm $(LDLIBS)

$(BUILD)/fuzz/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call QUIET,CLANG)$(FUZZ_CC) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<

$(FUZZ_LIB): $(LIB_SRC:%.c=$(BUILD)/fuzz/obj/%.o)
	@rm -f $@
	$(call QUIET,AR)$(AR) rcs $@ $^

$(FUZZ_BIN): $(BUILD)/fuzz/%: $(BUILD)/fuzz/obj/tests/fuzz/%.o $(FUZZ_LIB)
	$(call QUIET,LD)$(CLANG) $(FUZZ_SAN) -fsanitize=fuzzer -pthread -o $@ $^ $(PKG_LIBS)

-include $(ALL_SRC:%.c=$(OBJ)/%.d) $(LIB_SRC:%.c=$(BUILD)/fuzz/obj/%.d) \
	$(FUZZ_NAMES:%=$(BUILD)/fuzz/obj/tests/fuzz/fuzz_%.d)

# -- running --------------------------------------------------------------------------------------

# Anything that may install packages builds in a sub-make: this one looked for the libraries before
# they were there.

setup:				## install missing build packages (apt-get, sudo where not root)
	@tests/support/setup run

run:				## set up, build, serve on :3142 with built-in defaults
	@tests/support/setup run
	+@$(SUBMAKE) all
	$(BIN)

# The end-to-end tests come last: their "N passed, N failed" is the last line.
test:				## set up, then every test
	@tests/support/setup test
	+@$(SUBMAKE) all $(CHECK_BIN)
	+@$(SUBMAKE) check check-scripts
	+@$(SUBMAKE) e2e

# A suite is a process of its own, as many at a time as there are cores.
check unit: $(CHECK_BIN)	## unit tests; SUITES="key route" runs only those
	@printf '%s\n' $(or $(SUITES),$(CHECK_NAMES)) | xargs -P $$(nproc) -n 1 $(CHECK_BIN)

check-scripts: $(CHECK_SH:%=%.run)
%.sh.run: %.sh
	APT_DEPOT=$(abspath $(BIN)) sh $<

e2e: $(BIN)			## end-to-end tests with real apt-get; E2E="name ..." runs only those
	APT_DEPOT=$(abspath $(BIN)) $(PYTHON) tests/e2e/run.py $(E2E)

docker-test:			## only the end-to-end test that builds the Dockerfile with buildah
	+@$(SUBMAKE) e2e E2E=docker:

asan:				## unit and end-to-end tests under ASan and UBSan
	@tests/support/setup test
	+@$(SUBMAKE) BUILD=$(BUILD)/asan SAN=address,undefined all $(BUILD)/asan/check
	+E2E_SLOW=4 CK_TIMEOUT_MULTIPLIER=4 ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 \
		$(SUBMAKE) BUILD=$(BUILD)/asan SAN=address,undefined check e2e

# TSan of older compilers refuses kernels that randomise addresses widely, hence setarch -R.
tsan:				## unit and end-to-end tests under TSan
	@tests/support/setup test
	+@$(SUBMAKE) BUILD=$(BUILD)/tsan SAN=thread all $(BUILD)/tsan/check
	+E2E_SLOW=6 CK_TIMEOUT_MULTIPLIER=6 TSAN_OPTIONS=halt_on_error=0:second_deadlock_stack=1 setarch $$(uname -m) -R \
		$(SUBMAKE) BUILD=$(BUILD)/tsan SAN=thread check e2e

fuzz-build: $(FUZZ_BIN)

fuzz:				## run each fuzz target for FUZZ_SECONDS (20)
	@tests/support/setup fuzz
	+@$(SUBMAKE) fuzz-build
	@set -e; for name in $(FUZZ_NAMES); do \
		new=$(BUILD)/fuzz/corpus/$$name; seed=tests/fuzz/corpus/$$name; mkdir -p $$new; \
		[ -d $$seed ] || seed=; \
		echo "fuzz_$$name: $(FUZZ_SECONDS) s"; \
		$(BUILD)/fuzz/fuzz_$$name -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 \
			-verbosity=0 -artifact_prefix=$(BUILD)/fuzz/$$name- $$new $$seed; done

bench-build: $(BENCH_BIN)

bench:				## compare with nginx, apt-cacher-ng and varnish (installs them)
	@tests/support/setup bench
	+@$(SUBMAKE) all bench-build
	BUILD=$(abspath $(BUILD)) APT_DEPOT=$(abspath $(BIN)) $(PYTHON) tests/bench/run.py $(BENCH)

demo:				## the main job in a minute: four image builds, cold, warm, origin gone
	@tests/support/setup demo
	+@$(SUBMAKE) all
	BUILD=$(abspath $(BUILD)) APT_DEPOT=$(abspath $(BIN)) $(PYTHON) tests/demo/demo.py

# -- keeping it clean -----------------------------------------------------------------------------

lint:				## a build without warnings, then clang-tidy and cppcheck where present
	+@$(SUBMAKE) BUILD=$(BUILD)/lint WERROR=1 all $(BUILD)/lint/check bench-build
	@if command -v clang-tidy >/dev/null; then \
		echo "clang-tidy: $(words $(LIB_SRC) proxy/main.c) files"; \
		printf '%s\n' $(LIB_SRC) proxy/main.c | xargs -P $$(nproc) -I {} clang-tidy --quiet \
			--warnings-as-errors='*' --checks='$(TIDY)' {} -- $(BASE) 2>/dev/null; \
	else echo "clang-tidy: not installed, skipped"; fi
	@if command -v cppcheck >/dev/null; then \
		cppcheck --quiet --enable=warning,performance,portability --inline-suppr \
			--suppress=missingIncludeSystem --suppress=unusedStructMember --std=c11 \
			--error-exitcode=1 -j $$(nproc) -I. -Iinclude \
			$(patsubst %,--include=%,$(wildcard /usr/include/*/sys/queue.h)) proxy cache; \
	else echo "cppcheck: not installed, skipped"; fi

# Left out: what wants Annex K, which glibc lacks; use after free, which the analyzer sees in every
# loop that empties a TAILQ (make asan looks for the real ones); what takes bytes with a length for a
# string; and matters of taste.
TIDY := clang-analyzer-*,-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling,$\
	-clang-analyzer-unix.Malloc,-clang-analyzer-optin.performance.Padding,$\
	bugprone-*,-bugprone-not-null-terminated-result,-bugprone-suspicious-missing-comma,$\
	-bugprone-easily-swappable-parameters,-bugprone-assignment-in-if-condition,$\
	-bugprone-narrowing-conversions,-bugprone-implicit-widening-of-multiplication-result,$\
	-bugprone-reserved-identifier,-bugprone-macro-parentheses,-bugprone-branch-clone

FORMATTED = $(wildcard proxy/*.[ch] cache/*.[ch] include/*.h tests/*.c \
	tests/fuzz/*.c tests/bench/*.c tests/support/*.c)

format-check:			## at most 110 columns, no blanks at line ends
	@! grep -nE '[[:blank:]]+$$' $(FORMATTED) /dev/null
	@! for f in $(FORMATTED); do expand -t8 $$f | grep -nE '^.{111,}' | sed "s|^|$$f:|"; done \
		| grep .

# -- installing -----------------------------------------------------------------------------------

install: all			## install under PREFIX (/usr/local), honours DESTDIR
	$(INSTALL) -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/sbin/apt-depot
	if [ -e $(DESTDIR)$(SYSCONFDIR)/apt-depot.conf ]; then \
		$(INSTALL) -m 644 conf/apt-depot.conf $(DESTDIR)$(SYSCONFDIR)/apt-depot.conf.new; \
	else $(INSTALL) -D -m 644 conf/apt-depot.conf $(DESTDIR)$(SYSCONFDIR)/apt-depot.conf; fi
	mkdir -p $(DESTDIR)$(UNITDIR)
	sed -e 's|/usr/s\{0,1\}bin/apt-depot|$(PREFIX)/sbin/apt-depot|' \
		conf/apt-depot.service >$(DESTDIR)$(UNITDIR)/apt-depot.service
	$(INSTALL) -D -m 644 conf/apt-depot.logrotate $(DESTDIR)$(SYSCONFDIR)/logrotate.d/apt-depot
	for page in $(wildcard conf/*.[158] man/*.[158]); do \
		$(INSTALL) -D -m 644 $$page \
			$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}; done

clean:				## remove the build directory
	rm -rf $(BUILD)

docker:				## build the image with docker, or with buildah where there is none
	@if command -v docker >/dev/null && docker info >/dev/null 2>&1; \
	then docker build -t apt-depot:$(VERSION) .; \
	else buildah bud --isolation chroot -t apt-depot:$(VERSION) .; fi

help:				## this list
	@sed -n 's/^\([a-z][a-z0-9 -]*\):.*## \(.*\)/\1|\2/p' Makefile | \
		while IFS='|' read -r t d; do printf '  make %-14s %s\n' "$$t" "$$d"; done
