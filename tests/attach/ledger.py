#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The truth test's fixtures, attached to at random points of their work: every block allocated afterwards is in the dump with its size
and stack, every one of before that still lives is there without a stack, and nothing else that passes for the fixture's.

usage: ledger.py FIXTURE…   environment: SILT, SILT_BLOCKS, SILT_FIXTURES; SILT_SOAK=1: many more rounds
"""
import os
import random
import subprocess
import sys
import tempfile
import time

SOURCE = os.environ["SILT_SOURCE"]
sys.path.insert(0, os.path.join(SOURCE, "tests/truth"))
import dumps  # noqa: E402

SILT, BLOCKS, FIXTURES = os.environ["SILT"], os.environ["SILT_BLOCKS"], os.environ["SILT_FIXTURES"]
ROUNDS = 100 if os.environ.get("SILT_SOAK") == "1" else 6
VARIANTS = ["gcc-O2", "clang-O2-unw"]
CALLS = 3.5  # up to 10 to the power of this many calls before the attach; the fixtures make some thousands


def untracked(dump, addr):
    return dump.stack_of(addr)[0] & dumps.UNTRACKED


def compare(dump, ledger, own):
    """(errors, blocks of after, blocks of before, whether the heap was walked)."""
    errors, own = [], {os.path.realpath(p) for p in own}
    depth, before = dump.process["depth"], 0
    dump.unnamed = None  # every frame must have its module
    # Where the heap could not be walked the dump says so.
    walked = not any("are not included" in note for note in dump.notes)
    for addr, entry in ledger.blocks.items():
        size, kind = entry[0], entry[1]
        if addr not in dump.blocks:
            # Not known: mappings of before, and aligned blocks that fill a mapping of their own.
            if walked and kind == 0 and addr % 4096:
                errors.append("block 0x%x of %s bytes is missing: %s" % (addr, size, dumps.show(entry[3])))
        elif untracked(dump, addr):
            before += 1
            if size is not None and dump.blocks[addr][0] < size:
                errors.append("block 0x%x of before: %d bytes, ledger %d" % (addr, dump.blocks[addr][0], size))
        else:
            if size is not None and dump.blocks[addr][0] != size:
                errors.append("block 0x%x: %d bytes, ledger %d" % (addr, dump.blocks[addr][0], size))
            difference = dumps.compare_stack(dump, addr, entry, depth, own)
            if difference:
                errors.append("block 0x%x: %s" % (addr, difference))
    through = {i for i, (_, frames, _) in enumerate(dump.stacks) if any(f.key() in ledger.labels for f in frames)}
    for addr, (size, context) in dump.blocks.items():
        if dump.contexts[context][1] in through and addr not in ledger.blocks:
            errors.append("block 0x%x of %d bytes is not in the ledger: %s" % (addr, size, dumps.show(dump.stack_of(addr)[1])))
    return errors, len(ledger.blocks) - before, before, walked


def wait_for(path, process):
    """Until the fixture has made that file. The time is only for what has gone wrong. Returns an error or None."""
    end = time.monotonic() + 60
    while not os.path.exists(path):
        if process.poll() is not None or time.monotonic() > end:
            return "no %s; the fixture ended with %s: %s" % (os.path.basename(path), process.poll(), process.stderr.read())
        time.sleep(0.001)
    return None


def one_round(fixture, variant, folder, hold):
    """hold: the thread that comes to the gate waits there for the attach; else the fixture works on."""
    exe = os.path.join(FIXTURES, variant, fixture)
    ledger, out = os.path.join(folder, "ledger"), os.path.join(folder, "out.silt")
    env = {**os.environ, "LEDGER_OUT": ledger, "LEDGER_WAIT": "1", "LEDGER_GATE": str(20 + int(10 ** (random.random() * CALLS)))}
    if hold:
        env["LEDGER_HOLD"] = "1"
    process = subprocess.Popen([exe], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
    try:
        error = wait_for(ledger + ".at", process)
        if error:
            return [error], 0, 0, True
        attach = subprocess.run([SILT, "attach", str(process.pid)], capture_output=True, text=True, timeout=60)
        if attach.returncode != 0:
            return ["attach: " + attach.stderr.strip()], 0, 0, True
        with open(ledger + ".on", "w", encoding="utf-8"):
            pass
        error = wait_for(ledger, process)
        if error:
            return [error], 0, 0, True
        capture = subprocess.run([SILT, "capture", "-q", str(process.pid), "-o", out], capture_output=True, text=True, timeout=60)
        if capture.returncode != 0:
            return ["capture: " + capture.stderr.strip()], 0, 0, True
        dump = dumps.Dump(BLOCKS, out)
        result = compare(dump, dumps.Ledger(ledger, exe), [exe])
        detach = subprocess.run([SILT, "detach", "-q", str(process.pid)], capture_output=True, text=True, timeout=60)
        if detach.returncode != 0:
            result[0].append("detach: " + detach.stderr.strip())
        if result[0]:
            result[0].append("attach said: " + attach.stderr.strip())
        with open(ledger + ".go", "w", encoding="utf-8"):
            pass
        if process.wait(60) != 0:
            result[0].append("it ended with %d: %s" % (process.returncode, process.stderr.read().decode()))
        return result
    finally:
        process.kill()
        process.wait()


def main(fixtures):
    failures = compared = after_all = 0
    for fixture in fixtures:
        for variant in VARIANTS:
            if not os.path.exists(os.path.join(FIXTURES, variant, fixture)):
                print("skip: %s %s was not built" % (fixture, variant))
                continue
            for n in range(ROUNDS):
                with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder:
                    errors, after, before, walked = one_round(fixture, variant, folder, n % 2)
                if not walked:
                    errors.append("the heap was not walked")
                compared += after + before
                after_all += after
                failures += bool(errors)
                print("%-6s %s %s: %d blocks of after, %d of before" %
                      ("FAILED" if errors else "ok", fixture, variant, after, before), flush=True)
                for e in errors[:3] + errors[3:][-1:]:
                    print("  " + e, flush=True)
    print("%d blocks compared, %d of them allocated after the attach" % (compared, after_all))
    return 1 if failures else 0 if compared else 77


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
