#!/bin/sh
# SPDX-License-Identifier: MIT
# Fetches glibc of another Debian release with apt, and unpacks it: nothing is installed.
# usage: fetch_libc.sh SUITE DIRECTORY     leaves DIRECTORY/root; status 77 when the suite cannot be reached
set -u
suite=$1
dir=$2
[ -e "$dir/root/ready" ] && exit 0
command -v apt-get >/dev/null || { echo "skip: apt-get is missing"; exit 77; }
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/debs" "$dir/etc" || exit 1
key=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "$key" ] || { echo "skip: no archive keys"; exit 77; }
echo "deb [signed-by=$key] http://deb.debian.org/debian $suite main" >"$dir/etc/sources.list"
: >"$dir/status"
options="-o Dir::Etc::sourcelist=$dir/etc/sources.list -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists=$dir/lists
	-o Dir::State::status=$dir/status -o Dir::Cache=$dir/cache -o APT::Sandbox::User=root -o Acquire::Languages=none"
unreachable() {
	echo "skip: $suite cannot be reached"
	exit 77
}
# shellcheck disable=SC2086 # options are words
apt-get $options update >"$dir/log" 2>&1 || unreachable
cd "$dir/debs" || exit 1
# shellcheck disable=SC2086 # the same
apt-get $options download libc6 libc6-dev libcrypt1 libcrypt-dev linux-libc-dev >>"$dir/log" 2>&1 || unreachable
for deb in "$dir"/debs/*.deb; do
	dpkg-deb -x "$deb" "$dir/root" || exit 1
done
# Releases with a merged /usr have no links in their packages.
for name in lib lib64; do
	[ -e "$dir/root/$name" ] || ln -s "usr/$name" "$dir/root/$name"
	[ -e "$dir/root/usr/$name" ] || ln -s "../$name" "$dir/root/usr/$name"
done
# Links to absolute names lead out of it.
for link in "$dir"/root/lib64/ld-linux-x86-64.so.2 "$dir"/root/usr/lib/x86_64-linux-gnu/*.so; do
	target=$(readlink "$link") || continue
	case $target in
	/*) ln -sf "$dir/root$target" "$link" ;;
	esac
done
touch "$dir/root/ready"
