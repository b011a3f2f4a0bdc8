# SPDX-License-Identifier: Apache-2.0
"""Figures of a video from what its source sent and what a viewer was shown: in time, whole, decodable, back again.

Packets are found again by their content, without the continuity counter: any may be missing, and who thins writes the
counters anew. Tables, whose packets are all alike, are left out of the percentages.
"""

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from netns_lab.ffmpeg import decode
from netns_lab.video_clip import KLV_PID, PACKET_BYTES, PMT_PID, VIDEO_PID, packet_pid, starts_unit
from netns_lab.video_ends import Recording, match, unique

PAT_PID: Final = 0
RANDOM_ACCESS: Final = 0x40
NEVER: Final = -1.0

Packets = list[tuple[bytes, float]]


def is_picture(packet: bytes) -> bool:
    """A frame begins in it."""
    return packet_pid(packet) == VIDEO_PID and starts_unit(packet)


def is_key(packet: bytes) -> bool:
    """A key frame begins in it."""
    has_flags = bool(packet[3] & 0x20) and packet[4] > 0
    return is_picture(packet) and has_flags and bool(packet[5] & RANDOM_ACCESS)


def show_figures(sent: Recording, seen: Recording, limit_s: float) -> dict[str, float]:
    """What was shown, and when; a packet is in time when it was shown so long after it was sent."""
    packets = unique(judged(sent))
    delays = [seen_s - sent_s for _, sent_s, seen_s in match(packets, seen.packets())]
    return {
        "on_time_pct": 100 * sum(delay_s <= limit_s for delay_s in delays) / len(packets),
        "played_pct": 100 * len(delays) / len(packets),
        "delay_p50_s": statistics.median(delays) if delays else NEVER,
        "delay_max_s": max(delays, default=NEVER),
    }


def named(recording: Recording) -> Packets:
    """From the first program map on: nobody can know what an earlier packet is, so no viewer is shown it."""
    rows = recording.packets()
    first = next((number for number, (packet, _) in enumerate(rows) if packet_pid(packet) == PMT_PID), 0)
    return rows[first:]


def judged(sent: Recording) -> Packets:
    """Without the last picture, too: nobody knows that it is whole before another one begins."""
    rows = named(sent)
    begins = [number for number, (packet, _) in enumerate(rows) if is_picture(packet)]
    return rows[: begins[-1]] if begins else rows


def klv_of(recording: Recording) -> list[bytes]:
    """Its KLV packets, in order."""
    return [packet for packet, _ in named(recording) if packet_pid(packet) == KLV_PID]


def content_figures(sent: Recording, seen: Recording) -> dict[str, float]:
    """Whether a decoder and a reader of KLV are given what the source would give them."""
    source, shown = decode(bytes(sent.data)), decode(bytes(seen.data))
    return {
        "decoder_errors": shown.complaints,
        "pictures_pct": 100 * len(set(shown.pictures) & set(source.pictures)) / max(len(set(source.pictures)), 1),
        "klv_equal": int(klv_of(sent) == klv_of(seen)),
    }


def back_after_s(sent: Recording, seen: Recording, restored_s: float) -> float:
    """From the return of a link to the first picture sent after it that was shown: when it was sent."""
    pairs = match(unique(sent.packets()), seen.packets())
    begins = [sent_s for packet, sent_s, _ in pairs if is_picture(packet)]
    return min((sent_s - restored_s for sent_s in begins if sent_s > restored_s), default=float("inf"))


def thinned_figures(seen: Recording, begin_s: float, end_s: float) -> dict[str, float]:
    """Of a time in which not all is shown: the longest waits for key frames and KLV, and what a decoder says."""
    rows = [(packet, time_s) for packet, time_s in seen.packets() if begin_s <= time_s <= end_s]
    keys = [time_s for packet, time_s in rows if is_key(packet)]
    sets = [time_s for packet, time_s in rows if packet_pid(packet) == KLV_PID]
    decoded = decode(decodable(seen, begin_s, end_s))
    return {
        "key_wait_s": longest_wait_s(keys, begin_s, end_s),
        "klv_wait_s": longest_wait_s(sets, begin_s, end_s),
        "thinned_pictures": len(decoded.pictures),
        "thinned_errors": decoded.complaints,
        "thinned_packets_per_s": len(rows) / (end_s - begin_s),
    }


def longest_wait_s(times_s: Sequence[float], begin_s: float, end_s: float) -> float:
    """Between two of them, or the ends."""
    return max(after_s - before_s for before_s, after_s in pairwise([begin_s, *times_s, end_s]))


def decodable(seen: Recording, begin_s: float, end_s: float) -> bytes:
    """What was shown from the first key frame of a time to its last begin of a frame, behind the tables."""
    tables: dict[int, bytes] = {}
    out, whole = bytearray(), 0
    for (packet, time_s), pos in zip(seen.packets(), range(0, len(seen.data), PACKET_BYTES), strict=True):
        if time_s > end_s:
            break
        if not out:
            if packet_pid(packet) in (PAT_PID, PMT_PID):
                tables[packet_pid(packet)] = bytes(seen.data[pos : pos + PACKET_BYTES])
            if time_s < begin_s or not is_key(packet) or len(tables) < 2:
                continue
            out += tables[PAT_PID] + tables[PMT_PID]
        elif is_picture(packet):
            whole = len(out)
        out += seen.data[pos : pos + PACKET_BYTES]
    return bytes(out[:whole])
