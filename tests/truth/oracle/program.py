# SPDX-License-Identifier: MIT
"""A Python program under test: json, re, sqlite3, ctypes callbacks, threads, generators, exceptions, recursion."""
import ctypes
import collections
import json
import re
import sqlite3
import threading
import xml.etree.ElementTree as tree


def make(depth, seed):
    if depth == 0:
        return {"name": "leaf %d" % seed, "values": [seed * i / 7 for i in range(5)]}
    return {"children": [make(depth - 1, seed * 3 + i) for i in range(3)], "text": "x" * (seed % 90)}


def callbacks():
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    numbers = (ctypes.c_int * 40)(*[(i * 7919) % 101 for i in range(40)])
    kept = []

    def order(a, b):
        kept.append([a[0], b[0], str(a[0])])
        return a[0] - b[0]

    ctypes.CDLL(None).qsort(numbers, len(numbers), ctypes.sizeof(ctypes.c_int), compare(order))
    return kept


def work(seed):
    text = json.dumps(make(6, seed))
    data = json.loads(text)
    words = collections.Counter(re.findall(r"[a-z]+|(\d+\.\d+)", text))
    db = sqlite3.connect(":memory:")
    db.create_function("double", 1, lambda x: x * 2)
    db.execute("create table t(a, b)")
    db.executemany("insert into t values(?, ?)", ((i, "row %d" % i) for i in range(1500)))
    rows = db.execute("select double(a), b from t order by b desc").fetchall()
    root = tree.fromstring("<r>" + "".join("<e n='%d'>%s</e>" % (i, "t" * (i % 30)) for i in range(1000)) + "</r>")
    try:
        sorted([1, "a"])
    except TypeError as e:
        rows.append(e)
    return data, words, rows, root, callbacks()


kept = []
threads = [threading.Thread(target=lambda i=i: kept.append(work(i))) for i in range(3)]
for t in threads:
    t.start()
for t in threads:
    t.join()
kept.append(work(9))
print(len(kept))
