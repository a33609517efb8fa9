#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares `silt symbols` with eu-addr2line and llvm-symbolizer on random code addresses of given files.

Where both agree, silt must agree with them for at least 99.9 % of the addresses; where they differ, silt should equal
one of them. Differences are printed. Exit status 0, 1 (too many differences) or 77 (a tool is missing).
"""
import argparse
import json
import random
import re
import shutil
import struct
import subprocess
import sys

MAX_PRINTED = 5
MAX_WIDTH = 600
REQUIRED = 0.999


def code_ranges(path):
    """(start, end) of the executable sections that hold bytes in the running program."""
    data = open(path, "rb").read()
    shoff, = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    ranges = []
    for i in range(count):
        _, kind, flags, addr, _, length = struct.unpack_from("<IIQQQQ", data, shoff + i * size)
        if flags & 4 and kind == 1 and length:
            ranges.append((addr, addr + length))
    return ranges


def pick(path, count, seed):
    ranges = code_ranges(path)
    rng = random.Random(seed)
    weights = [end - start for start, end in ranges]
    return sorted({rng.randrange(*r) for r in rng.choices(ranges, weights, k=count)})


def run(command, addresses):
    text = "".join("0x%x\n" % a for a in addresses)
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False).stdout


def normalize(path):
    """Writers of paths differ in how they join directories, not in what they mean."""
    if not path or path == "??":
        return None
    # DWARF 5 directory 0 is the compilation directory; both tools put a relative one in front of itself.
    path = re.sub(r"^(\.\.?/.*?)/\1(?=/)", r"\1", path)
    absolute = path.startswith("/")
    parts = []
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        else:
            parts.append(part)
    return ("/" if absolute else "") + "/".join(parts)


def name(text):
    if not text or text == "??":
        return None
    # Clones that compilers made of one function, and functions nested in functions: the symbol table's name has a
    # suffix, DWARF's has none.
    return re.sub(r"(\.(lto_priv|constprop|isra|part|cold|localalias|llvm|\d+)(\.\d+)?)+$", "", text.split("@", 1)[0])


def ask_silt(silt, path, addresses):
    out = run([silt, "symbols", "--json", "--demangle", "off", path], addresses)
    result = []
    for line in out.splitlines():
        frames = json.loads(line)["frames"]
        result.append([(name(f["function"]), normalize(f["file"]), f["line"] or 0) for f in frames])
    return result


def ask_elfutils(path, addresses):
    out = run(["eu-addr2line", "-a", "-f", "-i", "-A", "-e", path], addresses)
    result, function = [], None
    for line in out.splitlines():
        if re.fullmatch(r"0x[0-9a-f]+", line):
            result.append([])
            function = None
        elif function is None:
            function = line.split(" inlined at ", 1)[0]
        else:
            m = re.match(r"(.*?):(\d+)(?::\d+)?(?: .*)?$", line)
            result[-1].append((name(function), normalize(m.group(1)), int(m.group(2))))
            function = None
    return result


def ask_llvm(tool, path, addresses):
    out = run([tool, "--inlines", "--no-demangle", "--output-style=JSON", "--obj=" + path], addresses)
    result = []
    for line in out.splitlines():
        answer = json.loads(line)
        answer = answer[0] if isinstance(answer, list) else answer
        result.append([(name(f["FunctionName"]), normalize(f["FileName"]), f["Line"]) for f in answer.get("Symbol", [])])
    return result


def clean(frames):
    """No frame at all and one frame of unknowns mean the same."""
    return [f for f in frames if f[0] or f[1]] or [(None, None, 0)]


def same_name(a, b):
    """Compilers give functions with local types as template arguments no linkage name: silt then adds the namespaces
    that the tools leave out."""
    return a == b or a is not None and b is not None and a.endswith("::" + b)


def same(a, b):
    return len(a) == len(b) and all(same_name(x[0], y[0]) and x[1:] == y[1:] for x, y in zip(a, b))


def same_but_alias(a, place, alias):
    """Everything as one tool says but the name of the physical function, which is as the other tool says: DWARF and
    symbol table may know aliases of it."""
    return same(a[:-1], place[:-1]) and a[-1][1:] == place[-1][1:] and same_name(a[-1][0], alias[-1][0])


def compare(path, silt, llvm, count, seed):
    addresses = pick(path, count, seed)
    ours = ask_silt(silt, path, addresses)
    eu = ask_elfutils(path, addresses)
    theirs = ask_llvm(llvm, path, addresses)
    if not len(ours) == len(eu) == len(theirs) == len(addresses):
        print(f"{path}: {len(addresses)} addresses, answers: silt {len(ours)} eu {len(eu)} llvm {len(theirs)}")
        return False
    agree = equal = differ = one = printed = 0
    for address, a, b, c in zip(addresses, ours, eu, theirs):
        a, b, c = clean(a), clean(b), clean(c)
        if b == c:
            agree += 1
            good = same(a, b)
            equal += good
        else:
            differ += 1
            good = same(a, b) or same(a, c) or same_but_alias(a, b, c) or same_but_alias(a, c, b)
            one += good
        if not good and printed < MAX_PRINTED:
            printed += 1
            print(f"  0x{address:x}")
            for who, frames in ("silt", a), ("eu", b), ("llvm", c):
                print(f"    {who:4} {str(frames)[:MAX_WIDTH]}")
    rate = equal / agree if agree else 1.0
    named = sum(1 for a in ours if a and a[-1][0])
    print(f"{path}: {len(addresses)} addresses, {named} named; the tools agree on {agree}, silt equals them on {equal} "
          f"({100 * rate:.3f} %); they differ on {differ}, silt equals one on {one}")
    return rate >= REQUIRED


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--silt", required=True)
    p.add_argument("--count", type=int, default=2000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("files", nargs="+")
    args = p.parse_args()
    llvm = shutil.which("llvm-symbolizer-14") or shutil.which("llvm-symbolizer")
    if not llvm or not shutil.which("eu-addr2line"):
        print("skipped: eu-addr2line (elfutils) and llvm-symbolizer (llvm) are needed")
        return 77
    results = [compare(f, args.silt, llvm, args.count, args.seed) for f in args.files]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
