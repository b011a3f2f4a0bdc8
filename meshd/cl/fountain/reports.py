# SPDX-License-Identifier: Apache-2.0
"""What one report to a node says: what arrived, which objects are taken or refused, and what the others need."""

from typing import Final

from meshd.cl.fountain.frame_codec import frame_bytes
from meshd.cl.fountain.frames import ACKS_MAX, FRAMES_MAX, U32_MAX, Ack, AckRow, Frame, Need, Pong, Refuse
from meshd.cl.fountain.incoming_object import State
from meshd.cl.fountain.peer import Peer
from meshd.cl.fountain.ports import Tags
from meshd.security.pairwise import Verdict

NEEDS_MAX: Final = 96
ANSWER_BYTES: Final = 24
"""No answer takes more; answers take up to half of a report."""


def make_report(peer: Peer, tags: Tags, epoch: int, room_bytes: int, now: float) -> list[Frame]:
    """The frames of a report that leaves now, under this epoch; at most so many bytes."""
    frames: list[Frame] = []
    index = peer.settings.index
    if peer.pong is not None:
        token, at = peer.pong
        frames.append(Pong(index, token, min(int((now - at) * 1e6), U32_MAX)))
        peer.pong = None
    frames.append(peer.make_report(now))
    room_bytes -= sum(map(frame_bytes, frames))
    answers = _make_answers(peer, tags, epoch, min(room_bytes // 2 // ANSWER_BYTES, ACKS_MAX, FRAMES_MAX // 2))
    room_bytes -= sum(map(frame_bytes, answers))
    frames += answers
    needs = min(room_bytes // NEED_BYTES, NEEDS_MAX, FRAMES_MAX - len(frames))
    return frames + [
        Need(index, object_id, count) for object_id, count in peer.receiver.needs(needs, now, peer.heard_at)
    ]


def _make_answers(peer: Peer, tags: Tags, epoch: int, count: int) -> list[Frame]:
    index, node = peer.settings.index, peer.settings.node
    rows: list[AckRow] = []
    frames: list[Frame] = []
    for item in peer.receiver.take_answers(count):
        verdict = Verdict.REFUSED if item.state is State.REFUSED else Verdict.TAKEN
        tag = tags.make_tag(node, epoch, verdict, item.object_id, item.digest)
        if verdict is Verdict.TAKEN:
            rows.append(AckRow(item.object_id, tag))
        else:
            frames.append(Refuse(index, item.object_id, item.reason, tag))
    return [*frames, Ack(index, tuple(rows))] if rows else frames


NEED_BYTES: Final = frame_bytes(Need(0, bytes(8), 0))
