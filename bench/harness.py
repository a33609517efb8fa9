# SPDX-License-Identifier: MIT
"""Starting contestants, cleaning up after them, and the table of results."""

import contextlib
import glob
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

TIMEOUT = 180  # seconds any single contestant may take


class Skip(Exception):
    """A row or contestant that cannot be measured here; the text says why."""


class Failed(Exception):
    """A contestant that ran and failed; the text says how."""


class Processes:
    """Every process runs in a session of its own, so that what it leaves behind can be found and ended."""

    def __init__(self):
        self.sessions = set()

    def start(self, command, **options):
        process = subprocess.Popen(command, start_new_session=True, **options)
        self.sessions.add(process.pid)
        return process

    def end_session(self, session):
        """Kills what is left of a session. Its number cannot be reused while a member lives."""
        for stat in glob.glob("/proc/[0-9]*/stat"):
            try:
                with open(stat) as f:
                    text = f.read()
                pid, rest = int(text.split(None, 1)[0]), text.rsplit(")", 1)[1].split()
                if int(rest[3]) == session:
                    os.kill(pid, signal.SIGKILL)
            except (OSError, IndexError, ValueError):
                continue  # it ended meanwhile
        self.sessions.discard(session)

    def end_all(self):
        for session in list(self.sessions):
            self.end_session(session)
            try:
                os.waitpid(session, 0)
            except ChildProcessError:
                pass  # already reaped


class Run:
    """What one finished command told: output, seconds of wall time, largest resident size of it or a child."""

    def __init__(self, out, err, seconds, max_rss):
        self.out, self.err, self.seconds, self.max_rss = out, err, seconds, max_rss


class Bench:
    """The tools found, the private directories, the options."""

    def __init__(self, build, quick):
        self.build = os.path.abspath(build)
        self.quick = quick
        self.processes = Processes()
        self.disk = tempfile.mkdtemp(prefix="silt-bench-")
        # heaptrack's raw files go to memory where there is room: its best case, no disk in its way.
        self.memory = self.disk
        try:
            if shutil.disk_usage("/dev/shm").free > 3 << 30:
                self.memory = tempfile.mkdtemp(prefix="silt-bench-", dir="/dev/shm")
        except OSError:
            pass
        self.silt = os.path.join(self.build, "bin", "silt")
        self.heaptrack, self.heaptrack_interpret = self.find_heaptrack()
        self.heaptrack_print = shutil.which("heaptrack_print")
        self.jemalloc = self.find_jemalloc()
        self.rows = []
        self.details = {}
        self.serial = 0

    def close(self):
        self.processes.end_all()
        for path in {self.disk, self.memory}:
            shutil.rmtree(path, ignore_errors=True)

    def rounds(self, n):
        return min(n, 2) if self.quick else n

    def note(self, text):
        print("  " + text, file=sys.stderr, flush=True)

    # ---- tools ----

    @staticmethod
    def find_heaptrack():
        tool = shutil.which("heaptrack")
        if not tool:
            return None, None
        base = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(tool))), "lib", "heaptrack")
        library = os.path.join(base, "libheaptrack_preload.so")
        interpret = os.path.join(base, "libexec", "heaptrack_interpret")
        return (library if os.path.exists(library) else None, interpret if os.path.exists(interpret) else None)

    def find_jemalloc(self):
        """libjemalloc.so.2, when it was compiled with profiling."""
        for path in sorted(glob.glob("/usr/lib/*/libjemalloc.so.2")):
            probe = subprocess.run(["true"], env=dict(os.environ, LD_PRELOAD=path, MALLOC_CONF="prof:true"),
                                   stderr=subprocess.PIPE, check=False)
            if b"Invalid conf" not in probe.stderr:
                return path
        return None

    def need_silt(self):
        if not os.access(self.silt, os.X_OK):
            raise Skip("%s is not built" % self.silt)

    def need_heaptrack(self):
        if not self.heaptrack:
            raise Skip("heaptrack is not installed (apt-get install heaptrack)")

    def program(self, name):
        path = os.path.join(self.build, "bench", name)
        if not os.access(path, os.X_OK):
            raise Skip("%s is not built" % path)
        return path

    # ---- contestants: (command, environment) ----

    def path(self, name, memory=False):
        self.serial += 1
        return os.path.join(self.memory if memory else self.disk, "%d-%s" % (self.serial, name))

    def silt_command(self, command, out, *options):
        return [self.silt, "run", "-q", "-o", out, *options, "--", *command]

    def heaptrack_env(self, out):
        return {"LD_PRELOAD": self.heaptrack, "DUMP_HEAPTRACK_OUTPUT": out}

    def run(self, command, env=None, check=True, stdin=subprocess.DEVNULL, cwd=None):
        """Runs a command to its end. Leaves no process behind, whatever happens."""
        full_env = dict(os.environ, **(env or {}))
        with tempfile.TemporaryFile(dir=self.disk) as out, tempfile.TemporaryFile(dir=self.disk) as err:
            start = time.perf_counter()
            process = self.processes.start(command, env=full_env, stdin=stdin, stdout=out, stderr=err,
                                           cwd=cwd or self.disk)
            status, usage = self.wait(process)
            seconds = time.perf_counter() - start
            self.processes.end_session(process.pid)
            out.seek(0)
            err.seek(0)
            run = Run(out.read().decode(errors="replace"), err.read().decode(errors="replace"), seconds,
                      usage.ru_maxrss * 1024)
        if check and status != 0:
            lines = run.err.strip().splitlines()
            raise Failed("%s ended with status %d%s" % (" ".join(command[:6]), status,
                                                        ": " + lines[-1] if lines else ""))
        return run

    @contextlib.contextmanager
    def limit(self, process):
        """Kills the process's session when the block takes too long, so that whatever waits for it ends, and fails."""
        expired = []

        def expire(_signal, _frame):
            expired.append(True)
            self.processes.end_session(process.pid)

        old = signal.signal(signal.SIGALRM, expire)
        signal.alarm(TIMEOUT)
        try:
            yield
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, old)
            if expired:
                raise Failed("%s did not answer within %d s" % (" ".join(process.args[:6]), TIMEOUT))

    def wait(self, process):
        """(exit code, resource usage) of a process and the children it waited for."""
        with self.limit(process):
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode, usage

    def show(self, dump):
        """The head of a dump, as `silt show --json` tells it."""
        return json.loads(self.run([self.silt, "show", "--json", "--top", "1", dump]).out)

    # ---- results ----

    def row(self, measure, silt, rival, ratio, asked, goal, passed, reached, note=""):
        """One line of the table. silt, rival, ratio, asked, goal: text; passed, reached: whether asked and goal are met,
        None where nothing is asked."""
        verdict = "" if passed is None else "PASS, goal" if passed and reached else "PASS" if passed else "short"
        self.rows.append({"measure": measure, "silt": silt, "rival": rival, "ratio": ratio, "asked": asked,
                          "goal": goal, "verdict": verdict, "note": note})

    def skip(self, measure, reason):
        self.rows.append({"measure": measure, "silt": "", "rival": "", "ratio": "", "asked": "", "goal": "",
                          "verdict": "skipped: " + reason, "note": ""})

    def table(self):
        heads = ["measure", "silt", "rival", "ratio", "asked", "goal", "verdict"]
        cells = [heads] + [[row[h] for h in heads] for row in self.rows]
        widths = [max(len(line[i]) for line in cells) for i in range(len(heads) - 1)] + [0]
        lines = []
        for number, line in enumerate(cells):
            lines.append("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip())
            if number == 0:
                lines.append("-" * max(sum(widths) + 2 * len(widths) + 8, 60))
            elif self.rows[number - 1]["note"]:
                lines.append("    " + self.rows[number - 1]["note"])
        return "\n".join(lines)


def median(values):
    return statistics.median(values)


def spread(values):
    """Half the distance of the quartiles, relative to the median: how far to trust it."""
    if len(values) < 3 or not median(values):
        return None
    q = statistics.quantiles(values, n=4)
    return abs((q[2] - q[0]) / 2 / median(values))


def mib(n):
    return n / (1 << 20)


def busy():
    """How many processors' worth of other work ran during the last minute: figures on a busy machine are worth little."""
    return os.getloadavg()[0]


def machine():
    model = "unknown processor"
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return "%s, %d processors, Linux %s, load %.1f" % (model, os.cpu_count(), os.uname().release, busy())
