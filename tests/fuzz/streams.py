# SPDX-License-Identifier: Apache-2.0
"""How targets that take a byte stream use their input: the first byte is chance, the others are the stream."""

import random

_SIZES = (1, 2, 3, 7, 18, 19, 100, 4096)


def cut(stream: bytes, seed: int) -> list[bytes]:
    """The stream in pieces, always the same for the same seed."""
    rng = random.Random(seed)
    pieces, pos = [], 0
    while pos < len(stream):
        size = rng.choice(_SIZES)
        pieces.append(stream[pos : pos + size])
        pos += size
    return pieces
