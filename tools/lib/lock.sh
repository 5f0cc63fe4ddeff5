# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154
# Who may change what when several tools run at once.
#
# The cache's lock is held while the tool root, the source or the tree is looked at or changed. What takes long has a lock of its
# own beside its directory: the builds of two kernels, or a build and a guest, do not wait for each other. Whoever reads the root,
# the tree or a build directory meanwhile (a compiler, a guest) is registered as a reader of it, and changes wait for readers.
#
# Order: the lock of a directory, then the cache's, then readers. Nobody waits for a directory with the cache's lock held.

self=$(realpath -- "$0")
argv=("$@")

# What a tool ends with that was only to look (NETKIT_SETTLED) and found something to do.
unsettled=75

# acquire FD FILE: an exclusive lock; whoever waits is told for whom.
acquire() {
	flock --nonblock "$1" || {
		note "waiting for $(cat -- "$2" 2>/dev/null || true)"
		flock "$1"
	}
	printf '%s (process %d, since %(%H:%M:%S)T)\n' "${self##*/}${argv[*]:+ ${argv[*]}}" "$$" -1 >"$2"
}

# lock: one at a time per cache, until unlock or until this shell and its children have ended.
lock() {
	[ -z "${NETKIT_LOCKED:-}" ] || return 0
	mkdir -p -- "$cache" || die "cannot write to $cache: set NETKIT_CACHE to a directory of yours"
	exec {lock_fd}>>"$cache/lock"
	acquire "$lock_fd" "$cache/lock"
	export NETKIT_LOCKED=$lock_fd
}

unlock() {
	[ -n "${NETKIT_LOCKED:-}" ] || return 0
	flock --unlock "$NETKIT_LOCKED"
	exec {NETKIT_LOCKED}>&-
	unset NETKIT_LOCKED lock_fd
}

held=()

# hold DIR: nobody else changes this directory until this process ends.
hold() {
	local fd
	[ -z "${NETKIT_SETTLED:-}" ] || return 0
	mkdir -p -- "${1%/*}" || die "cannot write to ${1%/*}: set NETKIT_CACHE to a directory of yours"
	exec {fd}>>"$1.lock"
	acquire "$fd" "$1.lock"
	held+=("$fd")
}

# reader DIR...: from here on, this process and those that it starts read there. To be called with the cache's lock held.
reader() {
	local dir fd
	for dir; do
		exec {fd}>>"$dir/.readers"
		flock --shared "$fd"
		printf '%d %s, since %(%H:%M:%S)T\n' "$$" "${self##*/}" -1 >&"$fd"
	done
}

# readers DIR: those that are still there.
readers() {
	local pid what
	while read -r pid what; do
		! kill -0 "$pid" 2>/dev/null || printf '%s (process %d)\n' "$what" "$pid"
	done <"$1/.readers" | paste -sd';'
}

# no_readers DIR: wait until nobody reads in this directory, before it is changed. With the cache's lock held, others go on
# meanwhile, and this tool begins anew, as they may have changed what it has seen.
no_readers() {
	local fd locked=${NETKIT_LOCKED:-}
	exec {fd}>>"$1/.readers"
	if ! flock --nonblock "$fd"; then
		note "waiting for $(readers "$1"), which uses $1"
		[ -z "$locked" ] || flock --unlock "$locked"
		flock "$fd"
		exec {fd}>&-
		[ -n "$locked" ] || return 0
		if [ -n "${lock_fd:-}" ]; then
			# All is asked for again, in its order; what is held still would be waited for in vain.
			for fd in "$lock_fd" "${held[@]}"; do exec {fd}>&-; done
			unset NETKIT_LOCKED
		else
			# Who called has the lock, and is to have it again.
			flock "$locked"
		fi
		exec "$self" "${argv[@]}"
	fi
	: >"$1/.readers"
	exec {fd}>&-
}

# settle PREPARE: have the function PREPARE build what is missing, until it finds nothing to do while the cache's lock is held.
# Then the lock is ours, and what it prepared stays as it is until unlock, and for readers longer.
settle() {
	local status
	while :; do
		"$1" || exit
		lock
		status=0
		NETKIT_SETTLED=1 "$1" || status=$?
		[ "$status" -ne 0 ] || return 0
		unlock
		[ "$status" -eq "$unsettled" ] || exit "$status"
	done
}

# stamp_is FILE KEY: did the step that FILE stands for succeed with this KEY?
stamp_is() {
	[ -f "$1" ] && [ "$(<"$1")" = "$2" ]
}

# stale STAMP KEY: whether the step that STAMP stands for is to be taken again. Who was only to look, ends there.
stale() {
	! stamp_is "$1" "$2" || return 1
	[ -z "${NETKIT_SETTLED:-}" ] || exit "$unsettled"
	rm -f -- "$1"
}

# once STAMP KEY DIR COMMAND...: unless STAMP says that it is done, have COMMAND change what lies in DIR when nobody reads there.
once() {
	local stamp=$1 key=$2 dir=$3
	shift 3
	stale "$stamp" "$key" || return 0
	no_readers "$dir"
	"$@"
	printf '%s\n' "$key" >"$stamp"
}
