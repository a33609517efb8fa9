#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Holds agent objects to their promise: they can be mapped into any process without a dynamic linker.
# usage: agent_object.sh OBJECT…
set -euo pipefail

for tool in readelf nm; do
	command -v $tool >/dev/null || {
		echo "skip: $tool (binutils) is missing"
		exit 77
	}
done
failures=0

# complain WHAT TEXT: TEXT is what must not be there; empty is fine.
complain() {
	[[ -z $2 ]] && return
	printf '%s: %s:\n%s\n' "$object" "$1" "$2"
	failures=$((failures + 1))
}

check_symbols() {
	complain "undefined dynamic symbols" "$(nm -D -u "$object" 2>/dev/null)"
	complain "undefined symbols" "$(nm -u "$object" 2>/dev/null)"
	complain "indirect functions" "$(readelf -W --dyn-syms "$object" | grep -w IFUNC || true)"
	complain "symbols of thread-local storage" "$(readelf -W --dyn-syms "$object" | grep -w TLS || true)"
}

check_dynamic() {
	local dynamic
	dynamic=$(readelf -W -d "$object")
	complain "needed libraries" "$(grep -w NEEDED <<<"$dynamic" || true)"
	complain "text relocations" "$(grep -w TEXTREL <<<"$dynamic" || true)"
	complain "symbol versions required" "$(grep -w VERNEED <<<"$dynamic" || true)"
	complain "more than one constructor" "$(awk '/INIT_ARRAYSZ/ && $3 > 8' <<<"$dynamic")"
	complain "more than one destructor" "$(awk '/FINI_ARRAYSZ/ && $3 > 8' <<<"$dynamic")"
}

check_segments() {
	local segments
	segments=$(readelf -W -l "$object")
	complain "a TLS segment" "$(grep -E '^ +TLS ' <<<"$segments" || true)"
	complain "an interpreter" "$(grep -E '^ +INTERP ' <<<"$segments" || true)"
	complain "writable and executable memory" "$(grep -E '^ +(LOAD|GNU_STACK) .* RWE ' <<<"$segments" || true)"
	[[ $(grep -cE '^ +LOAD ' <<<"$segments") -gt 0 ]] || complain "no LOAD segment" "$segments"
}

check_relocations() {
	complain "relocations that are not relative" \
		"$(readelf -W -r "$object" | awk '/R_[A-Z0-9_]+/ && !/R_X86_64_RELATIVE|R_AARCH64_RELATIVE/')"
}

[[ $# -gt 0 ]] || {
	echo "usage: agent_object.sh OBJECT…"
	exit 2
}
for object; do
	[[ -f $object ]] || {
		echo "$object: not there"
		exit 1
	}
	check_symbols
	check_dynamic
	check_segments
	check_relocations
	echo "$object: checked"
done
[[ $failures == 0 ]]
