"""A pyarrow Flight server that answers parts or not, and gives back what it was given.

Prints its port. `--discard` counts bytes instead of keeping rows, for the benchmarks. `--refuse` refuses any part
(answered by part) or stream that holds a negative number in that column, and keeps nothing of it.
"""

import argparse
import threading

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.flight as flight


class Server(flight.FlightServerBase):
    def __init__(self, location, answers, discard, refuse):
        super().__init__(location)
        self.answers, self.discard, self.refuse = answers, discard, refuse
        self.tables, self.rows = {}, 0
        self.lock = threading.Lock()

    def do_put(self, context, descriptor, reader, writer):
        name = b"/".join(descriptor.path).decode()
        batches = []
        for chunk in reader:
            if self.refuse:
                self.check(chunk.data)
            if self.discard:
                self.rows += chunk.data.num_rows
            else:
                batches.append(chunk.data)
            if self.refuse and self.answers == "part":
                self.keep(name, [batches.pop()], reader.schema)
            if self.answers == "part":
                writer.write(b"")
        if self.refuse:
            self.keep(name, batches, reader.schema)
        elif not self.discard:
            self.tables[name] = pa.Table.from_batches(batches, reader.schema)

    def check(self, batch):
        least = pc.min(batch.column(self.refuse)).as_py()
        if least is not None and least < 0:
            raise pa.ArrowInvalid(f"{self.refuse} must not be negative")

    def keep(self, name, batches, schema):
        """Several streams add up: the rows of a search come on one each."""
        new = pa.Table.from_batches(batches, schema)
        with self.lock:
            self.tables[name] = pa.concat_tables([self.tables[name], new]) if name in self.tables else new

    def get_schema(self, context, descriptor):
        name = b"/".join(descriptor.path).decode()
        if name not in self.tables:
            raise flight.FlightServerError(f"there is no {name}")
        return flight.SchemaResult(self.tables[name].schema)

    def do_get(self, context, ticket):
        return flight.RecordBatchStream(self.tables[ticket.ticket.decode()])

    def do_action(self, context, action):
        body = action.body.to_pybytes().decode()
        if action.type == "rows":
            return [str(self.rows).encode()]
        if action.type == "compare":  # name, then the stream file that it must equal
            name, path = body.split("\n")
            with pa.memory_map(path) as source:
                expected = pa.ipc.open_stream(source).read_all()
            found = self.tables[name]
            found.validate()
            same = found.schema.equals(expected.schema, check_metadata=True) and found.equals(expected)
            return [b"equal" if same else f"{found.schema}\n--- is not ---\n{expected.schema}".encode()]
        raise NotImplementedError(action.type)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--answers", choices=["none", "part"], default="none")
    arguments.add_argument("--discard", action="store_true")
    arguments.add_argument("--refuse", metavar="COLUMN")
    given = arguments.parse_args()
    server = Server("grpc://127.0.0.1:0", given.answers, given.discard, given.refuse)
    print(server.port, flush=True)
    server.serve()
