# SPDX-License-Identifier: MIT
"""Extra nanoseconds per free/malloc pair, against heaptrack and jemalloc's own profiler."""

import json
import os
import subprocess
import tempfile

from harness import Failed, median, spread

CELLS = [(depth, threads) for threads in (1, 2) for depth in (10, 30)]
PROFILED = "prof:true,lg_prof_sample:0,prof_final:false"
SETS, TURNS, SECONDS = 12, 8, "0.03"  # of processes; of each process; of each turn


FRAMES = ("equal", "varied")


class Contestant:
    """A pair program under its tracker. It takes turns, each of which begins with a lead that is not measured."""

    def __init__(self, bench, command, env=None, wrap=None, check=None):
        self.bench, self.check, self.mallocs = bench, check, 0
        # A file for what it complains of, not a pipe: nobody reads while it works.
        self.errors = tempfile.TemporaryFile(dir=bench.disk)
        self.process = bench.processes.start(wrap(command) if wrap else command, env={**os.environ, **(env or {})},
                                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, cwd=bench.disk)

    def line(self):
        with self.bench.limit(self.process):
            line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise Failed("%s ended: %s" % (" ".join(self.process.args[:6]),
                                           self.errors.read().decode(errors="replace").strip()[-300:] or "it said nothing"))
        return line

    def wait_ready(self):
        while self.line() != b"ready\n":
            pass
        return self

    def turn(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        told = json.loads(self.line())
        self.mallocs = told["mallocs"]
        return told

    def end(self):
        """Ends it, and looks whether it did its work."""
        self.process.stdin.close()
        with self.bench.limit(self.process):
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()
        self.bench.processes.end_session(self.process.pid)
        if self.check:
            self.check(self.mallocs)


def run(bench):
    for frames in (*FRAMES, "pointers"):
        bench.program("pair-" + frames)
    contestants = available(bench)
    cells = {}
    for depth, threads in CELLS:
        for frames in FRAMES:
            bench.note("pair: depth %d, %d threads, %s frames" % (depth, threads, frames))
            cells[depth, threads, frames] = cell = measure(bench, contestants, frames, depth, threads)
            bench.details["pair.%d.%d.%s" % (depth, threads, frames)] = cell
    for depth, threads in CELLS:
        both = {frames: cells[depth, threads, frames] for frames in FRAMES}
        name = "pair, depth %d, %d thread%s" % (depth, threads, "s" if threads > 1 else "")
        compare(bench, name + ", heaptrack", both, "heaptrack", 8, 15)
        compare(bench, name + ", jemalloc prof", both, "jemalloc", 30, 60)
    with_frame_pointers(bench, contestants)


def with_frame_pointers(bench, contestants):
    """Nothing is asked of these, but much is built so: distributions that keep frame pointers, and all that is not optimised."""
    contestants = {name: go for name, go in contestants.items() if name in ("untracked", "silt", "heaptrack")}
    if len(contestants) < 3:
        return
    for depth in (10, 30):
        bench.note("pair: depth %d, frame pointers" % depth)
        bench.details["pair.%d.1.pointers" % depth] = times = measure(bench, contestants, "pointers", depth, 1)
        ours, theirs = extra(times, "silt", "untracked"), extra(times, "heaptrack", "untracked")
        bench.row("pair, depth %d, frame pointers, heaptrack" % depth, "+%.1f ns" % ours, "+%.0f ns" % theirs,
                  "%.1f" % (theirs / ours), "", "", None, None, "frames of one size")


def available(bench):
    """Contestants in the order of their turns, each with a function (bench, command) -> Contestant."""
    found = {"untracked": Contestant}
    if os.access(bench.silt, os.X_OK):
        found["silt"] = tracked
    if bench.heaptrack:
        found["heaptrack"] = heaptrack
    if bench.jemalloc:
        found["jemalloc plain"] = jemalloc_plain
        found["jemalloc prof"] = jemalloc_profiled
    return found


def measure(bench, contestants, frames, depth, threads, sets=SETS, turns=TURNS):
    """{contestant: [what the program told of each turn]}. All contestants are alive at once and take short turns, round and
    round: a shared machine's speed changes within seconds, and must not change between two that are compared. Processes
    differ too, by where their pages come to lie, by a third and more: the whole is done with several sets of them."""
    command = [bench.program("pair-" + frames), str(depth), str(threads), SECONDS, "turns"]
    times = {name: [] for name in contestants}
    for _ in range(bench.rounds(sets)):
        alive = {name: go(bench, command) for name, go in contestants.items()}
        for contestant in alive.values():
            contestant.wait_ready()
        for _ in range(bench.rounds(turns)):
            for name, contestant in alive.items():
                times[name].append(contestant.turn())
        for contestant in alive.values():
            contestant.end()
    return times


def tracked(bench, command):
    out = bench.path("pair.silt")

    def check(mallocs):
        counted = bench.show(out)["totals"]["allocated_count"]
        os.unlink(out)
        if counted < mallocs:
            raise Failed("silt recorded %d of %d allocations: the figure would be worth nothing" % (counted, mallocs))

    return Contestant(bench, command, wrap=lambda c: bench.silt_command(c, out), check=check)


def heaptrack(bench, command):
    out = bench.path("pair.heaptrack", memory=True)

    def check(mallocs):
        size = os.path.getsize(out)
        os.unlink(out)
        if size < mallocs:
            raise Failed("heaptrack recorded nothing")

    return Contestant(bench, command, env=bench.heaptrack_env(out), check=check)


def jemalloc_plain(bench, command):
    return Contestant(bench, command, env={"LD_PRELOAD": bench.jemalloc})


def jemalloc_profiled(bench, command):
    return Contestant(bench, command, env={"LD_PRELOAD": bench.jemalloc, "MALLOC_CONF": PROFILED})


def extra(times, name, base, clock="ns_per_pair"):
    """Median over the rounds of turns of the difference within a round. Never below a tenth of a nanosecond: less is noise, and must
    not make a ratio infinite."""
    return max(median([a[clock] - b[clock] for a, b in zip(times[name], times[base])]), 0.1)


def compare(bench, name, both, rival, asked, goal):
    sample = both["equal"]
    rivals = ("jemalloc prof", "jemalloc plain") if rival == "jemalloc" else ("heaptrack", "untracked")
    if rivals[0] not in sample:
        bench.skip(name, "no jemalloc with profiling found (apt-get install libjemalloc2)" if rival == "jemalloc"
                   else "heaptrack is not installed (apt-get install heaptrack)")
        return
    if "silt" not in sample:
        theirs = max(extra(times, *rivals) for times in both.values())
        bench.row(name, "not built", "+%.0f ns" % theirs, "", ">= %d" % asked, ">= %d" % goal, None, None)
        return
    found = {}
    for frames, times in both.items():
        ours, theirs = extra(times, "silt", "untracked"), extra(times, *rivals)
        found[frames] = (theirs / ours, ours, theirs)
    ratio, ours, theirs = min(found.values())
    bench.row(name, "+%.1f ns" % ours, "+%.0f ns" % theirs, "%.1f" % ratio, ">= %d" % asked, ">= %d" % goal,
              ratio >= asked, ratio >= goal, note(both, found, rivals))


def note(both, found, rivals):
    base = median([told["ns_per_pair"] for told in both["equal"]["untracked"]])
    text = "untracked %.0f ns; %s" % (base, "; ".join("%s frames: +%.1f, rival +%.0f, %.1f times" % (
        frames, f[1], f[2], f[0]) for frames, f in found.items()))
    # Processor time leaves out waiting, for locks as for other processes' turns: the check on a busy machine.
    text += "; in processor time " + ", ".join("+%.1f (%.1f times)" % (
        extra(times, "silt", "untracked", "cpu_ns_per_pair"),
        extra(times, *rivals, "cpu_ns_per_pair") / extra(times, "silt", "untracked", "cpu_ns_per_pair"))
        for times in both.values())
    spreads = [spread([told["ns_per_pair"] for told in times["silt"]]) for times in both.values()]
    if None not in spreads:
        text += "; rounds differ by +-%.0f %%" % (100 * max(spreads))
    return text
