#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The checker of agent objects must refuse ordinary libraries: one for each rule, built here.
# usage: agent_object_self_test.sh CHECKER
set -euo pipefail

checker=$1
for tool in gcc readelf nm; do
	command -v $tool >/dev/null || {
		echo "skip: $tool is missing"
		exit 77
	}
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failures=0

# expect WORDS SOURCE GCC_OPTION…: builds SOURCE; the checker must fail with WORDS, or pass when WORDS is empty.
expect() {
	local words=$1 source=$2 output status=0
	shift 2
	gcc -shared -fPIC -O1 -o "$dir/object.so" "$@" -x c - <<<"$source"
	output=$("$checker" "$dir/object.so") || status=$?
	if [[ -z $words && $status == 0 ]] || [[ $words && $status != 0 && $output == *"$words"* ]]; then
		return
	fi
	printf 'expected "%s", got status %s and:\n%s\n' "$words" "$status" "$output"
	failures=$((failures + 1))
}

bare=(-nostdlib -ffreestanding -fno-stack-protector)
expect "" 'int answer(void) { return 42; }' "${bare[@]}"
expect "undefined dynamic symbols" 'int puts(const char *); int f(void) { return puts("x"); }' "${bare[@]}"
expect "undefined dynamic symbols" '__attribute__((weak)) int g(void); int f(void) { return g ? g() : 0; }' "${bare[@]}"
expect "needed libraries" 'int f(void) { return 1; }' -Wl,--no-as-needed -lc
expect "a TLS segment" 'static __thread int t; int f(void) { return t++; }' "${bare[@]}" -ftls-model=local-dynamic
expect "more than one constructor" \
	'int n; __attribute__((constructor)) void a(void) { n++; } __attribute__((constructor)) void b(void) { n++; }' \
	"${bare[@]}"
expect "writable and executable" 'int f(void) { return 1; }' "${bare[@]}" -Wl,-z,execstack
expect "not relative" 'int exported; int *f(void) { return &exported; }' "${bare[@]}"
expect "indirect functions" \
	'static int a(void) { return 1; } static void *r(void) { return a; } int f(void) __attribute__((ifunc("r")));' \
	"${bare[@]}"
echo "$failures wrong"
[[ $failures == 0 ]]
