"""Reads a spool without the code of this project: written from specs/spool-format.md alone.

    spool_reader.py <directory of the spool> [<directory for what is left>]

Prints JSON: id, target, settled_through, damaged (ranges of bytes of each segment), and the batches records that
count, with the ranges of their rows that are left. Writes these rows as Arrow streams, one file for each record,
named by its position.
"""

import json
import os
import re
import struct
import sys

import pyarrow as pa

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)
    TABLE.append(byte)

STATE, SCHEMA, BATCHES, SETTLED = 1, 2, 3, 4
U64 = struct.Struct("<Q")


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def begins(data, magic):
    """Whether 16 bytes are the beginning of a file of ours; refuses newer ones."""
    good = len(data) >= 16 and data[:8] == magic and u32(data, 12) == crc32c(data[:12])
    if good and u32(data, 8) != 1:
        sys.exit(f"SPOOL_FORMAT: version {u32(data, 8)}")
    return good


def u32(data, at):
    return struct.unpack_from("<I", data, at)[0]


def u64(data, at):
    return U64.unpack_from(data, at)[0]


def ranges(data):
    return [(u64(data, at), u64(data, at + 8)) for at in range(0, len(data), 16)]


class Segment:
    def __init__(self, directory, name):
        self.name, self.first, self.sequence = name, int(name[:20]), int(name[21:31])
        with open(os.path.join(directory, name), "rb") as file:
            self.data = file.read()
        head = self.data[:128]
        whole = begins(head, b"ARROWSPL") and len(head) == 128 and u32(head, 124) == crc32c(head[:124])
        self.id = head[16:32] if whole else None
        self.foreign = whole and u64(head, 32) != self.sequence
        self.records, self.damaged = [], []

    def record(self, at, limit):
        """The record at an offset: (length with padding, its fields or None if its payload is damaged), or None."""
        head = self.data[at : at + 64]
        if len(head) < 64 or head[:4] != b"ASRC":
            return None
        place = self.id + U64.pack(self.sequence) + U64.pack(at)
        if u32(head, 60) != crc32c(place + head[:60]):
            return None
        length, position, rows = u64(head, 8), u64(head, 16), u64(head, 24)
        if at + 64 + length > len(self.data):
            return "torn"
        payload = self.data[at + 64 : at + 64 + length]
        whole = u32(head, 56) == crc32c(payload)
        padded = 64 + (length + 63) // 64 * 64
        if not whole:
            return padded, None
        return padded, dict(
            at=at, kind=head[4], position=position, rows=rows, identity=u64(head, 32), schema=u64(head, 48),
            payload=payload, counts=position + rows <= limit,
        )  # fmt: skip

    def read(self, limit):
        at, end, last = 128, len(self.data), 0
        while at < end:
            found = self.record(at, limit)
            if found and found != "torn":
                padded, record = found
                if record and record["counts"]:
                    self.records.append(record)
                    last = record["position"] + record["rows"]
                elif not record:
                    self.damaged.append((at, min(at + padded, end)))
                at += padded
                continue
            further = at + 64
            while further < end:
                next_one = self.record(further, limit)
                if next_one and next_one != "torn" and next_one[1]:
                    if next_one[1]["counts"] and next_one[1]["position"] >= last:
                        break
                further += 64
            if further >= end:
                if found != "torn" and end - at >= 64 and any(self.data[at:]):
                    self.damaged.append((at, end))
                return
            self.damaged.append((at, further))
            at = further


def cursor(directory, ids):
    """(settled through, id) by the slot that counts."""
    try:
        with open(os.path.join(directory, "cursor"), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return 0, None
    slots = [data[at : at + 128] for at in (0, 4096)]
    good = [slot for slot in slots if begins(slot, b"ARROWCUR") and len(slot) == 128]
    good = [slot for slot in good if u32(slot, 124) == crc32c(slot[:124]) and (not ids or slot[16:32] in ids)]
    best = max(good, key=lambda slot: u64(slot, 32), default=None)
    return (u64(best, 40), best[16:32]) if best else (0, None)


def without(first, last, settled):
    """The parts of first..last that no range holds."""
    left = []
    for low, high in sorted(settled):
        if high <= first:
            continue
        if low >= last:
            break
        if low > first:
            left.append((first, low))
        first = max(first, high)
    return left + [(first, last)] if first < last else left


def main(directory, out=None):
    names = sorted(name for name in os.listdir(directory) if re.fullmatch(r"\d{20}-\d{10}\.segment", name))
    segments = sorted((Segment(directory, name) for name in names), key=lambda segment: segment.sequence)
    through, id_of_cursor = cursor(directory, {segment.id for segment in segments if segment.id})
    spool = id_of_cursor or next((segment.id for segment in segments if segment.id), None)
    segments = [segment for segment in segments if segment.id in (None, spool) and not segment.foreign]
    settled, target, all_files, segments = [(0, through)], None, segments, []
    for number, segment in enumerate(all_files):
        headless, segment.id = segment.id is None, spool
        if headless and spool and any(earlier.first > segment.first for earlier in all_files[:number]):
            segment.read(2**64)
            if not segment.records:
                continue
            segment.records, segment.damaged = [], []
        segments.append(segment)
    for number, segment in enumerate(segments):
        segment.read(min((later.first for later in segments[number + 1 :]), default=2**64))
    states = [(n, record) for n, segment in enumerate(segments) for record in segment.records if record["kind"] == STATE]
    if states:
        payload = states[-1][1]["payload"]
        length = u32(payload, 0)
        target = payload[8 : 8 + length].decode()
        settled += ranges(payload[8 + length :])
    since = states[-1][0] if states else 0
    for segment in segments[since:]:
        for record in segment.records:
            settled += ranges(record["payload"]) if record["kind"] == SETTLED else []
    found = []
    for segment in segments:
        schemas = {record["at"]: record["payload"] for record in segment.records if record["kind"] == SCHEMA}
        for record in segment.records:
            if record["kind"] != BATCHES or record["schema"] not in schemas:
                continue
            position, rows = record["position"], record["rows"]
            table = pa.ipc.open_stream(schemas[record["schema"]] + record["payload"]).read_all()
            if table.num_rows != rows:
                sys.exit(f"{segment.name}: {table.num_rows} rows at {record['at']}, not {rows}")
            left = without(position, position + rows, settled)
            found.append(dict(position=position, rows=rows, identity=record["identity"], left=left))
            if out and left:
                with pa.ipc.new_stream(os.path.join(out, f"{position:020}.arrow"), table.schema) as stream:
                    for low, high in left:
                        stream.write_table(table.slice(low - position, high - low))
    damaged = {segment.name: segment.damaged for segment in segments if segment.damaged}
    answer = dict(id=spool and spool.hex(), target=target, settled_through=through, damaged=damaged, records=found)
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
