"""What other readers and writers of Delta Lake see of our tables, and do to them."""

import base64
import datetime

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
from deltalake import DeltaTable, QueryBuilder, write_deltalake


def given(streams):
    return pa.concat_tables([ipc.open_stream(base64.b64decode(stream)).read_all() for stream in streams])


def values(array):
    """As Python values; instants as integers, since Python's years end at 9999."""
    if pa.types.is_dictionary(array.type):
        array = pa.chunked_array([chunk.dictionary_decode() for chunk in array.chunks], array.type.value_type)
    if pa.types.is_timestamp(array.type):
        unit = {"s": 1_000_000, "ms": 1_000, "us": 1}.get(array.type.unit)
        whole = array.cast(pa.int64()).to_pylist()
        if unit is None:
            return [None if value is None else value // 1_000 for value in whole]
        return [None if value is None else value * unit for value in whole]
    if pa.types.is_date64(array.type):
        whole = array.cast(pa.int64()).to_pylist()
        return [None if value is None else value // 86_400_000 for value in whole]
    if pa.types.is_date32(array.type):
        return array.cast(pa.int32()).to_pylist()
    return array.to_pylist()


def different(expected, got, order_by=None):
    if expected.num_rows != got.num_rows:
        return f"{expected.num_rows} rows became {got.num_rows}"
    if sorted(expected.column_names) != sorted(got.column_names):
        return f"columns {expected.column_names} became {got.column_names}"
    if order_by:
        expected, got = expected.sort_by(order_by), got.sort_by(order_by)
    for name in expected.column_names:
        ours, theirs = values(expected[name]), values(got[name])
        for row, (a, b) in enumerate(zip(ours, theirs)):
            if a != b and repr(a) != repr(b):
                return f"{name}, row {row}: {a!r} became {b!r}"
    return None


def delta_equal(path, expected, order_by=None, storage=None):
    """Read by deltalake, by a pyarrow dataset of its files, and by polars."""
    want = given(expected)
    table = DeltaTable(path, storage_options=storage)
    answers = {"deltalake": different(want, table.to_pyarrow_table(), order_by)}
    if storage is None:
        rows = sum(pq.read_metadata(file).num_rows for file in table.file_uris())
        answers["files"] = None if rows == want.num_rows else f"{want.num_rows} rows became {rows}"
    try:
        frame = pl.read_delta(path, storage_options=storage).to_arrow()
        answers["polars"] = different(want, frame, order_by)
    except pl.exceptions.PolarsError as error:
        answers["polars"] = f"cannot: {error}"
    return answers


def delta_rows(path, column, storage=None):
    """All values of an integer column, sorted, and what the log says of the table."""
    table = DeltaTable(path, storage_options=storage)
    read = table.to_pyarrow_table(columns=[column])[column].to_pylist()
    polars = pl.scan_delta(path, storage_options=storage).select(column).collect()[column].to_list()
    return {
        "values": sorted(read),
        "polars": sorted(polars),
        "version": table.version(),
        "files": len(table.file_uris()),
        "columns": [field.name for field in table.schema().fields],
        "partitions": table.metadata().partition_columns,
    }


def delta_search(path, column, value):
    """What is found by a search, and in how many of the files the statistics allow it to be."""
    table = DeltaTable(path)
    dataset = table.to_pyarrow_dataset()
    wanted = pc.field(column) == value
    found = dataset.to_table(filter=wanted)
    plain = table.to_pyarrow_table()
    lazy = pl.scan_delta(path).filter(pl.col(column) == value).collect()
    return {
        "rows": found.num_rows,
        "all": plain.filter(pc.equal(plain[column], value)).num_rows,
        "polars": lazy.height,
        "files": len(list(dataset.get_fragments(filter=wanted))),
        "of": len(table.file_uris()),
    }


def delta_between(path, column, low, high):
    """Rows from `low` to `high`, both dates or instants as ISO text: by hand, and by each reader that can skip files."""
    table = DeltaTable(path)
    plain = table.to_pyarrow_table()
    kind = plain[column].type
    if pa.types.is_date(kind):
        ends = [datetime.date.fromisoformat(end) for end in (low, high)]
    else:
        ends = [datetime.datetime.fromisoformat(end).replace(tzinfo=datetime.timezone.utc) for end in (low, high)]
    first, last = [pa.scalar(end, kind) for end in ends]
    # DataFusion reads a literal of a time as nanoseconds, which do not reach that far; so it is cast from text.
    name = "arrow_cast('{}', 'Date32')" if pa.types.is_date(kind) else "arrow_cast('{}', 'Timestamp(Microsecond, Some(\"UTC\"))')"
    texts = [name.format(end) for end in (low, high)]
    query = f"select id from t where {column} >= {texts[0]} and {column} <= {texts[1]}"
    found = QueryBuilder().register("t", table).execute(query).read_all()
    within = (pc.field(column) >= first) & (pc.field(column) <= last)
    lazy = pl.scan_delta(path).filter((pl.col(column) >= ends[0]) & (pl.col(column) <= ends[1])).collect()
    return {
        "all": plain.filter(pc.and_(pc.greater_equal(plain[column], first), pc.less_equal(plain[column], last))).num_rows,
        "dataset": table.to_pyarrow_dataset().to_table(filter=within).num_rows,
        "query": found.num_rows,
        "polars": lazy.height,
    }


def delta_stats(path):
    actions = pa.table(DeltaTable(path).get_add_actions(flatten=True))
    # JSON has no infinities.
    return [{key: str(value) for key, value in row.items()} for row in actions.sort_by("path").to_pylist()]


def delta_append(path, start, count, times=1, storage=None, mode="append"):
    """`times` commits of `count` rows; conflicts are deltalake's to solve."""
    for turn in range(times):
        first = start + turn * count
        rows = pa.table({"id": pa.array(range(first, first + count), pa.int64()), "who": ["python"] * count})
        write_deltalake(path, rows, mode=mode, storage_options=storage)
    return DeltaTable(path, storage_options=storage).version()


def delta_maintain(path, action):
    table = DeltaTable(path)
    if action == "delete":
        return table.delete("who = 'python'")["num_deleted_rows"]
    if action == "compact":
        return table.optimize.compact()["numFilesRemoved"]
    if action == "vacuum":
        return len(table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False))
    if action == "checkpoint":
        table.create_checkpoint()
        return table.version()
    if action == "restore":
        return table.restore(0)
    raise ValueError(action)


def delta_feature(path, kind):
    """A table that our writer has to refuse."""
    rows = pa.table({"id": pa.array([1], pa.int64()), "who": ["python"]})
    configuration = {"cdf": {"delta.enableChangeDataFeed": "true"}}.get(kind)
    write_deltalake(path, rows, configuration=configuration)
    if kind == "constraint":
        DeltaTable(path).alter.add_constraint({"positive": "id > 0"})
    return DeltaTable(path).version()


OPS = {
    name: op
    for name, op in globals().items()
    if name.startswith("delta_") and callable(op)
}
