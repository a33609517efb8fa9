#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs that have their allocator linked in: attached to while they work, and started by `silt run`, which hooks them at their start.

usage: linked_in.py [attached|started|killed|deep|own_names]…   environment: SILT, SILT_SOURCE
"""
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

from target import Busy, check, check_clean, main, silt, skip, status, wait_until

BUSY_C = os.path.join(os.environ["SILT_SOURCE"], "tests/attach/busy.c")
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
ALLOCATORS = ("libjemalloc.a", "libtcmalloc_minimal.a")
SLOTS = 200  # blocks a thread of busy keeps

# What it keeps is known: 10 blocks of a library's constructor, 1000 of main's, one of strdup's; then it forks, and ends as told.
PROGRAM = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
void *kept[1000], *text, *map, *child_kept;
extern void *of_library[10];
__attribute__((noinline)) static void keep(int n)
{
	for (int i = 0; i < n; i++) {
		free(malloc(64));
		kept[i] = i % 2 ? calloc(1, 100 + i) : malloc(100 + i);
	}
}
__attribute__((noinline)) static void keep_in_child(void)
{
	child_kept = malloc(4321);
}
int main(int argc, char **argv)
{
	FILE *f;
	int s = 0;

	keep(1000);
	text = strdup("twelve bytes");
	map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (argc > 2 && (f = fopen(argv[2], "w")))
		fclose(f);
	if (fork() == 0) {
		keep_in_child();
		_exit(child_kept == NULL || of_library[0] == NULL);
	}
	wait(&s);
	if (s)
		return 1;
	if (argc > 1 && !strcmp(argv[1], "term"))
		raise(SIGTERM);
	if (argc > 1 && !strcmp(argv[1], "stop")) {
		f = fopen(argv[2], "w");
		raise(SIGSTOP);
	}
	return 7;
}
"""
LIBRARY = r"""
#include <stdlib.h>
void *of_library[10];
__attribute__((constructor)) static void begin(void)
{
	for (int i = 0; i < 10; i++)
		of_library[i] = malloc(1000);
}
"""


def build(folder):
    """{allocator: program}"""
    found = {}
    for name, text in (("program.c", PROGRAM), ("library.c", LIBRARY)):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            f.write(text)
    library = os.path.join(folder, "libbegin.so")
    subprocess.run(["gcc", "-O1", "-g", "-fPIC", "-shared", "-o", library, os.path.join(folder, "library.c")], check=True)
    for allocator in ALLOCATORS:
        if os.path.exists(os.path.join(LIBRARIES, allocator)):
            found[allocator] = link(folder, allocator, os.path.join(folder, "program.c"), [library, "-Wl,-rpath," + folder])
    if not found:
        skip("no allocator to link in is installed")
    return found


def link(folder, allocator, source, more=()):
    out = os.path.join(folder, "with-" + allocator)
    subprocess.run(["gcc", "-O1", "-g", "-pthread", "-D_GNU_SOURCE", "-rdynamic", "-o", out, source, *more, "-l:" + allocator, "-lstdc++",
                    "-lm", "-ldl"], check=True)
    return out


def show(what):
    return json.loads(silt("show", "--json", "--top", "1000", what)[1])


def of(report, function):
    """(blocks, bytes) under stacks that hold this function."""
    stacks = [s for s in report["stacks"] if function in {f["function"] for f in s["frames"]}]
    return sum(s["count"] for s in stacks), sum(s["bytes"] for s in stacks)


def attached():
    for allocator in ALLOCATORS:
        if not os.path.exists(os.path.join(LIBRARIES, allocator)):
            print(f"skip: {allocator} is not installed")
            continue
        with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder, Busy(2, [link(folder, allocator, BUSY_C)]) as target:
            said = silt("attach", target.pid)[2]
            check("not included" in said, said)
            start = target.counts()
            wait_until(lambda t=target, s=start: all(now > was + 30000 for now, was in zip(t.counts(), s)), "it stands still", 60)
            report = show(target.pid)
            count = of(report, "work")[0]
            check(target.threads * (SLOTS - 1) <= count <= target.threads * (SLOTS + 1), f"{allocator}: {count} blocks")
            maps = [s for s in report["stacks"] if s["kind"] == "mmap" and "work" in {f["function"] for f in s["frames"]}]
            check(not maps, f"{allocator}: its own mappings are taken for the program's: {maps[:1]}")
            silt("detach", "-q", target.pid)
            target.progress()
            check_clean(target.pid, target.fds)


def while_it_runs(folder, program):
    """Captures are as ever, and it cannot be detached from."""
    with subprocess.Popen([os.environ["SILT"], "run", "-q", "-o", os.path.join(folder, "last.silt"), "--", program, "stop",
                           os.path.join(folder, "stopped")]) as p:
        wait_until(lambda: [i for i in processes_of(program) if status(i, "State")[0] == "T" and status(i, "TracerPid") == "0"
                            and "silt-agent" in open(f"/proc/{i}/maps", encoding="utf-8").read()
                            and os.path.exists(os.path.join(folder, "stopped"))], "it does not stop")
        pid = processes_of(program)[0]
        report = show(pid)
        check(of(report, "keep")[0] == 1000, f"captured: {of(report, 'keep')}")
        said = silt("detach", pid, wanted=3)[2]
        check("started by `silt run`" in said, said)
        os.kill(pid, signal.SIGCONT)
        check(p.wait(30) == 7, f"it ended with {p.returncode}")
    os.unlink(os.path.join(folder, "stopped"))


def started():
    with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder:
        for allocator, program in build(folder).items():
            out = os.path.join(folder, "out.silt")
            said = silt("run", "-o", out, "--", program, wanted=7)[2]
            check("warning" not in said, f"{allocator}: {said}")
            report = show(out)
            got = [of(report, name) for name in ("keep", "begin")]
            wanted = [(1000, sum(100 + i for i in range(1000))), (10, 10000)]
            check(got == wanted, f"{allocator}: {got}, not {wanted}")
            check((1, 13) in [(s["count"], s["bytes"]) for s in report["stacks"]], f"{allocator}: no block of strdup's")
            check(any(s["kind"] == "mmap" and s["bytes"] == 1 << 20 for s in report["stacks"]), f"{allocator}: no mapping of main's")
            check(not report["warnings"] or not any("attach" in w or "not seen" in w for w in report["warnings"]), str(report["warnings"]))
            children = [f for f in os.listdir(folder) if f.startswith("out.") and f != "out.silt"]
            check(len(children) == 1, f"{allocator}: dumps of children: {children}")
            child = show(os.path.join(folder, children[0]))
            check(of(child, "keep_in_child") == (1, 4321), f"{allocator}: the child's block: {of(child, 'keep_in_child')}")
            check(of(child, "keep")[0] == 1000, f"{allocator}: the child does not know its parent's blocks")
            os.unlink(os.path.join(folder, children[0]))
            silt("run", "-q", "-o", out, "--", program, "term", wanted=-signal.SIGTERM)
            while_it_runs(folder, program)
            for f in os.listdir(folder):
                if f.endswith(".silt"):
                    os.unlink(os.path.join(folder, f))


OWN_NAMES = r"""
#include <stdlib.h>
__attribute__((noipa)) void *je_malloc(size_t n)
{
	static char pool[1000];
	return pool + n;
}
int main(void)
{
	return je_malloc(10) == malloc(10);
}
"""


DEEP = r"""
#include <dlfcn.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
	void *h = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_DEEPBIND) : NULL;
	void **(*deep_keep)(int) = h ? (void **(*)(int))dlsym(h, "deep_keep") : NULL;
	void **kept = deep_keep ? deep_keep(100) : NULL;

	for (int i = 0; kept && i < 60; i++)
		free(kept[i]);
	return kept ? 5 : 1;
}
"""
DEEP_LIBRARY = r"""
#include <stdlib.h>
void **deep_keep(int n)
{
	static void *kept[100];

	for (int i = 0; i < n; i++)
		kept[i] = malloc(1234);
	return kept;
}
"""


def deep():
    """A library loaded with RTLD_DEEPBIND passes a loaded agent by; one that is attached at the start it does not."""
    with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder:
        program, library, out = (os.path.join(folder, n) for n in ("deep", "libdeep.so", "out.silt"))
        subprocess.run(["gcc", "-O1", "-x", "c", "-", "-o", program], input=DEEP, text=True, check=True)
        subprocess.run(["gcc", "-O1", "-fPIC", "-shared", "-x", "c", "-", "-o", library], input=DEEP_LIBRARY, text=True, check=True)
        silt("run", "-q", "-o", out, "--", program, library, wanted=5)
        report = show(out)
        check(of(report, "deep_keep") == (0, 0) and any("silt run --attach" in w for w in report["warnings"]), report["warnings"])
        err = silt("run", "-q", "--attach", "-o", out, "--", program, library, wanted=5)[2]
        report = show(out)
        check(of(report, "deep_keep") == (40, 40 * 1234) and not err, f"{of(report, 'deep_keep')}, {err}")
        check(not any("RTLD_DEEPBIND" in w for w in report["warnings"]), report["warnings"])
        silt("run", "-q", "--attach", "-o", out, "--", "/bin/sh", "-c", "exit 4", wanted=4)
        check(show(out)["totals"]["count"] > 0, "a shell's blocks")


def own_names():
    """An allocator that is linked in under names of its own is not seen: that is said."""
    with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder:
        out = os.path.join(folder, "own")
        subprocess.run(["gcc", "-O1", "-x", "c", "-", "-o", out], input=OWN_NAMES, text=True, check=True)
        said = silt("run", "-q", "-o", os.path.join(folder, "x.silt"), "--", out)[2]
        check("je_malloc" in said, f"not warned of: {said}")
        said = silt("run", "-q", "-o", os.path.join(folder, "x.silt"), "--", "true")[2]
        check(not said, f"warned of nothing: {said}")


def processes_of(program):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/exe") == program:
                found.append(int(pid))
        except OSError:
            continue
    return found


def any_names(folder):
    """Is there a process whose command line names the folder: silt's part that writes the last dump?"""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if folder.encode() in f.read():
                    return True
        except OSError:
            continue
    return False


def killed():
    """silt dies while it stands at the program's start: that goes on, to its end."""
    with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder:
        program = next(iter(build(folder).values()))
        began = os.path.join(folder, "began")
        finished = 0
        for round_ in range(60):
            if os.path.exists(began):
                os.unlink(began)
            with subprocess.Popen([os.environ["SILT"], "run", "-q", "-o", os.path.join(folder, "x.silt"), "--", program, "", began],
                                  stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
                time.sleep(random.Random(round_).uniform(0, 0.04))
                there = processes_of(program)
                p.kill()
            wait_until(lambda: not processes_of(program), lambda: "the program does not end: "
                       + str([(i, status(i, "State"), status(i, "TracerPid")) for i in processes_of(program)]), 20)
            check(not there or os.path.exists(began), f"round {round_}: the program ended before it did anything")
            if there:
                finished += 1
                os.unlink(began)
        wait_until(lambda: not any_names(folder), "a part of silt is left", 20)
        print(f"{finished} of 60 programs had begun when silt was killed, and went on to their end")


sys.exit(main({"attached": attached, "started": started, "killed": killed, "deep": deep, "own_names": own_names}))
