# SPDX-License-Identifier: Apache-2.0
"""Short forms of the table of silence: two real daemons, three wires, a sniffer outside the silent one's namespace.

Each test has the count without the gate beside the 0. The windows of a minute are in silence_run.py.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lab.radio_run import RowFailed
from tests.lab.silence_run import daemon_rows, measure, radio_rows
from tests.lab.snooping import measure_snooping

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.programs("ip", "tc", "nft")]
RUN_TIMEOUT_S = 200.0
SHORT: list[dict[str, dict[str, float]]] = [
    {
        "attack": {"for_s": 1.5},
        "closing": {"count": 3},
        "order": {"count": 1},
        "stranger": {"for_s": 0.5},
        "three": {"for_s": 1.0},
        "survival": {"for_s": 0.3},
    },
    {
        "backlog": {},
        "full disk": {"for_s": 0.5},
        "lease": {"lease_s": 1, "more_s": 0.5},
        "boot": {"for_s": 1.5},
    },
]
"""Two labs at once; in each, one measure after the other: daemons take longer to start than to be looked at."""
Figures = dict[str, float]


@pytest.fixture(scope="module")
def measured() -> dict[str, Figures]:
    with ThreadPoolExecutor(len(SHORT)) as pool:
        one, other = pool.map(measure, SHORT, [RUN_TIMEOUT_S] * len(SHORT))
    return one | other


def test_a_host_without_state_boots_silent(measured: dict[str, Figures]) -> None:
    assert measured["boot"]["frames_open"] > 0
    assert measured["boot"]["frames_silent"] == 0


def test_nobody_is_answered_and_everything_is_heard(measured: dict[str, Figures]) -> None:
    attack = measured["attack"]
    assert attack["frames_open"] > 10
    assert attack["frames_silent"] == 0
    assert attack["multicast_pct"] >= 99


def test_nothing_leaves_after_the_order_has_returned(measured: dict[str, Figures]) -> None:
    closing = measured["closing"]
    assert closing["open_frames_per_s"] > 100
    assert closing["late_frames"] == 0


def test_the_command_returns_when_all_gates_are_shut(measured: dict[str, Figures]) -> None:
    assert measured["order"]["all_shut"]


def test_what_waits_in_the_queue_does_not_leave(measured: dict[str, Figures]) -> None:
    backlog = measured["backlog"]
    assert backlog["frames_open"] > 10
    assert backlog["frames_silent"] == 0
    assert backlog["shaper_is_back"]


def test_a_killed_daemon_is_silent_within_its_lease(measured: dict[str, Figures]) -> None:
    lease = measured["lease"]
    assert lease["frames_open"] > 0
    assert lease["last_frame_s"] <= lease["lease_s"]
    assert lease["frames_after_lease"] == 0


@pytest.mark.parametrize("event", ["kill", "restart", "reload", "replug", "flush", "clsact", "stop", "upgrade"])
def test_silence_survives(measured: dict[str, Figures], event: str) -> None:
    assert measured["survival"]["frames_open"] > 0
    assert measured["survival"][f"frames_{event}"] == 0


def test_a_full_disk_keeps_silent_and_opens_nothing(measured: dict[str, Figures]) -> None:
    disk = measured["full disk"]
    assert disk["frames_open"] > 0
    assert disk["frames_silent"] == 0
    assert (disk["is_alarm"], disk["is_opening_refused"], disk["is_silent"]) == (True, True, True)


def test_one_of_three_bearers_is_silent_and_the_others_lose_nothing(measured: dict[str, Figures]) -> None:
    three = measured["three"]
    assert three["frames_open"] > 0
    assert three["frames_silent"] == three["heard_on_silent"] == 0
    assert three["sent_on_others"] > 100
    assert three["lost_on_others"] == three["messages_lost"] == 0


def test_a_user_without_a_role_changes_nothing(measured: dict[str, Figures]) -> None:
    stranger = measured["stranger"]
    assert stranger["exit_code"] == 7
    assert stranger["on_record"] == 2
    assert stranger["is_log_whole"]
    assert stranger["frames_open"] > 0
    assert stranger["frames_silent"] == 0


def test_behind_a_snooping_switch(tmp_path: Path) -> None:
    found = measure_snooping(4.0, is_quick=True, shaping_dir=tmp_path)
    assert found["frames_open"] > 0
    assert found["frames_silent"] == 0
    assert found["static_pct"] >= 99
    assert found["link_local_pct"] >= 99
    assert found["joined_open_pct"] > 50
    assert found["joined_at_the_end_pct"] == 0, "or the switch does not snoop"


def test_a_lab_that_fails_says_why() -> None:
    with pytest.raises(RowFailed, match="KeyError"):
        measure({"no such measure": {}}, RUN_TIMEOUT_S)


def test_every_row_has_a_count_without_the_gate() -> None:
    for row in daemon_rows():
        heard = [bound for bound in row.bounds if bound.at_least > 0 and "open" in bound.figure]
        assert heard or row.name == "order"
    assert len({row.name for row in (*daemon_rows(), *radio_rows())}) == 14
