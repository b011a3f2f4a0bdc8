# SPDX-License-Identifier: Apache-2.0
"""What a machine has worked out in threads: asked for by an event, and brought back by its number."""

from collections import deque
from collections.abc import Callable

from meshd.cl.fountain.events import Event, WorkRequested


class ThreadWork:
    """Of one machine."""

    def __init__(self, events: deque[Event]) -> None:
        """`events` are the machine's."""
        self._events = events
        self._jobs: dict[int, Callable[[object], None]] = {}
        self._numbers = 0

    def request(self, work: Callable[[], object], done: Callable[[object], None]) -> None:
        """Have this worked out, and call the other with the result."""
        self._numbers += 1
        self._jobs[self._numbers] = done
        self._events.append(WorkRequested(self._numbers, work))

    def finish(self, job: int, result: object) -> None:
        """The result of a WorkRequested."""
        self._jobs.pop(job)(result)
