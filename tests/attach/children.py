#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Children that an attached process forks are tracked like it: each block of theirs is known, they can be captured and detached from, and
their last states are kept.

usage: children.py [follow|end|none|others]…   environment: SILT, SILT_CHILDREN, SILT_BLOCKS, SILT_SOURCE
"""
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time

from target import check, check_clean, check_free, descriptors, main, maps, silt

sys.path.insert(0, os.path.join(os.environ["SILT_SOURCE"], "tests/truth"))
import dumps  # noqa: E402

BLOCKS, CHILDREN, FORKS = os.environ["SILT_BLOCKS"], os.environ["SILT_CHILDREN"], 4


def wait_until(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < end, what)
        time.sleep(0.005)


class Family:
    """The program, and what its children told."""

    def __init__(self, folder, preload=None):
        self.folder = folder
        env = {**os.environ, "LD_PRELOAD": preload} if preload else None
        self.process = subprocess.Popen([CHILDREN, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        self.pid = self.process.pid
        check(self.process.stdout.readline() == b"ready\n", "it does not begin")

    def fork(self, count):
        """Lets it fork, and waits for what all children and grandchildren kept. Returns their numbers."""
        known = set(self.told())
        self.process.stdin.write(b"\n" * count)
        self.process.stdin.flush()
        wait_until(lambda: len(set(self.told()) - known) == 2 * count, f"{count} children did not tell what they keep")
        return sorted(set(self.told()) - known)

    def told(self):
        return [int(name) for name in os.listdir(self.folder) if name.isdigit()]

    def ledger(self, pid):
        """{"own", "old", "gone", "busy": {address: size}}"""
        found = {"own": {}, "old": {}, "gone": {}, "busy": {}}
        with open(os.path.join(self.folder, str(pid)), encoding="utf-8") as f:
            for what, addr, size in (line.split() for line in f):
                found[what][int(addr, 16)] = int(size)
        return found

    def more(self, pid):
        os.unlink(os.path.join(self.folder, str(pid)))
        os.kill(pid, signal.SIGUSR1)
        wait_until(lambda: pid in self.told(), f"child {pid} does not go on")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for pid in self.told():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


compared, left_out = [], []


def check_some():
    """What a busy machine left out is not most of it."""
    check(not left_out or len(compared) > len(left_out), f"{len(compared)} dumps compared, {len(left_out)} left out")


def check_dump(family, pid, path):
    """Its blocks are those the child keeps, each with a stack, and those it has from its parent, no more and no less."""
    dump, ledger = dumps.Dump(BLOCKS, path), family.ledger(pid)
    found = {addr: size for addr, (size, _) in dump.blocks.items()}
    stack = {addr for addr in found if dump.stack_of(addr)[1]}
    own, old, busy = ledger["own"], ledger["old"], ledger["busy"]
    who, sums = f"child {pid}", f"{len(found)} blocks, {len(stack)} with a stack: {dump.notes}"
    check(dump.process["pid"] == pid, f"{path} is of process {dump.process['pid']}")
    if any("had gone on too far" in n for n in dump.notes):  # on a machine under load; silt says so itself
        print(f"{who}: it came to run too late for its parent's blocks, which are not compared")
        left_out.append(pid)
        return
    compared.append(pid)
    check(not [n for n in dump.notes if "inherited" in n], f"{who}: {dump.notes}")
    check(all(found.get(addr) == size for addr, size in own.items()), f"{who}: not all blocks of its own are there: {sums}")
    check(stack >= set(own), f"{who}: blocks of its own without a stack: {sums}")
    # What was there before the attach has no stack, and the size the allocator gave it.
    before = not [n for n in dump.notes if "before that are not included" in n]
    if before:
        check(all(0 <= found.get(addr, -1) - size < 32 for addr, size in old.items()), f"{who}: blocks of before are missing: {sums}")
    check(not stack & set(old), f"{who}: blocks of before with a stack: {sums}")
    wrong = (set(ledger["gone"]) & set(found)) - set(own) - set(busy)
    check(not wrong, f"{who}: {len(wrong)} blocks that it gave back: {sums}")
    # Of the parent's threads each had a block or some in its hands, which may be there or not; others stay as they were at the fork.
    more, less = stack - set(own) - set(busy), {addr for addr, size in busy.items() if before and not 0 <= found.get(addr, -1) - size < 32}
    check(len(more) <= 40 and len(less) <= 40, f"{who}: {len(more)} blocks too many, {len(less)} missing: {sums}")


def follow():
    """Captured, detached from one after another in any order; all go on."""
    with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder, Family(folder) as family:
        out, one = os.path.join(folder, "last.silt"), os.path.join(folder, "one.silt")
        before = family.fork(1)
        fds = descriptors(family.pid)
        silt("attach", "-q", "-o", out, family.pid)
        children = family.fork(FORKS)
        for pid in children:
            silt("capture", "-q", "-o", one, pid)
            check_dump(family, pid, one)
        for n, pid in enumerate([children[0], family.pid, *children[1:]]):
            last = out if pid == family.pid else os.path.join(folder, f"last.{pid}.silt")
            if pid != family.pid:
                family.more(pid)
            silt("detach", "-q", pid)
            check(os.path.exists(last), f"{last} is not there")
            if pid != family.pid:
                check_dump(family, pid, last)
                family.more(pid)
            check_clean(pid, fds)
            check("silt" not in maps(pid).replace(folder, "").replace(CHILDREN, ""), maps(pid))
            check_free(pid)
            if n == 2:  # tracked again, while others of the first attach are left
                silt("attach", "-q", pid)
                family.more(pid)
                silt("detach", "-q", pid)
                check_clean(pid, fds)
        for pid in before:
            check("memfd" not in maps(pid), "a child of before is tracked")
        wait_until(lambda: not subprocess.run(["pgrep", "-f", f"silt attach.*{folder}"], capture_output=True, check=False).stdout,
                   "somebody still holds the database")


def end():
    """Last states are written when children end, also after their parent; time ends them all."""
    with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder, Family(folder) as family:
        out = os.path.join(folder, "last.silt")
        fds = descriptors(family.pid)
        silt("attach", "-q", "-o", out, family.pid)
        children = family.fork(FORKS)
        os.kill(children[0], signal.SIGKILL)
        last = {pid: os.path.join(folder, f"last.{pid}.silt") for pid in children}
        wait_until(lambda: os.path.exists(last[children[0]]), "no dump of a killed child")
        check_dump(family, children[0], last[children[0]])
        silt("detach", "-q", family.pid)
        for pid in children[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in children[1:]:
            wait_until(lambda p=pid: os.path.exists(last[p]), f"no dump of child {pid}")
            check_dump(family, pid, last[pid])
        out = os.path.join(folder, "time.silt")
        with subprocess.Popen([os.environ["SILT"], "attach", "-q", "-o", out, "--duration", "2s", str(family.pid)]) as p:
            wait_until(lambda: "memfd:silt-db" in maps(family.pid), "attached")
            time.sleep(0.1)  # until the jumps are written
            children = family.fork(1)
            check(p.wait(30) == 0, f"status {p.returncode}")
        for pid in children:
            check_dump(family, pid, os.path.join(folder, f"time.{pid}.silt"))
            check_clean(pid, fds)
            family.more(pid)
        check_clean(family.pid, fds)


def none():
    """--no-follow: untracked, but clean once detached from."""
    with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder, Family(folder) as family:
        fds = descriptors(family.pid)
        silt("attach", "-q", "--no-follow", family.pid)
        for pid in family.fork(1):
            _, out, _ = silt("show", "--json", pid)
            check("the process is not tracked" in out, out[-500:])
            silt("detach", "-q", pid)
            check_clean(pid, fds)
            family.more(pid)
        silt("detach", "-q", family.pid)
        check_clean(family.pid, fds)


def others():
    """Other allocators: every block of after is known exactly; that those of before are not is said."""
    for library in ("libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2"):
        path = os.path.join("/usr/lib/x86_64-linux-gnu", library)
        if not os.path.exists(path):
            print(f"skip: {library} is not installed")
            continue
        with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder, Family(folder, path) as family:
            one, fds = os.path.join(folder, "one.silt"), descriptors(family.pid)
            err = silt("attach", family.pid)[2]
            check("are not included" in err and library.split(".")[0][3:].split("_")[0] in err, err)
            for pid in family.fork(2):
                family.more(pid)
                silt("capture", "-q", "-o", one, pid)
                check_dump(family, pid, one)
                silt("detach", "-q", pid)
                check_clean(pid, fds)
                family.more(pid)
            _, out, _ = silt("show", "--json", family.pid)
            check("are not included" in out, out[-500:])
            silt("detach", "-q", family.pid)
            check_clean(family.pid, fds)


TESTS = {f.__name__: (lambda f=f: (f(), check_some())) for f in (follow, end, none, others)}

if __name__ == "__main__":
    sys.exit(main(TESTS))
