#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The ledger against glibc of another Debian release: fetched with apt, unpacked, nothing installed.

usage: releases.py SUITE DIRECTORY TEST_SETTLE
"""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    suite, folder = sys.argv[1], os.path.abspath(sys.argv[2])
    if os.environ.get("SILT_SOAK") != "1":
        print("skip: fetches another release's libc from the network; a part of ./dev soak")
        sys.exit(77)
    os.makedirs(folder, exist_ok=True)
    fetched = subprocess.run([os.path.join(HERE, "fetch_libc.sh"), suite, folder])
    if fetched.returncode:
        sys.exit(fetched.returncode)
    root, program = os.path.join(folder, "root"), os.path.join(folder, "ledger")
    libraries = os.path.join(root, "usr/lib/x86_64-linux-gnu")
    cc = os.environ.get("LEDGER_CC") or "gcc"
    build = [cc, "--sysroot=" + root, "-B", libraries, "-O2", "-w", "-DLEDGER_ALL", "-fno-builtin", "-L" + libraries]
    made = subprocess.run(build + ["-o", program, os.path.join(HERE, "ledger.c"), "-lpthread"], capture_output=True, text=True)
    if made.returncode:
        print("skip: this compiler cannot build for %s: %s" % (suite, made.stderr.strip().splitlines()[-1]))
        sys.exit(77)
    runner = "%s/lib64/ld-linux-x86-64.so.2 --library-path %s/lib/x86_64-linux-gnu:%s" % (root, root, libraries)
    settle(build, runner, folder)
    env = dict(os.environ, LEDGER_RUNNER=runner)
    sys.exit(subprocess.run([sys.executable, os.path.join(HERE, "compare.py"), program, "exact"], env=env).returncode)


def settle(build, runner, folder):
    """Is a thread of this release known to be inside malloc at every instruction?"""
    program, script = os.path.join(folder, "settle"), os.path.join(folder, "settle.sh")
    subprocess.run(build + ["-o", program, os.path.join(HERE, "../capture/settle_target.c")], check=True)
    with open(script, "w", encoding="ascii") as f:
        f.write("#!/bin/sh\nexec %s %s\n" % (runner, program))
    os.chmod(script, 0o755)
    subprocess.run([sys.argv[3], script], check=True)

main()
