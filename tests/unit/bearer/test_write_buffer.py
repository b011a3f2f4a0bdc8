# SPDX-License-Identifier: Apache-2.0
"""What a socket has not taken yet."""

import random

import pytest

from meshd.bearer.write_buffer import WriteBuffer


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_lost_or_written_twice(seed: int) -> None:
    rng = random.Random(seed)
    buffer = WriteBuffer()
    pieces: list[bytes | memoryview] = [rng.randbytes(rng.randrange(50)) for _ in range(30)]
    expected = b"".join(pieces)
    buffer.fill(pieces)
    written = b""
    while buffer.size_bytes:
        front = b"".join(buffer.buffers)[: rng.randrange(1, 100)]
        buffer.advance(len(front))
        written += front
    assert written == expected
    assert b"".join(buffer.buffers) == b""


def test_many_small_buffers_are_joined() -> None:
    buffer = WriteBuffer()
    buffer.fill([b"ab"] * 9, join_below_bytes=3)
    assert (buffer.buffers, buffer.size_bytes) == ([b"ab" * 9], 18)
    buffer.fill([b"abc"] * 9, join_below_bytes=3)
    assert len(buffer.buffers) == 9
    buffer.clear()
    assert (buffer.buffers, buffer.size_bytes) == ([], 0)
