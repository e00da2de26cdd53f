"""A pyarrow Flight server with moods. Rows are kept in files, so that it may be killed and come back.

Prints its port. A put is kept when it has ended, whole or not at all: an IPC file, synced and then renamed.
"""

import argparse
import itertools
import os
import threading

import pyarrow as pa
import pyarrow.flight as flight


class Tokens(flight.ServerAuthHandler):
    """Flight's basic handshake; a token is good for so many calls."""

    def __init__(self, calls):
        super().__init__()
        self.calls, self.left, self.lock = calls, {}, threading.Lock()

    def authenticate(self, outgoing, incoming):
        given = flight.BasicAuth.deserialize(incoming.read())
        if given.password != b"sesame":
            raise flight.FlightUnauthenticatedError("not the word")
        with self.lock:
            token = f"token {len(self.left)}".encode()
            self.left[token] = self.calls
        outgoing.write(token)

    def is_valid(self, token):
        with self.lock:
            left = self.left.get(token, 0)
            if left == 0:
                raise flight.FlightUnauthenticatedError("the token has expired")
            self.left[token] = left - 1
        return b"somebody"


class Bearers(flight.ServerMiddlewareFactory):
    """The header `authorization: Bearer <number>`; each number is good for so many puts, and only the latest."""

    def __init__(self, puts):
        self.puts, self.latest, self.used, self.lock = puts, 0, 0, threading.Lock()

    def start_call(self, info, headers):
        number = int(headers["authorization"][0].split()[1])
        with self.lock:
            if number > self.latest:
                self.latest, self.used = number, 0
            if info.method == flight.FlightMethod.DO_PUT:
                self.used += 1
            if number < self.latest or self.used > self.puts:
                raise flight.FlightUnauthenticatedError(f"bearer {number} has expired")


class Server(flight.FlightServerBase):
    def __init__(self, location, given, **more):
        super().__init__(location, **more)
        self.folder, self.refuse_every, self.word = given.folder, given.refuse_every, given.word
        self.puts, self.lock = itertools.count(1), threading.Lock()

    def do_put(self, context, descriptor, reader, writer):
        put = next(self.puts)
        batches = [chunk.data for chunk in reader]
        if self.refuse_every and put % self.refuse_every == 0:
            if self.word == "invalid":
                raise pa.ArrowInvalid("not this one")
            raise flight.FlightUnavailableError("not now")
        with self.lock:
            name = os.path.join(self.folder, f"{len(os.listdir(self.folder)):06}.arrow")
            with pa.OSFile(name + ".part", "wb") as sink:
                with pa.ipc.new_stream(sink, reader.schema) as kept:
                    for batch in batches:
                        kept.write_batch(batch)
            with open(name + ".part", "rb+") as kept:
                os.fsync(kept.fileno())
            os.rename(name + ".part", name)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--folder", required=True)
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--refuse-every", type=int, default=0)
    arguments.add_argument("--word", choices=["unavailable", "invalid"], default="unavailable")
    arguments.add_argument("--token-calls", type=int)
    arguments.add_argument("--bearer-puts", type=int)
    given = arguments.parse_args()
    more = {}
    if given.token_calls:
        more["auth_handler"] = Tokens(given.token_calls)
    if given.bearer_puts:
        more["middleware"] = {"bearers": Bearers(given.bearer_puts)}
    server = Server(f"grpc://127.0.0.1:{given.port}", given, **more)
    print(server.port, flush=True)
    server.serve()
