# SPDX-License-Identifier: Apache-2.0
"""Shapes of the daemon's answers, as the control protocol fixes them. Times are Unix milliseconds, sizes bytes.

They describe, they do not check: a newer daemon may add keys.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict


class SentMessage(NamedTuple):
    """The answer to `send.close`: the message is stored, and is never taken back."""

    message: str
    ref: str
    parts: int
    size_bytes: int
    state: str


class ReceivedMessage(NamedTuple):
    """The answer to `recv.next`; `data` is None unless it was asked for and is small enough."""

    message: str
    ref: str
    source: str
    destination: str
    precedence: str
    size_bytes: int
    created_ms: int
    expiry_ms: int
    data: bytes | None = None


class MessageState(NamedTuple):
    """The answer to `message.wait`."""

    message: str
    ref: str
    state: str
    reason: str | None


class Event(NamedTuple):
    """One event; `lost` events were dropped before it because this reader was slow."""

    seq: int
    time_ms: int
    kind: str
    fields: dict[str, Any]
    lost: int


class HelloReply(TypedDict):
    """The answer to `hello`."""

    version: int
    node: str
    daemon_version: str
    methods: list[str]
    max_frame_bytes: int


class BundleRow(TypedDict):
    """One bundle of `bundles.list`; `part` is a map of `index` and `last`, nil for a message of one bundle."""

    id: str
    ref: str
    source: str
    destination: str
    precedence: str
    size_bytes: int
    state: str
    expiry_ms: int
    received_ms: int
    part: dict[str, Any] | None
    message_ref: str


class BundleList(TypedDict):
    """The answer to `bundles.list`; `total` counts also those above the limit."""

    bundles: list[BundleRow]
    total: int


class Explanation(TypedDict):
    """The answer to `bundles.explain`; history items are maps of `time_ms` and `what`."""

    id: str
    ref: str
    state: str
    summary: str
    steps: list[str]
    history: list[dict[str, Any]]


class ReloadReply(TypedDict):
    """The answer to `reload`."""

    changed: list[str]
    needs_restart: list[str]


def pick(reply: Mapping[str, Any], fields: tuple[str, ...]) -> list[Any]:
    """Take the known keys of an answer in order; what a daemon left out is None."""
    return [reply.get(field) for field in fields]
