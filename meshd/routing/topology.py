# SPDX-License-Identifier: Apache-2.0
"""The newest advertisement of each node, and which of those that arrive are taken (DESIGN section 3).

Newer is the higher boot number, then the higher sequence; what comes from an implausible future, was there before or is
older is dropped and counted. Only members of the mission, by the file of signing keys, are listened to, so that there
is never more than one row for each. Who signed it is checked last: it costs a tenth of a millisecond, and most of what
is wrong is wrong before. No I/O: notes are for the store, contacts for the router.
"""

import enum
from collections.abc import Iterable, Mapping
from typing import Final, Protocol, runtime_checkable

import msgspec

from meshd.bundle.dtn_time import DTN_EPOCH_UNIX_S
from meshd.bundle.eid import Eid
from meshd.routing.advertisement import Advertisement, decode_body_untrusted
from meshd.routing.contact import Contact
from meshd.routing.silences import Span
from meshd.security.advertisement import (
    AdvertisementError,
    Envelope,
    decode_envelope_untrusted,
    verify_advertisement,
)

FUTURE_MAX_S: Final = 3600
"""So far may another node's clock be ahead of ours."""


class Verdict(enum.Enum):
    """What became of an advertisement that arrived."""

    TAKEN = "taken"
    MALFORMED = "malformed"
    STRANGER = "from a stranger"
    FUTURE = "from an implausible future"
    OLD = "old"
    REPLAYED = "replayed"
    FORGED = "forged"


@runtime_checkable
class ContactSink(Protocol):
    """A router that heeds other nodes' advertisements."""

    def learn(self, node: Eid, contacts: list[Contact], now: float) -> None:
        """These and no others are the contacts in which `node` says that it can send."""

    def forget(self, node: Eid) -> None:
        """What it said holds no more."""


@runtime_checkable
class SilenceSink(Protocol):
    """A router that heeds who is silent on order."""

    def silence(self, node: Eid, until_s: float | None) -> None:
        """It sends nothing that can be located, until a DTN time if that is known; of this node: what is closed."""

    def end_silence(self, node: Eid) -> None:
        """It may send again."""

    def plan_silence(self, node: Eid, spans: Iterable[Span]) -> None:
        """When it will keep silent by a plan, in DTN time; in place of what was planned before."""


@runtime_checkable
class PlanSource(Protocol):
    """A router that has a plan."""

    def planned(self, sender: Eid, from_s: float, until_s: float) -> list[Contact]:
        """Scheduled contacts in which `sender` sends and that overlap this span of DTN time, in their order."""


class Held(msgspec.Struct):
    """The newest of one node, as the store keeps it."""

    boot: int
    sequence: int
    bundle: str
    """ID of the bundle that brought it."""
    expiry_ms: int
    """DTN time in ms until which it holds."""
    body: bytes
    """Empty once it holds no more: the number is remembered for good."""

    @property
    def number(self) -> tuple[int, int]:
        """Of two of a node, the larger one is the newer."""
        return self.boot, self.sequence


class Topology:
    """Owns one row for each node that has ever been heard of, and the counts of what was dropped."""

    def __init__(self) -> None:
        self._held: dict[Eid, Held] = {}
        self.counts = dict.fromkeys(Verdict, 0)

    def check_untrusted(
        self, node: Eid, bundle: str, payload: bytes, keys: Mapping[Eid, bytes], utc_s: int | None
    ) -> tuple[Verdict, str, Envelope | None, Advertisement | None]:
        """Whether this is to be taken, in words why not, and what it says. `utc_s` is Unix time, None without a clock.

        Nothing is changed but a count.
        """
        envelope = said = None
        try:
            envelope = decode_envelope_untrusted(payload)
            verdict = self._judge(node, bundle, envelope, keys, utc_s)
            reason = f"an advertisement of {node.uri} is {verdict.value}"
            if verdict is Verdict.TAKEN:
                verdict = Verdict.FORGED
                verify_advertisement(keys[node], node, envelope)
                verdict = Verdict.MALFORMED
                said = decode_body_untrusted(envelope.body, node)
                is_ahead = utc_s is not None and said.issued_s > utc_s - DTN_EPOCH_UNIX_S + FUTURE_MAX_S
                verdict = Verdict.FUTURE if is_ahead else Verdict.TAKEN
                reason = f"an advertisement of {node.uri} is {verdict.value}"
        except AdvertisementError as error:
            verdict, reason = (Verdict.MALFORMED if envelope is None else verdict), str(error)
        self.counts[verdict] += 1
        return verdict, reason, envelope, said

    def _judge(
        self, node: Eid, bundle: str, envelope: Envelope, keys: Mapping[Eid, bytes], utc_s: int | None
    ) -> Verdict:
        if node not in keys:
            return Verdict.STRANGER
        if utc_s is not None and envelope.boot > utc_s + FUTURE_MAX_S:
            return Verdict.FUTURE
        held = self._held.get(node)
        if held is None or envelope.number > held.number:
            return Verdict.TAKEN
        if envelope.number < held.number:
            return Verdict.OLD
        return Verdict.TAKEN if held.bundle == bundle else Verdict.REPLAYED

    def take(self, node: Eid, held: Held) -> None:
        """From now on this is the newest of the node."""
        self._held[node] = held

    def get(self, node: Eid) -> Held | None:
        """Of one node."""
        return self._held.get(node)

    def valid(self) -> dict[Eid, Held]:
        """Those that hold."""
        return {node: held for node, held in self._held.items() if held.body}

    def expire(self, now_ms: int) -> list[Eid]:
        """Nodes whose advertisement holds no more since the last look."""
        gone = [node for node, held in self._held.items() if held.body and held.expiry_ms <= now_ms]
        for node in gone:
            self._held[node].body = b""
        return gone

    def next_expiry_ms(self) -> int | None:
        """DTN time in ms."""
        return min((held.expiry_ms for held in self._held.values() if held.body), default=None)
