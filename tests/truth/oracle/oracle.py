#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Real programs: silt's stacks against libunwind's at allocations chosen at random. Usage: oracle.py PROGRAM…"""

import os
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import dumps  # noqa: E402

SILT, BLOCKS = os.environ["SILT"], os.environ["SILT_BLOCKS"]
BUILT = os.environ["SILT_ORACLE"]
SOAK = os.environ.get("SILT_SOAK") == "1"
DEPTH = 252  # as in oracle_preload.c
RECORD = struct.Struct("<QQII%dQ" % (DEPTH + 1))
WANTED = 10000
LIMIT = 0.001  # the share of stacks that may differ

CXX_SOURCE = """#include <map>
#include <regex>
#include <string>
#include <vector>
std::map<std::string, std::vector<int>> m;
int main(int argc, char **argv)
{
	std::regex r("a+b");
	for (int i = 0; i < argc; i++)
		if (std::regex_match(argv[i], r))
			m[argv[i]].push_back(i);
	return (int)m.size();
}
"""


def prepare_python(folder):
    return ["/usr/bin/python3", os.path.join(HERE, "program.py")], {"PYTHONMALLOC": "malloc"}


def prepare_cc1plus(folder):
    path = subprocess.run(["g++", "-print-prog-name=cc1plus"], capture_output=True, text=True, check=True).stdout.strip()
    source = os.path.join(folder, "a.cc")
    with open(source, "w") as f:
        f.write(CXX_SOURCE)
    clean = os.path.join(folder, "a.ii")
    subprocess.run(["g++", "-E", source, "-o", clean], check=True)
    return [path, "-quiet", "-fpreprocessed", "-O1", clean, "-o", os.path.join(folder, "a.s")], {}


def prepare_sqlite(folder):
    script = os.path.join(folder, "a.sql")
    with open(script, "w") as f:
        f.write("create table t(a integer primary key, b text, c real);\n")
        for i in range(3000):
            f.write("insert into t values(%d, 'row %d %s', %d.5);\n" % (i, i * 7919 % 3001, "x" * (i % 200), i))
        f.write("create index i on t(b);\nselect b, count(*) from t group by b order by c desc limit 5;\n"
                "with recursive n(x) as (select 1 union all select x + 1 from n where x < 20000) "
                "select sum(x), group_concat(x) from n where x in (select a from t);\n"
                "select json_group_array(b) from t; select printf('%s', upper(b)) from t order by random();\n")
    return ["/usr/bin/sqlite3", "-batch", "-init", os.devnull, ":memory:", ".read " + script], {}


def prepare_xmllint(folder):
    path = os.path.join(folder, "a.xml")
    with open(path, "w") as f:
        f.write("<root xmlns:n='urn:n'>\n")
        for i in range(30000):
            f.write("<n:entry id='e%d'><name lang='x%d'>text %d &amp; more</name><![CDATA[%d]]></n:entry>\n" %
                    (i, i % 7, i, i))
        f.write("</root>\n")
    return ["/usr/bin/xmllint", "--format", "--xpath", "count(//name[@lang='x3'])", path], {}


def prepare_rust(folder):
    return [os.path.join(BUILT, "rust_program")], {}


def prepare_cxx(folder):
    return [os.path.join(BUILT, "deep_templates")], {}


# What to run, one in how many allocations to choose with the witness in front and behind, and after how many behind to
# kill the program (0: never), as most free everything before they end.
PROGRAMS = {"python": (prepare_python, 25, 10, 0), "cc1plus": (prepare_cc1plus, 20, 3, 12000),
            "sqlite": (prepare_sqlite, 6, 2, 12000), "xmllint": (prepare_xmllint, 60, 20, 16000),
            "rust": (prepare_rust, 14, 5, 10000), "cxx": (prepare_cxx, 6, 1, 9000)}


def read_log(path):
    """The witness's records: (address, size, cut, pcs)."""
    with open(path, "rb") as f:
        data = f.read()
    count = min(struct.unpack_from("<Q", data)[0], (len(data) - 8) // RECORD.size)
    for i in range(count):
        words = RECORD.unpack_from(data, 8 + i * RECORD.size)
        if words[0]:
            yield words[0], words[1], words[3], words[4:4 + words[2]]


def tell(dump, pcs, names={}):
    """Addresses as module+offset, for a person."""
    if dump not in names:
        names[dump] = {}
        for index in range(len(dump.stacks)):
            names[dump].update(zip(dump.addresses(index), dump.stacks[index][1]))
    return " ".join(repr(names[dump].get(pc, pc)) for pc in pcs[:40])


def compare(dump, path, place):
    """Returns (compared, lines telling differences)."""
    compared, differences = 0, []
    room = dump.process["depth"]
    for address, size, cut, pcs in read_log(path):
        compared += 1
        if address not in dump.blocks:
            differences.append("0x%x of %d bytes is not in the dump: %s" % (address, size, tell(dump, pcs)))
            continue
        stack = dump.contexts[dump.blocks[address][1]][1]
        seen, flags = dump.addresses(stack), dump.stacks[stack][0]
        if place == "front":
            seen = seen[1:]  # the witness's own frame
        wanted = list(pcs)
        limit = room - (place == "front")
        if cut or len(wanted) > limit:
            wanted, flags = wanted[:limit], flags & ~dumps.DEPTH
            seen = seen[:len(wanted)]
        if dump.blocks[address][0] != size:
            differences.append("0x%x: %d bytes, really %d" % (address, dump.blocks[address][0], size))
        elif seen != wanted or flags:
            at = next((i for i, (a, b) in enumerate(zip(seen, wanted)) if a != b), min(len(seen), len(wanted)))
            differences.append("0x%x: flags %d, differs at frame %d of %d\n    silt:   %s\n    oracle: %s" %
                               (address, flags, at, len(wanted), tell(dump, seen), tell(dump, wanted)))
    return compared, differences


def run(name, place):
    with tempfile.TemporaryDirectory(prefix="silt-oracle-") as folder:
        prepare, front_period, behind_period, stop = PROGRAMS[name]
        command, more = prepare(folder)
        if not os.path.exists(command[0]):
            print("skip: %s is missing" % command[0])
            return None
        log, out = os.path.join(folder, "log"), os.path.join(folder, "out.silt")
        library = os.path.join(BUILT, "oracle_preload.so")
        env = dict(more, ORACLE_LOG=log, ORACLE_PLACE=place)
        env["ORACLE_PERIOD"] = str(front_period if place == "front" else behind_period)
        if place == "front":
            command = [os.path.join(BUILT, "oracle_exec"), library] + command
        else:
            env["LD_PRELOAD"] = library
            if stop:
                env["ORACLE_STOP"] = str(stop)
        # Set between silt and the program: silt itself is not to be watched.
        command = ["/usr/bin/env"] + ["%s=%s" % e for e in env.items()] + command
        r = subprocess.run([SILT, "run", "-q", "--depth", "250", "-o", out, "--"] + command,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=200)
        if r.returncode not in ((137, -9) if "ORACLE_STOP" in env else (0,)):
            print("FAILED %s %s: ended with %d: %s" % (name, place, r.returncode, r.stderr.decode(errors="replace")[-500:]))
            return False
        candidates = [dumps.Dump(BLOCKS, os.path.join(folder, f)) for f in os.listdir(folder) if f.startswith("out")]
        dump = max(candidates, key=lambda d: d.process["start"])
        compared, differences = compare(dump, log, place)
    wanted = WANTED if place == "front" else 100
    good = compared >= wanted and len(differences) <= compared * LIMIT
    print("%-6s %s, witness %s: %d stacks compared, %d differ (%.4f %%)" %
          ("ok" if good else "FAILED", name, place, compared, len(differences), 100.0 * len(differences) / max(compared, 1)))
    if compared < wanted:
        print("  too few compared: %d wanted" % wanted)
    for line in differences[:5 if good else 8]:
        print("  " + line)
    return good


def main(names):
    results = [run(name, place) for name in names for place in ("front", "behind")]
    if all(r is None for r in results):
        return 77
    return 1 if False in results else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(PROGRAMS)))
