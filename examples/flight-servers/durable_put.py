"""A Flight server that keeps what it is sent, and answers as specs/flight-ack.md says.

    python durable_put.py [--port 8815]        then:  connect("grpc://127.0.0.1:8815/flights",
                                                             { flight: { acknowledgement: "cumulative" } })

What matters is `Producers.take`: it says which part of a put is new. Keep what it keeps together with the rows,
in one transaction, and no row is ever there twice.
"""

import argparse
import json
import threading

import pyarrow as pa
import pyarrow.flight as flight


class Producers:
    """How far each producer got: epoch, sequence of its last write, rows of that write; and what its spool left."""

    def __init__(self):
        self.state = {}
        self.openings = {}

    def take(self, said):
        """Returns whether the rows of this part are new."""
        epoch, *done = self.state.get(said["producer"], (0, 0, 0))
        if said["epoch"] < epoch:
            raise flight.FlightCancelledError("a newer session of this producer is here")
        part = [said["sequence"], said["through"]]
        new = part > done
        self.state[said["producer"]] = (said["epoch"], *max(part, done))
        if new and "opening" in said:
            self.openings[said["producer"]] = said["opening"]
        return new

    def answer(self, said):
        _, sequence, through = self.state[said["producer"]]
        opening = self.openings.get(said["producer"])
        more = {} if opening is None else {"opening": opening}
        return json.dumps({"v": 1, "sequence": sequence, "through": through, **more}).encode()


class Server(flight.FlightServerBase):
    def __init__(self, location):
        super().__init__(location)
        self.lock = threading.Lock()
        self.producers = Producers()
        self.tables = {}

    def do_put(self, context, descriptor, reader, writer):
        name = b"/".join(descriptor.path).decode()
        for chunk in reader:
            said = json.loads(chunk.app_metadata.to_pybytes())
            with self.lock:  # stands for the transaction
                if self.producers.take(said):
                    self.tables.setdefault(name, []).append(chunk.data)
                answer = self.producers.answer(said)
            writer.write(pa.py_buffer(answer))

    def do_get(self, context, ticket):
        with self.lock:
            return flight.RecordBatchStream(pa.Table.from_batches(self.tables[ticket.ticket.decode()]))

    def do_action(self, context, action):  # tells how many rows a table has; the tests ask
        with self.lock:
            return [str(sum(batch.num_rows for batch in self.tables.get(action.body.to_pybytes().decode(), []))).encode()]


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, default=0)
    server = Server(f"grpc://127.0.0.1:{arguments.parse_args().port}")
    print(server.port, flush=True)
    server.serve()
