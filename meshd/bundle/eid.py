# SPDX-License-Identifier: Apache-2.0
"""Endpoint IDs: the `dtn` scheme (RFC 9171 section 4.2.5.1.1) and the `ipn` scheme (RFC 9758).

An Eid is its canonical text, so that equal endpoints are equal objects whichever way they were encoded; RFC 9758
knows two encodings of one ipn EID. The encoding and the node are derived and remembered in bounded caches, since a
node meets the same few hundred EIDs millions of times. Who is a member of a group endpoint is not known here.
"""

import re
from functools import lru_cache
from typing import Final

import msgspec

from meshd.base.limits import EID_SIZE_MAX_BYTES
from meshd.bundle import cbor
from meshd.bundle.errors import EidError

EID_CACHE_MAX: Final = 8192
"""Entries of each cache; the least recently used goes first."""

_SCHEME_DTN, _SCHEME_IPN = 1, 2
_UINT32_MAX: Final = (1 << 32) - 1
_LOCAL_NODE: Final = _UINT32_MAX
_DTN: Final = re.compile(r"//([\x21-\x2e\x30-\x7e]+)/([\x21-\x7e]*)")
_IPN: Final = re.compile(r"(?:(0|[1-9][0-9]{0,9})\.)?(0|[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,19})")
_SHOWN_MAX: Final = 80


class Eid(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """An endpoint ID in its canonical text, made by `parse_eid` or `decode_eid_untrusted`."""

    uri: str

    def __str__(self) -> str:
        return self.uri

    @property
    def is_null(self) -> bool:
        """True for the endpoint without members, `dtn:none` (or `ipn:0.0`)."""
        return self.uri in _NULL_URIS

    @property
    def is_singleton(self) -> bool:
        """False for a group: a dtn endpoint whose demux begins with a tilde."""
        return not self.demux.startswith("~")

    @property
    def is_node(self) -> bool:
        """True when this may be a node ID (RFC 9171 section 4.2.5.2): empty demux, or service number 0."""
        return self == self.node and not self.is_null

    @property
    def node(self) -> "Eid":
        """The administrative endpoint of the node named: `dtn://dpop1/` or `ipn:N.0`; the null endpoint is its own."""
        return _node(self)

    @property
    def demux(self) -> str:
        """What follows the node: `inbox` of `dtn://dpop1/inbox`, `7` of `ipn:3.7`, empty for the null endpoint."""
        return _split(self.uri)[1]

    @property
    def cbor(self) -> bytes:
        """Its encoding (RFC 9171 section 4.2.5.1); an ipn EID of a non-default allocator has three elements."""
        return _encode(self)


_NULL_URIS: Final = frozenset(("dtn:none", "ipn:0.0"))
NULL_EID: Final = Eid("dtn:none")
NULL_EIDS: Final = frozenset(map(Eid, _NULL_URIS))
"""All that mean nowhere, or as a source nobody."""


@lru_cache(maxsize=EID_CACHE_MAX)
def parse_eid(text: str) -> Eid:
    """Parse the text of an EID, as people and configurations write it.

    Errors:
        EidError: names what is wrong and what was expected.
    """
    scheme, colon, rest = text.partition(":")
    if not colon:
        raise EidError(f"{_shown(text)} is no endpoint ID: write dtn://NODE/NAME or ipn:NODE.SERVICE")
    if len(text) > EID_SIZE_MAX_BYTES:
        raise EidError(
            f"the endpoint ID {_shown(text)} has {len(text)} characters, at most {EID_SIZE_MAX_BYTES} are allowed"
        )
    if scheme == "dtn":
        return _check_dtn(text, rest)
    if scheme == "ipn":
        return _check_ipn(text, rest)
    raise EidError(f"{_shown(text)} has the unknown scheme {_shown(scheme)}: dtn and ipn are known")


def _shown(text: str) -> str:
    """Untrusted text for an error message: short, and no control characters."""
    return ascii(text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "...")


def _check_dtn(text: str, rest: str) -> Eid:
    if rest == "none":
        return NULL_EID
    if _DTN.fullmatch(rest):
        return Eid(text)
    if rest.startswith("//") and "/" not in rest[2:]:
        raise EidError(f"{_shown(text)} lacks the slash after the node name: write {_shown(text + '/')}")
    if not rest.startswith("//") or rest.startswith("///"):
        raise EidError(f"{_shown(text)} names no node: write dtn://NODE/NAME, or dtn:none")
    raise EidError(f"{_shown(text)} has a blank, a control or a non-ASCII character: only visible ASCII is allowed")


def _check_ipn(text: str, rest: str) -> Eid:
    if rest.startswith("!"):
        raise EidError(f"{_shown(text)} means the local node, whichever that is: write the node's number")
    match = _IPN.fullmatch(rest)
    if match is None:
        raise EidError(f"{_shown(text)} is not ipn:NODE.SERVICE or ipn:ALLOCATOR.NODE.SERVICE in plain numbers")
    return _ipn(int(match[1] or 0), int(match[2]), int(match[3]))


def _ipn(allocator: int, node: int, service: int) -> Eid:
    """The canonical form: the default allocator 0 is not written (RFC 9758 section 4)."""
    if allocator > _UINT32_MAX or node > _UINT32_MAX or service > cbor.UINT_MAX:
        raise EidError(
            f"ipn:{allocator}.{node}.{service} is out of range: 32 bits for allocator and node, 64 for service"
        )
    if allocator == 0 and node == _LOCAL_NODE:
        raise EidError(f"ipn:{node}.{service} means the local node and may not travel (RFC 9758 section 5.4)")
    if allocator == 0 and node == 0:
        return Eid("ipn:0.0")  # RFC 9758 section 3.4.1: node number 0 is the null endpoint whatever the service
    return Eid(f"ipn:{allocator}.{node}.{service}" if allocator else f"ipn:{node}.{service}")


@lru_cache(maxsize=EID_CACHE_MAX)
def _split(uri: str) -> tuple[str, str]:
    """Node part and demux of a canonical URI, without what is between them."""
    if uri in _NULL_URIS:
        return uri, ""
    if uri.startswith("ipn:"):
        node, _, service = uri.rpartition(".")
        return node, service
    node, _, demux = uri[6:].partition("/")
    return "dtn://" + node, demux


@lru_cache(maxsize=EID_CACHE_MAX)
def _node(eid: Eid) -> Eid:
    if eid.is_null:
        return eid
    return Eid(_split(eid.uri)[0] + (".0" if eid.uri.startswith("ipn:") else "/"))


@lru_cache(maxsize=EID_CACHE_MAX)
def _encode(eid: Eid) -> bytes:
    if eid.uri == "dtn:none":
        return b"\x82\x01\x00"
    if eid.uri.startswith("dtn:"):
        return b"\x82\x01" + cbor.encode_text(eid.uri[4:])
    numbers = [int(number) for number in eid.uri[4:].split(".")]
    return b"\x82\x02" + cbor.encode_array_head(len(numbers)) + b"".join(map(cbor.encode_uint, numbers))


@lru_cache(maxsize=EID_CACHE_MAX)
def decode_eid_untrusted(raw: bytes) -> Eid:
    """Decode exactly one encoded EID; one look-up when it was met before.

    Errors:
        BundleError: EidError for a scheme or a name that is not understood, else `cbor` or `truncated`.
    """
    eid, end = read_eid(raw, 0)
    if end != len(raw):
        raise EidError(f"{len(raw) - end} bytes follow the endpoint ID {eid.uri}")
    return eid


def read_eid(data: bytes, pos: int) -> tuple[Eid, int]:
    """Read the EID that begins at `pos`; the EID and the position after it. Errors as `decode_eid_untrusted`."""
    length, pos = cbor.read_array_header(data, pos)
    if length not in (2, cbor.INDEFINITE):
        raise EidError(f"an endpoint ID is an array of 2 items, not of {length}")
    scheme, pos = cbor.read_uint(data, pos)
    if scheme == _SCHEME_DTN:
        eid, pos = _read_dtn(data, pos)
    elif scheme == _SCHEME_IPN:
        eid, pos = _read_ipn(data, pos)
    else:
        raise EidError(f"endpoint ID of the unknown scheme {scheme}: 1 (dtn) and 2 (ipn) are known")
    return eid, cbor.read_array_end(data, pos, length)


def _read_dtn(data: bytes, pos: int) -> tuple[Eid, int]:
    if pos < len(data) and data[pos] >> 5 == 0:
        value, pos = cbor.read_uint(data, pos)
        if value != 0:
            raise EidError(f"a dtn endpoint ID is a text or the number 0 (dtn:none), not the number {value}")
        return NULL_EID, pos
    text, pos = cbor.read_text(data, pos, EID_SIZE_MAX_BYTES)
    if text == "none":
        raise EidError("dtn:none has to be encoded as the number 0, not as a text (RFC 9171 section 4.2.5.1.1)")
    return parse_eid("dtn:" + text), pos


def _read_ipn(data: bytes, pos: int) -> tuple[Eid, int]:
    """RFC 9758 section 6.2: two numbers, the first of 32 + 32 bits, or three."""
    length, pos = cbor.read_array_header(data, pos)
    if length not in (2, 3):
        raise EidError("an ipn endpoint ID has 2 or 3 numbers, in an array of definite length")
    first, pos = cbor.read_uint(data, pos)
    second, pos = cbor.read_uint(data, pos)
    if length == 2:
        return _ipn(first >> 32, first & _UINT32_MAX, second), pos
    service, pos = cbor.read_uint(data, pos)
    return _ipn(first, second, service), pos


def check_node_id(eid: Eid) -> Eid:
    """Return `eid` if it can name a node.

    Errors:
        EidError: it is the null endpoint or an endpoint at a node.
    """
    if not eid.is_node:
        raise EidError(f"{eid.uri} is no node ID: write dtn://NODE/ (nothing after the slash) or ipn:NODE.0")
    return eid
