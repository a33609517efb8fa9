#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Captures of a program that never stands still: no ledger can say what is live, but no dump may contradict itself."""

import glob
import os
import random
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import dumps  # noqa: E402

SILT, BLOCKS, CHURN = os.environ["SILT"], os.environ["SILT_BLOCKS"], os.environ["SILT_CHURN"]
CAPTURES = 200 if os.environ.get("SILT_SOAK") == "1" else 12
THREADS = 3  # of churn: each may be inside a realloc, whose old block is live until the new one is known
KEPT = 2000 * THREADS  # blocks churn holds at most


def check(name, dump, count, failures):
    errors = dump.check_itself()
    overlaps = [e for e in errors if "overlap" in e]
    if len(overlaps) <= THREADS:
        errors = [e for e in errors if e not in overlaps]
    through = [s for s in dump.stacks if any("churn" in f.module for f in s[1])]
    live = sum(c[5] for c in dump.contexts if c[4] == 0)
    if not KEPT // 3 < live < KEPT + 200:
        errors.append("%d live blocks, the program holds at most %d" % (live, KEPT))
    bad = [s for s in through if s[0]]
    if bad:
        errors.append("stack flags %d: %s" % (bad[0][0], dumps.show(bad[0][1])))
    # Every stack of a thread of churn begins at the same place.
    roots = {s[1][-1].key() for s in through}
    if len(roots) > 2:
        errors.append("stacks end in %d places: %s" % (len(roots), sorted(roots)))
    print("%-6s %s: %d blocks, %d stacks" % ("FAILED" if errors else "ok", name, count, len(through)), flush=True)
    for e in errors[:5]:
        print("  " + e)
    failures += errors


def word(path, index):
    """A word of the file that churn shares; 0 while it is not there."""
    try:
        with open(path, "rb") as f:
            return int.from_bytes(f.read(8 * index + 8)[8 * index:], "little")
    except OSError:
        return 0


def main():
    failures = []
    with tempfile.TemporaryDirectory(prefix="silt-moving-") as folder:
        counter = os.path.join(folder, "counter")
        run = subprocess.Popen([SILT, "run", "-q", "--every", "300ms", "-o", folder + "/out.silt", "--", CHURN, counter, "3600"],
                               stdin=subprocess.DEVNULL)
        while word(counter, 0) < 100000 and run.poll() is None:  # from then on it holds as much as it ever does
            time.sleep(0.01)
        pid = word(counter, 1)
        for n in range(CAPTURES):
            time.sleep(random.random() * 0.1)
            out = "%s/c%d.silt" % (folder, n)
            r = subprocess.run([SILT, "capture", str(pid), "-o", out], capture_output=True, text=True, timeout=30)
            if r.returncode != 0:
                failures.append(r.stderr)
                print("FAILED capture %d: %s" % (n, r.stderr))
                continue
            d = dumps.Dump(BLOCKS, out)
            check("capture %d" % n, d, len(d.blocks), failures)
            os.unlink(out)
        while len(glob.glob(folder + "/out.*.silt")) < 13 and run.poll() is None:
            time.sleep(0.1)
        with open(counter, "r+b") as f:  # it ends now
            f.seek(16)
            f.write(b"\1")
        if run.wait(timeout=200) != 0:
            failures.append("silt run ended with %d" % run.returncode)
        numbered = sorted(glob.glob(folder + "/out.*.silt"))
        if len(numbered) < 13:
            failures.append("only %d numbered dumps" % len(numbered))
        for path in numbered[2:12]:
            d = dumps.Dump(BLOCKS, path)
            check(os.path.basename(path), d, len(d.blocks), failures)
    for f in failures[:3]:
        print("failed: %s" % f)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
