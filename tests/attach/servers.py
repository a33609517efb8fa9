#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Real servers under load: attach, capture three times, detach; no failed request, no changed answer.

usage: servers.py [python|redis]…   environment: SILT; SILT_SOAK=1: for ten minutes each
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from target import check, check_clean, check_free, descriptors, main, silt, skip

SECONDS = 600 if os.environ.get("SILT_SOAK") == "1" else 6


def rounds(pid, until):
    """Attaches, looks and lets go until it is time. Returns how often."""
    fds = [fd for fd in descriptors(pid) if "socket" not in fd[1]]
    n = 0
    while time.monotonic() < until:
        silt("attach", "-q", pid)
        for _ in range(3):
            silt("capture", "-q", "-o", "/dev/null", pid)
            time.sleep(0.05)
        silt("detach", "-q", pid)
        n += 1
    check_free(pid)
    check([fd for fd in descriptors(pid) if "socket" not in fd[1]] == fds, "descriptors changed")
    return n


PYTHON = r"""
import hashlib, json, random, sys, threading
wrong = []
def work(seed):
    rng = random.Random(seed)
    want = None
    for _ in range(20):
        data = {str(i): [rng.random() for _ in range(20)] for i in range(100)} if want is None else data
        text = json.dumps(data, sort_keys=True)
        assert json.loads(text) == data
        digest = hashlib.sha256(text.encode()).hexdigest()
        want = want or digest
        if digest != want:
            wrong.append(digest)
deadline = __import__("time").monotonic() + float(sys.argv[1])
while __import__("time").monotonic() < deadline:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
sys.exit(1 if wrong else 0)
"""


def python():
    end = time.monotonic() + SECONDS
    with subprocess.Popen([sys.executable, "-c", PYTHON, str(SECONDS + 3)], env={**os.environ, "PYTHONMALLOC": "malloc"},
                          stderr=subprocess.PIPE) as p:
        try:
            time.sleep(0.5)
            fds = descriptors(p.pid)
            n = rounds(p.pid, end)
            check_clean(p.pid, fds)
            check(p.wait(60) == 0, f"it ended with {p.returncode}: {p.stderr.read().decode()}")
            check(n > 1, f"{n} rounds")
        finally:
            p.kill()


def redis():
    if not shutil.which("redis-server") or not shutil.which("redis-benchmark"):
        skip("redis-server or redis-benchmark is not installed")
    with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder:
        socket = os.path.join(folder, "redis.sock")
        server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder,
                                   "--daemonize", "no"], stdout=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 20
            while not os.path.exists(socket):
                check(server.poll() is None and time.monotonic() < end, "redis-server does not start")
                time.sleep(0.05)
            load = subprocess.Popen(["sh", "-c", f"end=$(( $(date +%s) + {SECONDS} )); while [ $(date +%s) -le $end ]; do "
                                     f"redis-benchmark -s {socket} -q -c 20 -n 20000 -r 1000 -t set,get,lpush,lpop,hset || exit 1; done"],
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
            time.sleep(0.3)
            n = rounds(server.pid, time.monotonic() + SECONDS)
            try:
                out, _ = load.communicate(timeout=120 + SECONDS)
            finally:
                if load.poll() is None:
                    os.killpg(load.pid, signal.SIGKILL)
            text = out.decode(errors="replace")
            check(load.returncode == 0 and "rror" not in text, text[-500:])
            pong = subprocess.run(["redis-cli", "-s", socket, "ping"], capture_output=True, timeout=20, check=True).stdout
            check(pong.strip() == b"PONG", pong)
            check(n > 1 and server.poll() is None, f"{n} rounds, server {server.poll()}")
            print(f"{n} rounds under load")
        finally:
            server.terminate()
            server.wait(20)


TESTS = {f.__name__: f for f in (python, redis)}

if __name__ == "__main__":
    sys.exit(main(TESTS))
