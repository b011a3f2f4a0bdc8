# SPDX-License-Identifier: Apache-2.0
"""Short forms of two rows of the table of silence: silence broken by order, and the end of a silence."""

from typing import Any

import pytest

from tests.lab.radio_run import Row, run_row

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.programs("ip", "tc", "nft")]
LATE_S = 0.05
"""Of the kernel's timers."""


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, Any]]:
    return run_row(Row("several", "several", {"delay_s": 0.05}, {"breach": {}, "leaving": {}}), 1)


def test_only_what_is_urgent_leaves_within_window_and_quota(measured: dict[str, dict[str, Any]]) -> None:
    breach = measured["breach"]
    assert breach["frames_open"] > 0
    assert breach["frames_silent"] == 0
    assert (breach["flash_arrived"], breach["routine_arrived"]) == (True, False)
    assert 0 < breach["bytes_by_the_kernel"] <= breach["quota_bytes"]
    assert breach["late_s"] <= LATE_S
    assert breach["frames_afterwards"] == 0


def test_one_message_alone_is_let_out(measured: dict[str, dict[str, Any]]) -> None:
    breach = measured["breach"]
    assert breach["single_arrived"]
    assert not breach["others_arrived"]


def test_kernel_sniffer_and_verdict_agree_and_each_time_is_on_record(measured: dict[str, dict[str, Any]]) -> None:
    breach = measured["breach"]
    assert breach["frames_by_the_kernel"] == breach["frames_by_the_sniffer"] > 0
    assert breach["bytes_by_the_kernel"] == breach["bytes_by_the_sniffer"]
    assert breach["frames_by_verify"] == breach["frames_in_all"]
    assert breach["is_verified"]
    assert breach["on_record"] == 3


def test_after_a_silence_nothing_leaves_early_and_the_urgent_leaves_first(measured: dict[str, dict[str, Any]]) -> None:
    leaving = measured["leaving"]
    assert leaving["complete"] == 20
    assert leaving["frames_silent"] == leaving["frames_early"] == 0
    assert leaving["frames_open"] > 0
    assert leaving["is_in_order"]
