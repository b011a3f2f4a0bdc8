# SPDX-License-Identifier: Apache-2.0
"""Supersession: private block 201, a CBOR array `[key, sequence, tier]`.

Every hop may drop a queued bundle for one of the same source and key and a higher sequence, and the bundles of high
tiers where a link is short. Live video and positions use it. When that happens is the matter of `meshd.node`.
"""

from typing import Final

import msgspec

from meshd.bundle import cbor
from meshd.bundle.errors import BundleError

KEY_MAX_BYTES: Final = 32
CLOCK_MARGIN_MS: Final = 250
"""Of the lifetime: clocks disagree. It is to arrive before this begins."""
TIERS: Final = 3
"""Tier 0 is dropped last, the highest tier first."""


class Supersession(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What supersedes what: within a source and key a higher sequence drops a lower one."""

    key: bytes
    """1 to 32 bytes."""
    sequence: int
    tier: int
    """0 to 2."""


def time_of_use_ms(lifetime_ms: int, supersession: Supersession | None) -> int:
    """How long after its creation a bundle with such a block, or without, is of use."""
    return lifetime_ms if supersession is None else lifetime_ms - min(CLOCK_MARGIN_MS, lifetime_ms // 2)


def encode_supersession(value: Supersession) -> bytes:
    """The data of the block."""
    return b"".join(
        (b"\x83", cbor.encode_bytes(value.key), cbor.encode_uint(value.sequence), cbor.encode_uint(value.tier))
    )


def read_supersession(data: bytes, pos: int) -> tuple[Supersession, int]:
    """Read the data of the block; and the position after it.

    Errors:
        BundleError: `supersession`, `cbor` or `truncated`.
    """
    length, pos = cbor.read_array_header(data, pos)
    if length != 3:
        raise BundleError("supersession", "a supersession block is an array [key, sequence, tier]")
    start, pos = cbor.read_bytes_extent(data, pos)
    key = data[start:pos]
    sequence, pos = cbor.read_uint(data, pos)
    tier, pos = cbor.read_uint(data, pos)
    if not 1 <= len(key) <= KEY_MAX_BYTES:
        raise BundleError("supersession", f"a supersession key has 1 to {KEY_MAX_BYTES} bytes, not {len(key)}")
    if tier >= TIERS:
        raise BundleError("supersession", f"tier {tier} of a supersession block: 0, 1 and 2 are known")
    return Supersession(key, sequence, tier), pos
