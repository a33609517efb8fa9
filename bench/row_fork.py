# SPDX-License-Identifier: MIT
"""What tracking adds to a forked child's life: one that ends, runs another program, or works on; and to a shell script of subshells."""

import glob
import os
import shutil

from harness import Failed, median

BLOCKS = [1000, 100000, 600000]
SCRIPT = "i=0; while [ $i -lt %d ]; do (x=$i; y=$x$x); z=$(echo $i); i=$((i+1)); done"
SUBSHELLS = 500


def run(bench):
    bench.need_silt()
    program = bench.program("forks")
    rounds = bench.rounds(5)
    for what in ("exit", "exec", "work"):
        for blocks in BLOCKS:
            children = {1000: 100, 100000: 20}.get(blocks, 10)
            command = [program, str(blocks), str(children), what]
            bench.note("fork: %s, %d blocks" % (what, blocks))
            times = {"untracked": [], "never": [], "auto": []}
            for _ in range(rounds):
                for name, values in times.items():
                    values.append(once(bench, command, name, children if what == "work" else 0) / children * 1e6)
            report(bench, "fork, child %s, %d blocks" % ({"exit": "ends", "exec": "runs another program", "work": "works"}[what], blocks),
                   times, "us a child")
    if shutil.which("bash"):
        script(bench, rounds)


def script(bench, rounds):
    bench.note("fork: shell script")
    command = ["bash", "-c", SCRIPT % SUBSHELLS]
    times = {"untracked": [], "never": [], "auto": []}
    for _ in range(rounds):
        for name, values in times.items():
            values.append(whole(bench, command, name) / SUBSHELLS / 2 * 1e6)
    report(bench, "fork, bash with %d subshells" % (2 * SUBSHELLS), times, "us a subshell")


def dumps_of(out):
    return glob.glob(os.path.splitext(out)[0] + "*")


def once(bench, command, name, children):
    """Seconds as the program itself measured them. children: how many must have left a dump with the parent's blocks."""
    if name == "untracked":
        return float(bench.run(command).out)
    out = bench.path("fork.silt")
    seconds = float(bench.run(bench.silt_command(command, out, "--inherit=" + name)).out)
    found = [d for d in dumps_of(out) if d != out]
    if len(found) != children:
        raise Failed("%d children left a dump, not %d" % (len(found), children))
    held = bench.show(found[0])["totals"]["count"] if found else 0
    if found and (held < int(command[1])) != (name == "never"):
        raise Failed("a child's dump holds %d blocks of %s (--inherit=%s)" % (held, command[1], name))
    for dump in dumps_of(out):
        os.unlink(dump)
    return seconds


def whole(bench, command, name):
    if name == "untracked":
        return bench.run(command).seconds
    out = bench.path("fork.silt")
    seconds = bench.run(bench.silt_command(command, out, "--inherit=" + name)).seconds
    for dump in dumps_of(out):
        os.unlink(dump)
    return seconds


def report(bench, name, times, unit):
    bench.details[name] = times
    plain, never, auto = (median(times[n]) for n in ("untracked", "never", "auto"))
    bench.row(name, "%.0f %s" % (auto, unit), "", "%.2f" % (auto / plain), "", "", None, None,
              "untracked %.0f, tracked with --inherit=never %.0f" % (plain, never))
