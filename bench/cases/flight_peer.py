"""What pyarrow's Flight client takes for what flight_client.mjs sends: a job a line in, what it took a line out."""

import functools
import json
import resource
import sys
import time

import pyarrow as pa
import pyarrow.flight as flight


@functools.cache
def ring(rows, size):
    """Batches of the same rows, each over memory of its own."""

    def batch():
        row = range(rows)
        return pa.record_batch(
            {
                "id": pa.array([r * 7919 for r in row], pa.int64()),
                "value": pa.array([r / 3.0 for r in row]),
                "code": pa.array([r % 1000 for r in row], pa.int32()),
                "name": pa.array([f"name-{r * 31 % 99_991:011}" for r in row]),
                "at": pa.array([1_700_000_000_000_000 + r for r in row], pa.timestamp("us")),
            }
        )

    return [batch() for _ in range(size)]


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def throughput(client, batches, count):
    start, cpu = time.perf_counter(), cpu_seconds()
    writer, _ = client.do_put(flight.FlightDescriptor.for_path("a", "b"), batches[0].schema)
    for index in range(count):
        writer.write_batch(batches[index % len(batches)])
    writer.done_writing()
    writer.close()
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    return {"bytes": batches[0].nbytes * count, "batches": count, "seconds": seconds, "cpu": cpu}


def latency(client, batches, count):
    writer, reader = client.do_put(flight.FlightDescriptor.for_path("a", "b"), batches[0].schema)
    took = []
    for index in range(count):
        start = time.perf_counter()
        writer.write_batch(batches[index % len(batches)])
        reader.read()
        took.append((time.perf_counter() - start) * 1e6)
    writer.done_writing()
    writer.close()
    return {"us": took}


def arrived(client):
    (result,) = client.do_action(flight.Action("rows", b""))
    return {"rows": int(result.body.to_pybytes())}


for line in sys.stdin:
    job = json.loads(line)
    client = flight.connect(f"grpc://127.0.0.1:{job['port']}")
    if job["job"] == "rows":
        done = arrived(client)
    else:
        work = {"throughput": throughput, "latency": latency}[job["job"]]
        done = work(client, ring(job["rows"], job["ring"]), job["count"])
    print(json.dumps(done), flush=True)
    client.close()
