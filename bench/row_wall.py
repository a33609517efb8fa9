# SPDX-License-Identifier: MIT
"""Wall time of real programs, start and end of tracking included: xmllint, sqlite3, python3, g++."""

import glob
import math
import os
import random
import shutil

from harness import Failed, median

ASKED, GOAL = 1.25, 1.10


def run(bench):
    rounds = bench.rounds(5)
    ratios, rivals = {}, {}
    for name, make in (("xmllint", xmllint), ("sqlite3", sqlite3), ("python3", python3), ("g++", compiler)):
        try:
            job = make(bench)
        except KeyError as missing:
            bench.skip("wall, " + name, "%s is not installed" % missing.args[0])
            continue
        bench.note("wall: " + name)
        times = measure(bench, job, rounds)
        bench.details["wall." + name] = times
        report(bench, name, times, ratios, rivals)
    total(bench, ratios, rivals)


class Job:
    """A command and its environment. wrapper: a compiler driver, whose children do the work."""

    def __init__(self, command, env=None, wrapper=False):
        self.command, self.env, self.wrapper = command, env or {}, wrapper

    def with_env(self, env):
        """(command, environment) with env set for the processes that do the work: heaptrack takes itself out of the
        environment, so a compiler driver's children need it given anew."""
        if not self.wrapper:
            return self.command, dict(self.env, **env)
        words = ",".join("%s=%s" % item for item in env.items())
        return [self.command[0], "-wrapper", "env," + words, *self.command[1:]], self.env


def measure(bench, job, rounds):
    names = ["untracked"]
    if os.access(bench.silt, os.X_OK):
        names.append("silt")
    if bench.heaptrack:
        names.append("heaptrack")
    times = {name: [] for name in names}
    bench.run(job.command, job.env)  # files into the page cache
    for number in range(rounds):
        for name in names:
            if name == "untracked":
                seconds = bench.run(job.command, job.env).seconds
            elif name == "silt":
                seconds = with_silt(bench, job, check=number == 0)
            else:
                seconds = with_heaptrack(bench, job)
            times[name].append(seconds)
    return times


def with_silt(bench, job, check):
    out = bench.path("wall.silt")
    seconds = bench.run(bench.silt_command(job.command, out), job.env).seconds
    stem = os.path.splitext(out)[0]
    dumps = glob.glob(stem + "*")
    if check and max((bench.show(d)["totals"]["allocated_count"] for d in dumps), default=0) < 1000:
        raise Failed("silt recorded next to nothing of " + job.command[0])
    for dump in dumps:
        os.unlink(dump)
    return seconds


def with_heaptrack(bench, job):
    out = bench.path("wall.heaptrack", memory=True)
    command, env = job.with_env(bench.heaptrack_env(out + ".$$"))
    seconds = bench.run(command, env).seconds
    files = glob.glob(out + "*")
    if not files or max(map(os.path.getsize, files)) < 10000:
        raise Failed("heaptrack recorded next to nothing of " + job.command[0])
    for path in files:
        os.unlink(path)
    return seconds


def report(bench, name, times, ratios, rivals):
    """A program's own line; nothing is asked of it alone."""
    plain = median(times["untracked"])
    ours = theirs = ""
    if "silt" in times:
        ratios[name] = median([a / b for a, b in zip(times["silt"], times["untracked"])])
        ours = "%.2f s, x%.2f" % (median(times["silt"]), ratios[name])
    if "heaptrack" in times:
        rivals[name] = median([a / b for a, b in zip(times["heaptrack"], times["untracked"])])
        theirs = "%.2f s, x%.2f" % (median(times["heaptrack"]), rivals[name])
    bench.row("wall, " + name, ours, theirs, "", "", "", None, None, "untracked %.2f s" % plain)


def total(bench, ratios, rivals):
    mean = geometric(ratios)
    theirs = geometric(rivals)
    if mean is None:
        bench.skip("wall, geometric mean", "silt is not built, or no program was found")
        return
    bench.row("wall, geometric mean of %d" % len(ratios), "x%.3f" % mean, "x%.2f" % theirs if theirs else "", "",
              "<= %.2f" % ASKED, "<= %.2f" % GOAL, mean <= ASKED and len(ratios) == 4, mean <= GOAL,
              "" if len(ratios) == 4 else "asked of four programs; only these were measured: " + ", ".join(ratios))


def geometric(ratios):
    return math.exp(sum(map(math.log, ratios.values())) / len(ratios)) if ratios else None


def need(tool):
    """Debian's own, not a shell wrapper that happens to come first in PATH."""
    path = os.path.join("/usr/bin", tool)
    path = path if os.access(path, os.X_OK) else shutil.which(tool)
    if not path:
        raise KeyError(tool)
    return path


def xmllint(bench):
    """A 20 MB document: records with attributes, nested elements and text of varying length, all different."""
    tool, path, rng = need("xmllint"), bench.path("big.xml"), random.Random(1)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 11))) for _ in range(2000)]
    size, number = 0, 0
    with open(path, "w") as f:
        f.write('<?xml version="1.0" encoding="UTF-8"?>\n<catalog>\n')
        while size < 20 * 1000 * 1000:
            number += 1
            tags = "".join("<tag n=\"%d\">%s</tag>" % (i, rng.choice(words)) for i in range(rng.randint(0, 9)))
            text = " ".join(rng.choices(words, k=rng.randint(1, 8)))
            size += f.write('<item id="i%d" kind="%s"><name>%s</name><price unit="eur">%d.%02d</price>%s<text>%s</text></item>\n'
                            % (number, rng.choice(words), rng.choice(words), rng.randint(1, 999), rng.randint(0, 99),
                               tags, text))
        f.write("</catalog>\n")
    return Job([tool, "--noout", path])


def sqlite3(bench):
    """400,000 rows into a table with an index, in memory."""
    return Job([need("sqlite3"), ":memory:",
                "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, value REAL, note TEXT);"
                "CREATE INDEX byname ON t(name);"
                "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 400000) "
                "INSERT INTO t SELECT x, 'name' || (x * 7919 % 400009), x * 0.5, printf('note %d of %d', x, x % 97) FROM c;"
                "SELECT count(*), sum(length(note)) FROM t;"])


def python3(bench):
    """Building, writing and reading JSON, with every object from malloc."""
    script = ("import json\n"
              "data = [{'id': i, 'name': 'name%d' % i, 'tags': ['t%d' % (i % k) for k in (3, 5, 7)],\n"
              "         'pos': {'x': i * 0.5, 'y': -i}} for i in range(60000)]\n"
              "for _ in range(2):\n"
              "    text = json.dumps(data)\n"
              "    back = json.loads(text)\n"
              "    assert back[-1]['id'] == data[-1]['id']\n")
    return Job([need("python3"), "-c", script], {"PYTHONMALLOC": "malloc"})


def compiler(bench):
    """One C++ file that includes much of the standard library and instantiates templates."""
    path = bench.path("heavy.cc")
    headers = ["algorithm", "chrono", "deque", "functional", "iostream", "list", "map", "memory", "optional", "random",
               "regex", "set", "sstream", "string", "thread", "tuple", "unordered_map", "variant", "vector"]
    with open(path, "w") as f:
        f.writelines("#include <%s>\n" % h for h in headers)
        f.write("template <int N> struct box { int v[N + 1]; bool operator<(const box &o) const { return v[0] < o.v[0]; } };\n")
        for i in range(6):
            f.write("std::size_t use%d(std::map<std::string, std::vector<box<%d>>> &m) {\n"
                    "  std::set<box<%d>> s; std::unordered_map<std::string, std::tuple<int, box<%d>, std::string>> u;\n"
                    "  for (auto &p : m) { std::sort(p.second.begin(), p.second.end()); s.insert(p.second.begin(), p.second.end());\n"
                    "    u.emplace(p.first, std::make_tuple(%d, box<%d>(), p.first)); }\n"
                    "  std::function<int(int)> g = [&](int x) { return x + int(u.size()); };\n"
                    "  return s.size() + std::size_t(g(%d)); }\n" % (i, i, i, i, i, i, i))
        f.write("bool match(const std::string &s) { static const std::regex r(\"a+(b|c)*\"); return std::regex_match(s, r); }\n")
    return Job([need("g++"), "-std=c++17", "-O1", "-c", path, "-o", path + ".o"], wrapper=True)
