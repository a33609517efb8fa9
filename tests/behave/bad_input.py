#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Bad input on the command line: one clear line on standard error, status 3 (2 for wrong usage), in bounded time."""

import atexit
import functools
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time

SILT, ENDS, FLIP = os.environ["SILT"], os.environ["SILT_ENDS"], os.environ["SILT_FLIP"]
STATIC = os.environ.get("SILT_STATIC", "")
SOAK = os.environ.get("SILT_SOAK") == "1"
failures = []


def limits():
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))


def report(name, good, detail=""):
    print("%-6s %s" % ("ok" if good else "FAILED", name), flush=True)
    if not good:
        failures.append(name)
        print("  %s" % (detail,))


@functools.lru_cache(maxsize=None)
def public_silt():
    """A copy that every user may run: the checkout may lie in a home that is closed to others."""
    folder = tempfile.mkdtemp(prefix="silt-public-")
    atexit.register(shutil.rmtree, folder, True)
    os.chmod(folder, 0o755)
    path = shutil.copy2(SILT, folder)
    os.chmod(path, 0o755)
    return path


def refuse(name, args, status=3, words=(), user=None, quiet_stdout=True, stdin=subprocess.DEVNULL, cwd=None, or_as=None):
    """Runs silt with args and expects it to refuse; or_as: or to print just that, as if nothing were wrong."""
    begin = time.monotonic()
    try:
        r = subprocess.run([public_silt() if user else SILT] + args, stdin=stdin, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=20,
                           preexec_fn=limits, user=user, cwd=cwd)
    except subprocess.TimeoutExpired:
        report(name, False, "did not end")
        return
    text = r.stderr.decode(errors="replace")
    problems = []
    lines = (1, 2) if status == 2 else (1,)  # wrong usage may add a line with a hint
    if or_as is not None and (r.returncode, r.stdout) == (0, or_as):
        report(name + " (not read by this command)", True)
        return
    if r.returncode != status and not (isinstance(status, tuple) and r.returncode in status):
        problems.append("status %d, wanted %s" % (r.returncode, status))
    if text.count("\n") not in lines or not text.strip():
        problems.append("%d lines on standard error" % text.count("\n"))
    if quiet_stdout and r.stdout:
        problems.append("wrote to standard output")
    for w in words:
        if w not in text:
            problems.append("does not mention %r" % w)
    if time.monotonic() - begin > 5:
        problems.append("took %.1f s" % (time.monotonic() - begin))
    report(name, not problems, "%s: %r" % ("; ".join(problems), text[:600]))


def processes(folder):
    refuse("capture: no such pid", ["capture", "4194200", "-o", folder + "/x"], words=["4194200"])
    for pid in ("abc", "-5", "0", "12x", "99999999999999999999", ""):
        refuse("capture: pid %r" % pid, ["capture", pid, "-o", folder + "/x"], 2 if pid != "0" else 2)
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        # A partial result is 0 with a warning, which says how to get more.
        for args in (["capture", str(sleeper.pid), "-o", folder + "/partial"], ["show", str(sleeper.pid)]):
            r = subprocess.run([SILT] + args, capture_output=True, text=True, timeout=20)
            report("%s: not tracked: a warning says what to do" % args[0], r.returncode == 0 and
                   "silt run" in r.stderr + r.stdout, (r.returncode, r.stdout, r.stderr))
        if os.getuid() == 0 and os.access(SILT, os.X_OK):
            refuse("capture: not permitted", ["capture", str(sleeper.pid), "-o", "/tmp/silt-never"], user=65534)
    finally:
        sleeper.kill()
        sleeper.wait()
    refuse("capture: of itself's zombie", ["capture", str(zombie()), "-o", folder + "/x"])
    refuse("capture: pid 1", ["capture", "1", "-o", folder + "/x"])
    refuse("capture: a kernel thread", ["capture", "2", "-o", folder + "/kernel"])
    report("refused captures leave no file", not os.path.exists(folder + "/x"))
    if STATIC and os.path.exists(STATIC):
        refuse("run: a static program", ["run", "-q", "-o", folder + "/s.silt", "--", STATIC], words=["static"])
    foreign = os.path.join(folder, "foreign")
    with open(ENDS, "rb") as f:
        head = bytearray(f.read())
    head[18] = 183  # e_machine: aarch64
    with open(foreign, "wb") as f:
        f.write(head)
    os.chmod(foreign, 0o755)
    refuse("run: wrong architecture", ["run", "-q", "-o", folder + "/s.silt", "--", foreign])
    refuse("run: not executable", ["run", "-q", "-o", folder + "/s.silt", "--", "/etc/passwd"], (3, 126))
    refuse("run: a directory", ["run", "-q", "-o", folder + "/s.silt", "--", "/usr"], (3, 126))


def zombie():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    time.sleep(0.05)
    return pid


def usage():
    for args in ([], ["no-such-command"], ["run"], ["run", "--"], ["run", "--no-such-option", "true"], ["run", "--depth", "0", "true"],
                 ["run", "--depth", "100000", "true"], ["run", "--depth", "x", "true"], ["run", "--every", "-3s", "true"],
                 ["run", "--sample", "", "true"], ["capture"], ["capture", "1", "2", "3"], ["show"], ["show", "a", "b"],
                 ["diff"], ["diff", "a"], ["diff", "a", "b", "c"], ["show", "--sort", "nothing", "x"],
                 ["show", "--by", "nothing", "x"], ["show", "--top", "x", "x"],
                 ["--no-such-option"], ["symbols"], ["run", "-o"], ["capture", "1", "-o"]):
        refuse("usage: silt " + " ".join(args), args, 2)
    for args in (["--help"], ["help"], ["--version"], ["help", "run"], ["run", "--help"], ["show", "--help"], ["diff", "--help"],
                 ["capture", "--help"], ["symbols", "--help"], ["doctor", "--help"]):
        r = subprocess.run([SILT] + args, capture_output=True, timeout=20)
        report("usage: silt " + " ".join(args), r.returncode == 0 and r.stdout and not r.stderr, (r.returncode, r.stderr))
    r = subprocess.run([SILT, "help"], stdout=open("/dev/full", "w"), stderr=subprocess.PIPE, timeout=20)
    report("usage: help into a full device", r.returncode == 3 and r.stderr.count(b"\n") == 1, (r.returncode, r.stderr))


def files(folder, good):
    def output(*args):
        return subprocess.run([SILT] + list(args), stdout=subprocess.PIPE, timeout=20).stdout

    # A command need not read every part of a file; where it did not, it must print what it prints of the whole one.
    whole = {"show": output("show", "--json", good), "diff": output("diff", "--json", good, good)}

    def damaged(name, data, flipped=False):
        path = os.path.join(folder, name)
        with open(path, "wb") as f:
            f.write(data)
        for command, args in (("show", [path]), ("diff", [good, path]), ("diff", [path, good])):
            refuse("%s: %s" % (command, name), [command, "--json"] + args, words=[path],
                   or_as=whole[command] if flipped else None)

    refuse("show: a broken regular expression", ["show", "--focus", "(", good], 2)

    with open(good, "rb") as f:
        data = f.read()
    damaged("empty", b"")
    damaged("text", b"this is not a dump\n" * 100)
    damaged("random", random.Random(1).randbytes(100000))
    damaged("zeros", bytes(100000))
    damaged("one byte", data[:1])
    for part in (0.1, 0.5, 0.9, 0.999):
        damaged("cut to %g" % part, data[:int(len(data) * part)])
    damaged("without the last byte", data[:-1])
    damaged("with bytes behind", data + b"more")
    damaged("twice", data + data)
    for where in sorted(random.Random(2).sample(range(len(data)), 12)):
        changed = bytearray(data)
        changed[where] ^= 0xff
        damaged("byte %d of %d flipped" % (where, len(data)), changed, True)
    for path in ("/no/such/file", folder, "/dev/null", "/proc/self/mem", "/dev/zero"):
        refuse("show: " + path, ["show", path])
    os.mkfifo(folder + "/fifo")
    writer = subprocess.Popen(["sh", "-c", "echo nonsense > %s/fifo" % folder])
    refuse("show: a pipe of nonsense", ["show", folder + "/fifo"])
    writer.wait()
    if os.getuid() == 0:
        hidden = "/tmp/silt-hidden-%d.silt" % os.getpid()
        shutil.copy(good, hidden)
        os.chmod(hidden, 0o600)
        refuse("show: no permission to read", ["show", hidden], user=65534)
        os.unlink(hidden)
    for args in (["show", good], ["show", "--json", good], ["diff", good, good]):
        r = subprocess.run([SILT] + args, stdout=open("/dev/full", "w"), stderr=subprocess.PIPE, timeout=20)
        report("%s into a full device" % args[0], r.returncode == 3 and r.stderr.count(b"\n") == 1, (r.returncode, r.stderr))
        r = subprocess.run(["bash", "-c", "set -o pipefail; '%s' %s | true" % (SILT, " ".join(args))], capture_output=True)
        report("%s into a closed pipe is silent" % args[0], not r.stderr, r.stderr)
    step = "1" if SOAK or len(data) < 6000 else str(len(data) // 3000)
    r = subprocess.run([FLIP, good, folder + "/flipped", step], capture_output=True, text=True, timeout=900)
    report("every byte flipped, every length cut", r.returncode == 0, r.stdout + r.stderr)


def outputs(folder, good):
    """Writing where it cannot be written; a good file that was there stays."""
    program = subprocess.Popen([SILT, "run", "-q", "-o", folder + "/running.silt", "--", "sh", "-c", "echo $$; exec sleep 60"],
                               stdout=subprocess.PIPE, text=True)
    pid = program.stdout.readline().strip()
    time.sleep(0.3)
    try:
        for where in ("/no/such/directory/x.silt", "/proc/x.silt", folder):
            refuse("capture: into " + where, ["capture", pid, "-o", where])
            refuse("run: output " + where, ["run", "-q", "-o", where, "--", "true"])
        # Not in a chroot whose root is no mount point; and mounting outside of a namespace of its own would be seen by others.
        if os.getuid() != 0 or not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL,
                                                                             check=False).returncode:
            print("skip: a full disk: no mount namespace can be made here")
        else:
            small = os.path.join(folder, "small")
            os.mkdir(small)
            script = ("mount -t tmpfs -o size=4k none %s && echo precious > %s/old.silt && '%s' capture %s -o %s/old.silt; "
                      "echo $?; ls -A %s; cat %s/old.silt" % (small, small, SILT, pid, small, small, small))
            r = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=30)
            report("capture: onto a full disk keeps the old file", r.stdout == "3\nold.silt\nprecious\n" and
                   r.stderr.count("\n") == 1, (r.stdout, r.stderr))
            script = ("mount -t tmpfs -o size=4k none %s && echo precious > %s/old.silt && '%s' run -q -o %s/old.silt -- "
                      "'%s' exit 5; echo $?; ls -A %s; cat %s/old.silt" % (small, small, SILT, small, ENDS, small, small))
            r = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=30)
            report("run: onto a full disk keeps the old file, says so", r.stdout in (
                "3\nold.silt\nprecious\n", "5\nold.silt\nprecious\n") and r.stderr.count("\n") == 1, (r.stdout, r.stderr))
    finally:
        os.kill(int(pid), 9)
        program.wait()
    r = subprocess.run([SILT, "show", folder + "/running.silt"], capture_output=True)
    report("the program's own dump is not harmed by all this", r.returncode == 0, r.stderr)


def main():
    with tempfile.TemporaryDirectory(prefix="silt-bad-") as folder:
        good = os.path.join(folder, "good.silt")
        r = subprocess.run([SILT, "run", "-q", "-o", good, "--", ENDS, "return"], capture_output=True, text=True)
        if r.returncode != 0 or not os.path.exists(good):
            print("FAILED no dump to begin with: %s" % r.stderr)
            return 1
        usage()
        processes(folder)
        files(folder, good)
        outputs(folder, good)
    if failures:
        print("%d failed" % len(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
