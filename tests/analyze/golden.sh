#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Compares every report in golden/ with what print_reports makes now; those in JSON must also be JSON as documented.
# usage: golden.sh PRINT_REPORTS [--update]      --update writes the files anew: read the difference before committing
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
print=$1
failures=0

for file in "$here"/golden/*; do
	name=$(basename "$file")
	if [[ ${2-} == --update ]]; then
		"$print" "$name" >"$file"
	elif ! "$print" "$name" | diff -u "$file" -; then
		echo "FAILED: $name"
		failures=$((failures + 1))
	fi
	if [[ $name == *json* ]]; then
		"$print" "$name" | python3 "$here/check_json.py" || failures=$((failures + 1))
	fi
done
echo "$failures failures"
((failures == 0))
