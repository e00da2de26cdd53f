"""The same files, read by pyarrow; and Parquet as pyarrow writes it."""

import datetime
import decimal
import json
import random
import sys

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.json as ndjson
import pyarrow.parquet as pq
from deltalake import DeltaTable

FIELDS = [
    pa.field("id", pa.int64(), nullable=False),
    pa.field("small", pa.int16()),
    pa.field("x", pa.float64()),
    pa.field("price", pa.decimal128(18, 4)),
    pa.field("name", pa.string()),
    pa.field("ok", pa.bool_()),
    pa.field("day", pa.date32()),
    pa.field("at", pa.timestamp("us", "UTC")),
]


def same(expected, path):
    """What a Delta table holds, against a table that has the same rows in any order."""
    found = DeltaTable(path).to_pyarrow_table().select(expected.column_names)
    expected, found = expected.sort_by("id"), found.sort_by("id")
    if expected.num_rows != found.num_rows:
        return f"{expected.num_rows} rows became {found.num_rows}"
    for name in expected.column_names:
        ours, theirs = expected[name].to_pylist(), found[name].to_pylist()
        for row, (a, b) in enumerate(zip(ours, theirs)):
            if a != b and repr(a) != repr(b):
                return f"{name}, row {row}: {a!r} became {b!r}"
    return ""


def read_json(path):
    # Its reader makes decimals of numbers through doubles, so they stand in text; and no reader of it makes days.
    table = ndjson.read_json(
        path,
        parse_options=ndjson.ParseOptions(
            explicit_schema=pa.schema([f if f.name != "day" else pa.field("day", pa.string()) for f in FIELDS])
        ),
    )
    at = table.column_names.index("day")
    return table.set_column(at, "day", table["day"].cast(pa.date32()))


def read_csv(path):
    return csv.read_csv(
        path,
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types={f.name: f.type for f in FIELDS},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def write_parquet(path, codec):
    draw = random.Random(7)
    rows = 3_000

    def maybe(value):
        return None if draw.random() < 0.1 else value

    table = pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "price": pa.array([maybe(decimal.Decimal(draw.randrange(10**12)).scaleb(-4)) for _ in range(rows)], pa.decimal128(18, 4)),
            "word": pa.array([maybe(f"word {draw.randrange(50)}") for _ in range(rows)]),
            "day": pa.array([maybe(datetime.date(2026, 1, 1) + datetime.timedelta(draw.randrange(400))) for _ in range(rows)]),
            "tags": pa.array([maybe([maybe(f"t{i}") for i in range(draw.randrange(4))]) for _ in range(rows)], pa.list_(pa.string())),
            "place": pa.array([maybe({"a": draw.randrange(9), "b": maybe(draw.random())}) for _ in range(rows)], pa.struct([("a", pa.int64()), ("b", pa.float64())])),
        }
    )
    pq.write_table(table, path, row_group_size=700, compression=codec, data_page_version="2.0" if codec == "zstd" else "1.0")
    return table


op, *arguments = sys.argv[1:]
if op == "parquet":
    write_parquet(arguments[0], arguments[1])
    print(json.dumps(""))
else:
    path, lake = arguments
    read = {"json": read_json, "csv": read_csv, "same-parquet": pq.read_table}[op]
    print(json.dumps(same(read(path), lake)))
