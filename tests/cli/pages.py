#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every command's page lists exactly the options of its help.

usage: pages.py SILT MAN_DIR
"""
import os
import re
import subprocess
import sys


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr}")
    return done.stdout


def help_options(text):
    """Options at the beginning of the help's lines: "  -o, --output FILE  …"."""
    found = set()
    for line in text.splitlines():
        match = re.match(r"\s+((?:-\w, )?--[a-z][a-z-]*)", line)
        if match:
            found.update(re.findall(r"--[a-z][a-z-]*", match.group(1)))
    return found


def page_options(text):
    """Options that head a definition: a line of code spans followed by a line that begins with a colon."""
    found = set()
    for head in re.findall(r"^(`-.*)\n+:", text, re.M):
        found.update(re.findall(r"`(?:-\w, )?(--[a-z][a-z-]*)", head))
    return found


def main(silt, pages):
    failures = 0
    commands = re.findall(r"^  ([a-z]+)\s{2,}\S", run(silt, "help"), re.M)
    for command in commands:
        page = os.path.join(pages, f"silt-{command}.1.md")
        if command == "help":
            continue
        if not os.path.exists(page):
            print(f"{page} is missing")
            failures += 1
            continue
        with open(page, encoding="utf-8") as file:
            described = page_options(file.read())
        offered = help_options(run(silt, command, "--help"))
        for option in sorted(offered ^ described):
            print(f"silt {command}: {option} is only in {'the help' if option in offered else 'the page'}")
            failures += 1
        if not offered:
            print(f"silt {command} --help lists no options")
            failures += 1
    print(f"{len(commands)} commands, {failures} failures")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
