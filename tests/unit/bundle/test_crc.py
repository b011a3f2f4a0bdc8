# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.bundle import crc

CHECK = b"123456789"


def reference(data: bytes, polynomial: int, bits: int) -> int:
    """A reflected CRC bit by bit, with all ones before and inverted after."""
    ones = (1 << bits) - 1
    register = ones
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (polynomial if register & 1 else 0)
    return register ^ ones


def test_check_values_of_the_catalogue() -> None:
    assert crc.crc16(CHECK) == 0x906E
    assert crc.crc32c(CHECK) == 0xE3069283


@given(st.binary(max_size=200), st.integers(0, 200))
def test_both_agree_with_the_definition_whole_and_in_pieces(data: bytes, cut: int) -> None:
    for crc_type, polynomial, bits in ((crc.CRC_16, 0x8408, 16), (crc.CRC_32C, 0x82F63B78, 32)):
        expected = reference(data, polynomial, bits)
        assert crc.extend(crc_type, 0, data) == expected
        assert crc.extend(crc_type, crc.extend(crc_type, 0, data[:cut]), data[cut:]) == expected


@pytest.mark.parametrize("crc_type", [crc.CRC_16, crc.CRC_32C])
def test_a_large_extent_is_summed_in_pieces(crc_type: int) -> None:
    data = bytes(range(256)) * (crc.CHUNK_BYTES // 256 * 2 + 3)
    assert crc.extent_crc(crc_type, data, 5, len(data) - 7) == crc.extend(crc_type, 0, data[5:-7])


def test_a_sealed_block_ends_with_its_crc() -> None:
    assert crc.sealed(crc.CRC_NONE, CHECK) == CHECK
    value = reference(CHECK + b"\x42\0\0", 0x8408, 16)
    assert crc.sealed(crc.CRC_16, CHECK) == CHECK + b"\x42" + value.to_bytes(2, "big")
    value = reference(CHECK + b"\x44\0\0\0\0", 0x82F63B78, 32)
    assert crc.sealed(crc.CRC_32C, CHECK) == CHECK + b"\x44" + value.to_bytes(4, "big")
