#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Captures of programs that never stop allocating: what they keep is there every time, exactly. usage: moving.py PROGRAM…"""
import os
import subprocess
import sys
import tempfile

SILT = os.environ["SILT"]
BLOCKS = os.environ["SILT_BLOCKS"]
CAPTURES = int(os.environ.get("MOVING_CAPTURES", "12"))
SIZE = 1240


def capture(pid, path):
    subprocess.run([SILT, "capture", "-q", str(pid), "-o", path], check=True, stderr=subprocess.DEVNULL)
    blocks, notes = {}, []
    for line in subprocess.run([BLOCKS, path], check=True, capture_output=True, text=True).stdout.splitlines():
        words = line.split(" ")
        if words[0] == "block":
            blocks[int(words[1], 16)] = int(words[2])
        elif words[0] == "note" and "were found by walking" not in line:
            notes.append(line)
    return blocks, notes


def main():
    failed, programs = 0, [p for p in sys.argv[1:] if os.path.exists(p)]
    if not programs:
        print("skip: no compiler for the programs")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        for program in programs:
            for threads in (1, 4, 30):
                p = subprocess.Popen([program, str(threads), "300"], stdout=subprocess.PIPE, text=True)
                kept, noted = set(), 0
                try:
                    for line in p.stdout:
                        if line == "end\n":
                            break
                        if line != "ready\n":
                            kept.add(int(line, 16))
                    for _ in range(CAPTURES):
                        blocks, notes = capture(p.pid, folder + "/x.silt")
                        noted += bool(notes)
                        missing = [a for a in kept if blocks.get(a, 0) < SIZE]
                        extra = [a for a, n in blocks.items() if SIZE <= n <= SIZE + 16 and a not in kept]
                        # A capture that says that something is wrong may be wrong; it must say so.
                        if (missing or extra) and not notes:
                            failed += 1
                            print("%d of %d kept blocks missing, %d too many, and no warning" % (len(missing), len(kept), len(extra)))
                finally:
                    p.kill()
                    p.wait()
                    p.stdout.close()
                print("%s, %d threads: %d captures, %d with a warning%s" % (os.path.basename(program), threads, CAPTURES, noted,
                                                                         ": " + notes[0] if noted and notes else ""), flush=True)
                # One thread can be brought out of malloc; with many it depends on how busy the machine is.
                if threads == 1 and noted > CAPTURES / 2:
                    failed += 1
                    print("too many captures with warnings")
    sys.exit(1 if failed else 0)


main()
