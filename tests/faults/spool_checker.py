"""Holds what a destination has against what a producer was told to be durable.

    spool_checker.py delta  <table>              <acknowledged> [--kills <file> --window-ms <n>] [--aside <spool>]
    spool_checker.py flight <location>/<ticket>  <acknowledged>

`acknowledged` has a line for each answered enqueue: the first id of its rows, and the last, excluded. A row has an
`id`, a `hash` of it and a `text` of it, so that rows that were mixed up or changed are found.

Prints JSON:
  acknowledged, rows   ids that were promised, rows that are there
  lost                 promised ids that are not there, nor aside
  aside                ids in the spool's files of failed and refused rows (with --aside)
  both                 of these, those that are there as well
  twice                ids that are there more than once
  outside              of these, those that the stated window does not explain: before the second of two copies no
                       producer was killed between the grace before the first was written, as what is on its way at a
                       kill is written a little later, and the window after it (Delta tables, with --kills)
  changed              rows whose hash or text is not that of their id
each with the first few.
"""

import argparse
import bisect
import json
import pathlib
import sys

import pyarrow as pa
import pyarrow.compute as pc

FEW = 5


def promised(path):
    with open(path, encoding="ascii") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    return pa.chunked_array([pa.array(range(first, end), pa.int64()) for first, end in ranges] or [[]], pa.int64())


def unsigned(numbers):
    """int64 as uint64, bit for bit."""
    chunks = numbers.chunks if isinstance(numbers, pa.ChunkedArray) else [numbers]
    return pa.chunked_array([chunk.view(pa.uint64()) for chunk in chunks], pa.uint64())


def hashed(ids):
    """As `hashOf` of children/spooled-producer.mjs."""
    number = lambda value: pa.scalar(value, pa.uint64())
    word = pc.multiply(unsigned(ids), number(0x9E3779B97F4A7C15))
    word = pc.bit_wise_xor(word, pc.shift_right(word, number(29)))
    return pc.multiply(word, number(0xBF58476D1CE4E5B9))


def changed(table):
    ids = table["id"]
    quotient = pc.divide(ids, 5)
    texts = pc.binary_repeat(pc.cast(ids, pa.string()), pc.subtract(ids, pc.multiply(quotient, 5)))
    same = pc.and_(pc.equal(unsigned(table["hash"]), hashed(ids)), pc.equal(pc.cast(table["text"], pa.string()), texts))
    return pc.filter(ids, pc.invert(pc.fill_null(same, False)))


def some(ids):
    return {"count": len(ids), "first": sorted(ids.slice(0, FEW).to_pylist())}


def of_delta(path):
    """All rows; and the time at which each was written, in milliseconds since 1970."""
    from deltalake import DeltaTable

    table = DeltaTable(path)
    actions = pa.table(table.get_add_actions(flatten=True))
    written = dict(zip(actions["path"].to_pylist(), actions["modification_time"].cast(pa.int64()).to_pylist(), strict=True))
    parts, times = [], []
    import pyarrow.parquet as pq

    for name, time in written.items():
        part = pq.read_table(f"{path}/{name}", columns=["id", "hash", "text"])
        parts.append(part)
        times.append(pa.array([time] * part.num_rows, pa.int64()))
    if not parts:
        sys.exit(f"{path} has no rows")
    rows = pa.concat_tables(parts)
    return rows.append_column("time", pa.chunked_array(times))


def of_flight(url):
    import pyarrow.flight as flight

    location, ticket = url.rsplit("/", 1)
    return flight.connect(location).do_get(flight.Ticket(ticket.encode())).read_all()


def put_aside(spool):
    """The ids in files of failed and refused rows."""
    files = [file for folder in ("failed", "dead-letters") for file in sorted(pathlib.Path(spool, folder).glob("*.arrow"))]
    parts = [pa.ipc.open_file(str(file)).read_all()["id"] for file in files]
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], pa.int64()).unique()


def outside(rows, twice, kills, window_ms, grace_ms):
    """The ids of `twice` of which some copy is not explained by a kill about the time of the copy before it."""
    copies = rows.filter(pc.is_in(rows["id"], value_set=twice)).sort_by([("id", "ascending"), ("time", "ascending")])
    found, before = [], (None, None)
    for number, time in zip(copies["id"].to_pylist(), copies["time"].to_pylist(), strict=True):
        if number == before[0]:
            at = bisect.bisect_left(kills, before[1] - grace_ms)
            if at == len(kills) or kills[at] > time or kills[at] - before[1] > window_ms:
                found.append(number)
        before = (number, time)
    return pa.array(sorted(set(found)), pa.int64())


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("kind", choices=["delta", "flight"])
    arguments.add_argument("where")
    arguments.add_argument("acknowledged")
    arguments.add_argument("--kills", help="a line for each kill: its time in milliseconds since 1970")
    arguments.add_argument("--window-ms", type=int, default=0)
    arguments.add_argument("--grace-ms", type=int, default=0)
    arguments.add_argument("--aside", help="the spool's directory, with what was refused")
    given = arguments.parse_args()
    rows = of_delta(given.where) if given.kind == "delta" else of_flight(given.where)
    ids, wanted = rows["id"].combine_chunks(), promised(given.acknowledged)
    counts = pc.value_counts(ids)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    aside = put_aside(given.aside) if given.aside else pa.array([], pa.int64())
    safe = pa.concat_arrays([ids, aside])
    answer = {
        "acknowledged": len(wanted),
        "rows": len(ids),
        "lost": some(pc.filter(wanted, pc.invert(pc.is_in(wanted, value_set=safe)))),
        "aside": len(aside),
        "both": some(pc.filter(aside, pc.is_in(aside, value_set=ids))),
        "twice": some(twice),
        "changed": some(changed(rows)),
    }
    if given.kills:
        with open(given.kills, encoding="ascii") as file:
            kills = sorted(int(line) for line in file)
        answer["outside"] = some(outside(rows, twice, kills, given.window_ms, given.grace_ms))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
