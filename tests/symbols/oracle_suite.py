#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds C, C++ and Rust programs and compares silt's answers for them, and for libc, with other symbolizers."""
import argparse
import shutil
import sys
import subprocess
import tempfile
from pathlib import Path

import oracle

FIXTURES = Path(__file__).resolve().parent / "fixtures"
BUILDS = [
    ("truth.c", ["gcc", "-g", "-O2"]),
    ("truth.c", ["clang", "-g", "-O2"]),
    ("templates.cpp", ["g++", "-gdwarf-5", "-O0"]),
    ("templates.cpp", ["g++", "-gdwarf-4", "-O2"]),
    ("templates.cpp", ["g++", "-gdwarf-5", "-O2", "-flto"]),
    ("templates.cpp", ["clang++", "-gdwarf-4", "-O2"]),
    ("templates.cpp", ["clang++", "-gdwarf-5", "-O2"]),
    ("traits.rs", ["rustc", "-g", "-O"]),
    ("traits.rs", ["rustc", "-g"]),
    ("modules.f90", ["gfortran", "-g", "-O0"]),
    ("modules.f90", ["gfortran", "-g", "-O2"]),
]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--silt", required=True)
    p.add_argument("--count", type=int, default=600)
    args = p.parse_args()
    llvm = shutil.which("llvm-symbolizer-14") or shutil.which("llvm-symbolizer")
    if not llvm or not shutil.which("eu-addr2line"):
        print("skipped: eu-addr2line (elfutils) and llvm-symbolizer (llvm) are needed")
        return 77
    good = True
    with tempfile.TemporaryDirectory(prefix="silt-oracle-") as name:
        for n, (source, command) in enumerate(BUILDS):
            if not shutil.which(command[0]):
                print(f"not tested: {command[0]} is missing")
                continue
            program = Path(name) / f"program{n}"
            r = subprocess.run([*command, str(FIXTURES / source), "-o", str(program)], capture_output=True, text=True, check=False)
            if r.returncode:
                print(f"not tested: {' '.join(command)} {source}: {r.stderr.strip().splitlines()[-1:]}")
                continue
            print(" ".join(command), source)
            good &= oracle.compare(str(program), args.silt, llvm, args.count, n)
        libc = "/lib/x86_64-linux-gnu/libc.so.6"
        if Path(libc).exists():
            good &= oracle.compare(libc, args.silt, llvm, 2 * args.count, 99)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
