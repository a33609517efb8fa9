#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds the rooms to their directions: who includes whom, who prints, who exits.

usage: rooms.py SOURCE_DIR       check the tree; one line per offence; status 1 when there is one
       rooms.py --self-test      check the checker: known offences must be found, known good code must pass
"""
import os
import re
import sys

# Room -> what its files may include: path prefixes; "dir/*" is what stands in dir itself, not below. The longest
# room that matches a file's path rules it.
# The table of docs/INTERNALS.md in code.
ELF_READER = "symbols/elf_reader.h"
DB_LAYOUT = "capture/agent/trace_db.h"
ROOMS = {
    "base/": ["base/"],
    "formats/": ["base/", "formats/"],
    "symbols/": ["base/", "symbols/"],
    "symbols/elf_reader": ["base/", ELF_READER],
    "capture/": ["base/", "formats/", "capture/*", "capture/target/", "capture/attach/", "capture/heap/",
                 DB_LAYOUT, ELF_READER, "capture/agent/attach.h"],
    "capture/agent/": ["capture/agent/"],
    "capture/target/": ["base/", "formats/", "capture/target/", ELF_READER],
    "capture/attach/": ["base/", "formats/", "capture/target/", "capture/attach/", DB_LAYOUT, ELF_READER,
                        "capture/agent/attach.h", "capture/agent/cfi.h"],
    "capture/heap/": ["base/", "formats/", "capture/target/", "capture/heap/", ELF_READER],
    "analyze/": ["base/", "formats/", "symbols/", "analyze/"],
    "cli/": ["base/", "formats/", "symbols/", "capture/", "analyze/", "cli/"],
}
FREE = ("tests/", "bench/", "demo/")  # may use everything
# Headers that an outsider may not include because they belong to a room's inside.
INTERNAL = re.compile(r"_internal\.h$")

DEBUG_HEADERS = re.compile(r"^(libelf|gelf|dwarf|libdwarf|elfutils/|libdw)|libdwarf")
SYSTEM = [  # (header, rooms that may include it, why)
    (DEBUG_HEADERS, ("symbols/",), "only symbols/ includes libelf and libdwarf headers"),
    (re.compile(r"^zlib\.h$"), ("formats/", "symbols/"), "only formats/ (dumps) and symbols/ (debug sections) use zlib"),
    (re.compile(r"demangle\.h$"), ("symbols/",), "only symbols/ demangles"),
    (re.compile(r"^(getopt|ncurses|termios)\.h$"), ("cli/", "base/progress"), "only cli/ owns argv and the terminal"),
]
# The agent has no C library; these headers promise functions it cannot call.
AGENT_FORBIDDEN = re.compile(r"^(stdio|stdlib|string|strings|pthread|dlfcn|malloc|unistd|sys/mman|sys/stat|locale|threads|math|err)\.h$")

PRINTS = re.compile(r"\b(printf|vprintf|puts|putchar|perror|psignal)\s*\(|\bstdout\b")
STDERR = re.compile(r"\bstderr\b")
EXITS = re.compile(r"(?<![\w.>])(exit|quick_exit|abort|errx?|verrx?|error)\s*\(")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def code_only(text):
    """The text with comments and literals blanked out, lines kept."""
    return COMMENT_OR_STRING.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def room_of(path):
    rooms = [room for room in ROOMS if path.startswith(room)]
    return max(rooms, key=len) if rooms else None


def resolve(path, name, exists):
    """The tree path an include in quotes means: beside the file, else from the top."""
    beside = os.path.normpath(os.path.join(os.path.dirname(path), name))
    return beside if exists(beside) else os.path.normpath(name)


def allowed(room, target):
    for entry in ROOMS[room]:
        if entry.endswith("/*"):
            if os.path.dirname(target) == entry[:-2]:
                return True
        elif target.startswith(entry):
            return True
    return False


def check_includes(path, text, exists):
    room = room_of(path)
    for match in INCLUDE.finditer(text):
        line = text.count("\n", 0, match.start(2)) + 1
        kind, name = match.groups()
        if kind == '"':
            target = resolve(path, name, exists)
            if not allowed(room, target):
                yield line, f'{room} may not include "{name}" ({target})'
            elif INTERNAL.search(target) and os.path.dirname(target) != os.path.dirname(path):
                yield line, f'"{name}" is internal to {os.path.dirname(target)}/'
        else:
            if room == "capture/agent/" and AGENT_FORBIDDEN.search(name):
                yield line, f"the agent is freestanding: no <{name}>"
            for pattern, rooms, why in SYSTEM:
                if pattern.search(name) and not path.startswith(rooms):
                    yield line, f"<{name}>: {why}"


def check_calls(path, text):
    if path.startswith("cli/"):
        return
    code = code_only(text)
    for pattern, why in ((PRINTS, "only cli/ prints to stdout"), (EXITS, "only cli/ ends the program")):
        for match in pattern.finditer(code):
            yield code.count("\n", 0, match.start()) + 1, f"{match.group().strip()}: {why}"
    if not path.startswith("base/"):
        for match in STDERR.finditer(code):
            yield code.count("\n", 0, match.start()) + 1, "stderr: only base/ (log, progress) and cli/ write to it"


def check_file(path, text, exists):
    if path.startswith(FREE):
        return
    if room_of(path) is None:
        yield 1, "source outside every room"
        return
    yield from check_includes(path, text, exists)
    yield from check_calls(path, text)


def tree(top):
    for directory, names, files in os.walk(top):
        names[:] = [n for n in names if not n.startswith((".", "build"))]
        for name in sorted(files):
            if name.endswith((".c", ".h", ".cpp")):
                yield os.path.relpath(os.path.join(directory, name), top)


def check_tree(top):
    offences = files = 0
    for path in tree(top):
        with open(os.path.join(top, path), encoding="utf-8") as file:
            text = file.read()
        files += 1
        for line, what in check_file(path, text, lambda p: os.path.exists(os.path.join(top, p))):
            print(f"{path}:{line}: {what}")
            offences += 1
    print(f"{files} files, {offences} offences")
    return 1 if offences or not files else 0


SELF_TEST = [  # path, text, number of offences
    ("base/a.c", '#include "base/error.h"\n', 0),
    ("base/a.c", '#include "formats/dump.h"\n', 1),
    ("formats/a.c", '#include "symbols/symbols.h"\n', 1),
    ("formats/a.c", "#include <zlib.h>\n", 0),
    ("analyze/a.c", "#include <zlib.h>\n", 1),
    ("analyze/a.c", '#include "capture/capture.h"\n', 1),
    ("capture/a.c", '#include "analyze/analyze.h"\n', 1),
    ("capture/a.c", '#include "symbols/symbols.h"\n', 1),
    ("capture/a.c", '#include "symbols/elf_reader.h"\n', 0),
    ("capture/a.c", '#include "capture/agent/trace_db.h"\n', 0),
    ("capture/a.c", '#include "capture/copy_internal.h"\n', 0),
    ("capture/a.c", '#include "agent/cfi.h"\n', 1),
    ("capture/a.c", '#include "target/maps_internal.h"\n', 1),
    ("capture/agent/a.c", '#include "cfi.h"\n', 0),
    ("capture/agent/a.c", '#include "base/error.h"\n', 1),
    ("capture/agent/a.c", "#include <stdlib.h>\n", 1),
    ("capture/agent/a.c", "#include <stdint.h>\n", 0),
    ("symbols/a.c", "#include <libdwarf/libdwarf.h>\n#include <gelf.h>\n", 0),
    ("symbols/elf_reader.c", '#include "symbols/dwarf_internal.h"\n', 1),
    ("cli/a.c", '#include <libelf.h>\nint main(void) { printf("x"); exit(0); }\n', 1),
    ("analyze/a.c", 'void f(void) { printf("x"); }\n', 1),
    ("analyze/a.c", 'void f(FILE *o) { fprintf(o, "printf(stdout)"); /* exit(1) */ }\n', 0),
    ("analyze/a.c", "void f(void) { fputs(\"x\", stdout); }\n", 1),
    ("analyze/a.c", "void f(void) { fputs(\"x\", stderr); }\n", 1),
    ("base/log.c", "void f(void) { fputs(\"x\", stderr); }\n", 0),
    ("symbols/a.c", "void f(void) { exit(1); }\n", 1),
    ("symbols/a.c", "void f(void) { _exit(1); s->exit(2); }\n", 0),
    ("tests/a.c", '#include <libelf.h>\nvoid f(void) { exit(1); }\n', 0),
    ("stray.c", "", 1),
]


def self_test():
    known = {"capture/agent/cfi.h", "capture/target/maps_internal.h"}
    wrong = 0
    for path, text, expected in SELF_TEST:
        found = list(check_file(path, text, known.__contains__))
        if len(found) != expected:
            print(f"{path}: {text!r}: expected {expected} offences, found {found}")
            wrong += 1
    print(f"{len(SELF_TEST)} cases, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(self_test() if sys.argv[1] == "--self-test" else check_tree(sys.argv[1]))
