#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A second reader of dumps, written from docs/FORMAT.md alone: what it finds must be what silt's own reader finds.

usage: format_reader.py LIST_DUMP      (the program list_dump; runs it on dumps of every kind of heap)
"""
import os
import subprocess
import sys
import tempfile
import zlib

MASK = (1 << 64) - 1
NONE = 0xFFFFFFFF


def need(condition, what):
    if not condition:
        raise SystemExit(f"the format document is not true: {what}")


class Bytes:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        need(self.at + n <= len(self.data), "more bytes than are there")
        self.at += n
        return self.data[self.at - n:self.at]

    def int(self, n):
        return int.from_bytes(self.take(n), "little")

    def varint(self):
        value = shift = 0
        while True:
            byte = self.int(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def svarint(self):
        z = self.varint()
        return (z >> 1) ^ -(z & 1)

    def text(self):
        n = self.varint()
        return "-" if n == 0 else "=" + self.take(n - 1).hex()

    def done(self):
        return self.at == len(self.data)


def read_chunks(data):
    need(data[:8] == b"\x89SILT\r\n\x1a", "magic")
    head = Bytes(data[:32])
    head.take(8)
    need((head.int(4), head.int(4), head.int(4)) == (1, 0, 0), "version and features")
    tag = head.int(4)
    need(head.int(4) == 0 and head.int(4) == zlib.crc32(data[:28]), "file header")
    at, chunks = 32, []
    while data[at:at + 4] == b"CHNK":
        h = Bytes(data[at + 4:at + 44])
        section, encoding, zero = h.int(2), h.int(1), h.int(1)
        need(h.int(4) == tag and h.int(4) == len(chunks) and zero == 0, "tag and sequence")
        first, count, stored, raw = h.int(8), h.int(4), h.int(4), h.int(4)
        payload = data[at + 44:at + 44 + stored]
        need(h.int(4) == zlib.crc32(payload), "payload checksum")
        crc = h.int(4)
        need(crc == zlib.crc32(data[at:at + 40]), "header checksum")
        need(encoding == 2 if section == 11 else encoding in (0, 1), "encoding")
        content = zlib.decompress(payload, -15) if encoding == 1 else payload
        need(len(content) == raw, "uncompressed size")
        chunks.append((section, first, count, content, at, stored, crc))
        at += 44 + stored
    need(chunks[-1][0] == 255, "index last")
    check_end(data, at, tag, chunks)
    return chunks


def check_end(data, at, tag, chunks):
    index, offset = Bytes(chunks[-1][3]), 0
    need(index.varint() == len(chunks) - 1, "chunks in the index")
    for section, _, count, _, where, stored, crc in chunks[:-1]:
        need(index.varint() == section, "section in the index")
        offset += index.varint()
        need(offset == where, "offset in the index")
        need((index.varint(), index.varint(), index.int(4)) == (stored, count, crc), "entry of the index")
    need(index.done(), "end of the index")
    end = Bytes(data[at:])
    need(end.take(8) == b"\x1a\n\rTLIS\x89", "magic of the trailer")
    need((end.int(8), end.int(8), end.int(4)) == (chunks[-1][4], len(data), tag), "trailer")
    need(end.int(4) == zlib.crc32(data[at:at + 28]) and end.done(), "checksum of the trailer")


def process(b, _):
    fields = [b.varint(), b.varint()] + [b.text() for _ in range(8)] + [b.svarint(), b.svarint(), b.varint()]
    fields += [b.int(8), b.int(8)] + [b.varint() for _ in range(4)] + [b.int(1) & 1]
    return "process", fields, None


def module(b, _):
    fields = [b.text(), "=" + b.take(b.varint()).hex(), b.varint(), b.varint(), b.int(1) & 1]
    for _ in range(b.varint()):
        start = b.varint()
        fields += [start, start + b.varint(), b.varint(), b.varint()]
    return "module", fields, None


def frame(b, before):
    module_number, offset = before or (0, 0)
    module_number += b.svarint()
    flags = b.varint()
    offset = (offset + b.svarint()) & MASK
    return "frame", [NONE if module_number == 0 else module_number - 1, flags, offset], (module_number, offset)


def stack(b, before):
    flags, count, shared = b.varint(), b.varint(), b.varint()
    frames, last = [], 0
    for _ in range(count - shared):
        last += b.svarint()
        frames.append(last)
    if shared:
        frames += before[-shared:]
    return "stack", [flags] + frames, frames


def thread(b, _):
    return "thread", [b.varint(), b.text(), b.int(1) & 1], None


def context(b, before):
    number, epoch = before or (0, 0)
    number += b.svarint()
    epoch += b.svarint()
    who, kind, count, size = b.varint(), b.varint(), b.varint(), b.varint()
    fields = [number, epoch, NONE if who == 0 else who - 1, kind, count, size]
    return "context", fields + [(count + b.svarint()) & MASK, (size + b.svarint()) & MASK], (number, epoch)


def region(b, before):
    start = ((before or 0) + b.svarint()) & MASK
    end = start + b.varint()
    fields = [start, end, b.varint(), b.varint(), b.int(1) & 1, b.varint(), b.varint(), b.varint(), b.text()]
    return "region", fields, end


def mark(b, _):
    return "mark", [b.text(), b.svarint(), b.varint(), b.varint()], None


def counter(b, _):
    return "counter", [b.text(), b.varint()], None


def note(b, _):
    return "note", [b.text()], None


def type_(b, before):
    number = (before or 0) + b.varint()
    module = b.varint()
    return "type", [number, NONE if module == 0 else module - 1, b.varint(), b.text()], number


def stream(b):
    method, length = b.int(1), b.varint()
    if method == 0:
        return b.take(length)
    if method == 1:
        data = zlib.decompress(b.take(b.int(4)), -15)
        need(len(data) == length, "length of a stream")
        return data
    need(method == 2, "method of a stream")
    return b.take(1) * length


def values(b, n):
    planes = b.int(1)
    if planes == 128:
        low, large = stream(b), Bytes(stream(b))
        result = [v if v < 255 else 255 + large.varint() for v in low]
        need(large.done(), "exceptions")
        return result
    need(planes <= 8, "planes")
    result = [0] * n
    for p in range(planes):
        result = [v | byte << 8 * p for v, byte in zip(result, stream(b))]
    return result


def column(b, n, joint):
    d = b.varint()
    if d == 0:
        need(not joint, "joint column without dictionary")
        low = b.varint()
        return [low + v for v in values(b, n)]
    words = Bytes(stream(b))
    entries = [(words.varint(), words.varint()) if joint else words.varint() for _ in range(d)]
    need(words.done(), "dictionary")
    return [entries[v] for v in values(b, n)]


def blocks(b, n):
    head = b.int(1)
    if head & 1:
        contexts, sizes = zip(*column(b, n, True))
    else:
        contexts, sizes = column(b, n, False), column(b, n, False)
    shift, address = b.int(1), b.varint()
    learned, addresses = {}, [address]
    for v, size in zip(values(b, n - 1), sizes):
        guess, slot = 0, (size * 0x9E3779B97F4A7C15 & MASK) >> 52
        if head >> 1 == 1:
            guess = max(32, (size + 23 & MASK) & ~15)
        elif head >> 1 == 2:
            guess = learned.get(slot, 0)
        distance = ((((v >> 1) ^ -(v & 1)) << shift) + guess) & MASK
        if distance and (slot not in learned or distance < learned[slot]):
            learned[slot] = distance
        address = (address + distance) & MASK
        addresses.append(address)
    need(b.done(), "end of the columns")
    return [f"block {a} {s} {c}" for a, s, c in zip(addresses, sizes, contexts)]


TABLES = {1: process, 2: module, 3: frame, 4: stack, 5: thread, 6: context, 7: region, 8: mark, 9: counter, 10: note,
          0x8001: type_}


def listing(data):
    lines, seen = [], {}
    for section, first, count, content, *_ in read_chunks(data):
        if section == 255:
            break
        need(first == seen.get(section, 0), "numbers of records")
        seen[section] = first + count
        b = Bytes(content)
        if section == 11:
            lines += blocks(b, count) if count else []
            continue
        before = None
        for _ in range(count):
            name, fields, before = TABLES[section](b, before)
            lines.append(" ".join([name] + [str(f) for f in fields]))
        need(b.done(), "bytes after the last record")
    return lines


def main():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "x.silt")
        for heap in range(5):
            for seed in (1, 2):
                shown = subprocess.run([sys.argv[1], str(seed), str(heap), path], check=True, stdout=subprocess.PIPE)
                with open(path, "rb") as f:
                    mine = listing(f.read())
                theirs = shown.stdout.decode().splitlines()
                for number, (a, b) in enumerate(zip(mine, theirs)):
                    need(a == b, f"heap {heap}, fact {number}: {a[:200]} is {b[:200]} to silt")
                need(len(mine) == len(theirs), f"{len(mine)} facts instead of {len(theirs)}")
    print("dumps of five kinds of heap read as documented")


main()
