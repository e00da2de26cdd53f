"""Writes the table it was given once per line on standard input, and prints the seconds it took."""

import shutil
import sys
import time

import pyarrow as pa
from deltalake import write_deltalake

source, lake = sys.argv[1:3]
with pa.OSFile(source, "rb") as file:
    table = pa.ipc.open_stream(file.read()).read_all()
print("ready", flush=True)
for turn in sys.stdin:
    target = f"{lake}/peer-{turn.strip()}"
    start = time.perf_counter()
    write_deltalake(target, table)
    print(time.perf_counter() - start, flush=True)
    shutil.rmtree(target)
