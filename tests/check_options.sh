#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
#
# Fails when an option of include/option.def is missing from the sample file or from the manual, or
# when one of them, or a table in README.md, names an option that does not exist. Makes no files.
set -eu
cd "$(dirname "$0")/.."

options=$(sed -n 's/^O(\([a-z_0-9]*\),.*/\1/p' include/option.def | sort)
failed=0

# lacks FILE NAMES OF: says which of NAMES are not among OF
lacks() {
	for name in $2; do
		echo "$3" | grep -qx "$name" || {
			echo "check_options: $name $1" >&2
			failed=1
		}
	done
}

[ "$(echo "$options" | wc -l)" -gt 50 ] || {
	echo "check_options: include/option.def has another form than this script reads" >&2
	exit 1
}

sample=$(sed -n '/^## Some upstreams only/q; s/^#\([a-z_0-9]*\) =.*/\1/p' conf/apt-depot.conf | sort)
manual=$(sed -n 's/^\.It Cm \([a-z_0-9]*\).*/\1/p' man/apt-depot.conf.5 | sort)
lacks "is missing from conf/apt-depot.conf" "$options" "$sample"
lacks "is in conf/apt-depot.conf, but is no option" "$sample" "$options"
lacks "is missing from man/apt-depot.conf.5" "$options" "$manual"
lacks "is in man/apt-depot.conf.5, but is no option" "$manual" "$options"

for list in sample manual; do
	eval "twice=\$(echo \"\$$list\" | uniq -d)"
	[ -z "$twice" ] || {
		echo "check_options: twice in the $list:" $twice >&2
		failed=1
	}
done

# Rows of README tables whose head begins with "| option", and what examples pass with -o.
if [ -e README.md ]; then
	readme=$(awk -F'`' '/^\| *option/ {table = 1; next} !/^\|/ {table = 0}
		table && NF > 1 {print $2}' README.md
		grep -oE -e '-o [a-z_0-9]+=' README.md | sed 's/-o \(.*\)=/\1/' || :)
	lacks "is in README.md, but is no option" "$readme" "$options"
fi
exit $failed
