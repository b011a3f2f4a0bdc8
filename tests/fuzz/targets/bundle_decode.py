# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: `decode_untrusted` and `scan_untrusted`, with wrong CRCs put right once.

Beside "a value or BundleError": what the tables of `scan` remember from earlier inputs changes nothing; what is decoded
is no larger than the input; a sound bundle survives decoding and encoding, and forwarding.
"""

import importlib.util
from types import ModuleType
from typing import Final

from meshd.bundle import scan
from meshd.bundle.codec import decode_untrusted, encode
from meshd.bundle.eid import parse_eid
from meshd.bundle.errors import BundleError
from meshd.bundle.forward import forwarded_copy
from meshd.bundle.header import BundleHeader
from tests.fuzz.crc_repair import with_right_crcs
from tests.fuzz.seeds import bundle_dictionary, bundle_seeds

OWN_NODE: Final = parse_eid("dtn://fuzz/")
EID_GROWTH_MAX_BYTES: Final = 8
"""Four ipn EIDs, whose three elements may take a byte or two more than the two that came."""
ADDED_MAX_BYTES: Final = 64
"""What forwarding may add: a previous node block, and longer numbers for age and hops."""

dictionary = bundle_dictionary


def _second_scan() -> ModuleType:
    """Another instance of the module: one with tables of its own, which are emptied before every look."""
    assert scan.__spec__ is not None
    spec = importlib.util.spec_from_file_location("meshd.bundle.scan_forgetful", scan.__spec__.origin)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_forgetful: Final = _second_scan()


def check(data: bytes) -> None:
    """One input."""
    if _check_once(data) == "crc":
        _check_once(with_right_crcs(data))


def _check_once(data: bytes) -> str:
    """Check these very bytes; the reason of the refusal, empty for a sound bundle."""
    _forgetful._flows.clear()
    first = second = ""
    header = plain = None
    try:
        header = scan.scan_untrusted(data)
    except BundleError as error:
        first = error.reason
    try:
        plain = _forgetful.scan_untrusted(data)
    except BundleError as error:
        second = error.reason
    assert (first, header) == (second, plain), "what earlier inputs left behind changes the result"
    if header is not None:
        _check_sound(data, header)
    return first


def _check_sound(data: bytes, header: BundleHeader) -> None:
    bundle = decode_untrusted(data)
    assert sum(len(block.data) for block in bundle.blocks) < len(data)
    again = encode(bundle)
    assert len(again) <= len(data) + EID_GROWTH_MAX_BYTES, "encoded by us it is longer"
    assert decode_untrusted(again) == bundle
    copy = b"".join(forwarded_copy(data, header, own_node=OWN_NODE, residence_ms=5, is_own=False))
    assert len(copy) <= len(data) + ADDED_MAX_BYTES
    forwarded = scan.scan_untrusted(copy)
    assert forwarded.previous_node == OWN_NODE
    assert forwarded.payload_size == header.payload_size


def seeds() -> dict[str, bytes]:
    """The test vectors."""
    return bundle_seeds("bundles", "unusual", "malformed")
