#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Real servers under load: attach, capture three times, detach; no failed request, no changed answer.

usage: servers.py [python|redis|nginx|postgres]…   environment: SILT; SILT_SOAK=1: for ten minutes each
"""
import contextlib
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from target import check, check_clean, check_free, descriptors, main, maps, silt, skip, status, wait_until

SECONDS = 600 if os.environ.get("SILT_SOAK") == "1" else 6


def kept(pid, passing):
    """Its descriptors, without those that come and go: sockets, and the file `passing`."""
    return [fd for fd in descriptors(pid) if "socket" not in fd[1] and fd[1] != passing]


def rounds(pid, until, files=True, passing=None):
    """Attaches, looks and lets go until it is time, twice at least. Returns how often. files: it keeps the same ones open, but for
    the file `passing`."""
    fds = kept(pid, passing)
    n = 0
    while n < 2 or time.monotonic() < until:
        silt("attach", "-q", pid)
        for _ in range(3):
            silt("capture", "-q", "-o", "/dev/null", pid)
            time.sleep(0.05)
        silt("detach", "-q", pid)
        n += 1
    check_free(pid)
    check(not files or kept(pid, passing) == fds, f"descriptors {fds} became {kept(pid, passing)}")
    check(not any("silt" in to and "memfd" in to for _, to in descriptors(pid)) and "memfd:silt" not in maps(pid), "something is left")
    return n


@contextlib.contextmanager
def server(*command, **options):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def under_load(load, work):
    """Runs work() while the command load runs; returns the load's output."""
    process = subprocess.Popen(load, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        time.sleep(0.3)
        work()
        out, _ = process.communicate(timeout=120 + SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = out.decode(errors="replace")
    check(process.returncode == 0, f"the load ended with {process.returncode}: {text[-500:]}")
    return text


def children(pid):
    return [int(c) for c in subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, check=False).stdout.split()]


PYTHON = r"""
import hashlib, json, random, select, sys, threading
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
while not select.select([sys.stdin], [], [], 0)[0]:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
sys.exit(1 if wrong else 0)
"""


def python():
    end = time.monotonic() + SECONDS
    with subprocess.Popen([sys.executable, "-c", PYTHON], env={**os.environ, "PYTHONMALLOC": "malloc"}, stdin=subprocess.PIPE,
                          stderr=subprocess.PIPE) as p:
        try:
            wait_until(lambda: int(status(p.pid, "Threads")) > 1, "it does not begin")
            fds = descriptors(p.pid)
            n = rounds(p.pid, end)
            check_clean(p.pid, fds)
            p.stdin.close()
            check(p.wait(60) == 0, f"it ended with {p.returncode}: {p.stderr.read().decode()}")
            print(f"{n} rounds")
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
            while subprocess.run(["redis-cli", "-s", socket, "ping"], capture_output=True, timeout=20, check=False).stdout != b"PONG\n":
                check(server.poll() is None and time.monotonic() < end, "redis-server does not start")
                time.sleep(0.05)
            load = subprocess.Popen(["sh", "-c", f"while [ ! -e {folder}/stop ]; do "
                                     f"redis-benchmark -s {socket} -q -c 20 -n 20000 -r 1000 -t set,get,lpush,lpop,hset || exit 1; done"],
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
            n = rounds(server.pid, time.monotonic() + SECONDS)
            with open(os.path.join(folder, "stop"), "w", encoding="ascii"):
                pass
            try:
                out, _ = load.communicate(timeout=120 + SECONDS)
            finally:
                if load.poll() is None:
                    os.killpg(load.pid, signal.SIGKILL)
            text = out.decode(errors="replace")
            check(load.returncode == 0 and "rror" not in text, text[-500:])
            pong = subprocess.run(["redis-cli", "-s", socket, "ping"], capture_output=True, timeout=20, check=True).stdout
            check(pong.strip() == b"PONG", pong)
            check(server.poll() is None, f"server {server.poll()}")
            print(f"{n} rounds under load")
        finally:
            server.terminate()
            server.wait(20)


NGINX = """daemon off;
user root;
worker_processes 2;
error_log {folder}/error.log;
pid {folder}/pid;
events {{ worker_connections 256; }}
http {{
    access_log off;
    gzip on;
    gzip_types text/plain;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{ listen 127.0.0.1:{port}; location / {{ root {folder}; default_type text/plain; }} }}
}}
"""


def nginx():
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if not program or not shutil.which("wrk"):
        skip("nginx or wrk is not installed")
    with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        config, text = os.path.join(folder, "nginx.conf"), "".join(f"line {i}\n" for i in range(3000))
        os.chmod(folder, 0o755)
        with open(config, "w", encoding="utf-8") as f:
            f.write(NGINX.format(folder=folder, port=port))
        with open(os.path.join(folder, "page"), "w", encoding="utf-8") as f:
            f.write(text)
        url = f"http://127.0.0.1:{port}/page"

        def answers():
            try:
                with urllib.request.urlopen(url, timeout=20) as answer:
                    return answer.read().decode() == text
            except OSError:
                return False

        def work():
            workers = children(master.pid)
            check(len(workers) == 2, f"workers {workers}")
            end = time.monotonic() + SECONDS
            n = rounds(workers[0], time.monotonic() + SECONDS / 2, passing=os.path.realpath(os.path.join(folder, "page")))
            silt("attach", "-q", workers[1])
            check(answers(), "another answer while attached")
            n += rounds(master.pid, end)
            silt("detach", "-q", workers[1])
            check(n > 2 and answers() and children(master.pid) == workers, f"{n} rounds, workers {children(master.pid)}")
            print(f"{n} rounds under load")

        with server(program, "-c", config, "-p", folder, "-e", os.path.join(folder, "error.log")) as master:
            wait_until(answers, "nginx does not start")
            out = under_load(["wrk", "-t", "1", "-c", "20", "-d", str(SECONDS + 1), "-H", "Accept-Encoding: gzip", url], work)
            check("Socket errors" not in out and "Non-2xx" not in out and "requests in" in out, out)
            with open(os.path.join(folder, "error.log"), encoding="utf-8") as f:
                log = f.read()
            check("exited on signal" not in log and "[alert]" not in log, log[-500:])


def postgres():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not found or not shutil.which("pgbench"):
        skip("postgresql or pgbench is not installed")
    as_user = []
    with tempfile.TemporaryDirectory(prefix="silt-attach-") as folder:
        if os.getuid() == 0:  # it refuses to run as root
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
            as_user = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
        data = os.path.join(folder, "data")

        def tool(*command):
            run = subprocess.run([*as_user, *command], capture_output=True, text=True, cwd=folder, timeout=120)
            check(run.returncode == 0, f"{command}: {run.stderr[-500:]}")
            return run.stdout

        def sql(text):
            return tool("psql", "-h", folder, "-d", "postgres", "-Atc", text).strip()

        def attach_to_all():
            """The postmaster: the backends that it forks meanwhile, one for each transaction, are tracked too."""
            n = rounds(postmaster.pid, time.monotonic() + SECONDS, files=False)
            check(n > 1, f"{n} rounds")
            print(f"postmaster: {n} rounds under load")

        def attach_to_one():
            def backends():
                return [int(line.split()[0]) for line in subprocess.run(["pgrep", "-aP", str(postmaster.pid)], capture_output=True, text=True,
                                                                        check=False).stdout.splitlines() if "[local]" in line]
            wait_until(backends, "no backend")
            n = rounds(backends()[0], time.monotonic() + SECONDS / 2, files=False)
            check(n > 1, f"{n} rounds")
            print(f"a backend: {n} rounds under load")

        tool(os.path.join(found[-1], "initdb"), "-D", data, "-A", "trust", "-N")
        with server(*as_user, os.path.join(found[-1], "postgres"), "-D", data, "-k", folder, "-h", "", "-F", cwd=folder) as postmaster:
            wait_until(lambda: os.path.exists(os.path.join(folder, ".s.PGSQL.5432")), "postgres does not start")
            wait_until(lambda: subprocess.run([*as_user, "pg_isready", "-q", "-h", folder], check=False).returncode == 0, "it is not ready")
            tool("pgbench", "-i", "-q", "-h", folder, "postgres")
            bench = [*as_user, "pgbench", "-n", "-h", folder, "-c", "4"]
            out = under_load([*bench, "-C", "-T", str(SECONDS), "postgres"], attach_to_all)
            out += under_load([*bench, "-T", str(2 * SECONDS), "postgres"], attach_to_one)  # a machine under load is slow
            check(out.count("number of failed transactions: 0 ") == 2 and "error" not in out.lower(), out)
            sums = {sql(f"select sum({column}) from {table}") for column, table in (
                ("abalance", "pgbench_accounts"), ("tbalance", "pgbench_tellers"), ("bbalance", "pgbench_branches"),
                ("delta", "pgbench_history"))}
            check(len(sums) == 1, f"the sums of what was transferred differ: {sums}")
            check(postmaster.poll() is None, "it ended")


TESTS = {f.__name__: f for f in (python, redis, nginx, postgres)}

if __name__ == "__main__":
    sys.exit(main(TESTS))
