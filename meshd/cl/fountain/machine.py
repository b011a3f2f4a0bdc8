# SPDX-License-Identifier: Apache-2.0
"""The protocol machine of one fountain bearer with all its nodes (DESIGN section 5).

Datagrams in and out, timers, events: the owner brings datagrams with `receive_datagrams`, sends what
`datagrams_to_send` gives, at once and in order, and calls `handle_timer` when `get_timer` says so. After any call there
may be events and datagrams. Which symbol leaves next is the sender's matter, what a node sent us the receiver's; here
frames are told apart, answers put together, and the pace is kept.
"""

import itertools
import random
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from meshd.base.errors import LocalProtocolError
from meshd.bundle.eid import Eid
from meshd.cl.fountain.automatic_rate import adopt_rate, make_automatic
from meshd.cl.fountain.beacons import Beacons
from meshd.cl.fountain.breach import Breach
from meshd.cl.fountain.datagram import SEAL_BYTES, DatagramError, Opened
from meshd.cl.fountain.delivery_meter import DeliveryMeter
from meshd.cl.fountain.events import (
    Datagram,
    Event,
    FailureReason,
    MarksToSave,
    OutgoingRow,
    PeerFound,
    PeerUp,
    TransfersFailed,
    TransfersReceived,
)
from meshd.cl.fountain.fountain_code import FountainCode
from meshd.cl.fountain.frame_codec import pack_frames, parse_frames_untrusted
from meshd.cl.fountain.frames import GROUP_ALL, Frame, FrameError, Ping, Silent, Symbol
from meshd.cl.fountain.listener import Listener
from meshd.cl.fountain.neighbours import Neighbours
from meshd.cl.fountain.pacing import Pacer
from meshd.cl.fountain.peer import NEVER, Figure, Life, Peer
from meshd.cl.fountain.ports import Open, Seal, Tags
from meshd.cl.fountain.quiet import Quiet
from meshd.cl.fountain.receiver import Receiver
from meshd.cl.fountain.reports import make_report
from meshd.cl.fountain.sender import Sender
from meshd.cl.fountain.settings import FountainSettings, PeerSettings
from meshd.cl.fountain.thread_work import ThreadWork
from meshd.link.settings import Direction
from meshd.security.replay_window import Mark

CREDIT_S: Final = 2.0
"""Bundles for so long at the bearer's rate may wait, and"""
CREDIT_MIN_BYTES: Final = 256 * 1024
"""no less than this."""


class Machine:
    """One bearer."""

    def __init__(
        self,
        settings: FountainSettings,
        peers: Sequence[PeerSettings],
        seal: Seal,
        opener: Open,
        tags: Tags,
        code: FountainCode,
        rng: random.Random,
        now: float,
    ) -> None:
        self._settings = settings
        self._seal = seal
        self._opener = opener
        self._tags = tags
        self._rng = rng
        self._events: deque[Event] = deque()
        self.faults: Counter[str] = Counter()
        """Datagrams, or what was in them, dropped by reason."""
        self._work = ThreadWork(self._events)
        self._take_number = itertools.count(1).__next__
        self._sender = Sender(settings, code, rng, self._work.request, lambda node: self._peers[node])
        self._listener = Listener(settings, seal, tags, self._sender, self._events, self.faults)
        self._neighbours = Neighbours(settings.found_max, self._sender, self._events)
        self._peers, self._by_node = self._neighbours.by_index, self._neighbours.by_node
        self._pacer = Pacer(settings.rate_bps, settings.header_bytes, settings.modem_buffer_bytes)
        self._automatic = make_automatic(settings, self._pacer, self._sender)
        self._control_at = -NEVER
        self._beacons = Beacons(self._peers, rng, now, settings.rate_bps, is_multicast=settings.is_multicast)
        self._quiet = Quiet(rng, settings.ack_budget_bytes, is_for_ever=settings.direction is Direction.RX)
        self._is_idle = False
        """There is nothing to send, unless something happens."""
        self._is_rested = True
        """There was nothing to send when last asked: the pace begins anew."""
        self._code = code
        for each in peers:
            self._add_peer(each)
        self._collect()

    def _add_peer(self, settings: PeerSettings) -> Peer:
        is_mute = settings.is_blind or self._settings.direction is Direction.TX
        receiver = Receiver(settings.node, self._settings.index, self._code, self._work.request, self._take_number)
        peer = Peer(settings, receiver, 2 * self._settings.owd_s, is_mute=is_mute)
        peer.delivery = None if self._automatic is None else DeliveryMeter()
        self._neighbours.add(peer)
        if is_mute:
            self._sender.mute.add(settings.index)
            self._sender.blind.add(settings.index)
            self._events.append(PeerUp(settings.node, is_blind=True))
        return peer

    # What the owner wants.

    def send_bundles(self, node: Eid, rows: Iterable[OutgoingRow], now: float) -> None:
        """Send these in order; each comes back as acknowledged, sent or failed."""
        peer = self._by_node.get(node)
        if peer is None:
            raise LocalProtocolError(f"this bearer has no node {node.uri}")
        if peer.life in (Life.UNKNOWN, Life.DOWN, Life.ONE_WAY):
            self._events.append(TransfersFailed(node, [row.bundle for row in rows], FailureReason.LINK_DOWN))
            return
        for row in rows:
            self._sender.submit(row, peer.settings.index, now)
        self._wake()

    @property
    def window_bytes(self) -> int:
        """So many bytes of bundles for a node may wait."""
        return max(int(self._settings.rate_bps * CREDIT_S / 8), CREDIT_MIN_BYTES)

    def credit_bytes(self, node: Eid) -> int:
        """How many more bytes of bundles for this node would be welcome."""
        return max(self.window_bytes - self._sender.waiting_bytes(self._by_node[node].settings.index), 0)

    def set_rate(self, rate_bps: int, now: float) -> None:
        """The modem carries so much from now on; nothing changes where the rate is found."""
        if self._automatic is None:
            self._settings = adopt_rate(self._settings, rate_bps, self._pacer, self._sender, now)

    def peer(self, node: Eid) -> Peer:
        """What is known of a node, to look at."""
        return self._by_node[node]

    def accept(self, node: Eid, transfers: Iterable[int], now: float) -> None:
        """These bundles are durable: the node may be told."""
        peer = self._by_node.get(node)
        if peer is not None:  # else it was found, and is gone since
            peer.receiver.accept(transfers)
            self._answer(peer, now)

    def refuse(self, node: Eid, transfer: int, now: float, *, is_retriable: bool) -> None:
        """This bundle is not taken."""
        peer = self._by_node.get(node)
        if peer is not None:
            peer.receiver.refuse(transfer, is_retriable=is_retriable)
            self._answer(peer, now)

    def _answer(self, peer: Peer, now: float) -> None:
        if peer.receiver.has_answers:
            peer.want_report(now)
            self._wake()

    def announce_silence(self, for_s: int) -> None:
        """Tell all, with the next datagram, that we fall silent on order; for so long, 0: not said."""
        self._beacons.announce(Silent(is_silent=True, for_s=for_s))
        self._wake()

    @property
    def is_announcing(self) -> bool:
        """That has not left to all yet; nothing leaves while we are silent."""
        return self._beacons.is_announcing and not self._quiet.is_frozen

    def set_silent(self, node: Eid, for_s: int | None, now: float) -> None:
        """Somebody says that a node is silent, for so long (0: not said); None: that it is not."""
        peer = self._by_node.get(node)
        if peer is not None:
            self._listener.set_silent(peer, for_s, now)
            self._wake()

    def freeze(self) -> None:
        """Silence: nothing is sent until `thaw`; receiving goes on."""
        self._quiet.freeze()
        self._sender.begin_breach(None)

    def break_silence(self, breach: Breach) -> None:
        """Until the next `freeze` or `thaw` symbols of what this lets pass leave, and nothing else."""
        self._quiet.breach = breach
        self._sender.begin_breach(breach)
        self._wake()

    def thaw(self, now: float) -> float:
        """The silence is over: after a random while, what was not answered is answered in one go. When that is."""
        until = self._quiet.thaw(now)
        self._sender.begin_breach(None)
        for peer in self._peers.values():
            peer.revive_after_silence(until)
        self._wake()
        return until

    def _wake(self) -> None:
        self._is_idle = False
        self._collect()

    def handle_work_done(self, job: int, result: object, now: float) -> None:
        """The result of a WorkRequested."""
        self._work.finish(job, result)
        for peer in self._peers.values():
            if peer.receiver.arrived:
                peer.want_report(now)
        self._wake()

    # Datagrams in.

    def receive_datagrams(self, datagrams: Sequence[bytes], now: float, sources: Sequence[object] = ()) -> int:
        """Datagrams have come, from wherever: their seals say from whom. How many were refused.

        `sources` are the addresses that they came from, where those serve to answer nodes that are found by them.
        """
        opener = self._opener
        candidates, dropped = opener.sift_untrusted(datagrams)
        refused = len(datagrams) - len(candidates)
        self.faults.update({fault.value: count for fault, count in dropped.items() if count})
        places = iter(enumerate(datagrams))
        for data in candidates:
            source = sources[next(place for place, each in places if each is data)] if sources else None
            try:
                opened = opener.open_untrusted(data)
            except DatagramError as error:
                self.faults[error.fault.value] += 1
                refused += 1
                continue
            sender = opener.waiting_sender if opened is None else opened.sender
            if source is not None:
                self._neighbours.note_source(sender, source)
            if opened is not None:
                self._take(opened, now)
        if opener.is_saving_wanted:
            self._events.append(MarksToSave(opener.marks_to_save()))
        if refused < len(datagrams):
            self._wake()
        return refused

    def marks_saved(self, marks: Mapping[Eid, Mark], now: float) -> None:
        """These marks are on the disk: what waited for them counts now."""
        for opened in self._opener.saved(marks):
            self._take(opened, now)
        self._wake()

    def _take(self, opened: Opened, now: float) -> None:
        peer = self._by_node.get(opened.sender)
        if peer is None and not opened.is_old_epoch:
            peer = self._find(opened, now)
        if peer is None or opened.is_old_epoch:
            self.faults["old_epoch" if peer else "stranger"] += 1
            return
        try:
            frames = parse_frames_untrusted(opened.plaintext)
        except FrameError:
            self.faults["frames"] += 1
            return
        if self._listener.take_frames(peer, opened, frames, now, is_frozen=self._quiet.is_frozen):
            self._beacons.answer(now)

    def _find(self, opened: Opened, now: float) -> Peer | None:
        """A member that is not configured is heard: it becomes a neighbour, while there is room for it."""
        if not self._neighbours.make_room(now):
            return None
        self._events.append(PeerFound(opened.sender, self._neighbours.take_source(opened.sender)))
        return self._add_peer(PeerSettings(opened.sender, opened.index, is_found=True))

    # Datagrams out.

    def datagrams_to_send(self, now: float) -> list[Datagram]:
        """What leaves now, as far as the pace allows."""
        out: list[Datagram] = []
        if self._quiet.holds(now):
            return out
        if self._is_rested:
            self._pacer.rest(now)
            self._is_rested = False
        if self._automatic is not None:
            self._settings = self._automatic.update(self._peers.values(), now)
        while self._pacer.may_send(now):
            datagram = self._next_datagram(now)
            if datagram is None:
                self._is_idle = self._is_rested = True
                if self._automatic is not None:
                    self._automatic.note_rest()
                break
            out.append(datagram)
        self._collect()
        return out

    def _next_datagram(self, now: float) -> Datagram | None:
        if self._quiet.is_frozen:
            return self._make_symbol(now)
        for peer in self._peers.values():
            if peer.is_probe_due:
                peer.is_probe_due = False
                return self._make([Ping(self._rng.getrandbits(64))], peer, now)
        if self._control_at <= now or self._quiet.has_budget:
            due = [peer for peer in self._peers.values() if peer.report_at <= now]
            if due:
                return self._make_report(max(due, key=lambda peer: peer.receiver.answer_precedence), now)
        said = self._beacons.next(now)
        if said is not None:
            return self._make(*said, now)
        return self._make_symbol(now)

    def _make_symbol(self, now: float) -> Datagram | None:
        group = self._sender.group_to_tell(now)
        if group is not None:
            return self._make([group], None, now)
        counter = self._seal.next_counter
        found = self._sender.next_symbol(counter, now)
        if found is None:
            return None
        item, esi, data = found
        number = GROUP_ALL if item.group is None else item.group.group
        peer = None
        for node in item.receivers:
            peer = self._peers[node]
            if peer.is_reachable:
                peer.expect(now)
        return self._make([Symbol(item.object_id, len(item.data), esi, number, data)], peer, now)

    def _make_report(self, peer: Peer, now: float) -> Datagram:
        frames = make_report(peer, self._tags, self._seal.epoch, self._settings.plaintext_bytes, now)
        datagram = self._make(frames, peer, now)
        share_bps = self._settings.rate_bps * self._settings.feedback_share
        size_bytes = len(datagram.data) - SEAL_BYTES + self._settings.header_bytes
        if not self._quiet.pay(size_bytes):
            self._control_at = max(self._control_at, now) + size_bytes * 8 / share_bps
        return datagram

    def _make(self, frames: Sequence[Frame], peer: Peer | None, now: float) -> Datagram:
        """Seal it; on a multicast bearer everything is for all."""
        counter = self._seal.next_counter
        plaintext = pack_frames(frames)
        self._pacer.spend(len(plaintext), now)
        heard_by = self._peers.values() if peer is None or self._settings.is_multicast else (peer,)
        for each in heard_by:
            each.meter.note_sent(counter, now)
        if self._automatic is not None:
            self._automatic.note_sent(heard_by, counter, len(plaintext), now)
        to = None if peer is None or self._settings.is_multicast else peer.settings.node
        return Datagram(to, self._seal.seal(plaintext))

    # Time.

    def get_timer(self) -> float:
        """When to call `handle_timer`."""
        if self._quiet.is_frozen and (self._is_idle or self._quiet.breach is None):
            return self._sender.get_timer(is_frozen=True)
        if not self._is_idle:
            return max(self._pacer.ready_at(), self._quiet.until)
        times = [self._beacons.at, self._sender.get_timer(is_frozen=False)]
        for peer in self._peers.values():
            times.append(peer.probe_at)
            times.append(peer.report_at if self._quiet.has_budget else max(peer.report_at, self._control_at))
        return max(min(times), self._pacer.ready_at(), self._quiet.until)

    def handle_timer(self, now: float) -> None:
        """Look after nodes that do not answer, expiry and passes; then ask for datagrams."""
        self._sender.handle_timer(now)
        if not self._quiet.is_frozen:
            self._neighbours.look_after(now)
        self._wake()

    # Figures.

    def snapshot(self, now: float) -> list[dict[str, Figure]]:
        """One row of figures for each node."""
        sender = self._sender
        repairs = sender.symbols_sent - sender.source_sent
        shared: dict[str, Figure] = {
            "rate_bps": int(self._settings.rate_bps if self._automatic is None else self._automatic.rate_bps),
            "sent_frame_bytes": self._pacer.sent_bytes,
            "repair_overhead": repairs / max(sender.source_sent, 1),
        }
        return [
            peer.describe(now) | shared | {"open_objects_out": sender.count_open(index)}
            for index, peer in self._peers.items()
        ]

    # Events.

    def next_event(self) -> Event | None:
        """The next event, or None."""
        return self._events.popleft() if self._events else None

    def _collect(self) -> None:
        """Turn what came up into events."""
        for peer in self._peers.values():
            if peer.receiver.arrived:
                self._events.append(TransfersReceived(peer.settings.node, peer.receiver.arrived))
                peer.receiver.arrived = []
        self._events.extend(self._sender.bundles.take_events(lambda index: self._peers[index].settings.node))
