#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The comparison itself must be able to fail: known lies are put into ledgers, and each has to be found."""

import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import dumps  # noqa: E402
import truth  # noqa: E402


def lies(lines):
    """Pairs of (what, changed lines) of a ledger's text."""
    body = [i for i, line in enumerate(lines) if line.startswith("B ")]
    # One from the main thread: its walk ends in the fixture's own _start.
    at = next(i for i in body[len(body) // 2:] if lines[i].split()[-1].startswith("/proc/self/exe"))
    words = lines[at].split()

    def with_line(text):
        return lines[:at] + ([text + "\n"] if text else []) + lines[at + 1:-1] + ["end %d\n" % (len(body) - (not text))]

    def with_word(index, text):
        return with_line(" ".join(words[:index] + [text] + words[index + 1:]))

    module, _, offset = words[7].rpartition("+")
    yield "a block left out", with_line("")
    yield "another address", with_word(1, hex(int(words[1], 16) + 16))
    yield "another size", with_word(2, str(int(words[2]) + 1))
    yield "another kind", with_word(3, "2")
    yield "another place in a frame", with_word(7, "%s+0x%x" % (module, int(offset.rstrip("!"), 16) + 1))
    yield "another module", with_word(7, "/other/module+" + offset)
    yield "a frame too many", with_line(" ".join(words + [words[-1]]))
    yield "a frame too few", with_line(" ".join(words[:-1]))
    yield "an interrupted frame", with_word(7, words[7] + "!")
    yield "a walk that ended elsewhere", with_word(4, "open")


def main():
    failed = 0
    with tempfile.TemporaryDirectory(prefix="silt-selftest-") as folder:
        variant = "gcc-O2"
        exe = os.path.join(truth.FIXTURES, variant, "fx_realloc")
        pairs = truth.run_fixture(truth.Case("fx_realloc"), variant, folder)
        dump = pairs[0][0]
        with open(os.path.join(folder, "ledger")) as f:
            lines = f.readlines()
        if dumps.compare(dump, dumps.Ledger(os.path.join(folder, "ledger"), exe), [exe]):
            print("FAILED the honest ledger differs already")
            failed = 1
        for what, changed in lies(lines):
            with open(os.path.join(folder, "lie"), "w") as f:
                f.writelines(changed)
            found = dumps.compare(dump, dumps.Ledger(os.path.join(folder, "lie"), exe), [exe])
            print("%-6s %s" % ("ok" if found else "FAILED", what))
            failed |= not found
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
