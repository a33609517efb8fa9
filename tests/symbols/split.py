#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Split DWARF: fixtures/truth.c among other units, its entries in .dwo and .dwp files, in place, moved, missing, of another
build. The program says where its own places are; `silt symbols` must say the same.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import variants
from variants import SOURCE, ask, check, expect, sh, truth

UNITS = "first", "truth", "last"
# What each tool can pack: binutils' dwp does not end when it is given DWARF 5, LLVM's not with constants in gcc's abbreviations.
PACKERS = {"dwp": [("gcc", 4), ("clang", 4)], "llvm-dwp": [("gcc", 4), ("clang", 4), ("clang", 5)]}


def neighbours(directory):
    """Units before and behind the one that matters: its parts of the sections of a package do not begin at 0."""
    for name in "first", "last":
        (directory / f"{name}.c").write_text(
            f"struct {name} {{ int x; struct {name} *next; }};\n"
            f"int {name}_depth(struct {name} *p) {{ int n = 0; for (; p; p = p->next) n += p->x; return n; }}\n")


def build(directory, cc, flags, more=""):
    """A program of three units in a directory of its own. Raises CalledProcessError when the compiler cannot."""
    directory.mkdir(parents=True)
    neighbours(directory)
    (directory / SOURCE.name).write_text(SOURCE.read_text() + more)
    for name in UNITS:
        sh(cc, *flags, "-w", "-gsplit-dwarf", "-c", f"{name}.c", cwd=directory)
    sh(cc, *flags, "-Wl,--build-id=sha1", *[f"{name}.o" for name in UNITS], "-o", "program", cwd=directory)
    return directory / "program"


def check_lines_only(silt, name, places, path, *options):
    """Without the split file: the physical function from the symbol table, the innermost line from the line table."""
    answers, stderr = ask(silt, path, [a for a, _ in places], *options)
    for (address, chain), frames in zip(places, answers):
        got = [(f["function"], f["line"]) for f in frames]
        want = chain[-1][0], chain[0][1]
        # The cold part of a function has a symbol of its own.
        expect(f"{name} {address:#x}", got in ([want], [(want[0] + ".cold", want[1])]), f"want {want}, got {got}; {stderr}")
    expect(f"{name} warns", "truth.dwo" in stderr and "another build" in stderr, stderr)


def move(program, target, suffix=""):
    """The program, and files beside it that end in suffix, to a directory of their own."""
    target.mkdir()
    for path in [program] + (list(program.parent.glob("*" + suffix)) if suffix else []):
        shutil.copy(path, target / path.name)
    return target / program.name


def places_of_files(silt, tmp, label, program, places):
    """Every place a .dwo file may be in."""
    check(silt, f"{label} in place", places, program)
    elsewhere = move(program, tmp / f"{label}-elsewhere")
    check(silt, f"{label} where it was compiled", places, elsewhere)
    hidden = tmp / f"{label}-hidden"
    hidden.mkdir()
    for path in list(program.parent.glob("*.dwo")):
        path.rename(hidden / path.name)
    check_lines_only(silt, f"{label} missing", places, program)
    check(silt, f"{label} in a debug directory", places, program, "--debug-dir", str(hidden))
    recorded = tmp / f"{label}-root" / str(program.parent).lstrip("/")
    recorded.parent.mkdir(parents=True)
    shutil.copytree(hidden, recorded)
    check(silt, f"{label} below a debug directory", places, elsewhere, "--debug-dir", str(tmp / f"{label}-root"))
    for path in hidden.glob("*.dwo"):
        shutil.copy(path, elsewhere.parent / path.name)
    check(silt, f"{label} beside the program", places, elsewhere)
    link = tmp / f"{label}-link"
    link.symlink_to(elsewhere)
    check(silt, f"{label} beside what a link leads to", places, link)
    return hidden


def packages(silt, tmp, label, kind, program, places, hidden):
    """.dwp files, by every tool that can make one of this version. The .dwo files are hidden meanwhile."""
    made = 0
    for tool in [t for t, kinds in PACKERS.items() if kind in kinds]:
        if not shutil.which(tool):
            print(f"not tested: {tool} is missing")
            continue
        target = tmp / f"{label}-{tool}"
        moved = move(program, target)
        for path in hidden.glob("*.dwo"):
            shutil.copy(path, program.parent / path.name)
        package = target / "program.dwp"
        try:
            sh(tool, *[f"{n}.dwo" for n in UNITS], "-o", package, cwd=program.parent, timeout=30)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as e:
            expect(f"{label} {tool}", False, f"{e} {e.stderr}")
            continue
        finally:
            for path in program.parent.glob("*.dwo"):
                path.unlink()
        made += 1
        check(silt, f"{label} {tool}", places, moved)
        separate(silt, tmp, f"{label} {tool}", moved, places)
        data = package.read_bytes()
        for part in range(1, 8):
            package.write_bytes(data[:len(data) * part // 8])
            answers, _ = ask(silt, moved, [places[0][0]])
            want = places[0][1]
            got = [(f["function"], f["line"]) for f in answers[0]]
            expect(f"{label} {tool} cut to {part}/8", got in (want, [(want[-1][0], want[0][1])]), f"{got}")
    return made


def separate(silt, tmp, label, program, places):
    """The skeletons in a debug file, the package beside it or beside the program."""
    target = tmp / (label.replace(" ", "-") + "-debug")
    target.mkdir()
    t = target / "program"
    shutil.copy(program, t)
    sh("objcopy", "--only-keep-debug", t, target / "program.debug")
    sh("objcopy", "--strip-all", "--add-gnu-debuglink=program.debug", t, cwd=target)
    for name in "program.dwp", "program.debug.dwp":
        shutil.copy(program.with_name("program.dwp"), target / name)
        check(silt, f"{label} {name} with a debug file", places, t)
        (target / name).unlink()


def wrong_files(silt, tmp, label, kind, flags, program, places):
    """Files of another build under the right names: as good as missing."""
    # clang's ids are made of what is described, not of addresses: it must be something else.
    other = build(tmp / f"{label}-other", kind[0], flags, "int another(int x) { return hidden(x); }\n")
    moved = move(program, tmp / f"{label}-wrong")
    for path in other.parent.glob("*.dwo"):
        shutil.copy(path, moved.parent / path.name)
    check_lines_only(silt, f"{label} of another build", places, moved)
    if shutil.which("llvm-dwp") and kind in PACKERS["llvm-dwp"]:
        for path in moved.parent.glob("*.dwo"):
            path.unlink()
        sh("llvm-dwp", *[f"{n}.dwo" for n in UNITS], "-o", moved.with_name("program.dwp"), cwd=other.parent)
        check_lines_only(silt, f"{label} package of another build", places, moved)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--silt", required=True)
    args = p.parse_args()
    silt = os.path.abspath(args.silt)
    made = {4: 0, 5: 0}
    with tempfile.TemporaryDirectory(prefix="silt-split-") as name:
        tmp = Path(name)
        for cc in [c for c in ("gcc", "clang") if shutil.which(c)]:
            for version in 4, 5:
                for shape in ["-O0"], ["-O2"], ["-O2", "-fdebug-types-section"]:
                    flags = [*shape, f"-gdwarf-{version}"]
                    label = "".join([cc, *flags])
                    program = build(tmp / label, cc, flags)
                    places = truth(program)
                    hidden = places_of_files(silt, tmp, label, program, places)
                    made[version] += packages(silt, tmp, label, (cc, version), program, places, hidden)
                    wrong_files(silt, tmp, label, (cc, version), flags, program, places)
    print(f"{variants.checks} checks, {len(variants.failures)} failed; packages made: {made}")
    return 1 if variants.failures or not variants.checks else 0


if __name__ == "__main__":
    sys.exit(main())
