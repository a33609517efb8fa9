# SPDX-License-Identifier: MIT
"""Attaching: time until a process is tracked against heaptrack -p, the longest stop, and what a pair costs when attached."""

import os
import re
import shutil
import signal
import subprocess
import time

from harness import Failed, median
from row_pair import Contestant, extra, measure, tracked

THREADS, BLOCKS = 1000, 1000000


def run(bench):
    bench.need_silt()
    attach_time(bench)
    longest_stop(bench)
    pair(bench)


class Crowd:
    def __init__(self, bench, threads, blocks):
        self.bench = bench
        self.process = bench.processes.start([bench.program("crowd"), str(threads), str(blocks)], stdin=subprocess.PIPE,
                                             stdout=subprocess.PIPE, cwd=bench.disk)
        with bench.limit(self.process):
            if self.process.stdout.readline() != b"ready\n":
                raise Failed("crowd does not begin")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.stdin.close()
        self.bench.processes.end_session(self.process.pid)
        self.process.wait()
        self.process.stdout.close()

    def silt(self, *arguments):
        """(seconds, longest stop in ms) of a command."""
        run_ = self.bench.run([self.bench.silt, *arguments, str(self.process.pid)])
        stop = re.search(r"stood still for ([0-9.]+) ms", run_.err)
        return run_.seconds, float(stop.group(1)) if stop else None


def heaptrack_attach(bench):
    """Seconds until heaptrack -p says that it is in; None with the reason."""
    tool = shutil.which("heaptrack")
    if not tool or not shutil.which("gdb"):
        return None, "heaptrack or gdb is not installed"
    with Crowd(bench, 1, 1000) as target:
        start = time.perf_counter()
        process = bench.processes.start([tool, "-o", bench.path("attach"), "-p", str(target.process.pid)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        cwd=bench.disk)
        seconds, said = None, []
        with bench.limit(process):
            for line in process.stdout:
                said.append(line)
                if b"injection finished" in line:
                    seconds = time.perf_counter() - start
                    break
        time.sleep(0.2)
        died = target.process.poll()
        bench.processes.end_session(process.pid)
        process.wait()
        process.stdout.close()
    if died is not None:
        return None, "heaptrack -p ended the target with %d" % died
    return seconds, "" if seconds else said[-1].decode(errors="replace").strip() if said else "it said nothing"


def attach_time(bench):
    bench.note("attach: time")
    times = []
    with Crowd(bench, 1, 1000) as target:
        for _ in range(bench.rounds(9)):
            times.append(target.silt("attach")[0])
            target.silt("detach")
    seconds = median(times)
    rival, why = heaptrack_attach(bench)
    bench.details["attach"] = {"silt": times, "heaptrack": rival}
    ratio = rival / seconds if rival else None
    bench.row("attach, until tracked", "%.0f ms" % (seconds * 1e3), "%.0f ms" % (rival * 1e3) if rival else "fails",
              "%.0f" % ratio if ratio else "", ">= 10", "<= 30 ms", ratio >= 10 if ratio else None, seconds <= 0.03,
              why or "the rival: heaptrack -p, until it says that the injection is finished")


def longest_stop(bench):
    bench.note("attach: stops with %d threads and %d blocks" % (THREADS, BLOCKS))
    found = {"attach": [], "capture": [], "detach": []}
    with Crowd(bench, THREADS, BLOCKS) as target:
        for _ in range(bench.rounds(5)):
            found["attach"].append(target.silt("attach")[1])
            found["capture"].append(target.silt("capture", "-o", bench.path("crowd.silt"))[1])
            found["detach"].append(target.silt("detach")[1])
    bench.details["attach.stops"] = found
    for what, stops in found.items():
        stop = median(stops)
        bench.row("longest stop, 1,000 threads, 1 million blocks: %s" % what, "%.1f ms" % stop, "", "", "<= 50 ms", "<= 5 ms",
                  stop <= 50, stop <= 5)


def attached(bench, command):
    """The program stops itself at its start, is attached to, and goes on."""
    contestant = Contestant(bench, command, env={"PAIR_STOP": "1"})
    with bench.limit(contestant.process):
        os.waitpid(contestant.process.pid, os.WUNTRACED)
    bench.run([bench.silt, "attach", "-q", str(contestant.process.pid)])
    os.kill(contestant.process.pid, signal.SIGCONT)
    return contestant


def pair(bench):
    contestants = {"untracked": Contestant, "run": tracked, "attached": attached}
    for depth in (10, 30):
        bench.note("attach: pair, depth %d" % depth)
        bench.details["attach.pair.%d" % depth] = times = measure(bench, contestants, "equal", depth, 1, sets=25, turns=6)
        ours, theirs = (extra(times, name, "untracked", "cpu_ns_per_pair") for name in ("attached", "run"))
        ratio = ours / theirs
        bench.row("pair when attached, depth %d" % depth, "+%.1f ns" % ours, "+%.1f ns" % theirs,
                  "%.2f" % ratio, "<= 1.2", "<= 1.0", ratio <= 1.2, ratio <= 1.0, "the rival is silt run; in processor time")
