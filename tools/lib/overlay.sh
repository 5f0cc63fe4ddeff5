# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154
# Which files of ours lie where in the tree, and what copies of build directories need.

# overlay: "our path <tab> path in the tree" of every file of ours that the tree gets.
overlay() (
	local file
	cd "$repo" || exit
	for file in Kconfig *.c *.rs; do
		printf '%s\tdrivers/net/netkit/%s\n' "$file" "$file"
	done
	printf 'Kbuild\tdrivers/net/netkit/Makefile\n'
	find rust samples selftests -type f ! -name '*.pyc' \( ! -name '.*' -o -name .gitignore \) -printf '%p\t%p\n' |
		sed -e 's,\tsamples/,\tsamples/rust/,' -e "s,\tselftests/,\t$nettests/,"
)

# patched: the existing files that patches/ change or delete.
patched() {
	find "$repo/patches" -name '*.patch' -exec sed -n -e 's,^--- a/\([^\t]*\).*,\1,p' -e 's,^+++ b/\([^\t]*\).*,\1,p' {} + | sort -u
}

# listed FILE: the lines of a list that are no comments.
listed() {
	sed '/^#/d' -- "$1"
}

# moved FROM TO DIR: DIR is a copy of the build directory FROM and will be TO. Some commands are saved with absolute paths, and
# make would build objtool anew, and with it every object.
moved() {
	find "$3" \( -path "$3/tools/*" -o -path "$3/rust/*" -o -path "$3/scripts/*" \) -name '.*.cmd' -exec sed -i "s,$1/,$2/,g" {} +
}
