#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks a report on standard input against the contract of silt.show/1 and silt.diff/1 (see the man pages)."""
import json
import re
import sys

CHANGE = {"before": int, "after": int, "delta": int}
NULLABLE_TEXT = (str, type(None))
FRAME = {"function": NULLABLE_TEXT, "file": NULLABLE_TEXT, "line": (int, type(None)), "module": str,
         "build_id": NULLABLE_TEXT, "offset": str, "inlined": bool}


def fail(text):
    sys.exit(f"not as documented: {text}")


def check(value, shape, where):
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            fail(f"{where} is no object")
        for key, inner in shape.items():
            if key not in value:
                fail(f"{where} lacks {key}")
            check(value[key], inner, f"{where}.{key}")
    elif not isinstance(value, shape) or (isinstance(value, bool) and shape is int):
        fail(f"{where} is {value!r}")


def check_change(change, where):
    check(change, CHANGE, where)
    if change["delta"] != change["after"] - change["before"]:
        fail(f"{where}: delta is not after - before")


def check_frames(stack, where):
    for i, frame in enumerate(stack["frames"]):
        check(frame, FRAME, f"{where}.frames[{i}]")
        if not re.fullmatch(r"0x[0-9a-f]+", frame["offset"]):
            fail(f"{where}: offset {frame['offset']}")
        if frame["build_id"] is not None and not re.fullmatch(r"([0-9a-f]{2})+", frame["build_id"]):
            fail(f"{where}: build_id {frame['build_id']}")
        if frame["inlined"] and (i + 1 == len(stack["frames"]) or stack["frames"][i + 1]["offset"] != frame["offset"]):
            fail(f"{where}: an inlined frame must come before the one that holds it")


def check_show(report):
    figures = {"bytes": int, "count": int, "allocated_bytes": int, "allocated_count": int, "freed_count": int}
    check(report, {"process": {"pid": int, "exe": NULLABLE_TEXT}, "totals": figures}, "report")
    for i, stack in enumerate(report.get("stacks", [])):
        check(stack, {"bytes": int, "count": int, "allocated_count": int, "freed_count": int, "frames": list,
                      "resident_bytes": (int, type(None)), "flags": list}, f"stacks[{i}]")
        check_frames(stack, f"stacks[{i}]")


def check_diff(report):
    check(report, {"before": {"pid": int}, "after": {"pid": int}, "totals": {"bytes": CHANGE, "count": CHANGE}}, "report")
    rows = report.get("stacks", report.get("groups"))
    for i, row in enumerate([report["totals"]] + rows):
        for key in ("bytes", "count"):
            check_change(row[key], f"row {i - 1}.{key}")
    for i, stack in enumerate(report.get("stacks", [])):
        check(stack, {"frames": list, "flags": list}, f"stacks[{i}]")
        check_frames(stack, f"stacks[{i}]")


def main():
    report = json.load(sys.stdin, parse_constant=lambda name: fail(f"{name} is no JSON"))
    if list(report)[0] != "schema":
        fail("schema must come first")
    check(report, {"schema": str, "by": str, "sort": str, "estimated": bool, "warnings": list, "omitted": dict}, "report")
    if ("stacks" in report) != (report["by"] == "stack") or ("groups" in report) == ("stacks" in report):
        fail("stacks belong to --by stack, groups to the others")
    for group in report.get("groups", []):
        check(group, {"key": str}, "group")
    for warning in report["warnings"]:
        check(warning, str, "warning")
    {"silt.show/1": check_show, "silt.diff/1": check_diff}[report["schema"]](report)


if __name__ == "__main__":
    main()
