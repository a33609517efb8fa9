#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Attaching to a busy process and letting go of it, over and over, and with silt killed at every step.

usage: cycles.py [cycles|attach-faults|large-faults|detach-faults]…   environment: SILT, SILT_BUSY; SILT_SOAK=1: ten thousand cycles
"""
import os
import sys

from target import Busy, check, check_clean, check_free, main, silt

SOAK = os.environ.get("SILT_SOAK") == "1"
FAULTS_MAX = 1000


def cycles():
    with Busy() as target:
        for i in range(10000 if SOAK else 60):
            silt("attach", "-q", target.pid)
            if i % 10 == 0:
                target.progress()
                silt("capture", "-q", "-o", "/dev/null", target.pid)
            silt("detach", "-q", target.pid)
            if i % 10 == 0:
                target.progress()
                check_clean(target.pid, target.fds)
        target.progress()
        check_clean(target.pid, target.fds)


def faults(command, prepare, extra=(), step=1):
    """Kills silt at fault 1, 2, … until it gets to its end."""
    with Busy(extra=extra) as target:
        for n in range(1, FAULTS_MAX, step):
            if prepare:
                silt(*prepare, target.pid)
            status, _, err = silt(*command, target.pid, env={"SILT_FAULT": str(n)}, wanted=None)
            check_free(target.pid)
            target.progress()
            if status == 0:
                break
            check(status == -9, f"fault {n}: status {status}: {err}")
            if n % 3 == 1:  # a new detach clears
                status, _, err = silt("detach", "-q", target.pid, wanted=None)
                check(status == 0 or "is not attached" in err, f"detach after fault {n}: {err}")
            else:  # a new attach clears, or finds it was done
                status, _, err = silt("attach", "-q", target.pid, wanted=None)
                check(status == 0 or "attached to process" in err, f"attach after fault {n}: {err}")
                target.progress()
                silt("capture", "-q", "-o", "/dev/null", target.pid)
                silt("detach", "-q", target.pid)
            target.progress()
            check_clean(target.pid, target.fds)
        check(20 < n < FAULTS_MAX - 1, f"{n} steps")
        print(f"{n - 1} steps")


TESTS = {
    "cycles": cycles,
    "attach-faults": lambda: faults(("attach", "-q"), None),
    # A large heap's memory is made ready in steps of its own.
    "large-faults": lambda: faults(("attach", "-q"), None, ("large",), 1 if SOAK else 7),
    "detach-faults": lambda: faults(("detach", "-q"), ("attach", "-q")),
}

if __name__ == "__main__":
    sys.exit(main(TESTS))
