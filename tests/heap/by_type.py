#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""C++ types of blocks: show and diff --by type and --by size of walked heaps. usage: by_type.py PROGRAM…"""
import json
import os
import subprocess
import sys
import tempfile

SILT = os.environ["SILT"]


def expected(n):
    return {"shop::Item": n, "shop::Box<double>": 2 * n, "shop::Both": 3 * n, "(anonymous namespace)::Hidden": 4 * n,
            "Impl": 5 * n, "main::Local": 6 * n, "std::runtime_error": n}


def capture(program, n, path):
    p = subprocess.Popen([program, str(n)], stdout=subprocess.PIPE)
    try:
        p.stdout.readline()
        subprocess.run([SILT, "capture", "-q", str(p.pid), "-o", path], check=True, stderr=subprocess.DEVNULL)
    finally:
        p.kill()
        p.wait()
        p.stdout.close()


def report(*args):
    r = subprocess.run([SILT] + list(args), capture_output=True, text=True)
    if r.returncode:
        return r.returncode, r.stderr
    return 0, json.loads(r.stdout)


def check(program, folder):
    problems = []
    before, after = folder + "/before.silt", folder + "/after.silt"
    capture(program, 10, before)
    capture(program, 25, after)
    _, shown = report("show", "--json", "--by", "type", before)
    found = {g["key"]: g["count"] for g in shown["groups"]}
    for name, count in expected(10).items():
        if found.pop(name, 0) != count:
            problems.append("%s is not shown %d times: %s" % (name, count, shown["groups"]))
    rest = found.pop("(no C++ type)", 0)
    if rest < 10:
        problems.append("%d blocks without type" % rest)
    if any(count > 1 for count in found.values()):
        problems.append("types that nobody made: %s" % found)
    if shown["process"]["method"] != "heap walk" or not any("walking the heap" in w for w in shown["warnings"]):
        problems.append("the report does not say that the heap was walked")
    _, changed = report("diff", "--json", "--by", "type", before, after)
    grown = {g["key"]: g["count"]["delta"] for g in changed["groups"]}
    for name, count in expected(15).items():
        if grown.get(name) != count:
            problems.append("%s did not grow by %d: %s" % (name, count, grown.get(name)))
    _, sizes = report("diff", "--json", "--by", "size", before, after)
    if sizes["totals"]["count"]["delta"] != sum(expected(15).values()) + 2 * 15:  # Plain, and the strings of the errors
        problems.append("by size: %s" % sizes["totals"])
    if sum(g["count"]["delta"] for g in sizes["groups"]) != sizes["totals"]["count"]["delta"]:
        problems.append("sizes do not add up")
    tracked = folder + "/tracked.silt"
    subprocess.run([SILT, "run", "-q", "-o", tracked, "--", "/bin/true"], stderr=subprocess.DEVNULL)
    status, text = report("show", "--json", "--by", "type", tracked)
    if status != 3 or "heap was walked" not in text:
        problems.append("a tracked dump by type: status %d, %s" % (status, text))
    return problems


def main():
    failed, programs = 0, [p for p in sys.argv[1:] if os.path.exists(p)]
    if not programs:
        print("skip: no C++ compiler")
        sys.exit(77)
    for program in programs:
        with tempfile.TemporaryDirectory() as folder:
            problems = check(program, folder)
        failed += bool(problems)
        print("%s: %s" % (os.path.basename(program), "; ".join(problems) or "fine"))
    sys.exit(1 if failed else 0)


main()
