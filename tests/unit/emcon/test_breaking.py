# SPDX-License-Identifier: Apache-2.0
"""Silence broken by order: what is refused, what is counted, and that nobody takes it for a leak."""

import dataclasses
from typing import Any

import pytest

from meshd.emcon.breaking import QUOTA_MAX_BYTES, WINDOW_MAX_S, Breaking, BreakOrder, breaking_mark, wrong_with_breaking
from meshd.emcon.commands import Report
from meshd.emcon.events import CountersRead, SilenceBroken
from meshd.emcon.gate import GateCounters
from meshd.link.settings import Posture
from tests.unit.emcon.emcon_samples import BEARERS, Playbook, only, order_state

ORDER = BreakOrder(("sat",), 2.0, 20_000, "convoy hit", "uid 7")
POSTURES = {"sat": Posture.RX_ONLY, "los": Posture.OFF, "lan": Posture.OPEN}


def counted(tx: int, marked: int = 0) -> GateCounters:
    return GateCounters(tx, 0, False, marked)


def test_a_silent_bearer_may_be_broken_and_its_mark_is_one_of_its_own() -> None:
    assert wrong_with_breaking(ORDER, POSTURES, BEARERS) is None
    assert breaking_mark(BEARERS[0]) not in {0, *(bearer.mark for bearer in BEARERS)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bearers": ()}, "at least one"),
        ({"bearers": ("sat", "sat")}, "each of them once"),
        ({"bearers": ("sat", "radio9")}, "no bearer 'radio9'"),
        ({"bearers": ("los",)}, "is down"),
        ({"bearers": ("lan",)}, "not silent"),
        ({"window_s": 0.0}, "window"),
        ({"window_s": WINDOW_MAX_S + 1}, "window"),
        ({"quota_bytes": 100}, "quota"),
        ({"quota_bytes": QUOTA_MAX_BYTES + 1}, "quota"),
        ({"reason": " "}, "reason"),
        ({"reason": "x" * 2000}, "reason"),
    ],
)
def test_what_is_refused_says_why(change: dict[str, Any], words: str) -> None:
    refusal = wrong_with_breaking(dataclasses.replace(ORDER, **change), POSTURES, BEARERS)
    assert refusal is not None
    assert words in refusal


def test_what_it_lets_out_is_counted_over_windows_and_gates_laid_anew() -> None:
    breaking = Breaking()
    breaking.begin(["dev-sat"], {"dev-sat": counted(10, 3)})
    assert breaking.devices == {"dev-sat"}
    assert breaking.frames("dev-sat", counted(14, 7)) == 4
    breaking.end(["dev-sat", "los"], {"dev-sat": counted(15, 8)})
    assert not breaking.devices
    breaking.begin(["dev-sat"], {"dev-sat": counted(15, 0)})
    assert breaking.frames("dev-sat", counted(17, 2)) == 7
    breaking.end(["dev-sat"], {})
    assert breaking.frames("dev-sat", counted(17, 2)) == 5, "nobody could count the last one"


def test_the_tripwire_leaves_out_what_is_broken_by_order_and_only_that() -> None:
    play = Playbook()
    play.boot(order_state("silent"))

    def leaks(sat: int, los: int) -> list[Report]:
        counters = {"dev-sat": counted(sat), "los": counted(los)}
        return only(play.tell(CountersRead(counters)), Report)

    assert not leaks(5, 5)
    play.tell(SilenceBroken(frozenset(("dev-sat",))))
    assert not leaks(25, 5)
    assert len(leaks(30, 6)) == 1
    play.tell(SilenceBroken(frozenset()))
    assert not leaks(30, 6)
    assert not leaks(30, 6), "counting begins anew"
    assert len(leaks(31, 6)) == 1


def test_a_moment_between_two_looks_is_no_leak_either() -> None:
    play = Playbook()
    play.boot(order_state("silent"))
    counters = {"dev-sat": counted(5)}
    play.tell(CountersRead(counters))
    play.tell(SilenceBroken(frozenset(("dev-sat",))))
    play.tell(SilenceBroken(frozenset()))
    for tx in (8, 8, 8):
        assert not only(play.tell(CountersRead({"dev-sat": counted(tx)})), Report)
    assert only(play.tell(CountersRead({"dev-sat": counted(9)})), Report)
