# SPDX-License-Identifier: MIT
"""The demo's second patient: builds a table, writes and parses it as JSON, then waits to be killed."""
import json
import os
import time

rows = [{"id": i, "name": "item %d" % i, "tags": ["a", "b", str(i % 7)]} for i in range(60000)]
copy = json.loads(json.dumps(rows))
print("pid", os.getpid(), flush=True)
time.sleep(60)
