# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.base.errors import StoreError
from meshd.bundle.dtn_time import SEQUENCE_BLOCK, CreationClock, dtn_ms_from_unix, unix_from_dtn_ms


def test_the_dtn_epoch() -> None:
    assert dtn_ms_from_unix(946_684_800) == 0
    assert dtn_ms_from_unix(946_684_801.5) == 1500
    assert dtn_ms_from_unix(0) == 0
    assert unix_from_dtn_ms(1500) == 946_684_801.5


def test_without_a_clock_the_time_is_zero_and_the_sequence_grows() -> None:
    clock = CreationClock(None)
    assert [clock.next(None) for _ in range(3)] == [(0, 0), (0, 1), (0, 2)]


def test_a_note_is_due_with_the_first_timestamp_of_each_block_and_once() -> None:
    clock = CreationClock(None)
    assert clock.reservation() is None
    due = []
    for number in range(2 * SEQUENCE_BLOCK + 1):
        clock.next(number)
        if clock.reservation() is not None:
            due.append(number)
        assert clock.reservation() is None
    assert due == [0, SEQUENCE_BLOCK, 2 * SEQUENCE_BLOCK]


def test_two_starts_within_one_millisecond_share_no_timestamp() -> None:
    first = CreationClock(None)
    given_out = {first.next(5) for _ in range(10)}
    note = first.reservation()
    second = CreationClock(note)
    assert given_out.isdisjoint({second.next(5) for _ in range(2000)})


@given(
    st.lists(
        st.tuples(st.lists(st.one_of(st.none(), st.integers(-5, 5)), max_size=30), st.integers(0, 30)), max_size=8
    ),
    st.integers(1, 7),
)
def test_no_timestamp_is_given_twice_whatever_clock_and_crashes_do(
    lives: list[tuple[list[int | None], int]], jumps: int
) -> None:
    """Each life of the daemon ends with a crash that loses all but the stored notes; the clock steps as it likes."""
    stored: bytes | None = None
    seen: set[tuple[int, int]] = set()
    for clock_readings, _ in lives:
        clock = CreationClock(stored)
        for reading in clock_readings:
            for _ in range(SEQUENCE_BLOCK // 3 if jumps == 1 else 1):
                timestamp = clock.next(reading)
                stored = clock.reservation() or stored
                assert timestamp not in seen
                seen.add(timestamp)


def test_a_note_that_was_never_stored_was_never_used() -> None:
    """The crash comes between making the timestamp and storing its note: the bundle never left."""
    clock = CreationClock(None)
    clock.next(1)
    assert CreationClock(None).next(1) == (1, 0)
    assert clock.reservation() is not None


@pytest.mark.parametrize(
    "note", [b"", b"\x82", b"\x82\x01", b"\x82\x02\x05", b"\x83\x01\x05\x00", b"\x82\x01\x05\x00", b"xx"]
)
def test_a_damaged_note_stops_us(note: bytes) -> None:
    with pytest.raises(StoreError):
        CreationClock(note)
