# SPDX-License-Identifier: Apache-2.0
"""A bundle to send, in chunks: most are in memory, the bulk of a large bundle is read from the store as it goes out."""

from collections.abc import Callable, Sequence
from typing import Final

READ_MAX_BYTES: Final = 2 * 1024 * 1024
"""No more than so much is read at a time."""


class StoredChunk:
    """Bytes `start` to `end` of something that is not in memory.

    Args:
        read: gives the bytes from an offset on, so many of them. Errors: StoreError.
    """

    __slots__ = ("_end", "_read", "_start")

    def __init__(self, read: Callable[[int, int], bytes], start: int, end: int) -> None:
        self._read = read
        self._start = start
        self._end = end

    def __len__(self) -> int:
        return self._end - self._start

    def split(self, size_bytes: int) -> tuple[bytes, "StoredChunk"]:
        """The first bytes of it, at most so many, and the rest. Errors: StoreError."""
        size_bytes = min(size_bytes, len(self), READ_MAX_BYTES)
        data = self._read(self._start, size_bytes)
        assert len(data) == size_bytes, "what was stored has this size"
        return data, StoredChunk(self._read, self._start + size_bytes, self._end)


Chunks = Sequence[bytes | memoryview | StoredChunk]


def in_memory(chunks: Chunks) -> list[bytes | memoryview]:
    """The same, for layers whose links take no bundle that is too large for memory."""
    held = [chunk for chunk in chunks if not isinstance(chunk, StoredChunk)]
    assert len(held) == len(chunks), "a large bundle goes over links only that take it"
    return held
