# SPDX-License-Identifier: Apache-2.0
"""Giving freed memory back to the kernel, and keeping some."""

import ctypes

import pytest

from meshd.linux.memory import KEPT_MAX_BYTES, LARGE_MIN_BYTES, give_back_memory, keep_freed_memory


def test_what_was_freed_goes_back() -> None:
    blocks = [bytearray(100_000) for _ in range(200)]
    kept = blocks[1::2]
    del blocks
    assert give_back_memory(), "every second block is a hole"
    assert len(kept) == 100


def test_a_c_library_that_can_not() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ctypes, "CDLL", lambda _: object())
        assert not give_back_memory()
        assert not keep_freed_memory()


def test_large_pieces_are_kept() -> None:
    asked: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, parameter: int, value: int) -> int:
            asked.append((parameter, value))
            return 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ctypes, "CDLL", lambda _: Library())
        assert keep_freed_memory()
    assert {value for _, value in asked} == {LARGE_MIN_BYTES, KEPT_MAX_BYTES}
    assert keep_freed_memory(), "the real one takes these values"
