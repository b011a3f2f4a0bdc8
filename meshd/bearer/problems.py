# SPDX-License-Identifier: Apache-2.0
"""Reports a bearer's lasting problems once, not at every attempt."""

from collections.abc import Callable

from meshd.bearer.link import Figure

Report = Callable[[str, dict[str, Figure]], None]


class Problems:
    """The problem that stands for each thing that is tried; there are as many things as addresses configured."""

    def __init__(self, bearer: str, report: Report) -> None:
        self._bearer = bearer
        self._report = report
        self._standing: dict[str, str] = {}

    def report(self, thing: str, text: str) -> None:
        """It failed. Reported unless it failed the same way last time."""
        if self._standing.get(thing) != text:
            self._standing[thing] = text
            self._report("bearer.problem", {"bearer": self._bearer, "problem": text})

    def clear(self, thing: str) -> None:
        """It works."""
        self._standing.pop(thing, None)
