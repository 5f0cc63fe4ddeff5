# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
# What the tools share: where things lie, how they fail, their options. Locks, long steps and the files of the tree: lib/.

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

# usage: the comment at the head of the calling tool.
usage() {
	sed -n '3,/^[^#]/{/^# shellcheck/d;s/^# \{0,1\}//p}' -- "$0"
}

# parse "OPTION..." ARG...: set a variable named like the option for each option among the arguments, and args to what follows
# them. OPTION= takes a value, OPTION+= one each time, which goes into an array; dashed is set where "--" ended them.
parse() {
	local known=" $1 " name var
	shift
	args=() dashed=
	while [ "$#" -gt 0 ]; do
		name=${1#--}
		var=${name//-/_}
		case $1 in
		--help | -h)
			usage
			exit
			;;
		--)
			dashed=1
			shift
			break
			;;
		-*)
			case $known in
			*" $name "*) printf -v "$var" 1 ;;
			*" $name= "* | *" $name+= "*)
				[ "$#" -ge 2 ] || die "$1 needs a value (see ${0##*/} --help)"
				if [[ $known == *" $name= "* ]]; then
					printf -v "$var" %s "$2"
				else
					declare -n values=$var
					values+=("$2")
				fi
				shift
				;;
			*) die "unknown option $1 (see ${0##*/} --help)" ;;
			esac
			shift
			;;
		*) break ;;
		esac
	done
	args=("$@")
	case ${impl:-rust} in rust | c | stock) ;; *) die "--impl is rust, c or stock, not '$impl'" ;; esac
	case ${profile:-release} in release | debug) ;; *) die "--profile is release or debug, not '$profile'" ;; esac
}

# no_args: for tools that take options only.
no_args() {
	[ "${#args[@]}" -eq 0 ] || die "unknown argument '${args[0]}' (see ${0##*/} --help)"
}

# digest FILE...: one key for the contents, names and modes of these files.
digest() {
	{
		sha256sum -- "$@"
		stat -c '%n %a' -- "$@"
	} | sha256sum | cut -d' ' -f1
}

# need_space GIGABYTES: refuse to begin what the disk cannot hold.
need_space() {
	local free
	free=$(df --output=avail -k -- "$cache" | tail -n1)
	[ "$((free / 1048576))" -ge "$1" ] ||
		die "$cache has $((free / 1048576)) GB free, this step needs $1 GB: make room or set NETKIT_CACHE to a larger disk"
}

# need_memory MEGABYTES WHAT
need_memory() {
	local free
	free=$(($(sed -n 's/^MemAvailable: *\([0-9]*\) kB$/\1/p' /proc/meminfo) / 1024))
	[ "$free" -ge "$1" ] || die "$2: that takes $1 MB of memory, and this machine has $free MB to spare"
}

# kmake_in BUILD ARG...: the kernel's make, with this machine's toolchain where LLVM= asks for it, else the tool root's.
# clang spends a third of its time on warnings, which for the kernel's own C are the kernel's affair.
# A build of that name has the sources as they were fetched.
kmake_in() {
	local build=$1 from=$tree
	shift
	[[ ${build##*/} != *-stock* ]] || from=$linux/src
	set -- KCFLAGS=-w "$@"
	if [ -n "${LLVM:-}" ]; then
		make -C "$from" O="$build" LLVM="$LLVM" "$@"
	else
		"$repo/tools/enter" make -C "$from" O="$build" LLVM="$(<"$root/.llvm")" "$@"
	fi
}

. "$repo/tools/lib/lock.sh"
. "$repo/tools/lib/step.sh"
. "$repo/tools/lib/overlay.sh"
