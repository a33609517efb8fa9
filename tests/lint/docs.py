#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds documents to the program: what they repeat must be what is there.

usage: docs.py SOURCE_DIR SILT      SILT is the built program
"""
import glob
import os
import re
import subprocess
import sys


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return file.read()


def check_links(top):
    """Every relative link of every Markdown page leads to a file."""
    pages = [p for p in glob.glob(f"{top}/*.md") + glob.glob(f"{top}/docs/**/*.md", recursive=True)
             + glob.glob(f"{top}/tests/**/*.md", recursive=True)]
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", read(page)):
            if not re.match(r"[a-z]+:", target) and not os.path.exists(os.path.join(os.path.dirname(page), target)):
                yield f"{os.path.relpath(page, top)}: link to {target}, which is not there"
    if not pages:
        yield "no Markdown pages found"


def check_packages(top):
    """README's table of packages is ./dev's."""
    readme = read(top, "README.md")
    status, listing = run(f"{top}/dev", "packages")
    rows = [line.split("|") for line in listing.splitlines()]
    if status or not rows:
        yield "./dev packages printed nothing"
    for group, package, _, reason in rows:
        group = group.replace(",", ", ")
        row = f"| {package} | {group} | {reason} |"
        if row not in readme:
            yield f"README.md lacks the row: {row}"
    for package, group in re.findall(r"^\| (\S+) \| ((?:build|test|demo|bench|lint|, )+) \|", readme, re.M):
        if not any(row[:2] == [group.replace(", ", ","), package] for row in rows):
            yield f"README.md names {package} ({group}), which ./dev does not install"


def commands_of(silt):
    """Names of the commands in `silt help`: indented lines that begin with a lower-case word."""
    _, text = run(silt, "help")
    return re.findall(r"^  ([a-z][a-z-]+)\s{2,}\S", text, re.M)


def check_commands(top, silt):
    """README shows every command. (That each has a page with every option is cli_pages' business.)"""
    readme = read(top, "README.md")
    commands = commands_of(silt)
    if len(commands) < 3:
        yield f"`silt help` lists too few commands: {commands}"
    for command in commands:
        if f"`silt {command}" not in readme:
            yield f"README.md does not show `silt {command}`"


def main(top, silt):
    offences = list(check_links(top)) + list(check_packages(top)) + list(check_commands(top, silt))
    print("\n".join(offences + [f"{len(offences)} offences"]))
    return 1 if offences else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2]))
