# SPDX-License-Identifier: Apache-2.0
"""The lists in which the duplicate memory keeps IDs of bundles that may come back.

Apart from `known_bundles`, which may be compiled: a subclass of a built-in type may not.
"""

Key = int | tuple[int, int, int, bytes]
"""An ID without its source."""


class UnsettledIds(list[Key]):
    """The list in which those wait that are not settled: its type says so, which costs nothing for each."""

    __slots__ = ()
