"""What pyarrow's Flight client takes for what flight.rs sends: <port> <rows per batch> <batches>."""

import json
import sys
import time

import pyarrow as pa
import pyarrow.flight as flight

port, rows, batches = map(int, sys.argv[1:])
row = range(rows)
batch = pa.record_batch(
    {
        "id": pa.array([r * 7919 for r in row], pa.int64()),
        "value": pa.array([r / 3.0 for r in row]),
        "code": pa.array([r % 1000 for r in row], pa.int32()),
        "name": pa.array([f"name-{r * 31 % 99_991:011}" for r in row]),
        "at": pa.array([1_700_000_000_000_000 + r for r in row], pa.timestamp("us")),
    }
)
client = flight.connect(f"grpc://127.0.0.1:{port}")
start, cpu = time.perf_counter(), time.process_time()
writer, _ = client.do_put(flight.FlightDescriptor.for_path("a", "b"), batch.schema)
for _ in range(batches):
    writer.write_batch(batch)
writer.done_writing()
writer.close()
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
print(json.dumps({"bytes": batch.nbytes * batches, "seconds": seconds, "cpu": cpu}))
