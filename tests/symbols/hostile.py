#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs `silt symbols` on damaged ELF files: it must end in time, never by a signal, in bounded memory, with status 0
or 3, and a file it cannot use gets one line of explanation. With SILT_SOAK=1 a hundred thousand files."""
import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from packaging import build, by_build_id, mini_debug_information, sh

SECONDS = 30
MEGABYTES = 400
ROUNDS = 100000 if os.environ.get("SILT_SOAK") else 700


def mutants(data, rng, rounds):
    for size in [0, 1, 16, 63, 64, 65] + [rng.randrange(len(data)) for _ in range(rounds // 5)]:
        yield f"cut to {size}", data[:size]
    for _ in range(rounds * 4 // 5):
        copy = bytearray(data)
        where = []
        for _ in range(rng.randint(1, 20)):
            at = rng.randrange(64) if rng.random() < 0.1 else rng.randrange(len(copy))
            where.append(at)
            copy[at] = rng.choice((0, 0xff, copy[at] ^ 1 << rng.randrange(8), rng.randrange(256)))
        yield f"bytes at {where}", bytes(copy)
    yield "garbage behind the header", data[:64] + rng.randbytes(len(data) - 64)
    yield "a header alone", data[:64] + bytes(len(data) - 64)


def victims(tmp):
    """(label, the file to damage, its place, arguments of silt symbols)."""
    for n, options in enumerate((["-gdwarf-5"], ["-O0", "-gdwarf-4", "-gz=zlib"], ["-gdwarf-2"], ["-gdwarf-5", "-gdwarf64"])):
        t = build(tmp, f"victim{n}", *options)
        yield " ".join(options), t.read_bytes(), t, [t]
    t = build(tmp, "separate")
    debug = by_build_id(tmp / "dirs", t)
    sh("objcopy", "--only-keep-debug", "--compress-debug-sections=zlib", t, debug)
    sh("objcopy", "--strip-all", t)
    yield "debug file", debug.read_bytes(), debug, ["--debug-dir", tmp / "dirs", t]
    if shutil.which("xz"):
        t = build(tmp, "mini")
        packed = mini_debug_information(t, t.parent)
        sh("objcopy", "--strip-all", f"--add-section=.gnu_debugdata={packed}", t)
        yield "mini debug information", t.read_bytes(), t, [t]
    if shutil.which("dwz"):
        a, b = build(tmp, "dwz-a"), build(tmp, "dwz-b")
        common = a.parent / "common"
        sh("dwz", "-m", common, "-M", common, a, b)
        yield "dwz file", common.read_bytes(), common, [a]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--silt", required=True)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    rng = random.Random(args.seed)
    failures = runs = 0
    worst = 0.0
    with tempfile.TemporaryDirectory(prefix="silt-hostile-") as name:
        every = list(victims(Path(name)))
        addresses = [hex(a) for a in range(0x1000, 0x1700, 16)]
        for label, data, place, arguments in every:
            for what, bytes_ in mutants(data, rng, ROUNDS // len(every)):
                place.write_bytes(bytes_)
                start = time.monotonic()
                try:
                    r = subprocess.run([args.silt, "symbols", *map(str, arguments), *addresses], capture_output=True,
                                       timeout=SECONDS, check=False)
                    good = r.returncode in (0, 3) and (r.returncode == 0 or r.stderr.count(b"\n") == 1)
                    note = f"status {r.returncode} {r.stderr[:300]}"
                except subprocess.TimeoutExpired:
                    good, note = False, "no end"
                runs += 1
                worst = max(worst, time.monotonic() - start)
                if not good:
                    failures += 1
                    print(f"FAILED {label}, {what}: {note}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(f"{runs} damaged files of {len(every)} kinds, {failures} failures, longest {worst:.2f} s, largest process {peak} MB")
    return 1 if failures or peak > MEGABYTES else 0


if __name__ == "__main__":
    sys.exit(main())
