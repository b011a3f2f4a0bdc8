# SPDX-License-Identifier: Apache-2.0
"""Events for the readers of the control socket: `meshctl events`.

The hub keeps a ring of recent events for replay, and per reader a filter of kinds and a count of what it lost. An
event that finds no room in a reader's session is lost for that reader only; the next one that gets through says how
many were. Nobody waits for a reader. What events there are is the daemon's; payloads, keys and positions never are.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from meshd.control.methods import EVENTS_REPLAYED_MAX
from meshd.daemon.control_handler import SessionHandle

EVENTS_KEPT_MAX: Final = EVENTS_REPLAYED_MAX
EVENT_METHOD: Final = "event"


@dataclass(frozen=True, slots=True)
class HubEvent:
    """Something that happened: `seq` counts all events, `kind` is words with dots (`link.up`)."""

    seq: int
    time_ms: int
    kind: str
    fields: dict[str, Any]


@dataclass(slots=True)
class _Subscriber:
    kinds: tuple[str, ...] | None
    lost: int = 0

    def wants(self, kind: str) -> bool:
        """A filter word fits itself and everything below it: `link` fits `link.up`, not `linkage`."""
        if self.kinds is None:
            return True
        return any(kind == word or kind.startswith(word.rstrip(".") + ".") for word in self.kinds)


class EventHub:
    """Hands every event to the sessions that want it. One subscription a session; the number of sessions is bounded."""

    def __init__(self, wall_clock_ms: Callable[[], int], kept_max: int = EVENTS_KEPT_MAX) -> None:
        """Take the time of events from `wall_clock_ms` (Unix milliseconds); keep `kept_max` of them for replay."""
        self._wall_clock_ms = wall_clock_ms
        self._recent: deque[HubEvent] = deque(maxlen=kept_max)
        self._subscribers: dict[SessionHandle, _Subscriber] = {}
        self._seq = 0

    def publish(self, kind: str, fields: dict[str, Any]) -> None:
        """Record an event and hand it to whoever wants it. `fields` holds what msgpack carries."""
        self._seq += 1
        event = HubEvent(self._seq, self._wall_clock_ms(), kind, fields)
        self._recent.append(event)
        for session, subscriber in self._subscribers.items():
            if subscriber.wants(kind):
                self._deliver(session, subscriber, event)

    def recent(self) -> list[HubEvent]:
        """The events kept for replay, oldest first."""
        return list(self._recent)

    def subscribe(self, session: SessionHandle, kinds: Sequence[str] | None, replay: int) -> None:
        """Send the session events of these kinds (None: all) from now on, after the last `replay` recent ones.

        A second subscription of a session replaces its first.
        """
        subscriber = _Subscriber(None if kinds is None else tuple(kinds))
        self._subscribers[session] = subscriber
        recent = [event for event in self._recent if subscriber.wants(event.kind)]
        for event in recent[len(recent) - min(replay, len(recent)) :]:
            self._deliver(session, subscriber, event)

    def unsubscribe(self, session: SessionHandle) -> None:
        """Forget the session; it need not be subscribed."""
        self._subscribers.pop(session, None)

    def _deliver(self, session: SessionHandle, subscriber: _Subscriber, event: HubEvent) -> None:
        params = {
            "seq": event.seq,
            "time_ms": event.time_ms,
            "kind": event.kind,
            "fields": event.fields,
            "lost": subscriber.lost,
        }
        subscriber.lost = 0 if session.notify(EVENT_METHOD, params) else subscriber.lost + 1
