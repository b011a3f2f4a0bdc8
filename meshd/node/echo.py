# SPDX-License-Identifier: Apache-2.0
"""The echo service: a bundle to `dtn://NODE/echo` or `ipn:N.7` goes back to its source with the same payload.

The request itself is never stored: its answer and the memory that it was here are one atomic group of the store, and
the request's transfer is acknowledged when that is durable. So a round trip costs one sync here.

No loops: an administrative record, an anonymous source and another echo endpoint get no answer.
"""

from typing import Final

from meshd.bundle.eid import Eid
from meshd.bundle.header import BundleHeader
from meshd.bundle.record import BundleId, bundle_ref
from meshd.link.identity import LinkId
from meshd.node.bundle_table import Entry
from meshd.node.commands import ForgottenRow
from meshd.node.origination import originate
from meshd.node.state import NodeState

ECHO_NAME: Final = "echo"
ECHO_SERVICE: Final = "7"


def is_echo(endpoint: Eid) -> bool:
    """Whether this is the echo endpoint of some node."""
    return endpoint.demux == (ECHO_SERVICE if endpoint.uri.startswith("ipn:") else ECHO_NAME)


def echo_endpoint(node: Eid) -> Eid:
    """The echo endpoint of a node."""
    if node.uri.startswith("ipn:"):
        return Eid(node.uri[:-1] + ECHO_SERVICE)
    return Eid(node.uri + ECHO_NAME)


class Echo:
    """Answers, and remembers which request an answer that is not durable yet belongs to."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self.endpoint = echo_endpoint(state.settings.id)
        self._answers: dict[BundleId, Entry] = {}
        self._requests: dict[BundleId, BundleId] = {}

    def answer_transfer(
        self,
        data: bytes,
        header: BundleHeader,
        expiry_ms: int,
        precedence: int,
        link: LinkId,
        transfer: object,
        now: float,
    ) -> None:
        """A request has just arrived: answer it, or accept and drop it."""
        state = self._state
        problem = _problem(header)
        if problem:
            state.accept(link, transfer)
            state.report("bundle.dropped", bundle=bundle_ref(header.id), link=str(link), reason=problem)
            return
        entry = self._answer(data, header, expiry_ms, precedence, now)
        entry.transfers = ((link, transfer),)
        state.known.add(header.id, expiry_ms)
        state.deletes.append(ForgottenRow(header.id, expiry_ms))
        self._answers[header.id] = entry
        self._requests[entry.record.id] = header.id

    def answer_entry(self, entry: Entry, data: bytes, header: BundleHeader, now: float) -> None:
        """A request that is stored here (its ADU came in fragments, or it was sent from here): answer and forget it."""
        problem = _problem(header)
        if problem:
            self._state.report("bundle.deleted", bundle=bundle_ref(header.id), reason=problem)
        else:
            self._answer(data, header, entry.record.expiry_ms, entry.record.precedence, now)
        self._state.delete(entry)

    def answer_under_way(self, request: BundleId) -> Entry | None:
        """The answer to this request while it is being stored: duplicates of the request wait for it."""
        return self._answers.get(request)

    def settled(self, answer: BundleId, *, is_durable: bool) -> None:
        """The store has answered. When it failed, the request may be brought again."""
        request = self._requests.pop(answer, None)
        if request is not None:
            del self._answers[request]
            if not is_durable:
                self._state.known.discard(request)

    def _answer(self, data: bytes, header: BundleHeader, expiry_ms: int, precedence: int, now: float) -> Entry:
        state = self._state
        entry = originate(
            state,
            self.endpoint,
            header.source,
            data[header.payload_offset : header.payload_offset + header.payload_size],
            now,
            lifetime_ms=expiry_ms - state.dtn_ms(now),
            precedence=precedence,
        )
        state.add(entry)
        return entry


def _problem(header: BundleHeader) -> str:
    """Why there is no answer; empty when there is one."""
    if header.is_admin_record:
        return "an administrative record is not echoed"
    if header.source.is_null:
        return "an anonymous bundle can't be echoed"
    if is_echo(header.source):
        return "an echo is not echoed"
    if header.part is not None:
        return "a message of several parts is not echoed"
    return ""
