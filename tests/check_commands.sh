#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
#
# Fails when the lists of commands in the manual or in README.md are not what proxy/command.def
# says. "tests/check_commands.sh --write" mends both. Makes no files otherwise.
set -eu
cd "$(dirname "$0")/.."
depot=${APT_DEPOT:-build/apt-depot}
failed=0

# fenced FILE BEGIN END: what stands between two marker lines
fenced() {
	awk -v begin="$2" -v end="$3" 'index($0, end) == 1 {inside = 0} inside {print}
		index($0, begin) == 1 {inside = 1}' "$1"
}

# agree FILE BEGIN END WANTED: compares, or writes
agree() {
	[ "$(fenced "$1" "$2" "$3")" != "$4" ] || return 0
	if [ "$write" = yes ]; then
		WANTED=$4 awk -v begin="$2" -v end="$3" 'index($0, end) == 1 {inside = 0}
			!inside {print}
			index($0, begin) == 1 {inside = 1; print ENVIRON["WANTED"]}' "$1" >"$1.new"
		cat "$1.new" >"$1"
		rm "$1.new"
		return 0
	fi
	echo "check_commands: the commands in $1 are not those of proxy/command.def:" \
		"run tests/check_commands.sh --write" >&2
	failed=1
}

write=no
[ "${1:-}" != --write ] || write=yes
agree man/apt-depot.1 '.\\" commands:' '.\\" end of commands' "$("$depot" help --man)"
[ ! -e README.md ] ||
	agree README.md '<!-- commands -->' '<!-- /commands -->' "$("$depot" help --readme)"
exit $failed
