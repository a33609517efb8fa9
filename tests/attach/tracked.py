#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is known of an attached process, on every C library and allocator, and how its last state is kept.

usage: tracked.py [allocators|linked|before|mapping|exceptions|holder|name]…   environment: SILT, SILT_BUSY, SILT_SOURCE
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from target import Busy, Failure, check, check_clean, descriptors, main, silt, skip, status, wait_until

SOURCE = os.environ["SILT_SOURCE"]
BUSY_C = os.path.join(SOURCE, "tests/attach/busy.c")
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
SLOTS = 200  # blocks a thread of busy keeps


def show(pid):
    return json.loads(silt("show", "--json", pid)[1])


def check_tracked(target, stacks=True):
    """Attached long enough for every block to be new, the live ones are exactly what the program keeps."""
    silt("attach", "-q", target.pid)
    start = target.counts()
    wait_until(lambda: all(now > was + 30000 for now, was in zip(target.counts(), start)), "it stands still", 60)
    report = show(target.pid)
    known = [s for s in report["stacks"] if s["frames"]]
    count = sum(s["count"] for s in known)
    # Each thread may be between a free and an allocation.
    check(target.threads * (SLOTS - 1) <= count <= target.threads * (SLOTS + 1), f"{count} blocks with stacks: {report['warnings']}")
    names = {f["function"] for s in known for f in s["frames"]}
    check("work" in names, f"functions {names}")
    if stacks:
        check(any("main" in {f["function"] for f in s["frames"]} for s in known), "no stack reaches main")
    silt("detach", "-q", target.pid)
    target.progress()
    check_clean(target.pid, target.fds)


def allocators():
    for library in ("", "libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2"):
        path = os.path.join(LIBRARIES, library)
        if not os.path.exists(path):
            print(f"skip: {library} is not installed")
            continue
        command = ["env", f"LD_PRELOAD={path}" if library else "A=B", os.environ["SILT_BUSY"]]
        with Busy(2, command) as target:
            check_tracked(target)


def linked():
    """Statically, and with musl."""
    with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder:
        for compiler, flags in (("gcc", ["-static"]), ("gcc", ["-static-pie"]), ("musl-gcc", []), ("musl-gcc", ["-static"])):
            out = os.path.join(folder, "busy")
            if not shutil.which(compiler):
                print(f"skip: {compiler} is not installed")
                continue
            subprocess.run([compiler, "-O1", "-g", "-pthread", "-D_GNU_SOURCE", *flags, "-o", out, BUSY_C], check=True)
            with Busy(2, [out]) as target:
                check_tracked(target)
        subprocess.run(["gcc", "-O1", "-pthread", "-D_GNU_SOURCE", "-static", "-s", "-o", out, BUSY_C], check=True)
        with Busy(2, [out]) as target:
            err = silt("attach", target.pid, wanted=3)[2]
            check("symbol table" in err, err)
            check_clean(target.pid, target.fds)


def before():
    """The agent walks the heap in its own memory: it finds what a capture finds that walks from outside. Stopped programs, so that both
    see the same."""
    with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder:
        commands = [[os.environ["SILT_BUSY"], os.path.join(folder, "counts"), "4"],
                    [sys.executable, "-c", "import time; x = [str(i) * 9 for i in range(99999)]; del x[::2]; print(1, flush=True); time.sleep(99)"],
                    ["sh", "-c", "while :; do x=$x; done"]]
        if shutil.which("musl-gcc"):
            out = os.path.join(folder, "busy")
            subprocess.run(["musl-gcc", "-O1", "-pthread", "-D_GNU_SOURCE", "-o", out, BUSY_C], check=True)
            commands.append([out, os.path.join(folder, "counts"), "2"])
        for command in commands:
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONMALLOC": "malloc"}) as p:
                try:
                    for round_ in range(5):
                        time.sleep(0.2)
                        p.send_signal(signal.SIGSTOP)
                        wait_until(lambda p=p: status(p.pid, "State")[0] == "T", "it does not stop")
                        found = show(p.pid)
                        said = re.search(r"(\d+) blocks there before", silt("attach", p.pid)[2])
                        silt("detach", "-q", p.pid)
                        p.send_signal(signal.SIGCONT)
                        if any("may be wrong" in w for w in found["warnings"]):
                            continue  # stopped inside malloc
                        count = found["totals"]["count"]
                        check(said and int(said.group(1)) == count, f"{command[0]}, {round_}: {said and said.group(0)}, from outside {count}")
                finally:
                    p.kill()


GUARDED = r"""
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BLOCKS 4000

static char *keep[BLOCKS];
static volatile sig_atomic_t met;
static volatile double sum;

static void on_fault(int sig)
{
	(void)sig;
	met++;
}

int main(int argc, char **argv)
{
	sigset_t set, now;
	char *page;

	signal(SIGSEGV, on_fault);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_SETMASK, &set, NULL);
	for (int i = 0; i < BLOCKS; i++)
		keep[i] = malloc(100);
	page = (char *)(((uintptr_t)keep[BLOCKS / 2] + 4095) & ~4095ul);
	if (madvise(page, 4096, 102)) /* MADV_GUARD_INSTALL */
		return 77;
	for (long n = 0;; n++) {
		double x = 1;

		for (int i = 0; i < 1000; i++)
			x = x * 1.0000001 + i;
		if (n && x != sum)
			return 3; /* the registers of floating point were changed */
		sum = x;
		(void)argv;
		free(malloc(100000));
		if (sigprocmask(SIG_SETMASK, NULL, &now) || sigismember(&now, SIGUSR2) != 1 || sigismember(&now, SIGUSR1) || (argc < 2 && met > 1))
			return 4;
		if (argc < 2 && met) {
			puts("asked");
			fflush(stdout);
			met = 0;
		} else if (n % 1000 == 0) {
			puts("works");
			fflush(stdout);
		}
	}
}
"""


def guarded():
    """Memory of the heap that the map calls readable and is not: a fault of the agent's must not be the program's end."""
    with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder:
        out = os.path.join(folder, "guarded")
        subprocess.run(["gcc", "-O1", "-D_GNU_SOURCE", "-x", "c", "-o", out, "-"], input=GUARDED.encode(), check=True)
        with subprocess.Popen([out], stdout=subprocess.PIPE, text=True) as p:
            try:
                if not p.stdout.readline():
                    p.wait()
                    if p.returncode == 77:
                        skip("this kernel has no guard regions (MADV_GUARD_INSTALL, Linux 6.13)")
                fds = descriptors(p.pid)
                for _ in range(8):
                    err = silt("attach", p.pid)[2]
                    said = re.search(r"(\d+) blocks there before", err)
                    # About 4096 / 112 of them cannot be seen.
                    check(said and 3950 <= int(said.group(1)) <= 3970 and "not all blocks" in err, err)
                    report = show(p.pid)
                    check(report["totals"]["count"] >= 3950, report["totals"])
                    silt("detach", "-q", p.pid)
                    check_clean(p.pid, fds)
                    p.send_signal(signal.SIGSEGV)  # the handler is still there
                    line = p.stdout.readline()
                    while line == "works\n":
                        line = p.stdout.readline()
                    check(line == "asked\n", f"{line}, status {p.poll()}")
            finally:
                p.kill()
        with subprocess.Popen([out, "storm"], stdout=subprocess.PIPE, text=True) as p:
            p.stdout.readline()
            sender = f"import os, time\nwhile not time.sleep(0.0005): os.kill({p.pid}, {int(signal.SIGSEGV)})"
            storm = subprocess.Popen([sys.executable, "-c", sender])
            try:
                for _ in range(5):  # sent by others, it is no fault of the agent's
                    silt("attach", "-q", p.pid)
                    silt("detach", "-q", p.pid)
                check(p.stdout.readline() == "works\n", f"status {p.poll()}")
            finally:
                storm.kill()
                storm.wait()
                p.kill()


THROWS = r"""
#include <cstdio>
#include <new>
#include <unistd.h>
int main()
{
	volatile unsigned long caught = 0;
	for (;;) {
		try {
			char *volatile p = new char[~0ul >> 2];
			delete[] p;
		} catch (const std::bad_alloc &) {
			caught = caught + 1;
		}
		int *volatile q = new int(3);
		delete q;
		std::printf("%lu\n", caught);
		std::fflush(stdout);
		usleep(1000);
	}
}
"""


MAPPING = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static void *keep[40];

int main(void)
{
	if (mlockall(MCL_FUTURE)) /* so that most of the time is spent in malloc's own mmap */
		return 77;
	for (int i = 0; i < 40; i++) {
		keep[i] = malloc(16 << 20);
		if (i == 0 && (puts("begun") < 0 || fflush(stdout)))
			return 1;
	}
	puts("done");
	fflush(stdout);
	pause();
	return keep[0] == NULL;
}
"""


def mapping():
    """The only thread is stopped in the mmap that malloc makes for a large block: neither in the heap yet nor seen by a hook."""
    with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder:
        exe = os.path.join(folder, "mapping")
        subprocess.run(["gcc", "-O1", "-x", "c", "-", "-o", exe], input=MAPPING, text=True, check=True)
        for _ in range(4):
            process = subprocess.Popen([exe], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            try:
                if process.stdout.readline() != b"begun\n":
                    skip(f"memory cannot be locked here (status {process.wait()})")
                silt("attach", "-q", process.pid)
                check(process.stdout.readline() == b"done\n", "it does not go on")
                large = show(process.pid)["totals"]["bytes"] >> 24
                check(large == 40, f"{large} of 40 blocks are known")
                silt("detach", "-q", process.pid)
            finally:
                process.kill()
                process.wait()


def exceptions():
    """operator new throws through where the agent stood. (mimalloc as packaged is built without exceptions and aborts.)"""
    with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder:
        source, out = os.path.join(folder, "throws.cc"), os.path.join(folder, "throws")
        with open(source, "w", encoding="utf-8") as f:
            f.write(THROWS)
        subprocess.run(["g++", "-O1", "-o", out, source], check=True)
        for library in ("", "libjemalloc.so.2", "libtcmalloc_minimal.so.4"):
            path = os.path.join(LIBRARIES, library)
            if not os.path.exists(path):
                print(f"skip: {library} is not installed")
                continue
            env = {**os.environ, "LD_PRELOAD": path} if library else None
            with open(os.path.join(folder, "out"), "w+b") as log:
                with subprocess.Popen([out], stdout=log, stderr=subprocess.DEVNULL, env=env) as p:
                    try:
                        def grown(more):
                            wanted = os.path.getsize(log.name) + more
                            wait_until(lambda: p.poll() is not None or os.path.getsize(log.name) > wanted, "it stands still")

                        grown(100)
                        silt("attach", "-q", p.pid)
                        grown(500)
                        check(p.poll() is None, f"{library}: it ended with {p.poll()}")
                        silt("detach", "-q", p.pid)
                    finally:
                        p.kill()


def holder():
    """The last state is kept, however the process ends; time and bytes end it."""
    with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder:
        out = os.path.join(folder, "last.silt")
        for how in ("kill", "detach", "duration", "bytes", "interrupt"):
            with Busy(2) as target:
                arguments = ["attach", "-q", "-o", out]
                if how == "duration":
                    silt(*arguments, "--duration", "700ms", target.pid)
                elif how == "bytes":
                    silt(*arguments, "--until-bytes", "3M", target.pid)
                    check(json.loads(silt("show", "--json", out)[1])["totals"]["allocated_bytes"] >= 3 << 20, "bytes")
                elif how == "interrupt":
                    with subprocess.Popen([os.environ["SILT"], *arguments, "--duration", "1h", str(target.pid)]) as p:
                        wait_until(lambda: "memfd:silt-db" in open(f"/proc/{target.pid}/maps", encoding="utf-8").read(), "attached")
                        time.sleep(0.3)
                        p.send_signal(signal.SIGINT)
                        check(p.wait(20) == 0, f"status {p.returncode}")
                else:
                    silt(*arguments, target.pid)
                    target.progress()
                    if how == "detach":
                        silt("detach", "-q", target.pid)
                    else:
                        os.kill(target.pid, signal.SIGKILL)
                wait_until(lambda: os.path.exists(out), f"{how}: no dump")
                report = json.loads(silt("show", "--json", out)[1])
                check(report["totals"]["count"] > 300, f"{how}: {report['totals']}")
                if how != "kill":
                    target.progress()
                    check_clean(target.pid, target.fds)
            os.unlink(out)
        left = subprocess.run(["pgrep", "-f", f"silt attach.*{folder}"], capture_output=True, check=False).stdout
        check(not left, f"left behind: {left}")


def name():
    with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder:
        own = os.path.join(folder, f"busy{os.getpid()}")
        shutil.copy(os.environ["SILT_BUSY"], own)
        with Busy(1, [own]) as target:
            silt("attach", "-q", "--name", os.path.basename(own))
            check("memfd:silt-agent" in open(f"/proc/{target.pid}/maps", encoding="utf-8").read(), "not attached")
            silt("detach", "-q", target.pid)
            with Busy(1, [own]) as other:
                err = silt("attach", "--name", os.path.basename(own), wanted=3)[2]
                check(str(target.pid) in err and str(other.pid) in err, err)
        err = silt("attach", "--name", os.path.basename(own), wanted=3)[2]
        check("no process is called" in err, err)
        silt("attach", "--name", "a", "1", wanted=2)
        silt("attach", wanted=2)
        silt("attach", "x", wanted=2)
        silt("detach", wanted=2)


TESTS = {f.__name__: f for f in (allocators, linked, before, guarded, mapping, exceptions, holder, name)}

if __name__ == "__main__":
    sys.exit(main(TESTS))
