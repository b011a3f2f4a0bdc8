# SPDX-License-Identifier: Apache-2.0
"""A schedule of one real daemon in the signed advertisement, as its neighbour knows it and goes by it."""

import pytest

from tests.lab.radio_run import Row, run_row

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.programs("ip", "tc", "nft")]
ROUNDED_MS = 1000


def test_a_neighbour_sends_blind_by_the_plan_and_routes_by_its_windows() -> None:
    found = run_row(Row("planned", "planned", {"delay_s": 0.05, "is_signed": True}), 1)
    assert found["is_the_same_plan"]
    assert found["is_sent_to_at_once"], "routes to who is silent stay"
    assert found["arrival_after_window_ms"] >= -ROUNDED_MS, "routes through it wait for its window"
    assert found["arrived_blind"]
    assert found["frames_back"] == 0
    assert found["is_kept"]
    assert found["is_still_silent"]
    assert found["after_the_silence_s"] > 0, "acknowledged in the window"
    assert found["frames_open"] > 0
