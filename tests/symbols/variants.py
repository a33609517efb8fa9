#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds fixtures/truth.c in many ways, lets it say where its own places are, and asks `silt symbols` for them.

Every compiler and DWARF version is tested plain; every way of packaging debug information is tested for each compiler.
Status 0, or 1 with the differences printed.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import oracle

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "fixtures" / "truth.c"
failures = []
checks = 0


def sh(*command, **options):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True, **options)


def truth(program):
    """[(address, [(function, line), …])] as the program itself says."""
    out = subprocess.run([str(program)], capture_output=True, text=True, check=False).stdout
    result = []
    for line in out.splitlines():
        address, *chain = line.split()
        result.append((int(address, 16), [(f, int(n)) for f, n in (c.split(":") for c in chain)]))
    assert len(result) > 10, out
    return result


def ask(silt, path, addresses, *options):
    r = subprocess.run([silt, "symbols", "--json", *options, str(path)] + [hex(a) for a in addresses],
                       capture_output=True, text=True, check=False)
    assert r.returncode == 0, f"status {r.returncode}: {r.stderr}"
    return [json.loads(line)["frames"] for line in r.stdout.splitlines()], r.stderr


def expect(what, good, detail=""):
    global checks
    checks += 1
    if not good:
        failures.append(what)
        print(f"FAILED {what}: {detail}")


def check(silt, name, places, path, *options):
    """The file answers every place with the right functions, lines and file."""
    answers, stderr = ask(silt, path, [a for a, _ in places], *options)
    for (address, chain), frames in zip(places, answers):
        got = [(f["function"], f["line"]) for f in frames]
        files = {Path(f["file"] or "").name for f in frames}
        flags = [f["inlined"] for f in frames]
        expect(f"{name} {address:#x}", got == chain and files == {SOURCE.name}
               and flags == [True] * (len(frames) - 1) + [False], f"want {chain}, got {got} in {files}; {stderr}")


def check_names_only(silt, name, places, path, *options):
    """Nothing but symbol tables: the physical function, no line."""
    answers, _ = ask(silt, path, [a for a, _ in places], *options)
    for (address, chain), frames in zip(places, answers):
        got = [(f["function"], f["line"]) for f in frames]
        want = [(chain[-1][0], None)]
        # The cold part of a function has a symbol of its own.
        expect(f"{name} {address:#x}", got == want or got == [(want[0][0] + ".cold", None)], f"want {want}, got {got}")


def check_nothing(silt, name, places, path, *options):
    """Wrong files must not give names: of static functions nothing at all is known."""
    answers, stderr = ask(silt, path, [a for a, c in places if c[-1][0] == "hidden"], *options)
    expect(name, all(not f for f in answers), f"{answers} {stderr}")


def package(silt, tmp, label, program, places):
    """All the ways debug information travels."""
    def copy(name):
        target = tmp / f"{label}-{name}" / "truth"
        target.parent.mkdir(parents=True)
        shutil.copy(program, target)
        return target

    def split(target, debug):
        debug.parent.mkdir(parents=True, exist_ok=True)
        sh("objcopy", "--only-keep-debug", program, debug)
        sh("objcopy", "--strip-all", target)

    def build_id(path):
        notes = sh("readelf", "-n", path).stdout
        return notes.split("Build ID:")[1].split()[0]

    for how in "zlib", "zlib-gnu":
        t = copy(how)
        sh("objcopy", "--compress-debug-sections=" + how, t)
        check(silt, f"{label} {how}", places, t)
    t = copy("debuglink")
    split(t, t.with_name("truth.debug"))
    sh("objcopy", "--add-gnu-debuglink=truth.debug", t, cwd=t.parent)
    check(silt, f"{label} debuglink", places, t)
    (t.parent / ".debug").mkdir()
    t.with_name("truth.debug").rename(t.parent / ".debug" / "truth.debug")
    check(silt, f"{label} debuglink in .debug", places, t)
    below = tmp / f"{label}-prefix"
    (Path(str(below) + str(t.parent))).mkdir(parents=True)
    (t.parent / ".debug" / "truth.debug").rename(Path(str(below) + str(t.parent)) / "truth.debug")
    check(silt, f"{label} debuglink below a debug directory", places, t, "--debug-dir", str(below))
    check_nothing(silt, f"{label} debug file not found", places, t)

    t = copy("buildid")
    i = build_id(t)
    directory = tmp / f"{label}-ids"
    split(t, directory / ".build-id" / i[:2] / (i[2:] + ".debug"))
    check(silt, f"{label} build-id", places, t, "--debug-dir", str(directory))
    check(silt, f"{label} second debug directory", places, t, "--debug-dir", "/nowhere", "--debug-dir", str(directory))
    root = tmp / f"{label}-root"
    (root / "opt").mkdir(parents=True)
    (root / "usr/lib").mkdir(parents=True)
    shutil.copytree(directory, root / "usr/lib/debug")
    shutil.copy(t, root / "opt/truth")
    check(silt, f"{label} sysroot", places, "/opt/truth", "--sysroot", str(root))

    # A debug file of another build under the right name.
    other = tmp / f"{label}-other"
    sh("gcc", "-g", "-DOTHER=1", "-O1", "-Wl,--build-id=0x1234567890", SOURCE, "-o", other)
    wrong = tmp / f"{label}-wrong"
    (wrong / ".build-id" / i[:2]).mkdir(parents=True)
    shutil.copy(other, wrong / ".build-id" / i[:2] / (i[2:] + ".debug"))
    check_nothing(silt, f"{label} wrong build-id", places, t, "--debug-dir", str(wrong))

    # Without a build-id the checksum decides.
    t = copy("crc")
    debug = t.with_name("truth.debug")
    split(t, debug)
    sh("objcopy", "--remove-section=.note.gnu.build-id", debug)
    sh("objcopy", "--remove-section=.note.gnu.build-id", "--add-gnu-debuglink=truth.debug", t, cwd=t.parent)
    if "Build ID" not in sh("readelf", "-n", t).stdout:
        check(silt, f"{label} checksum", places, t)
        with open(debug, "ab") as f:
            f.write(b"x")
        check_nothing(silt, f"{label} wrong checksum", places, t)

    t = copy("symtab")
    sh("objcopy", "--strip-debug", t)
    check_names_only(silt, f"{label} symtab", places, t)

    # Half a debug file: whatever is left must not be wrong.
    t = copy("cut")
    data = t.read_bytes()
    t.write_bytes(data[:len(data) * 2 // 3])
    r = subprocess.run([silt, "symbols", str(t), hex(places[0][0])], capture_output=True, text=True, check=False)
    expect(f"{label} cut", r.returncode in (0, 3), f"{r}")

    if shutil.which("dwz"):
        package_dwz(silt, tmp, label, program, places, copy)


def package_dwz(silt, tmp, label, program, places, copy):
    t = copy("dwz")
    if subprocess.run(["dwz", str(t)], capture_output=True, check=False).returncode == 0:
        check(silt, f"{label} dwz", places, t)
    a, b = copy("multi"), tmp / f"{label}-multi" / "twin"
    shutil.copy(program, b)
    common = a.with_name("common.debug")
    r = subprocess.run(["dwz", "-m", str(common), "-M", str(common), str(a), str(b)], capture_output=True, text=True, check=False)
    if r.returncode or not common.exists():
        print(f"{label}: dwz makes no common file of this: {r.stderr.strip()}")
        return
    check(silt, f"{label} dwz common file", places, a)
    check(silt, f"{label} dwz common file, twin", places, b)
    common.rename(common.with_name("moved.debug"))
    _, stderr = ask(silt, a, [places[0][0]])
    expect(f"{label} dwz file missing", "common.debug" in stderr, stderr)


def ask_many(silt, program, addresses):
    """(lines of the answer, what stands on stderr) for addresses on standard input."""
    r = subprocess.run([silt, "symbols", "--json", "--no-cache", str(program)], input="".join(f"{a:#x}\n" for a in addresses),
                       capture_output=True, text=True, check=False)
    expect(f"{program} is read", r.returncode == 0 and "parser" not in r.stderr, r.stderr)
    return r.stdout.splitlines(), r.stderr


def damage_section(path, name):
    """Overwrites the middle of a section."""
    for line in sh("readelf", "-SW", path).stdout.splitlines():
        words = line.replace("[", " ").replace("]", " ").split()
        if len(words) > 5 and words[1] == name:
            offset, size = int(words[4], 16), int(words[5], 16)
            with open(path, "r+b") as f:
                f.seek(offset + size // 2)
                f.write(b"\xff" * min(64, size // 2))
            return
    raise AssertionError(f"{path} has no {name}")


def check_many(silt, tmp):
    """Many addresses are shared out among processes, which share what is compressed, too: each has the answer it has alone.
    The program is silt itself, which has many units."""
    program, built = tmp / "many", tmp / "many-built"
    sh("objcopy", "--decompress-debug-sections", silt, built)
    addresses = oracle.pick(built, 3000, 1)
    forms = {"plain": [], "zlib": ["--compress-debug-sections=zlib"], "zlib-gnu": ["--compress-debug-sections=zlib-gnu"],
             "zstd": ["--compress-debug-sections=zstd"], "without index": ["-R", ".debug_aranges"]}
    shutil.copy(built, program)
    alone = [line for at in range(0, len(addresses), 400) for line in ask_many(silt, program, addresses[at:at + 400])[0]]
    expect("many addresses have lines", sum('"line":null' not in line for line in alone) > len(alone) / 2 > 1024, len(alone))
    for name, options in forms.items():
        if subprocess.run(["objcopy", *options, str(built), str(program)], capture_output=True, check=False).returncode:
            print(f"not tested: objcopy does not know {name}")
            continue
        expect(f"many addresses, {name}", ask_many(silt, program, addresses)[0] == alone)
    sh("objcopy", "--compress-debug-sections=zlib", built, program)
    damage_section(program, ".debug_line")
    lines, stderr = ask_many(silt, program, addresses)
    expect("a damaged section is told of once", stderr.count("cannot be decompressed") == 1, stderr)
    functions = [[[f["function"] for f in json.loads(line)["frames"][-1:]] for line in answers] for answers in (alone, lines)]
    lost = sum(a != b and a != [None] for a, b in zip(*functions))
    expect("a damaged section costs no names", lost == 0, lost)
    expect("a damaged section costs lines", sum('"line":null' in line for line in lines) > len(lines) / 2)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--silt", required=True)
    args = p.parse_args()
    silt = os.path.abspath(args.silt)
    shapes = ["-O0", "-O2", "-Os", "-O2 -flto", "-O2 -no-pie -fno-pie", "-O2 -ffunction-sections -Wl,--gc-sections",
              "-O1 -Wl,-z,separate-code -Wl,-z,max-page-size=0x200000", "-O2 -static"]
    with tempfile.TemporaryDirectory(prefix="silt-symbols-") as name:
        tmp = Path(name)
        for cc in [c for c in ("gcc", "clang") if shutil.which(c)]:
            for n, shape in enumerate(shapes):
                for version in (2, 3, 4, 5):
                    if n > 1 and version in (2, 3):
                        continue
                    program = tmp / f"{cc}-{n}-{version}"
                    r = subprocess.run([cc, *shape.split(), f"-gdwarf-{version}", "-Wl,--build-id=sha1", str(SOURCE), "-o",
                                        str(program)], capture_output=True, text=True, check=False)
                    if r.returncode:
                        print(f"not tested, {cc} cannot build {shape}: {r.stderr.strip().splitlines()[-1:]}")
                        continue
                    places = truth(program)
                    label = f"{cc} {shape} DWARF {version}"
                    check(silt, label, places, program)
                    if n == 1 and version >= 4:
                        package(silt, tmp, f"{cc}{version}", program, places)
        check_many(silt, tmp)
    print(f"{checks} checks, {len(failures)} failed")
    return 1 if failures or not checks else 0


if __name__ == "__main__":
    sys.exit(main())
