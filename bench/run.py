#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints the cost table: silt beside its peers, measured alternately in one run. docs/BENCH.md explains the method.

usage: bench/run.py [--quick] [--json FILE] BUILD_DIR [pair|wall|memory|attach|fork|capture|diff|heap|symbols ...]
"""

import argparse
import json
import os
import signal
import sys
import time

sys.dont_write_bytecode = True  # the source tree stays as it is

import row_attach
import row_capture
import row_fork
import row_heap
import row_memory
import row_pair
import row_symbols
import row_wall
from harness import Bench, Failed, Skip, busy, machine

NAMES = ["pair", "wall", "memory", "attach", "fork", "capture", "diff", "heap", "symbols"]


def measures(wanted):
    """(names, function of bench) in the table's order; capture and diff share a target."""
    last = [n for n in ("capture", "diff") if n in wanted]
    found = [([name], module.run) for name, module in (("pair", row_pair), ("wall", row_wall), ("memory", row_memory),
                                                            ("attach", row_attach), ("fork", row_fork))
             if name in wanted]
    if last:
        found.append((last, lambda bench: row_capture.run(bench, last)))
    if "heap" in wanted:
        found.append((["heap"], row_heap.run))
    if "symbols" in wanted:
        found.append((["symbols"], row_symbols.run))
    return found


def measure_all(bench, wanted):
    """True when everything ran or was skipped for a reason of the machine."""
    fine = True
    for names, run in measures(wanted):
        try:
            run(bench)
        except Skip as reason:
            bench.skip(", ".join(names), str(reason))
        except Failed as reason:
            fine = False
            bench.row(", ".join(names), "failed", "", "", "", "", False, False, str(reason))
    return fine


def main():
    parser = argparse.ArgumentParser(description="silt's cost table")
    parser.add_argument("build", metavar="BUILD_DIR", help="where silt and the benchmark programs were built")
    parser.add_argument("names", metavar="NAME", nargs="*", help="rows to measure: %s (default: all)" % ", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="two rounds, a million blocks: to see that it works")
    parser.add_argument("--json", metavar="FILE", help="also write results and every round's figures there")
    args = parser.parse_intermixed_args()
    unknown = [n for n in args.names if n not in NAMES]
    if unknown:
        parser.error("unknown row %s (there are %s)" % (unknown[0], ", ".join(NAMES)))
    # A terminated run shall clean up as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench = Bench(args.build, args.quick)
    start, load = time.time(), busy()
    print(machine(), flush=True)
    if load > 0.5:
        print("warning: the machine is busy with other work (load %.1f); times will be off" % load, flush=True)
    try:
        fine = measure_all(bench, args.names or NAMES)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        bench.close()
    print(bench.table())
    print("measured in %.0f s%s" % (time.time() - start, ", quick: two rounds only" if args.quick else ""))
    if args.json:
        document = {"schema": "silt.bench/1", "machine": machine(), "load_before": load, "quick": args.quick,
                    "rows": bench.rows, "rounds": bench.details}
        with open(args.json, "w") as f:
            json.dump(document, f, indent=1)
            f.write("\n")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
