# SPDX-License-Identifier: Apache-2.0
"""`Streams`: full-motion video for Python programs, over a `Client`.

    with Client() as client:
        streams = Streams(client)
        reply = streams.publish("drone", ["home"])
        streams.feed(reply["feed"], transport_stream)

Errors are those of the client's calls.
"""

from collections.abc import Sequence
from typing import Any, Final, cast

from meshd.client.client import Client
from meshd.control.errors import ControlError

ANSWER_TIMEOUT_S: Final = 60.0
"""A feed is answered when the daemon can take more, and a span is read from the disk."""


class Streams:
    """The streams of one daemon."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def publish(self, name: str, to: Sequence[str], **settings: Any) -> dict[str, Any]:
        """Begin a stream to groups and nodes.

        Args:
            settings: `input`, an address; without one this session feeds the stream. `latency_ms`, `tiers`,
                `window_ms` of the archive, `precedence`, `label`.

        Returns: `stream` (its ID), `receivers`, and `feed`, the number to feed it by, where no input is named.
        """
        return cast("dict[str, Any]", self._client.call("streams.publish", {"name": name, "to": list(to), **settings}))

    def feed(self, feed: int, data: bytes, *, is_last: bool = False) -> None:
        """Bytes of a stream as they come; returns when the daemon can take more."""
        self._client.call("streams.feed", {"feed": feed, "data": data, "is_last": is_last}, ANSWER_TIMEOUT_S)

    def list(self, name: str | None = None) -> list[dict[str, Any]]:
        """All streams, or the one of this name, with their figures."""
        return cast("list[dict[str, Any]]", self._client.call("streams.list", {"name": name})["streams"])

    def watch(self, name: str, output: str, latency_ms: int | None = None) -> dict[str, Any]:
        """Have it put out to a UDP address from now on, also after a restart."""
        params = {"name": name, "output": output, "latency_ms": latency_ms}
        return cast("dict[str, Any]", self._client.call("streams.watch", params))

    def open(self, name: str, latency_ms: int | None = None) -> dict[str, Any]:
        """Have it played to this session: `reader`, the number to read by, and `is_known`."""
        return cast("dict[str, Any]", self._client.call("streams.open", {"name": name, "latency_ms": latency_ms}))

    def next(self, reader: int, timeout_s: float) -> dict[str, Any]:
        """What was played meanwhile, waited for so long: `data`, `lost_bytes` so far, `has_ended`."""
        params = {"reader": reader, "timeout_s": timeout_s}
        return cast("dict[str, Any]", self._client.call("streams.next", params, timeout_s + ANSWER_TIMEOUT_S))

    def read_span(self, name: str, span: int) -> bytes | None:
        """A span of the archive, bit for bit as it was ingested; None: it is not whole yet."""
        data = b""
        while True:
            params = {"name": name, "span": span, "offset": len(data)}
            try:
                answer = self._client.call("streams.read", params, ANSWER_TIMEOUT_S)
            except ControlError as error:
                if error.name == "not_found":
                    return None
                raise
            portion: bytes = answer["data"]
            data += portion
            if len(data) >= answer["size_bytes"]:
                return data

    def stop(self, name: str, output: str | None = None) -> dict[str, Any]:
        """End a stream of this node and all its outputs, or one output."""
        return cast("dict[str, Any]", self._client.call("streams.stop", {"name": name, "output": output}))

    def remove(self, name: str) -> dict[str, Any]:
        """Delete its archive; `size_bytes` are free then."""
        return cast("dict[str, Any]", self._client.call("streams.remove", {"name": name}))
