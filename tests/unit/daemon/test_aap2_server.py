# SPDX-License-Identifier: Apache-2.0
"""The AAP 2.0 socket, with a plain client and a fake of the daemon's logic: who gets in, payloads, endings."""

import stat
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from meshd.bundle.eid import Eid
from meshd.control.aap2_messages import (
    MAGIC,
    AduFlag,
    BundleAdu,
    ConnectionConfig,
    Keepalive,
    Status,
    Welcome,
    decode_message_untrusted,
    decode_response_untrusted,
    encode_message,
    encode_response,
    pull_delimited,
)
from meshd.control.errors import ControlError
from meshd.control.roles import Rights
from meshd.control.settings import Aap2Settings
from meshd.daemon import aap2_server
from meshd.daemon.aap2_server import Aap2Server
from meshd.daemon.control_handler import SessionHandle
from meshd.daemon.control_peer import Peer

NODE = Eid("dtn://dpop1/")
X = "dtn://dpop1/x"
BODY = bytes(range(256)) * 4000


class Handler:
    """Remembers what was sent, offers what tests put into `waiting`."""

    def __init__(self) -> None:
        self.opened: list[dict[str, Any]] = []
        self.sent: list[bytes] = []
        self.refusal: ControlError | None = None
        self.waiting: deque[bytes] = deque()
        self.is_shrinking = False
        self.confirmed = 0
        self.closed = 0
        self.changed = trio.Event()
        self._buffer = b""

    def notify(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def call(self, session: SessionHandle, method: str, params: dict[str, Any]) -> Any:
        await trio.lowlevel.checkpoint()
        match method:
            case "send.open":
                self.opened.append(params)
                if self.refusal is not None:
                    raise self.refusal
                self._buffer = b""
                return {"submission": 1}
            case "send.data":
                self._buffer += params["data"]
                return {}
            case "send.close":
                self.sent.append(self._buffer)
                return {"message": "m"}
            case "recv.open":
                return {"receiver": 7, "endpoint": params["endpoint"]}
            case "recv.next":
                while not self.waiting:
                    await self.changed.wait()
                return {
                    "message": "dtn://dpop2/y@5000.3",
                    "ref": "abc",
                    "source": "dtn://dpop2/y",
                    "destination": X,
                    "size_bytes": len(self.waiting[0]),
                }
            case "recv.read":
                if self.is_shrinking and params["offset"]:
                    raise ControlError("failed", "part 1 has expired")
                return {"data": self.waiting[0][params["offset"] :][: params["size_bytes"]]}
            case "recv.confirm":
                self.waiting.popleft()
                self.confirmed += 1
                self.notify()
                return {}
        raise AssertionError(method)

    def session_closed(self, session: SessionHandle) -> None:
        self.closed += 1
        self.notify()


class PlainClient:
    """Messages over a trio stream."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._data = b""

    async def pull(self, size_bytes: int) -> bytes:
        while len(self._data) < size_bytes:
            piece = await self.stream.receive_some(65536)
            if not piece:
                raise EOFError
            self._data += piece
        found, self._data = self._data[:size_bytes], self._data[size_bytes:]
        return found

    async def delimited(self) -> bytes:
        while (pulled := pull_delimited(self._data, 0)) is None:
            piece = await self.stream.receive_some(65536)
            if not piece:
                raise EOFError
            self._data += piece
        self._data = self._data[pulled[1] :]
        return pulled[0]

    async def status(self) -> Status:
        return decode_response_untrusted(await self.delimited())

    async def configure(self, config: ConnectionConfig) -> Status:
        await self.stream.send_all(encode_message(config))
        return await self.status()

    async def send(self, payload: bytes, **fields: Any) -> Status:
        fields = {"dst_eid": "dtn://dpop2/y"} | fields
        await self.stream.send_all(encode_message(BundleAdu(payload_length=len(payload), **fields)) + payload)
        return await self.status()

    async def receive(self) -> tuple[BundleAdu, bytes]:
        message = decode_message_untrusted(await self.delimited())
        assert isinstance(message, BundleAdu)
        return message, await self.pull(message.payload_length)


class Serving:
    """A server on a socket of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handler = Handler()
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.refusals: list[tuple[int, str]] = []
        settings = Aap2Settings(path, None)
        self.server = Aap2Server(settings, NODE, self.handler, lambda *report: self.reports.append(report), self)

    def refused(self, peer: Peer, rights: Rights, method: str, params: dict[str, Any]) -> None:
        self.refusals.append((peer.uid, rights.name))

    def done(self, peer: Peer, rights: Rights, method: str, params: dict[str, Any], outcome: str) -> None:
        raise AssertionError("messages are not on record")

    @asynccontextmanager
    async def client(self, config: ConnectionConfig | None = None) -> AsyncIterator[PlainClient]:
        async with await trio.open_unix_socket(self.path) as stream:
            client = PlainClient(stream)
            assert await client.pull(1) == MAGIC
            assert decode_message_untrusted(await client.delimited()) == Welcome(NODE.uri)
            if config is not None:
                assert await client.configure(config) is Status.SUCCESS
            yield client


@pytest.fixture
async def serving(tmp_path: Path) -> AsyncIterator[Serving]:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            made = Serving(tmp_path / "aap2.sock")
            await nursery.start(made.server.serve)
            yield made
            nursery.cancel_scope.cancel()


def config(endpoint: str = X, secret: str = "s", **fields: Any) -> ConnectionConfig:
    return ConnectionConfig(endpoint_id=endpoint, secret=secret, **fields)


SUBSCRIBER = config(is_subscriber=True)


async def test_the_socket_has_the_mode_of_the_control_socket(serving: Serving) -> None:
    assert stat.S_IMODE((await trio.Path(serving.path).stat()).st_mode) == 0o660


@pytest.mark.parametrize("body", [b"", b"hello", BODY])
async def test_a_payload_becomes_a_message(serving: Serving, body: bytes) -> None:
    async with serving.client(config()) as client:
        assert await client.send(body) is Status.SUCCESS
        assert await client.send(body, adu_flags=(AduFlag.NORMAL,), src_eid=X) is Status.SUCCESS
    assert serving.handler.sent == [body, body]
    opened = serving.handler.opened[0]
    assert (opened["destination"], opened["endpoint"], opened["report"]) == ("dtn://dpop2/y", X, False)
    assert (opened["precedence"], opened["lifetime_ms"]) == ("ROUTINE", None)


async def test_a_report_may_go_to_the_node_itself(serving: Serving) -> None:
    async with serving.client(config()) as client:
        assert await client.send(b"x", report_to_eid=NODE.uri) is Status.SUCCESS
        assert await client.send(b"x", report_to_eid="dtn://dpop3/") is Status.INVALID_REQUEST
    assert [opened["report"] for opened in serving.handler.opened] == [True]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"src_eid": "dtn://dpop1/other"}, Status.UNAUTHORIZED),
        ({"src_eid": "dtn:none"}, Status.UNAUTHORIZED),
        ({"adu_flags": (AduFlag.WITH_BDM_AUTH,)}, Status.UNAUTHORIZED),
        ({"adu_flags": (AduFlag.BPDU,)}, Status.INVALID_REQUEST),
        ({"adu_flags": (AduFlag.STATUS_REPORT,)}, Status.INVALID_REQUEST),
        ({"creation_timestamp_ms": 5}, Status.INVALID_REQUEST),
        ({"sequence_number": 5}, Status.INVALID_REQUEST),
        ({"dst_eid": "d" * 5000}, Status.INVALID_REQUEST),
    ],
)
async def test_what_an_application_may_not_ask_is_refused_and_the_session_goes_on(
    serving: Serving, fields: dict[str, Any], status: Status
) -> None:
    async with serving.client(config()) as client:
        assert await client.send(BODY, **fields) is status
        assert await client.send(b"good") is Status.SUCCESS
    assert serving.handler.sent == [b"good"]
    assert [kind for kind, _ in serving.reports] == ["aap2.refused"]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("bad_params", Status.INVALID_REQUEST),
        ("not_found", Status.NOT_FOUND),
        ("store_full", Status.ERROR),
        ("timeout", Status.TIMEOUT),
    ],
)
async def test_what_the_node_refuses_is_told(serving: Serving, name: str, status: Status) -> None:
    serving.handler.refusal = ControlError(name, "no")
    async with serving.client(config()) as client:
        assert await client.send(b"x") is status


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        (config(auth_type=1), Status.UNAUTHORIZED),
        (config(auth_type=3, endpoint=""), Status.UNAUTHORIZED),
        (config(endpoint=""), Status.INVALID_REQUEST),
        (config(endpoint="dtn://dpop2/x"), Status.INVALID_REQUEST),
        (config(endpoint="dtn://dpop1/"), Status.INVALID_REQUEST),
        (config(endpoint="dtn://dpop1/echo"), Status.INVALID_REQUEST),
        (config(endpoint="http:x"), Status.INVALID_REQUEST),
    ],
)
async def test_a_connection_that_cannot_be_is_refused(
    serving: Serving, wanted: ConnectionConfig, status: Status
) -> None:
    async with serving.client() as client:
        assert await client.configure(wanted) is status
        with pytest.raises(EOFError):
            await client.delimited()
    assert serving.reports[0][0] == "aap2.ended"


async def test_one_subscriber_an_endpoint_and_one_secret(serving: Serving) -> None:
    async with serving.client(SUBSCRIBER), serving.client(config()):
        async with serving.client() as second:
            assert await second.configure(SUBSCRIBER) is Status.INVALID_REQUEST
        async with serving.client() as thief:
            assert await thief.configure(config(secret="guess")) is Status.UNAUTHORIZED
        async with serving.client(config("dtn://dpop1/z", "other", is_subscriber=True)):
            pass
    while serving.handler.closed < 5:
        await serving.handler.changed.wait()
    async with serving.client(config(secret="new", is_subscriber=True)):
        pass


@pytest.mark.parametrize("body", [b"", b"hello", BODY])
async def test_a_message_is_confirmed_only_when_the_subscriber_has_answered(serving: Serving, body: bytes) -> None:
    handler = serving.handler
    handler.waiting.extend([body, body])
    async with serving.client(SUBSCRIBER) as client:
        for confirmed in range(2):
            adu, payload = await client.receive()
            assert payload == body
            assert (adu.src_eid, adu.dst_eid) == ("dtn://dpop2/y", X)
            assert (adu.creation_timestamp_ms, adu.sequence_number) == (5000, 3)
            await trio.testing.wait_all_tasks_blocked()
            assert handler.confirmed == confirmed
            await client.stream.send_all(encode_response(Status.SUCCESS))
        while handler.confirmed < 2:
            await handler.changed.wait()


async def test_what_a_subscriber_does_not_take_stays(serving: Serving) -> None:
    serving.handler.waiting.append(b"precious")
    async with serving.client(SUBSCRIBER) as client:
        await client.receive()
        await client.stream.send_all(encode_response(Status.ERROR))
        with pytest.raises(EOFError):
            await client.delimited()
    async with serving.client(SUBSCRIBER) as client:
        assert (await client.receive())[1] == b"precious"
    assert serving.handler.confirmed == 0


async def test_an_answer_before_the_payload_was_read_confirms_nothing(serving: Serving) -> None:
    serving.handler.waiting.append(bytes(100_000))
    async with serving.client(SUBSCRIBER) as client:
        await client.delimited()
        await client.stream.send_all(encode_response(Status.SUCCESS))
        while serving.handler.closed < 1:
            await serving.handler.changed.wait()
    assert serving.handler.confirmed == 0
    assert serving.reports[0][1]["reason"] == "the subscriber did not take abc"


async def test_a_payload_that_cannot_be_completed_ends_the_session(serving: Serving) -> None:
    serving.handler.waiting.append(BODY)
    serving.handler.is_shrinking = True
    async with serving.client(SUBSCRIBER) as client:
        with pytest.raises(EOFError):
            await client.receive()


async def test_keepalives_go_both_ways(serving: Serving) -> None:
    async with serving.client(config()) as client:
        await client.stream.send_all(encode_message(Keepalive()))
        assert await client.status() is Status.ACK


async def test_bad_input_ends_its_own_session_only(serving: Serving) -> None:
    async with serving.client(config("dtn://dpop1/other")) as other:
        async with serving.client(config()) as client:
            await client.stream.send_all(b"\xff" * 100)
            assert await client.status() is Status.INVALID_REQUEST
            with pytest.raises(EOFError):
                await client.delimited()
        assert await other.send(b"x") is Status.SUCCESS


async def test_a_client_that_hangs_up_in_a_payload_leaves_nothing(serving: Serving) -> None:
    async with serving.client(config()) as client:
        await client.stream.send_all(encode_message(BundleAdu(dst_eid="dtn://dpop2/y", payload_length=9)) + b"half")
    while serving.handler.closed < 1:
        await serving.handler.changed.wait()
    assert serving.handler.sent == []


async def test_one_connection_too_many_is_closed(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aap2_server, "CONNECTIONS_MAX", 1)
    async with serving.client(config()), await trio.open_unix_socket(serving.path) as stream:
        assert await stream.receive_some() == b""


_AS_NOBODY = """
import os, sys
from ud3tn_utils.aap2 import AAP2UnixClient, AAP2OperationFailed
os.chdir(sys.argv[1])  # as root: another run of the tests may close the folders above to everybody else meanwhile
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with AAP2UnixClient(sys.argv[2]) as client:
    try:
        client.configure("x")
    except AAP2OperationFailed as error:
        print(error)
"""


@pytest.mark.root
async def test_another_user_gets_nothing(serving: Serving) -> None:
    serving.path.chmod(0o666)
    serving.path.parent.chmod(0o711)
    command = [sys.executable, "-c", _AS_NOBODY, str(serving.path.parent), serving.path.name]
    done = await trio.run_process(command, capture_stdout=True, stdin=subprocess.DEVNULL)
    assert done.stdout.decode().strip().endswith("status: 12")
    assert serving.refusals == [(65534, "viewer")]
