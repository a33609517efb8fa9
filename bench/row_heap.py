# SPDX-License-Identifier: MIT
"""Walking a heap of ten million blocks from outside: `silt capture` of a process that is not tracked."""

import json
import os
import subprocess

from harness import Failed, median, mib


def run(bench):
    bench.need_silt()
    blocks = 1000000 if bench.quick else 10000000
    title = "1 million" if bench.quick else "10 million"
    for kind, options in (("", []), (", half of them freed at random", ["--half"])):
        measure(bench, title, kind, blocks, options)


def measure(bench, title, kind, blocks, options):
    bench.note("heap: an untracked target with %s blocks%s" % (title, kind))
    path = bench.path("heap.silt")
    command = [bench.program("hold"), "--blocks", str(blocks)] + options
    target = bench.processes.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=bench.disk)
    found = []
    try:
        with bench.limit(target):
            words = target.stdout.readline().split()
        if len(words) != 3 or words[0] != b"ready":
            raise Failed("hold ended before it was ready")
        for _ in range(bench.rounds(5)):
            run_ = bench.run([bench.silt, "capture", "-q", words[1].decode(), "-o", path])
            head = json.loads(subprocess.run([bench.silt, "show", "--json", "--top", "1", path], check=True,
                                             capture_output=True).stdout)
            if head["totals"]["count"] < int(words[2]):
                raise Failed("the walk found %d of %s blocks" % (head["totals"]["count"], words[2].decode()))
            found.append({"pause_ns": head["process"]["pause_ns"], "seconds": run_.seconds, "max_rss": run_.max_rss,
                          "blocks": head["totals"]["count"], "bytes": os.path.getsize(path)})
    finally:
        target.stdin.close()
        try:
            target.wait(20)
        except subprocess.TimeoutExpired:
            pass
        bench.processes.end_session(target.pid)
        target.wait()
        target.stdout.close()
        if os.path.exists(path):
            os.unlink(path)
    bench.details.setdefault("heap", []).append({"options": options, "rounds": found})
    pause, seconds = median([f["pause_ns"] for f in found]) / 1e9, median([f["seconds"] for f in found])
    rss = max(f["max_rss"] for f in found)
    bench.row("heap walk, %s blocks%s, stop" % (title, kind), "%.2f s" % pause, "", "", "<= 2 s", "<= 0.5 s", pause <= 2, pause <= 0.5,
              "the process stands still while its heap is walked; the whole capture took %.2f s" % seconds)
    bench.row("heap walk, %s blocks%s, memory" % (title, kind), "%.0f MiB" % mib(rss), "", "", "<= 200 MiB", "",
              mib(rss) <= 200, None)
