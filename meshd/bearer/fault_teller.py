# SPDX-License-Identifier: Apache-2.0
"""Tells now and then how many datagrams a fountain bearer has refused, and what could not be decoded."""

import math
from collections import Counter
from typing import Final

from meshd.bearer.link import Figure
from meshd.bearer.problems import Report
from meshd.cl.fountain.datagram import Fault
from meshd.cl.fountain.machine import Machine

FAULTS_REPORTED_S: Final = 60.0
"""What is refused or lost is told at once, and then no more often than this."""


class FaultTeller:
    """Of one bearer: remembers what it told last."""

    def __init__(self, name: str, report: Report) -> None:
        self._name = name
        self._report = report
        self._told: Counter[str] = Counter()
        self._told_at = -math.inf

    def look(self, machine: Machine, now: float) -> None:
        """Tell what is new, if that was not told of late."""
        faults = Counter(machine.faults)
        failures = sum(int(row["decode_failures"]) for row in machine.snapshot(now))
        faults += Counter({"decoding": failures})
        new = faults - self._told
        del new[Fault.OWN.value]  # what a medium echoes
        if new and now - self._told_at >= FAULTS_REPORTED_S:
            self._told, self._told_at = faults, now
            fields: dict[str, Figure] = {"bearer": self._name}
            self._report("link.datagrams_refused", fields | dict(new))
