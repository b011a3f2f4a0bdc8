# SPDX-License-Identifier: Apache-2.0
"""Source and repair symbols of an object, and back: RaptorQ (RFC 6330) by the `raptorq` package.

The code is systematic: symbol n below K is the n-th piece of the object, padded with zeros; every further one is a
repair symbol, and about any K of them give the object back. An object of one symbol is repeated as it is. A wrong
symbol gives a wrong object without an error: whoever decodes checks a digest afterwards. One source block only:
OBJECT_MAX_BYTES keeps every object below the size at which RFC 6330 section 4.4.1.2 would make two.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import raptorq

from meshd.cl.fountain.settings import SYMBOL_ALIGNMENT

_PAYLOAD_ID_BYTES: Final = 4
"""RFC 6330 section 3.2: source block number, always 0 here, and ESI of 24 bits."""


class RepairSource(Protocol):
    """Makes repair symbols of one object."""

    def repair(self, count: int) -> Sequence[bytes]:
        """The first `count` of them: those with the ESIs from K on."""


class FountainCode(Protocol):
    """A rateless code."""

    def repair_source(self, data: bytes, symbol_bytes: int) -> RepairSource:
        """For an object of more than one symbol."""

    def decode(self, object_bytes: int, symbol_bytes: int, symbols: Mapping[int, bytes]) -> bytes | None:
        """The object from its symbols by ESI; None: more are needed."""


def count_symbols(object_bytes: int, symbol_bytes: int) -> int:
    """K."""
    return -(-object_bytes // symbol_bytes)


def fit_symbol(object_bytes: int, symbol_max_bytes: int) -> int:
    """The size of symbol that pads this object least with the fewest symbols."""
    if object_bytes <= symbol_max_bytes:
        return object_bytes
    even = count_symbols(object_bytes, count_symbols(object_bytes, symbol_max_bytes))
    return min(even + -even % SYMBOL_ALIGNMENT, symbol_max_bytes)


def is_symbol_size(object_bytes: int, symbol_bytes: int) -> bool:
    """True when symbols of this object may have this size."""
    return symbol_bytes == object_bytes or (symbol_bytes < object_bytes and symbol_bytes % SYMBOL_ALIGNMENT == 0)


def source_symbol(data: bytes, symbol_bytes: int, esi: int) -> bytes:
    """A piece of the object."""
    return data[esi * symbol_bytes : (esi + 1) * symbol_bytes].ljust(symbol_bytes, b"\0")


class _RaptorQSource:
    def __init__(self, data: bytes, symbol_bytes: int) -> None:
        self._encoder = raptorq.Encoder.with_defaults(data, symbol_bytes)
        self._source_symbols = count_symbols(len(data), symbol_bytes)

    def repair(self, count: int) -> Sequence[bytes]:
        packets: list[bytes] = self._encoder.get_encoded_packets(count)
        return [packet[_PAYLOAD_ID_BYTES:] for packet in packets[self._source_symbols :]]


class RaptorQ:
    """RFC 6330."""

    def repair_source(self, data: bytes, symbol_bytes: int) -> RepairSource:
        """For an object of more than one symbol; some milliseconds for one of 1 MiB."""
        return _RaptorQSource(data, symbol_bytes)

    def decode(self, object_bytes: int, symbol_bytes: int, symbols: Mapping[int, bytes]) -> bytes | None:
        """The object from its symbols by ESI; None: more are needed."""
        source_symbols = count_symbols(object_bytes, symbol_bytes)
        if len(symbols) < source_symbols:
            return None
        if all(esi in symbols for esi in range(source_symbols)):
            return b"".join([symbols[esi] for esi in range(source_symbols)])[:object_bytes]
        decoder = raptorq.Decoder.with_defaults(object_bytes, symbol_bytes)
        for esi, symbol in symbols.items():
            data: bytes | None = decoder.decode(esi.to_bytes(_PAYLOAD_ID_BYTES, "big") + symbol)
            if data is not None:
                return data
        return None


def make_repairs(
    code: FountainCode, source: RepairSource | None, data: bytes, symbol_bytes: int, count: int
) -> tuple[RepairSource, Sequence[bytes]]:
    """The first so many repair symbols, and what makes more of them; for large objects, work for a thread."""
    source = source or code.repair_source(data, symbol_bytes)
    return source, source.repair(count)
