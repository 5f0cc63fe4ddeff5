# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154
# What guests read of this repository: the tests and the tools, as they were when the run began.

# snapshot DIR: to be called with the cache's lock held. tools/guest/run puts both where they were.
snapshot() {
	mkdir -p -- "$1"
	cp -a -- "$tree/$nettests" "$1/tests"
	cp -a -- "$repo/tools" "$1/tools"
}
