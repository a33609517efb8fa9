#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs silt on dumps made here and compares output, messages and status with golden/.

usage: reports.py SILT MAKE_DUMP FIXTURE REBUILT_FIXTURE [--update]    --update writes golden/ anew: read the difference before committing
"""
import difflib
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "golden")

# name, arguments, status: output and messages are in golden/name.out and golden/name.err
CASES = [
    ("show", "show a.silt", 0),
    ("show-function", "show --by function b.silt", 0),
    ("show-top", "show --top=1 --sort count b.silt", 0),
    ("show-focus", "show --focus evict b.silt", 0),
    ("show-ignore", "show --ignore . b.silt", 0),
    ("show-sampled", "show sampled.silt", 0),
    ("diff", "diff a.silt b.silt", 0),
    ("diff-new", "diff --new a.silt b.silt", 0),
    ("diff-min", "diff --min-bytes 1K --by file a.silt b.silt", 0),
    ("diff-size", "diff --by size a.silt b.silt", 0),
    ("diff-rebuilt", "diff a.silt rebuilt.silt", 0),
    ("diff-same", "diff a.silt a.silt", 0),
    ("diff-other-run-new", "diff --new a.silt other.silt", 3),
    ("diff-new-backwards", "diff --new b.silt a.silt", 3),
    ("help", "help", 0),
    ("help-show", "help show", 0),
    ("help-diff", "diff --help", 0),
    ("version", "--version", 0),
    ("no-command", "", 2),
    ("wrong-command", "shwo a.silt", 2),
    ("abbreviated-command", "sho a.silt", 2),
    ("wrong-global-option", "--json show a.silt", 2),
    ("wrong-help", "help shwo", 2),
    ("wrong-option", "show --jsn a.silt", 2),
    ("wrong-short-option", "show -j a.silt", 2),
    ("abbreviated-option", "show --min-b 3 a.silt", 2),
    ("option-of-diff", "show --new a.silt", 2),
    ("no-operand", "show", 2),
    ("one-operand", "diff a.silt", 2),
    ("three-operands", "diff a.silt b.silt a.silt", 2),
    ("value-missing", "show a.silt --top", 2),
    ("value-superfluous", "show --json=yes a.silt", 2),
    ("value-wrong-number", "show --top -1 a.silt", 2),
    ("value-wrong-size", "show --min-bytes 3X a.silt", 2),
    ("value-huge-size", "show --min-bytes 99999999999G a.silt", 2),
    ("value-wrong-word", "show --by colour a.silt", 2),
    ("regex-wrong", "show --focus ( a.silt", 2),
    ("size-by-allocated", "show --by size --sort allocated-count a.silt", 2),
    ("two-stdins", "diff - -", 2),
    ("missing-pid", "show 4194305", 3),
    ("thread-untracked", "show --by thread a.silt", 3),
]


def capture(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


class Bench:
    def __init__(self, silt, make_dump, fixture, rebuilt, directory):
        self.silt, self.make_dump, self.directory = silt, make_dump, directory
        self.fixture, self.rebuilt = fixture, rebuilt
        self.failures = 0
        self.environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM", "DEBUGINFOD_URLS")}

    def run(self, *arguments, **options):
        return capture(self.silt, *arguments, cwd=self.directory, env=self.environment, **options)

    def check(self, what, good, detail=""):
        if not good:
            self.failures += 1
            print(f"FAILED: {what}\n{detail}")

    def path(self, name):
        return os.path.join(self.directory, name)

    def dump(self, name, contexts, *settings, program=None):
        """A dump of the fixture or another program; contexts: (stack, epoch, blocks, size, freed)."""
        program = program or self.fixture
        symbols = dict(reversed(line.split()[::2]) for line in capture("nm", program).stdout.splitlines()
                       if len(line.split()) == 3)
        notes = capture("readelf", "-n", program).stdout
        build_id = notes.split("Build ID:")[1].split()[0]
        functions = ["cache_insert", "cache_evict", "read_all", "main"]
        lines = list(settings) + [f"exe {program}", f"module {program} {build_id}", "module /no/such/library.so -"]
        # Flag 1 (interrupted): the address is exact, here that of the function's first instruction.
        lines += [f"frame 0 {symbols[f]} 1" for f in functions] + ["frame 1 777 1"]
        lines += ["stack 0 0 2 3", "stack 0 1 2 3", "stack 1 4 2", "stack 8"]
        lines += ["context " + " ".join(map(str, c)) for c in contexts]
        done = capture(self.make_dump, self.path(name), input="\n".join(lines) + "\n")
        if done.returncode:
            sys.exit(f"make_dump: {done.stderr}")


def make_dumps(bench):
    before = [(0, 1, 100, 4096, 20), (1, 1, 40, 128, 0), (2, 1, 3, 64, 1)]
    after = [(0, 1, 90, 4096, 30), (0, 2, 300, 4096, 0), (1, 1, 4, 128, 36), (2, 1, 3, 64, 1), (3, 2, 2, 32, 0)]
    bench.dump("a.silt", before, "epoch 1")
    bench.dump("b.silt", after, "epoch 2")
    bench.dump("other.silt", before, "epoch 2", "session 99", "pid 101")
    bench.dump("sampled.silt", before, "sample 65536")
    bench.dump("rebuilt.silt", after, "session 98", program=bench.rebuilt)


def compare(bench, name, kind, text, update):
    path = os.path.join(GOLDEN, f"{name}.{kind}")
    text = text.replace(HERE, "SOURCE").replace(bench.directory, "DIRECTORY")
    for program, word in ((bench.rebuilt, "rebuilt"), (bench.fixture, "fixture")):
        text = text.replace(program, word).replace(os.path.basename(program), word)
    text = re.sub(r"\b[0-9a-f]{16}\b", "ID", text)
    # How the symbols room speaks of a missing file is its own affair.
    text = "".join(line for line in text.splitlines(True) if "/no/such/" not in line)
    if update:
        if text:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        elif os.path.exists(path):
            os.unlink(path)
        return
    expected = ""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            expected = file.read()
    difference = "\n".join(difflib.unified_diff(expected.splitlines(), text.splitlines(), path, "now", lineterm=""))
    bench.check(f"{name}.{kind}", expected == text, difference)


def check_cases(bench, update):
    for name, arguments, status in CASES:
        done = bench.run(*arguments.split())
        bench.check(f"status of {name}", done.returncode == status, f"{done.returncode}, not {status}: {done.stderr}")
        bench.check(f"one line of error of {name}", done.stderr.count("\n") == (status != 0), done.stderr)
        bench.check(f"no output with an error of {name}", status == 0 or not done.stdout, done.stdout)
        compare(bench, name, "out", done.stdout, update)
        compare(bench, name, "err", done.stderr, update)


def check_json(bench):
    for arguments in ("show b.silt", "show --by function b.silt", "show --by size b.silt", "show sampled.silt", "diff a.silt b.silt",
                      "diff --new a.silt b.silt", "diff --by module a.silt b.silt", "diff a.silt a.silt"):
        done = bench.run(*arguments.split(), "--json")
        judged = capture(sys.executable, os.path.join(HERE, "..", "analyze", "check_json.py"), input=done.stdout)
        bench.check(f"{arguments} --json", done.returncode == 0 and judged.returncode == 0, judged.stderr + done.stderr)
    stacks = json.loads(bench.run("diff", "--json", "a.silt", "b.silt").stdout)["stacks"]
    bench.check("largest growth first", [s["bytes"]["delta"] for s in stacks] == [290 * 4096, 64, -36 * 128], stacks)
    bench.check("frames by name", [f["function"] for f in stacks[0]["frames"]] == ["cache_insert", "read_all", "main"], stacks)
    new = json.loads(bench.run("diff", "--json", "--new", "a.silt", "b.silt").stdout)
    bench.check("only new blocks", new["totals"]["count"] == {"before": 0, "after": 302, "delta": 302}, new["totals"])


def check_help(bench):
    for command in ("show", "diff"):
        bench.check(f"help {command}", bench.run("help", command).stdout == bench.run(command, "--help").stdout)
    bench.check("--help", bench.run("--help").stdout == bench.run("help").stdout)
    bench.check("--help wins", bench.run("show", "--top", "3", "--help").returncode == 0)


def check_inputs(bench):
    with open(bench.path("a.silt"), "rb") as file:
        whole = file.read()
    piped = subprocess.run([bench.silt, "show", "-"], input=whole, capture_output=True, cwd=bench.directory, check=False)
    bench.check("a dump from a pipe", piped.stdout == bench.run("show", "a.silt").stdout.encode(), piped.stderr)
    for name, data in (("empty.silt", b""), ("text.silt", b"not a dump\n" * 50), ("cut.silt", whole[:-20]),
                       ("flipped.silt", whole[:200] + bytes([whole[200] ^ 64]) + whole[201:])):
        with open(bench.path(name), "wb") as file:
            file.write(data)
        done = bench.run("show", name)
        good = done.returncode == 3 and done.stderr.count("\n") == 1 and name in done.stderr and not done.stdout
        bench.check(f"refuses {name}", good, f"{done.returncode}: {done.stderr}")
    done = bench.run("diff", "a.silt", "missing.silt")
    bench.check("a missing file", done.returncode == 3 and done.stderr.startswith("silt: missing.silt: "), done.stderr)
    done = bench.run("show", "--salvage", "cut.silt")
    bench.check("salvages", done.returncode == 0 and "warning:" in done.stdout and "cache_insert" in done.stdout, done.stderr)
    with open(bench.path("4194305"), "wb") as file:
        file.write(whole)
    bench.check("a file named like a pid", bench.run("show", "4194305").returncode == 0)
    os.unlink(bench.path("4194305"))


def check_damage(bench):
    """No damage makes it crash, hang or print half a report without saying so: each 7th byte flipped in turn."""
    with open(bench.path("b.silt"), "rb") as file:
        whole = file.read()
    for at in range(0, len(whole), 7):
        with open(bench.path("damaged.silt"), "wb") as file:
            file.write(whole[:at] + bytes([whole[at] ^ (1 + at % 255)]) + whole[at + 1:])
        for arguments in (["show", "--top", "1"], ["show", "--salvage", "--by", "size"]):
            done = bench.run(*arguments, "damaged.silt")
            good = done.returncode == 0 and not done.stderr or done.returncode == 3 and done.stderr.count("\n") == 1
            bench.check(f"byte {at} flipped: {arguments}", good, f"{done.returncode} {done.stderr}")


def check_outputs(bench):
    reader, writer = os.pipe()
    os.close(reader)
    for signals in (True, False):  # with SIGPIPE as usual, and ignored as under some supervisors
        done = subprocess.run([bench.silt, "show", "a.silt"], stdout=writer, stderr=subprocess.PIPE, cwd=bench.directory,
                              restore_signals=signals, check=False)
        bench.check("a closed pipe is no error", done.returncode == 0 and not done.stderr, f"{done.returncode} {done.stderr}")
    os.close(writer)
    with open("/dev/full", "wb") as full:
        for command in (["show", "a.silt"], ["show", "--json", "a.silt"], ["help"]):
            done = subprocess.run([bench.silt] + command, stdout=full, stderr=subprocess.PIPE, cwd=bench.directory, check=False)
            bench.check("a full disk", done.returncode == 3 and b"No space left" in done.stderr, f"{command}: {done.stderr}")


def main(silt, make_dump, fixture, rebuilt, *rest):
    with tempfile.TemporaryDirectory(prefix="silt-cli-") as directory:
        bench = Bench(silt, make_dump, fixture, rebuilt, directory)
        make_dumps(bench)
        check_cases(bench, "--update" in rest)
        check_json(bench)
        check_help(bench)
        check_inputs(bench)
        check_outputs(bench)
        check_damage(bench)
    print(f"{len(CASES)} cases, {bench.failures} failures")
    return bench.failures > 0


if __name__ == "__main__":
    sys.exit(main(*(os.path.abspath(a) if not a.startswith("--") else a for a in sys.argv[1:])))
