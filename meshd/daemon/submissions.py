# SPDX-License-Identifier: Apache-2.0
"""Messages on their way in from applications: `send.*` of the control protocol.

A message is cut here into parts of PART_SIZE_BYTES; a few parts may wait for the disk at a time, then the application
waits. Nothing is promised before `send.close` or `send.message` is answered.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from meshd.base.limits import PART_SIZE_BYTES
from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.errors import EidError
from meshd.bundle.precedence import Precedence
from meshd.bundle.record import BundleId, bundle_id_text, bundle_ref
from meshd.control.errors import ControlError
from meshd.daemon.control_handler import SessionHandle
from meshd.node.echo import is_echo
from meshd.node.events import Event, MessageSubmitted, SubmissionAborted

SUBMISSIONS_MAX: Final = 256
"""Messages that may be on their way in at once."""

PARTS_WAITING_MAX: Final = 4
"""Parts of one message that may wait for the disk."""

Answer = dict[str, Any] | Awaitable[dict[str, Any]]
"""Of a request: now, or to be awaited."""


class Submission:
    """One message on its way in."""

    def __init__(
        self, number: int, owner: SessionHandle, params: dict[str, Any], source: Eid, lifetime_ms: int
    ) -> None:
        self.number = number
        self.owner = owner
        self.source = source
        self.destination = _destination(params["destination"])
        self.precedence = int(Precedence[params["precedence"]])
        self.lifetime_ms = lifetime_ms
        self.report = bool(params["report"])
        self.buffer = bytearray()
        self.size_bytes = 0
        self.parts = 0
        self.waiting = 0
        self.message: BundleId | None = None
        self.refusal: tuple[str, str] | None = None
        self.changed = trio.Event()

    @property
    def is_full(self) -> bool:
        """So much of it waits for the disk that the application has to wait, too."""
        return self.waiting > PARTS_WAITING_MAX and self.refusal is None

    @property
    def is_decided(self) -> bool:
        """All of it is durable, or nothing is kept."""
        return self.message is not None or self.refusal is not None

    def notify(self) -> None:
        """Wake whoever waits for a change."""
        self.changed.set()
        self.changed = trio.Event()


class Submissions:
    """Serves `send.*` and takes the agent's answers."""

    def __init__(self, dispatch: Callable[[Event], None], own_node: Eid, lifetime_ms: Callable[[], int]) -> None:
        self._dispatch = dispatch
        self._own_node = own_node
        self._lifetime_ms = lifetime_ms
        self._submissions: dict[int, Submission] = {}
        self._numbers = 0

    def open(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`send.open`."""
        return {"submission": self._begin(session, params).number}

    def send(self, session: SessionHandle, params: dict[str, Any]) -> Answer:
        """`send.message`."""
        submission = self._begin(session, params)
        submission.size_bytes = len(params["data"])
        self._submit(submission, params["data"], is_last=True)
        return self._conclude(submission)

    def data(self, session: SessionHandle, params: dict[str, Any]) -> Answer:
        """`send.data`."""
        submission = self._get(session, params)
        submission.buffer += params["data"]
        submission.size_bytes += len(params["data"])
        while len(submission.buffer) > PART_SIZE_BYTES:
            part = bytes(memoryview(submission.buffer)[:PART_SIZE_BYTES])
            del submission.buffer[:PART_SIZE_BYTES]
            self._submit(submission, part, is_last=False)
        return self._wait_for_room(submission) if submission.is_full else self._go_on(submission)

    def close(self, session: SessionHandle, params: dict[str, Any]) -> Answer:
        """`send.close`."""
        submission = self._get(session, params)
        self._submit(submission, bytes(submission.buffer), is_last=True)
        submission.buffer.clear()
        return self._conclude(submission)

    def _begin(self, session: SessionHandle, params: dict[str, Any]) -> Submission:
        if len(self._submissions) >= SUBMISSIONS_MAX:
            raise ControlError("failed", f"{SUBMISSIONS_MAX} messages are being sent already; try again later")
        source = local_endpoint(self._own_node, params["endpoint"])
        lifetime_ms = params["lifetime_ms"]
        if lifetime_ms is not None and lifetime_ms <= 0:
            raise ControlError(
                "bad_params", f"lifetime_ms: {lifetime_ms} ms is over before it begins; give a positive one"
            )
        self._numbers += 1
        submission = Submission(self._numbers, session, params, source, lifetime_ms or self._lifetime_ms())
        self._submissions[submission.number] = submission
        return submission

    async def _wait_for_room(self, submission: Submission) -> dict[str, Any]:
        while submission.is_full:
            await submission.changed.wait()
        return self._go_on(submission)

    def _go_on(self, submission: Submission) -> dict[str, Any]:
        self._raise_refusal(submission)
        return {}

    def _conclude(self, submission: Submission) -> Answer:
        """What became of it; a good disk lets us know at once."""
        return self._result(submission) if submission.is_decided else self._wait_for_decision(submission)

    async def _wait_for_decision(self, submission: Submission) -> dict[str, Any]:
        while not submission.is_decided:
            await submission.changed.wait()
        return self._result(submission)

    def _result(self, submission: Submission) -> dict[str, Any]:
        self._raise_refusal(submission)
        self._submissions.pop(submission.number, None)
        assert submission.message is not None, "neither accepted nor refused"
        return {
            "message": bundle_id_text(submission.message),
            "ref": bundle_ref(submission.message),
            "parts": submission.parts,
            "size_bytes": submission.size_bytes,
            "state": "queued",
        }

    def abort(self, session: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`send.abort`."""
        self._drop(self._get(session, params))
        return {}

    def session_closed(self, session: SessionHandle) -> None:
        """What it had begun and not closed is forgotten."""
        for submission in [each for each in self._submissions.values() if each.owner is session]:
            self._drop(submission)

    def part_accepted(self, number: int) -> None:
        """A part is durable."""
        submission = self._submissions.get(number)
        if submission is not None:
            submission.waiting -= 1
            submission.notify()

    def accepted(self, number: int, message: BundleId) -> None:
        """All of it is durable."""
        submission = self._submissions.get(number)
        if submission is not None:
            submission.message = message
            submission.notify()

    def refused(self, number: int, code: str, text: str) -> None:
        """Nothing of it is kept."""
        submission = self._submissions.get(number)
        if submission is not None:
            submission.refusal = (code, text)
            submission.notify()

    def _submit(self, submission: Submission, data: bytes, *, is_last: bool) -> None:
        if submission.refusal is not None:
            return
        submission.parts += 1
        submission.waiting += 1
        self._dispatch(
            MessageSubmitted(
                submission.number,
                submission.source,
                submission.destination,
                submission.precedence,
                submission.lifetime_ms,
                submission.report,
                data,
                is_last,
            )
        )

    def _get(self, session: SessionHandle, params: dict[str, Any]) -> Submission:
        submission = self._submissions.get(params["submission"])
        if submission is None or submission.owner is not session:
            raise ControlError("not_found", f"submission {params['submission']} is not one of this session's")
        return submission

    def _raise_refusal(self, submission: Submission) -> None:
        if submission.refusal is not None:
            self._submissions.pop(submission.number, None)
            raise ControlError(*submission.refusal)

    def _drop(self, submission: Submission) -> None:
        del self._submissions[submission.number]
        self._dispatch(SubmissionAborted(submission.number))


def local_endpoint(own_node: Eid, name: str) -> Eid:
    """An application endpoint of this node from its short name or its full EID."""
    text = (
        name
        if ":" in name
        else f"{own_node.uri}{name}"
        if own_node.uri.startswith("dtn:")
        else f"{own_node.uri[:-1]}{name}"
    )
    try:
        endpoint = parse_eid(text)
    except EidError as error:
        raise ControlError("bad_params", f"endpoint {name!r}: {error}") from error
    if endpoint.node != own_node:
        raise ControlError("bad_params", f"endpoint {endpoint.uri} is not on this node, {own_node.uri}")
    if not endpoint.demux:
        raise ControlError(
            "bad_params", f"endpoint {endpoint.uri} is administrative; name an application, such as inbox"
        )
    if is_echo(endpoint):
        raise ControlError("bad_params", f"endpoint {endpoint.uri} is the node's own echo service; name another")
    return endpoint


def _destination(text: str) -> Eid:
    try:
        return parse_eid(text)
    except EidError as error:
        raise ControlError("bad_params", f"destination {text!r}: {error}") from error
