# SPDX-License-Identifier: Apache-2.0
"""What the parts of the agent share: the tables of the node, its reckoning of time, and what one `handle` has decided.

Only the agent and its parts (reception, forwarding, applications) hold this object; it never leaves the node package.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import structs

from meshd.bundle.dtn_time import CreationClock
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, BundleRecord, parse_bundle_id_text
from meshd.link.identity import LinkId
from meshd.link.link_table import LinkTable
from meshd.node.bundle_table import BundleTable, Entry
from meshd.node.commands import (
    AcceptTransfers,
    Command,
    ForgottenRow,
    RefuseTransfer,
    Report,
    WriteStore,
)
from meshd.node.delivery import Delivery
from meshd.node.known_bundles import KnownBundles
from meshd.node.replication import NOTE_PREFIX as COPIES_PREFIX
from meshd.node.replication import Copies, begin, note_key
from meshd.node.sent_messages import MessageState, SentMessages
from meshd.node.settings import NodeSettings
from meshd.routing.advertisement import TOPOLOGY_ENDPOINT

ENTRUSTED_MAX: Final = 4096
"""Bundles to groups that are gone, of which it is known for whom they were passed on; the oldest is forgotten."""
REPORTS_PER_BATCH: Final = 8
"""Bundles of one batch that are reported one by one; a larger batch is reported as a whole."""


class NodeState:
    """Tables, time, and the commands gathered by the `handle` under way."""

    def __init__(self, settings: NodeSettings, links: LinkTable) -> None:
        self.settings = settings
        self.links = links
        self.table = BundleTable(settings.quota_bytes, settings.bundles_max)
        self.known = KnownBundles()
        self.messages = SentMessages()
        self.delivery = Delivery()
        self.creation = CreationClock(None)
        self.notes: dict[str, bytes] = {}
        self.tells: list[Report] = []
        self.groups: dict[Eid, frozenset[Eid]] = {}
        """Members of each group that is configured."""
        self._entrusted: dict[BundleId, tuple[Eid | None, frozenset[Eid]]] = {}
        """Of bundles to groups that are gone: who brought them, and the members that others have taken them for."""
        self.kept_notes: dict[str, bytes] = {}
        """Notes of which there is no other copy in memory, as they are now."""
        self._topology_members: frozenset[Eid] = frozenset()
        self.set_groups(settings)
        self.utc_offset_ms = 0
        self.uncertainty_ms: int | None = None
        self.puts: list[BundleRecord] = []
        self.deletes: list[ForgottenRow] = []
        self.releases: list[BundleId] = []
        self.accepts: dict[LinkId, list[object]] = {}
        self.commands: list[Command] = []

    def set_groups(self, settings: NodeSettings) -> None:
        """Take over the members of groups; bundles that are here already keep theirs."""
        self.groups = {group.endpoint: group.members for group in settings.groups}
        if self._topology_members:
            self.groups[TOPOLOGY_ENDPOINT] = self._topology_members

    def set_topology_members(self, members: frozenset[Eid]) -> None:
        """Who gets topology advertisements, this node not among them; none: there are none of them."""
        self._topology_members = members
        self.set_groups(self.settings)

    def keep_note(self, name: str, note: bytes) -> None:
        """Have the store keep a note, together with what else is being decided."""
        self.notes[name] = self.kept_notes[name] = note

    def dtn_ms(self, now: float) -> int:
        """The node's reckoning of DTN time."""
        return int(now * 1000) + self.utc_offset_ms

    def monotonic(self, dtn_ms: int) -> float:
        """The other way round."""
        return (dtn_ms - self.utc_offset_ms) / 1000

    def step_clock(self, utc_offset_ms: int, uncertainty_ms: int | None) -> bool:
        """Reckon with this from now on; True when the time is another one: what has expired by it is to go."""
        step_ms = utc_offset_ms - self.utc_offset_ms
        self.utc_offset_ms, self.uncertainty_ms = utc_offset_ms, uncertainty_ms
        if not step_ms:
            return False
        self.known.clock_stepped(step_ms, all_by_age=not self.has_clock)
        self.table.parked.clock_stepped(step_ms)
        for entry in self.table.unparked():
            record = entry.record
            expiry_ms = record.expiry_ms + step_ms if record.by_age else record.expiry_ms
            entry.record = structs.replace(record, expiry_ms=expiry_ms, received_ms=record.received_ms + step_ms)
        self.table.reschedule()
        return True

    @property
    def has_clock(self) -> bool:
        """Whether creation times may be told from it."""
        return self.settings.clock_trusted and self.uncertainty_ms is not None

    def accept(self, link: LinkId, transfer: object) -> None:
        """Acknowledge a transfer at the end of this `handle`."""
        transfers = self.accepts.get(link)
        if transfers is None:
            self.accepts[link] = [transfer]
        else:
            transfers.append(transfer)

    def refuse(self, link: LinkId, transfer: object, text: str, *, retriable: bool) -> None:
        """Tell a neighbour that we don't take this one."""
        self.commands.append(RefuseTransfer(link, transfer, retriable, False, text))

    @property
    def known_count(self) -> int:
        """IDs that are not taken again: of bundles that are here, and of those that were."""
        return len(self.table) + len(self.known)

    def has_place_for_ids(self, count: int = 1) -> bool:
        """Whether so many IDs more can be remembered."""
        return self.known_count + count <= self.settings.known_max

    def is_known(self, bundle: BundleId) -> bool:
        """Whether it is here or was."""
        return bundle in self.table or bundle in self.known

    def add(self, entry: Entry) -> None:
        """Take a bundle in: it is durable when BundlesStored names it."""
        self.table.add(entry)
        self.puts.append(entry.record)

    def delete(self, entry: Entry, *, may_return: bool = False) -> None:
        """Let a bundle go and remember its ID until its expiry; one that `may_return` is taken again then."""
        record = entry.record
        self.table.remove(entry)
        self.known.add(record.id, record.expiry_ms, may_return=may_return)
        for link, transfer in entry.transfers:
            self.accept(link, transfer)
        self.deletes.append(ForgottenRow(record.id, record.expiry_ms))
        if entry.copies is not None and entry.copies.is_noted:
            self.notes[note_key(record.id)] = b""

    def begin_copies(self, record: BundleRecord, members: frozenset[Eid]) -> Copies:
        """A bundle to a group is here for the first time, or is back from whom members were entrusted to."""
        copies = begin(record, members, self.settings.id)
        entrusted = self._entrusted.pop(record.id, None)
        if entrusted is not None:
            copies.left &= entrusted[1]
            copies.reachable |= copies.left
            copies.is_delivered = True
        return copies

    def entrust(self, record: BundleRecord, members: Iterable[Eid]) -> None:
        """It has been passed on for these members, and is deleted here."""
        self._entrusted[record.id] = record.previous_node, frozenset(members)
        if len(self._entrusted) > ENTRUSTED_MAX:
            del self._entrusted[next(iter(self._entrusted))]

    def is_returned(self, bundle: BundleId, neighbour: Eid) -> bool:
        """Whether a bundle to a group comes back: not from who brought it, for that one only has not heard of it."""
        entrusted = self._entrusted.get(bundle)
        return entrusted is not None and entrusted[0] != neighbour

    def note_copies(self, entry: Entry) -> None:
        """Have the store keep where a bundle to a group has been."""
        assert entry.copies is not None, "only a bundle to a group has copies"
        self.notes[note_key(entry.record.id)] = entry.copies.note()

    def advance(self, id_text: str, to_state: MessageState, reason: str, now: float) -> None:
        """Move a message of ours forward, and say so if it has not been there or further before."""
        message = self.messages.advance(id_text, to_state, reason, self.dtn_ms(now))
        if message is not None:
            self.tell(f"message.{to_state.value}", message=id_text, reason=reason)

    def delivered_at(self, id_text: str, node: Eid, now: float) -> None:
        """A node has delivered a message of ours: to a group, it counts when all members have."""
        if self.messages.delivered_at(id_text, node.uri):
            self.advance(id_text, MessageState.DELIVERED, "", now)

    def report(self, kind: str, **fields: str | int | float | bool | None) -> None:
        """Tell the operators."""
        self.commands.append(Report(kind, fields))

    def tell(self, kind: str, **fields: str | int | float | bool | None) -> None:
        """Tell the operators as soon as what is being written is durable."""
        self.tells.append(Report(kind, fields))

    def note_again(self, names: Iterable[str], tells: Sequence[Report]) -> None:
        """A group could not be stored: have the store keep these notes as they are now, and tell then."""
        self.tells.extend(tells)
        for name in names:
            if name == CREATION_NOTE:
                self.creation.reserve_again()
            elif name in self.kept_notes:
                self.notes[name] = self.kept_notes[name]
            elif name.startswith(COPIES_PREFIX):
                entry = self.table.get(parse_bundle_id_text(name.removeprefix(COPIES_PREFIX)))
                self.notes[name] = entry.copies.note() if entry is not None and entry.copies is not None else b""
            else:
                self.messages.note_again(name)

    def take_commands(self) -> list[Command]:
        """Everything that was decided, the store's group first, so that nothing is told before it is asked for."""
        notes = self.messages.take_notes()
        if self.notes:
            notes |= self.notes
            self.notes = {}
        reservation = self.creation.reservation()
        if reservation is not None:
            notes[CREATION_NOTE] = reservation
        commands: list[Command] = []
        if self.puts or self.deletes or self.releases or notes or self.tells:
            commands.append(WriteStore(self.puts, self.deletes, self.releases, notes, self.tells))
            self.puts, self.deletes, self.releases, self.tells = [], [], [], []
        if self.accepts:
            commands.extend(AcceptTransfers(link, transfers) for link, transfers in self.accepts.items())
            self.accepts = {}
        commands.extend(self.commands)
        self.commands = []
        return commands


CREATION_NOTE: Final = "creation"
"""Key of the creation clock's reservation among the store's notes."""
