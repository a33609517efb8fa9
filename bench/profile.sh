#!/bin/sh
# SPDX-License-Identifier: MIT
# Where the agent's time goes: the pair program under the agent, seen by perf (samples) or by callgrind (instructions).
#
# usage: bench/profile.sh BUILD_DIR [perf|callgrind|count] [DEPTH] [THREADS] [equal|varied]
#   perf       samples per function and per instruction of the hottest one. Hardware cycles where the machine has
#              counters, else the kernel's clock (as in most virtual machines).
#   callgrind  instructions per free/malloc pair and function, exact and repeatable on a busy machine, blind to the memory
#              system. The default.
#   count      instructions, cycles and cache misses per pair from the processor's own counters
set -u

die() {
	echo "profile.sh: $1" >&2
	exit 3
}

[ $# -ge 1 ] || { sed -n '5,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
build=$(cd "$1" && pwd) || exit 3
mode=${2:-callgrind}
depth=${3:-10}
threads=${4:-1}
program=$build/bench/pair-${5:-varied}
silt=$build/bin/silt
[ -x "$program" ] || die "$program is not built"
[ -x "$silt" ] || die "$silt is not built"
dir=$(mktemp -d /tmp/silt-profile-XXXXXX) || exit 3
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

need() {
	command -v "$1" >/dev/null || die "$1 is not installed (apt-get install $2)"
}

mallocs() { # FILE: the number of allocations the pair program says it made
	sed -n 's/.*"mallocs": \([0-9]*\).*/\1/p' "$1"
}

# Plain where the processor's counters cannot be used.
event() {
	if perf stat -e cycles:u true 2>&1 | grep -q 'not supported'; then
		echo "cpu-clock:u"
	else
		echo "cycles:u"
	fi
}

run_perf() {
	need perf linux-perf
	event=$(event)
	perf record -q -e "$event" -F 9999 -o "$dir/perf.data" -- \
		"$silt" run -q -o "$dir/x.silt" -- "$program" "$depth" "$threads" 3 >"$dir/out" || die "perf record failed"
	cat "$dir/out"
	perf report -q -i "$dir/perf.data" --comm "$(basename "$program")" -F overhead,dso,symbol --percent-limit 0.5 \
		--stdio 2>/dev/null | sed 's/ *-  *-  *$//' | grep -v '^$'
	echo
	hottest=$(perf report -q -i "$dir/perf.data" --comm "$(basename "$program")" -F overhead,symbol --stdio 2>/dev/null |
		sed -n 's/.*\[\.\] \([^ ]*\).*/\1/p' | head -n 1)
	echo "$hottest, instruction by instruction (1 % and more):"
	perf annotate -q -i "$dir/perf.data" --stdio -s "$hottest" 2>/dev/null | grep -E '^ *([1-9][0-9]?)\.[0-9]+ '
}

callgrind() { # NAME COMMAND...: leaves $dir/NAME.cg and $dir/NAME.out
	name=$1
	shift
	"$@" valgrind -q --tool=callgrind --callgrind-out-file="$dir/$name.cg" "$program" "$depth" "$threads" 0.5 \
		>"$dir/$name.out" 2>"$dir/$name.err" || {
		cat "$dir/$name.err" >&2
		die "valgrind failed ($name)"
	}
}

total() { # NAME: instructions per allocation
	awk -v n="$(mallocs "$dir/$1.out")" '/^summary:|^totals:/ { t = $2 } END { printf "%.1f\n", t / n }' "$dir/$1.cg"
}

run_callgrind() {
	need valgrind valgrind
	callgrind plain
	callgrind silt "$silt" run -q -o "$dir/x.silt" --
	plain=$(total plain)
	tracked=$(total silt)
	n=$(mallocs "$dir/silt.out")
	echo "instructions per pair, depth $depth, $threads thread(s), $(basename "$program"):"
	echo "untracked $plain, tracked $tracked, extra $(awk "BEGIN { printf \"%.1f\", $tracked - $plain }")"
	echo "by function (self):"
	callgrind_annotate --auto=no "$dir/silt.cg" 2>/dev/null | awk -v n="$n" '
		$1 ~ /^[0-9,]+$/ && /:/ && !/=>/ {
			count = $1
			gsub(",", "", count)
			sub(/^ *[0-9,]+ +(\([ 0-9.]+%\))? */, "")
			if (/descend\.c:/) {
				descent += count
				next
			}
			if (count / n >= 0.5)
				printf "%9.1f  %s\n", count / n, $0
		}
		END { printf "%9.1f  the descents themselves\n", descent / n }'
}

run_count() {
	need perf linux-perf
	perf stat -e instructions:u true 2>&1 | grep -q 'not supported' &&
		die "this machine shows no hardware counters; use callgrind"
	for name in plain silt; do
		set --
		[ $name = silt ] && set -- "$silt" run -q -o "$dir/x.silt" --
		perf stat -x ' ' -o "$dir/stat" -e instructions:u,cycles:u,cache-misses:u -- \
			"$@" "$program" "$depth" "$threads" 2 >"$dir/out" || die "perf stat failed"
		awk -v n="$(mallocs "$dir/out")" -v name=$name '$1 ~ /^[0-9]+$/ { printf "%s: %.1f %s per pair\n", name, $1 / n, $2 }' \
			"$dir/stat"
	done
}

case $mode in
perf) run_perf ;;
callgrind) run_callgrind ;;
count) run_count ;;
*) die "unknown mode $mode (perf, callgrind, count)" ;;
esac
