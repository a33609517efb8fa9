# SPDX-License-Identifier: MIT
"""What the attach tests share: starting targets, running silt on them, and comparing a process with what it was before."""
import contextlib
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time

SILT = os.environ["SILT"]
BUSY = os.environ.get("SILT_BUSY", "")
TIMEOUT = 60


class Failure(Exception):
    """A check did not hold."""


def skip(reason):
    print("skip:", reason)
    sys.exit(77)


def check(condition, text):
    if not condition:
        raise Failure(text)


def silt(*args, env=None, wanted=0):
    """Runs silt; returns (status, stdout, stderr). wanted None: any status."""
    run = subprocess.run([SILT, *map(str, args)], capture_output=True, timeout=TIMEOUT, env={**os.environ, **(env or {})})
    out, err = run.stdout.decode(errors="replace"), run.stderr.decode(errors="replace")
    if wanted is not None:
        check(run.returncode == wanted, f"silt {' '.join(map(str, args))}: status {run.returncode}, not {wanted}: {err.strip()}")
    return run.returncode, out, err


def maps(pid):
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as f:
        return f.read()


def status(pid, key):
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as f:
        return re.search(rf"^{key}:\s*(.*)$", f.read(), re.M).group(1)


def wait_until(condition, what, seconds=60):
    """Waits for something that is going to happen; the time is only for what has gone wrong. what: a text, or makes one then."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            check(False, what() if callable(what) else what)
        time.sleep(0.005)


def wait_asleep(process):
    """Until the process waits in a system call, or has ended: a program that was just started has got so far then."""
    wait_until(lambda: process.poll() is not None or status(process.pid, "State")[0] in "SZ", "it does not come to wait")


def descriptors(pid):
    found = []
    for fd in sorted(os.listdir(f"/proc/{pid}/fd"), key=int):
        with contextlib.suppress(OSError):
            found.append((fd, os.readlink(f"/proc/{pid}/fd/{fd}")))
    return found


def changed_code(pid):
    """Pages of mapped code that differ from the file they come from."""
    bad = []
    with open(f"/proc/{pid}/mem", "rb") as memory:
        for line in maps(pid).splitlines():
            m = re.match(r"(\w+)-(\w+) r-xp (\w+) \S+ (\d+) +(/.*)", line)
            if not m or "memfd" in m.group(5):
                continue
            start, end, offset = (int(m.group(i), 16) for i in (1, 2, 3))
            with open(m.group(5), "rb") as f:
                f.seek(offset)
                wanted = f.read(end - start).ljust(end - start, b"\0")
            memory.seek(start)
            if memory.read(end - start) != wanted:
                bad.append(line)
    return bad


def check_clean(pid, before_fds):
    """Nothing of silt's is left in the process."""
    # Databases have places of their own (WINDOW_BASE of capture/agent/memory.c), where nothing else is mapped.
    check(not re.search(r"^2\w{11}-", maps(pid), re.M), "memory left where databases were: " + maps(pid))
    check("memfd:silt" not in maps(pid), "mappings left: " + "\n".join(line for line in maps(pid).splitlines() if "silt" in line))
    check(not changed_code(pid), f"code differs from its file: {changed_code(pid)}")
    check(descriptors(pid) == before_fds, f"descriptors: {before_fds} became {descriptors(pid)}")


def check_free(pid):
    """It is not stopped, and nobody traces it."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if status(pid, "TracerPid") == "0" and status(pid, "State")[0] not in "tT":
            return
        time.sleep(0.005)
    raise Failure(f"state {status(pid, 'State')}, tracer {status(pid, 'TracerPid')}")


class Busy:
    """The busy program with some threads, working until the block ends."""

    def __init__(self, threads=3, command=None, extra=()):
        self.threads = threads
        self.file = tempfile.NamedTemporaryFile(prefix="silt-attach-")
        self.process = subprocess.Popen([*(command or [BUSY]), self.file.name, str(threads), *extra], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.pid = self.process.pid
        self.progress()
        self.fds = descriptors(self.pid)

    def counts(self):
        with open(self.file.name, "rb") as f:
            return struct.unpack(f"{self.threads}Q", f.read(8 * self.threads).ljust(8 * self.threads, b"\0"))

    def progress(self, seconds=20):
        """Waits until every thread has done some more rounds."""
        before, deadline = self.counts(), time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failure(f"the target ended with {self.process.returncode}: {self.stderr()}")
            if all(now > old + 100 for now, old in zip(self.counts(), before)):
                return
            time.sleep(0.002)
        raise Failure(f"threads stand still: {before} became {self.counts()}")

    def stderr(self):
        return self.process.stderr.read().decode(errors="replace").strip()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait()
        self.file.close()


def main(tests):
    """Runs the test named on the command line, or all."""
    names = sys.argv[1:] or list(tests)
    for name in names:
        start = time.monotonic()
        try:
            tests[name]()
        except Failure as e:
            print(f"{name}: FAILED: {e}")
            return 1
        print(f"{name}: fine ({time.monotonic() - start:.1f} s)")
    return 0
