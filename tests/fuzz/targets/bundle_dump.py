# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: `dump_untrusted` and `render_text`, which show whatever they are given and never refuse.

What is called sound is exactly what the strict parser takes; the work is counted.
"""

from typing import Final

from meshd.bundle import scan
from meshd.bundle.dump import dump_untrusted, render_text
from meshd.bundle.errors import BundleError
from tests.fuzz.counted_bytes import CountedBytes, assert_linear
from tests.fuzz.crc_repair import with_right_crcs
from tests.fuzz.seeds import bundle_dictionary, bundle_seeds

STEPS_PER_BYTE: Final = 8
STEPS_CONSTANT: Final = 512
TEXT_MAX_BYTES: Final = 100_000
"""A dump of 32 blocks with three EIDs of 1 KiB, in words."""

dictionary = bundle_dictionary


def check(data: bytes) -> None:
    """One input, as it is and with its CRCs put right."""
    for version in {data, with_right_crcs(data)}:
        _check_once(CountedBytes(version))


def _check_once(data: CountedBytes) -> None:
    scan._flows.clear()
    dump = dump_untrusted(data)
    assert_linear(data, STEPS_PER_BYTE, STEPS_CONSTANT)
    assert len(render_text(dump)) <= TEXT_MAX_BYTES
    try:
        scan.scan_untrusted(bytes(data))
    except BundleError:
        assert dump["errors"], "the strict parser refuses what the dump calls sound"
    else:
        assert not dump["errors"] or dump["blocks"][-1].get("status_report") is None


def seeds() -> dict[str, bytes]:
    """The test vectors."""
    return bundle_seeds("bundles", "unusual")
