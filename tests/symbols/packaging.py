#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How debug information travels: compressed in every way, as mini debug information, moved by prelink, shared through dwz,
below a sysroot, under odd names. Each fixture of truth.c says itself what must be answered; variants.py asks.

Status 0, or 1 with the differences printed. Without one of the tools its part is skipped, and says so.
"""
import argparse
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import variants
from variants import SOURCE, check, check_names_only, check_nothing, expect, sh, truth


def have(tool, what):
    if shutil.which(tool):
        return True
    print(f"skip: {what}: {tool} is missing")
    return False


def build(tmp, name, *options, compiler="gcc"):
    target = tmp / name / "truth"
    target.parent.mkdir(parents=True)
    sh(compiler, "-O2", "-g", "-Wl,--build-id=sha1", *options, SOURCE, "-o", target)
    return target


def build_id(path):
    notes = sh("readelf", "-n", path).stdout
    return notes.split("Build ID:")[1].split()[0]


def by_build_id(directory, path):
    """Where a debug file of this program belongs below a debug directory."""
    i = build_id(path)
    target = directory / ".build-id" / i[:2] / (i[2:] + ".debug")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def split(program, debug):
    sh("objcopy", "--only-keep-debug", program, debug)
    sh("objcopy", "--strip-all", program)


def copied(program, tmp, name):
    target = tmp / name / "truth"
    target.parent.mkdir(parents=True)
    shutil.copy(program, target)
    return target


def sections(path):
    """{name: (offset, size)} of an ELF file of 64 bits."""
    data = path.read_bytes()
    shoff, = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    heads = [struct.unpack_from("<IIQQQQIIQQ", data, shoff + i * size) for i in range(count)]
    base = heads[names][4]
    return {data[base + h[0]:data.index(0, base + h[0])].decode(): (h[4], h[5]) for h in heads}


def test_compression(silt, tmp, program, places):
    for how in "zlib", "zlib-gnu", "zlib-gabi", "zstd":
        t = copied(program, tmp, "objcopy-" + how)
        if subprocess.run(["objcopy", "--compress-debug-sections=" + how, str(t)], capture_output=True, check=False).returncode:
            print(f"skip: objcopy cannot compress with {how}")
            continue
        check(silt, f"objcopy {how}", places, t)
        debug = by_build_id(tmp / f"debug-{how}", t)
        split(t, debug)
        check(silt, f"debug file with {how}", places, t, "--debug-dir", str(tmp / f"debug-{how}"))
    if have("eu-elfcompress", "compressed symbol tables"):
        for how in "zlib", "gnu":
            t = copied(program, tmp, "elfcompress-" + how)
            sh("eu-elfcompress", "-t", how, "-f", t)
            check(silt, f"eu-elfcompress {how}", places, t)
        # Everything that is not loaded, symbols and their names too.
        t = copied(program, tmp, "elfcompress-all")
        sh("objcopy", "--strip-debug", t)
        if subprocess.run(["eu-elfcompress", "-t", "zlib", "-f", "-n", ".symtab", "-n", ".strtab", str(t)],
                          capture_output=True, check=False).returncode == 0:
            check_names_only(silt, "compressed symbol table", places, t)
    # One of the sections damaged: no crash, and what is left is right.
    t = copied(program, tmp, "damaged-zlib")
    sh("objcopy", "--compress-debug-sections=zlib", t)
    offset, size = sections(t)[".debug_line"]
    data = bytearray(t.read_bytes())
    data[offset + 24:offset + size] = bytes(size - 24)
    t.write_bytes(data)
    answers, _ = variants.ask(silt, t, [a for a, _ in places])
    expect("damaged .debug_line", all(f[-1]["function"] == c[-1][0] for (_, c), f in zip(places, answers)), f"{answers}")
    # A section that claims a thousand gigabytes, and one that claims what would fill the memory.
    for claim in 1 << 40, 1500 << 20:
        data = bytearray(t.read_bytes())
        for name in ".debug_info", ".debug_line":
            struct.pack_into("<Q", data, sections(t)[name][0] + 8, claim)
        t.write_bytes(data)
        answers, stderr = variants.ask(silt, t, [places[0][0]])
        expect(f"claim of {claim}", "not believed" in stderr and answers[0][-1]["function"] == places[0][1][-1][0], stderr)


def mini_debug_information(program, tmp, compress=("xz", "-9")):
    """As Fedora's find-debuginfo makes it: the functions that .dynsym lacks, in an ELF file of their own."""
    def names(*options):
        out = sh("nm", "--format=posix", "--defined-only", *options, program).stdout
        return {line.split()[0].split("@")[0]: line.split()[1] for line in out.splitlines()}

    dynamic = names("-D")
    keep = [n for n, kind in names().items() if kind in "tTwWiI" and n not in dynamic]
    listed = tmp / "keep"
    listed.write_text("\n".join(keep) + "\n")
    debug, mini = tmp / "mini.debug", tmp / "mini"
    sh("objcopy", "--only-keep-debug", program, debug)
    sh("objcopy", "-S", "--remove-section=.gdb_index", "--remove-section=.comment", f"--keep-symbols={listed}", debug, mini)
    sh(*compress, "-k", "-f", mini)
    return next(p for p in (mini.with_suffix(".xz"), mini.with_suffix(".lzma")) if p.exists())


def test_mini_debug_information(silt, tmp):
    if not have("xz", "mini debug information"):
        return
    for label, options in ("", []), (" of a library", ["-rdynamic"]):
        for compress in ("xz", "-9"), ("xz", "-0", "--check=crc32"), ("xz", "--format=lzma"):
            name = f"mini{label}{compress[1]}".replace(" ", "-").replace("=", "")
            t = build(tmp, name, *options)
            places = truth(t)
            packed = mini_debug_information(t, t.parent, compress)
            sh("objcopy", "--strip-all", t)
            if label == "":
                check_nothing(silt, f"{name} stripped", places, t)
            sh("objcopy", f"--add-section=.gnu_debugdata={packed}", t)
            check_names_only(silt, name, places, t)
            data = bytearray(t.read_bytes())
            offset, size = sections(t)[".gnu_debugdata"]
            for at in offset + size // 2, offset + size - 9:
                data[at] ^= 0x55
            t.write_bytes(data)
            answers, stderr = variants.ask(silt, t, [a for a, c in places if c[-1][0] == "hidden"])
            expect(f"{name} damaged", all(not f for f in answers) and "gnu_debugdata" in stderr, f"{answers} {stderr}")
    # A bomb: two gigabytes of zeros in 300 kilobytes.
    t = build(tmp, "bomb")
    places = truth(t)
    sh("objcopy", "--strip-all", t)
    packed = tmp / "bomb" / "zeros.xz"
    with open(packed, "wb") as out:
        zeros = subprocess.Popen(["head", "-c", str(2 << 30), "/dev/zero"], stdout=subprocess.PIPE)
        subprocess.run(["xz", "-0", "-T1"], stdin=zeros.stdout, stdout=out, check=True)
        zeros.wait()
    sh("objcopy", f"--add-section=.gnu_debugdata={packed}", t)
    answers, stderr = variants.ask(silt, t, [places[0][0]])
    expect("mini debug information that is a bomb", "too much memory" in stderr, stderr)


def test_moved(silt, tmp):
    """A program moved after its debug file was split off, as prelink did: the DWARF has the old addresses."""
    for by in 0x100000, -0x2000:
        t = build(tmp, f"moved{by}", "-no-pie", "-fno-pie", "-static")
        places = truth(t)
        directory = tmp / f"moved-debug{by}"
        debug = by_build_id(directory, t)
        split(t, debug)
        sh("objcopy", f"--change-addresses={by}", t)
        moved = [(a + by, c) for a, c in places]
        check(silt, f"moved by {by:#x}", moved, t, "--debug-dir", str(directory))
        # Debug file without DWARF: its symbol table has the old addresses too.
        sh("objcopy", "--strip-debug", debug)
        check_names_only(silt, f"moved by {by:#x}, symbols", moved, t, "--debug-dir", str(directory))


def test_not_linked(silt, tmp):
    """Object files are not relocated: their line tables would give lines of other functions."""
    t = tmp / "object.o"
    sh("gcc", "-g", "-O2", "-w", "-c", "-ffunction-sections", variants.SOURCE, "-o", t)
    answers, stderr = variants.ask(silt, t, [0, 1, 2])
    expect("an object file has no lines", all(f["line"] is None for frames in answers for f in frames), answers)
    expect("an object file is told of", "not linked yet" in stderr, stderr)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--silt", required=True)
    args = p.parse_args()
    silt = os.path.abspath(args.silt)
    with tempfile.TemporaryDirectory(prefix="silt-packaging-") as name:
        tmp = Path(name)
        program = build(tmp, "plain")
        places = truth(program)
        check(silt, "plain", places, program)
        test_compression(silt, tmp, program, places)
        test_mini_debug_information(silt, tmp)
        test_moved(silt, tmp)
        test_not_linked(silt, tmp)
    print(f"{variants.checks} checks, {len(variants.failures)} failed")
    return 1 if variants.failures else 0


if __name__ == "__main__":
    sys.exit(main())
