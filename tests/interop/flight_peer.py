"""What Flight servers hold, read by pyarrow; ADBC's Flight SQL driver; and SQLite, read by Python itself."""

import base64
import sqlite3

import pyarrow as pa


def get(location, ticket):
    """All that the server has under a ticket, as an IPC stream."""
    import pyarrow.flight as flight

    with flight.connect(location) as client:
        reader = client.do_get(flight.Ticket(ticket.encode()))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, reader.schema) as writer:
            for chunk in reader:
                writer.write_batch(chunk.data)
    return base64.b64encode(sink.getvalue()).decode()


def act(location, action, body):
    import pyarrow.flight as flight

    with flight.connect(location) as client:
        return [result.body.to_pybytes().decode() for result in client.do_action(flight.Action(action, body.encode()))]


def adbc_ingest(location, table, stream, mode, autocommit=False, **where):
    """What the ADBC driver says of it: how many rows, or the error's SQLSTATE class and words."""
    from adbc_driver_flightsql import dbapi

    data = pa.ipc.open_stream(base64.b64decode(stream)).read_all()
    with dbapi.connect(location, autocommit=autocommit) as connection:
        with connection.cursor() as cursor:
            try:
                rows = cursor.adbc_ingest(table, data, mode=mode, **where)
            except dbapi.Error as error:
                if not autocommit:
                    connection.rollback()
                return {"error": str(error)}
        if not autocommit:
            connection.commit()
    return {"rows": rows}


def sqlite(file, sql):
    connection = sqlite3.connect(file, timeout=10)
    try:
        with connection:
            return [list(map(plain, row)) for row in connection.execute(sql)]
    finally:
        connection.close()


def plain(value):
    return {"hex": value.hex()} if isinstance(value, bytes) else value


OPS = {"flight_get": get, "flight_act": act, "adbc_ingest": adbc_ingest, "sqlite": sqlite}
