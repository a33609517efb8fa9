#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""--sample: totals are without bias and spread as the theory says; what was sampled is right block for block; every report marks
estimates. Usage: sample.py"""

import json
import math
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import dumps  # noqa: E402

SILT, BLOCKS = os.environ["SILT"], os.environ["SILT_BLOCKS"]
FIXTURE = os.path.join(os.environ["SILT_FIXTURES"], "gcc-O2", "fx_sample")
RUNS = 120 if os.environ.get("SILT_SOAK") == "1" else 16
SIGMAS = 5.5  # of some hundred figures, one in 250,000 test runs goes beyond by chance
HEAP, MMAP, POOL = 0, 1, 2
failures = []


def check(name, good, detail=""):
    if not good:
        failures.append(name)
        print("FAILED %s\n  %s" % (name, detail), flush=True)
    return good


def chance(kind, size, mean):
    """That an allocation is sampled. Mappings are few and can be cut in parts: each is tracked."""
    return 1.0 if kind == MMAP else -math.expm1(-max(size, 1) / mean)


class Truth:
    """What the fixture says it did: (kind, size) -> count, ever and now."""

    def __init__(self, ledger, path):
        self.ever, self.now = {}, {}
        with open(path) as f:
            for line in f:
                kind, size, count = map(int, line.split())
                self.ever[kind, size] = count
        for size, kind, _, _ in ledger.blocks.values():
            self.now[kind, size] = self.now.get((kind, size), 0) + 1


def add(figures, name, estimate, parts, mean):
    """One figure: what silt says, what is true, and the variance that sampling gives. parts: (kind, size, count, value of one)."""
    true = sum(n * value for _, _, n, value in parts)
    variance = sum(n * value * value * (1 - p) / p for kind, size, n, value in parts for p in [chance(kind, size, mean)])
    figures.setdefault(name, []).append((estimate, true, variance))


def measure(folder, mean, figures):
    out, path = folder + "/out.silt", folder + "/ledger"
    r = subprocess.run([SILT, "run", "-q", "--sample", str(mean), "-o", out, "--", FIXTURE], env=dict(os.environ, LEDGER_OUT=path),
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
    if not check("run", r.returncode == 0, r.stderr):
        return None
    dump, ledger = dumps.Dump(BLOCKS, out), dumps.Ledger(path, FIXTURE)
    errors = dumps.compare(dump, ledger, [FIXTURE])
    check("what was sampled with %d" % mean, not errors, "\n  ".join(errors))
    truth = Truth(ledger, path + ".sizes")
    through = {i for i, (_, frames, _) in enumerate(dump.stacks) if any(f.key() in ledger.labels for f in frames)}
    for kind in (HEAP, MMAP, POOL):
        sums = [sum(c[k] for c in dump.contexts if c[1] in through and c[4] == kind) for k in (5, 6, 7, 8)]
        now = [(k, s, n) for (k, s), n in truth.now.items() if k == kind]
        ever = [(k, s, n) for (k, s), n in truth.ever.items() if k == kind]
        for name, estimate, parts, value in (("live blocks", sums[0], now, lambda s: 1), ("live bytes", sums[1], now, lambda s: s),
                                             ("allocations", sums[2], ever, lambda s: 1),
                                             ("allocated bytes", sums[3], ever, lambda s: s)):
            add(figures, (mean, kind, name), estimate, [(k, s, n, value(s)) for k, s, n in parts], mean)
    seen = {}
    for addr, (size, context) in dump.blocks.items():
        if dump.contexts[context][1] in through:
            key = dump.kind_of(addr), size
            seen[key] = seen.get(key, 0) + 1
    for (kind, size), n in truth.now.items():
        p = chance(kind, size, mean)
        add(figures, (mean, kind, "blocks of %d" % size), seen.get((kind, size), 0) / p, [(kind, size, n, 1)], mean)
    return out


def judge(figures):
    """Every figure: the mean over all runs is the truth, and the spread is the theory's."""
    for name, rounds in sorted(figures.items()):
        n = len(rounds)
        mean_error = sum(e - t for e, t, _ in rounds) / n
        variance = sum(v for _, _, v in rounds)
        # What each context shows is rounded to whole numbers: half of one for each of some ten contexts.
        bound = SIGMAS * math.sqrt(variance) / n + (0 if variance else 5)
        good = check("%s: bias" % (name,), abs(mean_error) <= bound, "%.1f off, allowed %.1f, truth %.1f" % (
            mean_error, bound, rounds[0][1]))
        # The sum of the squares of n normal scores has mean n and variance 2n. Normal they are where many are sampled.
        scores = [(e - t) ** 2 / v for e, t, v in rounds if v > 25 and t * t > 50 * v]
        if len(scores) == n:
            good &= check("%s: spread" % (name,), 0.1 * n < sum(scores) < n + SIGMAS * math.sqrt(2 * n) + 10,
                          "%.1f, expected %d" % (sum(scores), n))
        if good and isinstance(name[2], str) and not name[2].startswith("blocks of"):
            print("ok     --sample %d, kind %d, %s: off by %.2f of %.2f sigma allowed" % (
                *name, abs(mean_error) / (math.sqrt(variance) / n) if variance else 0, SIGMAS))


def marked(sampled, whole):
    """Text and JSON of show and diff say that figures are estimates, and only where they are."""
    def run(*args):
        r = subprocess.run([SILT, *args], capture_output=True, text=True, timeout=60)
        check("silt " + " ".join(args[:-1]), r.returncode == 0, r.stderr)
        return r.stdout

    for by in ("stack", "function", "file", "module", "size"):
        for path, estimated in ((sampled, True), (whole, False)):
            text, data = run("show", "--by", by, path), json.loads(run("show", "--json", "--by", by, path))
            rows = data.get("stacks") or data.get("groups")
            check("show --by %s marks estimates" % by, ("marks estimates" in text) == estimated and bool(rows) and
                  ("live       ~" in text) == estimated and data["estimated"] == estimated and
                  any("estimates" in w for w in data["warnings"]) == estimated, text[:2000])
        for before, after, estimated in ((sampled, sampled, True), (sampled, whole, True), (whole, sampled, True),
                                         (whole, whole, False)):
            text, data = run("diff", "--by", by, before, after), json.loads(run("diff", "--json", "--by", by, before, after))
            check("diff --by %s marks estimates" % by, ("marks estimates" in text) == estimated and
                  ("before ~" in text) == estimated and data["estimated"] == estimated and
                  any("estimates" in w for w in data["warnings"]) == estimated, text[:2000])


def main():
    if not os.path.exists(FIXTURE):
        print("skip: fx_sample was not built (gcc is missing)")
        return 77
    figures = {}
    with tempfile.TemporaryDirectory(prefix="silt-sample-") as folder:
        sampled = None
        for mean in (128, 20000):
            for n in range(RUNS):
                sampled = measure(folder, mean, figures) or sampled
                if len(failures) > 5:
                    return 1
        judge(figures)
        whole = folder + "/whole.silt"
        r = subprocess.run([SILT, "run", "-q", "-o", whole, "--", FIXTURE], env=dict(os.environ, LEDGER_OUT=folder + "/other"),
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
        if check("the whole program", r.returncode == 0, r.stderr) and sampled:
            marked(sampled, whole)
    print("%d figures of %d runs each, %d failures" % (len(figures), RUNS, len(failures)))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
