"""The other side of the interop tests: pyarrow, deltalake and polars behind one pipe.

A request is one line of JSON, {"op": …, …}; so is its answer, {"ok": …} or {"error": …}. Bytes are base64.
"""

import base64
import json
import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc


def read(text):
    """An IPC stream or file as (schema, batches)."""
    data = base64.b64decode(text)
    opened = ipc.open_file(data) if data[:6] == b"ARROW1" else ipc.open_stream(data)
    if isinstance(opened, ipc.RecordBatchFileReader):
        return opened.schema, [opened.get_batch(i) for i in range(opened.num_record_batches)]
    return opened.schema, list(opened)


def metadata(schema):
    """Everything that pyarrow's comparison of schemas may leave out, nested fields included."""

    def field(f):
        inner = [field(f.type.field(i)) for i in range(f.type.num_fields)]
        return [f.name, str(f.type), f.nullable, sorted((f.metadata or {}).items()), inner]

    return [sorted((schema.metadata or {}).items()), [field(f) for f in schema]]


def sound(array):
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def differ(name, left, right):
    """Why two chunked arrays hold different values, or None."""
    if left.type != right.type:
        return f"{name}: type {left.type} became {right.type}"
    if len(left) != len(right):
        return f"{name}: {len(left)} rows became {len(right)}"
    for chunk in right.chunks:
        # Some of the golden files hold values that their types forbid; arriving like that is right.
        chunk.validate(full=sound(left))
    if left.equals(right):
        return None
    # NaN equals nothing, and dictionaries may be in another order: look at the values.
    ours, theirs = left.to_pylist(), right.to_pylist()
    for row, (a, b) in enumerate(zip(ours, theirs)):
        if repr(a) != repr(b):
            return f"{name}, row {row}: {a!r} became {b!r}"
    return None


def compare(left, right, metadata_too=True):
    """Whether what went in is what came out; `right` is a list of streams, one after the other."""
    schema, batches = read(left)
    came = [read(stream) for stream in right]
    rows = sum(batch.num_rows for batch in batches)
    came_rows = sum(batch.num_rows for _, got in came for batch in got)
    if rows != came_rows:
        return f"{rows} rows became {came_rows}"
    for other, _ in came:
        if not schema.equals(other, check_metadata=False):
            return f"schema {schema} became {other}"
        if metadata_too and metadata(schema) != metadata(other):
            return f"metadata {metadata(schema)} became {metadata(other)}"
    got = [batch for _, some in came for batch in some]
    for index, field in enumerate(schema):
        why = differ(
            field.name,
            pa.chunked_array([batch.column(index) for batch in batches], type=field.type),
            pa.chunked_array([batch.column(index) for batch in got], type=field.type),
        )
        if why:
            return why
    return None


def compare_op(pairs):
    answers = []
    for pair in pairs:
        try:
            answers.append(compare(pair["left"], pair["right"], pair.get("metadata", True)))
        except Exception as error:  # noqa: BLE001 - what pyarrow cannot hold is an answer, too
            answers.append(f"{type(error).__name__}: {error}")
    return answers


OPS = {"compare": compare_op}


def main():
    # Beside this file.
    from delta_peer import OPS as delta
    from exotic_peer import OPS as exotic
    from flight_peer import OPS as flight
    from inputs_peer import OPS as inputs
    from rows_peer import OPS as rows

    OPS.update(delta)
    OPS.update(exotic)
    OPS.update(flight)
    OPS.update(inputs)
    OPS.update(rows)
    print(json.dumps({"ok": pa.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        op = request.pop("op")
        try:
            answer = {"ok": OPS[op](**request)}
        except Exception as error:  # noqa: BLE001
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    main()
