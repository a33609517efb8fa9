#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Where files are found, and which are refused: dwz files, debug links, sysroots with links of their own, odd names, programs
of odd shapes, files replaced since the capture.

Status 0, or 1 with the differences printed. Without one of the tools its part is skipped, and says so.
"""
import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import variants
from packaging import build, build_id, by_build_id, copied, have, split
from variants import SOURCE, ask, check, check_names_only, check_nothing, expect, sh, truth

DWZ_LIBRARY = "/usr/lib/x86_64-linux-gnu/libbfd-2.40-system.so"
CLONE = re.compile(r"(\.(cold|part\.\d+|constprop\.\d+|isra\.\d+|lto_priv\.\d+))+$")
# g++ gives neither a linkage name; the struct is what dwz finds worth sharing.
LOCAL_FUNCTIONS = """
struct large { int a, b, c; long d, e, f; char g[10], h[20]; struct { double x, y; } i; union { float j; short k; } l; };
namespace outer { namespace {
int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
} }
static int tri(int n) { return n < 2 ? n : tri(n - 1) * tri(n - 2) + tri(n - 3); }
int main(int argc, char **) { large x{}; x.a = argc; return outer::fib(x.a) + tri(argc); }
"""
DWZ_FILE = "/usr/lib/debug/.dwz/x86_64-linux-gnu/libbinutils.debug"


def found(silt, path, address, *options):
    """The files that were found, in the order they were tried."""
    r = subprocess.run([silt, "symbols", "-v", *options, str(path), hex(address)], capture_output=True, text=True, check=False)
    return [line[6:-len(": found")] for line in r.stderr.splitlines() if line.endswith(": found")]


def test_dwz(silt, tmp):
    if not have("dwz", "dwz files"):
        return
    for label, options, compile_as in ("dwz", [], "-gdwarf-4"), ("dwz of DWARF 5", ["-5"], "-gdwarf-5"):
        short = label.replace(" ", "-")
        a, b = build(tmp, short + "-a", compile_as), build(tmp, short + "-b", compile_as)
        places = truth(a)
        common = a.parent / "common.debug"
        r = subprocess.run(["dwz", *options, "-m", str(common), "-M", "common.debug", str(a), str(b)], capture_output=True,
                           text=True, check=False)
        if r.returncode or not common.exists():
            print(f"skip: {label}: {r.stderr.strip()}")
            continue
        check(silt, f"{label}, relative name", places, a)
        expect(f"{label}, used", str(common) in " ".join(found(silt, a, places[0][0])), "the dwz file was not needed")
        (tmp / f"{short}-dirs" / ".dwz").mkdir(parents=True)
        moved = tmp / f"{short}-dirs" / ".dwz" / "common.debug"
        shutil.move(common, moved)
        check(silt, f"{label}, in .dwz of a debug directory", places, a, "--debug-dir", str(moved.parents[1]))
        _, stderr = ask(silt, a, [places[0][0]])
        expect(f"{label}, missing", "common.debug" in stderr, stderr)
        # Another dwz file under the right name is not believed.
        c, d = build(tmp, short + "-c", compile_as, "-DOTHER", "-O1"), build(tmp, short + "-d", compile_as, "-DOTHER", "-O1")
        sh("dwz", *options, "-m", str(common), str(c), str(d))
        _, stderr = ask(silt, a, [places[0][0]])
        expect(f"{label}, another one", "missing or another build" in stderr, stderr)
    test_dwz_languages(silt, tmp)
    test_debian_dwz(silt, tmp)


def test_dwz_languages(silt, tmp):
    """Names that DWARF has without a linkage name, in units that dwz made and that have no language: as before."""
    directory = tmp / "dwz-languages"
    directory.mkdir()
    a, b = directory / "a", directory / "b"
    (directory / "a.cpp").write_text(LOCAL_FUNCTIONS)
    sh("g++", "-g", "-O2", "-o", a, directory / "a.cpp")
    symbols = [line.split() for line in sh("nm", "--defined-only", a).stdout.splitlines()]
    addresses = sorted(int(s[0], 16) for s in symbols if s[1] in "tTwW")
    before, _ = ask(silt, a, addresses)
    shutil.copy(a, b)
    r = subprocess.run(["dwz", "-m", str(directory / "common"), str(a), str(b)], capture_output=True, text=True, check=False)
    if r.returncode or not (directory / "common").exists():
        print(f"skip: dwz and languages: {r.stderr.strip()}")
        return
    after, stderr = ask(silt, a, addresses)
    wrong = [(hex(address), x, y) for address, x, y in zip(addresses, before, after) if x != y]
    names = [frames[-1]["function"] for frames in before if frames]
    expect(f"dwz and languages: {len(wrong)} of {len(addresses)} differ", not wrong, f"{wrong[:3]} {stderr}")
    expect("dwz and languages: local functions", {"outer::(anonymous namespace)::fib(int)", "tri(int)"} <= set(names), names)


def test_debian_dwz(silt, tmp):
    """A library of Debian with its own debug package, whose parts are in a dwz file."""
    if not os.path.exists(DWZ_LIBRARY) or not os.path.exists(DWZ_FILE):
        print("skip: dwz files of Debian: libbinutils-dbg is not installed")
        return
    if not have("eu-addr2line", "dwz files of Debian"):
        return
    text = next(line.split() for line in sh("readelf", "-SW", DWZ_LIBRARY).stdout.splitlines() if " .text " in line)
    at = text.index(".text")
    start, size = int(text[at + 2], 16), int(text[at + 4], 16)
    rng = random.Random(1)
    addresses = sorted(rng.randrange(start, start + size) for _ in range(3000))
    out = sh("eu-addr2line", "-f", "-e", DWZ_LIBRARY, *map(hex, addresses)).stdout.splitlines()
    want = list(zip(out[::2], out[1::2]))

    def compare(label, *options):
        answers, stderr = ask(silt, options[0] if options else DWZ_LIBRARY, addresses, *options[1:])
        equal = lines = 0
        for (function, place), frames in zip(want, answers):
            file, line = place.split(":")[:2]
            # elfutils takes the symbol's name, of a clone made by the optimizer.
            got = CLONE.sub("", frames[-1]["function"] or "??") if frames else "??"
            equal += got == CLONE.sub("", function)
            lines += bool(frames) and (frames[0]["line"] or 0) == int(line.split()[0]) and \
                os.path.basename(frames[0]["file"] or "??") == os.path.basename(file)
        expect(f"{label}: {equal} functions and {lines} lines of {len(addresses)} equal", equal > 0.99 * len(addresses)
               and lines > 0.99 * len(addresses), stderr)
        expect(f"{label}: warnings", "missing" not in stderr, stderr)

    compare("Debian's dwz file")
    root = tmp / "debian"
    for path in DWZ_LIBRARY, DWZ_FILE, str(by_build_id(Path("/usr/lib/debug"), DWZ_LIBRARY)):
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path[1:])
    compare("Debian's dwz file below a sysroot", DWZ_LIBRARY, "--sysroot", str(root))


def test_debuglink(silt, tmp):
    t = build(tmp, "link/usr/lib/pack")
    places = truth(t)
    first = places[0][0]
    debug = t.with_name("truth.debug")
    split(t, debug)
    sh("objcopy", "--add-gnu-debuglink=truth.debug", t, cwd=t.parent)
    root = tmp / "link"
    below = [t.parent / ".debug", root / "extra/usr/lib/pack", root / "extra/lib/pack", root / "usr/lib/debug/usr/lib/pack",
             root / "usr/lib/debug/lib/pack"]
    for directory in below:
        directory.mkdir(parents=True)
        shutil.copy(debug, directory)
    order = [debug] + [d / "truth.debug" for d in below]
    while order:
        options = ("--sysroot", str(root), "--debug-dir", str(root / "extra"))
        got = [f for f in found(silt, "/usr/lib/pack/truth", first, *options) if f.endswith(".debug")]
        expect(f"order of debug links: {order[0]}", got == [str(order[0])], f"{got}")
        check(silt, f"debug link {order[0].parent.relative_to(root)}", places[:3], "/usr/lib/pack/truth", *options)
        order.pop(0).unlink()
    # A link in the path: the directory as given first, then the real one.
    shutil.copy(t, tmp / "link/real")
    real = tmp / "link/elsewhere/truth"
    real.parent.mkdir()
    shutil.move(t, real)
    t.symlink_to(real)
    program = build(tmp, "link-again")
    sh("objcopy", "--only-keep-debug", program, real.with_name("truth.debug"))
    check(silt, "debug link beside the target of a link", places, t)
    # A debug file that lost its build-id is told by its checksum, an empty one is passed over.
    (real.parent / ".debug").mkdir()
    sh("objcopy", "--remove-section=.note.gnu.build-id", real.with_name("truth.debug"), real.parent / ".debug/truth.debug")
    shutil.copy(real, real.with_name("truth.debug"))
    real.unlink()
    shutil.copy(program, real)
    sh("objcopy", "--strip-all", real)
    sh("objcopy", "--add-gnu-debuglink=.debug/truth.debug", real, cwd=real.parent)
    check(silt, "debug file without build-id, by its checksum", places, real)
    # A link that leads to a directory, or elsewhere, is none.
    for name in "..", "../truth.debug", ".":
        link = tmp / "link/bad"
        link.write_bytes(name.encode() + bytes(8 - len(name) % 4 - 4) + b"\1\2\3\4")
        bad = real.with_name("bad")
        sh("objcopy", "--remove-section=.gnu_debuglink", f"--add-section=.gnu_debuglink={link}", real, bad)
        check_nothing(silt, f"debug link {name}", places, bad)


def test_sysroot(silt, tmp):
    """Links below a sysroot mean places below it."""
    root = tmp / "root"
    t = build(tmp, "root/store/bin")
    places = truth(t)
    split(t, by_build_id(root / "store/debug", t))
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/bin").mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/truth").symlink_to("/store/bin/truth")
    (root / "usr/lib/debug").symlink_to("/../../store/debug")
    for path in "/bin/truth", "bin/truth", "/bin/../../bin/./truth", "//bin//truth":
        check(silt, f"sysroot, {path}", places[:4], path, "--sysroot", str(root))
    check(silt, "sysroot with a slash", places[:4], "/bin/truth", "--sysroot", str(root) + "//")
    check(silt, "sysroot, relative", places[:4], "/bin/truth", "--sysroot", os.path.relpath(root))
    check(silt, "sysroot /", places[:4], str(t), "--sysroot", "/", "--debug-dir", str(root / "store/debug"))
    (root / "circle").symlink_to("/circle")
    for path in "/circle", "/nothing", "/bin":
        r = subprocess.run([silt, "symbols", "--sysroot", str(root), path, "0x1000"], capture_output=True, text=True, check=False)
        expect(f"sysroot, {path}", r.returncode == 3 and r.stderr.count("\n") == 1, f"{r}")


def test_names(silt, tmp):
    program = build(tmp, "names")
    places = truth(program)
    stripped = copied(program, tmp, "names-stripped")
    sh("objcopy", "--only-keep-debug", program, tmp / "names/d")
    sh("objcopy", "--strip-all", stripped)
    for name in "two words", "new\nline", "tab\t\"quotes\" 'n' $x", "-v", "ünï", "x" * 255, "a:b", "c (deleted)", "[odd]":
        directory = tmp / "odd" / name
        directory.mkdir(parents=True)
        target = directory / name
        shutil.copy(stripped, target)
        debug = name[:200] + ".debug"
        shutil.copy(tmp / "names/d", directory / debug)
        sh("objcopy", f"--add-gnu-debuglink={directory / debug}", "--", target)
        if name != "c (deleted)":
            check(silt, f"name {name!r}", places[:4], target)
            check(silt, f"name {name!r}, relative", places[:4], os.path.relpath(target))
        (directory / debug).unlink()
        r = subprocess.run([silt, "symbols", "-v", "--", str(target), "0x1"], capture_output=True, check=False)
        lines = r.stderr.splitlines()
        expect(f"name {name!r}, messages of one line", all(line.startswith(b"silt: ") for line in lines), f"{lines}")
    deep = tmp / "deep"
    while len(str(deep)) < 3900:
        deep = deep / ("d" * 100)
    deep.mkdir(parents=True)
    shutil.copy(program, deep / "truth")
    check(silt, "deep directory", places[:4], deep / "truth")


def test_files_of_symbols(silt, tmp):
    """Without lines the symbol table says which file a local symbol is from: of two functions of one name, whose each is."""
    directory = tmp / "symbol-files"
    directory.mkdir()
    for name in "one", "two":
        (directory / f"{name}.c").write_text(f"static int same(int n) {{ return n * {ord(name[0])}; }}\n"
                                             f"int {name}(int n) {{ return same(n) + 1; }}\n")
    (directory / "main.c").write_text("int one(int), two(int); int main(int c, char **v) { (void)v; return one(c) + two(c); }\n")
    program = directory / "program"
    sh("gcc", "-O1", "-fno-inline", "one.c", "two.c", "main.c", "-o", program, cwd=directory)
    symbols = [line.split() for line in sh("nm", program).stdout.splitlines()]
    local = sorted(int(s[0], 16) for s in symbols if s[-1] == "same")
    others = sorted(int(s[0], 16) for s in symbols if s[-1] in ("one", "two"))
    answers, _ = ask(silt, program, local + others)
    got = [(f["function"], f["file"], f["line"] or 0) for (f,) in answers]
    expect("files of local symbols", got[:2] == [("same", "one.c", 0), ("same", "two.c", 0)], got)
    expect("none of global ones", got[2:] == [("one", None, 0), ("two", None, 0)], got)
    sh("gcc", "-g", "-O1", "-fno-inline", "one.c", "two.c", "main.c", "-o", program, cwd=directory)
    symbols = [line.split() for line in sh("nm", program).stdout.splitlines()]
    answers, _ = ask(silt, program, sorted(int(s[0], 16) for s in symbols if s[-1] == "same"))
    got = [(f["function"], f["file"], f["line"]) for (f,) in answers]
    expect("lines before symbols", got == [("same", str(directory / f"{name}.c"), 1) for name in ("one", "two")], got)


def test_shapes(silt, tmp):
    script = tmp / "hot.ld"
    script.write_text("SECTIONS { .apart 0x5000000 : { *(.text.unlikely .text.unlikely.*) } } INSERT AFTER .bss;\n")
    shapes = (["-static"], ["-static-pie"], ["-no-pie"], ["-pie", "-Wl,-z,max-page-size=0x200000"], ["-Wl,--build-id=none"],
              ["-Wl,-z,noseparate-code"], ["-no-pie", "-Wl,-Ttext-segment=0x7f0000000000", "-mcmodel=large"],
              ["-no-pie", f"-Wl,-T,{script}"], ["-Wl,--build-id=0xabcd"], ["-Wl,--build-id=md5"],
              ["-Wl,--build-id=0x" + "5a" * 64], ["-fuse-ld=lld"], ["-fuse-ld=gold"], ["-fuse-ld=lld", "-Wl,-z,separate-loadable-segments"])
    for n, options in enumerate(shapes):
        label = " ".join(o for o in options if "hot.ld" not in o) + (" two executable segments" if "hot.ld" in str(options) else "")
        try:
            t = build(tmp, f"shape{n}", *options)
            places = truth(t)
        except (subprocess.CalledProcessError, AssertionError) as e:
            print(f"skip: cannot build {label}: {e}")
            continue
        if "two executable" in label:
            code = [line for line in sh("readelf", "-lW", t).stdout.splitlines() if "LOAD" in line and " E " in line]
            expect(f"{label}: {len(code)} segments", len(code) > 1)
        check(silt, label, places, t)
        directory = tmp / f"shape{n}-debug"
        if "Build ID" not in sh("readelf", "-n", t).stdout:
            continue
        split(t, by_build_id(directory, t))
        check(silt, f"{label}, debug file", places, t, "--debug-dir", str(directory))
        if shutil.which("llvm-strip") and subprocess.run(["llvm-strip", "--strip-sections", str(t)], check=False).returncode == 0:
            check(silt, f"{label}, no section headers", places, t, "--debug-dir", str(directory))


def report_frames(silt, dump, *options):
    """(functions of the program's own frames, warnings) of `silt show`."""
    r = subprocess.run([silt, "show", "--json", *options, str(dump)], capture_output=True, text=True, check=False)
    expect("show", r.returncode == 0, r.stderr)
    document = json.loads(r.stdout)
    frames = [f for s in document["stacks"] for f in s["frames"] if re.search(r"/victim$", f["module"] or "")]
    return {f["function"] for f in frames} - {None}, " ".join(document["warnings"])


def test_replaced(silt, tmp):
    """A program replaced since the capture: no names of the new one, and a warning that says why."""
    source = tmp / "victim.c"
    source.write_text("#include <stdlib.h>\nvoid *keep;\n"
                      "__attribute__((noinline)) void NAME(void) { keep = malloc(12345); }\nint main(void) { NAME(); return 0; }\n")
    victim = tmp / "victim"

    def compile_victim(name, target, *options):
        sh("gcc", "-g", "-O1", f"-DNAME={name}", *options, source, "-o", target)

    for label, options in ("with build-id", ["-Wl,--build-id=sha1"]), ("without build-id", ["-Wl,--build-id=none"]):
        compile_victim("old_name", victim, *options)
        dump = tmp / "victim.silt"
        r = subprocess.run([silt, "run", "-o", str(dump), "--", str(victim)], capture_output=True, text=True, check=False)
        if r.returncode or not dump.exists():
            print(f"skip: replaced files: silt run failed here: {r.stderr.strip()}")
            return
        names, _ = report_frames(silt, dump)
        expect(f"{label}: before", "old_name" in names, f"{names}")
        old = tmp / "old" / str(victim)[1:]
        old.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(victim, old)
        compile_victim("new_name", tmp / "new", "-DPADDING", *options)
        victim.unlink()
        os.rename(tmp / "new", victim)
        names, warnings = report_frames(silt, dump)
        expect(f"{label}: replaced", not names, f"{names}")
        expect(f"{label}: warning", "another build" in warnings or "changed after the capture" in warnings, warnings)
        names, warnings = report_frames(silt, dump, "--sysroot", str(tmp / "old"))
        expect(f"{label}: the old one below a sysroot", "old_name" in names, f"{names} {warnings}")
        victim.unlink()
        names, warnings = report_frames(silt, dump)
        expect(f"{label}: deleted", not names and "missing" in warnings, f"{names} {warnings}")


def test_changed_root(silt, tmp):
    """A dump of a program in a chroot names files as they are seen from outside: below the sysroot already."""
    root = tmp / "chroot"
    (root / "opt").mkdir(parents=True)
    (root / "usr/lib/debug/opt").mkdir(parents=True)
    (tmp / "inside.c").write_text("#include <stdlib.h>\nvoid *keep;\n"
                                  "static __attribute__((noinline)) void here(void) { keep = malloc(12345); }\n"
                                  "int main(void) { here(); return 0; }\n")
    program = root / "opt/victim"
    sh("gcc", "-g", "-O1", "-Wl,--build-id=sha1", tmp / "inside.c", "-o", program)
    sh("objcopy", "--only-keep-debug", program, root / "usr/lib/debug/opt/victim.debug")
    sh("objcopy", "--strip-all", f"--add-gnu-debuglink={root}/usr/lib/debug/opt/victim.debug", program)
    dump = tmp / "inside.silt"
    r = subprocess.run([silt, "run", "-o", str(dump), "--", str(program)], capture_output=True, text=True, check=False)
    if r.returncode or not dump.exists():
        print(f"skip: a changed root: silt run failed here: {r.stderr.strip()}")
        return
    names, _ = report_frames(silt, dump)
    expect("changed root: the debug file is not found from outside", not names, f"{names}")
    for sysroot in str(root), os.path.relpath(root) + "/":
        names, warnings = report_frames(silt, dump, "--sysroot", sysroot)
        expect(f"changed root, {sysroot}", "here" in names, f"{names} {warnings}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--silt", required=True)
    args = p.parse_args()
    silt = os.path.abspath(args.silt)
    with tempfile.TemporaryDirectory(prefix="silt-files-") as name:
        tmp = Path(name)
        for test in test_dwz, test_debuglink, test_sysroot, test_names, test_files_of_symbols, test_shapes, test_replaced, test_changed_root:
            test(silt, tmp)
    print(f"{variants.checks} checks, {len(variants.failures)} failed")
    return 1 if variants.failures else 0


if __name__ == "__main__":
    sys.exit(main())
