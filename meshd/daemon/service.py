# SPDX-License-Identifier: Apache-2.0
"""What the methods of the control protocol mean: from a method's name to the part of the daemon that serves it."""

import os
import resource
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from meshd.base.version import __version__
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.cl.fountain.peer import Life
from meshd.daemon.audit_desk import AuditDesk
from meshd.daemon.break_desk import BreakDesk
from meshd.daemon.contact_desk import ContactDesk
from meshd.daemon.control_handler import SessionHandle
from meshd.daemon.dtn_clock import monotonic_s, unix_ms, wall_ms
from meshd.daemon.emcon_desk import EmconDesk
from meshd.daemon.emission import EmissionControl
from meshd.daemon.emission_record import EmissionRecord
from meshd.daemon.event_hub import EventHub
from meshd.daemon.link_score import describe_score
from meshd.daemon.plan_desk import PlanDesk
from meshd.daemon.queries import Queries
from meshd.daemon.receivers import Receivers
from meshd.daemon.route_desk import RouteDesk
from meshd.daemon.silence_breaker import SilenceBreaker
from meshd.daemon.silence_desk import SilenceDesk
from meshd.daemon.stream_desk import StreamDesk
from meshd.daemon.streams.post import FIRST_NUMBER as STREAM_NUMBERS
from meshd.daemon.submissions import Answer, Submissions
from meshd.link.link_table import Link
from meshd.node.agent import Agent
from meshd.node.commands import DeliverMessage
from meshd.node.sent_messages import MessageState
from meshd.node.settings import NodeSettings

Method = Callable[[SessionHandle, dict[str, Any]], Answer]
Snapshot = Mapping[str, Any]

_PAGE_BYTES: Final = resource.getpagesize()
FOUNTAIN_FIGURES: Final = (
    "peer",
    "rate_bps",
    "rtt_s",
    "loss_out",
    "loss_in",
    "repair_overhead",
    "open_objects_out",
    "open_objects_in",
    "late_symbols",
    "decode_failures",
    "objects_without_room",
    "lost_here",
)
"""What a fountain bearer measures of a link."""
_HEARD_STATES: Final = {Life.SILENT.value: "silent", Life.ONE_WAY.value: "one-way"}
"""What a fountain bearer knows of a neighbour beyond up and down."""


class Service:
    """Implements ControlHandler and the engine's ApplicationPort."""

    def __init__(
        self,
        *,
        agent: Agent,
        settings: Callable[[], NodeSettings],
        hub: EventHub,
        queries: Queries,
        submissions: Submissions,
        receivers: Receivers,
        emission: EmissionControl,
        silence: SilenceDesk,
        record: EmissionRecord,
        breaker: SilenceBreaker,
        audit: AuditDesk,
        contacts: ContactDesk,
        routes: RouteDesk,
        streams: StreamDesk,
        snapshots: Callable[[], list[Snapshot]],
        reload: Callable[[], Awaitable[dict[str, Any]]],
    ) -> None:
        self._agent = agent
        self._settings = settings
        self._hub = hub
        self._queries = queries
        self._submissions = submissions
        self._receivers = receivers
        self._emission = emission
        self._silence = silence
        self._audit = audit
        self._contacts = contacts
        self._streams = streams
        self._snapshots = snapshots
        self._reload = reload
        self._started_at = monotonic_s()
        emcon = EmconDesk(agent, emission, _who)
        self._methods: dict[str, Method] = {
            "status": self._status,
            "peers": self._peers,
            "peers.set_silent": silence.set_silent,
            "peers.clear_silent": silence.clear_silent,
            "links": self._links,
            "send.message": submissions.send,
            "send.open": submissions.open,
            "send.data": submissions.data,
            "send.close": submissions.close,
            "send.abort": submissions.abort,
            "message.wait": lambda _, params: queries.wait(params),
            "recv.open": receivers.open,
            "recv.next": receivers.next,
            "recv.read": receivers.read,
            "recv.confirm": receivers.confirm,
            "recv.close": receivers.close,
            "bundles.list": lambda _, params: queries.list_bundles(params),
            "bundles.show": lambda _, params: queries.show(params),
            "bundles.explain": lambda _, params: queries.explain(params),
            "bundles.cancel": lambda session, params: queries.cancel(params, _who(session)),
            "contacts.list": contacts.list_contacts,
            "contacts.add": contacts.add,
            "contacts.remove": contacts.remove,
            "contacts.import": contacts.import_plan,
            "contacts.export": contacts.export,
            "routes.list": routes.list_routes,
            "streams.publish": streams.publish,
            "streams.feed": streams.feed,
            "streams.list": streams.list_streams,
            "streams.watch": streams.watch,
            "streams.open": streams.open,
            "streams.next": streams.next,
            "streams.read": streams.read,
            "streams.stop": streams.stop,
            "streams.remove": streams.remove,
            "emcon.status": emcon.status,
            "emcon.preview": emcon.preview,
            "emcon.set": emcon.set,
            "emcon.schedule": emcon.schedule,
            "emcon.break": BreakDesk(breaker, queries.find_bundle, _who).break_silence,
            "emcon.plan": PlanDesk(agent, settings().id, wall_ms).plan,
            "emcon.verify": lambda _, __: record.verify(),
            "audit.list": audit.list_entries,
            "audit.verify": audit.verify,
            "events.subscribe": self._subscribe,
            "reload": lambda _, __: self._reload(),
        }

    # ControlHandler

    def call(self, session: SessionHandle, method: str, params: dict[str, Any]) -> Answer:
        """Serve one request."""
        return self._methods[method](session, params)

    def session_closed(self, session: SessionHandle) -> None:
        """Drop what the session held."""
        self._hub.unsubscribe(session)
        self._submissions.session_closed(session)
        self._receivers.session_closed(session)
        self._contacts.session_closed(session)
        self._streams.session_closed(session)

    # ApplicationPort

    def part_accepted(self, submission: int) -> None:
        """The next part may come."""
        if submission < STREAM_NUMBERS:
            self._submissions.part_accepted(submission)

    def submission_accepted(self, submission: int, message: BundleId) -> None:
        """The message is durable."""
        if submission < STREAM_NUMBERS:
            self._submissions.accepted(submission, message)
        else:
            self._streams.post.accepted(submission, message)

    def submission_refused(self, submission: int, code: str, text: str) -> None:
        """Nothing of the message is kept."""
        if submission < STREAM_NUMBERS:
            self._submissions.refused(submission, code, text)
        else:
            self._streams.post.refused(submission)

    def deliver(self, message: DeliverMessage) -> None:
        """Offer a message to a receiver."""
        if message.receiver < STREAM_NUMBERS:
            self._receivers.deliver(message)
        else:
            self._streams.post.deliver(message)

    # Methods

    async def _status(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        agent, settings, now = self._agent, self._settings(), monotonic_s()
        onward_count, onward_bytes = agent.onward()
        links = list(agent.links.links())
        counts = Counter(message.state for message in agent.messages.all())
        emcon = self._emission.status()
        return {
            "node": settings.id.uri,
            "version": __version__,
            "uptime_s": round(now - self._started_at, 3),
            "pid": os.getpid(),
            "clock": {"trusted": settings.clock_trusted, "time_ms": unix_ms(agent.dtn_ms(now))},
            "store": {
                "bundles": agent.bundle_count,
                "bytes": agent.stored_bytes,
                "quota_bytes": settings.quota_bytes,
                "known": agent.known_count,
            },
            "links": {"up": sum(link.is_up for link in links), "total": len(links)},
            "tls": {link.id.bearer: link.bearer.tls.value for link in links},
            "queued": {"bundles": onward_count, "bytes": onward_bytes},
            "emcon": {
                "profile": emcon["profile"],
                "postures": {bearer["bearer"]: bearer["posture"] for bearer in emcon["bearers"]},
            },
            "audit": self._audit.status(),
            "messages": {state.value: counts[state] for state in MessageState},
            "memory_bytes": _resident_bytes(),
        }

    async def _peers(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        by_node: dict[Eid, list[Link]] = {}
        for link in self._agent.links.links():
            by_node.setdefault(link.id.neighbour, []).append(link)
        snapshots = self._snapshot_by_link()
        known = [self._peer(node, links, snapshots) for node, links in by_node.items()]
        here = {peer["node"] for peer in known}
        return {"peers": known + [_found_peer(row) for row in snapshots.values() if row["neighbour"] not in here]}

    def _peer(self, node: Eid, links: list[Link], snapshots: dict[str, Snapshot]) -> dict[str, Any]:
        queued = [self._agent.forwarding.queued(link.id) for link in links]
        heard = [snapshots.get(str(link.id), {}).get("last_heard_s") for link in links]
        return {
            "node": node.uri,
            "state": _peer_state([self._state(link, snapshots.get(str(link.id), {})) for link in links]),
            "bearers": [
                {
                    "bearer": link.id.bearer,
                    "state": self._state(link, snapshots.get(str(link.id), {})),
                    "address": snapshots.get(str(link.id), {}).get("address"),
                }
                for link in links
            ],
            "queued_bundles": sum(bundles for bundles, _ in queued),
            "queued_bytes": sum(size_bytes for _, size_bytes in queued),
            "last_heard_s": min((each for each in heard if each is not None), default=None),
        }

    def _state(self, link: Link, snapshot: Snapshot) -> str:
        """A neighbour that is said to be silent is silent, not down."""
        state = _link_state(link, snapshot)
        return "silent" if state == "down" and self._silence.is_silent(link.id.neighbour) else state

    async def _links(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        snapshots = self._snapshot_by_link()
        return {"links": [self._link(link, snapshots.get(str(link.id), {})) for link in self._agent.links.links()]}

    def _link(self, link: Link, snapshot: Snapshot) -> dict[str, Any]:
        queued_bundles, queued_bytes = self._agent.forwarding.queued(link.id)
        return {
            "link": str(link.id),
            "bearer": link.id.bearer,
            "kind": link.bearer.kind.value,
            "neighbour": link.id.neighbour.uri,
            "state": self._state(link, snapshot),
            "posture": self._agent.links.posture(link.id.bearer).value,
            "tls": snapshot.get("tls"),
            "since_s": round(monotonic_s() - link.since, 3),
            "queued_bundles": queued_bundles,
            "queued_bytes": queued_bytes,
            "in_flight_bundles": self._agent.forwarding.in_flight(link.id),
            "sent_bundles": link.sent_bundles,
            "sent_bytes": link.sent_bytes,
            "received_bundles": link.received_bundles,
            "received_bytes": link.received_bytes,
            "rate_bps": link.bearer.rate_bps,
            "reason": link.reason or None,
            "score": describe_score(link.metric, queued_bytes, monotonic_s()),
            "fountain": {name: snapshot[name] for name in FOUNTAIN_FIGURES if name in snapshot} or None,
        }

    async def _subscribe(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        self._hub.subscribe(session, params["kinds"], params["replay"])
        return {}

    def _snapshot_by_link(self) -> dict[str, Snapshot]:
        return {snapshot["link"]: snapshot for snapshot in self._snapshots()}


def _who(session: SessionHandle) -> str:
    """For the record: the user as the kernel named it."""
    return f"uid {session.peer.uid}"


def _link_state(link: Link, snapshot: Snapshot) -> str:
    """For people; a dormant link is up for the node, and so is one to a silent node, which is sent to blind."""
    heard = _HEARD_STATES.get(str(snapshot.get("peer")))
    if heard is not None:
        return heard
    if not link.is_up:
        return "down"
    return "dormant" if snapshot.get("state") == "dormant" else "up"


def _peer_state(states: list[str]) -> str:
    """Of a neighbour, from those of its links."""
    words = {"up" if state == "dormant" else state for state in states}
    return next((word for word in ("up", "silent", "one-way") if word in words), "down")


def _found_peer(row: Snapshot) -> dict[str, Any]:
    """A neighbour that is not configured and can't be sent to: it was heard once, or is heard and does not hear us."""
    state = _HEARD_STATES.get(str(row.get("peer")), "down")
    return {
        "node": row["neighbour"],
        "state": state,
        "bearers": [{"bearer": row["bearer"], "state": state, "address": row["address"]}],
        "queued_bundles": 0,
        "queued_bytes": 0,
        "last_heard_s": row["last_heard_s"],
    }


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
