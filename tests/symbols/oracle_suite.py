#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds programs of every language, compiler, optimization and packaging, and compares silt's answers for random addresses
of them, of the C library, Python, the C++ library and silt itself with those of eu-addr2line and llvm-symbolizer.

A part of that in short; everything, at least 100,000 addresses, with SILT_SOAK=1 or --full. Further files (a big program with
debug information) are named in SILT_ORACLE_FILES, separated by colons.
"""
import argparse
import collections
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import oracle

FIXTURES = Path(__file__).resolve().parent / "fixtures"
REQUIRED_ADDRESSES = 100000
Build = collections.namedtuple("Build", "source compiler flags after quick", defaults=((), False))

CXX = {"gcc": "g++", "clang": "clang++"}
# eu-addr2line finds units by .debug_aranges only; clang writes them when it is told to.
ARANGES = {"gcc": [], "clang": ["-gdwarf-aranges"]}


def c_builds(cc):
    """C and C++ by one compiler: versions and optimizations."""
    cxx, extra = CXX[cc], ARANGES[cc]
    for version in 2, 3, 4, 5:
        for level in "-O0", "-O1", "-O2", "-O3", "-Os":
            flags = ["-g", f"-gdwarf-{version}", level, *extra]
            yield Build("truth.c", cc, flags, quick=(version, level) == (5, "-O2"))
            if version >= 4 or level == "-O2":
                yield Build("templates.cpp", cxx, flags, quick=(version, level) == (5, "-O2"))
    yield Build("templates.cpp", cxx, ["-g", "-O2"], quick=cc == "clang")


def packed_builds(cc):
    """Ways of compiling and linking that change where the information is."""
    cxx, extra = CXX[cc], ["-g", *ARANGES[cc]]
    for flags in (["-O2", "-ffunction-sections", "-Wl,--gc-sections"], ["-O2", "-no-pie", "-fno-pie"], ["-O2", "-static-pie"],
                  ["-O2", "-gz"], ["-g1", "-O2"], ["-O2", "-gdwarf-5", "-gdwarf64"],
                  ["-O2", "-gdwarf-4", "-fdebug-types-section"], ["-O2", "-gdwarf-5", "-fdebug-types-section"],
                  ["-O2", "-ffunction-sections", "-fuse-ld=lld", "-Wl,--icf=all"],
                  ["-O2", "-Wl,-z,separate-code", "-Wl,-z,max-page-size=0x200000"]):
        yield Build("templates.cpp", cxx, [*extra, *flags])
    yield Build("templates.cpp", cxx, [*extra, "-gdwarf-4", "-gsplit-dwarf", "-O2"], quick=cc == "gcc")
    yield Build("templates.cpp", cxx, [*extra, "-gdwarf-5", "-gsplit-dwarf", "-O2"], quick=cc == "clang")
    yield Build("templates.cpp", cxx, [*extra, "-O2", "-ggnu-pubnames", "-fuse-ld=gold", "-Wl,--gdb-index"],
                [["objcopy", "-R", ".debug_aranges", "PROGRAM"]])
    yield Build("templates.cpp", cxx, [*extra, "-O2", "-ffunction-sections", "-fuse-ld=gold", "-Wl,--icf=all"])
    if cc == "gcc":
        yield Build("templates.cpp", cxx, [*extra, "-O2"], [["dwz", "PROGRAM"]], quick=True)
    else:
        yield Build("templates.cpp", cxx, [*extra, "-O2", "-gline-tables-only"])
        yield Build("templates.cpp", cxx, [*extra, "-O2", "-gdwarf-5", "-gsplit-dwarf", "-fsplit-dwarf-inlining"])
        yield Build("templates.cpp", cxx, [*extra, "-O2", "-gdwarf-5", "-gpubnames"])


def lto_builds():
    """across.c becomes two objects first, for code of one unit in the other."""
    yield Build("across.c", "gcc", ["-g", "-O2", "-flto"], quick=True)
    yield Build("across.c", "gcc", ["-g", "-O3", "-flto", "-gdwarf-4"])
    yield Build("across.c", "gcc", ["-g", "-Os", "-flto"])
    yield Build("across.c", "clang", ["-g", "-O2", "-flto=thin", "-fuse-ld=lld"], quick=True)
    yield Build("across.c", "clang", ["-g", "-O2", "-flto", "-fuse-ld=lld"])
    yield Build("templates.cpp", "g++", ["-g", "-gdwarf-5", "-O2", "-flto"])
    yield Build("templates.cpp", "g++", ["-g", "-gdwarf-4", "-O3", "-flto"])
    yield Build("templates.cpp", "clang++", ["-g", "-O2", "-flto=thin", "-fuse-ld=lld"])


def other_builds():
    """Other languages."""
    for flags in ([], ["-O"], ["-C", "opt-level=s"], ["-O", "-C", "lto=fat"], ["-O", "-C", "lto=thin", "-C", "codegen-units=4"],
                  ["-O", "-C", "symbol-mangling-version=v0"]):
        yield Build("traits.rs", "rustc", ["-g", *flags], quick=flags == ["-O"])
    for flags in ["-O0"], ["-O2"], ["-O3", "-flto"]:
        yield Build("modules.f90", "gfortran", ["-g", *flags], quick=flags == ["-O2"])
    for flags in ["-O0"], ["-O2"]:
        yield Build("closures.d", "gdc", ["-g", *flags])
    for flags in [], ["-O"]:
        yield Build("closures.d", "ldc2", ["-g", *flags])
    yield Build("generics.go", "go", [])
    yield Build("generics.go", "go", ["-gcflags=all=-N -l", "-ldflags=-compressdwarf=false"])
    for flags in [], ["-g"], ["-gdwarf-2"], ["-gdwarf-5"]:
        yield Build("labels.S", "gcc", flags, quick=not flags)
        yield Build("labels.S", "clang", flags)


def all_builds():
    for cc in "gcc", "clang":
        yield from c_builds(cc)
        yield from packed_builds(cc)
    yield from lto_builds()
    yield from other_builds()


def commands(build, program):
    """What makes the program; files beside it (.dwo, .mod) come into its directory."""
    source = str(FIXTURES / build.source)
    if build.compiler == "go":
        yield ["go", "build", *build.flags, "-o", str(program), source]
    elif build.compiler == "ldc2":
        yield ["ldc2", *build.flags, source, "-of=" + str(program)]
    elif build.source == "across.c":
        for part in "1", "2":
            yield [build.compiler, *build.flags, "-DPART=" + part, "-c", source, "-o", f"part{part}.o"]
        yield [build.compiler, *build.flags, "part1.o", "part2.o", "-o", str(program)]
    else:
        quiet = [] if build.compiler == "rustc" else ["-w"]
        yield [build.compiler, *quiet, *build.flags, source, "-o", str(program)]
    for command in build.after:
        yield [str(program) if word == "PROGRAM" else word for word in command]


def make(build, directory):
    """The program, or None when a tool is missing or refuses."""
    what = " ".join([build.compiler, *build.flags, build.source])
    program = directory / "program"
    env = dict(os.environ, HOME=str(directory), GOFLAGS="-mod=mod", GOCACHE=str(directory / "cache"), GO111MODULE="off")
    for name in "CARGO_HOME", "RUSTUP_HOME":
        # rustup's wrappers look below the home directory otherwise.
        env.setdefault(name, os.path.join(os.path.expanduser("~"), {"CARGO_HOME": ".cargo", "RUSTUP_HOME": ".rustup"}[name]))
    directory.mkdir()
    for command in commands(build, program):
        if not shutil.which(command[0]):
            print(f"not tested: {command[0]} is missing: {what}")
            return None
        r = subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, check=False)
        if r.returncode:
            print(f"not tested: {what}: {r.stderr.strip().splitlines()[-1:]}")
            return None
    print(what, flush=True)
    return str(program)


def system_files(silt):
    """(file, share of the count): programs with debug information that Debian or we made."""
    yield "/lib/x86_64-linux-gnu/libc.so.6", 20
    yield os.path.realpath(silt), 4
    for pattern in ("/usr/bin/python3.11", "/usr/bin/python3.11-dbg", "/usr/lib/x86_64-linux-gnu/debug/libstdc++.so.6"):
        for path in glob.glob(pattern):
            yield path, 12
    for path in os.environ.get("SILT_ORACLE_FILES", "").split(":"):
        if path:
            yield path, 4


def programs(args, tmp):
    """(path, addresses) of everything to compare."""
    for n, build in enumerate(all_builds()):
        if args.full or build.quick:
            path = make(build, tmp / str(n))
            if path:
                yield path, args.count
                shutil.rmtree(tmp / str(n))
    for path, share in system_files(args.silt):
        if not os.path.exists(path):
            print(f"not tested: {path} is missing")
        elif args.full or path.startswith("/lib"):
            yield path, args.count * share if args.full else 2 * args.count


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--silt", required=True)
    p.add_argument("--full", action="store_true", default=bool(os.environ.get("SILT_SOAK")))
    p.add_argument("--count", type=int, help="addresses of each program built here")
    args = p.parse_args()
    args.count = args.count or (1000 if args.full else 250)
    llvm = shutil.which("llvm-symbolizer-14") or shutil.which("llvm-symbolizer")
    if not llvm or not shutil.which("eu-addr2line"):
        print("skip: eu-addr2line (elfutils) and llvm-symbolizer (llvm) are needed")
        return 77
    total, good, start = oracle.Tally(), True, time.time()
    with tempfile.TemporaryDirectory(prefix="silt-oracle-") as name:
        for seed, (path, count) in enumerate(programs(args, Path(name))):
            tally = oracle.compare(path, args.silt, llvm, count, seed, quiet=True)
            good &= tally is not None and tally.is_good()
            if tally:
                total.add(tally)
    print(f"all: {total}; {time.time() - start:.0f} s")
    if not total.agree or (args.full and total.addresses < REQUIRED_ADDRESSES):
        print(f"too few were compared: {total.addresses} addresses, of which the tools agree on {total.agree}")
        good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
