#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
#
# Fails when what is written from include/option.def and proxy/command.def is not what these tables
# say: the sample file, the manual's lists of options and commands, README's list of commands
# ("tests/check_tables.sh --write" mends them); when README or the manual names an option that does
# not exist; when groff has something to say about a page; when ARCHITECTURE.md's table misses a
# source. Makes no files otherwise.
set -eu
cd "$(dirname "$0")/.."
depot=${APT_DEPOT:-build/apt-depot}
failed=0
write=no
[ "${1-}" != --write ] || write=yes

# fenced FILE BEGIN END: what stands between two marker lines; the whole file without them
fenced() {
	[ -n "$2" ] || { cat "$1"; return; }
	awk -v begin="$2" -v end="$3" 'index($0, end) == 1 {inside = 0} inside {print}
		index($0, begin) == 1 {inside = 1}' "$1"
}

# agree FILE BEGIN END WANTED: compares, or writes
agree() {
	[ "$(fenced "$1" "$2" "$3")" != "$4" ] || return 0
	if [ "$write" = no ]; then
		echo "check_tables: $1 is not what the tables say: run tests/check_tables.sh --write" >&2
		failed=1
		return 0
	fi
	if [ -n "$2" ]; then
		WANTED=$4 awk -v begin="$2" -v end="$3" 'index($0, end) == 1 {inside = 0}
			!inside {print}
			index($0, begin) == 1 {inside = 1; print ENVIRON["WANTED"]}' "$1" >"$1.new"
	else
		printf '%s\n' "$4" >"$1.new"
	fi
	cat "$1.new" >"$1"
	rm "$1.new"
}

agree conf/apt-depot.conf '' '' "$("$depot" help --sample)"
agree man/apt-depot.conf.5 '.\\" options:' '.\\" end of options' "$("$depot" help --options)"
agree man/apt-depot.1 '.\\" commands:' '.\\" end of commands' "$("$depot" help --man)"
[ ! -e README.md ] ||
	agree README.md '<!-- commands -->' '<!-- /commands -->' "$("$depot" help --readme)"

# Rows of README tables whose head begins with "| option", and what examples pass with -o.
options=$(sed -n 's/^O(\([a-z_0-9]*\),.*/\1/p' include/option.def)
[ "$(echo "$options" | wc -l)" -gt 50 ] || {
	echo "check_tables: include/option.def has another form than this script reads" >&2
	exit 1
}
for name in $([ ! -e README.md ] || {
	awk -F'`' '/^\| *option/ {table = 1; next} !/^\|/ {table = 0}
		table {for (i = 2; i <= NF; i += 2) if ($0 ~ /^\|/ && i == 2 || $(i - 1) == ", ") print $i; else break}' \
		README.md
	grep -ohE -e '-o [a-z_0-9]+=' README.md man/*.[158] | sed 's/-o \(.*\)=/\1/'
}); do
	echo "$options" | grep -qx "$name" || {
		echo "check_tables: $name is in README.md or the manual, but is no option" >&2
		failed=1
	}
done

# The manual's pages are set without a warning.
for page in man/*.[158]; do
	said=$(! command -v groff >/dev/null || groff -ww -z -Tutf8 -mdoc "$page" 2>&1)
	[ -z "$said" ] || {
		echo "check_tables: $said" >&2
		failed=1
	}
done

# The table of modules in ARCHITECTURE.md names every source.
modules=$(sed -n '/^## Modules/,/^## Tests/p' ARCHITECTURE.md)
for source in proxy/*.c cache/*.c; do
	name=${source##*/}
	echo "$modules" | grep -qw "${name%.c}" || {
		echo "check_tables: $source is missing in ARCHITECTURE.md, Modules" >&2
		failed=1
	}
done
exit $failed
