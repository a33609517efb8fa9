#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Damaged copies of real heaps are walked without a crash or a hang.

usage: hostile.py FLIP_COPY ROUNDS LEDGER_PROGRAM…
"""
import os
import subprocess
import sys
import tempfile

MODES = ["threads", "mapped", "nobrk", "fast"]


def main():
    flip, rounds, programs = sys.argv[1], int(sys.argv[2]), [p for p in sys.argv[3:] if os.path.exists(p)]
    failed = 0
    if not programs:
        print("skip: no ledger program was built")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        for program in programs:
            for number, mode in enumerate(MODES):
                p = subprocess.Popen([program, mode, "1", folder + "/ledger"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                try:
                    p.stdout.readline()
                    r = subprocess.run([flip, str(p.pid), str(rounds // len(MODES)), str(number + 1)], capture_output=True, text=True)
                finally:
                    p.kill()
                    p.wait()
                    p.stdin.close()
                    p.stdout.close()
                print("%s %s: %s" % (os.path.basename(program), mode, (r.stdout + r.stderr).strip()))
                failed += r.returncode != 0
    sys.exit(1 if failed else 0)


main()
