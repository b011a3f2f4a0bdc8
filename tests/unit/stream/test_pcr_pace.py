# SPDX-License-Identifier: Apache-2.0
"""The pace of a recorded stream."""

import pytest

from meshd.stream.pcr_pace import PcrPace
from tests.unit.stream.ts_muxer import Muxer, in_form


def run(data: bytes, step: int = 5000) -> list[tuple[float, bytes]]:
    pace = PcrPace()
    out = [each for pos in range(0, len(data), step) for each in pace.feed(data[pos : pos + step])]
    return out + pace.finish()


@pytest.mark.parametrize("unit_bytes", [188, 192, 204])
def test_nothing_is_changed_and_a_second_takes_one(unit_bytes: int) -> None:
    mux = Muxer()
    data = in_form(b"".join(mux.second(frames=30) for _ in range(3)), unit_bytes)
    rows = run(data)
    assert b"".join(part for _, part in rows) == data
    dues = [due for due, _ in rows]
    assert dues == sorted(dues)
    assert dues[0] == 0.0
    # 90 frames of 900 000 units of 27 MHz: the last begins 89 of them after the first.
    assert dues[-1] == pytest.approx(89 / 30)


def test_jumps_of_the_clock_cost_no_time() -> None:
    mux = Muxer()
    data = mux.second(frames=15)
    mux.pcr += 27_000_000 * 3600
    data += mux.second(frames=15)
    mux.pcr = 0
    data += mux.second(frames=15)
    rows = run(data)
    assert b"".join(part for _, part in rows) == data
    assert rows[-1][0] == pytest.approx(3 * 14 / 30)


def test_what_has_no_clock_is_due_at_once() -> None:
    rows = run(b"no stream at all" * 1000)
    assert b"".join(part for _, part in rows) == b"no stream at all" * 1000
    assert {due for due, _ in rows} == {0.0}
