# SPDX-License-Identifier: Apache-2.0
"""Whether silence is kept."""

from meshd.emcon.gate import GateCounters
from meshd.emcon.tripwire import Leak, Tripwire


def shut(tx_frames: int) -> dict[str, GateCounters]:
    return {"los": GateCounters(tx_frames, 0, is_open=False)}


def test_the_first_look_is_the_baseline() -> None:
    wire = Tripwire()
    assert wire.check({"los"}, shut(1000)) == []
    assert wire.check({"los"}, shut(1000)) == []
    assert wire.check({"los"}, shut(1001)) == [Leak("los", 1, is_open=False)]
    assert wire.check({"los"}, shut(1001)) == []


def test_opening_forgets_the_baseline() -> None:
    wire = Tripwire()
    wire.check({"los"}, shut(1000))
    wire.check(set(), shut(5000))
    assert wire.check({"los"}, shut(9000)) == []


def test_a_device_made_anew_counts_from_zero() -> None:
    wire = Tripwire()
    wire.check({"los"}, shut(1000))
    assert wire.check({"los"}, {}) == []
    assert wire.check({"los"}, shut(0)) == []
    assert wire.check({"los"}, shut(2)) == [Leak("los", 2, is_open=False)]


def test_fewer_frames_than_before_are_no_leak() -> None:
    wire = Tripwire()
    wire.check({"los"}, shut(1000))
    assert wire.check({"los"}, shut(1)) == []
    assert wire.check({"los"}, shut(2)) == [Leak("los", 1, is_open=False)]


def test_what_the_gate_has_let_out_is_no_leak_even_if_it_waited_in_a_queue() -> None:
    wire = Tripwire()

    def look(tx_frames: int, excepted_frames: int) -> list[Leak]:
        counters = GateCounters(tx_frames, 0, is_open=False, excepted_frames=excepted_frames)
        return wire.check({"los"}, {"los": counters})

    assert look(1000, 50) == []
    assert look(1001, 53) == []
    assert look(1003, 53) == []
    assert look(1004, 53) == [Leak("los", 1, is_open=False)]
    assert look(0, 53) == []
    assert look(1, 53) == [Leak("los", 1, is_open=False)]
