#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Walked heaps against ledgers: block for block.

usage: compare.py LEDGER_PROGRAM exact|own [MODE…]     default: all modes
exact: the walk must find the ledger's blocks and no others. own: the ledger holds the program's own blocks alone; others
that libc made may be there too, but few. Sizes must be the usable sizes.
"""
import os
import subprocess
import sys
import tempfile

SILT = os.environ["SILT"]
BLOCKS = os.environ["SILT_BLOCKS"]
RUNNER = os.environ.get("LEDGER_RUNNER", "").split()  # how to start the program: a loader of another libc
SEEDS = [int(s) for s in os.environ.get("LEDGER_SEEDS", "1 2").split()]
LIBC_BLOCKS_MAX = 120  # blocks that libc allocates for itself, thread blocks included


def walked(path):
    text = subprocess.run([BLOCKS, path], check=True, capture_output=True, text=True).stdout
    blocks = {}
    notes = []
    for line in text.splitlines():
        words = line.split(" ")
        if words[0] == "block":
            blocks[int(words[1], 16)] = int(words[2])
        elif words[0] == "note":
            notes.append(" ".join(words[1:]))
    return blocks, notes


def ledger(path):
    with open(path) as f:
        return {int(a, 16): (int(n, 16), int(u, 16)) for a, n, u in (line.split() for line in f)}


def compare(name, found, known, exact):
    problems = []
    missing = sorted(a for a in known if a not in found)
    extra = sorted(a for a in found if a not in known)
    wrong = sorted(a for a, (_, usable) in known.items() if a in found and found[a] != usable)
    small = sorted(a for a, (n, _) in known.items() if a in found and found[a] < n)
    if missing:
        problems.append("%d blocks missing, as %#x of %d" % (len(missing), missing[0], known[missing[0]][0]))
    if len(extra) > (0 if exact else LIBC_BLOCKS_MAX):
        problems.append("%d blocks too many, as %#x of %d" % (len(extra), extra[0], found[extra[0]]))
    if wrong:
        problems.append("%d wrong sizes, as %#x: %d, not %d" % (len(wrong), wrong[0], found[wrong[0]], known[wrong[0]][1]))
    if small:
        problems.append("%d blocks smaller than asked for" % len(small))
    if not known and name.split()[0] not in ("empty", "drained"):
        problems.append("the ledger is empty")
    return problems


def run(program, mode, seed, exact, folder):
    dump, book = os.path.join(folder, "walked.silt"), os.path.join(folder, "ledger")
    p = subprocess.Popen(RUNNER + [program, mode, str(seed), book], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        if p.stdout.readline() != b"ready\n":
            return ["the program did not come up"], 0
        r = subprocess.run([SILT, "capture", str(p.pid), "-o", dump], capture_output=True, text=True, timeout=120)
        if r.returncode:
            return [r.stderr.strip()], 0
        p.stdin.write(b"\n")
        p.stdin.flush()
        if p.stdout.readline() != b"written\n":
            return ["the program did not write its ledger"], 0
        p.stdin.write(b"\n")
        p.stdin.flush()
        p.wait(30)
    finally:
        p.kill()
        p.wait()
        p.stdin.close()
        p.stdout.close()
    found, notes = walked(dump)
    problems = compare("%s %d" % (mode, seed), found, ledger(book), exact)
    unexpected = [n for n in notes if "were found by walking" not in n and "an allocator of its own" not in n]
    return problems + unexpected, len(found)


def main():
    program, exact, modes = sys.argv[1], sys.argv[2] == "exact", sys.argv[3:]
    if not os.path.exists(program):
        print("skip: no compiler for this C library, or its static libraries are missing")
        sys.exit(77)
    if not modes:
        modes = subprocess.run(RUNNER + [program], stdout=subprocess.PIPE, text=True).stdout.split()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for mode in modes:
            for seed in SEEDS:
                if "musl" in program and mode in ("sbrk", "empty"):
                    continue  # musl refuses sbrk; a heap that was never used has no structures yet
                problems, count = run(program, mode, seed, exact, folder)
                failed += bool(problems)
                print("%-14s %d  %6d blocks  %s" % (mode, seed, count, "; ".join(problems) or "equal"), flush=True)
    sys.exit(1 if failed else 0)


main()
