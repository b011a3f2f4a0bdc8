# SPDX-License-Identifier: Apache-2.0
import cbor2
import pytest

from meshd.bundle.errors import BundleError
from meshd.bundle.precedence import Precedence, encode_precedence, parse_precedence, read_precedence


@pytest.mark.parametrize(
    ("precedence", "service_class", "ordinal"),
    [
        (Precedence.DEFERRED, 0, 0),
        (Precedence.ROUTINE, 1, 0),
        (Precedence.PRIORITY, 1, 1),
        (Precedence.IMMEDIATE, 2, 0),
        (Precedence.FLASH, 2, 1),
        (Precedence.OVERRIDE, 2, 2),
    ],
)
def test_class_and_ordinal_of_each(precedence: Precedence, service_class: int, ordinal: int) -> None:
    raw = encode_precedence(precedence)
    assert cbor2.loads(raw) == [0, service_class, ordinal, 0]
    assert read_precedence(raw, 0) == (precedence, len(raw))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([0, 0, 200, 0], Precedence.DEFERRED),  # ION: bulk, whose ordinal it does not honour
        ([7, 1, 254, 9], Precedence.PRIORITY),
        ([0, 2, 254, 0], Precedence.OVERRIDE),
        ([0, 2, 1], Precedence.FLASH),  # without a data label
        ([0, 2, 0, "label"], Precedence.IMMEDIATE),
    ],
)
def test_what_others_send(content: list[object], expected: Precedence) -> None:
    raw = cbor2.dumps(content)
    assert read_precedence(raw, 0) == (expected, len(raw))


@pytest.mark.parametrize("content", [[0, 3, 0, 0], [0, 255, 0, 0], [0, 1], [0, 1, 0, 0, 0], [0, -1, 0, 0], 5])
def test_malformed_blocks(content: object) -> None:
    with pytest.raises(BundleError):
        read_precedence(cbor2.dumps(content), 0)


def test_names() -> None:
    assert parse_precedence("flash") is Precedence.FLASH
    assert [parse_precedence(member.name) for member in Precedence] == list(Precedence)
    with pytest.raises(ValueError, match="OVERRIDE, FLASH, IMMEDIATE, PRIORITY, ROUTINE, DEFERRED"):
        parse_precedence("urgent")
