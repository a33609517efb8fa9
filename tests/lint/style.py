#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The rules of CONTRIBUTING.md that a machine can judge.

usage: style.py SOURCE_DIR      one line per offence; status 1 when there is one
       style.py --self-test     known offences must be found
"""
import os
import re
import sys

COLUMNS = 140  # lines aim at 115 (.clang-format); a table row may be wider
TAB = 8
LINES = 1500  # a file beyond this holds more than one concept
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
SOURCES = (".c", ".h", ".cpp")
SCRIPTS = (".sh", ".py", "dev", ".ci/run")
OTHERS = (".md", ".txt", ".cmake", ".json", ".1")


def check_text(path, text):
    lines = text.split("\n")
    if text and not text.endswith("\n"):
        yield len(lines), "no newline at the end"
    for number, line in enumerate(lines, 1):
        if line.endswith("\r") or (line != line.rstrip() and not path.endswith(".md")):
            yield number, "white space at the end of the line"


def check_code(path, text):
    lines = text.split("\n")
    head = "\n".join(lines[:3])
    if "SPDX-License-Identifier: MIT" not in head:
        yield 1, "the first lines must hold the SPDX line"
    if len(lines) > LINES:
        yield len(lines), f"longer than {LINES} lines: split it"
    for number, line in enumerate(lines, 1):
        unfinished = UNFINISHED.search(line)
        if unfinished and "UNFINISHED" not in line:
            yield number, f"unfinished: {unfinished.group()}"


def check_source(path, text):
    lines = text.split("\n")
    if not re.match(r"/[*/]", lines[1] if len(lines) > 1 else ""):
        yield 2, "the second line must begin a comment that says what the file is about"
    for number, line in enumerate(lines, 1):
        if re.match(r" {8,}[^\s\\]", line):
            yield number, "indented with spaces"
        if len(line.expandtabs(TAB)) > COLUMNS and "fixtures/" not in path:
            yield number, f"longer than {COLUMNS} columns"
    if path.endswith(".h") and not re.search(r"^#ifndef (\w+)\n#define \1$", text, re.M):
        yield 1, "no include guard"


def check_file(path, text):
    yield from check_text(path, text)
    if path.endswith(SOURCES + SCRIPTS):
        yield from check_code(path, text)
    if path.endswith(SOURCES):
        yield from check_source(path, text)


def tree(top):
    for directory, names, files in os.walk(top):
        names[:] = [n for n in names if n == ".ci" or not n.startswith((".", "build", "__pycache__"))]
        if os.path.relpath(directory, top).startswith("tests/corpus"):
            continue
        for name in sorted(files):
            if name.endswith(SOURCES + SCRIPTS + OTHERS) or name == "run":
                yield os.path.relpath(os.path.join(directory, name), top)


def check_tree(top):
    offences = files = 0
    for path in tree(top):
        with open(os.path.join(top, path), encoding="utf-8") as file:
            text = file.read()
        files += 1
        for line, what in check_file(path, text):
            print(f"{path}:{line}: {what}")
            offences += 1
    print(f"{files} files, {offences} offences")
    return 1 if offences or not files else 0


GOOD = "/* SPDX-License-Identifier: MIT */\n/** About. */\n"
SELF_TEST = [  # path, text, number of offences
    ("a.c", GOOD + "int x;\n", 0),
    ("a.c", "int x;\n", 2),
    ("a.c", GOOD + "int x; \n", 1),
    ("a.c", GOOD + "int x;", 1),
    ("a.c", GOOD + "        int x;\n", 1),
    ("a.c", GOOD + "\t" * 18 + "y\n", 1),
    ("a.c", GOOD + "/* TO" + "DO: later */\n", 1),
    ("a.h", GOOD + "#ifndef A_H\n#define A_H\n#endif\n", 0),
    ("a.h", GOOD + "int x;\n", 1),
    ("a.c", GOOD + "\n" * LINES, 1),
    ("a.md", "two spaces  \n", 0),
    ("a.py", "import os\n", 1),
]


def self_test():
    wrong = 0
    for path, text, expected in SELF_TEST:
        found = list(check_file(path, text))
        if len(found) != expected:
            print(f"{path}: {text[:60]!r}: expected {expected} offences, found {found}")
            wrong += 1
    print(f"{len(SELF_TEST)} cases, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(self_test() if sys.argv[1] == "--self-test" else check_tree(sys.argv[1]))
