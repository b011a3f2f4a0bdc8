# SPDX-License-Identifier: Apache-2.0
"""Bundles written byte by byte that are unusual but sound, and malformed ones with the reason of their refusal."""

import json
from pathlib import Path

import pytest

from meshd.bundle.blocks import BLOCKS_MAX
from meshd.bundle.codec import decode_untrusted, encode
from meshd.bundle.dump import dump_untrusted
from meshd.bundle.errors import BundleError
from meshd.bundle.forward import forwarded_copy
from meshd.bundle.scan import scan_untrusted
from tests.fuzz.seeds import folder_files, read_hex
from tests.unit.bundle.bundle_samples import DPOP2, bundle_of, extension

UNUSUAL = folder_files("unusual")
MALFORMED = folder_files("malformed")


def expected_reason(path: Path) -> str:
    """What its comment says."""
    (line,) = [line for line in path.read_text().splitlines() if line.startswith("# refused: ")]
    return line.removeprefix("# refused: ")


def test_no_vector_is_missing() -> None:
    assert len(UNUSUAL) >= 11
    assert len(MALFORMED) >= 95


@pytest.mark.parametrize("path", UNUSUAL, ids=lambda path: path.stem)
def test_an_unusual_bundle_is_read_and_forwarded(path: Path) -> None:
    data = read_hex(path)
    assert dump_untrusted(data) == json.loads(path.with_suffix(".json").read_text())
    header = scan_untrusted(data)
    bundle = decode_untrusted(data)
    assert decode_untrusted(encode(bundle)) == bundle
    copy = b"".join(forwarded_copy(data, header, own_node=DPOP2, residence_ms=1, is_own=False))
    forwarded = scan_untrusted(copy)
    assert forwarded.previous_node == DPOP2
    assert (forwarded.id, forwarded.destination, forwarded.flags) == (header.id, header.destination, header.flags)
    assert copy[: header.extensions_offset] == data[: header.extensions_offset], (
        "the primary block is never written anew"
    )


@pytest.mark.parametrize("path", MALFORMED, ids=lambda path: path.stem)
def test_a_malformed_bundle_is_refused_with_its_reason(path: Path) -> None:
    data = read_hex(path)
    with pytest.raises(BundleError) as caught:
        scan_untrusted(data)
    assert caught.value.reason == expected_reason(path)
    assert str(caught.value).isprintable()
    assert dump_untrusted(data)["errors"]


@pytest.mark.parametrize("path", [*UNUSUAL, *folder_files("bundles")], ids=lambda path: path.stem)
def test_every_beginning_of_a_bundle_is_refused(path: Path) -> None:
    data = read_hex(path)
    for size in range(len(data)):
        with pytest.raises(BundleError):
            scan_untrusted(data[:size])


def test_a_bundle_with_as_many_blocks_as_may_be_can_be_forwarded() -> None:
    """The previous node block that we add may not make it one that the next node refuses."""
    extensions = [extension(222, b"", number) for number in range(2, BLOCKS_MAX + 1)]
    data = bundle_of(*extensions)
    copy = b"".join(forwarded_copy(data, scan_untrusted(data), own_node=DPOP2, residence_ms=1, is_own=False))
    assert scan_untrusted(copy).previous_node == DPOP2
    assert len(dump_untrusted(copy)["blocks"]) == BLOCKS_MAX + 1
    with pytest.raises(BundleError) as caught:
        scan_untrusted(bundle_of(*extensions, extension(222, b"", BLOCKS_MAX + 1)))
    assert caught.value.reason == "block-count"
