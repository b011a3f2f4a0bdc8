# SPDX-License-Identifier: Apache-2.0
"""The subset of CBOR (RFC 8949) that BPv7 uses: bounded, without recursion, without building trees.

Readers take `(data, pos)` and return `(value, pos after it)`; they never look beyond `len(data)` and raise
BundleError with reason `truncated` or `cbor`. Longer encodings of a number than needed are accepted on receipt (RFC
9171 section 4.1 asks senders for the shortest, and refusing would lose other people's bundles); writers always use
the shortest. Nothing here knows what a bundle is.
"""

from typing import Final

from meshd.bundle.errors import BundleError

UINT_MAX: Final = (1 << 64) - 1
SKIP_ITEMS_MAX: Final = 256
"""Items within an item of no interest that are stepped over before it is refused."""

BREAK: Final = 0xFF
INDEFINITE: Final = -1
"""Length that `read_array_header` returns for an array that ends with a break."""

_MAJOR_NAMES: Final = (
    "an unsigned integer",
    "a negative integer",
    "a byte string",
    "a text string",
    "an array",
    "a map",
    "a tag",
    "a simple value",
)
_UINT, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = 0, 2, 3, 4, 5, 6, 7
_FALSE, _TRUE = 0xF4, 0xF5


def read_head(data: bytes, pos: int, major: int) -> tuple[int, int]:
    """Read the head of an item of this major type; its argument (value, length or count) and the position after it."""
    if pos >= len(data):
        raise BundleError("truncated", f"the data ends at byte {pos} where {_MAJOR_NAMES[major]} should begin")
    first = data[pos]
    if first >> 5 != major:
        raise BundleError("cbor", f"byte {pos} begins {_MAJOR_NAMES[first >> 5]} instead of {_MAJOR_NAMES[major]}")
    argument = first & 0x1F
    if argument < 24:
        return argument, pos + 1
    if argument > 27:
        raise BundleError("cbor", f"byte {pos} has length code {argument}, which does not belong here")
    end = pos + 1 + (1 << (argument - 24))
    if end > len(data):
        raise BundleError("truncated", f"the data ends within the number at byte {pos}")
    return int.from_bytes(data[pos + 1 : end], "big"), end


def read_uint(data: bytes, pos: int) -> tuple[int, int]:
    """Read an unsigned integer of up to 64 bits."""
    return read_head(data, pos, _UINT)


def read_bytes_head(data: bytes, pos: int) -> tuple[int, int]:
    """Read the head of a definite byte string, of which the rest need not be here: its size and where it begins."""
    return read_head(data, pos, _BYTES)


def read_bytes_extent(data: bytes, pos: int) -> tuple[int, int]:
    """Find a definite byte string: the offset of its first byte and the offset after its last, without copying it."""
    size, start = read_head(data, pos, _BYTES)
    if size > len(data) - start:
        raise BundleError(
            "truncated", f"the byte string at byte {pos} claims {size} bytes, {len(data) - start} are left"
        )
    return start, start + size


def read_text(data: bytes, pos: int, size_max: int) -> tuple[str, int]:
    """Read a definite text string of at most `size_max` bytes."""
    size, start = read_head(data, pos, _TEXT)
    if size > size_max:
        raise BundleError("cbor", f"the text at byte {pos} claims {size} bytes, at most {size_max} are allowed here")
    if size > len(data) - start:
        raise BundleError("truncated", f"the text at byte {pos} claims {size} bytes, {len(data) - start} are left")
    try:
        return data[start : start + size].decode(), start + size
    except UnicodeDecodeError as error:
        raise BundleError("cbor", f"the text at byte {pos} is not UTF-8: {error.reason}") from error


def read_array_header(data: bytes, pos: int) -> tuple[int, int]:
    """Read the head of an array: the number of its items, or INDEFINITE."""
    if pos < len(data) and data[pos] == 0x9F:
        return INDEFINITE, pos + 1
    return read_head(data, pos, _ARRAY)


def read_array_end(data: bytes, pos: int, length: int) -> int:
    """Step over the break of an array whose header gave `length` INDEFINITE; the position after the array."""
    if length != INDEFINITE:
        return pos
    if pos >= len(data):
        raise BundleError("truncated", f"the data ends at byte {pos} where an array should end")
    if data[pos] != BREAK:
        raise BundleError("cbor", f"the array does not end at byte {pos} where it should")
    return pos + 1


def read_bool(data: bytes, pos: int) -> tuple[bool, int]:
    """Read false or true."""
    if pos >= len(data):
        raise BundleError("truncated", f"the data ends at byte {pos} where a Boolean should be")
    first = data[pos]
    if first not in (_FALSE, _TRUE):
        raise BundleError("cbor", f"byte {pos} is no Boolean")
    return first == _TRUE, pos + 1


def skip_item(data: bytes, pos: int) -> int:
    """Step over one item of any kind, nested ones counted rather than recursed into; the position after it."""
    open_items = [1]
    for _ in range(SKIP_ITEMS_MAX):
        while open_items and open_items[-1] == 0:
            open_items.pop()
        if not open_items:
            return pos
        pos = _skip_one(data, pos, open_items)
    raise BundleError("cbor", f"more than {SKIP_ITEMS_MAX} items within one, before byte {pos}")


def _skip_one(data: bytes, pos: int, open_items: list[int]) -> int:
    """Step over a head (and the bytes of a string); what it contains is added to `open_items` (-1: until a break)."""
    if pos >= len(data):
        raise BundleError("truncated", f"the data ends at byte {pos} within an item")
    first = data[pos]
    major = first >> 5
    if first == BREAK:
        if open_items[-1] != INDEFINITE:
            raise BundleError("cbor", f"byte {pos} is a break outside an indefinite item")
        open_items.pop()
        return pos + 1
    if open_items[-1] > 0:
        open_items[-1] -= 1
    if first & 0x1F == 31:
        if major not in (_BYTES, _TEXT, _ARRAY, _MAP):
            raise BundleError("cbor", f"byte {pos} has an indefinite length that its kind cannot have")
        open_items.append(INDEFINITE)
        return pos + 1
    argument, after = read_head(data, pos, major)
    if major in (_BYTES, _TEXT):
        if argument > len(data) - after:
            raise BundleError(
                "truncated", f"the string at byte {pos} claims {argument} bytes, {len(data) - after} are left"
            )
        return after + argument
    if major in (_ARRAY, _MAP, _TAG):
        open_items.append(1 if major == _TAG else argument * (2 if major == _MAP else 1))
    return after


def _encode_head(major: int, argument: int) -> bytes:
    first = major << 5
    if argument < 24:
        return bytes((first | argument,))
    if argument < 1 << 8:
        return bytes((first | 24, argument))
    if argument < 1 << 16:
        return bytes((first | 25,)) + argument.to_bytes(2, "big")
    if argument < 1 << 32:
        return bytes((first | 26,)) + argument.to_bytes(4, "big")
    return bytes((first | 27,)) + argument.to_bytes(8, "big")


_SMALL: Final = tuple(_encode_head(_UINT, value) for value in range(256))


def encode_uint(value: int) -> bytes:
    """Encode an unsigned integer below 2^64; a negative or larger one is our own fault (OverflowError)."""
    if 0 <= value < 256:
        return _SMALL[value]
    return _encode_head(_UINT, value)


def encode_bytes(value: bytes) -> bytes:
    """Encode a byte string."""
    return _encode_head(_BYTES, len(value)) + value


def encode_bytes_head(size_bytes: int) -> bytes:
    """Encode what goes before a byte string of this size."""
    return _encode_head(_BYTES, size_bytes)


def encode_text(value: str) -> bytes:
    """Encode a text string."""
    raw = value.encode()
    return _encode_head(_TEXT, len(raw)) + raw


def encode_array_head(length: int) -> bytes:
    """Encode what goes before the items of a definite array."""
    return _encode_head(_ARRAY, length)


def encode_bool(value: bool) -> bytes:
    """Encode false or true."""
    return b"\xf5" if value else b"\xf4"
