#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kill -9 of the target, of silt run and of silt capture at random moments. Usage: kill.py target|run|capture [TIMES]"""

import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
import uuid

SILT, BLOCKS, CHURN = os.environ["SILT"], os.environ["SILT_BLOCKS"], os.environ["SILT_CHURN"]
SOAK = os.environ.get("SILT_SOAK") == "1"
SEED = int(os.environ.get("SILT_SEED", "0")) or random.randrange(1, 1 << 30)
MARK = "SILT_KILL_TEST=" + uuid.uuid4().hex
dice = random.Random(SEED)
failures = []


def fail(text):
    failures.append(text)
    print("FAILED " + text, flush=True)


def ours():
    """Processes that carry our mark in their environment."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open("/proc/%s/environ" % name, "rb") as f:
                if MARK.encode() in f.read():
                    found.append(int(name))
        except OSError:
            pass
    return found


def state(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


class Target:
    """churn under silt run."""

    def __init__(self, folder, seconds=30):
        self.out = os.path.join(folder, "out.silt")
        counter = os.path.join(folder, "counter")
        env = dict(os.environ)
        key, _, value = MARK.partition("=")
        env[key] = value
        self.run = subprocess.Popen([SILT, "run", "-q", "-o", self.out, "--", CHURN, counter, str(seconds)], env=env,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                    start_new_session=True)
        end = time.monotonic() + 20
        self.pid = 0
        while self.pid == 0:
            if time.monotonic() > end or self.run.poll() is not None:
                raise RuntimeError("the target did not start: %s" % self.run.communicate()[0])
            if os.path.exists(counter) and os.path.getsize(counter) >= 4096:
                with open(counter, "rb") as f:
                    self.map = mmap.mmap(f.fileno(), 4096, prot=mmap.PROT_READ)
                self.pid = struct.unpack_from("<Q", self.map, 8)[0]
            time.sleep(0.002)

    def count(self):
        return struct.unpack_from("<Q", self.map)[0]

    def lives(self):
        """True when the target makes progress."""
        before = self.count()
        for _ in range(400):
            if self.count() > before + 1000:
                return True
            if state(self.pid) in ("gone", "Z"):
                return False
            time.sleep(0.01)
        return False

    def end(self, sig=signal.SIGKILL):
        try:
            os.kill(self.pid, sig)
        except ProcessLookupError:
            pass


def check_dumps(what, folder, wanted):
    """Every file left is a dump that can be read, whole or by salvage; returns how many."""
    count = 0
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if name == "counter":
            continue
        whole = subprocess.run([SILT, "show", path], capture_output=True, text=True, timeout=60)
        if whole.returncode == 0:
            tool = subprocess.run([BLOCKS, path], capture_output=True, text=True, timeout=60)
            if tool.returncode != 0:
                fail("%s: %s: blocks: %s" % (what, name, tool.stderr))
            count += 1
            continue
        saved = subprocess.run([SILT, "show", "--salvage", path], capture_output=True, text=True, timeout=60)
        if saved.returncode != 0:
            fail("%s: %s is neither whole (%s) nor salvageable (%s)" % (what, name, whole.stderr.strip(),
                                                                       saved.stderr.strip()))
    if count < wanted:
        fail("%s: %d whole dumps among %s, wanted %d" % (what, count, os.listdir(folder), wanted))
    return count


def nothing_left(what, seconds=10):
    """No process of ours remains (and with the processes goes the database's memory)."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        left = ours()
        if not left:
            return
        time.sleep(0.02)
    left = ours()
    for pid in left:
        try:
            with open("/proc/%d/cmdline" % pid, "rb") as f:
                fail("%s: left behind: %d (%s) %s" % (what, pid, state(pid), f.read().replace(b"\0", b" ").decode()))
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


def kill_target(folder, n):
    t = Target(folder)
    time.sleep(dice.random() * 0.2)
    t.end()
    try:
        t.run.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        fail("target %d: silt run did not end after its target" % n)
        t.run.kill()
    if t.run.returncode not in (-9, 137):
        fail("target %d: silt run ended with %s" % (n, t.run.returncode))
    check_dumps("target %d" % n, folder, 1)


def kill_run(folder, n):
    t = Target(folder)
    time.sleep(dice.random() * 0.15)
    if n % 3 == 0:
        # At the moment when it writes the dump.
        t.end()
        time.sleep(dice.random() * 0.01)
    t.run.kill()
    t.run.wait()  # not communicate(): the target holds the pipe too
    if n % 3:
        if not t.lives():
            fail("run %d: the target stands still or is dead: %s" % (n, state(t.pid)))
        t.end()
    check_dumps("run %d" % n, folder, 0)


def kill_capture(folder, n):
    t = Target(folder)
    for i in range(4):
        capture = subprocess.Popen([SILT, "capture", str(t.pid), "-o", os.path.join(folder, "c%d.silt" % i)],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(dice.random() * 0.03)
        capture.kill()
        capture.communicate()
        if not t.lives():
            fail("capture %d: the target stands still or is dead: %s" % (n, state(t.pid)))
    last = subprocess.run([SILT, "capture", str(t.pid), "-o", os.path.join(folder, "last.silt")], capture_output=True,
                          text=True, timeout=60)
    if last.returncode != 0:
        fail("capture %d: a capture afterwards fails: %s" % (n, last.stderr.strip()))
    t.end()
    try:
        t.run.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        fail("capture %d: silt run did not end" % n)
        t.run.kill()
    check_dumps("capture %d" % n, folder, 2)


def main(which, times):
    shared = set(os.listdir("/dev/shm"))
    print("seed %d (SILT_SEED repeats it)" % SEED)
    for n in range(times):
        with tempfile.TemporaryDirectory(prefix="silt-kill-") as folder:
            try:
                {"target": kill_target, "run": kill_run, "capture": kill_capture}[which](folder, n)
            except (RuntimeError, subprocess.TimeoutExpired) as e:
                fail("%s %d: %s" % (which, n, e))
            nothing_left("%s %d" % (which, n))
        if len(failures) > 10:
            break
    new = [f for f in set(os.listdir("/dev/shm")) - shared if "silt" in f]
    if new:
        fail("left in /dev/shm: %s" % new)
    print("%d times, %d failures" % (n + 1, len(failures)))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) * (17 if SOAK else 1)))
