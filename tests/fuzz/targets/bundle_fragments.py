# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: a sound bundle is cut and joined again; and fragments that do not belong together are refused.

The first two bytes are the size of the fragments and chance; the rest is a bundle (with its CRCs put right).
"""

import random

from meshd.bundle.errors import BundleError
from meshd.bundle.fragment import fragment, reassemble
from meshd.bundle.header import BundleHeader
from meshd.bundle.scan import scan_untrusted
from tests.fuzz.crc_repair import with_right_crcs
from tests.fuzz.seeds import bundle_dictionary, bundle_seeds

dictionary = bundle_dictionary


def check(data: bytes) -> None:
    """One input."""
    choice, bundle = data[:2], with_right_crcs(data[2:])
    try:
        header = scan_untrusted(bundle)
    except BundleError:
        return
    size_max_bytes = 40 + (choice[0] if choice else 0)
    rng = random.Random(choice[1] if len(choice) > 1 else 0)
    try:
        pieces = fragment(bundle, header, size_max_bytes)
    except BundleError as error:
        if error.reason != "fragment":
            raise
        return
    _check_pieces(bundle, header, pieces, size_max_bytes, rng)


def _check_pieces(
    bundle: bytes, header: BundleHeader, pieces: list[bytes], size_max_bytes: int, rng: random.Random
) -> None:
    if pieces == [bundle]:
        return
    headers = [scan_untrusted(piece) for piece in pieces]
    assert all(len(piece) <= size_max_bytes for piece in pieces)
    assert all(each.is_fragment and each.id[:3] == header.id[:3] for each in headers)
    assert sum(each.payload_size for each in headers) == header.payload_size
    if header.is_fragment:
        return
    shuffled = [*pieces, rng.choice(pieces)]
    rng.shuffle(shuffled)
    whole = reassemble(shuffled)
    again = scan_untrusted(whole)
    assert (again.id, again.flags) == (header.id, header.flags)
    assert whole[again.payload_offset :][: again.payload_size] == bundle[header.payload_offset :][: header.payload_size]
    _check_missing(pieces, rng)


def _check_missing(pieces: list[bytes], rng: random.Random) -> None:
    """With one of them gone there is no whole."""
    left = list(pieces)
    left.remove(rng.choice(pieces))
    try:
        reassemble(left)
    except BundleError as error:
        if error.reason != "fragment":
            raise
        return
    raise AssertionError("a bundle was made of too few fragments")


def seeds() -> dict[str, bytes]:
    """Bundles, with sizes that cut them."""
    return {name: b"\x28\x00" + data for name, data in bundle_seeds("bundles", "unusual").items()}
