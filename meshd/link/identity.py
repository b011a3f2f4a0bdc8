# SPDX-License-Identifier: Apache-2.0
"""The name of a link: a bearer and one neighbour on it."""

from typing import NamedTuple

from meshd.bundle.eid import Eid


class LinkId(NamedTuple):
    """A bearer and one neighbour on it."""

    bearer: str
    neighbour: Eid

    def __str__(self) -> str:
        return f"{self.bearer}>{self.neighbour.uri}"
