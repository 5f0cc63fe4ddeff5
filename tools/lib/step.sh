# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154
# Commands that take long: their output goes to a log, and what one sees is that they live.

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

# stop PID: end the process group of a job. make gets the time to remove the files that it was writing.
stop() {
	local tries=600
	kill -TERM -- "-$1" 2>/dev/null || return 0
	while kill -0 -- "-$1" 2>/dev/null && [ "$((tries--))" -gt 0 ]; do sleep 0.1; done
	kill -KILL -- "-$1" 2>/dev/null || true
}

# guard PARENT JOB: as long as it lives it keeps nothing open, locks least of all.
guard() {
	local fd
	trap '' INT HUP PIPE
	for fd in /proc/self/fd/*; do
		fd=${fd##*/}
		[ "$fd" -le 2 ] || exec {fd}>&-
	done
	while kill -0 "$1" && kill -0 "$2"; do sleep 1; done
	stop "$2"
}

# job COMMAND...: start it in a process group of its own, which is stopped when this process is no more, whatever has ended it:
# a closed pipe and SIGKILL leave no time to clean up. Its pid is in $job.
job() {
	local parent=$BASHPID
	set -m
	"$@" </dev/null &
	job=$!
	guard "$parent" "$job" </dev/null >/dev/null 2>&1 &
	set +m
}

# step LABEL LOGNAME CMD...: run a long command with its output in a log. A failure shows what the log says about it, and
# the variable hint, if set.
step() {
	local label=$1 log=$cache/log/$2 begin=$SECONDS pid status=0
	shift 2
	mkdir -p -- "$cache/log"
	printf '%s ...\n' "$label" >&2
	job "$@" >"$log" 2>&1
	pid=$job
	# shellcheck disable=SC2064 # this very process
	trap "stop $pid; exit 130" INT TERM HUP PIPE
	show "$label" "$log" "$pid"
	wait "$pid" || status=$?
	trap - INT TERM HUP PIPE
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
