"""Data for other libraries, and whether what arrived of it is what pyarrow reads of the same."""

import base64
import datetime
import decimal

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq


def table():
    """Every kind of column that the libraries have in common, with nulls, in batches of different lengths."""
    n = 1000
    some = [None if i % 7 == 3 else i for i in range(n)]

    def column(kind, of):
        return pa.array([None if i is None else of(i) for i in some], type=kind)

    epoch = datetime.datetime(1970, 1, 1)
    columns = {
        "i8": column(pa.int8(), lambda i: i % 256 - 128),
        "u16": column(pa.uint16(), lambda i: 65535 - i),
        "i32": column(pa.int32(), lambda i: -(2**31) + i),
        "i64": column(pa.int64(), lambda i: 2**62 + i),
        "u64": column(pa.uint64(), lambda i: 2**64 - 1 - i),
        "f32": column(pa.float32(), lambda i: i / 8),
        "f64": column(pa.float64(), lambda i: i / 3),
        "flag": column(pa.bool_(), lambda i: i % 3 == 0),
        "text": column(pa.string(), lambda i: "é" * (i % 40)),
        "large": column(pa.large_string(), lambda i: f"text {i}"),
        "bytes": column(pa.binary(), lambda i: bytes([i % 256]) * (i % 5)),
        "day": column(pa.date32(), lambda i: datetime.date(2020, 1, 1) + datetime.timedelta(i)),
        "at": column(pa.timestamp("us", "UTC"), lambda i: epoch + datetime.timedelta(microseconds=2**50 + i)),
        "wall": column(pa.timestamp("ns"), lambda i: 2**60 + i),
        "money": column(pa.decimal128(38, 4), lambda i: decimal.Decimal(10**30 + i).scaleb(-4)),
        "kind": column(pa.string(), lambda i: f"kind {i % 5}").dictionary_encode(),
        "list": column(pa.list_(pa.int32()), lambda i: list(range(i % 4))),
        "place": column(
            pa.struct([("x", pa.float64()), ("name", pa.string())]),
            lambda i: {"x": i / 2, "name": None if i % 2 else f"n{i}"},
        ),
    }
    whole = pa.table(columns)
    return pa.Table.from_batches(
        [batch for at, rows in [(0, 1), (1, 400), (401, 599)] for batch in whole.slice(at, rows).combine_chunks().to_batches()]
    )


def stream(data):
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, data.schema) as writer:
        writer.write_table(data)
    return base64.b64encode(sink.getvalue()).decode()


def inputs_make(parquet, without):
    data = table().drop_columns(without)
    pq.write_table(data, parquet, row_group_size=300)
    return stream(data)


def read(texts):
    tables = [ipc.open_stream(base64.b64decode(text)).read_all() for text in texts]
    # Each stream has dictionaries of its own.
    return pa.concat_tables([plain(one) for one in tables])


def plain(data):
    """Dictionaries as their values, views and small offsets as large ones: what is left to compare are the values."""

    def kind(given):
        types = pa.types
        if types.is_dictionary(given):
            return kind(given.value_type)
        if types.is_string(given) or types.is_string_view(given):
            return pa.large_string()
        if types.is_binary(given) or types.is_binary_view(given):
            return pa.large_binary()
        if types.is_list(given) or types.is_large_list(given):
            return pa.large_list(kind(given.value_type))
        if types.is_struct(given):
            return pa.struct([pa.field(f.name, kind(f.type)) for f in given])
        return given

    columns = []
    for column in data.columns:
        if pa.types.is_dictionary(column.type):
            column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], column.type.value_type)
        columns.append(column.cast(kind(column.type)))
    return pa.table(columns, names=data.column_names)


def inputs_compare(got, wanted=None, parquet=None):
    """Null where all values and types are equal; else the column that differs, and how."""
    right = plain(pq.read_table(parquet) if parquet else read([wanted]))
    left = read(got)
    if left.num_rows != right.num_rows or left.column_names != right.column_names:
        return f"{left.shape} {left.column_names} where {right.shape} {right.column_names} was wanted"
    for name in right.column_names:
        one, other = left[name].combine_chunks(), right[name].combine_chunks()
        if one.type != other.type:
            return f"{name}: {one.type} where {other.type} was wanted"
        if not one.equals(other):
            return f"{name}: {one.slice(0, 8)} where {other.slice(0, 8)} was wanted"
    return None


OPS = {"inputs_make": inputs_make, "inputs_compare": inputs_compare}
