# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: `PiecewiseScan` and `scan_front_untrusted`, with wrong CRCs put right once.

Beside "a value or BundleError": for the same bytes the answer is that of `scan_untrusted`, wherever they are cut. The
first two bytes of an input say where.
"""

from contextlib import suppress
from typing import Final

from meshd.bundle.errors import BundleError
from meshd.bundle.header import BundleHeader
from meshd.bundle.piecewise import PiecewiseScan, scan_front_untrusted
from meshd.bundle.scan import scan_untrusted
from tests.fuzz.crc_repair import with_right_crcs
from tests.fuzz.seeds import bundle_dictionary, bundle_seeds

CUT_BYTES: Final = 2

dictionary = bundle_dictionary


def check(data: bytes) -> None:
    """One input."""
    cuts, bundle = data[:CUT_BYTES], data[CUT_BYTES:]
    _check_once(bundle, cuts)
    _check_once(with_right_crcs(bundle), cuts)


def _check_once(data: bytes, cuts: bytes) -> None:
    expected: BundleHeader | None = None
    with suppress(BundleError):
        expected = scan_untrusted(data)
    assert _scan(data, cuts) == expected, "in pieces it is something else"


def _scan(data: bytes, cuts: bytes) -> BundleHeader | None:
    try:
        start = scan_front_untrusted(data).payload_offset
        scan = PiecewiseScan(data[:start])
        for cut in cuts:
            scan.feed(data[start : start + cut])
            start += cut
        scan.feed(data[start:])
        scan.finish()
    except BundleError:
        return None
    return scan.header


def seeds() -> dict[str, bytes]:
    """The test vectors."""
    return {name: b"\x03\x40" + data for name, data in bundle_seeds("bundles", "unusual", "malformed").items()}
