#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs fixtures under silt and compares every dump with the ledger the fixture kept. Usage: truth.py FAMILY…"""

import glob
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import dumps  # noqa: E402

SILT = os.environ["SILT"]
BLOCKS = os.environ["SILT_BLOCKS"]
FIXTURES = os.environ["SILT_FIXTURES"]
SOAK = os.environ.get("SILT_SOAK") == "1"
LIBS = "/usr/lib/x86_64-linux-gnu"
ALLOCATORS = ["libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2"]

# Compiler, optimisation and unwinder of the ledger, as tests/truth/CMakeLists.txt builds them. Every variant in soak;
# otherwise the ones named here, chosen so that each compiler and each level is met by several families.
VARIANTS = ["gcc-O2", "gcc-O0-unw", "gcc-O3", "clang-O2-unw", "clang-O0"]


class Case:
    """One run: fixture, arguments, how the dump is taken ("exit", "live"), options of silt run, what to preload."""

    def __init__(self, fixture, args=(), mode="exit", options=(), preload=None, variants=VARIANTS, files=("",), skip=None,
                 depth=None, libraries=(), most=None, unnamed=0, related=False, epochs=False):
        self.fixture, self.args, self.mode, self.options = fixture, list(args), mode, list(options)
        self.preload, self.variants, self.files, self.skip = preload, variants, files, skip
        self.libraries = libraries
        self.unnamed = unnamed  # frames that lie in modules silt cannot tell apart, at least
        self.related = related  # silt diff of the parent's dump and a child's is looked at
        self.epochs = epochs  # a block's size says in which epoch it was allocated
        self.most = most or {}  # counters and what they may show at most
        if depth:
            self.options += ["--depth", str(depth)]

    def name(self, variant):
        parts = [self.fixture, variant] + self.args + [self.mode] + self.options
        if self.preload:
            parts.append(os.path.basename(self.preload))
        return " ".join(os.path.basename(p) for p in parts)


def both(fixture, *args, **kw):
    return [Case(fixture, args, "exit", **kw), Case(fixture, args, "live", **kw)]


def plugin(variant, name):
    return os.path.join(FIXTURES, variant, name)


HOSTILE = ["closed", "close-range", "limits", "filter", "strict", "chdir", "undumpable"]
FAMILIES = {
    "entry": both("fx_entry", variants=["gcc-O2", "gcc-O0-unw", "clang-O2-unw"]),
    "cxx": both("fx_cxx", variants=["gcc-O2", "gcc-O0-unw", "clang-O2-unw"]),
    "late": [Case("fx_late", ["@late0.so", "@late1.so", "@late2.so"], variants=["gcc-O2", "gcc-O0-unw", "clang-O2-unw"])],
    "threads": [Case("fx_threads", mode="live"), Case("fx_threads", variants=["gcc-O2", "clang-O2-unw"]),
                Case("fx_threads", mode="live", options=["--threads"], variants=["gcc-O2"])],
    "realloc": both("fx_realloc", variants=["gcc-O2", "clang-O2-unw", "gcc-O3"]),
    "fork": [Case("fx_fork", ["plain"], files=("", ".child")), Case("fx_fork", ["plain"], "live", files=("", ".child")),
             Case("fx_fork", ["nested"], files=("", ".child", ".child.child"), variants=["gcc-O2"]),
             Case("fx_fork", ["threaded"], files=[""] + [".child%d" % i for i in range(8)], variants=["gcc-O2", "clang-O0"],
                  skip="-unw"),  # libunwind's locks do not survive a fork
             Case("fx_fork", ["plain"], options=["--no-follow"], variants=["gcc-O2"])],
    "inherit": [Case("fx_inherit", ["later"], files=("", ".child", ".child.child"), variants=["gcc-O2", "clang-O2-unw", "gcc-O3"]),
                Case("fx_inherit", ["later"], "live", files=("", ".child", ".child.child"), variants=["gcc-O2"]),
                Case("fx_inherit", ["later"], options=["--threads"], files=("", ".child", ".child.child"), variants=["gcc-O2"]),
                Case("fx_inherit", ["later"], options=["--inherit=never"], files=("", ".child"), variants=["gcc-O2"])] +
               [Case("fx_inherit", [which], files=("", ".child"), variants=["gcc-O2", "clang-O0"], related=which == "others")
                for which in ("orphan", "orphans", "daemon", "others")] +
               [Case("fx_inherit", ["threads"], files=[""] + [".child%d" % i for i in range(8)], variants=["gcc-O2", "gcc-O3", "clang-O0"],
                     skip="-unw")],
    "exec": [Case("fx_fork", ["spawn"], variants=["gcc-O2", "clang-O0"]), Case("fx_fork", ["exec"], variants=["gcc-O2"]),
             Case("fx_fork", ["exec"], "live", variants=["gcc-O2"]),
             Case("fx_fork", ["exec-bare"], variants=["gcc-O2"])],
    "dl": [Case("fx_dl", ["@plugin1.so", "@plugin2.so"], mode, libraries=["plugin1.so", "plugin2.so"])
           for mode in ("exit", "live")],
    "signals": both("fx_signals"),
    # A jump may not leave its thread on the slow way.
    "jump": [Case("fx_jump", mode=mode, variants=["gcc-O2", "clang-O0"], most={"agent.nested": 100}) for mode in ("exit", "live")],
    # The exceptions themselves are allocated in the handlers.
    "leave": [Case("fx_leave", variants=["gcc-O2"], most={"agent.nested": 6000})],
    "reload": [Case("fx_reload", ["again", "@plugin3.so"], variants=["gcc-O2"], libraries=["plugin3.so"]),
               Case("fx_reload", ["others", "@plugin2.so"], variants=["gcc-O2"], unnamed=300),
               Case("fx_reload", ["others", "@plugin1.so"], "live", variants=["clang-O0"], unnamed=300)],
    "shapes": [Case("fx_shapes", ["sites"], epochs=True), Case("fx_shapes", ["sites"], "live", variants=["gcc-O2"], epochs=True),
               Case("fx_shapes", ["libraries", "@libshapes1.so", "@libshapes2.so"], variants=["gcc-O2", "clang-O2-unw", "clang-O0"],
                    libraries=["libshapes1.so", "libshapes2.so"])],
    "stay": [Case("fx_stay", ["ways"], epochs=True), Case("fx_stay", ["ways"], "live", variants=["gcc-O2"], epochs=True),
             Case("fx_stay", ["ways"], depth=512, variants=["gcc-O2", "clang-O0"], epochs=True),
             Case("fx_stay", ["libraries", "@libshapes1.so", "@libshapes2.so"], variants=["gcc-O2", "clang-O2-unw", "clang-O0"],
                  libraries=["libshapes1.so", "libshapes2.so"], epochs=True)],
    "sizes": both("fx_sizes", variants=["gcc-O2", "clang-O2-unw"]),
    "deep": [Case("fx_deep", variants=["gcc-O2", "gcc-O0-unw", "clang-O0"]),
             Case("fx_deep", depth=32, variants=["gcc-O2"]), Case("fx_deep", depth=1, variants=["gcc-O2"]),
             Case("fx_deep", depth=512, variants=["gcc-O2", "clang-O2-unw"])],
    "context": both("fx_context", variants=["gcc-O2", "gcc-O0-unw", "clang-O2-unw"]),
    "frames": [Case("fx_frames"), Case("fx_frames", mode="live", variants=["gcc-O2"])],
    # libunwind guesses on where there is no unwind information.
    "jit": [Case("fx_jit", variants=["gcc-O2", "gcc-O3", "clang-O0"], skip="-unw")],
    "hostile": [Case("fx_hostile", [which], variants=["gcc-O2"], skip="-unw") for which in HOSTILE] +
               [Case("fx_hostile", ["closed"], "live", variants=["gcc-O2"]),
                Case("fx_hostile", ["undumpable"], "live", variants=["gcc-O2"]),
                Case("fx_hostile", ["preload", "@libctors.so"], variants=["gcc-O2"])],
    "ctors": [Case("fx_ctors", libraries=["libctors.so"], variants=["gcc-O2", "clang-O0", "gcc-O3"])],
    "mmap": both("fx_mmap", variants=["gcc-O2"]),
    "filtered": [Case(f, args, mode, options, variants=["gcc-O2"], files=files)
                 for options in (["--min-size", "100"], ["--sample", "1K", "--threads"], ["--sample", "300", "--min-size", "64"])
                 for f, args, mode, files in (("fx_entry", [], "exit", [""]), ("fx_cxx", [], "exit", [""]),
                                              ("fx_threads", [], "live", [""]), ("fx_realloc", [], "exit", [""]),
                                              ("fx_signals", [], "exit", [""]), ("fx_mmap", [], "live", [""]),
                                              ("fx_pool", [], "exit", [""]), ("fx_sample", [], "exit", [""]),
                                              ("fx_fork", ["plain"], "exit", ["", ".child"]))] +
                # Nothing the loader itself allocates is so large: what it unloads must be noticed all the same.
                [Case("fx_dl", ["@plugin1.so", "@plugin2.so", "500"], options=["--min-size", "3000"], variants=["gcc-O2"])],
    "pool": both("fx_pool", variants=["gcc-O2"]),
    "allocators": [Case("fx_jemalloc", variants=["gcc-O2", "clang-O0"]), Case("fx_tcmalloc", variants=["gcc-O2", "clang-O0"]),
                   Case("fx_mimalloc", variants=["gcc-O2", "clang-O0"])] +
                  [Case(f, args, preload=os.path.join(LIBS, a), variants=["gcc-O2"])
                   for a in ALLOCATORS for f, args in (("fx_entry", ["reallocarray", "pvalloc"]), ("fx_cxx", []),
                                                       ("fx_threads", []), ("fx_realloc", []))],
}


def wait_for_file(path, process, seconds):
    end = time.monotonic() + seconds
    while not os.path.exists(path):
        if process.poll() is not None:
            raise RuntimeError("ended with %d before %s was there" % (process.returncode, os.path.basename(path)))
        if time.monotonic() > end:
            raise RuntimeError("no %s after %d seconds" % (os.path.basename(path), seconds))
        time.sleep(0.005)


def capture_live(process, ledger, folder):
    """Captures the waiting fixture twice: the second dump must say the same (the first may not disturb)."""
    wait_for_file(ledger, process, 60)
    pid = dumps.Ledger(ledger, "/proc/self/exe").pid
    found = []
    for n in (1, 2):
        out = os.path.join(folder, "live%d.silt" % n)
        r = subprocess.run([SILT, "capture", str(pid), "-o", out], capture_output=True, text=True, timeout=60)
        if r.returncode != 0:
            raise RuntimeError("silt capture ended with %d: %s" % (r.returncode, r.stderr.strip()))
        found.append(out)
    open(ledger + ".go", "w").close()
    return found


def dump_of(files, pid):
    """The last dump of the last image of that process."""
    found = [d for d in (dumps.Dump(BLOCKS, f) for f in files) if d.process["pid"] == pid]
    if not found:
        raise RuntimeError("no dump of process %d among %s" % (pid, [os.path.basename(f) for f in files]))
    return max(found, key=lambda d: (d.process["start"], d.process["epoch"]))


def run_fixture(case, variant, folder):
    """Runs one fixture under silt; returns the list of (dump, ledger) pairs to compare."""
    exe = os.path.join(FIXTURES, variant, case.fixture)
    out, ledger = os.path.join(folder, "out.silt"), os.path.join(folder, "ledger")
    args = [plugin(variant, a[1:]) if a.startswith("@") else a for a in case.args]
    env = dict(os.environ, LEDGER_OUT=ledger)
    env.pop("LEDGER_WAIT", None)
    if case.mode == "live":
        env["LEDGER_WAIT"] = "1"
    if "--inherit=never" in case.options:
        env["LEDGER_BARE"] = "1"
    if case.preload:
        env["LD_PRELOAD"] = case.preload
        env["LEDGER_OWN_OPERATORS"] = "1"
        if "mimalloc" in case.preload:
            env["LEDGER_NEW_ABORTS"] = "1"
    process = subprocess.Popen([SILT, "run", "-q", "-o", out] + case.options + ["--", exe] + args, env=env,
                               stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
    live = []
    try:
        if case.mode == "live":
            live = capture_live(process, ledger, folder)
        _, stderr = process.communicate(timeout=280)  # for what hangs; a machine under load takes its time
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        _, stderr = process.communicate()
        sys.stderr.write(stderr)
        raise
    if process.returncode != 0:
        raise RuntimeError("silt run ended with %d: %s" % (process.returncode, stderr.strip()))
    files = glob.glob(os.path.join(folder, "out*"))
    wanted = [""] if "--no-follow" in case.options else case.files
    ledgers = [dumps.Ledger(ledger + suffix, exe) for suffix in wanted]
    pairs = [(dump_of(files, entry.pid), entry) for entry in ledgers]
    return pairs + [(dumps.Dump(BLOCKS, f), ledgers[0]) for f in live]


def compare_relatives(parent, child):
    """silt diff finds a child's blocks under its parent's stacks: each stack is one line, and sums are right."""
    r = subprocess.run([SILT, "diff", "--json", parent.path, child.path], capture_output=True, text=True, timeout=60)
    if r.returncode != 0:
        return ["silt diff ended with %d: %s" % (r.returncode, r.stderr.strip())]
    diff = json.loads(r.stdout)
    lines = [json.dumps(s["frames"]) for s in diff["stacks"]]
    errors = ["silt diff shows %d stacks, %d of them once" % (len(lines), len(set(lines)))] if len(set(lines)) != len(lines) else []
    count = diff["totals"]["count"]
    if (count["before"], count["after"]) != (len(parent.blocks), len(child.blocks)) or not \
            any(s["count"]["before"] and s["count"]["after"] for s in diff["stacks"]) or \
            sum(s["count"]["delta"] for s in diff["stacks"]) != count["delta"]:
        errors.append("silt diff of parent and child: %s" % count)
    return errors


def wrong_epochs(dump, ledger):
    """Blocks that are not of the epoch which their size tells."""
    wrong = [a for a in ledger.blocks if a in dump.blocks and dump.contexts[dump.blocks[a][1]][2] - 1 != ledger.blocks[a][0] % 8]
    return ["%d of %d blocks are of another epoch, 0x%x of %d bytes of epoch %d" %
            (len(wrong), len(ledger.blocks), a, ledger.blocks[a][0], dump.contexts[dump.blocks[a][1]][2]) for a in wrong[:1]]


def run_case(case, variant):
    """Runs and compares; returns (blocks compared, errors)."""
    own = [os.path.join(FIXTURES, variant, n) for n in (case.fixture,) + tuple(case.libraries)]
    count, errors = 0, []
    with tempfile.TemporaryDirectory(prefix="silt-truth-") as folder:
        try:
            pairs = run_fixture(case, variant, folder)
            if case.related:
                errors += compare_relatives(pairs[0][0], pairs[1][0])
            for dump, ledger in pairs:
                count += len(ledger.blocks)
                bare = "--inherit=never" in case.options and ledger.forked
                if any("inherited" in n for n in dump.notes) != bare:
                    errors.append("%s note about inherited blocks: %s" % ("no" if bare else "a", dump.notes))
                errors += [e for e in dump.check_itself()[:5] if not (case.unnamed and "lost_modules" in e)]
                errors += dumps.compare(dump, ledger, own, unnamed=case.unnamed)
                if case.unnamed and not any("shown by address" in n for n in dump.notes):
                    errors.append("no note says that frames are shown by address: %s" % dump.notes)
                errors += ["counter %s is %d, at most %d expected" % (name, dump.counters[name], n)
                           for name, n in case.most.items() if dump.counters.get(name, 0) > n]
                if case.epochs:
                    errors += wrong_epochs(dump, ledger)
                if not ledger.blocks:
                    errors.append("nothing to compare: the ledger is empty")
        except (RuntimeError, ValueError, OSError, subprocess.TimeoutExpired) as e:
            errors.append(str(e))
    return count, errors


def main(families):
    failures = runs = 0
    for family in families:
        for case in FAMILIES[family]:
            for variant in VARIANTS if SOAK else case.variants:
                if case.skip and variant.endswith(case.skip):
                    continue
                if not os.path.exists(os.path.join(FIXTURES, variant, case.fixture)):
                    print("skip: %s was not built (a compiler or library is missing)" % case.name(variant))
                    continue
                count, errors = run_case(case, variant)
                runs += 1
                failures += bool(errors)
                print("%-6s %s: %d blocks" % ("FAILED" if errors else "ok", case.name(variant), count), flush=True)
                for e in errors:
                    print("  " + e, flush=True)
    print("%d runs, %d failed" % (runs, failures))
    return 1 if failures else 0 if runs else 77


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(FAMILIES)))
