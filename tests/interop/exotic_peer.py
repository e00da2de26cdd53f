"""Streams and files that only others write: types without a place in JavaScript, and rare ways to write them."""

import base64
import decimal
import io

import pyarrow as pa
import pyarrow.ipc as ipc

WORDS = ["a", None, "a longer text than twelve bytes", "", "é🎉", "b", None]


def table(array, name="x"):
    return pa.table({name: array, "row": pa.array(range(len(array)), pa.int64())})


def written(tables, file=False, **options):
    sink = io.BytesIO()
    make = ipc.new_file if file else ipc.new_stream
    with make(sink, tables[0].schema, options=ipc.IpcWriteOptions(**options)) as writer:
        for one in tables:
            writer.write_table(one, max_chunksize=3)
    return sink.getvalue()


def arrays():
    digits = [decimal.Decimal("1.23"), None, decimal.Decimal("-9.99"), decimal.Decimal("0.00")] * 2
    lists = [[1, 2], None, [], [3, None], [4]]
    struct = pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}])
    yield "run ends", pa.RunEndEncodedArray.from_arrays(pa.array([2, 3, 7], pa.int32()), pa.array(["a", None, "b"]))
    yield "run ends of 16 bits", pa.RunEndEncodedArray.from_arrays(pa.array([1, 5], pa.int16()), pa.array([1.5, 2.5]))
    yield "run ends of structs", pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 6], pa.int64()), struct)
    yield "list views", pa.array(lists, pa.list_view(pa.int32()))
    yield "list views out of order", pa.ListViewArray.from_arrays(
        pa.array([4, 0, 2], pa.int32()), pa.array([2, 3, 2], pa.int32()), pa.array(range(8))
    )
    yield "large list views", pa.array([WORDS, None, [], WORDS], pa.large_list_view(pa.string_view()))
    yield "string views", pa.array(WORDS, pa.string_view())
    yield "binary views", pa.array([w and w.encode() for w in WORDS], pa.binary_view())
    for kind in (pa.decimal32(3, 2), pa.decimal64(10, 2), pa.decimal128(38, 2), pa.decimal256(60, 2)):
        yield str(kind), pa.array(digits, kind)
    yield "month, day, nano", pa.array([(1, 2, 3), None, (-1, 0, 2**62)], pa.month_day_nano_interval())
    yield "half floats", pa.array([1.5, None, float("inf"), -0.0], pa.float16())
    yield "dictionary of lists", pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 4], pa.int16()), pa.array(lists))
    yield "ordered dictionary", pa.DictionaryArray.from_arrays(pa.array([2, 0]), pa.array(["x", "y", "z"]), ordered=True)
    yield "keys of 64 bits", pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.uint64()), pa.array(["x", "y"]))
    yield "dense union", pa.UnionArray.from_dense(
        pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32()), [pa.array([1, 2]), pa.array(["x"])]
    )
    yield "sparse union", pa.UnionArray.from_sparse(
        pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["x", None])], ["n", "s"], [0, 1]
    )
    yield "extension", pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16), None], pa.binary(16)))
    yield "nulls", pa.nulls(5)
    yield "map", pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64(), keys_sorted=True))
    yield "sliced", pa.array(WORDS * 5).slice(7, 19)
    yield "all null", pa.array([None] * 9, pa.list_(pa.struct([("a", pa.string())])))
    yield "deep", pa.array([[[{"a": [["x"]]}]], None], pa.list_(pa.list_(pa.struct([("a", pa.list_(pa.list_(pa.string())))]))))


def exotic_streams():
    found = []

    def add(name, data):
        found.append({"name": name, "bytes": base64.b64encode(data).decode()})

    for name, array in arrays():
        one = table(array)
        add(name, written([one]))
        add(f"{name}, as a file", written([one], file=True))
    plain = table(pa.array(WORDS * 40))
    for codec in ("lz4", "zstd"):
        add(codec, written([plain], compression=codec))
        add(f"{codec}, as a file", written([plain], file=True, compression=codec))
    words = [table(pa.array(some).dictionary_encode()) for some in (["a", "b"], ["c", "a", "d"], ["a", "b", "c"])]
    add("dictionaries that replace each other", written(words))
    grown = [
        table(pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(values)))
        for values in (["a", "b"], ["a", "b", "c"], ["a", "b", "c", "d"])
    ]
    add("dictionaries that grow by deltas", written(grown, emit_dictionary_deltas=True))
    add("dictionaries that grow by deltas, as a file", written(grown, file=True, emit_dictionary_deltas=True))
    noted = plain.replace_schema_metadata({"k": "v", "pandas": "{}" * 1_000})
    add("metadata", written([noted]))
    add("without its end", written([plain])[:-8])
    add("old alignment", written([plain], use_legacy_format=True))
    add("metadata of version 4", written([plain], metadata_version=ipc.MetadataVersion.V4))
    add("no rows", written([plain.slice(0, 0)]))
    add("no columns", written([pa.table({})]))
    return found


OPS = {"exotic_streams": exotic_streams}
