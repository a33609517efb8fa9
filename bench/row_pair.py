# SPDX-License-Identifier: MIT
"""Extra nanoseconds per free/malloc pair, against heaptrack and jemalloc's own profiler."""

import json
import os

from harness import Failed, median, spread

CELLS = [(depth, threads) for threads in (1, 2) for depth in (10, 30)]
PROFILED = "prof:true,lg_prof_sample:0,prof_final:false"


def run(bench):
    bench.program("pair-equal")
    bench.program("pair-varied")
    bench.program("pair-pointers")
    rounds = bench.rounds(5)
    seconds = "0.3" if bench.quick else "0.5"
    contestants = available(bench)
    cells = {}
    for depth, threads in CELLS:
        for frames in ("equal", "varied"):
            command = [bench.program("pair-" + frames), str(depth), str(threads), seconds]
            bench.note("pair: depth %d, %d threads, %s frames" % (depth, threads, frames))
            cells[depth, threads, frames] = cell = measure(bench, contestants, command, rounds)
            bench.details["pair.%d.%d.%s" % (depth, threads, frames)] = cell
    for depth, threads in CELLS:
        both = {frames: cells[depth, threads, frames] for frames in ("equal", "varied")}
        name = "pair, depth %d, %d thread%s" % (depth, threads, "s" if threads > 1 else "")
        compare(bench, name + ", heaptrack", both, "heaptrack", 8, 15)
        compare(bench, name + ", jemalloc prof", both, "jemalloc", 30, 60)
    with_frame_pointers(bench, contestants, seconds, rounds)


def with_frame_pointers(bench, contestants, seconds, rounds):
    """Nothing is asked of these, but much is built so: distributions that keep frame pointers, and all that is not optimised."""
    contestants = {name: go for name, go in contestants.items() if name in ("untracked", "silt", "heaptrack")}
    if len(contestants) < 3:
        return
    for depth in (10, 30):
        bench.note("pair: depth %d, frame pointers" % depth)
        command = [bench.program("pair-pointers"), str(depth), "1", seconds]
        bench.details["pair.%d.1.pointers" % depth] = times = measure(bench, contestants, command, rounds)
        ours, theirs = extra(times, "silt", "untracked"), extra(times, "heaptrack", "untracked")
        bench.row("pair, depth %d, frame pointers, heaptrack" % depth, "+%.1f ns" % ours, "+%.0f ns" % theirs,
                  "%.1f" % (theirs / ours), "", "", None, None, "frames of one size")


def available(bench):
    """Contestants in the order they run, each with a function command -> what the program told."""
    found = {"untracked": untracked}
    if os.access(bench.silt, os.X_OK):
        found["silt"] = tracked
    if bench.heaptrack:
        found["heaptrack"] = heaptrack
    if bench.jemalloc:
        found["jemalloc plain"] = jemalloc_plain
        found["jemalloc prof"] = jemalloc_profiled
    return found


def measure(bench, contestants, command, rounds):
    """{contestant: [what the program told in each round]}; contestants alternate within a round."""
    times = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, go in contestants.items():
            times[name].append(go(bench, command))
    return times


def untracked(bench, command):
    return json.loads(bench.run(command).out)


def tracked(bench, command):
    out = bench.path("pair.silt")
    told = json.loads(bench.run(bench.silt_command(command, out)).out)
    counted = bench.show(out)["totals"]["allocated_count"]
    os.unlink(out)
    if counted < told["mallocs"]:
        raise Failed("silt recorded %d of %d allocations: the figure would be worth nothing" % (counted, told["mallocs"]))
    return told


def heaptrack(bench, command):
    out = bench.path("pair.heaptrack", memory=True)
    told = json.loads(bench.run(command, bench.heaptrack_env(out)).out)
    size = os.path.getsize(out)
    os.unlink(out)
    if size < told["mallocs"]:
        raise Failed("heaptrack recorded nothing")
    return told


def jemalloc_plain(bench, command):
    return json.loads(bench.run(command, {"LD_PRELOAD": bench.jemalloc}).out)


def jemalloc_profiled(bench, command):
    env = {"LD_PRELOAD": bench.jemalloc, "MALLOC_CONF": PROFILED}
    return json.loads(bench.run(command, env).out)


def extra(times, name, base, clock="ns_per_pair"):
    """Median over the rounds of the difference within a round. Never below a tenth of a nanosecond: less is noise, and must
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
