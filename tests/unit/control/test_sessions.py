# SPDX-License-Identifier: Apache-2.0
"""The two session machines, alone and fed to each other."""

import struct
from typing import Any

import msgpack
import pytest

from meshd.base.errors import LocalProtocolError
from meshd.base.limits import CONTROL_FRAME_MAX_BYTES
from meshd.control.client_session import ClientSession
from meshd.control.errors import ControlError, FrameError
from meshd.control.frames import FrameReader, Notification, Request, Response, decode_message_untrusted, encode_frame
from meshd.control.methods import METHODS
from meshd.control.server_session import (
    HELLO_TIMEOUT_S,
    REQUESTS_IN_FLIGHT_MAX,
    HelloInfo,
    ServerSession,
    SessionEnded,
    SessionState,
)

HELLO = HelloInfo("dtn://dpop1/", "0.1.0")


class Server:
    """The server's machine with what goes in and out decoded."""

    def __init__(self, *, greeted: bool = True, output_queue_max_bytes: int = 1 << 20) -> None:
        self.machine = ServerSession(HELLO, 100.0, output_queue_max_bytes)
        self._reader = FrameReader()
        if greeted:
            self.ask(0, "hello", version=1)
            assert [type(answer) for answer in self.answers()] == [Response]

    def ask(self, request_id: int, method: str, **params: Any) -> list[Any]:
        return self.feed(encode_frame(Request(request_id, method, params)))

    def feed(self, data: bytes) -> list[Any]:
        self.machine.receive_data(data, 100.0)
        return self.events()

    def events(self) -> list[Any]:
        return list(iter(self.machine.next_event, None))

    def answers(self) -> list[Any]:
        while data := self.machine.data_to_send(100.0):
            self._reader.receive_data(data)
        return [decode_message_untrusted(payload) for payload in iter(self._reader.next_payload, None)]

    def error(self) -> tuple[int | None, str]:
        (answer,) = self.answers()
        return answer.id, answer.error["name"]


def end_of(events: list[Any]) -> str:
    (event,) = events
    assert isinstance(event, SessionEnded)
    return event.error.name


def test_hello_opens_the_session() -> None:
    server = Server(greeted=False)
    assert server.ask(0, "hello", version=1, client="test") == []
    (answer,) = server.answers()
    assert answer.result == {
        "version": 1,
        "node": "dtn://dpop1/",
        "daemon_version": "0.1.0",
        "methods": list(METHODS),
        "max_frame_bytes": CONTROL_FRAME_MAX_BYTES,
    }
    assert server.machine.state is SessionState.OPEN
    assert server.machine.client == "test"
    assert server.machine.get_timer() is None


def test_nothing_is_answered_before_hello() -> None:
    server = Server(greeted=False)
    assert server.ask(7, "status") == []
    assert server.error() == (7, "hello_required")
    assert server.machine.state is SessionState.GREETING


def test_an_unknown_version_is_told_the_known_ones() -> None:
    server = Server(greeted=False)
    server.ask(0, "hello", version=2, extra="from the future")
    (answer,) = server.answers()
    assert answer.error["name"] == "unsupported_version"
    assert answer.error["data"] == {"supported": [1]}
    server.ask(1, "hello", version=1)
    assert server.machine.state is SessionState.OPEN


@pytest.mark.parametrize("version", [None, "1", True])
def test_a_mistyped_version_is_a_bad_parameter(version: Any) -> None:
    server = Server(greeted=False)
    server.ask(0, "hello", version=version)
    assert server.error() == (0, "bad_params")


def test_hello_is_said_once() -> None:
    server = Server()
    server.ask(1, "hello", version=1)
    assert server.error() == (1, "bad_request")


def test_without_hello_the_session_ends_in_time() -> None:
    server = Server(greeted=False)
    assert server.machine.get_timer() == 100.0 + HELLO_TIMEOUT_S
    server.machine.handle_timer(100.0 + HELLO_TIMEOUT_S - 0.1)
    assert server.events() == []
    server.machine.handle_timer(100.0 + HELLO_TIMEOUT_S)
    assert end_of(server.events()) == "hello_required"
    assert server.error() == (None, "hello_required")
    assert server.machine.get_timer() is None


def test_a_request_comes_checked_and_is_answered() -> None:
    server = Server()
    (request,) = server.ask(5, "bundles.list", limit=3)
    assert request == Request(5, "bundles.list", {"limit": 3, "destination": None, "state": None})
    server.machine.respond(5, {"bundles": []})
    assert server.answers() == [Response(5, None, {"bundles": []})]


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("stauts", {}, "unknown_method"),
        ("status", {"x": 1}, "bad_params"),
        ("bundles.show", {}, "bad_params"),
        ("bundles.show", {"bundle": 1}, "bad_params"),
    ],
)
def test_a_wrong_request_is_answered_and_the_session_goes_on(method: str, params: dict[str, Any], name: str) -> None:
    server = Server()
    assert server.ask(1, method, **params) == []
    assert server.error() == (1, name)
    assert server.ask(1, "status") == [Request(1, "status", {})]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(struct.pack(">I", 1 << 30), id="1 GiB"),
        pytest.param(struct.pack(">I", 4) + b"\xc1\xc1\xc1\xc1", id="no msgpack"),
        pytest.param(b"GET / HTTP/1.1\r\n", id="http"),
        pytest.param(struct.pack(">I", 1) + b"\x80", id="a map"),
    ],
)
@pytest.mark.parametrize("greeted", [True, False])
def test_a_bad_frame_ends_the_session_with_a_reason(data: bytes, greeted: bool) -> None:
    server = Server(greeted=greeted)
    assert end_of(server.feed(data)) == "bad_frame"
    assert server.error() == (None, "bad_frame")
    assert server.ask(1, "status") == []
    assert server.machine.state is SessionState.ENDED
    assert not server.machine.wants_data


@pytest.mark.parametrize("message", [Response(1, None, 1), Notification("event", {})])
def test_a_client_may_only_request(message: Response | Notification) -> None:
    server = Server()
    assert end_of(server.feed(encode_frame(message))) == "bad_request"


def test_an_id_in_use_ends_the_session() -> None:
    server = Server()
    server.ask(1, "status")
    assert end_of(server.ask(1, "peers")) == "bad_request"


def test_one_request_too_many_is_refused_alone() -> None:
    server = Server()
    for request_id in range(REQUESTS_IN_FLIGHT_MAX):
        assert len(server.ask(request_id, "status")) == 1
    assert server.ask(99, "status") == []
    assert server.error() == (99, "bad_request")
    server.machine.respond(0, {})
    assert len(server.ask(99, "status")) == 1


def test_unanswered_data_holds_back_the_reader() -> None:
    server = Server()
    for request_id in range(8):
        assert server.machine.wants_data
        server.ask(request_id, "send.data", submission=1, data=bytes(1 << 20))
    assert not server.machine.wants_data
    server.machine.respond(3, {})
    assert server.machine.wants_data


def test_a_response_without_room_ends_the_session() -> None:
    server = Server(output_queue_max_bytes=1000)
    server.ask(1, "status")
    server.ask(2, "status")
    server.machine.respond(1, bytes(900))
    assert server.events() == []
    server.machine.respond(2, bytes(900))
    assert end_of(server.events()) == "overrun"
    assert server.answers() == []
    assert server.machine.output_bytes == 0


def test_an_answer_after_the_end_is_dropped() -> None:
    server = Server()
    server.ask(1, "status")
    server.machine.end(ControlError("shutting_down", "bye"))
    assert server.error() == (None, "shutting_down")
    server.machine.respond(1, {})
    assert server.answers() == []


def test_a_notification_without_room_is_refused_and_the_session_goes_on() -> None:
    server = Server(output_queue_max_bytes=1000)
    sent = 0
    while server.machine.notify("event", {"text": "x" * 100}):
        sent += 1
    assert 5 < sent < 10
    assert server.machine.state is SessionState.OPEN
    assert len(server.answers()) == sent
    assert server.machine.notify("event", {})


def test_there_are_no_notifications_before_hello() -> None:
    assert not Server(greeted=False).machine.notify("event", {})


def test_an_answer_above_the_limit_is_an_error() -> None:
    server = Server(output_queue_max_bytes=1 << 24)
    server.ask(1, "status")
    server.machine.respond(1, bytes(CONTROL_FRAME_MAX_BYTES))
    assert server.error() == (1, "too_large")


def pump(client: ClientSession, server: ServerSession) -> None:
    """Carry bytes both ways until nothing moves."""
    moved = True
    while moved:
        moved = False
        if data := client.data_to_send(0.0):
            server.receive_data(data, 0.0)
            moved = True
        while data := server.data_to_send(0.0):
            client.receive_data(data, 0.0)
            moved = True


def test_both_machines_understand_each_other() -> None:
    client, server = ClientSession("test"), ServerSession(HELLO, 0.0)
    pump(client, server)
    hello = client.next_event()
    assert isinstance(hello, Response)
    assert (hello.id, hello.result["node"]) == (client.hello_id, "dtn://dpop1/")
    first, second = client.request("status", {}), client.request("bundles.show", {"bundle": "3f9a"})
    pump(client, server)
    assert server.next_event() == Request(first, "status", {})
    assert server.next_event() == Request(second, "bundles.show", {"bundle": "3f9a"})
    server.respond_error(second, ControlError("not_found", "no"))
    server.notify("event", {"seq": 1})
    server.respond(first, {"node": "n"})
    pump(client, server)
    answer = client.next_event()
    assert isinstance(answer, Response)
    assert answer.error is not None
    assert (answer.id, answer.error["name"]) == (second, "not_found")
    assert client.next_event() == Notification("event", {"seq": 1})
    assert client.next_event() == Response(first, None, {"node": "n"})
    assert client.next_event() is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encode_frame(Response(77, None, 1)), id="answer to nothing"),
        pytest.param(encode_frame(Request(1, "status", {})), id="a request"),
        pytest.param(struct.pack(">I", 1 << 30), id="1 GiB"),
        pytest.param(struct.pack(">I", 1) + msgpack.packb(1), id="a number"),
    ],
)
def test_what_no_daemon_says_ends_the_client_for_good(data: bytes) -> None:
    client = ClientSession("test")
    with pytest.raises(FrameError):
        client.receive_data(data, 0.0)
    with pytest.raises(FrameError):
        client.request("status", {})


def test_what_cannot_be_sent_leaves_the_client_usable() -> None:
    client = ClientSession("test")
    before = client.data_to_send(0.0)
    assert before
    with pytest.raises(ControlError, match=r"bundles\.show") as caught:
        client.request("bundles.show", {"bundle": "\udcff"})
    assert caught.value.name == "bad_params"
    assert client.data_to_send(0.0) == b""
    assert client.request("status", {}) == 1


def test_the_client_has_no_timer() -> None:
    client = ClientSession("test")
    assert client.get_timer() is None
    with pytest.raises(LocalProtocolError):
        client.handle_timer(0.0)
