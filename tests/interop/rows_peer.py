"""The same rows, built by pyarrow from JSON in which each value says in text what it is, and what they became."""

import base64
import datetime
import decimal
import re

import pyarrow as pa
import pyarrow.ipc as ipc

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
types = pa.types

# pyarrow shows these, and has neither arrays nor values of them.
WITHOUT_ARRAYS = {"month_interval": r"null|-?\d+M", "day_time_interval": r"null|-?\d+d-?\d+ms"}


def is_list(kind):
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def is_text(kind):
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def is_bytes(kind):
    return (
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def whole(seconds, nanos, kind):
    """A count of the unit. Nothing may be lost: what was given is held by the type."""
    count, rest = divmod(nanos * PER_SECOND[kind.unit], 10**9)
    assert rest == 0, (seconds, nanos, kind)
    return seconds * PER_SECOND[kind.unit] + count


def value(tag, kind):
    """`tag` as what pyarrow makes a value of `kind` of. What a calendar says is worked out here, by Python's."""
    if tag is None:
        return None
    if types.is_dictionary(kind):
        return value(tag, kind.value_type)
    if types.is_integer(kind):
        return int(tag)
    if types.is_floating(kind):
        return float(tag)
    if types.is_decimal(kind):
        return decimal.Decimal(tag)
    if types.is_boolean(kind) or is_text(kind):
        return tag
    if is_bytes(kind):
        return base64.b64decode(tag)
    if types.is_date32(kind):
        return (datetime.date.fromisoformat(tag) - EPOCH.date()).days
    if types.is_date64(kind):
        return (datetime.date.fromisoformat(tag) - EPOCH.date()).days * 86_400_000
    if types.is_time(kind):
        text, nanos = tag
        at = datetime.time.fromisoformat(text)
        return whole(at.hour * 3600 + at.minute * 60 + at.second, nanos, kind)
    if types.is_timestamp(kind):
        text, nanos = tag
        at = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.timezone.utc)
        return whole((at - EPOCH) // datetime.timedelta(seconds=1), nanos, kind)
    if types.is_duration(kind):
        return int(tag)
    if types.is_interval(kind):
        return pa.MonthDayNano([int(part) for part in tag])
    if types.is_map(kind):
        return [(value(key, kind.key_type), value(item, kind.item_type)) for key, item in tag]
    if types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return {field.name: value(tag.get(field.name), field.type) for field in fields}
    assert is_list(kind), kind
    return [value(item, kind.value_type) for item in tag]


def plain(kind):
    """The type without its dictionaries: pyarrow makes no arrays of lists of them out of values."""
    if types.is_dictionary(kind):
        return plain(kind.value_type)
    if types.is_map(kind):
        return pa.map_(plain(kind.key_type), plain(kind.item_type))
    if types.is_struct(kind):
        return pa.struct([(field.name, plain(field.type)) for field in kind])
    if types.is_fixed_size_list(kind):
        return pa.list_(plain(kind.value_type), kind.list_size)
    if types.is_large_list(kind):
        return pa.large_list(plain(kind.value_type))
    return pa.list_(plain(kind.value_type)) if types.is_list(kind) else kind


def in_delta(kind):
    """What a Delta table makes of a type, without the names and the nullability of what is within: in words."""
    if types.is_dictionary(kind):
        return in_delta(kind.value_type)
    if types.is_map(kind):
        return f"map<{in_delta(kind.key_type)}, {in_delta(kind.item_type)}>"
    if types.is_struct(kind):
        return "struct<" + ", ".join(f"{field.name}: {in_delta(field.type)}" for field in kind) + ">"
    if is_list(kind):
        return f"list<{in_delta(kind.value_type)}>"
    if is_text(kind):
        return "string"
    if is_bytes(kind):
        return "binary"
    if types.is_date(kind):
        return "date32[day]"
    if types.is_timestamp(kind):
        return "timestamp[us]" if kind.tz is None else "timestamp[us, tz=UTC]"
    if types.is_decimal(kind):
        return f"decimal128({kind.precision}, {kind.scale})"
    return str(kind)


def by_flight(kind):
    """The same for Flight, which may send a dictionary as its values and changes nothing else."""
    if types.is_dictionary(kind):
        return by_flight(kind.value_type)
    if types.is_map(kind):
        return f"map<{by_flight(kind.key_type)}, {by_flight(kind.item_type)}>"
    if types.is_struct(kind):
        return "struct<" + ", ".join(f"{field.name}: {by_flight(field.type)}" for field in kind) + ">"
    if is_list(kind):
        # With 64-bit offsets, of a fixed size, or neither.
        return f"{str(kind).split('<')[0]}<{by_flight(kind.value_type)}>{str(kind).rpartition('>')[2]}"
    return str(kind)


def exact(array):
    """An array as values of Python that lose nothing: counts in the place of what a calendar says."""
    kind = array.type
    if types.is_dictionary(kind):
        values = exact(array.dictionary)
        return [None if at is None else values[at] for at in array.indices.to_pylist()]
    if types.is_date32(kind) or types.is_time32(kind):
        return array.view(pa.int32()).to_pylist()
    if types.is_date64(kind) or types.is_time64(kind) or types.is_timestamp(kind) or types.is_duration(kind):
        return array.view(pa.int64()).to_pylist()
    if types.is_struct(kind):
        columns = {kind.field(i).name: exact(column) for i, column in enumerate(array.flatten())}
        rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
        return [row if there else None for row, there in zip(rows, array.is_valid().to_pylist())]
    if types.is_map(kind) or is_list(kind):
        if types.is_map(kind):
            items = list(zip(exact(array.keys), exact(array.items)))
        else:
            items = exact(array.values)
        if types.is_fixed_size_list(kind):
            ends = [(array.offset + i) * kind.list_size for i in range(len(array) + 1)]
        else:
            ends = array.offsets.to_pylist()
        valid = array.is_valid().to_pylist()
        return [items[ends[i] : ends[i + 1]] if there else None for i, there in enumerate(valid)]
    return array.to_pylist()


def column_of(chunked):
    pattern = WITHOUT_ARRAYS.get(str(chunked.type))
    if pattern:
        return re.findall(pattern, chunked.to_string(window=len(chunked) + 1, container_window=len(chunked) + 1))
    return [one for chunk in chunked.chunks for one in exact(chunk)]


def expected_of(tags, kind):
    if str(kind) == "month_interval":
        return ["null" if tag is None else f"{tag}M" for tag in tags]
    if str(kind) == "day_time_interval":
        return ["null" if tag is None else f"{tag[0]}d{tag[1]}ms" for tag in tags]
    made = pa.array([value(tag, kind) for tag in tags], type=plain(kind))
    made.validate(full=True)
    return exact(made)


def differ(got, tags, order=None):
    """Why a table holds other values than these, or None. `order`: in which order its rows are meant."""
    if got.num_rows != len(tags):
        return f"{len(tags)} rows became {got.num_rows}"
    got.validate(full=not any(str(field.type) in WITHOUT_ARRAYS for field in got.schema))
    for name in got.schema.names:
        column = got[name]
        found = column_of(column)
        if order is not None:
            found = [found[at] for at in order]
        expected = expected_of([tag.get(name) for tag in tags], column.type)
        for row, (a, b) in enumerate(zip(expected, found, strict=True)):
            # As text, so that -0 is not 0 and NaN is NaN.
            if repr(a) != repr(b):
                return f"{name}, row {row}: {a!r} became {b!r}"
    return None


def rows_compare(cases):
    answers = []
    for case in cases:
        tables = [ipc.open_stream(base64.b64decode(stream)).read_all() for stream in case["streams"]]
        if tables:
            answers.append(differ(pa.concat_tables(tables), case["rows"]))
        else:
            answers.append(f"{len(case['rows'])} rows became none" if case["rows"] else None)
    return answers


def shapes(given, got, shape):
    """Why the columns of a table are not those of the schema, or None."""
    want = {field.name: shape(field.type) for field in ipc.open_stream(base64.b64decode(given)).schema}
    have = {field.name: shape(field.type) for field in got.schema}
    return None if want == have else f"{want} became {have}"


def rows_delta(path, schema, rows):
    from deltalake import DeltaTable

    got = DeltaTable(path).to_pyarrow_table()
    numbers = got["row"].to_pylist()
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    return shapes(schema, got, in_delta) or differ(got, rows, order)


def rows_flight(location, ticket, schema, rows):
    import pyarrow.flight as flight

    with flight.connect(location) as client:
        got = client.do_get(flight.Ticket(ticket.encode())).read_all()
    return shapes(schema, got, by_flight) or differ(got, rows)


OPS = {"rows_compare": rows_compare, "rows_delta": rows_delta, "rows_flight": rows_flight}
