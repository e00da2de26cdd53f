"""Writes the table it was given once per line on standard input.

Prints the seconds that took, and the seconds with every file and folder synced afterwards: the promise that ours
makes before it acknowledges.
"""

import os
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
    written = time.perf_counter() - start
    for folder, _, names in os.walk(target):
        for path in [os.path.join(folder, name) for name in names] + [folder]:
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
    print(written, time.perf_counter() - start, flush=True)
    shutil.rmtree(target)
