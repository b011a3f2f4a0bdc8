# SPDX-License-Identifier: Apache-2.0
"""A bare TCP copy, and what all helper programs of the benchmarks need: JSON lines and a listening socket.

    python -m tests.bench.support.tcp_copy copier PORT              listens, copies to PORT
    python -m tests.bench.support.tcp_copy source PORT SIZE COUNT   sends as many bare bytes
    python -m tests.bench.support.tcp_copy sink TOTAL               listens, counts bytes

Imports nothing of meshd, so that it starts fast.
"""

import json
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

RECEIVE_BYTES: Final = 512 * 1024
PATIENCE_S: Final = 20.0


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def listen() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(PATIENCE_S)
    say(port=listener.getsockname()[1])
    return listener


def run_copier(port: int) -> None:
    with listen() as listener:
        source, _ = listener.accept()
    with source, socket.create_connection(("127.0.0.1", port)) as sink:
        while data := source.recv(RECEIVE_BYTES):
            sink.sendall(data)


def run_source(port: int, size: int, count: int) -> None:
    data = memoryview(bytes(max(size, 65536)))
    with socket.create_connection(("127.0.0.1", port)) as sock:
        left = size * count
        begin = time.monotonic()
        while left:
            left -= sock.send(data[: min(left, len(data))])
        say(begin=begin)


def run_sink(total: int) -> None:
    with listen() as listener:
        sock, _ = listener.accept()
    with sock:
        room = bytearray(RECEIVE_BYTES)
        while total:
            size = sock.recv_into(room)
            if not size:
                raise ConnectionError(f"{total} bytes are missing")
            total -= size
        say(end=time.monotonic())


PROGRAMS: Final[dict[str, Callable[..., None]]] = {"copier": run_copier, "source": run_source, "sink": run_sink}


def main(arguments: Sequence[str]) -> int:
    """Run one program; an error is a JSON line, too."""
    name, *values = arguments
    try:
        PROGRAMS[name](*[int(value) for value in values])
    except (OSError, ValueError) as error:
        say(error=f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
