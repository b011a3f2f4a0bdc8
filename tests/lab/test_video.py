# SPDX-License-Identifier: Apache-2.0
"""Short form of the video table: ffmpeg's clip between real daemons over a clean link and over one with loss.

What is asked here does not depend on how fast the machine is: the archive, and on the clean link that a decoder and a
reader of KLV are given what the source would give them. The buffer is larger than any machine needs.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.lab.video_run import LAN, SATCOM, Clips, Video, run_row

SECONDS = 3
BUFFER_MS = 3000
VIDEOS = {
    "clean": Video(LAN, BUFFER_MS, SECONDS),
    "loss": Video(SATCOM | {"loss": 0.05}, BUFFER_MS, SECONDS),
}
lab = [pytest.mark.root, pytest.mark.lab, pytest.mark.programs("ip", "ffmpeg")]


def with_lab(test: Any) -> Any:
    for mark in lab:
        test = mark(test)
    return test


@pytest.fixture(scope="module")
def measured() -> Iterator[dict[str, Future[dict[str, Any]]]]:
    """Both links at once: they wait more than they compute."""
    with Clips() as clips, ThreadPoolExecutor(2) as pool:
        clip = clips.path(SECONDS)
        yield {name: pool.submit(run_row, name, video, clip, 1) for name, video in VIDEOS.items()}


@with_lab
def test_over_a_clean_link_what_is_shown_decodes(measured: dict[str, Future[dict[str, Any]]]) -> None:
    figures = measured["clean"].result()
    # Not all of it where the machine itself is the slow link: then frames are left out, and what is left is whole.
    assert figures["played_pct"] > 0
    assert figures["decoder_errors"] == 0
    assert figures["klv_equal"] == 1


@with_lab
@pytest.mark.parametrize("name", VIDEOS)
def test_the_archive_is_what_was_sent(measured: dict[str, Future[dict[str, Any]]], name: str) -> None:
    assert measured[name].result()["archive_identical"] == 1
