#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Debug files from debuginfod servers: found, unknown and remembered, wrong, slow, endless, broken, down, interrupted.

usage: debuginfod.py SILT [own|debian]      servers of this test, or Debian's debuginfod
status 0, 1 with failures printed, 77 when a tool or libdebuginfod is missing
"""
import ctypes
import http.server
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time

failures = []
SOURCE = "int inner(int x) { return x * 3; }\nint main(int c, char **v) { (void)v; return inner(c); }\n"


def expect(what, good, detail=""):
    if not good:
        failures.append(what)
        print(f"FAILED {what}: {detail}"[:3000])


class Server:
    """Counts requests; answers each as mode says."""

    def __init__(self, files):
        self.files, self.mode, self.requests, self.stop = files, "files", [], threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.path)
                try:
                    outer.answer(self)
                except OSError: # the client has gone
                    pass

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def send(self, handler, status, body=b"", length=None):
        handler.send_response(status)
        handler.send_header("Content-Type", "application/octet-stream")
        if length is not False:
            handler.send_header("Content-Length", str(length or len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def answer(self, handler):
        build_id = handler.path.split("/")[2]
        if self.mode == "files" and build_id in self.files:
            with open(self.files[build_id], "rb") as file:
                self.send(handler, 200, file.read())
        elif self.mode == "files":
            self.send(handler, 404)
        elif self.mode == "wrong":
            with open(self.files["wrong"], "rb") as file:
                self.send(handler, 200, file.read())
        elif self.mode == "text":
            self.send(handler, 200, b"<html>captive portal</html>")
        elif self.mode == "error":
            self.send(handler, 500)
        elif self.mode == "cut":
            self.send(handler, 200, b"\x7fELF" + b"x" * 1000, 100000)
            handler.connection.shutdown(socket.SHUT_RDWR)
        elif self.mode == "silent":
            self.stop.wait(60)
        elif self.mode == "large":
            self.send(handler, 200, b"x" * 1000000)
        elif self.mode in ("drip", "endless"):
            self.send(handler, 200, length=False)
            while not self.stop.wait(0.1 if self.mode == "drip" else 0):
                handler.wfile.write(b"x" * (2000 if self.mode == "drip" else 65536))
                handler.wfile.flush()


class Bench:
    def __init__(self, silt, directory):
        self.silt, self.directory, self.count = silt, directory, 0
        self.home = self.program = self.address = self.build_id = self.debug = None

    def compile(self, name, *options):
        source, program = (os.path.join(self.directory, n) for n in (f"{name}.c", name))
        with open(source, "w", encoding="utf-8") as file:
            file.write(SOURCE)
        subprocess.run(["gcc", "-g", "-O0", "-Wl,--build-id=sha1", *options, "-o", program, source], check=True)
        debug = f"{program}.debug"
        subprocess.run(["objcopy", "--only-keep-debug", program, debug], check=True)
        table = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
        self.address = next(line.split()[0] for line in table.splitlines() if line.endswith(" inner"))
        notes = subprocess.run(["readelf", "-n", program], capture_output=True, text=True, check=True).stdout
        subprocess.run(["strip", program], check=True)
        return program, debug, re.search(r"Build ID: ([0-9a-f]+)", notes)[1]

    def build(self):
        self.wrong = self.compile("other", "-DOTHER=1", "-static-libgcc", "-O1")[1]
        self.program, self.debug, self.build_id = self.compile("program")

    def fresh(self):
        """A new home without any cache."""
        self.count += 1
        self.home = os.path.join(self.directory, f"home{self.count}")
        os.makedirs(self.home)

    def environment(self, variables):
        return {"PATH": os.environ["PATH"], "HOME": self.home, "no_proxy": "*", **variables}

    def run(self, *arguments, **variables):
        return subprocess.run([self.silt, *arguments], capture_output=True, text=True, errors="replace", timeout=120, check=False,
                              env=self.environment(variables), cwd=self.directory)

    def ask(self, *options, **variables):
        return self.run("symbols", *options, self.program, self.address, **variables)

    def listed(self, *options, **variables):
        done = self.run("symbols", "--list", "--json", *options, self.program, **variables)
        expect("--list ends well", done.returncode == 0, done)
        return json.loads(done.stdout)

    def kept(self, where=None):
        """Files below the store, and directories of unfinished downloads."""
        found = []
        for top, _, names in os.walk(where or os.path.join(self.home, ".cache", "silt", "debug")):
            found += [os.path.join(top, n) for n in names]
            if "fetch-" in top:
                found.append(top)
        return found


def has_lines(done):
    return done.returncode == 0 and "inner" in done.stdout and "program.c:1" in done.stdout


def opt_in(bench, server):
    """DEBUGINFOD_URLS alone never makes a request."""
    bench.fresh()
    before = len(server.requests)
    for options, variables in (((), {"DEBUGINFOD_URLS": server.url}), ((), {"DEBUGINFOD_URLS": server.url, "SILT_DEBUGINFOD": "no"}),
                               (("--symbol-path", f"srv*{server.url}"), {"SILT_DEBUGINFOD": "no"})):
        done = bench.ask(*options, **variables)
        expect(f"no request with {options} {variables}", done.returncode == 0 and not has_lines(done), done)
    expect("no request without being asked to", len(server.requests) == before, server.requests)
    ways = (("--debuginfod",), {"DEBUGINFOD_URLS": server.url}), ((), {"DEBUGINFOD_URLS": server.url, "SILT_DEBUGINFOD": "yes"}), \
        (("--symbol-path", f"srv*{server.url}"), {}), ((), {"SILT_SYMBOL_PATH": f"srv*{bench.directory}/own*{server.url}"}), \
        (("--symbol-path", "srv*"), {"DEBUGINFOD_URLS": server.url}), \
        (("--symbol-path", f"srv*{server.url}", "--debuginfod"), {"DEBUGINFOD_URLS": "http://127.0.0.1:1"})
    for options, variables in ways:
        bench.fresh()
        before = len(server.requests)
        done = bench.ask(*options, **variables)
        expect(f"found with {options} {variables}", has_lines(done) and len(server.requests) > before and not done.stderr, done)
    bench.fresh()
    done = bench.ask("--debuginfod")
    expect("no server is named", done.returncode == 0 and "no server is named" in done.stderr, done)
    config = os.path.join(bench.home, "config")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f"debuginfod = yes\ndebuginfod-urls = {server.url}\n")
    expect("by the configuration file", has_lines(bench.ask(SILT_CONFIG=config)))


def found(bench, server):
    bench.fresh()
    bench.ask() # answers without the debug file are kept: they must not hide it
    tried = bench.listed("--symbol-path", f"srv*{server.url}")["modules"][0]["tried"]
    path = os.path.join(bench.home, ".cache", "silt", "debug", ".build-id", bench.build_id[:2], bench.build_id[2:] + ".debug")
    expect("--list shows the download", f"{server.url}: downloaded to {path}" in tried, tried)
    expect("modes", os.path.exists(path) and stat.S_IMODE(os.stat(path).st_mode) == 0o600
           and stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700, bench.kept())
    expect("nothing else is left", bench.kept() == [path], bench.kept())
    requests = len(server.requests)
    for _ in range(2):
        expect("names come from it", has_lines(bench.ask("--symbol-path", f"srv*{server.url}")))
    expect("it is not asked for again", len(server.requests) == requests, server.requests)
    os.unlink(path)
    expect("a file that went is fetched again", has_lines(bench.ask("--symbol-path", f"srv*{server.url}"))
           and len(server.requests) > requests)
    done = bench.run("symbols", "--clear-cache")
    expect("--clear-cache", done.returncode == 0 and not bench.kept(), bench.kept())
    bench.fresh()
    store = os.path.join(bench.home, "store")
    expect("the directory of the path element", has_lines(bench.ask("--symbol-path", f"srv*{store}*{server.url}"))
           and len(bench.kept(store)) == 1 and not bench.kept() and stat.S_IMODE(os.stat(store).st_mode) == 0o700, bench.kept(store))
    server.files["absent"] = server.files.pop(bench.build_id)
    other = Server({bench.build_id: bench.debug})
    bench.fresh()
    done = bench.ask("-v", "--symbol-path", f"srv*{server.url};srv*{other.url}")
    expect("the second server has it", has_lines(done) and f"{server.url}: not known there" in done.stderr
           and f"{other.url}: downloaded" in done.stderr, done)
    server.files[bench.build_id] = server.files.pop("absent")


def unknown(bench, server):
    files, server.files = server.files, {}
    bench.fresh()
    path = ("--symbol-path", f"srv*{server.url}")
    requests = len(server.requests)
    tried = bench.listed(*path)["modules"][0]["tried"]
    expect("--list shows the miss", f"{server.url}: not known there" in tried, tried)
    expect("one request", len(server.requests) == requests + 1, server.requests[requests:])
    tried = bench.listed(*path)["modules"][0]["tried"]
    expect("the miss is remembered", f"{server.url}: not known there (remembered)" in tried, tried)
    for _ in range(2):
        done = bench.ask(*path)
        expect("names without it", done.returncode == 0 and "debuginfod" not in done.stderr, done)
    expect("no other request", len(server.requests) == requests + 1, server.requests[requests:])
    misses = os.path.join(bench.home, ".cache", "silt", "misses")
    expect("one private miss", [stat.S_IMODE(os.stat(os.path.join(misses, n)).st_mode) for n in os.listdir(misses)] == [0o600])
    time.sleep(1.1)
    bench.ask(*path, SILT_DEBUGINFOD_MISS_TIME="1s")
    expect("an old miss is asked for again", len(server.requests) == requests + 2, server.requests[requests:])
    bench.run("symbols", "--clear-cache")
    bench.ask(*path)
    expect("--clear-cache forgets misses", len(server.requests) == requests + 3, server.requests[requests:])
    server.files = files
    bench.run("symbols", "--clear-cache")
    expect("answers without lines do not hide what a server has now", has_lines(bench.ask(*path)))


def trouble(bench, server):
    """mode, settings, what is said; each ends with names from here, and leaves nothing behind."""
    cases = (
        ("wrong", {}, "has another build-id: not used", True),
        ("text", {}, "is no ELF file, or has another build-id: not used", True),
        ("error", {}, "answers with the HTTP status 500", False),
        ("cut", {}, "the connection broke", False),
        ("silent", {"SILT_DEBUGINFOD_IDLE_TIME": "1s"}, "timeout: nothing came for 1 seconds", False),
        ("drip", {"SILT_DEBUGINFOD_MAX_TIME": "2s", "SILT_DEBUGINFOD_IDLE_TIME": "30s"}, "timeout: not complete after 2 seconds", False),
        ("endless", {"SILT_DEBUGINFOD_MAX_SIZE": "3M"}, "the file is larger than 3145728 bytes", False),
        ("large", {"SILT_DEBUGINFOD_MAX_SIZE": "100K"}, "the file is larger than 102400 bytes", False),
    )
    for mode, settings, text, remembered in cases:
        server.mode = mode
        bench.fresh()
        begun = time.monotonic()
        done = bench.ask("-v", "--symbol-path", f"srv*{server.url}", **settings)
        expect(f"{mode}: goes on without", done.returncode == 0 and not has_lines(done), done)
        expect(f"{mode}: it is said, and in the list of attempts", done.stderr.count(text) == 2 and server.url in done.stderr, done)
        expect(f"{mode}: ends long before the server does", time.monotonic() - begun < 30)
        expect(f"{mode}: nothing is left", not bench.kept(), bench.kept())
        requests = len(server.requests)
        bench.ask("--symbol-path", f"srv*{server.url}", **settings)
        expect(f"{mode}: remembered: {remembered}", (len(server.requests) == requests) == remembered, server.requests[requests:])
        server.mode = "files"
        if not remembered:
            expect(f"{mode}: the next run asks again", has_lines(bench.ask("--symbol-path", f"srv*{server.url}")))


def dump_of_two(bench):
    """A dump of a program and a library, both without debug information."""
    path, library, program = (os.path.join(bench.home, n) for n in ("dump.silt", "libours.so", "user"))
    with open(f"{program}.c", "w", encoding="utf-8") as file:
        file.write("#include <stdlib.h>\n#ifdef LIBRARY\nvoid *keep(void) { return malloc(100); }\n#else\nvoid *keep(void);\n"
                   "int main(void) { return !keep() + !malloc(50); }\n#endif\n")
    for options in (["-DLIBRARY", "-shared", "-fPIC", "-o", library], ["-o", program, "-L", bench.home, "-lours", "-Wl,-rpath," + bench.home]):
        subprocess.run(["gcc", "-s", "-Wl,--build-id=sha1", f"{program}.c", *options], check=True)
    done = bench.run("run", "-o", path, "--", program)
    expect("a dump", os.path.exists(path), done)
    return path


def server_down(bench):
    """A dump with several modules names a server that is down once."""
    free = socket.socket()
    free.bind(("127.0.0.1", 0)) # bound and not listening: nobody else gets the port
    url = f"http://127.0.0.1:{free.getsockname()[1]}"
    bench.fresh()
    dump = dump_of_two(bench)
    done = bench.run("symbols", "--list", "--symbol-path", f"srv*{url}", dump)
    expect("a server that is down is one warning", done.returncode == 0 and done.stderr.count(url) == 1
           and f"{url}: cannot be reached" in done.stderr, done)
    expect("and an attempt of each module", f"{url}: cannot be reached" in done.stdout and f"{url}: not asked" in done.stdout, done.stdout)
    done = bench.run("show", "--symbol-path", f"srv*{url}", dump)
    expect("the report goes on", done.returncode == 0 and "live" in done.stdout and (done.stdout + done.stderr).count(url) == 1, done)


def interrupted(bench, server):
    for name, group in (("SIGINT", True), ("SIGINT", False), ("SIGTERM", False)):
        bench.fresh()
        server.mode = "drip"
        requests = len(server.requests)
        child = subprocess.Popen([bench.silt, "symbols", "--symbol-path", f"srv*{server.url}", bench.program, bench.address],
                                 env=bench.environment({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        store = os.path.join(bench.home, ".cache", "silt", "debug")
        for _ in range(600):
            if len(server.requests) > requests and any("debuginfo" in n for n in bench.kept()):
                break
            time.sleep(0.05)
        expect(f"{name}: a download is under way in {store}", bench.kept())
        (os.killpg if group else os.kill)(child.pid, getattr(signal, name))
        out, err = child.communicate(timeout=60)
        expect(f"{name}: ends by it", child.returncode == -getattr(signal, name), (child.returncode, out, err))
        expect(f"{name}: leaves nothing", not bench.kept(), bench.kept())
        left = subprocess.run(["ps", "-o", "pid=,args=", "--sid", str(child.pid)], capture_output=True, text=True, check=False).stdout
        expect(f"{name}: no process is left", not left.strip(), left)
    server.mode = "files"


def progress(bench, server):
    """On a terminal bytes are counted on standard error, and erased."""
    bench.fresh()
    server.mode = "drip"
    master, slave = pty.openpty()
    child = subprocess.Popen([bench.silt, "symbols", "--symbol-path", f"srv*{server.url}", bench.program, bench.address],
                             env=bench.environment({"TERM": "xterm", "SILT_DEBUGINFOD_MAX_TIME": "3s"}), stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    text = b""
    while select.select([master], [], [], 60)[0]:
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        text += part
    child.communicate(timeout=60)
    os.close(master)
    expect("progress", re.search(rb"\r\d+ bytes of program from http://127", text) and b"\r\x1b[K" in text, text[:500])
    server.mode = "files"


def without_library(bench, server):
    bench.fresh()
    directory = os.path.join(bench.home, "lib")
    os.makedirs(directory)
    with open(os.path.join(directory, "libdebuginfod.so.1"), "w", encoding="utf-8") as file:
        file.write("nothing")
    requests = len(server.requests)
    done = bench.ask("-v", "--symbol-path", f"srv*{server.url}", LD_LIBRARY_PATH=directory)
    expect("without the library", done.returncode == 0 and "install the package libdebuginfod1" in done.stderr
           and len(server.requests) == requests, done)
    doctor = bench.run("doctor", LD_LIBRARY_PATH=directory, DEBUGINFOD_URLS=server.url).stdout
    expect("doctor says so", re.search(r"libdebuginfod\.so\.1 +absent \(", doctor) and re.search(r"asked +no: neither", doctor), doctor)
    doctor = bench.run("doctor", DEBUGINFOD_URLS=server.url, SILT_DEBUGINFOD="yes").stdout
    expect("doctor names servers", re.search(r"libdebuginfod\.so\.1 +there", doctor) and re.search(r"asked +yes", doctor)
           and f"{server.url}, files in {bench.home}/.cache/silt/debug" in doctor, doctor)
    expect("doctor asks nobody", len(server.requests) == requests)


def shared_file(bench, server):
    """The debug file names a dwz file that only the server has."""
    if not shutil.which("dwz"):
        print("left out: dwz files (dwz is not installed)")
        return
    pair = [bench.compile(name, "-O0") for name in ("first", "second")]
    common = os.path.join(bench.directory, "common.debug")
    done = subprocess.run(["dwz", "-m", common, "-M", "/nowhere/.dwz/common.debug", *(p[1] for p in pair)], capture_output=True, text=True,
                          check=False)
    if done.returncode or not os.path.exists(common):
        print(f"left out: dwz files (dwz makes none here: {done.stderr.strip()})")
        return
    notes = subprocess.run(["readelf", "-n", common], capture_output=True, text=True, check=True).stdout
    server.files.update({p[2]: p[1] for p in pair})
    server.files[re.search(r"Build ID: ([0-9a-f]+)", notes)[1]] = common
    bench.fresh()
    tried = bench.run("symbols", "--list", "--json", "--symbol-path", f"srv*{server.url}", pair[0][0])
    module = json.loads(tried.stdout)["modules"][0]
    expect("both files are fetched", sum("downloaded" in t for t in module["tried"]) == 2 and len(bench.kept()) == 2, module)
    expect("the dwz file is used", "alt" in [f["kind"] for f in module["found"]] and not json.loads(tried.stdout)["warnings"], tried.stdout)


def debian(bench):
    """Debian's own server, with a file made for the test."""
    served = os.path.join(bench.directory, "served")
    os.makedirs(served)
    shutil.copy(bench.debug, served)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with open(os.path.join(bench.directory, "server.log"), "wb") as log:
        server = subprocess.Popen(["debuginfod", "-vvv", "-F", served, "-p", str(port), "-d", ":memory:", "-t", "0", "-g", "0"],
                                  stdout=log, stderr=subprocess.STDOUT, env={"PATH": os.environ["PATH"], "HOME": bench.directory})
    url = f"http://127.0.0.1:{port}"

    def requests():
        with open(log.name, encoding="utf-8", errors="replace") as file:
            return len(re.findall(r"(GET|HEAD) /buildid/", file.read()))
    try:
        for attempt in range(60):
            bench.fresh()
            if has_lines(bench.ask("--symbol-path", f"srv*{url}")):
                break
            time.sleep(0.5)
        expect("Debian's server has the file", attempt < 59 and len(bench.kept()) == 1, open(log.name, encoding="utf-8").read()[-2000:])
        before = requests()
        expect("its requests are counted", before > 0)
        expect("again", has_lines(bench.ask("--symbol-path", f"srv*{url}")) and requests() == before)
        bench.program = bench.compile("unknown", "-DUNKNOWN", "-O1")[0]
        for _ in range(3):
            tried = bench.listed("--symbol-path", f"srv*{url}")["modules"][0]["tried"]
        expect("unknown there, and remembered", f"{url}: not known there (remembered)" in tried and requests() == before + 1,
               (tried, before, requests()))
    finally:
        server.terminate()
        server.wait()


def main():
    silt, kind = os.path.abspath(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "own"
    missing = [tool for tool in ("gcc", "objcopy", "strip", "nm", "readelf", "ps") + (("debuginfod",) if kind == "debian" else ())
               if not shutil.which(tool)]
    if missing:
        print(f"skip: {', '.join(missing)} not installed")
        return 77
    try:
        ctypes.CDLL("libdebuginfod.so.1")
    except OSError:
        print("skip: libdebuginfod1 is not installed")
        return 77
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(silt, directory)
        bench.build()
        if kind == "debian":
            debian(bench)
        else:
            server = Server({bench.build_id: bench.debug, "wrong": bench.wrong})
            opt_in(bench, server)
            found(bench, server)
            unknown(bench, server)
            trouble(bench, server)
            server_down(bench)
            interrupted(bench, server)
            progress(bench, server)
            without_library(bench, server)
            shared_file(bench, server)
            server.stop.set()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
