#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""silt symbols from outside: addr2line's form byte for byte, JSON, input as it comes, lists of modules, messages.

usage: symbols.py SILT MAKE_DUMP FIXTURES      status 0, 1 with failures printed, 77 without compiler or binutils
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

failures = []
NEEDED = ("gcc", "g++", "addr2line", "objdump", "strip", "objcopy")


def expect(what, good, detail=""):
    if not good:
        failures.append(what)
        print(f"FAILED {what}: {detail}"[:2000])


def run(*command, **options):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, errors="replace", timeout=120, check=False,
                          **options)


def build(directory, fixtures):
    """C and C++ programs in which compilers inline, with and without debug information for all of it."""
    programs = []
    sources = [("truth.c", "gcc"), ("inlines.cpp", "g++")]
    for source, compiler in sources:
        for options in (["-O0"], ["-O2"], ["-O2", "-gdwarf-4"]):
            path = os.path.join(directory, f"{source}{''.join(options)}")
            subprocess.run([compiler, "-g", "-w", *options, "-o", path, os.path.join(fixtures, source)], check=True)
            programs.append(path)
    return programs


def code_addresses(program):
    listing = subprocess.run(["objdump", "-d", "-j", ".text", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^ +([0-9a-f]+):", listing, re.M)


def groups(text):
    """Lines of -a output by address."""
    return [g for g in re.split(r"(?m)^(?=0x[0-9a-f]{16}(?:\n|: ))", text) if g]


def both(silt, program, options, addresses):
    words = "".join(f"{a}\n" for a in addresses)
    return (run(*tool, "-e", program, *options, input=words).stdout for tool in ((silt, "symbols"), ("addr2line",)))


def same_as_addr2line(silt, program):
    """Where both know the same, all forms are the same bytes. addr2line names inlined calls after the function around them in
    places (which ones depends on what it was asked before), and the space between functions after the one before: such
    addresses are left out, and counted."""
    addresses = code_addresses(program)
    ours, theirs = map(groups, both(silt, program, ["-afi"], addresses))
    expect(f"{program}: an answer for each address", len(ours) == len(theirs) == len(addresses), (len(ours), len(theirs)))
    agreed = [i for i, (o, t) in enumerate(zip(ours, theirs)) if o == t]
    known = [t for t in theirs if ":?" not in t]
    expect(f"{program}: they mostly agree", len(agreed) >= 0.7 * len(known) > 50, (len(agreed), len(known), len(addresses)))
    for options in ("-a", "-af", "-ai", "-aC", "-ap", "-as", "-afC", "-afiC", "-afipsC", "-api", "-apfs"):
        ours, theirs = map(groups, both(silt, program, [options], addresses))
        wrong = [(ours[i], theirs[i]) for i in agreed if ours[i] != theirs[i]]
        expect(f"{program} {options}", not wrong, wrong[:1])


def forms_without_addresses(silt, program):
    """In C the two agree wherever something is known."""
    addresses = [g.split("\n")[0] for g in groups(run("addr2line", "-e", program, "-a", *code_addresses(program)).stdout) if ":?" not in g]
    for options in ([], ["-f"], ["-i"], ["-p"], ["-s"], ["-fi"], ["-pi"], ["-pfs"], ["--functions", "--inlines", "--pretty-print"],
                    ["--basenames", "--addresses", f"--exe={program}"]):
        got, want = both(silt, program, options, addresses)
        wrong = [pair for pair in zip(got.split("\n"), want.split("\n")) if pair[0] != pair[1]]
        expect(f"{program} {options}", got == want and len(want) > 1000, wrong[:1])
        got, want = (run(*tool, "-e", program, *options, *addresses[:20]).stdout for tool in ((silt, "symbols"), ("addr2line",)))
        expect(f"{program} {options}, addresses as arguments", got == want, (got[:300], want[:300]))


def odd_input(silt, program):
    """addr2line has an answer to everything, in the order of the lines."""
    words = "zz\n\n0\nffffffffffffffff\n0x10 20\n 1139\n1139"
    got, want = (run(*tool, "-e", program, "-a", "-f", input=words).stdout for tool in ((silt, "symbols"), ("addr2line",)))
    places = [g.split("\n")[0] for g in groups(got)]
    expect("odd input", places == [w.split("\n")[0] for w in groups(want)] and len(places) == 7, (got, want))
    huge = "1" * 200000 + "\n0\n"
    expect("a huge line", run(silt, "symbols", "-e", program, input=huge).stdout.count("\n") == 2)
    done = run(silt, "symbols", program, input="0\n  1 2\nzz\n3\n")
    expect("own form stops at nonsense, after what came before", done.returncode == 2 and done.stdout.count("??:0") == 3
           and "line 3: 'zz' is no hexadecimal address" in done.stderr, done)


def as_they_come(silt, program):
    """Each line is answered while the pipe stays open."""
    child = subprocess.Popen([silt, "symbols", "--json", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    addresses = code_addresses(program)[:40:4]
    for address in addresses:
        child.stdin.write(address + "\n")
        child.stdin.flush()
        answer = json.loads(child.stdout.readline())
        expect(f"{address} is answered at once", int(answer["address"], 16) == int(address, 16), answer)
    child.stdin.write(addresses[0]) # an unfinished line is no line yet
    child.stdin.flush()
    time.sleep(0.2)
    child.stdin.close()
    expect("the last line needs no newline", int(json.loads(child.stdout.readline())["address"], 16) == int(addresses[0], 16))
    expect("and then it ends well", child.wait(timeout=60) == 0)


def in_order(silt, program):
    addresses = code_addresses(program)
    words = [addresses[i * 7919 % len(addresses)] for i in range(150000)]
    done = run(silt, "symbols", "--json", program, input="\n".join(words))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    expect("150000 answers in the order of the input", [int(a["address"], 16) for a in answers] == [int(w, 16) for w in words],
           len(answers))
    first = {}
    expect("one address, one answer", all(first.setdefault(a["address"], a) == a for a in answers))
    frame = next(a for a in answers if a["frames"])["frames"][0]
    expect("keys of a frame", list(frame) == ["function", "file", "line", "module", "build_id", "offset", "inlined"], frame)


def lists_modules(silt, make_dump, directory, program):
    stripped = os.path.join(directory, "stripped")
    debug = os.path.join(directory, "store")
    shutil.copy(program, stripped)
    listed = json.loads(run(silt, "symbols", "--list", "--json", stripped).stdout)
    module = listed["modules"][0]
    expect("an ELF file's list", listed["schema"] == "silt.symbols-list/1" and module["path"] == stripped
           and {"kind": "dwarf", "file": stripped} in module["found"] and module["tried"] == [f"{stripped}: found"], listed)
    build_id = module["build_id"]
    place = os.path.join(debug, ".build-id", build_id[:2])
    os.makedirs(place)
    subprocess.run(["objcopy", "--only-keep-debug", stripped, os.path.join(place, build_id[2:] + ".debug")], check=True)
    subprocess.run(["strip", stripped], check=True)
    found = {e["kind"] for e in json.loads(run(silt, "symbols", "--list", "--json", stripped).stdout)["modules"][0]["found"]}
    expect("stripped", found == {"dynsym"}, found)
    text = run(silt, "symbols", "--list", "--debug-dir", debug, stripped).stdout
    where = os.path.join(place, build_id[2:] + ".debug")
    expect("and with its debug file", f"files and lines: {where}\n" in text and f"  build-id   {build_id}\n" in text
           and f"{where}: found" in text, text)
    dump = os.path.join(directory, "a.silt")
    made = run(make_dump, dump, input=f"exe {program}\nmodule {program} {build_id}\nmodule /no/such/library.so -\n")
    expect("a dump is made", made.returncode == 0 and os.path.exists(dump), made)
    listed = json.loads(run(silt, "symbols", "--list", "--json", dump).stdout)
    expect("a dump's modules", [m["path"] for m in listed["modules"]] == [program, "/no/such/library.so"]
           and {"kind": "dwarf", "file": program} in listed["modules"][0]["found"] and not listed["modules"][1]["found"]
           and listed["modules"][1]["tried"] and any("/no/such/library.so" in w for w in listed["warnings"]), listed)
    done = run(silt, "symbols", "--list", dump)
    expect("the same as text", done.stdout.count("\n  build-id ") == 2 and done.stdout.count("  tried ") == 2
           and "found      nothing: it is shown by offsets" in done.stdout and "warning: /no/such/" in done.stderr, done)
    root = os.path.join(directory, "root")
    os.makedirs(os.path.join(root, "opt"))
    shutil.copy(program, os.path.join(root, "opt", "below"))
    done = run(silt, "symbols", "--list", "--sysroot", root, "/opt/below")
    expect("a file below a sysroot", done.returncode == 0 and f"{root}/opt/below: found" in done.stdout, done)
    big = os.path.join(directory, "big-endian")
    with open(program, "rb") as f:
        head = bytearray(f.read(64))
    head[5] = 2  # EI_DATA
    with open(big, "wb") as f:
        f.write(head)
    done = run(silt, "symbols", "--list", big)
    expect("what kind of file it is that cannot be listed", done.returncode == 3 and "big-endian" in done.stderr, done)
    done = run(silt, "symbols", "--list", os.path.join(directory, "nothing"))
    expect("a list of nothing", done.returncode == 3 and done.stderr.count("\n") == 1, done)


def refusals(silt, program):
    cases = [
        (["--json", "-f", program, "1"], "--json and addr2line's options exclude each other"),
        (["--list", program, "1"], "--list takes one dump or file and no addresses"),
        (["--list", "-f", program], "--list takes one dump or file and no addresses"),
        (["--func", program, "1"], "options cannot be abbreviated: --functions"),
        (["--demangle", "loud", program, "1"], "--demangle: 'loud' is not full, short or off"),
        (["--symbol-path", "srv*x://y", program, "1"], "--symbol-path: 'x://y' in the symbol path"),
        ([program, "xyz"], "'xyz' is no hexadecimal address"),
        ([], "FILE is missing"),
    ]
    for arguments, message in cases:
        done = run(silt, "symbols", *arguments)
        expect(f"refusal of {arguments}", done.returncode == 2 and message in done.stderr and not done.stdout, done)
    done = run(silt, "symbols", "/nowhere/x", "1")
    expect("no such file", done.returncode == 3 and "/nowhere/x" in done.stderr, done)


def main(silt, make_dump, fixtures):
    missing = [tool for tool in NEEDED if not shutil.which(tool)]
    if missing:
        print(f"skip: {', '.join(missing)} missing")
        return 77
    with tempfile.TemporaryDirectory(prefix="silt-symbols-") as directory:
        programs = build(directory, fixtures)
        for program in programs:
            same_as_addr2line(silt, program)
        forms_without_addresses(silt, programs[0])
        odd_input(silt, programs[0])
        as_they_come(silt, programs[1])
        in_order(silt, programs[1])
        lists_modules(silt, make_dump, directory, programs[0])
        refusals(silt, programs[0])
    print(f"{len(failures)} failures")
    return len(failures) > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
