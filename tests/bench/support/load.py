# SPDX-License-Identifier: Apache-2.0
"""A program that keeps a daemon busy: messages at a steady rate by an ordinary client, until it is ended.

python -m tests.bench.support.load SOCKET DESTINATION SIZE PER_S
"""

import sys
import time
from collections.abc import Sequence
from typing import Final

from meshd.client.client import Client

LIFETIME_MS: Final = 60_000
"""Nobody takes these messages: they go by themselves."""


def main(arguments: Sequence[str]) -> None:
    """Send for ever; what could not be sent in time is not made up for."""
    socket_path, destination, size, per_s = arguments
    data, interval_s = bytes(int(size)), 1 / float(per_s)
    with Client(socket_path) as client:
        due_at = time.monotonic()
        while True:
            client.send_bytes(destination, data, lifetime_ms=LIFETIME_MS, report=False)
            due_at = max(due_at + interval_s, time.monotonic() - interval_s)
            time.sleep(max(0.0, due_at - time.monotonic()))


if __name__ == "__main__":
    main(sys.argv[1:])
