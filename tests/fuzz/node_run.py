# SPDX-License-Identifier: Apache-2.0
"""A whole agent that is fed hostile bundles, with a shell around it that does what it asks at once."""

from collections import Counter
from typing import Final

from meshd.bundle.crc import crc32c
from meshd.bundle.errors import BundleError
from meshd.bundle.forward import forwarded_copy
from meshd.bundle.fragment import fragment, reassemble
from meshd.bundle.record import BundleId, PayloadRef
from meshd.bundle.scan import scan_untrusted
from meshd.link.identity import LinkId
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.store.group_body import Marks, decode_body, encode_body
from meshd.store.record_format import CRC_BYTES, GroupHead
from tests.unit.node.playbook import INBOX, LAN, NODE, SAT, Playbook

LINK_CREDIT_BYTES: Final = 1_000_000
STEPS_MAX: Final = 5000
"""Events that a few bundles may cause."""


class NodeRun:
    """Links to two neighbours are up, an application waits at the inbox."""

    def __init__(self) -> None:
        self._play = Playbook()
        self._data: dict[BundleId, bytes] = {}
        self._pending: list[ev.Event] = []
        self._steps = 0
        self.answers: Counter[object] = Counter()
        """How often each transfer was accepted or refused."""
        self.feed(ev.ReceiverAttached(1, INBOX))
        for link in (LAN, SAT):
            self.feed(ev.LinkUp(link))
            self.feed(ev.LinkWritable(link, LINK_CREDIT_BYTES))

    def feed(self, event: ev.Event) -> None:
        """One event and all that follows from it."""
        self._pending.append(event)
        while self._pending:
            self._steps += 1
            assert self._steps <= STEPS_MAX, "a few bundles keep the node busy for ever"
            for command in self._play.agent.handle(self._pending.pop(0), self._play.now):
                self._do(command)

    def receive(self, transfer: object, data: bytes, link: LinkId = LAN) -> None:
        """A neighbour sends this."""
        self.feed(ev.BundlesReceived(link, [ev.ReceivedRow(transfer, data)]))

    def let_time_pass(self) -> None:
        """The timer fires, and the clock is set."""
        self._play.now += 3600.0
        self.feed(ev.TimerFired())
        self.feed(ev.ClockStepped(0, None))

    def _do(self, command: cmd.Command) -> None:
        match command:
            case cmd.WriteStore():
                self._store(command)
            case cmd.AcceptTransfers(_, transfers):
                self.answers.update(transfers)
            case cmd.RefuseTransfer(_, transfer, _, _, text):
                self.answers[transfer] += 1
                assert text
            case cmd.SendBundles(link, rows):
                for row in rows:
                    self._send(row)
                self._pending.append(ev.TransfersAcknowledged(link, [row.id for row in rows]))
            case cmd.FragmentBundle(bundle, _, size_max_bytes, _):
                self._pending.append(self._cut(bundle, size_max_bytes))
            case cmd.ReassembleBundle(bundle, fragments, _):
                self._pending.append(self._join(bundle, [self._data[each] for each in fragments]))
            case cmd.DeliverMessage(receiver, message, _, _, _, _, _, _):
                self._pending += [ev.DeliveryConfirmed(receiver, message), ev.ReceiverAttached(receiver, INBOX)]
            case _:
                pass

    def _store(self, group: cmd.WriteStore) -> None:
        """What is written can be read: no number is too large for the store."""
        times_ms = [row.remember_until_ms for row in group.deletes]
        deletes = Marks([row.id for row in group.deletes], [1] * len(times_ms), times_ms)
        releases = Marks(group.releases, [1] * len(group.releases), [0] * len(group.releases))
        body = encode_body(group.puts, deletes, releases, group.notes)
        bundle_bytes = sum(record.size_bytes + CRC_BYTES for record in group.puts)
        decoded = decode_body(body, GroupHead(0, len(body), bundle_bytes, 0, crc32c(body)), 1)
        assert decoded is not None, "the store could not read it again"
        assert [record.id for record in decoded.puts] == [record.id for record in group.puts]
        stored = []
        for record in group.puts:
            assert record.payload.inline is not None
            self._data[record.id] = bytes(record.payload.inline)
            stored.append(ev.StoredRow(record.id, PayloadRef(3, 70, record.size_bytes)))
        if stored:
            self._pending.append(ev.BundlesStored(stored))

    def _send(self, row: cmd.SendRow) -> None:
        data = self._data[row.id]
        header = scan_untrusted(data)
        forwarded = b"".join(forwarded_copy(data, header, own_node=NODE, residence_ms=1, is_own=row.is_own))
        assert scan_untrusted(forwarded).id == row.id

    def _cut(self, bundle: BundleId, size_max_bytes: int) -> ev.Event:
        data = self._data[bundle]
        try:
            return ev.BundleFragmented(bundle, fragment(data, scan_untrusted(data), size_max_bytes))
        except BundleError as error:
            return ev.BundleFragmented(bundle, (), str(error))

    def _join(self, bundle: BundleId, fragments: list[bytes]) -> ev.Event:
        try:
            return ev.BundleReassembled(bundle, reassemble(fragments))
        except BundleError as error:
            return ev.BundleReassembled(bundle, None, str(error))
