# SPDX-License-Identifier: Apache-2.0
"""The node's side of its applications: transmission (RFC 9171 section 5.2), local delivery (5.7).

A submission becomes one bundle for each part. Its bundles are held until the last part is durable; that last part, the
release of the others and the message's own note are one atomic group of the store, so that a crash leaves the whole
message or nothing.
"""

from collections.abc import Callable

from meshd.base.limits import MESSAGE_SIZE_MAX_BYTES
from meshd.bundle.blocks import BundleFlag
from meshd.bundle.record import BundleId, BundleRecord, Part, bundle_id_text, bundle_ref
from meshd.node.bundle_table import BundleState, Entry, Room
from meshd.node.commands import DeliverMessage, MessagePart, PartAccepted, SubmissionAccepted, SubmissionRefused
from meshd.node.delivery import Offer
from meshd.node.events import MessagesSubmitted, MessageSubmitted
from meshd.node.origination import next_timestamp, originate
from meshd.node.sent_messages import Message
from meshd.node.state import NodeState
from meshd.node.status_reports import StatusReports
from meshd.routing.advertisement import TOPOLOGY_ENDPOINT


class _Submission:
    """A message on its way in, part by part."""

    __slots__ = ("first", "is_complete", "parts", "size_bytes")

    def __init__(self) -> None:
        self.first: BundleId | None = None
        self.parts: list[BundleId] = []
        self.size_bytes = 0
        self.is_complete = False


class Applications:
    """Owns the submissions under way; deliveries and sent messages live in the state's tables."""

    def __init__(
        self, state: NodeState, reports: StatusReports, forget: Callable[[Entry], None], part_size_bytes: int
    ) -> None:
        """`forget` is called for each bundle of a message that an application has confirmed."""
        self._state = state
        self._reports = reports
        self._forget = forget
        self._part_size_bytes = part_size_bytes
        self._submissions: dict[int, _Submission] = {}
        self._by_bundle: dict[BundleId, int] = {}

    # Transmission

    def submit(self, event: MessageSubmitted, now: float) -> None:
        """One part of a message (section 5.2): make its bundle and have it stored."""
        submission = self._submissions.setdefault(event.submission, _Submission())
        submission.size_bytes += len(event.data)
        problem = self._problem(event, submission)
        if problem is not None:
            self.abort(event.submission)
            self._state.commands.append(SubmissionRefused(event.submission, *problem))
            return
        entry = self._make_part(event, submission, now)
        submission.parts.append(entry.record.id)
        self._by_bundle[entry.record.id] = event.submission
        self._state.add(entry)
        if event.is_last:
            submission.is_complete = True
            self._state.releases.extend(submission.parts[:-1])
            if event.is_followed:
                self._state.messages.add(self._message(event, submission, entry))

    def submit_all(self, event: MessagesSubmitted, now: float) -> None:
        """Several messages."""
        for each in event.messages:
            self.submit(each, now)

    def abort(self, number: int) -> None:
        """Forget what was handed over so far; nothing happens once the message is complete."""
        submission = self._submissions.get(number)
        if submission is None or submission.is_complete:
            return
        for bundle in self._end(number).parts:
            entry = self._state.table.get(bundle)
            if entry is not None:
                self._state.delete(entry)

    def stored(self, entry: Entry) -> list[Entry]:
        """A bundle made here is durable. Returns the entries that may be dispatched now."""
        number = self._by_bundle.get(entry.record.id)
        if number is None:
            return [entry]
        submission = self._submissions[number]
        if not submission.is_complete or entry.record.id != submission.parts[-1]:
            entry.state = BundleState.HELD
            self._state.commands.append(PartAccepted(number))
            return []
        self._end(number)
        assert submission.first is not None, "a submission has a first part once it is stored"
        self._state.commands.append(SubmissionAccepted(number, submission.first))
        self._state.report("message.queued", message=bundle_id_text(submission.first), parts=len(submission.parts))
        entries = [self._state.table.get(bundle) for bundle in submission.parts]
        assert all(entries), "a submission ends with the first of its bundles that is lost"
        return [held for held in entries if held is not None]

    def storing_failed(self, entry: Entry, reason: str) -> None:
        """A bundle made here could not be stored: the whole submission is refused."""
        sent = "; it may have been sent, all the same" if entry.state is BundleState.IN_FLIGHT else ""
        self._refuse_with(entry, "store_full", f"the store can't take it: {reason}{sent}")

    def lost(self, entry: Entry, reason: str) -> bool:
        """A bundle made here is given up. True when that ends a submission of which nobody was told "queued" yet."""
        return self._refuse_with(entry, "failed", f"a part of it is gone before the message was complete: {reason}")

    def _refuse_with(self, entry: Entry, code: str, text: str) -> bool:
        """Refuse the submission that this bundle, not in the table any more, belongs to; False when it has none."""
        number = self._by_bundle.get(entry.record.id)
        if number is None:
            return False
        submission = self._submissions[number]
        if submission.is_complete and submission.first is not None:
            self._state.messages.forget(bundle_id_text(submission.first))
            submission.is_complete = False
        self.abort(number)
        self._state.commands.append(SubmissionRefused(number, code, text))
        return True

    def _end(self, number: int) -> _Submission:
        submission = self._submissions.pop(number)
        for bundle in submission.parts:
            del self._by_bundle[bundle]
        return submission

    # Delivery

    def deliver(self, entry: Entry) -> None:
        """Section 5.7: the bundle waits for its application; an administrative record has been read on its way in."""
        if entry.record.flags & BundleFlag.IS_ADMIN_RECORD:
            self._state.delete(entry)
            return
        if not self._state.delivery.has_place_for(entry.record):
            self._state.delete(entry)
            reason = "contradicts a part of its message that was here before"
            self._state.report("bundle.deleted", bundle=bundle_ref(entry.record.id), reason=reason)
            return
        entry.state, entry.link = BundleState.FOR_DELIVERY, None
        self.offer(self._state.delivery.add(entry.record))
        self._state.table.drop_inline(entry)

    def offer(self, offer: Offer | None) -> None:
        """Hand a complete message to the application that waits for it."""
        if offer is None:
            return
        message = offer.message
        entries = [self._state.table.get(bundle) for bundle in message.part_ids()]
        records = [entry.record for entry in entries if entry is not None]
        assert len(records) == len(entries), "parts of a complete message are in the table"
        only = entries[0] if len(records) == 1 else None
        self._state.commands.append(
            DeliverMessage(
                offer.receiver,
                message.id,
                message.id.source,
                message.destination,
                records[0].precedence,
                message.id.time_ms,
                min(record.expiry_ms for record in records),
                [_message_part(record, only) for record in records],
            )
        )

    def confirmed(self, receiver: int, message_id: BundleId, now: float) -> None:
        """The application has it on its own disk: only now it is forgotten here, and reported."""
        message = self._state.delivery.confirm(receiver, message_id)
        if message is None:
            return
        for bundle in message.part_ids():
            entry = self._state.table.get(bundle)
            assert entry is not None, "parts of an offered message are in the table"
            self._forget(entry)
            self._reports.delivered(entry.record, now)
        if message_id.source.node == self._state.settings.id:
            self._state.delivered_at(bundle_id_text(message_id), self._state.settings.id, now)
        else:
            self._state.report("message.delivered", message=bundle_id_text(message_id))
        self.offer(self._state.delivery.next_for(receiver))

    # Parts of the above

    def _problem(self, event: MessageSubmitted, submission: _Submission) -> tuple[str, str] | None:
        state = self._state
        if event.destination.is_null:
            return "bad_params", "dtn:none is no destination: nobody would get the message"
        if not event.destination.is_singleton and event.destination not in state.groups:
            return "bad_params", f"the group {event.destination.uri} is unknown here: add a [[group]] table"
        if event.destination == TOPOLOGY_ENDPOINT:
            return "bad_params", f"only nodes themselves send to {event.destination.uri}: choose another destination"
        if not event.destination.demux:
            return (
                "bad_params",
                f"{event.destination.uri} is a node's administrative endpoint;"
                f" name an application on it, such as {event.destination.uri}inbox",
            )
        if submission.size_bytes > MESSAGE_SIZE_MAX_BYTES:
            return "too_large", f"a message may have at most {MESSAGE_SIZE_MAX_BYTES} bytes"
        if not event.is_last and len(event.data) != self._part_size_bytes:
            return "bad_params", f"every part but the last has {self._part_size_bytes} bytes"
        room = Room.ARRIVED if event.destination.node == state.settings.id else Room.ONWARD
        if not state.has_place_for_ids() or not state.table.has_room(len(event.data), event.precedence, room):
            return "store_full", (
                f"the store is full ({state.table.size_bytes} of {state.table.quota_bytes} bytes);"
                " wait, cancel bundles, or raise [store] quota"
            )
        return None

    def _make_part(self, event: MessageSubmitted, submission: _Submission, now: float) -> Entry:
        state = self._state
        time_ms, sequence = next_timestamp(state, now)
        if submission.first is None:
            submission.first = BundleId(event.source, time_ms, sequence)
        index = len(submission.parts)
        part = None
        if index or not event.is_last:
            first = submission.first
            part = Part(first.time_ms, first.sequence, index, index * self._part_size_bytes, event.is_last)
        flags = BundleFlag.REPORT_DELIVERY if event.report_delivery and event.is_last else BundleFlag(0)
        return originate(
            state,
            event.source,
            event.destination,
            event.data,
            now,
            lifetime_ms=event.lifetime_ms,
            precedence=event.precedence,
            flags=flags,
            timestamp=(time_ms, sequence),
            part=part,
            supersession=event.supersession,
            held=not event.is_last,
        )

    def _message(self, event: MessageSubmitted, submission: _Submission, last: Entry) -> Message:
        assert submission.first is not None, "a submission has a first part here"
        return Message(
            bundle_id_text(submission.first),
            event.destination.uri,
            event.destination.node.uri,
            event.precedence,
            submission.size_bytes,
            len(submission.parts),
            last.record.received_ms,
            last.record.expiry_ms,
            bundle_id_text(last.record.id),
            members=sorted(node.uri for node in self._state.groups.get(event.destination, ())),
        )


def _message_part(record: BundleRecord, only: Entry | None) -> MessagePart:
    data, header = (None, None) if only is None else (only.inline, only.header)
    return MessagePart(record.id, record.payload, record.part.offset_bytes if record.part else 0, data, header)
