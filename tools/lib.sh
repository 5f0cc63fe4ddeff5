# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
# What the tools share: where things lie, how they fail, how long steps show that they live.

# What calls us may be a make; the kernel's make is not to see its variables.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
# Debian's ordinary users do not have chroot and ip in their PATH.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

repo=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd -P)
cache=${NETKIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/netkit}
cache=$(realpath -m -- "$cache")
root=$cache/root
if [ -n "${KDIR:-}" ]; then
	KDIR=$(realpath -m -- "$KDIR")
	linux=$cache/linux-$(printf %s "$KDIR" | sha256sum | cut -c1-8)
else
	linux=$cache/linux-7.3
fi
tree=$linux/tree
nettests=tools/testing/selftests/drivers/net/netkit

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

note() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# plain_path PATH: refuse what the kernel's build and virtme-ng do not take.
plain_path() {
	case $1 in
	*[!A-Za-z0-9_+/.-]*) die "the kernel's build and virtme-ng take only plain letters, digits and _+.- in paths: $1" ;;
	esac
}
plain_path "$repo"
plain_path "$cache"
plain_path "${KDIR:-}"

# digest FILE...: one key for the contents, names and modes of these files.
digest() {
	{
		sha256sum -- "$@"
		stat -c '%n %a' -- "$@"
	} | sha256sum | cut -d' ' -f1
}

# stamp_is FILE KEY: did the step that FILE stands for succeed with this KEY?
stamp_is() {
	[ -f "$1" ] && [ "$(<"$1")" = "$2" ]
}

# need_space GIGABYTES: refuse to begin what the disk cannot hold.
need_space() {
	local free
	free=$(df --output=avail -k -- "$cache" | tail -n1)
	[ "$((free / 1048576))" -ge "$1" ] ||
		die "$cache has $((free / 1048576)) GB free, this step needs $1 GB: make room or set NETKIT_CACHE to a larger disk"
}

# lock: one set-up at a time per cache; held until the calling shell ends.
lock() {
	[ -z "${NETKIT_LOCKED:-}" ] || return 0
	mkdir -p -- "$cache" || die "cannot write to $cache: set NETKIT_CACHE to a directory of yours"
	exec {lock_fd}>"$cache/lock"
	flock -w 3 "$lock_fd" || {
		note "waiting for another run that uses $cache"
		flock "$lock_fd"
	}
	export NETKIT_LOCKED=1
}

# unlock: let other set-ups go on, if this shell has kept them from it.
unlock() {
	[ -n "${lock_fd:-}" ] || return 0
	exec {lock_fd}>&-
	unset NETKIT_LOCKED lock_fd
}

# as_guest BUILD: from here on, this process and those that it starts are a guest, which reads the root, the tree and that build
# directory while it runs. To be called with the lock held, so that they are what was just made.
as_guest() {
	local dir fd
	for dir in "$cache" "$1"; do
		exec {fd}>>"$dir/guests"
		flock --shared "$fd"
	done
}

# no_guests DIR: before something is changed that guests read, in a build directory or ($cache) elsewhere: wait until there are
# none. New ones wait for the lock.
no_guests() {
	local fd
	exec {fd}>>"$1/guests"
	flock --nonblock "$fd" || {
		note "waiting for the guest that runs from $1 to end"
		flock "$fd"
	}
	exec {fd}>&-
}

clock() {
	printf '%d:%02d' $(($1 / 60)) $(($1 % 60))
}

# show LABEL LOG PID: a line that moves on a terminal, a line now and then elsewhere, while PID runs.
show() {
	local begin=$SECONDS next=30 steps
	while kill -0 "$3" 2>/dev/null; do
		sleep 0.5
		steps=$(wc -l <"$2")
		if [ -t 2 ]; then
			printf '\r%s  %s  %d lines of log \e[K' "$1" "$(clock $((SECONDS - begin)))" "$steps" >&2
		elif [ $((SECONDS - begin)) -ge "$next" ]; then
			next=$((next + 30))
			printf '%s  %s  %d lines of log\n' "$1" "$(clock $((SECONDS - begin)))" "$steps" >&2
		fi
	done
	if [ -t 2 ]; then
		printf '\r\e[K' >&2
	fi
}

# stop PID: end the process group of a step. make gets the time to remove the files that it was writing.
stop() {
	local tries=600
	kill -TERM -- "-$1" 2>/dev/null || return 0
	while kill -0 -- "-$1" 2>/dev/null && [ "$((tries--))" -gt 0 ]; do sleep 0.1; done
	kill -KILL -- "-$1" 2>/dev/null || true
}

# step LABEL LOGNAME CMD...: run a long command with its output in a log. A failure shows what the log says about it, and
# the variable hint, if set.
step() {
	local label=$1 log=$cache/log/$2 begin=$SECONDS pid status=0
	shift 2
	mkdir -p -- "$cache/log"
	printf '%s ...\n' "$label" >&2
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	set +m
	# shellcheck disable=SC2064 # this very process
	trap "stop $pid; exit 130" INT TERM HUP
	show "$label" "$log" "$pid"
	wait "$pid" || status=$?
	trap - INT TERM HUP
	if [ "$status" -ne 0 ]; then
		failure_of "$log" >&2
		! grep -q 'No space left' -- "$log" || hint="the disk is full; with more room, the same command goes on from here"
		die "$label failed (status $status)${hint:+: $hint}; the whole log is $log"
	fi
	printf '%s: done in %s\n' "$label" "$(clock $((SECONDS - begin)))" >&2
}

# failure_of LOG: the error blocks of compilers and make, or the end of the log when it has none.
failure_of() {
	local errors
	errors=$(grep -nE '(^|[: ])(fatal )?error(\[E[0-9]+\])?:|No space left|: (command )?not found$|^E: |^make.*\*\*\*' -A12 -- "$1" | head -n 60) || true
	if [ -n "$errors" ]; then
		printf '%s\n' "$errors"
	else
		tail -n 20 -- "$1"
	fi
}

# moved FROM TO DIR: DIR is a copy of the build directory FROM and will be TO. Some commands are saved with absolute paths, and
# make would build objtool anew, and with it every object.
moved() {
	find "$3/tools" "$3/rust" -name '.*.cmd' -exec sed -i "s,$1/,$2/,g" {} +
}

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

# kmake_in BUILD ARG...: the kernel's make, with this machine's toolchain where LLVM= asks for it, else the tool root's.
# clang spends a third of its time on warnings, which for the kernel's own C are the kernel's affair.
kmake_in() {
	local build=$1
	shift
	set -- KCFLAGS=-w "$@"
	if [ -n "${LLVM:-}" ]; then
		make -C "$tree" O="$build" LLVM="$LLVM" "$@"
	else
		"$repo/tools/enter" make -C "$tree" O="$build" LLVM="$(<"$root/.llvm")" "$@"
	fi
}
