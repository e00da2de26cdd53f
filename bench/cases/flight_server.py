"""The pyarrow Flight server that all clients of flight.mjs send to: reads, counts, keeps nothing. Prints its port.
The action `rows` gives how many rows have come since it was asked last.

`--answers` writes one empty PutResult per part; `--pause` waits so many milliseconds after each part.
"""

import argparse
import time

import pyarrow.flight as flight


class Server(flight.FlightServerBase):
    def __init__(self, answers, pause):
        super().__init__("grpc://127.0.0.1:0")
        self.answers, self.pause, self.rows = answers, pause / 1e3, 0

    def do_put(self, context, descriptor, reader, writer):
        for chunk in reader:
            self.rows += chunk.data.num_rows
            if self.pause:
                time.sleep(self.pause)
            if self.answers:
                writer.write(b"")

    def do_action(self, context, action):
        rows, self.rows = self.rows, 0
        return [str(rows).encode()]


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--answers", action="store_true")
    arguments.add_argument("--pause", type=float, default=0)
    given = arguments.parse_args()
    server = Server(given.answers, given.pause)
    print(server.port, flush=True)
    server.serve()
