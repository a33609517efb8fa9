#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs `silt symbols` on damaged ELF files: it must end in time, never by a signal, in bounded memory, with status 0
or 3, and a file it cannot use gets one line of explanation."""
import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "fixtures" / "truth.c"
SECONDS = 30
MEGABYTES = 400
ROUNDS = 400


def mutants(data, rng):
    for size in [0, 1, 16, 63, 64, 65] + [rng.randrange(len(data)) for _ in range(ROUNDS // 4)]:
        yield f"cut to {size}", data[:size]
    for n in range(ROUNDS):
        copy = bytearray(data)
        where = []
        for _ in range(rng.randint(1, 20)):
            at = rng.randrange(64) if rng.random() < 0.1 else rng.randrange(len(copy))
            where.append(at)
            copy[at] = rng.choice((0, 0xff, copy[at] ^ 1 << rng.randrange(8), rng.randrange(256)))
        yield f"bytes at {where}", bytes(copy)
    # A compressed section that claims to be huge.
    copy = bytearray(data)
    yield "garbage behind the header", bytes(copy[:64]) + rng.randbytes(len(copy) - 64)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--silt", required=True)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    rng = random.Random(args.seed)
    failures = runs = 0
    worst = 0.0
    with tempfile.TemporaryDirectory(prefix="silt-hostile-") as name:
        victims = []
        for n, options in enumerate((["-O2", "-gdwarf-5"], ["-O0", "-gdwarf-4", "-gz=zlib"])):
            path = Path(name) / f"victim{n}"
            subprocess.run(["gcc", *options, str(SOURCE), "-o", str(path)], check=True)
            victims.append(path.read_bytes())
        target = Path(name) / "mutant"
        addresses = [hex(a) for a in range(0x1000, 0x1700, 16)]
        for data in victims:
            for what, bytes_ in mutants(data, rng):
                target.write_bytes(bytes_)
                start = time.monotonic()
                try:
                    r = subprocess.run([args.silt, "symbols", str(target), *addresses], capture_output=True, timeout=SECONDS,
                                       check=False)
                    good = r.returncode in (0, 3) and (r.returncode == 0 or r.stderr.count(b"\n") == 1)
                    note = f"status {r.returncode} {r.stderr[:300]}"
                except subprocess.TimeoutExpired:
                    good, note = False, "no end"
                runs += 1
                worst = max(worst, time.monotonic() - start)
                if not good:
                    failures += 1
                    print(f"FAILED {what}: {note}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(f"{runs} damaged files, {failures} failures, longest {worst:.2f} s, largest process {peak} MB")
    return 1 if failures or peak > MEGABYTES else 0


if __name__ == "__main__":
    sys.exit(main())
