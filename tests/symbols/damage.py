#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every kind of ELF and DWARF file with its bytes inverted and its lengths cut, through symbols_mutate: some hundred places of
each here, every single one with SILT_SOAK=1 (of large files a hundred thousand). The parser itself must not crash, hang or
take memory: what happens then is another test's matter."""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging import SOURCE, build, have, mini_debug_information, sh

FIXTURES = Path(__file__).resolve().parent / "fixtures"


def plain(tmp):
    for cc in "gcc", "clang":
        if not have(cc, f"files of {cc}"):
            continue
        for version in (2, 3, 4, 5):
            yield f"{cc} DWARF {version}", [build(tmp, f"{cc}{version}", f"-gdwarf-{version}", compiler=cc)]
    yield "64-bit DWARF", [build(tmp, "dwarf64", "-gdwarf64", "-gdwarf-5")]
    yield "no sections for types", [build(tmp, "types", "-fdebug-types-section", "-gdwarf-4")]
    yield "LTO, O3", [build(tmp, "lto", "-flto", "-O3")]
    if shutil.which("g++"):
        target = tmp / "templates"
        sh("g++", "-O2", "-g", "-Wl,--build-id=sha1", FIXTURES / "templates.cpp", "-o", target)
        yield "C++", [target]


def packaged(tmp):
    for how in "zlib", "zlib-gnu", "zstd":
        t = build(tmp, "packed-" + how)
        if subprocess.run(["objcopy", "--compress-debug-sections=" + how, str(t)], capture_output=True, check=False).returncode == 0:
            yield how, [t]
    t = build(tmp, "split")
    debug = tmp / "split/truth.debug"
    sh("objcopy", "--only-keep-debug", t, debug)
    sh("objcopy", "--strip-all", t)
    yield "debug file", ["--of", t, debug]
    sh("objcopy", "--add-gnu-debuglink=" + str(debug), t)  # beside the damaged one
    yield "module with a debug link", ["--as", t.with_name("linked"), t]
    if have("xz", "mini debug information"):
        t = build(tmp, "mini")
        packed = mini_debug_information(t, t.parent)
        sh("objcopy", "--strip-all", f"--add-section=.gnu_debugdata={packed}", t)
        yield "mini debug information", ["--names", t]
    if have("dwz", "dwz files"):
        for options in [], ["-5"]:
            a, b = build(tmp, f"dwz{len(options)}-a"), build(tmp, f"dwz{len(options)}-b")
            common = a.parent / "common"
            sh("dwz", *options, "-m", common, "-M", common, a, b)
            yield "program with a dwz file" + " of DWARF 5" * len(options), [a]
            moved = common.with_name("moved")
            common.rename(moved)
            yield "dwz file" + " of DWARF 5" * len(options), ["--of", a, "--as", common, moved]


def divided(tmp):
    """Split DWARF: the program, its .dwo, its .dwp."""
    for version in (4, 5):
        directory = tmp / f"divided{version}"
        directory.mkdir()
        t, unit = directory / "truth", directory / "truth.o"
        sh("gcc", "-O2", "-g", f"-gdwarf-{version}", "-gsplit-dwarf", "-c", SOURCE, "-o", unit)
        sh("gcc", unit, "-o", t)
        dwo = directory / "truth.dwo"
        yield f"program with split DWARF {version}", [t]
        if shutil.which("dwp") and subprocess.run(["dwp", "-e", str(t), "-o", str(directory / "packed")], capture_output=True,
                                                  check=False).returncode == 0:
            sh("mv", dwo, directory / "away")
            yield f"package of split DWARF {version}", ["--of", t, "--as", directory / "truth.dwp", directory / "packed"]
            sh("mv", directory / "away", dwo)
        moved = dwo.with_name("moved")
        dwo.rename(moved)
        yield f"part of split DWARF {version}", ["--of", t, "--as", dwo, moved]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--mutate", required=True, help="the program symbols_mutate")
    args = p.parse_args()
    soak = bool(os.environ.get("SILT_SOAK"))
    places, rounds = (100000, 100000) if soak else (300, 500)
    failures = count = 0
    with tempfile.TemporaryDirectory(prefix="silt-damage-") as name:
        tmp = Path(name)
        for kind in plain, packaged, divided:
            for label, arguments in kind(tmp):
                count += 1
                step = -(-os.path.getsize(arguments[-1]) // places)
                for how in ["every", str(step)], ["random", str(rounds)]:
                    r = subprocess.run([args.mutate, *map(str, arguments), *how], capture_output=True, text=True, check=False)
                    print(f"{label}: {r.stdout.strip()}{r.stderr.strip()}")
                    failures += r.returncode != 0
    print(f"{count} kinds of files, {failures} runs failed")
    return 1 if failures or not count else 0


if __name__ == "__main__":
    sys.exit(main())
