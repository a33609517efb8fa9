# SPDX-License-Identifier: MIT
"""A capture of ten million live blocks, and the diff of two such dumps against heaptrack_print."""

import os
import shutil
import subprocess
import time

from harness import Failed, Skip, median, mib

GROW = 5  # percent freed between the two dumps; twice as many blocks are new


def run(bench, wanted):
    bench.need_silt()
    before, after = bench.path("before.silt"), bench.path("after.silt")
    blocks = 1000000 if bench.quick else 10000000
    title = "1 million" if bench.quick else "10 million"
    capture(bench, blocks, title, before, after, "capture" in wanted)
    if "diff" in wanted:
        diff(bench, blocks, title, before, after)
    for path in (before, after):
        os.unlink(path)


class Target:
    """hold under silt, with a thread that watches the clock."""

    def __init__(self, bench, blocks):
        self.bench = bench
        command = [bench.program("hold"), "--blocks", str(blocks), "--spin"]
        self.process = bench.processes.start(bench.silt_command(command, bench.path("target.silt")),
                                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=bench.disk)
        self.pid, self.count = self.ready(self.answer())

    def ready(self, line):
        words = line.split()
        if len(words) != 3 or words[0] != b"ready":
            self.end()
            raise Failed("hold under silt run ended (status %s) before it was ready" % self.process.returncode)
        return int(words[1]), int(words[2])

    def ask(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self):
        with self.bench.limit(self.process):
            return self.process.stdout.readline()

    def gap(self):
        """(longest gap, longest stop) in ns since the last call, as the watching thread saw them."""
        words = self.ask("gap").split()
        return int(words[1]), int(words[2])

    def grow(self):
        self.pid, self.count = self.ready(self.ask("grow %d" % GROW))

    def end(self):
        """Its input ends, so it ends by itself; what does not is killed."""
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        self.bench.processes.end_session(self.process.pid)
        self.process.wait()
        self.process.stdout.close()


def capture(bench, blocks, title, before, after, show):
    bench.note("capture: a target with %s blocks" % title)
    target = Target(bench, blocks)
    found = []
    try:
        for number in range(bench.rounds(4)):
            if number == 1:
                target.grow()
            path = before if number == 0 else after
            target.gap()
            time.sleep(1)
            quiet, _ = target.gap()  # what this machine's scheduler does by itself in a second
            run_ = bench.run([bench.silt, "capture", str(target.pid), "-o", path])
            gap, stop = target.gap()
            head = bench.show(path)
            if head["totals"]["count"] < target.count:
                raise Failed("the dump holds %d of %d blocks" % (head["totals"]["count"], target.count))
            found.append({"pause_ns": head["process"]["pause_ns"], "stop_ns": stop, "gap_ns": gap,
                          "quiet_gap_ns": quiet, "seconds": run_.seconds,
                          "bytes_per_block": os.path.getsize(path) / target.count, "max_rss": run_.max_rss, "blocks": target.count})
    finally:
        target.end()
    bench.details["capture"] = found
    if show:
        report(bench, title, found)


def report(bench, title, found):
    told, stop, gap, quiet = (median([f[k] for f in found]) / 1e6
                              for k in ("pause_ns", "stop_ns", "gap_ns", "quiet_gap_ns"))
    seconds, size = (median([f[k] for f in found]) for k in ("seconds", "bytes_per_block"))
    pause = max(told, stop)
    note = ("silt says %.1f ms, the target was stopped for %.1f ms; longest gap in its time, waits for a processor "
            "included: %.1f ms (%.1f ms in a second without a capture)" % (told, stop, gap, quiet))
    bench.row("capture, %s blocks, pause" % title, "%.1f ms" % pause, "", "", "<= 100 ms", "<= 10 ms", pause <= 100,
              pause <= 10, note)
    bench.row("capture, %s blocks, whole time" % title, "%.2f s" % seconds, "", "", "<= 6 s", "<= 2 s", seconds <= 6,
              seconds <= 2, "silt capture took at most %.0f MiB" % mib(max(f["max_rss"] for f in found)))
    bench.row("capture, %s blocks, disk" % title, "%.2f B/block" % size, "", "", "<= 6", "<= 3", size <= 6, size <= 3)


def diff(bench, blocks, title, before, after):
    theirs = None
    try:
        theirs = heaptrack_files(bench, blocks)
    except Skip as reason:
        rival_note = str(reason)
    ours_runs, their_runs = [], []
    for number in range(bench.rounds(3)):
        bench.note("diff, round %d" % (number + 1))
        ours_runs.append(bench.run([bench.silt, "diff", "--json", before, after]))
        if theirs:
            their_runs.append(bench.run([bench.heaptrack_print, "-d", theirs[0], "-f", theirs[1]]))
    seconds, rss = median([r.seconds for r in ours_runs]), max(r.max_rss for r in ours_runs)
    bench.details["diff"] = {"silt": [r.seconds for r in ours_runs], "silt_max_rss": rss,
                             "heaptrack": [r.seconds for r in their_runs]}
    name = "diff, %s blocks, time" % title
    if their_runs:
        rival = median([r.seconds for r in their_runs])
        bench.row(name, "%.2f s" % seconds, "%.2f s" % rival, "%.1f" % (rival / seconds), ">= 5", "<= 1 s",
                  rival / seconds >= 5, seconds <= 1, "heaptrack_print took %.0f MiB, on files of %.0f and %.0f MiB"
                  % (mib(max(r.max_rss for r in their_runs)), *(mib(os.path.getsize(f)) for f in theirs)))
    else:
        bench.row(name, "%.2f s" % seconds, "skipped", "", ">= 5", "<= 1 s", None, None, rival_note)
    bench.row("diff, %s blocks, memory" % title, "%.0f MiB" % mib(rss), "", "", "<= 400 MiB", "<= 150 MiB",
              mib(rss) <= 400, mib(rss) <= 150)


def heaptrack_files(bench, blocks):
    """Two recordings of the same program, ended in the states of the two dumps, interpreted and compressed as
    heaptrack does it. heaptrack has no snapshot of a running program: it needs a run for each state. Its interpreter's
    table of (size, stack) pairs degenerates on 256 sizes times 1024 stacks until memory runs out; sixteen sizes (which
    spare it work) it can do."""
    bench.need_heaptrack()
    if not bench.heaptrack_interpret or not bench.heaptrack_print:
        raise Skip("heaptrack_interpret or heaptrack_print was not found")
    files = []
    for name, commands in (("before", b"quit\n"), ("after", b"grow %d\nquit\n" % GROW)):
        bench.note("diff: heaptrack records %s" % name)
        raw = bench.path(name + ".raw", memory=True)
        script = bench.path(name + ".commands")
        with open(script, "wb") as f:
            f.write(commands)
        with open(script, "rb") as stdin:
            bench.run([bench.program("hold"), "--blocks", str(blocks), "--step", "16"], bench.heaptrack_env(raw),
                      stdin=stdin)
        plain = raw + ".interpreted"
        with open(raw, "rb") as stdin:
            bench.run(["/bin/sh", "-c", '"$1" > "$2"', "sh", bench.heaptrack_interpret, plain], stdin=stdin)
        os.unlink(raw)
        files.append(compressed(bench, plain, bench.path(name)))
        os.unlink(plain)
    return files


def compressed(bench, path, out):
    """As the heaptrack script does it: zstd where there is one."""
    tool, suffix = ("zstd", ".zst") if shutil.which("zstd") else ("gzip", ".gz")
    bench.run(["/bin/sh", "-c", '"$1" -c "$2" > "$3"', "sh", tool, path, out + suffix])
    return out + suffix
