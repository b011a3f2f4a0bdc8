# SPDX-License-Identifier: Apache-2.0
"""Extension items of TCPCLv4: type-length-value lists of sessions and transfers (RFC 9174 sections 4.8 and 5.2.5).

Known is one item: the transfer length (section 5.2.5.1). What an unknown critical item means for session or transfer is
carried out by the caller.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

EXTENSIONS_MAX_BYTES: Final = 4096
"""A list of extension items above this is not waited for: no registered item is larger than a few bytes."""

CRITICAL: Final = 0x01
TRANSFER_LENGTH: Final = 0x0001

_ITEM: Final = struct.Struct("!BHH")
_LENGTH_ITEM: Final = struct.Struct("!BHHQ")
_U64: Final = struct.Struct("!Q")


class TransferItems(NamedTuple):
    """What the extension items of one transfer say."""

    total_bytes: int | None
    """Announced length of the whole transfer; authoritative."""
    problem: str
    """Why the transfer has to be refused with "Extension Failure"; empty: nothing is wrong."""


class _ListError(Exception):
    """The items disagree with the length of their list."""


def pack_transfer_length(total_bytes: int) -> bytes:
    """The list that holds the transfer length alone, for a transfer of several segments (section 5.2.5.1)."""
    return _LENGTH_ITEM.pack(CRITICAL, TRANSFER_LENGTH, _U64.size, total_bytes)


def check_session_extensions_untrusted(raw: bytes) -> str:
    """Why SESS_INIT's items can't be accepted (section 4.8); empty when they can: this node knows none of them."""
    try:
        for flags, kind, _ in _items(raw):
            if flags & CRITICAL:
                return f"SESS_INIT demands the unknown session extension {kind:#06x}"
    except _ListError as error:
        return f"SESS_INIT: {error}"
    return ""


def pull_transfer_items_untrusted(raw: bytes) -> TransferItems:
    """What a transfer's items say (section 5.2.5); never raises."""
    total: int | None = None
    try:
        for flags, kind, value in _items(raw):
            if kind == TRANSFER_LENGTH:
                if total is not None or len(value) != _U64.size:
                    return TransferItems(None, "the transfer length is there twice or is not 8 bytes long")
                (total,) = _U64.unpack(value)
            elif flags & CRITICAL:
                return TransferItems(None, f"it demands the unknown transfer extension {kind:#06x}")
    except _ListError as error:
        return TransferItems(None, str(error))
    return TransferItems(total, "")


def _items(raw: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Flags, type and value of each item. Errors: _ListError."""
    pos = 0
    while pos < len(raw):
        if len(raw) - pos < _ITEM.size:
            raise _ListError(f"{len(raw) - pos} bytes at the end of the extension items are no item")
        flags, kind, size = _ITEM.unpack_from(raw, pos)
        pos += _ITEM.size
        if len(raw) - pos < size:
            raise _ListError(f"extension item {kind:#06x} claims {size} bytes, {len(raw) - pos} are left")
        yield flags, kind, raw[pos : pos + size]
        pos += size
