#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Real programs: the sums of a walked heap equal what malloc itself says at the same moment (mallinfo2), byte for byte.

usage: programs.py MALLINFO_PRELOAD [PROGRAM…]     python, threads, redis, perl, bash
"""
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SILT = os.environ["SILT"]
BLOCKS = os.environ["SILT_BLOCKS"]

PYTHON = """
import json, os, sys, time
data = {str(i): [i, float(i), "x" * (i % 300), {"k": i}] for i in range(60000)}
text = json.dumps(data)
other = json.loads(text)
for k in list(other)[::3]:
    del other[k]
big = [bytearray(200000 + i) for i in range(20)]
print("ready", flush=True)
time.sleep(100)
"""

THREADS = """
import os, threading, time
def work(n, kept):
    for i in range(20000):
        kept.append(bytes(n + i % 2000))
        if i % 3 == 0:
            kept.pop(i % len(kept))
lists = [[] for _ in range(6)]
threads = [threading.Thread(target=work, args=(20 * i, l)) for i, l in enumerate(lists)]
for t in threads: t.start()
for t in threads: t.join()
while len(os.listdir("/proc/self/task")) > 1: time.sleep(0.01)
print("ready", flush=True)
time.sleep(100)
"""


class Program:
    def __init__(self, command, env, ready):
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        stdin=subprocess.PIPE)
        ready(self.process)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stdin.close()


def read_line(process):
    process.stdout.readline()


def fill_redis(path):
    def fill(_):
        for _ in range(200):
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect(path)
                break
            except OSError:
                s.close()
                time.sleep(0.05)
        commands = []
        for i in range(20000):
            value = "v" * (i % 700)
            commands.append("SET key:%d %s\r\n" % (i, value or "-"))
            if i % 4 == 0:
                commands.append("DEL key:%d\r\n" % (i // 2))
            if i % 50 == 0:
                commands.append("RPUSH list:%d %s\r\n" % (i % 7, " ".join("e%d" % k for k in range(30))))
        s.sendall("".join(commands).encode() + b"PING\r\n")
        answer = b""
        while not answer.endswith(b"+PONG\r\n"):
            answer = answer[-100:] + s.recv(65536)
        s.close()
        time.sleep(0.3)
    return fill


def start(name, preload, folder):
    env = dict(os.environ, LD_PRELOAD=preload, MALLINFO_FILE=os.path.join(folder, "mallinfo"))
    if name == "python":
        return Program([sys.executable, "-c", PYTHON], dict(env, PYTHONMALLOC="malloc"), read_line)
    if name == "threads":
        return Program([sys.executable, "-c", THREADS], dict(env, PYTHONMALLOC="malloc"), read_line)
    if name == "bash":
        script = "for i in {1..30000}; do a[$i]=xxxxxxxxx$i$i$i; done; for i in {1..9000}; do unset a[$((i*3))]; done; echo ready; read line"
        return Program(["bash", "-c", script], env, read_line)
    if name == "perl":
        script = 'my %h; $h{$_} = [map { $_ x 3 } 1 .. ($_ % 9)] for 1 .. 50000; delete $h{$_ * 3} for 1 .. 9000; $| = 1; print "ready\\n"; sleep 100;'
        return Program(["perl", "-e", script], env, read_line)
    path = os.path.join(folder, "redis.sock")
    return Program(["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--activedefrag", "no"],
                   env, fill_redis(path))


def is_missing(name):
    tool = {"redis": "redis-server", "perl": "perl", "bash": "bash"}.get(name)
    if tool and not shutil.which(tool):
        return "%s is not installed" % tool
    if name == "redis":
        linked = subprocess.run(["ldd", shutil.which(tool)], capture_output=True, text=True).stdout
        if "jemalloc" in linked:
            return "this redis-server uses jemalloc"
    return None


def facts(path):
    with open(path) as f:
        return {name: int(value) for name, value in (line.split() for line in f)}


def check(name, preload, folder):
    program = start(name, preload, folder)
    told, dump = os.path.join(folder, "mallinfo"), os.path.join(folder, "walked.silt")
    try:
        os.kill(program.process.pid, signal.SIGUSR2)
        for _ in range(2000):
            if os.path.exists(told):
                break
            time.sleep(0.01)
        r = subprocess.run([SILT, "capture", str(program.process.pid), "-o", dump], capture_output=True, text=True)
        if r.returncode:
            return [r.stderr]
        theirs = facts(told)
        os.unlink(told)
    finally:
        program.end()
    counters, notes, count = {}, [], 0
    for line in subprocess.run([BLOCKS, dump], capture_output=True, text=True, check=True).stdout.splitlines():
        words = line.split(" ")
        if words[0] == "counter":
            counters[words[1]] = int(words[2])
        elif words[0] == "note" and "were found by walking" not in line:
            notes.append(line)
        count += words[0] == "block"
    used = counters["heap.system_bytes"] - counters["heap.free_bytes"]
    problems = notes
    if counters["heap.system_bytes"] != theirs["arena"] + theirs["hblkhd"]:
        problems.append("from the system: %d, malloc says %d" % (counters["heap.system_bytes"], theirs["arena"] + theirs["hblkhd"]))
    if used != theirs["uordblks"] + theirs["hblkhd"]:
        problems.append("in use: %d, malloc says %d" % (used, theirs["uordblks"] + theirs["hblkhd"]))
    if counters["heap.free_bytes"] != theirs["fordblks"]:
        problems.append("free: %d, malloc says %d" % (counters["heap.free_bytes"], theirs["fordblks"]))
    print("%-8s %d blocks, %d bytes in use, %d free, %d mapped" % (name, count, used, theirs["fordblks"], theirs["hblks"]))
    return problems


def main():
    preload, names = sys.argv[1], sys.argv[2:] or ["python", "threads", "redis", "perl", "bash"]
    failed = ran = 0
    for name in names:
        reason = is_missing(name)
        if reason:
            print("%-8s skipped: %s" % (name, reason))
            continue
        with tempfile.TemporaryDirectory() as folder:
            problems = check(name, preload, folder)
        ran += 1
        failed += bool(problems)
        for problem in problems:
            print("%-8s FAILED: %s" % (name, problem))
    sys.exit(1 if failed else 0 if ran else 77)


main()
