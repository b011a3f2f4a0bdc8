# SPDX-License-Identifier: Apache-2.0
"""The table of the video demonstration: what was sent and seen, by content, and the verdict."""

from netns_lab.video_clip import KLV_PID, VIDEO_PID, klv_packet
from netns_lab.video_ends import WINDOW_BYTES, Recording, match
from netns_lab.video_report import LEVELS, Report, Spell, Viewed, count_units
from tests.unit.stream.ts_muxer import Muxer

FRAMES = 20


def recorded(units: list[tuple[bytes, float]]) -> Recording:
    recording = Recording()
    for data, time_s in units:
        recording.add(data, time_s)
    return recording


def video() -> list[tuple[bytes, float]]:
    """A frame and a local set a second."""
    mux = Muxer()
    return [
        (mux.frame(number == 0, 500) + klv_packet(number, 10**15 + number), float(number)) for number in range(FRAMES)
    ]


def seen_later(units: list[tuple[bytes, float]], delay_s: float) -> list[tuple[bytes, float]]:
    return [(data, time_s + delay_s) for data, time_s in units]


def test_what_was_seen_is_found_by_content_whatever_its_counters() -> None:
    sent = video()
    counted_anew = [(bytes((*data[:3], data[3] ^ 0x05, *data[4:])), time_s) for data, time_s in seen_later(sent, 2.0)]
    pairs = match(recorded(sent).packets(), recorded(counted_anew[:5] + counted_anew[8:]).packets())
    assert {round(seen_s - sent_s, 6) for _, sent_s, seen_s in pairs} == {2.0}
    assert {sent_s for _, sent_s, _ in pairs} == {float(number) for number in range(FRAMES)} - {5.0, 6.0, 7.0}


def test_figures_leave_the_outage_out_and_find_its_end() -> None:
    sent = video()
    viewed = Viewed("dpop2", "SATCOM", outage=Spell(4.5, 7.5))
    viewed.compare(recorded(sent), recorded(seen_later(sent[:5] + sent[9:], 2.0)))
    assert viewed.klv_sets == FRAMES - 4
    assert viewed.packets_pct == 100 * (FRAMES - 4) / FRAMES
    assert viewed.packets_pct_outside == 100 * (FRAMES - 4) / (FRAMES - 3)
    assert (viewed.back_s, viewed.standstill_s) == (9.0 - 7.5, 9.0 - 4.0)


def test_the_picture_of_an_instant_is_the_last_whole_one() -> None:
    units = video()
    recording = recorded(units)
    assert recording.window(-1.0) == b""
    assert recording.window(3.5) == b"".join(data for data, _ in units[:3])
    assert recording.window(3.5) == recording.window(3.0)
    long = recorded([(data, 0.0) for data, _ in units * 1000])
    assert len(long.window(1.0)) == WINDOW_BYTES


def test_units_are_counted_by_their_beginnings() -> None:
    packets = recorded(video()).packets()
    assert (count_units(packets, VIDEO_PID), count_units(packets, KLV_PID)) == (FRAMES, FRAMES)


def report(*viewed: Viewed) -> Report:
    return Report(2_100_000, 750, 250, viewed)


def test_the_verdict_needs_pictures_and_the_same_archive() -> None:
    good = Viewed("dpop2", "SATCOM", pictures=700, filled_s=4.0, is_identical=True)
    assert report(good).holds()
    assert not report(good, Viewed("dpop3", "radio", pictures=0, filled_s=4.0, is_identical=True)).holds()
    assert not report(good, Viewed("dpop3", "radio", pictures=25, filled_s=4.0)).holds()
    assert not report(good, Viewed("dpop3", "radio", pictures=25)).holds()


def test_the_table_says_what_happened_to_each() -> None:
    levels = [(6.2, LEVELS["key_frames_and_klv"])]
    one = Viewed("dpop2", "SATCOM", outage=Spell(1.0, 2.0), packets_pct=75.0, packets_pct_outside=99.5, back_s=0.25)
    two = Viewed("dpop3", "radio", levels=levels, pictures=25, damaged=3, filled_s=41.0, is_identical=True)
    text = report(one, two).text()
    for words in (
        "NOT COMPLETE",
        "bit-identical, 41 s",
        "from 6 s key frames + KLV",
        "25 of 750, 3 damaged",
        "99.5 %",
        "0.25 s",
    ):
        assert words in text
    assert report(Viewed("dpop2", "SATCOM", filled_s=1.0)).text().count("DIFFERENT") == 1
    assert (two.level_at(6.0), two.level_at(7.0)) == ("all", "key frames + KLV")
