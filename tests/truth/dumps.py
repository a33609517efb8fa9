# SPDX-License-Identifier: MIT
"""Reading a dump (through the tool `blocks`) and a fixture's ledger, and comparing them."""

import math
import os
import subprocess

NO_CFI, DEPTH, BROKEN, OVERFLOW, UNTRACKED = 1, 2, 4, 8, 16
PAGE_NAMES = {"linux-vdso.so.1": "[vdso]", "linux-gate.so.1": "[vdso]"}


class Frame:
    """A code location: (module path, link-time offset, whether a signal arrived there)."""

    __slots__ = ("module", "offset", "exact")

    def __init__(self, module, offset, exact):
        self.module, self.offset, self.exact = module, offset, exact

    def key(self):
        return (self.module, self.offset, self.exact)

    def __repr__(self):
        return "%s+0x%x%s" % (os.path.basename(self.module), self.offset, "!" if self.exact else "")


class Stacks(list):
    """Stacks as printed, each taken apart when somebody asks: (flags, frames, words). There may be many more than blocks."""

    def __init__(self, modules):
        super().__init__()
        self.modules = modules

    def __getitem__(self, index):
        stack = super().__getitem__(index)
        if isinstance(stack, str):
            self[index] = stack = self._take_apart(stack)
        return stack

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def _take_apart(self, rest):
        words = rest.split()
        frames = []
        for word in words[2:]:
            module, _, offset = word.partition("+")
            exact = offset.endswith("!")
            name = "?" if module == "?" else canonical(self.modules[int(module)][0])
            frames.append(Frame(name, int(offset.rstrip("!"), 16), exact))
        return int(words[1]), frames, words[2:]


class Dump:
    """What `blocks` prints. frames are module index based; `bias` gives run-time addresses back."""

    def __init__(self, tool, path, salvage=False):
        command = [tool] + (["--salvage"] if salvage else []) + [path]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if result.returncode != 0:
            raise ValueError("%s: %s" % (path, result.stderr.strip() or "blocks ended with %d" % result.returncode))
        self.path = path
        self.process, self.modules, self.contexts = {}, [], []
        self.stacks = Stacks(self.modules)
        self.blocks, self.counters, self.marks, self.notes, self.total = {}, {}, [], [], None
        self.order = []
        for line in result.stdout.splitlines():
            kind, _, rest = line.partition(" ")
            getattr(self, "_" + kind)(rest)

    def _process(self, rest):
        for word in ("ending", "method"):
            rest, _, value = rest.rpartition(" %s=" % word)
            self.process[word] = value
        self.process.update((k, int(v)) for k, v in (w.split("=") for w in rest.split()))

    def _module(self, rest):
        index, bias, generation, unloaded, build_id, path = rest.split(" ", 5)
        assert int(index) == len(self.modules)
        self.modules.append((path, int(bias, 16), int(generation), int(unloaded), build_id))

    def _stack(self, rest):
        self.stacks.append(rest)

    def _context(self, rest):
        self.contexts.append([int(w) for w in rest.split()])

    def _block(self, rest):
        addr, size, context = rest.split()
        addr = int(addr, 16)
        self.order.append(addr)
        self.blocks[addr] = (int(size), int(context))

    def _counter(self, rest):
        name, _, value = rest.rpartition(" ")
        self.counters[name] = int(value)

    def _mark(self, rest):
        self.marks.append(rest.split(" ", 2)[2])

    def _note(self, rest):
        self.notes.append(rest)

    def _total(self, rest):
        self.total = tuple(int(w) for w in rest.split())

    def stack_of(self, addr):
        """(flags, frames) of a block."""
        return self.stacks[self.contexts[self.blocks[addr][1]][1]][:2]

    def kind_of(self, addr):
        return self.contexts[self.blocks[addr][1]][4]

    def addresses(self, stack_index):
        """Run-time addresses of a stack's frames."""
        result = []
        for word in self.stacks[stack_index][2]:
            module, _, offset = word.partition("+")
            bias = 0 if module == "?" else self.modules[int(module)][1]
            result.append((bias + int(offset.rstrip("!"), 16)) & (2**64 - 1))
        return result

    def weight(self, size, kind):
        """For how many blocks this one stands."""
        mean = self.process["sample"]
        return 1 if not mean or kind == 1 else -1 / math.expm1(-max(size, 1) / mean)

    def check_itself(self):
        """Contradictions inside the dump."""
        errors = []
        if any(a >= b for a, b in zip(self.order, self.order[1:])):
            errors.append("blocks are not sorted by address, or one is there twice")
        for a, b in zip(self.order, self.order[1:]):
            if self.kind_of(a) == 0 and self.kind_of(b) == 0 and a + self.blocks[a][0] > b:
                errors.append("blocks overlap: 0x%x of %d bytes and 0x%x" % (a, self.blocks[a][0], b))
        counts = [[0, 0] for _ in self.contexts]
        for size, context in self.blocks.values():
            weight = self.weight(size, self.contexts[context][4])
            counts[context][0] += weight
            counts[context][1] += weight * size
        for c, (count, size) in zip(self.contexts, counts):
            if (c[5], c[6]) != (round(count), round(size)) and (not self.process["sample"] or abs(c[5] - count) > 0.51 or
                                                                abs(c[6] - size) > 0.51):
                errors.append("context %d says %d blocks, %d bytes; its blocks say %d, %d" % (c[0], c[5], c[6],
                                                                                             count, size))
            if c[7] < c[5] or c[8] < c[6]:
                errors.append("context %d: more live than ever allocated: %s" % (c[0], c[5:]))
        if self.total != (sum(c[5] for c in self.contexts), sum(c[6] for c in self.contexts)):
            errors.append("the totals %s are not the contexts' sums" % (self.total,))
        for name, value in self.counters.items():
            if "lost" in name and value:
                errors.append("counter %s is %d" % (name, value))
        return errors


_canonical = {}


def canonical(path):
    """One name for one file: links resolved, the loader's names for the kernel's page made equal."""
    if path not in _canonical:
        name = PAGE_NAMES.get(path, path)
        _canonical[path] = os.path.realpath(name) if name.startswith("/") else name
    return _canonical[path]


class Ledger:
    """A fixture's ledger file. exe stands for /proc/self/exe."""

    def __init__(self, path, exe):
        self.blocks = {}
        self.forked = ".child" in os.path.basename(path)
        self.moving = set()  # addresses of blocks that came and went while a process forked
        count, lines = None, 0
        exe = os.path.realpath(exe)
        with open(path, errors="replace") as f:
            head = f.readline().split()
            assert head[:2] == ["ledger", "1"], path
            self.pid = int(head[2])
            for line in f:
                words = line.split()
                if words[0] == "end":
                    count = int(words[1])
                    continue
                frames = []
                for word in words[5:]:
                    module, _, offset = word.rpartition("+")
                    name = exe if module == "/proc/self/exe" else canonical(module)
                    frames.append(Frame(name, int(offset.rstrip("!"), 16), offset.endswith("!")))
                size = None if words[2] == "?" else int(words[2])
                addr, lines = int(words[1], 16), lines + 1
                # The ledger itself is copied by the fork while threads write to it: one that gave a block back may seem to have it still.
                if words[0] == "M" and addr in self.blocks:
                    continue
                self.blocks[addr] = (size, int(words[3]), words[4], frames)
                (self.moving.add if words[0] == "M" else self.moving.discard)(addr)
        assert count == lines and (self.moving or lines == len(self.blocks)), "%s is cut short" % path
        self.labels = {b[3][0].key() for b in self.blocks.values()}


def show(frames):
    return " ".join(map(repr, frames[:24])) + (" … %d in all" % len(frames) if len(frames) > 24 else "")


def compare_stack(dump, addr, entry, depth, own):
    """What differs between a ledger entry's stack and the dump's, or None."""
    size, kind, end, frames = entry
    cut = end == "cut"
    flags, seen = dump.stack_of(addr)
    keys = [f.key() for f in seen]
    if dump.unnamed is not None and len(seen) >= len(frames):
        # A frame shown by address is one of a module that cannot be told: the ledger knows it, where it stands in a stack.
        for i, f in enumerate(frames):
            at = i + len(seen) - len(frames)
            if seen[at].module == "?" and (f.offset - seen[at].offset) & 0xfff == 0:
                keys[at] = f.key()
                dump.unnamed += 1
    if frames[0].key() not in keys:
        return "the call is not in its stack: %s; ledger: %s" % (show(seen), show(frames))
    inner = keys.index(frames[0].key())
    if any(f.module in own for f in seen[:inner]):
        return "frames of the fixture inside the call: %s" % show(seen)
    room = depth - inner
    wanted = [f.key() for f in frames]
    deeper = cut or len(wanted) > room
    truncated = NO_CFI if end == "open" else 0
    if deeper:
        wanted = wanted[:room]
        truncated = DEPTH
    if keys[inner:inner + len(wanted)] != wanted or (len(keys) != inner + len(wanted) and not cut):
        at = next((i for i, (a, b) in enumerate(zip(keys[inner:], wanted)) if a != b),
                  min(len(keys) - inner, len(wanted)))
        return "differs at frame %d (flags %d)\n    silt:   %s\n    ledger: %s" % (at, flags, show(seen), show(frames))
    # Where a walk ends without unwind information in the system's own start code (ld.so's first instructions, the C
    # library's __start_context) it is complete all the same, and silt knows.
    in_start_code = os.path.basename(wanted[-1][0]).startswith(("ld-linux", "libc.so"))
    if not deeper and in_start_code:
        truncated = 0
    elif not deeper and end == "unsure":
        flags, truncated = flags & ~NO_CFI, 0
    if flags & (NO_CFI | DEPTH | BROKEN | OVERFLOW | UNTRACKED) != truncated:
        return "flags are %d, wanted %d: %s" % (flags, truncated, show(seen))
    return None


def outermost(frames, own):
    """The outermost frame in the fixture's own code: which thread it was."""
    return next((f.key() for f in reversed(frames) if f.module in own), None)


def set_apart(dump, ledger, own):
    """What other threads had in their hands at a fork is in the child's memory as it may be: a block that one was just allocating or
    giving back may be in the dump or not. Takes those that differ out of the comparison; returns an error when they are many."""
    threads = {outermost(ledger.blocks[a][3], own) for a in ledger.moving}
    seen = {a for a in dump.blocks if outermost(dump.stack_of(a)[1], own) in threads}
    unsure = {a for a in seen ^ ledger.moving}
    unsure |= {a for a in seen & ledger.moving if dump.blocks[a][0] != ledger.blocks[a][0] or
               [f.key() for f in ledger.blocks[a][3]] != [f.key() for f in dump.stack_of(a)[1]][-len(ledger.blocks[a][3]):]}
    for a in unsure & ledger.moving:
        del ledger.blocks[a]
    for a in unsure & seen:
        del dump.blocks[a]
    if len(unsure) * 4 > len(ledger.moving) + len(seen):
        return ["%d blocks of threads at work differ, of %d and %d" % (len(unsure), len(ledger.moving), len(seen))]
    return []


def compare(dump, ledger, own, limit=2, unnamed=0):
    """All differences as texts (at most `limit` written out), the last one a summary. own: the fixture's modules. Of a dump
    that was sampled, what is in it must be right; of one with a least size, smaller blocks must be missing. unnamed: so
    many frames at least must lie in modules that are not told apart; none otherwise."""
    dump.unnamed = 0 if unnamed else None
    errors, own = [], {os.path.realpath(p) for p in own}
    depth, sampled, least = dump.process["depth"], dump.process["sample"], dump.process["min"]
    if ledger.moving and ledger.forked:
        errors += set_apart(dump, ledger, own)
    for addr, entry in ledger.blocks.items():
        if addr not in dump.blocks and (sampled or (least and (entry[0] or 0) < least)):
            continue
        if least and entry[0] is not None and entry[0] < least:
            errors.append("block 0x%x of %d bytes is below the least size: %s" % (addr, entry[0], show(entry[3])))
            continue
        if addr not in dump.blocks:
            errors.append("block 0x%x of %s bytes is not in the dump; ledger: %s" % (addr, entry[0], show(entry[3])))
            continue
        size, kind = dump.blocks[addr][0], dump.kind_of(addr)
        if entry[0] is not None and size != entry[0]:
            errors.append("block 0x%x: %d bytes, ledger %d: %s" % (addr, size, entry[0], show(entry[3])))
        if kind != entry[1]:
            errors.append("block 0x%x: kind %d, ledger %d" % (addr, kind, entry[1]))
        difference = compare_stack(dump, addr, entry, depth, own)
        if difference:
            errors.append("block 0x%x of %d bytes: %s" % (addr, size, difference))
    if unnamed and dump.unnamed < unnamed:
        errors.append("only %d frames are shown by address, expected %d" % (dump.unnamed, unnamed))
    # The other way round: whatever silt says came from the fixture's tracked calls is in the ledger.
    live = {dump.contexts[context][1] for _, context in dump.blocks.values()}
    through = {i for i in live if any(f.key() in ledger.labels for f in dump.stacks[i][1])}
    for addr, (size, context) in dump.blocks.items():
        if dump.contexts[context][1] in through and addr not in ledger.blocks:
            errors.append("block 0x%x of %d bytes is in the dump, not in the ledger: %s" %
                          (addr, size, show(dump.stack_of(addr)[1])))
    if len(errors) > limit:
        errors[limit:] = ["… %d differences in all, of %d blocks" % (len(errors), len(ledger.blocks))]
    return errors
