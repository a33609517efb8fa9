#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Settings of the lookup of names: four places, which one wins, and messages about what makes no sense.

usage: settings.py SILT [COMPILER]      status 0, 1 with failures printed, 77 without a compiler
"""
import os
import shutil
import subprocess
import sys
import tempfile

failures = []

SOURCE = "template<class T> struct A { T f(T x); }; template<class T> T A<T>::f(T x) { return x; }\n" \
         "int main(void) { A<int> a; return a.f(1); }\n"
SYMBOL = "_ZN1AIiE1fEi"
NAMES = {"full": "A<int>::f(int)", "short": "A<\u2026>::f", "off": SYMBOL}


def expect(what, good, detail=""):
    if not good:
        failures.append(what)
        print(f"FAILED {what}: {detail}")


class Bench:
    def __init__(self, silt, directory):
        self.silt, self.directory = silt, directory
        self.home = os.path.join(directory, "home")
        self.config = os.path.join(self.home, ".config", "silt", "config")
        os.makedirs(os.path.dirname(self.config))
        self.program = os.path.join(directory, "program")
        self.address = None

    def build(self, compiler):
        source = os.path.join(self.directory, "program.cpp")
        with open(source, "w", encoding="utf-8") as file:
            file.write(SOURCE)
        subprocess.run([compiler, "-O0", "-g", "-o", self.program, source], check=True)
        table = subprocess.run(["nm", self.program], capture_output=True, text=True, check=True).stdout
        self.address = next(line.split()[0] for line in table.splitlines() if line.endswith(" " + SYMBOL))

    def write(self, text, path=None, mode=0o644):
        with open(path or self.config, "wb") as file:
            file.write(text.encode() if isinstance(text, str) else text)
        os.chmod(path or self.config, mode)

    def run(self, *arguments, **variables):
        environment = {"PATH": os.environ["PATH"], "HOME": self.home, **variables}
        return subprocess.run([self.silt, *arguments], capture_output=True, text=True, errors="replace", timeout=60, check=False,
                              env=environment, cwd=self.directory)

    def name(self, *options, **variables):
        done = self.run("symbols", *options, self.program, self.address, **variables)
        return done.stdout.split("\n")[0] if done.returncode == 0 else f"status {done.returncode}: {done.stderr}"

    def settings(self, **variables):
        """{key: [(value, from), …]} of silt doctor."""
        found = {}
        lines = self.run("doctor", **variables).stdout.split("settings of names (silt-config(5))\n")[1].splitlines()
        for line in lines:
            if not line.startswith("  "):
                break
            key, rest = line.split(None, 1)
            value, source = rest.rsplit("  (", 1)
            found.setdefault(key, []).append((value, source.rstrip(")")))
        return found


def precedence(bench):
    other = os.path.join(bench.directory, "other")
    bench.write("demangle = off\n")
    bench.write("demangle = short\n", other)
    expect("the user's file", bench.name() == NAMES["off"], bench.name())
    expect("$SILT_CONFIG in its place", bench.name(SILT_CONFIG=other) == NAMES["short"])
    expect("no file at all", bench.name(SILT_CONFIG="") == NAMES["full"])
    expect("environment over file", bench.name(SILT_DEMANGLE="short") == NAMES["short"])
    expect("command line over environment", bench.name("--demangle", "full", SILT_DEMANGLE="short") == NAMES["full"])
    expect("the last word of the command line", bench.name("--demangle", "full", "--demangle=short") == NAMES["short"])
    expect("empty variables are none", bench.name(SILT_DEMANGLE="") == NAMES["off"])
    expect("doctor names the place", bench.settings()["demangle"] == [("off", f"{bench.config}:1")], bench.settings())
    expect("doctor names the variable", bench.settings(SILT_DEMANGLE="short")["demangle"] == [("short", "SILT_DEMANGLE")])
    elsewhere = os.path.join(bench.directory, "xdg")
    os.makedirs(os.path.join(elsewhere, "silt"))
    bench.write("demangle = short\n", os.path.join(elsewhere, "silt", "config"))
    expect("$XDG_CONFIG_HOME", bench.name(XDG_CONFIG_HOME=elsewhere) == NAMES["short"])
    expect("a relative one is ignored", bench.name(XDG_CONFIG_HOME="xdg") == NAMES["off"])
    os.unlink(bench.config)
    expect("defaults", bench.name() == NAMES["full"] and bench.settings()["demangle"] == [("full", "default")])


def system_file(bench):
    """The system's file cannot be written in a test: one is put in its place in a mount namespace of our own."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        print("skip: the system's configuration file (needs root and unshare)")
        return
    script = 'mount -t tmpfs none /etc && mkdir /etc/silt && echo "demangle = short" > /etc/silt/config && shift 0 && "$@"'
    enter = ["unshare", "-m", "sh", "-c", script, "sh"]

    def name(**variables):
        done = subprocess.run([*enter, bench.silt, "symbols", bench.program, bench.address], capture_output=True, text=True,
                              check=False, env={"PATH": os.environ["PATH"], "HOME": bench.home, **variables}, timeout=60)
        return done.stdout.split("\n")[0] or done.stderr
    if subprocess.run([*enter, "true"], capture_output=True, check=False).returncode != 0:
        print("skip: the system's configuration file (no mount namespaces here)")
        return
    expect("the system's file", name() == NAMES["short"], name())
    expect("environment over it", name(SILT_DEMANGLE="off") == NAMES["off"])
    bench.write("demangle = off\n")
    expect("the user's file over the system's", name() == NAMES["off"], name())
    os.unlink(bench.config)


def lists(bench):
    bench.write("debug-dir = /file/a\nsymbol-path = /file/b:/file/c\ndebug-dir = ~/d\n# debug-dir = /no\n\n")
    done = bench.run("symbols", "-v", "--debug-dir", "/line/a", "--symbol-path", "/line/b;srv*/line/c", "--debug-dir=/line/d",
                     "/bin/true", "1", SILT_DEBUG_DIR="/env/a:/env/b", SILT_SYMBOL_PATH="/env/c")
    tried = [line.split("silt: ")[1].split("/.build-id")[0] for line in done.stderr.splitlines() if ".build-id" in line]
    want = ["/line/a", "/line/d", "/line/b", "/line/c", "/env/a", "/env/b", "/env/c", "/file/a", f"{bench.home}/d", "/file/b",
            "/file/c", "/usr/lib/debug"]
    expect("directories add up, the strongest first", tried == want, tried)
    os.unlink(bench.config)


def inlines_and_sysroot(bench):
    bench.write("inlines = no\nsysroot = /nowhere\n")
    expect("sysroot of the file", "status 3" in bench.name() and "/nowhere" in bench.name(), bench.name())
    expect("sysroot of the command line", bench.name("--sysroot", "/") == NAMES["full"], bench.name("--sysroot", "/"))
    found = bench.settings(SILT_INLINES="yes")
    expect("inlines", found["inlines"] == [("yes", "SILT_INLINES")] and found["sysroot"] == [("/nowhere", f"{bench.config}:2")], found)
    os.unlink(bench.config)


def nonsense(bench):
    path = bench.config
    cases = [
        ("bad", f"{path}:1: 'bad' is not of the form key = value"),
        ("\n# x\ncolour = red\n", f"{path}:3: there is no setting 'colour'"),
        ("demangle = loud\n", f"{path}:1: demangle: 'loud' is not full, short or off"),
        ("inlines=maybe", f"{path}:1: inlines: 'maybe' is neither yes nor no"),
        ("\r\n cache-size = 12X \r\n", f"{path}:2: cache-size: '12X' is no size"),
        ("debug-dir =\n", f"{path}:1: debug-dir: '' is empty"),
        ("symbol-path = srv*gopher://x\n", f"{path}:1: symbol-path: 'gopher://x' in the symbol path is no http"),
        ("sysroot = /a\0b\n", f"{path}:1: a NUL byte"),
        ("= x\n", f"{path}:1: there is no setting ''"),
        (b"\xff\xfe", f"{path}:1:"),
        ("x" * (1 << 21), f"{path}"),
    ]
    for text, message in cases:
        bench.write(text)
        for command in (["show", "x.silt"], ["symbols", bench.program, "1"]):
            done = bench.run(*command)
            expect(f"nonsense {text[:30]!r} in {command[0]}", done.returncode == 2 and message in done.stderr
                   and done.stderr.count("\n") == 1, f"{done.returncode} {done.stderr}")
            expect(f"help in spite of {text[:30]!r}", bench.run(command[0], "--help").returncode == 0)
        expect(f"doctor says {text[:30]!r}", message in bench.run("doctor").stdout)
    os.unlink(path)
    done = bench.run("show", "x.silt", SILT_INLINES="2")
    expect("nonsense in a variable", done.returncode == 2 and "SILT_INLINES: '2' is neither yes nor no" in done.stderr, done.stderr)
    done = bench.run("show", "x.silt", SILT_CONFIG="/nowhere/config")
    expect("a file that was named must exist", done.returncode == 2 and "/nowhere/config" in done.stderr, done.stderr)
    bench.write("demangle = off\n", mode=0o666)
    done = bench.run("show", "x.silt")
    expect("a file that others may write", done.returncode == 2 and "others may have written it" in done.stderr, done.stderr)
    os.unlink(path)
    os.mkdir(path)
    done = bench.run("show", "x.silt")
    expect("a directory", done.returncode == 2 and "Is a directory" in done.stderr, done.stderr)
    os.rmdir(path)


def main(silt, compiler=None):
    compiler = compiler or shutil.which("g++") or shutil.which("clang++")
    if not compiler or not shutil.which("nm"):
        print("skip: no C++ compiler, or no nm")
        return 77
    with tempfile.TemporaryDirectory(prefix="silt-settings-") as directory:
        bench = Bench(os.path.abspath(silt), directory)
        bench.build(compiler)
        for part in (precedence, system_file, lists, inlines_and_sysroot, nonsense):
            part(bench)
    print(f"{len(failures)} failures")
    return len(failures) > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
