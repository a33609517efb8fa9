#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares `silt symbols` with eu-addr2line and llvm-symbolizer on random code addresses of given files.

Where both agree, silt must agree with them for at least 99.9 % of the addresses; where they differ, silt must equal one of
them, but for the classes of difference that docs/SYMBOLS.md explains, and at most 0.5 % of an unknown class. Differences are
printed. Exit status 0, 1 (too many differences) or 77 (a tool is missing).
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
UNKNOWN = 0.005


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
    # Clones that compilers made of one function, functions nested in functions, Go's calling conventions: the symbol
    # table's name has a suffix, DWARF's has none.
    return re.sub(r"(\.(lto_priv|constprop|isra|part|cold|localalias|llvm|abi0|abiinternal|\d+)(\.\d+)?)+$", "",
                  text.split("@", 1)[0])


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


def is_alias_only(a, b):
    """The same places and the same inlined calls: only the physical function has another name. Code with several names:
    aliases, folded functions, a Fortran program's own name."""
    return same(a[:-1], b[:-1]) and a[-1][1:] == b[-1][1:]


def is_cut(a, b):
    """b says the same of the innermost place, and has fewer or more frames around it: ranges that overlap, or an
    inlined call whose abstract entry it did not find."""
    return a[0][1:] == b[0][1:]


# What they are called, how they are told, and how many of a file's addresses they may be.
CLASSES = [("another name of the function", is_alias_only, 0.2), ("the same place, other frames around it", is_cut, 0.01)]


class Tally:
    """What the comparison of one file, or of all, came to."""

    def __init__(self):
        self.addresses = self.named = self.agree = self.equal = self.differ = self.one = 0
        self.classes = {kind: 0 for kind, _, _ in CLASSES}
        self.unknown = 0

    def add(self, other):
        for key in ("addresses", "named", "agree", "equal", "differ", "one", "unknown"):
            setattr(self, key, getattr(self, key) + getattr(other, key))
        for key, count in other.classes.items():
            self.classes[key] += count

    def take(self, ours, eu, llvm):
        """Counts one address. Returns what is wrong with it, or None."""
        self.addresses += 1
        self.named += ours[-1][0] is not None
        if eu == llvm:
            self.agree += 1
            self.equal += same(ours, eu)
            return None if same(ours, eu) else "the tools agree"
        self.differ += 1
        if same(ours, eu) or same(ours, llvm) or same_but_alias(ours, eu, llvm) or same_but_alias(ours, llvm, eu):
            self.one += 1
            return None
        for kind, matches, _ in CLASSES:
            if matches(ours, eu) or matches(ours, llvm):
                self.classes[kind] += 1
                return kind
        self.unknown += 1
        return "unknown"

    def is_good(self):
        return (self.equal >= REQUIRED * self.agree and self.unknown <= UNKNOWN * self.addresses and
                all(self.classes[kind] <= most * self.addresses for kind, _, most in CLASSES))

    def __str__(self):
        kinds = "".join(f", {count} {kind}" for kind, count in self.classes.items() if count)
        rate = 100 * self.equal / self.agree if self.agree else 100.0
        return (f"{self.addresses} addresses, {self.named} named; the tools agree on {self.agree}, silt equals them on "
                f"{self.equal} ({rate:.3f} %); they differ on {self.differ}, silt equals one on {self.one}{kinds}"
                f"{f', {self.unknown} unknown' if self.unknown else ''}")


def compare(path, silt, llvm, count, seed, quiet=False):
    """A Tally, or None when a tool did not answer every address."""
    addresses = pick(path, count, seed)
    ours = ask_silt(silt, path, addresses)
    eu = ask_elfutils(path, addresses)
    theirs = ask_llvm(llvm, path, addresses)
    if not len(ours) == len(eu) == len(theirs) == len(addresses):
        print(f"{path}: {len(addresses)} addresses, answers: silt {len(ours)} eu {len(eu)} llvm {len(theirs)}")
        return None
    tally, printed = Tally(), 0
    for address, a, b, c in zip(addresses, ours, eu, theirs):
        a, b, c = clean(a), clean(b), clean(c)
        wrong = tally.take(a, b, c)
        if not wrong or printed == MAX_PRINTED or (quiet and wrong in tally.classes):
            continue
        printed += 1
        print(f"  0x{address:x}: {wrong}")
        for who, frames in ("silt", a), ("eu", b), ("llvm", c):
            print(f"    {who:4} {str(frames)[:MAX_WIDTH]}")
    print(f"{path}: {tally}", flush=True)
    return tally


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
    return 0 if all(t and t.is_good() for t in results) else 1


if __name__ == "__main__":
    sys.exit(main())
