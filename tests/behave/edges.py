#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs and systems at the edge: the program does the same with and without silt, and what can be tracked is.
Usage: edges.py [PART…]"""

import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "truth"))
import dumps  # noqa: E402

SILT, BLOCKS, EDGES, PLUG = os.environ["SILT"], os.environ["SILT_BLOCKS"], os.environ["SILT_EDGES"], os.environ["SILT_PLUG"]
ROOT = os.getuid() == 0
LEAF = 4711  # bytes of the block by which a child's dump is known
failures = []


def check(name, good, detail=""):
    print("%-6s %s" % ("ok" if good else "FAILED", name), flush=True)
    if not good:
        failures.append(name)
        print("  " + str(detail).replace("\n", "\n  "), flush=True)


def skip(name, why):
    print("skip: %s: %s" % (name, why), flush=True)


class Run:
    """A command under silt run: what it printed, and the dumps it left."""

    def __init__(self, folder, command, options=(), silt=SILT, **kw):
        self.folder = tempfile.mkdtemp(dir=folder)
        os.chmod(self.folder, 0o777)
        self.out = os.path.join(self.folder, "out.silt")
        kw.setdefault("timeout", 120)
        r = subprocess.run([silt, "run", "-q", "-o", self.out, *options, "--"] + command, stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, **kw)
        self.status, self.stdout, self.stderr = r.returncode, r.stdout, r.stderr

    def paths(self):
        return sorted(glob.glob(self.folder + "/out*.silt"))

    def __repr__(self):
        return "status %d, stdout %r, stderr %r, dumps %s" % (self.status, self.stdout, self.stderr[-2000:],
                                                             [os.path.basename(p) for p in self.paths()][:20])


def plain(command, **kw):
    r = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **kw)
    return r.returncode, r.stdout


def same(name, run, command, **kw):
    """The program did the same without silt."""
    check(name + ": as without silt", (run.status, run.stdout) == plain(command, **kw) and not run.stderr,
          "%r; without: %s" % (run, plain(command, **kw)))


def is_leaf(path):
    return any(size == LEAF for size, _ in dumps.Dump(BLOCKS, path).blocks.values())


def leaves(run):
    return [p for p in run.paths() if is_leaf(p)]


# ---- the world around ----

def namespaces(*flags):
    """unshare with the rights we have; None where it is not allowed."""
    command = ["unshare"] + ([] if ROOT else ["-r"]) + list(flags)
    if not shutil.which("unshare") or subprocess.run(command + ["true"], capture_output=True).returncode != 0:
        return None
    return command


def no_proc(folder):
    """Programs started, and children forked, where /proc is not mounted (any more)."""
    unshare = namespaces("-m")
    if not unshare:
        return skip("no /proc", "mount namespaces are not allowed here")
    # What is mounted cannot be unmounted in a namespace of a user's own, but it can be hidden.
    script = ("mount -t tmpfs none /proc && '%s' leaf %d && '%s' processes 3 && (echo child; '%s' dlclose '%s'); echo $?; "
              "env | grep -E 'LD_PRELOAD|SILT_AGENT'; true") % (EDGES, LEAF, EDGES, EDGES, PLUG)
    command = unshare + ["sh", "-c", script]
    same("no /proc", Run(folder, command), command)
    # What cannot be tracked passes the way on to what can.
    script = "mount -t tmpfs none /proc && sh -c \"umount /proc; '%s' leaf %d\"" % (EDGES, LEAF)
    command = unshare + ["sh", "-c", script]
    run = Run(folder, command)
    same("/proc is back", run, command)
    if ROOT:
        check("/proc is back: tracked again", len(leaves(run)) == 1, run)


def host_pid(argument):
    """The process that was started with this argument, as we number it."""
    for name in os.listdir("/proc"):
        try:
            if name.isdigit():
                with open("/proc/%s/cmdline" % name, "rb") as f:
                    words = f.read().split(b"\0")
                if argument.encode() in words and b"hold" in words and words[0] == EDGES.encode():
                    return int(name)
        except OSError:
            pass
    return 0


def pid_namespaces(folder):
    """Processes whose own numbers are not the launcher's: at any depth, by fork and by exec."""
    unshare = namespaces("-p", "-f")
    if not unshare:
        return skip("pid namespaces", "they are not allowed here")
    inner = "'%s' leaf %d; '%s' dlclose '%s'; '%s' system; echo $$" % (EDGES, LEAF, EDGES, PLUG, EDGES)
    for depth in (1, 2):
        command = unshare * depth + ["sh", "-c", inner]
        run = Run(folder, command)
        same("pid namespace, depth %d" % depth, run, command)
        found = leaves(run)
        if ROOT:  # others may not look at the launcher from a user namespace
            check("pid namespace, depth %d: all are tracked" % depth, len(found) == 3, run)
        numbers = [(int(re.search(r"\.(\d+)\.silt", p).group(1)), dumps.Dump(BLOCKS, p).process["pid"]) for p in found]
        check("pid namespace, depth %d: under our numbers" % depth, all(a == b and a > 10 for a, b in numbers), numbers)
    # With a /proc of its own nothing leads to the launcher: untracked, but not disturbed.
    command = namespaces("-p", "-f", "--mount-proc")
    if command:
        command += ["sh", "-c", inner + "; env | grep -E 'LD_PRELOAD|SILT_AGENT'; '%s' environment" % EDGES]
        same("pid namespace with its own /proc", Run(folder, command), command)
    if ROOT:
        run = Run(folder, [EDGES, "nested"])
        same("pid namespace, grandchild", run, [EDGES, "nested"])
        pids = [dumps.Dump(BLOCKS, p).process["pid"] for p in leaves(run)]
        check("pid namespace, grandchild: tracked under our number", len(pids) == 1 and pids[0] > 10, run)
        live_in_namespace(folder, unshare)


def live_in_namespace(folder, unshare):
    mark = os.path.join(folder, "mark")
    out = os.path.join(folder, "live.silt")
    with subprocess.Popen([SILT, "run", "-q", "-o", folder + "/held.silt", "--"] + unshare +
                          ["sh", "-c", "'%s' hold %s; exit 5" % (EDGES, mark)], stdin=subprocess.DEVNULL) as program:
        for _ in range(500):
            if os.path.exists(mark) and os.path.getsize(mark):
                break
            time.sleep(0.02)
        pid = host_pid(mark)
        r = subprocess.run([SILT, "capture", str(pid), "-o", out], capture_output=True, text=True, timeout=60)
        os.unlink(mark)
        status = program.wait(timeout=60)
    check("pid namespace: captured while it runs", r.returncode == 0 and is_leaf(out) and
          dumps.Dump(BLOCKS, out).process["pid"] == pid and status == 5, (r.returncode, r.stderr, pid, status))


def everybody(folder):
    """A copy of silt and the program that every user may run."""
    public = tempfile.mkdtemp(dir="/tmp", prefix="silt-edges-")
    os.chmod(public, 0o755)
    for path in [SILT, EDGES] + glob.glob(os.path.join(os.path.dirname(SILT), "libsilt-agent*.so")):
        os.chmod(shutil.copy2(path, public), 0o755)
    return public


def unreadable(folder):
    """A program that may be run but not read: the kernel closes its /proc entries to its own user."""
    public = everybody(folder)
    try:
        program = os.path.join(public, os.path.basename(EDGES))
        readable = shutil.copy2(program, program + "-readable")
        os.chmod(program, 0o111)
        os.chmod(folder, 0o777)
        user = {"user": 65534, "cwd": "/"} if ROOT else {"cwd": "/"}
        command = [program, "leaf", str(LEAF)]
        run = Run(folder, command, silt=os.path.join(public, "silt"), **user)
        check("mode 0111: the program runs", run.status in (0, 3) and run.stderr.count("\n") <= 1, run)
        run = Run(folder, ["sh", "-c", "'%s' leaf 5 && echo $?; '%s' leaf %d; echo $?" % (program, readable, LEAF)],
                  silt=os.path.join(public, "silt"), **user)
        check("mode 0111: as a child", (run.status, run.stdout) == (0, "0\n0\n"), run)
    finally:
        shutil.rmtree(public)


def limits(folder):
    """RLIMIT_AS: set by the program, or already there, large or very small."""
    run = Run(folder, [EDGES, "limited"])
    same("RLIMIT_AS", run, [EDGES, "limited"])
    check("RLIMIT_AS: the child is tracked", len(leaves(run)) == 1, run)
    for kb in (400000, 60000, 20000):
        command = ["sh", "-c", "ulimit -v %d; '%s' leaf %d; echo $?" % (kb, EDGES, LEAF)]
        run = Run(folder, command)
        same("RLIMIT_AS of %d kB" % kb, run, command)
        if kb == 400000:
            check("RLIMIT_AS of %d kB: tracked" % kb, len(leaves(run)) == 1, run)


def full_disk(folder):
    """The disk fills up while the program runs: what was written stays good, nothing half is left, the status is the program's."""
    unshare = namespaces("-m")
    if not unshare:
        return skip("full disk", "mount namespaces are not allowed here")
    small = os.path.join(folder, "small")
    os.mkdir(small)
    program = "import time; x = []\nfor i in range(30):\n x.append([bytes(j) for j in range(i * 97, i * 97 + 9000)])\n time.sleep(0.1)\nraise SystemExit(6)"
    script = ("mount -t tmpfs -o size=400k none %s && PYTHONMALLOC=malloc '%s' run -q --every 100ms -o %s/out.silt -- "
              "/usr/bin/python3 -c '%s' 2>%s/errors; echo status $?; cp %s/* %s/kept/; true" % (
                  small, SILT, small, program, folder, small, folder))
    os.mkdir(os.path.join(folder, "kept"))
    r = subprocess.run(unshare + ["sh", "-c", script], capture_output=True, text=True, timeout=120)
    with open(os.path.join(folder, "errors")) as f:
        errors = f.read()
    kept = sorted(os.listdir(os.path.join(folder, "kept")))
    check("full disk: the program's status", r.stdout == "status 6\n", (r.stdout, r.stderr, errors))
    check("full disk: each loss is told in a line", "No space left" in errors and
          all("No space left" in line or "earlier ones are still being written" in line for line in errors.splitlines()),
          errors)
    bad = [n for n in kept if subprocess.run([SILT, "show", os.path.join(folder, "kept", n)], capture_output=True).returncode]
    check("full disk: %d dumps are there, and whole" % len(kept), len(kept) >= 1 and not bad and
          all(re.fullmatch(r"out(\.\d{4})?\.silt", n) for n in kept), (kept, bad))


# ---- what programs do ----

def small_stack(folder):
    for how in ("execl", "execlp", "execle", "execv", "execvp", "execve", "posix_spawn"):
        command = [EDGES, "small-stack", how]
        run = Run(folder, command)
        same("8 KB stack: " + how, run, command)
        check("8 KB stack: %s: the new program is tracked" % how, len(leaves(run)) == 1, run)


def shell(folder):
    for how in ("system", "popen"):
        run = Run(folder, [EDGES, how])
        same(how, run, [EDGES, how])
        check(how + ": the command is tracked", len(leaves(run)) == 1, run)


def replaced(folder):
    """A dump says where its program became another one that cannot be tracked; not where that failed, nor for what a child became."""
    note = "became another program by exec"
    if not os.environ["SILT_STATIC"]:
        return skip("exec", "there is no C library to link statically with")
    target = "x = list(range(99999))\nimport os, subprocess\n%s"
    for name, code, wanted in (
            ("static", "os.execv(%r, ['static'])" % os.environ["SILT_STATIC"], True),
            ("nothing there", "try:\n os.execv('/nowhere', ['x'])\nexcept OSError: pass", False),
            ("by a child", "subprocess.run([%r])" % os.environ["SILT_STATIC"], False),
            ("by a forked child", "if os.fork() == 0: os.execv(%r, ['static'])\nos.wait()" % os.environ["SILT_STATIC"], False),
            ("one that is tracked", "os.execv('/bin/true', ['true'])", False)):
        run = Run(folder, ["/usr/bin/python3", "-c", target % code])
        r = subprocess.run([SILT, "show", "--json", run.out], capture_output=True, text=True, timeout=60)
        check("exec, %s: %s" % (name, "noted" if wanted else "not noted"), r.returncode == 0 and (note in r.stdout) == wanted,
              (run, r.stdout[:600], r.stderr))


def vector(folder):
    """What lies behind the environment is where the program looks for it, and the environment is what it would be."""
    for name, env in (("usual", dict(os.environ)), ("one entry", {"A": "1"}), ("with LD_PRELOAD", {"B": "2", "LD_PRELOAD": PLUG, "C": ""}),
                      ("with ASAN_OPTIONS", {"ASAN_OPTIONS": "color=always", "D": "3"})):
        run = Run(folder, [EDGES, "vector"], env=env)
        same("auxiliary vector, environment: " + name, run, [EDGES, "vector"], env=env)
        check("auxiliary vector, environment: %s: found" % name, run.status == 0, run)


def full_database(folder):
    """Stacks that do not fit are counted all the same, and the report says that and nothing worse."""
    for options in (["--db-size", "1"], ["--db-size", "3", "--threads"]):
        command = [EDGES, "stacks", "500000"]
        run = Run(folder, command, options)
        name = "full database, " + " ".join(options)
        same(name, run, command)
        r = subprocess.run([SILT, "show", "--json", "--sort", "allocated-count", run.out], capture_output=True, text=True, timeout=60)
        report = json.loads(r.stdout)
        stacks, totals = report["stacks"], report["totals"]
        live, size, allocated = (int(x) for x in run.stdout.split())
        # The program's standard output has a block of its own.
        check(name + ": totals are exact", totals["count"] - live in (0, 1) and totals["bytes"] - size in (0, 1024, 4096) and
              totals["allocated_count"] - allocated in (0, 1), (totals, run.stdout))
        check(name + ": rows sum up", all(sum(s[k] for s in stacks) == totals[k] for k in totals), totals)
        over = [s for s in stacks if "overflow" in s["flags"]]
        check(name + ": one row for what did not fit, beside others", len(over) == 1 and len(stacks) > 100, (len(over), len(stacks)))
        check(name + ": warnings", report["warnings"] and all("--db-size" in w or "no debug information" in w for w in report["warnings"]),
              report["warnings"])


def musl(folder):
    """A program on another C library: refused at the start, and left alone when a tracked program executes it."""
    if not shutil.which("musl-gcc"):
        return skip("musl", "there is no musl-gcc")
    program = os.path.join(folder, "program")
    with open(program + ".c", "w") as f:
        f.write('#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\nextern char **environ;\nint main(void)\n{\n'
                'for (int i = 0; i < 1000; i++)\nfree(realloc(malloc(i), 2 * i));\nfor (char **e = environ; *e; e++)\nputs(*e);\n'
                'fflush(stdout);\nexecl("%s", "edges", "leaf", "%d", (char *)0);\nreturn 3;\n}\n' % (EDGES, LEAF))
    subprocess.run(["musl-gcc", "-o", program, program + ".c"], check=True)
    run = Run(folder, [program])
    check("musl: refused, and what to do", run.status == 3 and "silt attach" in run.stderr and run.stderr.count("\n") == 1, run)
    command = ["/bin/sh", "-c", program + "; exit 5"]
    run = Run(folder, command, env={"A": "1"})
    same("musl: started by a tracked program", run, command, env={"A": "1"})
    check("musl: what it executes is tracked again", len(leaves(run)) == 1, run)
    notes = " ".join(dumps.Dump(BLOCKS, run.out).notes)
    check("musl: said that it was not tracked", "1 processes of this run could not be tracked" in notes, notes)


def deep_libraries(folder):
    for how, warned in (("dlopen", False), ("deepbind", True), ("dlmopen", True)):
        command = [EDGES, "deep-library", how, PLUG]
        run = Run(folder, command)
        same("deep libraries: " + how, run, command)
        notes = [" ".join(dumps.Dump(BLOCKS, p).notes) for p in run.paths()]
        check("deep libraries: %s: %s in program and child" % (how, "warned of" if warned else "no warning"),
              len(notes) == 2 and all(("RTLD_DEEPBIND" in n) == warned for n in notes), notes)


def closed(folder):
    command = [EDGES, "dlclose", PLUG]
    run = Run(folder, command)
    same("dlclose and fork", run, command)
    check("dlclose and fork: the child is tracked", len(leaves(run)) == 1, run)


def threads(folder):
    """Threads that follow each other on the same memory stay apart."""
    run = Run(folder, [EDGES, "threads"], ["--threads"])
    check("threads in turn", run.status == 0 and not run.stderr, run)
    said = {tid: int(n) for tid, n in (line.split() for line in run.stdout.splitlines())}
    r = subprocess.run([SILT, "show", "--json", "--by", "thread", run.out], capture_output=True, text=True, timeout=60)
    seen = {str(s["tid"]): s for s in json.loads(r.stdout)["groups"]} if r.returncode == 0 else {}
    wrong = [(tid, n) for tid, n in said.items() if (seen.get(tid, {}).get("bytes"), seen.get(tid, {}).get("count")) !=
             (n * (n % 10), n % 10)]
    check("threads in turn: each has its own row", len(said) == 6 and not wrong, (wrong, said, r.stdout[:3000]))


# ---- slots ----

def wrap(folder):
    """Slots are used again after the last: what came later is still told from what came before."""
    count = 560  # each takes two slots of 1024: one for the fork, one for the program it becomes
    run = Run(folder, [EDGES, "images", str(count)], timeout=200)
    check("slots in turn", run.status == 0 and not run.stderr, run)
    paths = [p for p in run.paths() if p != run.out]
    check("slots in turn: a dump of each", len(paths) == count, len(paths))
    wrong = [p for p in paths if not is_leaf(p)]
    check("slots in turn: of the program it became", not wrong, wrong[:5])


def heirs(folder):
    """What forked children inherit: how much unasked, and what is said where it is not done."""
    few, many = 20000, 1000000
    for count, options, inherits, said in ((few, [], True, "it was not fork"), (few, ["--inherit=never"], False, "--inherit=never"),
                                           (many, [], False, "tables take"), (many, ["--inherit=always"], True, "it was not fork")):
        run = Run(folder, [EDGES, "heirs", str(count)], options)
        name = "heirs of %d blocks%s" % (count, " ".join([""] + options))
        check(name, run.status == 0 and not run.stderr, run)
        first, second = sorted((dumps.Dump(BLOCKS, p) for p in run.paths() if p != run.out), key=lambda d: d.process["start"])
        notes = [[n for n in d.notes if "inherited" in n] for d in (first, second)]
        check(name + (": known" if inherits else ": not known"), (count <= len(first.blocks) <= count + 10) == inherits and
              (first.counters["agent.inherited_blocks"] > count) == inherits, (len(first.blocks), first.counters))
        check(name + ": said", len(notes[0]) == (not inherits) and all(said in n for n in notes[0]) and len(notes[1]) == 1,
              notes)
        check(name + ": a bare clone's child", len(second.blocks) < 10 and (inherits is False or said in notes[1][0]), notes)


def exhausted(folder):
    """More processes at one time than slots: all run, and the rest is counted."""
    count = 1040
    run = Run(folder, [EDGES, "processes", str(count)], timeout=200)
    if "fork: Resource temporarily unavailable" in run.stderr:
        return skip("slots exhausted", "not so many processes are allowed here")
    check("slots exhausted: the program runs", run.status == 0 and not run.stderr, run)
    tracked = len(run.paths())
    told = re.findall(r"(\d+) processes of this run could not be tracked", " ".join(dumps.Dump(BLOCKS, run.out).notes))
    check("slots exhausted: %d dumps, the other processes are told of" % tracked, told == [str(count + 1 - tracked)] and
          tracked == 1024, (told, tracked))


def lives(folder):
    """More threads than the table has room for: the child of such a process has no record for its own, and is tracked all the same."""
    run = Run(folder, [EDGES, "lives", "34000"], options=["--threads"], timeout=200)
    check("many threads in time: the program and its child run", run.status == 7 and not run.stderr, run)
    sizes = [size for p in run.paths() for size, _ in dumps.Dump(BLOCKS, p).blocks.values()]
    check("many threads in time: the child's blocks are there", all(8100 + i in sizes for i in range(10)), sorted(sizes)[-20:])


SANITIZED = """
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
char *kept;
static void *work(void *arg)
{
	for (int i = 0; i < 500; i++) {
		char *p = malloc(100 + i);

		memset(p, 1, 100);
		free(realloc(p, 300 + i));
	}
	return arg;
}
int main(int argc, char **argv)
{
	pthread_t threads[3];
	const char *options = getenv("ASAN_OPTIONS");

	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, work, NULL);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	kept = malloc(%d);
	memset(kept, 0, 10);
	printf("%%d %%s\\n", argc, options ? options : "none");
	fflush(stdout);
	if (argc > 1)
		kept[%d] = 1; /* one too far */
	return 3;
}
"""


def sanitizers(folder):
    """Programs built with the sanitizers: these look at what is preloaded and mapped, and end when they do not like it."""
    source = os.path.join(folder, "sanitized.c")
    with open(source, "w", encoding="ascii") as f:
        f.write(SANITIZED % (LEAF, LEAF))
    built = 0
    for compiler, kind in (("gcc", "address"), ("gcc", "thread"), ("gcc", "undefined"), ("clang", "address"), ("clang", "thread"),
                           ("clang", "memory")):
        name, exe = "%s's %s sanitizer" % (compiler, kind), os.path.join(folder, compiler + "-" + kind)
        if not shutil.which(compiler) or subprocess.run(
                [compiler, "-w", "-g", "-O1", "-fsanitize=" + kind, "-pthread", "-o", exe, source],
                capture_output=True).returncode != 0:
            skip(name, "it is not installed")
            continue
        if plain([exe])[0] != 3:
            skip(name, "it does not work here: %s" % (plain([exe]),))
            continue
        built += 1
        for command in ([exe], ["sh", "-c", "'%s'; echo $?" % exe], ["env", "ASAN_OPTIONS=exitcode=9", exe]):
            run = Run(folder, command)
            same(name, run, command)
        run = Run(folder, [exe], env=dict(os.environ, ASAN_OPTIONS="exitcode=7:detect_leaks=0"))
        check(name + ": its options are kept", run.status == 3 and run.stdout == "1 exitcode=7:detect_leaks=0\n", run)
        if kind == "address":  # what it is there for
            run = Run(folder, [exe, "1"])
            check(name + ": finds what it should", run.status == 1 and "heap-buffer-overflow" in run.stderr and
                  "==" in run.stderr, run)
        if compiler == "gcc" and kind != "undefined":
            check(name + ": tracked", len(leaves(Run(folder, [exe]))) == 1)
    if not built:
        skip("sanitizers", "there are none")


PLUGIN = r"""
#include <stdlib.h>
extern void *kept[];
__attribute__((noinline)) static void *one(int i) { void *p = malloc(100 + i % 7); *(volatile char *)p = 1; return p; }
__attribute__((noinline)) static void *two(int i) { void *p = malloc(200 + i % 5); *(volatile char *)p = 1; return p; }
__attribute__((noinline)) void *inner_NAME(int i)
{
	void *p = i % 2 ? one(i) : two(i);
	__asm__ volatile("" ::: "memory");
	return p;
}
void *start_NAME(void *to)
{
	void **blocks = to;
	for (int i = 0; i < 400; i++)
		blocks[i] = inner_NAME(i);
	return blocks;
}
"""

PLUGGED = r"""
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
static void *blocks[2][400];
int main(int argc, char **argv)
{
	void *stack = aligned_alloc(4096, 1 << 18), *bases[2];
	for (int i = 0; i < 2; i++) {
		char name[20];
		pthread_attr_t a;
		pthread_t t;
		void *lib = dlopen(argv[1 + i], RTLD_NOW);
		snprintf(name, sizeof(name), "start_%c", 'a' + i);
		bases[i] = dlsym(lib, name);
		if (!bases[i])
			return 3;
		pthread_attr_init(&a);
		pthread_attr_setstack(&a, stack, 1 << 18);
		if (pthread_create(&t, &a, (void *(*)(void *))bases[i], blocks[i]))
			return 4;
		pthread_join(t, NULL);
		dlclose(lib);
	}
	printf("%s\n", bases[0] == bases[1] ? "same" : "elsewhere");
	return argc - 3;
}
"""


def plugin_threads(folder):
    """Threads of two plugins, one after the other, on the same stack, and at the same addresses: nothing of the first's stacks is taken
    for the second's."""
    if not shutil.which("gcc"):
        return skip("plugin_threads", "no gcc")
    program, libraries = os.path.join(folder, "plugged"), [os.path.join(folder, "lib%s.so" % n) for n in "ab"]
    for n, library in zip("ab", libraries):
        subprocess.run(["gcc", "-O2", "-fPIC", "-shared", "-Wl,--build-id", "-x", "c", "-", "-o", library],
                       input=PLUGIN.replace("NAME", n), text=True, check=True)
    subprocess.run(["gcc", "-O2", "-x", "c", "-", "-o", program, "-pthread"], input=PLUGGED, text=True, check=True)
    r = Run(folder, [program] + libraries)
    check("two plugins at the same place", r.status == 0 and r.stdout == "same\n", r)
    for n, other in ("ab", "ba"):
        shown = subprocess.run([SILT, "show", "--json", "--focus", "inner_" + n, r.out], capture_output=True, text=True, check=True)
        report = json.loads(shown.stdout)
        names = {f["function"] for s in report["stacks"] for f in s["frames"]}
        count = sum(s["count"] for s in report["stacks"])
        check("all blocks of plugin %s are its own" % n, count == 400 and "start_" + n in names and
              not names & {"start_" + other, "inner_" + other}, "%d blocks, %s" % (count, names))


PARTS = {"proc": no_proc, "pidns": pid_namespaces, "unreadable": unreadable, "limits": limits, "disk": full_disk, "stack": small_stack,
         "shell": shell, "replaced": replaced, "vector": vector, "full": full_database, "musl": musl, "deep": deep_libraries, "dlclose": closed, "threads": threads,
         "wrap": wrap, "heirs": heirs, "plugins": plugin_threads, "exhausted": exhausted, "lives": lives, "sanitizers": sanitizers}


def main(parts):
    with tempfile.TemporaryDirectory(prefix="silt-edges-") as folder:
        for part in parts:
            inner = os.path.join(folder, part)
            os.mkdir(inner)
            os.chmod(folder, 0o755)
            PARTS[part](inner)
    if failures:
        print("%d failed" % len(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(PARTS)))
