# SPDX-License-Identifier: Apache-2.0
"""What each frame of a node means: for its receiver, for our sender, and for what is known of its life."""

from collections import Counter, deque
from collections.abc import Sequence
from typing import assert_never

from meshd.cl.fountain.datagram import Opened
from meshd.cl.fountain.events import Event, FailureReason, PeerDown, PeerUp, StateCloned
from meshd.cl.fountain.frames import (
    Ack,
    AckRow,
    Beacon,
    Frame,
    Group,
    Heard,
    Need,
    Ping,
    Pong,
    Refuse,
    Report,
    Silent,
    Symbol,
)
from meshd.cl.fountain.peer import SILENCE_MIN_S, Life, Peer
from meshd.cl.fountain.ports import Seal, Tags
from meshd.cl.fountain.receiver import REFUSED_FOR_NOW
from meshd.cl.fountain.sender import Sender
from meshd.cl.fountain.settings import FountainSettings
from meshd.security.pairwise import Verdict


class Listener:
    """Takes the frames that were heard on one bearer."""

    def __init__(
        self,
        settings: FountainSettings,
        seal: Seal,
        tags: Tags,
        sender: Sender,
        events: deque[Event],
        faults: Counter[str],
    ) -> None:
        """`events` and `faults` are the machine's."""
        self._settings = settings
        self._seal = seal
        self._tags = tags
        self._sender = sender
        self._events = events
        self._faults = faults

    def take_frames(
        self, peer: Peer, opened: Opened, frames: Sequence[Frame], now: float, *, is_frozen: bool = False
    ) -> bool:
        """All frames of one datagram; True when the node has to hear of us: it has come up, or does not know us.

        While we are silent ourselves, it is no wonder that nobody hears us.
        """
        is_new_start = peer.note_arrival(opened, now)
        if is_new_start:
            peer.meter.restart()
            if peer.delivery is not None:
                peer.delivery.restart()
        has_come_up = self._hear(peer, frames, now)
        is_missing_us = self._take_each(peer, opened, frames, now, is_frozen=is_frozen)
        if peer.is_one_way:
            self._lose(peer)
        return has_come_up or is_new_start or is_missing_us

    def _lose(self, peer: Peer) -> None:
        """It is heard, but what we send does not reach it."""
        if peer.life is Life.UP:
            self._events.append(PeerDown(peer.settings.node, FailureReason.ONE_WAY))
            peer.life = Life.ONE_WAY
            self._sender.node_died(peer.settings.index)
        elif peer.life is Life.DOWN:
            peer.life = Life.ONE_WAY

    def _hear(self, peer: Peer, frames: Sequence[Frame], now: float) -> bool:
        """The node lives; unless what it says is that it falls silent."""
        if peer.life in (Life.UP, Life.MUTE) or any(isinstance(each, Silent) and each.is_silent for each in frames):
            return False
        if peer.life is Life.ONE_WAY and not self._is_named(frames):
            return False
        if peer.life is Life.SILENT:
            if now < peer.silenced_at + SILENCE_MIN_S:
                return False
            self._sender.set_blind(peer.settings.index, is_blind=False)
        peer.life = Life.UP
        peer.is_expecting = False
        self._sender.grant_all()
        if self._sender.has_open(peer.settings.index):
            peer.expect(now)
            peer.probe_at = now  # find out at once what it has
        self._events.append(PeerUp(peer.settings.node, is_blind=False))
        return True

    def _is_named(self, frames: Sequence[Frame]) -> bool:
        """True when whoever sent these hears us."""
        own = self._settings.index
        for frame in frames:
            match frame:
                case Ack() | Refuse() | Need() | Report() | Pong():
                    if frame.node == own:
                        return True
                case Heard():
                    if own in frame.nodes:
                        return True
                case _:
                    pass
        return False

    def _take_each(self, peer: Peer, opened: Opened, frames: Sequence[Frame], now: float, *, is_frozen: bool) -> bool:
        """True when it should have named us."""
        own = self._settings.index
        is_missing_us = False
        report: Report | None = None
        needs: dict[bytes, int] = {}
        has_symbol = False
        for frame in frames:
            match frame:
                case Symbol():
                    peer.receiver.take_symbol(frame, now)
                    has_symbol = True
                case Need(node, object_id, count):
                    if node == own:
                        needs[object_id] = count
                case Ack(node, rows):
                    if node == own:
                        for row in rows:
                            self._take_ack(peer, opened.epoch, row)
                case Refuse():
                    if frame.node == own:
                        self._take_refusal(peer, opened.epoch, frame)
                case Report():
                    if frame.node == own:
                        report = frame
                        peer.note_named()
                case Ping(token):
                    peer.pong = (token, now)
                    peer.want_report(now)
                case Silent():
                    self._take_silence(peer, frame, now)
                case Group(group, members):
                    peer.receiver.take_group(group, members)
                case Heard():
                    is_missing_us = not is_frozen and peer.take_heard(frame, own, now)
                case Pong() | Beacon():
                    pass
                case _:
                    assert_never(frame)
        if has_symbol:
            peer.want_report(now)
        elif needs:
            peer.note_control(now)
        if report is not None:
            self._take_report(peer, report, needs, now)
        return is_missing_us

    def _take_report(self, peer: Peer, report: Report, needs: dict[bytes, int], now: float) -> None:
        if self._seal.is_ahead(report.boot, report.counter):
            self._events.append(StateCloned())
        elif report.boot == self._seal.boot and peer.meter.take_report(report, now):
            if peer.delivery is not None:
                peer.delivery.take_report(report, now)
            self._sender.take_report(peer.settings.index, peer.meter.settled, needs, now)

    def _take_ack(self, peer: Peer, epoch: int, row: AckRow) -> None:
        index, node = peer.settings.index, peer.settings.node
        digest = self._sender.get_digest(index, row.object_id)
        if digest is None:
            return
        if self._tags.is_tag_good(row.tag, node, epoch, Verdict.TAKEN, row.object_id, digest):
            peer.meter.count.note_proven(self._sender.take_ack(index, row.object_id))
        else:
            self._faults["ack"] += 1

    def _take_refusal(self, peer: Peer, epoch: int, frame: Refuse) -> None:
        index, node = peer.settings.index, peer.settings.node
        digest = self._sender.get_digest(index, frame.object_id)
        if digest is None:
            return
        if self._tags.is_tag_good(frame.tag, node, epoch, Verdict.REFUSED, frame.object_id, digest):
            is_for_now = frame.reason == REFUSED_FOR_NOW
            reason = FailureReason.REFUSED_FOR_NOW if is_for_now else FailureReason.REFUSED
            self._sender.take_refusal(index, frame.object_id, reason)
        else:
            self._faults["refusal"] += 1

    def set_silent(self, peer: Peer, for_s: int | None, now: float) -> None:
        """As if it had said so itself; None: it is asked to be heard before it is counted on again."""
        if for_s is not None:
            self._take_silence(peer, Silent(is_silent=True, for_s=for_s), now)
        elif peer.life is Life.SILENT:
            peer.life = Life.DOWN
            self._sender.set_blind(peer.settings.index, is_blind=False)
            self._events.append(PeerDown(peer.settings.node))

    def _take_silence(self, peer: Peer, frame: Silent, now: float) -> None:
        if frame.is_silent and peer.life in (Life.UP, Life.UNKNOWN, Life.DOWN, Life.ONE_WAY):
            peer.life = Life.SILENT
            peer.silenced_at = now
            self._sender.set_blind(peer.settings.index, is_blind=True)
            self._events.append(PeerUp(peer.settings.node, is_blind=True, silent_s=frame.for_s))
