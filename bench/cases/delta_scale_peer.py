"""What delta-scale.mjs asks of Python: a job a line in, what came of it a line out.

`partitions`: `write_deltalake` of a million rows by partition, followed by syncing the same files and directories.
`table`: a log that names many files which do not exist, with or without a checkpoint: nobody reads them.
"""

import json
import os
import shutil
import sys
import time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import write_deltalake

SCHEMA = json.dumps(
    {
        "type": "struct",
        "fields": [
            {"name": name, "type": kind, "nullable": True, "metadata": {}}
            for name, kind in [("id", "long"), ("value", "double"), ("key", "string")]
        ],
    }
)
PROTOCOL = {"minReaderVersion": 1, "minWriterVersion": 2}


def rows(count, keys):
    ids = pa.array(range(count), pa.int64())
    numbers = [row * 2_654_435_761 % keys for row in range(count)]
    names = pa.array([f"k{number:07d}" for number in numbers])
    return pa.table({"id": ids, "value": pc.divide(pc.cast(ids, pa.float64()), 3.0), "key": names})


def partitions(job):
    table = made.setdefault((job["rows"], job["keys"]), None) or rows(job["rows"], job["keys"] or 1_000)
    made[job["rows"], job["keys"]] = table
    target = job["target"]
    by = ["key"] if job["keys"] else None
    start = time.perf_counter()
    write_deltalake(target, table, partition_by=by, storage_options=job.get("storage"))
    written = time.perf_counter() - start
    files = size = 0
    if "://" not in target:
        for folder, _, names in os.walk(target):
            for path in [os.path.join(folder, name) for name in names] + [folder]:
                handle = os.open(path, os.O_RDONLY)
                os.fsync(handle)
                os.close(handle)
            parquet = [name for name in names if name.endswith(".parquet")]
            files += len(parquet)
            size += sum(os.path.getsize(os.path.join(folder, name)) for name in parquet)
        synced = time.perf_counter() - start
        shutil.rmtree(target)
    else:
        synced = written
    return {"seconds": written, "syncedSeconds": synced, "files": files, "bytes": size}


def adds(first, count):
    for number in range(first, first + count):
        stats = {
            "numRecords": 1000,
            "minValues": {"id": number * 1000},
            "maxValues": {"id": number * 1000 + 999},
            "nullCount": {"id": 0},
        }
        yield {
            "path": f"part-00000-{number:032x}-c000.snappy.parquet",
            "partitionValues": {},
            "size": 12_345,
            "modificationTime": 1_700_000_000_000,
            "dataChange": True,
            "stats": json.dumps(stats, separators=(",", ":")),
        }


def table(job):
    log = os.path.join(job["target"], "_delta_log")
    os.makedirs(log)
    meta = {
        "id": "3f1d0b6e-0000-4000-8000-000000000000",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": SCHEMA,
        "partitionColumns": [],
        "configuration": {},
        "createdTime": 1,
    }
    versions, files = job["versions"], job["files"]
    for version in range(versions):
        if job["checkpoint"] and version < versions - 1:
            continue
        with open(f"{log}/{version:020d}.json", "w") as out:
            if version == 0:
                out.write(json.dumps({"protocol": PROTOCOL}) + "\n" + json.dumps({"metaData": meta}) + "\n")
            some = files // versions
            for add in adds(version * some, some):
                out.write(json.dumps({"add": add}, separators=(",", ":")) + "\n")
    if job["checkpoint"]:
        checkpoint(log, versions - 1, files, meta)
    return {}


def checkpoint(log, version, files, meta):
    texts = pa.map_(pa.string(), pa.string())
    add = pa.struct(
        [
            ("path", pa.string()),
            ("partitionValues", texts),
            ("size", pa.int64()),
            ("modificationTime", pa.int64()),
            ("dataChange", pa.bool_()),
            ("stats", pa.string()),
        ]
    )
    protocol = pa.struct([("minReaderVersion", pa.int32()), ("minWriterVersion", pa.int32())])
    metadata = pa.struct(
        [
            ("id", pa.string()),
            ("format", pa.struct([("provider", pa.string()), ("options", texts)])),
            ("schemaString", pa.string()),
            ("partitionColumns", pa.list_(pa.string())),
            ("configuration", texts),
            ("createdTime", pa.int64()),
        ]
    )
    schema = pa.schema([("protocol", protocol), ("metaData", metadata), ("add", add)])
    meta = {**meta, "format": {"provider": "parquet", "options": []}, "configuration": []}
    with pq.ParquetWriter(f"{log}/{version:020d}.checkpoint.parquet", schema) as writer:
        first = [{"protocol": PROTOCOL}, {"metaData": meta}]
        writer.write_table(pa.Table.from_pylist(first, schema))
        for start in range(0, files, 100_000):
            some = [{"add": {**one, "partitionValues": []}} for one in adds(start, min(100_000, files - start))]
            writer.write_table(pa.Table.from_pylist(some, schema))
    with open(f"{log}/_last_checkpoint", "w") as out:
        json.dump({"version": version, "size": files + 2}, out)


made = {}
jobs = {"partitions": partitions, "table": table}
for line in sys.stdin:
    job = json.loads(line)
    print(json.dumps(jobs[job["job"]](job)), flush=True)
