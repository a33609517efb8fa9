#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds silt on Debian 13, whose libdwarf is another one (0.11), in a chroot, and runs the tests of symbols/ there.
# usage: trixie.sh DIRECTORY   (the chroot is made there, and used again the next time; SILT_SUITE: another release)
# Status 77 and a line that begins with "skip:" where that is not possible.
set -euo pipefail
SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SUITE=${SILT_SUITE:-trixie}
MIRROR=${SILT_MIRROR:-http://deb.debian.org/debian}
# What the build needs is ./dev's to say.
PACKAGES=$({ sed -n 's/^build|\([^|]*\)|.*/\1/p' "$SOURCE/dev"
	printf '%s\n' python3 binutils elfutils dwz xz-utils clang lld llvm git; } | tr '\n' ' ')

skip() {
	echo "skip: $*"
	exit 77
}

[[ ${1:-} ]] || {
	echo "usage: $0 DIRECTORY" >&2
	exit 2
}
mkdir -p "$1"
ROOT=$(cd "$1" && pwd)
[[ $(id -u) == 0 ]] || skip "a chroot needs root"
command -v debootstrap >/dev/null || skip "debootstrap is missing"

# inside COMMAND…: in the chroot, with mounts that end with the command.
inside() {
	# shellcheck disable=SC2016 # the inner shell expands these
	unshare --mount --pid --fork --kill-child bash -c '
		mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$1" "${@:2}"' - "$ROOT" \
		env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
		SILT_SOAK="${SILT_TRIXIE_FULL:-}" "$@"
}

if [[ ! -e $ROOT/.complete ]]; then
	debootstrap --variant=minbase "$SUITE" "$ROOT" "$MIRROR" >"$ROOT.log" 2>&1 ||
		skip "debootstrap failed: $(tail -n 1 "$ROOT.log")"
	touch "$ROOT/.complete"
fi
if [[ $(cat "$ROOT/.packages" 2>/dev/null) != "$PACKAGES" ]]; then
	inside apt-get update >>"$ROOT.log" 2>&1 || skip "no packages of $SUITE: $(tail -n 1 "$ROOT.log")"
	# shellcheck disable=SC2086 # a list of words
	inside apt-get install -y --no-install-recommends $PACKAGES >>"$ROOT.log" 2>&1 ||
		skip "the packages cannot be installed: $(tail -n 1 "$ROOT.log")"
	echo "$PACKAGES" >"$ROOT/.packages"
fi
inside dpkg-query -W libdwarf-dev libelf-dev gcc
rm -rf "$ROOT/root/silt"
mkdir -p "$ROOT/root/silt"
# With times of now: an object of the last run may be younger than a file that was changed while that ran.
(cd "$SOURCE" && git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -T - -cf -) |
	tar -xmf - -C "$ROOT/root/silt"
inside cmake -S /root/silt -B /root/build -DCMAKE_BUILD_TYPE=RelWithDebInfo >"$ROOT.build.log" 2>&1 ||
	{ tail -n 30 "$ROOT.build.log"; exit 1; }
for part in cli tests/symbols tests/fuzz; do
	inside make -C "/root/build/$part" -j "${SILT_JOBS:-$(nproc)}" >>"$ROOT.build.log" 2>&1 ||
		{ grep -E 'error|Error' -A 5 "$ROOT.build.log" | tail -n 40; exit 1; }
done
inside ctest --test-dir /root/build --output-on-failure --no-tests=error --timeout 1200 -R '^(symbols|fuzz)[._]'
