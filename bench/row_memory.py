# SPDX-License-Identifier: MIT
"""Extra memory per live block in the target, the shared trace database included."""

import glob
import os
import subprocess

from harness import Failed, mib

MIXES = [  # name, blocks, arguments of hold
    ("16 to 271 bytes", 2000000, []),
    ("60 bytes", 2000000, ["--size", "60"]),
    ("16 bytes", 2000000, ["--size", "16"]),
    ("4 KiB", 500000, ["--size", "4096"]),
    ("16 to 271 bytes, every second one freed", 2000000, ["--half"]),
]
ASKED, GOAL, ALLOWANCE = 24, 12, 8 << 20


def run(bench):
    bench.need_silt()
    program = bench.program("hold")
    for name, blocks, options in MIXES:
        bench.note("memory: " + name)
        command = [program, "--blocks", str(blocks), *options]
        plain = sum(look(bench, command))
        out = bench.path("memory.silt")
        own, database = look(bench, bench.silt_command(command, out))
        held = bench.show(out)["totals"]["count"]
        os.unlink(out)
        if held < blocks:
            raise Failed("silt's dump holds %d of %d blocks" % (held, blocks))
        report(bench, name, blocks, plain, own, database)


def report(bench, name, blocks, plain, own, database):
    extra = own + database - plain
    beyond, whole = (extra - ALLOWANCE) / blocks, extra / blocks
    bench.details["memory." + name] = {"blocks": blocks, "untracked": plain, "tracked": own, "database": database}
    bench.row("memory, " + name, "%.1f B/block" % whole, "", "", "<= %d + 8 MiB" % ASKED, "<= %d" % GOAL, beyond <= ASKED,
              whole <= GOAL, "%.1f beyond 8 MiB; extra %.1f MiB (database %.1f) on %.1f MiB untracked"
              % (beyond, mib(extra), mib(database), mib(plain)))


def look(bench, command):
    """(resident bytes of the target without the database, bytes of the database) once the blocks are there."""
    process = bench.processes.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=bench.disk)
    try:
        with bench.limit(process):
            words = process.stdout.readline().split()
        if len(words) != 3 or words[0] != b"ready":
            process.stdin.close()
            status, _ = bench.wait(process)
            raise Failed("%s ended with status %d before it was ready" % (" ".join(command[:6]), status))
        own = resident(int(words[1]))
        database = database_bytes(process.pid)
        process.stdin.write(b"quit\n")
        process.stdin.close()
        bench.wait(process)
    finally:
        bench.processes.end_session(process.pid)
        process.stdout.close()
    if process.returncode != 0:
        raise Failed("%s ended with status %d" % (" ".join(command[:6]), process.returncode))
    return own, database


def resident(pid):
    """Resident bytes of every mapping but the database: that one is counted whole, mapped or not."""
    total, counted = 0, True
    with open("/proc/%d/smaps" % pid) as f:
        for line in f:
            first = line.split(None, 1)[0]
            if not first.endswith(":"):
                counted = "/memfd:silt-db" not in line
            elif counted and first == "Rss:":
                total += int(line.split()[1]) * 1024
    return total


def database_bytes(launcher):
    """What the launcher's memfd really takes: its allocated pages, however many the target has mapped."""
    for fd in glob.glob("/proc/%d/fd/*" % launcher):
        try:
            if os.readlink(fd).startswith("/memfd:silt-db"):
                return os.stat(fd).st_blocks * 512
        except OSError:
            continue
    return 0
