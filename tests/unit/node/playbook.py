# SPDX-License-Identifier: Apache-2.0
"""Plays events to a real agent and compares what it wants done with a script of short lines.

    play.expect(play.received(LAN, "a"), "store put a")
    play.expect(play.stored("a"), "accept lan0>dpop2 a", "send sat0>home a")

Bundles go by names: a foreign one by the name that `bundle` gave it, one of the node's own by `own` and its sequence
number. A transfer has the name of the bundle it carried. Reports and the timer are not part of the script; they stand
in `reports`, `tells` and `wake_at` after each event.
"""

import difflib
from pathlib import PurePath
from typing import Any, assert_never

import msgspec

from meshd.bundle.admin_record import Assertion, StatusReport, encode_status_report
from meshd.bundle.blocks import BundleFlag
from meshd.bundle.codec import build
from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.fragment import fragment
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef, bundle_id_text
from meshd.bundle.scan import scan_untrusted
from meshd.link.identity import LinkId
from meshd.link.settings import BearerKind, BearerSettings, NeighbourSettings
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.node.agent import Agent
from meshd.node.sent_messages import NOTE_PREFIX, Message
from meshd.node.settings import NodeSettings
from meshd.routing.contact_plan import ContactPlan
from meshd.routing.contact_router import ContactRouter
from meshd.routing.settings import RouteSettings

NODE = parse_eid("dtn://dpop1/")
INBOX = parse_eid("dtn://dpop1/inbox")
DPOP2 = parse_eid("dtn://dpop2/")
HOME = parse_eid("dtn://home/")
STRANGER = parse_eid("dtn://stranger/")
HOME_INBOX = parse_eid("dtn://home/inbox")
LAN = LinkId("lan0", DPOP2)
SAT = LinkId("sat0", HOME)
LAN_HOME = LinkId("lan0", HOME)

START_S = 1000.0
UTC_OFFSET_MS = 820_000_000_000
HOUR_MS = 3_600_000
PART_BYTES = 10

LAN_BEARER = BearerSettings("lan0", BearerKind.TERRESTRIAL, "lan0", False, None, 10**9, 0, 15)
SAT_BEARER = BearerSettings("sat0", BearerKind.SATCOM, "sat0", True, None, 10**6, 0, 15)
NEIGHBOURS = (NeighbourSettings(DPOP2, "lan0", None), NeighbourSettings(HOME, "sat0", None))
ENDED = ev.RefusalReason(completed=False, retriable=True, session_ended=True, text="the session ended")
NO_ROOM = ev.RefusalReason(completed=False, retriable=True, session_ended=False, text="no room")
NOT_WANTED = ev.RefusalReason(completed=False, retriable=False, session_ended=False, text="not wanted")
HAS_IT = ev.RefusalReason(completed=True, retriable=False, session_ended=False, text="completed")


def node_settings(**changes: Any) -> NodeSettings:
    """Settings of the node under test, some of them changed."""
    values: dict[str, Any] = {
        "id": NODE,
        "state_dir": PurePath("/nowhere"),
        "quota_bytes": 1_000_000,
        "bundles_max": 1000,
        "known_max": 1000,
        "lifetime_ms": 24 * HOUR_MS,
        "lifetime_max_ms": 30 * 24 * HOUR_MS,
        "clock_trusted": True,
    }
    return NodeSettings(**(values | changes))


class Playbook:
    """One agent, its time, and the bundles that the script speaks of."""

    def __init__(
        self,
        routes: tuple[RouteSettings, ...] = (),
        neighbours: tuple[NeighbourSettings, ...] = NEIGHBOURS,
        mission_nodes: frozenset[Eid] = frozenset((DPOP2, HOME)),
        part_bytes: int = PART_BYTES,
        **changes: Any,
    ) -> None:
        self.now = START_S
        self.plan = ContactPlan()
        self.settings = node_settings(**changes)
        self.agent = Agent(
            self.settings,
            (LAN_BEARER, SAT_BEARER),
            neighbours,
            ContactRouter(NODE, self.plan, routes),
            mission_nodes,
            self.now,
            part_bytes,
        )
        self.commands: list[cmd.Command] = []
        self.reports: list[cmd.Report] = []
        self.tells: list[cmd.Report] = []
        self.wake_at: float | None = None
        self.data: dict[str, bytes] = {}
        self.records: dict[BundleId, BundleRecord] = {}
        self._names: dict[BundleId, str] = {}
        self._ids: dict[str, BundleId] = {}
        self._sequence = 100
        self._is_trusted = self.settings.clock_trusted
        self.handle(ev.ClockStepped(UTC_OFFSET_MS, 1000 if self._is_trusted else None))

    # The script

    def handle(self, event: ev.Event) -> list[str]:
        """Feed one event; the commands as lines."""
        if isinstance(event, ev.TimerFired):
            self.wake_at = None
        self.commands = self.agent.handle(event, self.now)
        self.reports = [command for command in self.commands if isinstance(command, cmd.Report)]
        self.tells = [tell for each in self.commands if isinstance(each, cmd.WriteStore) for tell in each.tells]
        return [line for line in map(self._line, self.commands) if line is not None]

    def expect(self, event: ev.Event, *lines: str) -> None:
        """Feed one event; fail with a diff when the commands are others."""
        got = self.handle(event)
        if got != list(lines):
            diff = difflib.ndiff([*lines], got)
            raise AssertionError(f"{type(event).__name__}: (- expected, + got)\n" + "\n".join(diff))

    @property
    def kinds(self) -> list[str]:
        """Kinds of the last event's reports, those that wait for the store at the end."""
        return [report.kind for report in (*self.reports, *self.tells)]

    def later(self, seconds: float) -> None:
        """Time goes by."""
        self.now += seconds

    def fire(self, *lines: str) -> None:
        """The timer fires at the time that the agent wished for."""
        assert self.wake_at is not None, "the agent has no timer"
        self.now = max(self.now, self.wake_at)
        self.expect(ev.TimerFired(), *lines)

    @property
    def now_ms(self) -> int:
        """DTN time as the agent reckons it."""
        return self.agent.dtn_ms(self.now)

    # Bundles

    def bundle(self, name: str, destination: Eid = HOME_INBOX, **changes: Any) -> bytes:
        """Make a foreign bundle, by default from dpop2 to home."""
        self._sequence += 1
        values: dict[str, Any] = {
            "source": parse_eid("dtn://dpop2/inbox"),
            "destination": destination,
            "report_to": DPOP2,
            "flags": 0,
            "time_ms": self.now_ms,
            "sequence": self._sequence,
            "lifetime_ms": HOUR_MS,
            "payload": name.encode(),
        }
        data = build(**(values | changes))
        self.name(name, scan_untrusted(data).id)
        self.data[name] = data
        return data

    def report_of(self, name: str, subject: str, source: Eid = HOME, **assertions: Any) -> None:
        """Make a status report about a bundle."""
        report = StatusReport(self.id(subject), **(assertions or {"delivered": Assertion(is_asserted=True)}))
        self.bundle(name, NODE, source=source, flags=BundleFlag.IS_ADMIN_RECORD, payload=encode_status_report(report))

    def name(self, name: str, bundle: BundleId) -> None:
        """Give a bundle a name."""
        self._names[bundle] = name
        self._ids[name] = bundle

    def id(self, name: str) -> BundleId:
        """The bundle of this name."""
        return self._ids[name]

    def name_of(self, bundle: BundleId) -> str:
        """The name of a bundle; own ones get theirs when they are seen first."""
        if bundle not in self._names:
            assert bundle.source.node == NODE, f"nobody made {bundle}"
            self.name(f"own{bundle.sequence}", bundle)
        return self._names[bundle]

    def state(self, name: str) -> str | None:
        """State of a bundle that is here; None when it is not."""
        entry = self.agent.entry(self.id(name))
        return entry.state.value if entry is not None else None

    def message(self, name: str) -> Message:
        """What the agent knows of a message of its own."""
        message = self.agent.messages.get(bundle_id_text(self.id(name)))
        assert message is not None, f"{name} is no message of ours"
        return message

    # Events

    def received(self, link: LinkId, *names: str) -> ev.BundlesReceived:
        """Transfers that arrive on a link; a name without a bundle gets one."""
        for name in names:
            if name not in self.data:
                self.bundle(name)
        return ev.BundlesReceived(link, [ev.ReceivedRow(name, self.data[name]) for name in names])

    def stored(self, *names: str) -> ev.BundlesStored:
        """The store has synced them."""
        rows = [
            ev.StoredRow(self.id(name), PayloadRef(3, 70, self.records[self.id(name)].size_bytes)) for name in names
        ]
        return ev.BundlesStored(rows)

    def not_stored(self, *names: str, reason: str = "disk full") -> ev.StoringFailed:
        """The store could not take them."""
        return ev.StoringFailed([self.id(name) for name in names], reason)

    def acknowledged(self, link: LinkId, *names: str) -> ev.TransfersAcknowledged:
        """The neighbour has them."""
        return ev.TransfersAcknowledged(link, [self.id(name) for name in names])

    def failed(self, link: LinkId, reason: ev.RefusalReason, *names: str) -> ev.TransfersFailed:
        """They did not get through."""
        return ev.TransfersFailed(link, [self.id(name) for name in names], reason)

    def submitted(
        self,
        number: int = 1,
        data: bytes = b"hello",
        destination: Eid = HOME_INBOX,
        *,
        last: bool = True,
        precedence: int = 1,
        lifetime_ms: int = HOUR_MS,
        report: bool = True,
    ) -> ev.MessageSubmitted:
        """A part of a message that an application hands over."""
        return ev.MessageSubmitted(number, INBOX, destination, precedence, lifetime_ms, report, data, last)

    def confirmed(self, receiver: int, name: str) -> ev.DeliveryConfirmed:
        """The application has the message."""
        return ev.DeliveryConfirmed(receiver, self.id(name))

    def arriving(self, name: str, link: LinkId = LAN) -> tuple[ev.TransferBegun, ev.TransferPiece, ev.TransferPiece]:
        """A bundle that comes in two pieces: its beginning, and both; a name without a bundle gets one."""
        if name not in self.data:
            self.bundle(name)
        data = self.data[name]
        first = scan_untrusted(data).payload_offset
        return (
            ev.TransferBegun(link, name, len(data)),
            ev.TransferPiece(link, name, data[:first]),
            ev.TransferPiece(link, name, data[first:]),
        )

    # Shortcuts that end in the usual way

    def up(self, *links: LinkId, credit_bytes: int = 1_000_000) -> list[str]:
        """Links come up and can take much."""
        lines = []
        for link in links:
            lines += self.handle(ev.LinkUp(link))
            lines += self.handle(ev.LinkWritable(link, credit_bytes))
        return lines

    def take_in(self, *names: str, link: LinkId = LAN) -> list[str]:
        """Receive bundles and store them; what happens then."""
        self.handle(self.received(link, *names))
        return self.handle(self.stored(*names))

    def submit(self, **changes: Any) -> str:
        """Submit a message of one bundle and store it; its name."""
        self.handle(self.submitted(**changes))
        (write,) = [command for command in self.commands if isinstance(command, cmd.WriteStore)]
        name = self.name_of(write.puts[-1].id)
        self.handle(self.stored(name))
        return name

    def cut(self) -> ev.BundleFragmented:
        """The shell has cut what the agent asked for last; the fragments get names such as `a+0`."""
        (command,) = [command for command in self.commands if isinstance(command, cmd.FragmentBundle)]
        name = self.name_of(command.id)
        data = self.data[name]
        pieces = fragment(data, scan_untrusted(data), command.size_max_bytes, command.first_max_bytes)
        for index, piece in enumerate(pieces):
            self.name(f"{name}+{index}", scan_untrusted(piece).id)
            self.data[f"{name}+{index}"] = piece
        return ev.BundleFragmented(command.id, pieces)

    # Lines

    def _line(self, command: cmd.Command) -> str | None:
        match command:
            case cmd.WriteStore():
                return "store " + "; ".join(self._changes(command))
            case cmd.AcceptTransfers(link, transfers):
                return f"accept {_short(link)} {' '.join(map(str, transfers))}"
            case cmd.RefuseTransfer(link, transfer, retriable, completed, _):
                kind = "completed" if completed else "retriable" if retriable else "final"
                return f"refuse {_short(link)} {transfer} {kind}"
            case cmd.SendBundles(link, rows):
                return f"send {_short(link)} {' '.join(self.name_of(row.id) for row in rows)}"
            case cmd.FragmentBundle(bundle, _, size_max_bytes, first_max_bytes):
                first = "" if first_max_bytes == size_max_bytes else f" {first_max_bytes}"
                return f"fragment {self.name_of(bundle)} {size_max_bytes}{first}"
            case cmd.ReassembleBundle(_, fragments):
                return f"reassemble {' '.join(map(self.name_of, fragments))}"
            case cmd.DeliverMessage():
                return f"deliver {command.receiver} {' '.join(self.name_of(part.id) for part in command.parts)}"
            case cmd.BeginStream(stream, link, _, size_bytes):
                return f"begin {stream} {_short(link)} {size_bytes}"
            case cmd.WritePiece(stream, _, _, data):
                return f"write {stream} {len(data)}"
            case cmd.FinishStream(stream, record):
                self.records[record.id] = record
                return f"finish {stream} {self.name_of(record.id)}"
            case cmd.AbortStream(stream):
                return f"abort {stream}"
            case cmd.PartAccepted(submission):
                return f"part {submission}"
            case cmd.SubmissionAccepted(submission, message):
                return f"accepted {submission} {self.name_of(message)}"
            case cmd.SubmissionRefused(submission, code, _):
                return f"refused {submission} {code}"
            case cmd.NeighbourFallsSilent(links, for_s):
                return f"silent {' '.join(map(str, links))} for {for_s}"
            case cmd.WakeAt(at):
                self.wake_at = at
                return None
            case cmd.Report():
                return None
            case _:
                assert_never(command)

    def _changes(self, group: cmd.WriteStore) -> list[str]:
        for record in group.puts:
            assert record.payload.inline is not None, "the store needs the bytes"
            self.records[record.id] = record
            self.data.setdefault(self.name_of(record.id), record.payload.inline)
        words = {
            "put": [self.name_of(record.id) for record in group.puts if not record.held],
            "hold": [self.name_of(record.id) for record in group.puts if record.held],
            "delete": [self.name_of(row.id) for row in group.deletes],
            "release": [self.name_of(bundle) for bundle in group.releases],
            "note": [self._note(key, value) for key, value in group.notes.items()],
        }
        return [" ".join((word, *names)) for word, names in words.items() if names]

    def _note(self, key: str, value: bytes) -> str:
        if not key.startswith(NOTE_PREFIX):
            return key
        by_text = {bundle_id_text(bundle): name for bundle, name in self._names.items()}
        name = by_text[key.removeprefix(NOTE_PREFIX)]
        return f"{name}={msgspec.msgpack.decode(value, type=Message).state.value if value else 'forgotten'}"


def _short(link: LinkId | None) -> str:
    if link is None:
        return "here"
    return f"{link.bearer}>{link.neighbour.uri.removeprefix('dtn://').rstrip('/')}"
