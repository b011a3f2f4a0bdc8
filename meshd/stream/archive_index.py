# SPDX-License-Identifier: Apache-2.0
"""Which pieces of a stream a node has: a bit for each, in blocks of neighbouring sequence numbers.

An hour of 16 cuts a second takes some 30 kB. What a block costs does not depend on who says that it has pieces, and
the number of blocks is limited: what lies beyond is refused, which the caller counts. It can be written down and read
again, so that a node knows after a restart what is in its archive.
"""

from typing import Annotated, Final

import msgspec

from meshd.base.errors import RemoteProtocolError
from meshd.stream.piece import SEQUENCE_MAX, Tier

BLOCK_CUTS: Final = 1024
BLOCKS_MAX: Final = 4096
"""Three days at 16 cuts a second; 2 MB."""
INDEX_MAX_BYTES: Final = BLOCKS_MAX * 512
_TIERS: Final = len(Tier)
_BLOCK_BYTES: Final = BLOCK_CUTS // 8

_Bits = Annotated[bytes, msgspec.Meta(max_length=_BLOCK_BYTES)]
_Block = Annotated[int, msgspec.Meta(ge=0, le=SEQUENCE_MAX // BLOCK_CUTS)]
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(
    Annotated[dict[_Block, tuple[_Bits, _Bits, _Bits]], msgspec.Meta(max_length=BLOCKS_MAX)]
)


class IndexFileError(RemoteProtocolError):
    """These bytes are no index of an archive: read the archive again instead."""


class ArchiveIndex:
    """Of one stream."""

    def __init__(self, blocks: dict[int, list[int]] | None = None) -> None:
        """Args: `blocks`: the bits of each tier, by block."""
        self._blocks = blocks or {}
        self.pieces = sum(bits.bit_count() for block in self._blocks.values() for bits in block)

    def add(self, sequence: int, tier: int) -> bool:
        """Note that this piece is here; False: the index is full."""
        number, bit = divmod(sequence, BLOCK_CUTS)
        block = self._blocks.get(number)
        if block is None:
            if len(self._blocks) >= BLOCKS_MAX:
                return False
            block = self._blocks[number] = [0] * _TIERS
        if not block[tier] >> bit & 1:
            block[tier] |= 1 << bit
            self.pieces += 1
        return True

    def discard(self, sequence: int, tier: int) -> None:
        """This piece is not here any more."""
        block = self._blocks.get(sequence // BLOCK_CUTS)
        bit = sequence % BLOCK_CUTS
        if block is not None and block[tier] >> bit & 1:
            block[tier] &= ~(1 << bit)
            self.pieces -= 1

    def has(self, sequence: int, tier: int) -> bool:
        """Whether this piece is here."""
        block = self._blocks.get(sequence // BLOCK_CUTS)
        return block is not None and bool(block[tier] >> sequence % BLOCK_CUTS & 1)

    def tiers(self, sequence: int) -> int:
        """The tiers of a cut that are here, as a mask."""
        block = self._blocks.get(sequence // BLOCK_CUTS)
        if block is None:
            return 0
        bit = sequence % BLOCK_CUTS
        return sum((block[tier] >> bit & 1) << tier for tier in range(_TIERS))

    def drop_before(self, sequence: int) -> None:
        """The archive no longer holds what is older; whole blocks are forgotten."""
        for number in [number for number in self._blocks if (number + 1) * BLOCK_CUTS <= sequence]:
            self.pieces -= sum(bits.bit_count() for bits in self._blocks.pop(number))

    def pack(self) -> bytes:
        """The content of a file."""
        blocks = {
            number: [bits.to_bytes(_BLOCK_BYTES, "little") for bits in block]
            for number, block in sorted(self._blocks.items())
        }
        return _ENCODER.encode(blocks)


def decode_index_untrusted(data: bytes) -> ArchiveIndex:
    """The index in a file. Errors: IndexFileError."""
    if len(data) > INDEX_MAX_BYTES:
        raise IndexFileError(f"an index of {len(data)} bytes: at most {INDEX_MAX_BYTES} are possible")
    try:
        blocks = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IndexFileError(f"an index of an archive can't be read: {error}") from error
    return ArchiveIndex(
        {number: [int.from_bytes(bits, "little") for bits in block] for number, block in blocks.items()}
    )
