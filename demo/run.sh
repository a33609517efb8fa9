#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The main job on real programs, narrated: track, capture while running, diff by call stack. Everything shown is run.
# usage: demo/run.sh BUILD_DIR   (./dev demo calls it)
set -euo pipefail

source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build_dir=$(cd "$1" && pwd)
work_dir=$build_dir/demo
started=() # processes to end when the demo is interrupted

fail() {
	printf 'demo: %s\n' "$*" >&2
	exit 1
}

step() { printf '\n──── %s\n' "$*"; }
narrate() { printf '\n%s\n' "$*" | fold -s -w 100; }

# quoted WORD…: as a person would type it.
quoted() {
	local word
	for word; do
		case $word in
		*[!-A-Za-z0-9_./:=,+@%]* | '') printf " '%s'" "$word" ;;
		*) printf ' %s' "$word" ;;
		esac
	done
}

# run COMMAND…: echoes, then does.
run() {
	printf '\n$%s\n' "$(quoted "$@")"
	"$@"
}

# start LOG COMMAND…: the same in the background, with the output in a file.
start() {
	local log=$1
	shift
	printf '\n$%s > %s 2>&1 &\n' "$(quoted "$@")" "$log"
	: >"$log" # at once: what an earlier demo left there is not to be read
	"$@" >>"$log" 2>&1 &
	started+=($!)
}

end_started() {
	local pid
	for pid in "${started[@]}"; do
		kill "$pid" 2>/dev/null || true
	done
}

# wait_for LOG PATTERN: until the program said so, at most twenty seconds; prints the match.
wait_for() {
	local tries
	for ((tries = 0; tries < 200; tries++)); do
		grep -oE -m 1 "$2" "$1" 2>/dev/null && return
		sleep 0.1
	done
	cat "$1" >&2
	fail "waited in vain for '$2' in $work_dir/$1 (above)"
}

# target_pid LOG: the pid that the program printed, which must be a child of the silt run started last.
target_pid() {
	local pid
	pid=$(wait_for "$1" 'pid [0-9]+')
	pid=${pid#pid }
	grep -qx "PPid:[[:space:]]*${started[-1]}" "/proc/$pid/status" || fail "process $pid is not the one started here"
	printf '%s\n' "$pid"
}

# line_of TEXT: where the leaking statement stands in leaky.cpp.
line_of() { grep -nF "$1" "$source_dir/leaky.cpp" | cut -d: -f1 | head -n 1; }

leaking_server() {
	local pid line
	step "1. A server that grows"
	narrate "leaky is a small page server whose cache is meant to hold 256 pages. Its memory grows for" \
		"as long as it runs. It is an ordinary optimised build with debug information; nothing in it knows silt" \
		"except one call of silt_mark(), which does nothing outside silt."
	run g++ -std=c++17 -g -O2 -pthread -I "$build_dir/include" -o leaky "$source_dir/leaky.cpp"
	start leaky.log silt run -o leaky.silt -- ./leaky 7000
	pid=$(target_pid leaky.log)
	narrate "It serves. Two captures, two seconds apart, from what could be another terminal:"
	sleep 2
	run silt capture "$pid" -o before.silt
	sleep 2
	run silt capture "$pid" -o after.silt
	narrate "What has grown in between, largest growth first, with inlined frames:"
	run silt diff --top 2 --demangle short before.silt after.silt | tee diff.txt
	line=$(line_of 'new char[page.size()]')
	grep -qF "leaky.cpp:$line" diff.txt || fail "the diff does not name leaky.cpp:$line"
	narrate "The pages, allocated in leaky.cpp:$line, are remembered and never forgotten: make_room() drops the oldest" \
		"from the queue, but not from the table. By function instead of by stack:"
	run silt diff --by function --demangle short --top 3 before.silt after.silt
	wait "${started[-1]}" || fail "leaky, or silt run, ended with status $?"
	narrate "leaky has ended, and freed its cache on the way out: a leak checker that looks at exit would find" \
		"next to nothing. So does silt in the last state, which silt run wrote by itself:"
	run silt show --top 1 leaky.silt
}

killed_python() {
	local pid status=0
	step "2. A program from Debian, killed with SIGKILL"
	narrate "python3 builds a table and parses it from JSON, then is killed without warning. The trace database" \
		"belongs to silt run, so the last state survives. (PYTHONMALLOC=malloc: without it Python hands out" \
		"small objects from arenas of its own, and those are what one would see.)"
	export PYTHONMALLOC=malloc
	printf '\n$ export PYTHONMALLOC=malloc'
	start python.log silt run -o python.silt -- python3 "$source_dir/table.py"
	pid=$(target_pid python.log)
	run kill -KILL "$pid"
	wait "${started[-1]}" 2>>python.log || status=$?
	unset PYTHONMALLOC
	printf '\n(silt run passes the ending on: status %s)\n' "$status"
	run silt show --by function --top 8 python.silt
}

growing_sqlite() {
	step "3. A database, captured by the clock"
	narrate "sqlite3 fills a table in memory, then builds an index over it, while silt run writes a numbered dump" \
		"every 400 milliseconds. Debian's own binary, without debug symbols: functions that the library does not" \
		"export show as library+offset until its -dbgsym package is there."
	run silt run --every 400ms -o sqlite.silt -- sqlite3 :memory: ".read $source_dir/index.sql"
	run ls -l --time-style=+ sqlite.silt sqlite.[0-9]*.silt
	narrate "What came between the first dump and the second:"
	[[ -f sqlite.0002.silt ]] || fail "sqlite3 ended before the second dump; this machine is too fast for the demo"
	run silt diff --top 1 sqlite.0001.silt sqlite.0002.silt
}

closing() {
	step "Done"
	narrate "Everything is in $work_dir: the dumps (*.silt), the program (leaky) and what it printed. Go on with:"
	# shellcheck disable=SC2016 # $PATH is for the reader's shell
	printf '\n  export PATH=%s/bin:$PATH\n  cd %s\n  silt show after.silt\n  silt diff --json before.silt after.silt\n  silt help\n' \
		"$build_dir" "$work_dir"
}

mkdir -p "$work_dir"
cd "$work_dir"
rm -f -- *.silt
PATH=$build_dir/bin:$PATH
trap end_started EXIT
leaking_server
if command -v python3 >/dev/null; then killed_python; else step "2. left out: python3 is missing"; fi
if command -v sqlite3 >/dev/null; then growing_sqlite; else step "3. left out: sqlite3 is missing"; fi
closing
