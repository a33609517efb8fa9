# SPDX-License-Identifier: MIT
"""Addresses to names and lines: 10,000 of a large C++ program, first and second time, and one alone; memory."""

import glob
import os
import shutil
import subprocess
import sys
import time

from harness import Failed, Skip, median, mib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "tests", "symbols"))
import oracle  # pylint: disable=wrong-import-position

COUNT, SEED = 10000, 7
ALONE = 15           # addresses of the row that asks for one
RIVAL_SECONDS = 15   # what a rival gets for the 10,000; then it is ended, and what it answered is told
PACKAGES = ("ceph-mds", "ceph-mds-dbg")


def run(bench):
    bench.need_silt()
    rivals = find_rivals()
    for form, program in programs(bench).items():
        measure(bench, rivals, form, program)


def find_rivals():
    """Name to command of a file, with functions, inlined calls and readable names."""
    llvm, elfutils = shutil.which("llvm-symbolizer"), shutil.which("eu-addr2line")
    if not llvm or not elfutils:
        raise Skip("llvm-symbolizer (llvm) or eu-addr2line (elfutils) is not installed")
    return {"llvm-symbolizer": lambda f: [llvm, "--inlines", "--functions", "--demangle", "--obj=" + f],
            "eu-addr2line": lambda f: [elfutils, "-i", "-f", "-C", "-e", f]}


# ---- the program ----

def programs(bench):
    """How its debug information is stored, and the file. SILT_BENCH_PROGRAM names another program than Debian's ceph-mds."""
    place = os.path.join(bench.build, "bench", "symbols")
    plain, packed = os.path.join(place, "plain"), os.path.join(place, "compressed")
    other = os.environ.get("SILT_BENCH_PROGRAM")
    if other:
        return {os.path.basename(other): os.path.abspath(other)}
    if not os.path.exists(plain):
        fetch(bench, place, plain, packed)
    return {"plain": plain, "compressed": packed}


def fetch(bench, place, plain, packed):
    """ceph-mds and its debug file, joined to one file, as it is and decompressed. Nothing is installed: that would bring a
    storage cluster with it."""
    for tool in "apt-get", "dpkg-deb", "eu-unstrip", "objcopy":
        if not shutil.which(tool):
            raise Skip("%s, which makes the program to ask about, is not there" % tool)
    bench.note("symbols: downloading %s" % " and ".join(PACKAGES))
    os.makedirs(place, exist_ok=True)
    load = os.path.join(bench.disk, "load")
    os.makedirs(load)
    got = subprocess.run(["apt-get", "-q", "download", *PACKAGES], cwd=load, capture_output=True, text=True, check=False)
    debs = glob.glob(os.path.join(load, "*.deb"))
    if got.returncode or len(debs) != len(PACKAGES):
        raise Skip("%s cannot be downloaded: %s" % (" and ".join(PACKAGES), got.stderr.strip().splitlines()[-1:]))
    for deb in debs:
        subprocess.run(["dpkg-deb", "-x", deb, load], check=True)
    debug, = glob.glob(os.path.join(load, "usr/lib/debug/.build-id/*/*.debug"))
    subprocess.run(["eu-unstrip", os.path.join(load, "usr/bin/ceph-mds"), debug, "-o", packed + ".new"], check=True)
    subprocess.run(["objcopy", "--decompress-debug-sections", packed + ".new", plain + ".new"], check=True)
    os.rename(packed + ".new", packed)
    os.rename(plain + ".new", plain)
    shutil.rmtree(load)


def write_addresses(bench, addresses):
    path = bench.path("addresses")
    with open(path, "w", encoding="ascii") as f:
        f.write("".join("0x%x\n" % a for a in addresses))
    return path


# ---- one contestant ----

class Silt:
    """silt with a cache of its own."""

    def __init__(self, bench):
        self.bench = bench
        self.cache = bench.path("cache")

    def __call__(self, program, addresses, first):
        if first:
            shutil.rmtree(self.cache, ignore_errors=True)
        return timed(self.bench, [self.bench.silt, "symbols", program], addresses, self.env())

    def env(self):
        return {"XDG_CACHE_HOME": self.cache, "HOME": self.bench.disk}


def timed(bench, command, addresses, env=None):
    """Seconds of a contestant. Answers, 25 MB of them, go to /dev/null: what a file of them costs is the same for all."""
    with open(addresses, encoding="ascii") as f, open(os.devnull, "wb") as nowhere:
        start = time.perf_counter()
        process = bench.processes.start(command, env=dict(os.environ, **(env or {})), stdin=f, stdout=nowhere, stderr=nowhere,
                                        cwd=bench.disk)
        status, _ = bench.wait(process)
        seconds = time.perf_counter() - start
    bench.processes.end_session(process.pid)
    if status:
        raise Failed("%s ended with status %d" % (" ".join(command[:6]), status))
    return seconds


def resident(session):
    """Bytes of memory of all processes of a session, shared pages counted once. Where that may not be read, every process's
    resident pages, which counts them more than once."""
    total = 0
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(stat, encoding="ascii", errors="replace") as f:
                if int(f.read().rsplit(")", 1)[1].split()[3]) != session:
                    continue
            base = os.path.dirname(stat)
            try:
                with open(base + "/smaps_rollup", encoding="ascii") as f:
                    total += next(int(line.split()[1]) for line in f if line.startswith("Pss:")) * 1024
            except (PermissionError, StopIteration):
                with open(base + "/statm", encoding="ascii") as f:
                    total += int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            continue  # it ended meanwhile
    return total


def peak_memory(bench, command, addresses, env=None, seconds=RIVAL_SECONDS):
    """(largest sum seen, answers are complete): looked at every few milliseconds, for at most these seconds."""
    peak, end = 0, time.monotonic() + seconds
    with open(addresses, encoding="ascii") as f, open(os.devnull, "wb") as nowhere:
        process = bench.processes.start(command, env=dict(os.environ, **(env or {})), stdin=f, stdout=nowhere, stderr=nowhere,
                                        cwd=bench.disk)
        while process.poll() is None and time.monotonic() < end:
            peak = max(peak, resident(process.pid))
            time.sleep(0.002)
        done = process.poll() is not None
        bench.processes.end_session(process.pid)
        process.wait()
    return peak, done


def impatient(bench, command, addresses):
    """Seconds of a rival that may take minutes, or None and what it answered in RIVAL_SECONDS."""
    out = bench.path("answers")
    with open(addresses, encoding="ascii") as f, open(out, "wb") as answers:
        start = time.perf_counter()
        process = bench.processes.start([*command[:1], "-a", *command[1:]], stdin=f, stdout=answers, stderr=subprocess.DEVNULL,
                                        cwd=bench.disk)
        try:
            process.wait(timeout=RIVAL_SECONDS)
            seconds = time.perf_counter() - start
        except subprocess.TimeoutExpired:
            seconds = None
        bench.processes.end_session(process.pid)
        process.wait()
    with open(out, encoding="utf-8", errors="replace") as f:
        return seconds, sum(line.startswith("0x") for line in f)


# ---- rows ----

def check_answers(bench, program, addresses):
    """Everybody says the same: with both rivals on a sample, for eu-addr2line takes minutes for all; with LLVM on all."""
    os.environ["XDG_CACHE_HOME"] = bench.path("cache")
    try:
        tally = oracle.compare(program, bench.silt, shutil.which("llvm-symbolizer"), 50 if bench.quick else 150, SEED, quiet=True)
        ours = oracle.ask_silt(bench.silt, program, addresses)
        theirs = oracle.ask_llvm(shutil.which("llvm-symbolizer"), program, addresses)
    finally:
        del os.environ["XDG_CACHE_HOME"]
    if not tally or not tally.is_good():
        raise Failed("answers differ: %s" % tally)
    pairs = [(oracle.clean(a), oracle.clean(b)) for a, b in zip(ours, theirs)]
    equal = sum(oracle.same(a, b) or oracle.is_alias_only(a, b) for a, b in pairs)
    if len(pairs) != len(addresses) or equal < 0.99 * len(pairs):
        raise Failed("%d of %d answers are llvm-symbolizer's" % (equal, len(pairs)))
    return equal


def measure(bench, rivals, form, program):
    addresses = oracle.pick(program, COUNT + COUNT // 20, SEED)[:]
    addresses = addresses[:: max(1, len(addresses) // COUNT)][:COUNT]
    many = write_addresses(bench, addresses)
    bench.note("symbols, %s: comparing answers" % form)
    equal = check_answers(bench, program, addresses)
    many_rows(bench, rivals, form, program, many, equal)
    alone_row(bench, rivals, form, program, addresses)
    memory_row(bench, rivals, form, program, many)


def many_rows(bench, rivals, form, program, many, equal):
    silt, times = Silt(bench), {"first": [], "second": [], "llvm-symbolizer": []}
    command = rivals["llvm-symbolizer"](program)
    elfutils, answered = impatient(bench, rivals["eu-addr2line"](program), many)
    for _ in range(bench.rounds(5)):
        bench.note("symbols, %s: 10,000 addresses" % form)
        times["first"].append(silt(program, many, True))
        times["llvm-symbolizer"].append(timed(bench, command, many))
        times["second"].append(silt(program, many, False))
    bench.details["symbols.%s" % form] = dict(times, elfutils=elfutils)
    note = ("answers: %d of %d are LLVM's; eu-addr2line: " % (equal, COUNT) +
            ("%.1f s" % elfutils if elfutils else "%d addresses in %d s, then ended" % (answered, RIVAL_SECONDS)))
    for what, asked, goal in (("first", 1, 3), ("second", 20, 100)):
        ratio = median([min(r, elfutils or r) / s for r, s in zip(times["llvm-symbolizer"], times[what])])
        bench.row("10,000 addresses, %s, %s time" % (form, what), "%.3f s" % median(times[what]),
                  "llvm %.2f s" % median(times["llvm-symbolizer"]), "%.1f" % ratio, ">= %d" % asked, ">= %d" % goal, ratio >= asked,
                  ratio >= goal, note if what == "first" else "")


def alone_row(bench, rivals, form, program, addresses):
    silt, times = Silt(bench), {"silt": [], "llvm-symbolizer": [], "eu-addr2line": []}
    bench.note("symbols, %s: one address" % form)
    count = bench.rounds(ALONE)
    for address in addresses[COUNT // count // 2:: COUNT // count][:count]:
        one = write_addresses(bench, [address])
        # Three of each, of which the fastest counts: what takes milliseconds is disturbed by anything.
        took = {"silt": [], "llvm-symbolizer": [], "eu-addr2line": []}
        for _ in range(3):
            took["silt"].append(silt(program, one, True))
            for name, command in rivals.items():
                took[name].append(timed(bench, command(program), one))
        for name, seconds in took.items():
            times[name].append(min(seconds))
    bench.details["symbols.%s.one" % form] = times
    ratio = median([min(a, b) / s for a, b, s in zip(times["llvm-symbolizer"], times["eu-addr2line"], times["silt"])])
    bench.row("one address, %s, first time" % form, "%.1f ms" % (median(times["silt"]) * 1e3),
              "eu %.1f ms, llvm %.1f ms" % (median(times["eu-addr2line"]) * 1e3, median(times["llvm-symbolizer"]) * 1e3),
              "%.1f" % ratio, ">= 1", ">= 3", ratio >= 1, ratio >= 3,
              "median of %d addresses; ratio: of each address's" % count)


def memory_row(bench, rivals, form, program, many):
    bench.note("symbols, %s: memory" % form)
    silt, peaks, ended = Silt(bench), {}, []
    shutil.rmtree(silt.cache, ignore_errors=True)
    ours, done = peak_memory(bench, [bench.silt, "symbols", program], many, silt.env(), 60)
    if not done:
        raise Failed("silt symbols did not end within a minute")
    for name, command in rivals.items():
        peaks[name], done = peak_memory(bench, command(program), many)
        if not done:
            ended.append(name)
    bench.details["symbols.%s.memory" % form] = dict(peaks, silt=ours)
    least = min(peaks.values())
    bench.row("peak memory, %s" % form, "%.0f MiB" % mib(ours), ", ".join("%s %.0f" % (n, mib(p)) for n, p in peaks.items()),
              "%.2f" % (least / ours), ">= 1", ">= 2", ours <= least, 2 * ours <= least,
              "largest sum over all processes of what is resident, shared pages once" +
              ("; of %s only its first %d s" % (", ".join(ended), RIVAL_SECONDS) if ended else ""))
