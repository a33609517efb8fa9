#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Attaching to processes in every state: waits go on as if nothing had happened, stopped stays stopped, what cannot be attached to is
refused and untouched.

usage: states.py [NAME]…   environment: SILT, SILT_BUSY, SILT_WAITS
"""
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time

from target import SILT, Busy, check, check_clean, check_free, descriptors, main, maps, silt, status, wait_asleep, wait_until

WAITS = os.environ["SILT_WAITS"]
KINDS = ("nanosleep clock_nanosleep usleep poll ppoll select pselect epoll_wait epoll_pwait read waitpid futex futex_bitset "
         "sem_timedwait sigtimedwait sigsuspend pause recv inotify msgrcv "
         "alarms spin io_uring vectors tiles").split()


@contextlib.contextmanager
def running(*command, stdin=subprocess.DEVNULL, **options):
    process = subprocess.Popen(command, stdin=stdin, **options)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


def children(pid):
    return [int(c) for c in subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, check=False).stdout.split()]


def refused(pid, text):
    _, _, err = silt("attach", pid, wanted=3)
    check(text in err, f"'{text}' is not in: {err.strip()}")


BUSY_KINDS = ("alarms", "spin", "vectors", "tiles")
WAIT = 3  # seconds


def waiting(kind, seconds):
    # Without a buffer: communicate() with a time limit does not see what readline() has read ahead.
    return running(WAITS, kind, str(seconds), stdout=subprocess.PIPE, bufsize=0)


def visit(kind, process, env):
    """Attaches and detaches while it waits. False: the wait was over too early to tell."""
    check(process.stdout.readline() == b"waiting\n", f"{kind}: does not begin")
    if kind not in BUSY_KINDS:
        wait_asleep(process)
    attached = silt("attach", "-q", process.pid, env=env, wanted=None)
    detached = silt("detach", "-q", process.pid, wanted=None)
    if process.poll() is not None:
        return False
    check(env or attached[0] == detached[0] == 0, f"{kind}: {attached[2]} {detached[2]}")
    check_free(process.pid)
    return process.poll() is None


def check_result(kind, process, seconds, fault):
    out, _ = process.communicate(timeout=60 + 2 * seconds)
    check(process.returncode == 0 and out, f"{kind}, fault {fault}: status {process.returncode}")
    result, error, ms = map(int, out.split())
    check(result == 0 and error == 0 and ms >= seconds * 1000 - 1, f"{kind}, fault {fault}: {result}, errno {error}, {ms} ms")


def waits():
    """The only thread sits in a system call: it must end by itself, at its time, with its result."""
    for fault in (None, 4, 6, 24, 40):  # with silt killed in the middle, too
        env = {"SILT_FAULT": str(fault)} if fault else {}
        kinds, seconds = list(KINDS), WAIT
        while kinds:
            check(seconds < 400, f"{kinds}: they are over before anything can be done")
            with contextlib.ExitStack() as stack:
                started = {kind: stack.enter_context(waiting(kind, seconds)) for kind in kinds}
                # A machine under load does not come to them all in time: those again, with more of it.
                kinds = [kind for kind, p in started.items() if not visit(kind, p, env)]
                for kind, p in started.items():
                    check_result(kind, p, seconds, fault)
            seconds *= 4


def stopped():
    """Ctrl-Z: works, and it stays stopped."""
    with Busy() as target:
        os.kill(target.pid, signal.SIGSTOP)
        while status(target.pid, "State")[0] != "T":
            time.sleep(0.01)
        counts = target.counts()
        silt("attach", "-q", target.pid)
        # Let go of, a thread is on its way back to being stopped; meanwhile it may do no work.
        wait_until(lambda: status(target.pid, "State")[0] == "T", "it runs after attach")
        silt("capture", "-q", "-o", "/dev/null", target.pid)
        silt("detach", "-q", target.pid)
        wait_until(lambda: status(target.pid, "State")[0] == "T", "it runs after detach")
        time.sleep(0.05)
        check(target.counts() == counts, "it has worked while it was stopped")
        check_clean(target.pid, target.fds)
        silt("attach", "-q", target.pid)
        os.kill(target.pid, signal.SIGCONT)
        target.progress()
        silt("detach", "-q", target.pid)
        target.progress()


def refusals():
    with running("sleep", "600") as p:
        wait_asleep(p)
        silt("attach", "-q", p.pid)
        refused(p.pid, "is attached to process")
        silt("detach", "-q", p.pid)
        _, _, err = silt("detach", p.pid, wanted=3)
        check("is not attached" in err, err)
    ended = subprocess.Popen(["true"])
    wait_until(lambda: status(ended.pid, "State")[0] == "Z", "it does not end")
    refused(ended.pid, "has ended")
    ended.wait()
    refused(ended.pid, "there is no process")
    if os.path.exists("/proc/2/status") and status(2, "Name") == "kthreadd":
        refused(2, "part of the kernel")
    with Busy(2) as target:
        thread = [int(t) for t in os.listdir(f"/proc/{target.pid}/task") if int(t) != target.pid][0]
        refused(thread, "is a thread of process")
    with running(SILT, "run", "-q", "-o", "/dev/null", "--", "sleep", "600") as p:
        wait_until(lambda: any("silt-db" in maps(c) for c in children(p.pid)), "nothing is tracked")
        refused(p.pid, "is silt itself")
        child = children(p.pid)[0]
        try:
            refused(child, "tracked already")
            _, _, err = silt("detach", child, wanted=3)
            check("silt run" in err, err)
        finally:
            os.kill(child, signal.SIGKILL)


def traced():
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    with running("sleep", "600") as p:
        wait_asleep(p)
        check(libc.ptrace(0x4206, p.pid, None, None) == 0, "PTRACE_SEIZE")
        refused(p.pid, "is traced by process")


def forked():
    """A child of a process that was attached to alone goes on untracked, and can be attached to or cleaned itself."""
    code = ("import os, sys, time\n"
            "print('ready', flush=True)\n"
            "sys.stdin.readline()\n"
            "pid = os.fork()\n"
            "if pid: print(pid, flush=True)\n"
            "n = 0\n"
            "while True:\n"
            "    n += len([bytes(100) for i in range(1000)])\n"
            "    time.sleep(0.001)\n")
    with running(sys.executable, "-c", code, env={**os.environ, "PYTHONMALLOC": "malloc"}, stdin=subprocess.PIPE,
                 stdout=subprocess.PIPE) as p:
        check(p.stdout.readline() == b"ready\n", "it does not begin")
        fds = descriptors(p.pid)
        silt("attach", "-q", "--no-follow", p.pid)
        p.stdin.write(b"\n")
        p.stdin.flush()
        child = int(p.stdout.readline())
        try:
            silt("attach", "-q", child)
            _, out, _ = silt("show", "--json", child)
            check('"count":' in out, out[:200])
            silt("detach", "-q", child)
            check_clean(child, fds)
            check_free(child)
            silt("capture", "-q", "-o", "/dev/null", p.pid)
            silt("detach", "-q", p.pid)
            check_clean(p.pid, fds)
            time.sleep(0.1)
            check(status(child, "State")[0] in "RS" and status(p.pid, "State")[0] in "RS", "they work on")
        finally:
            os.kill(child, signal.SIGKILL)


def signals():
    """A process that gets thousands of signals a second, with handlers, during many cycles."""
    with Busy(2) as target:
        storm = subprocess.Popen([sys.executable, "-c",
                                  f"import os\nwhile True: os.kill({target.pid}, 23)"])  # SIGURG: ignored
        try:
            for _ in range(5):
                silt("attach", "-q", target.pid)
                target.progress()
                silt("detach", "-q", target.pid)
        finally:
            storm.kill()
            storm.wait()
        target.progress()
        check_clean(target.pid, target.fds)


def storm():
    """Threads come and go all the time: none is missed, and the one that is borrowed may end before it is stopped."""
    with Busy(2, extra=("storm",)) as target:
        for _ in range(30):
            silt("attach", "-q", target.pid)
            silt("capture", "-q", "-o", "/dev/null", target.pid)
            silt("detach", "-q", target.pid)
            check(target.process.poll() is None, f"it ended: {target.process.poll()}")
        target.progress()
        check_clean(target.pid, target.fds)
        check_free(target.pid)


def seccomp():
    """A filter that lets pass what is needed is fine; one that does not is refused before anything is changed."""
    prologue = ("import ctypes, struct, time\n"
                "libc = ctypes.CDLL(None)\n"
                "def install(*code):\n"
                "    text = b''.join(struct.pack('<HBBI', *c) for c in code)\n"
                "    buffer = ctypes.create_string_buffer(text)\n"
                "    program = ctypes.create_string_buffer(struct.pack('<HxxxxxxQ', len(code), ctypes.addressof(buffer)))\n"
                "    assert libc.prctl(38, 1, 0, 0, 0) == 0\n"
                "    assert libc.prctl(22, 2, program, 0, 0) == 0\n")
    work = "while True:\n    x = [bytes(100) for i in range(1000)]\n    time.sleep(0.01)\n"
    # Kills for memfd_create (319); then one that kills for ptrace (101) only.
    for number, text in ((319, "memfd_create"), (101, None)):
        filters = f"install((0x20, 0, 0, 0), (0x15, 0, 1, {number}), (6, 0, 0, 0x80000000), (6, 0, 0, 0x7fff0000))\n"
        with running(sys.executable, "-c", prologue + filters + work, env={**os.environ, "PYTHONMALLOC": "malloc"}) as p:
            wait_until(lambda: p.poll() is not None or status(p.pid, "Seccomp") == "2", "the filter is not in force")
            check(p.poll() is None, "it ended")
            fds = descriptors(p.pid)
            if text:
                refused(p.pid, "forbids " + text)
            else:
                silt("attach", "-q", p.pid)
                time.sleep(0.2)
                silt("capture", "-q", "-o", "/dev/null", p.pid)
                silt("detach", "-q", p.pid)
            check_clean(p.pid, fds)
            time.sleep(0.1)
            check(p.poll() is None, "it ended")


def together():
    """Several attach at once: one is in, the others find it there, whole, and none takes its half-done work for a killed one's."""
    with running("sleep", "600") as p:
        wait_asleep(p)
        fds = descriptors(p.pid)
        for turn in range(12):
            several = []
            for k in range(3):
                several.append(subprocess.Popen([SILT, "attach", "-q", str(p.pid)], stdin=subprocess.DEVNULL,
                                                stderr=subprocess.PIPE, text=True))
                time.sleep((turn * 7 + k * 13) % 30 / 1000)
            said = [one.communicate(timeout=60)[1] for one in several]
            check(sorted(one.returncode for one in several) == [0, 3, 3], f"statuses {[one.returncode for one in several]}: {said}")
            check(sum("is attached to process" in text and "already" in text for text in said) == 2, f"they say {said}")
            silt("detach", "-q", p.pid)
        check_clean(p.pid, fds)


TESTS = {f.__name__: f for f in (waits, stopped, refusals, traced, together, forked, signals, storm, seccomp)}

if __name__ == "__main__":
    sys.exit(main(TESTS))
