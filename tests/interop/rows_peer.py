"""The same rows, built by pyarrow from JSON in which each value says in text what it is."""

import base64
import datetime
import decimal

import pyarrow as pa
import pyarrow.ipc as ipc

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def unit_of(kind):
    return PER_SECOND[kind.unit]


def value(tag, kind):
    """`tag` as what pyarrow makes a value of `kind` of. What a calendar says is worked out here, by Python's."""
    if tag is None:
        return None
    types = pa.types
    if types.is_dictionary(kind):
        return value(tag, kind.value_type)
    if types.is_integer(kind):
        return int(tag)
    if types.is_floating(kind):
        return float(tag)
    if types.is_decimal(kind):
        return decimal.Decimal(tag)
    if types.is_boolean(kind) or types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return tag
    if (
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    ):
        return base64.b64decode(tag)
    if types.is_date32(kind):
        return (datetime.date.fromisoformat(tag) - EPOCH.date()).days
    if types.is_date64(kind):
        return (datetime.date.fromisoformat(tag) - EPOCH.date()).days * 86_400_000
    if types.is_time(kind):
        text, nanos = tag
        at = datetime.time.fromisoformat(text)
        seconds = at.hour * 3600 + at.minute * 60 + at.second
        return seconds * unit_of(kind) + nanos * unit_of(kind) // 10**9
    if types.is_timestamp(kind):
        text, nanos = tag
        at = datetime.datetime.fromisoformat(text)
        at = at if at.tzinfo else at.replace(tzinfo=datetime.timezone.utc)
        seconds = (at - EPOCH) // datetime.timedelta(seconds=1)
        return seconds * unit_of(kind) + nanos * unit_of(kind) // 10**9
    if types.is_duration(kind):
        return int(tag)
    if types.is_interval(kind):
        return pa.MonthDayNano([int(part) for part in tag])
    if types.is_map(kind):
        return [(value(key, kind.key_type), value(item, kind.item_type)) for key, item in tag]
    if types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return {field.name: value(tag.get(field.name), field.type) for field in fields}
    return [value(item, kind.value_type) for item in tag]


def rows_compare(cases):
    # Run as a program, that module has no other name.
    from __main__ import differ

    answers = []
    for case in cases:
        with ipc.open_stream(base64.b64decode(case["stream"])) as stream:
            got = stream.read_all()
        why = None
        if got.num_rows != len(case["rows"]):
            why = f"{len(case['rows'])} rows became {got.num_rows}"
        for field in got.schema:
            values = [value(row.get(field.name), field.type) for row in case["rows"]]
            expected = pa.chunked_array([pa.array(values, type=field.type)])
            why = why or differ(field.name, expected, got[field.name])
        answers.append(why)
    return answers


OPS = {"rows_compare": rows_compare}
