"""A pyarrow Flight server that looks at tokens: `Bearer token-<n>` is good for so many streams, and gone then.

Prints its port. What a stream brings is kept when it ends well. The action `state` gives the ids that were kept,
in order, and how many calls were refused.
"""

import argparse
import collections
import json

import pyarrow.flight as flight


class Tokens(flight.ServerMiddlewareFactory):
    def __init__(self, streams):
        self.streams, self.used, self.refused = streams, collections.Counter(), 0

    def start_call(self, info, headers):
        if info.method == flight.FlightMethod.DO_ACTION:
            return None
        token = (headers.get("authorization") or [""])[0]
        if not token.startswith("Bearer token-") or self.used[token] >= self.streams:
            self.refused += 1
            raise flight.FlightUnauthenticatedError(f"expired or wrong: {token}")
        if info.method == flight.FlightMethod.DO_PUT:
            self.used[token] += 1
        return None


class Server(flight.FlightServerBase):
    def __init__(self, tokens):
        super().__init__("grpc://127.0.0.1:0", middleware={"tokens": tokens})
        self.tokens, self.ids = tokens, []

    def do_put(self, context, descriptor, reader, writer):
        self.ids += reader.read_all().column("id").to_pylist()

    def do_action(self, context, action):
        return [json.dumps({"ids": self.ids, "refused": self.tokens.refused}).encode()]


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--streams", type=int, required=True)
    server = Server(Tokens(arguments.parse_args().streams))
    print(server.port, flush=True)
    server.serve()
