# SPDX-License-Identifier: Apache-2.0
"""Finding packets in anything, without losing a byte."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.stream.ts_sync import GARBAGE, TsSync
from tests.unit.stream.ts_muxer import Muxer, in_form

STREAM = Muxer().second(frames=4, key_bytes=2000, frame_bytes=700)


def feed(data: bytes, cuts: list[int]) -> tuple[list[tuple[int, bytes]], TsSync]:
    """Runs after feeding in portions that end at `cuts`; neighbours of one kind joined."""
    sync = TsSync()
    joined: list[tuple[int, bytes]] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    runs = [run for begin, end in pairwise(edges) for run in sync.feed_untrusted(data[begin:end])]
    for run in [*runs, *sync.flush()]:
        assert len(run.data) % run.unit_bytes == 0
        if joined and joined[-1][0] == run.unit_bytes:
            joined[-1] = (run.unit_bytes, joined[-1][1] + run.data)
        else:
            joined.append((run.unit_bytes, run.data))
    return joined, sync


@pytest.mark.parametrize("unit_bytes", [188, 192, 204])
def test_each_form_is_found(unit_bytes: int) -> None:
    data = in_form(STREAM, unit_bytes)
    runs, _ = feed(b"garbage" + data, [])
    assert runs == [(GARBAGE, b"garbage"), (unit_bytes, data)]


def test_a_wrong_synchronisation_byte_keeps_its_place() -> None:
    data = bytearray(STREAM)
    data[188 * 5] = 0
    runs, sync = feed(bytes(data), [])
    assert runs == [(188, bytes(data))]
    assert sync.damaged_packets == 1


def test_bytes_between_packets_end_the_lock() -> None:
    data = STREAM[: 188 * 6] + b"\0" * 50 + STREAM[188 * 6 :]
    runs, sync = feed(data, [])
    assert [size for size, _ in runs] == [188, GARBAGE, 188]
    assert sync.garbage_bytes == 50
    assert sync.locks_lost == 1


def test_a_truncated_packet() -> None:
    data = STREAM[: 188 * 6 - 40] + STREAM[188 * 6 :]
    runs, _ = feed(data, [])
    assert b"".join(part for _, part in runs) == data
    assert runs[-1] == (188, STREAM[188 * 7 :])


def test_what_is_no_stream_is_garbage_and_little_is_held() -> None:
    sync = TsSync()
    noise = random.Random(2).randbytes(100_000).replace(b"G", b"H")
    assert all(run.unit_bytes == GARBAGE for run in sync.feed_untrusted(noise))
    assert sync.held_bytes < 500


@settings(max_examples=60)
@given(
    st.lists(st.one_of(st.binary(max_size=300), st.integers(0, 40)), max_size=5),
    st.sampled_from([188, 192, 204]),
    st.lists(st.integers(0, 1 << 20), max_size=12),
)
def test_all_bytes_come_out_and_portions_do_not_matter(
    parts: list[bytes | int], unit_bytes: int, cuts: list[int]
) -> None:
    packets = in_form(STREAM, unit_bytes)
    data = b"".join(packets[: part * unit_bytes] if isinstance(part, int) else part for part in parts)
    runs, sync = feed(data, cuts)
    assert b"".join(part for _, part in runs) == data
    whole, again = feed(data, [])
    assert runs == whole
    assert (sync.damaged_packets, sync.garbage_bytes) == (again.damaged_packets, again.garbage_bytes)


def test_a_long_portion_with_much_damage() -> None:
    data = bytearray(Muxer().second())
    for number in range(3, len(data) // 188 - 2, 5):
        data[188 * number] = 0
    runs, sync = feed(bytes(data), [])
    assert runs == [(188, bytes(data))]
    assert sync.damaged_packets == len(range(3, len(data) // 188 - 2, 5))
    whole, _ = feed(Muxer().second() * 2, [])
    assert len(whole) == 1
