# SPDX-License-Identifier: Apache-2.0
"""The control server over a real UNIX socket: bad input, slow readers, rights, and the socket file itself."""

import errno
import io
import os
import random
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from meshd.base.errors import MeshdError
from meshd.client.client import Client
from meshd.client.replies import ReceivedMessage
from meshd.client.transfer import save_message, send_file
from meshd.control.errors import ControlError
from meshd.control.frames import FrameReader, Notification, Request, Response, decode_message_untrusted, encode_frame
from meshd.control.roles import Rights
from meshd.control.server_session import HelloInfo
from meshd.control.settings import ControlSettings
from meshd.daemon.control_handler import SessionHandle
from meshd.daemon.control_peer import Peer
from meshd.daemon.control_server import ControlServer, ServerLimits
from meshd.daemon.unix_socket import UnixSocketError

HELLO = HelloInfo("dtn://dpop1/", "0.1.0")


FILE = random.Random(3).randbytes(5_000_000)


class Handler:
    """Answers `status` with the peer, `bundles.show` when told to, and records the rest."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.released = trio.Event()
        self.waiting = trio.Event()
        self.closed: list[int] = []
        self.someone_closed = trio.Event()
        self.sessions: list[SessionHandle] = []

    async def call(self, session: SessionHandle, method: str, params: dict[str, Any]) -> Any:
        match method:
            case "status":
                return {"uid": session.peer.uid, "pid": session.peer.pid, "session": session.id}
            case "message.wait":
                self.waiting.set()
                await self.released.wait()
                return {"state": "delivered"}
            case "send.data":
                # The first piece takes longest: without the server's order the pieces would overtake each other.
                for _ in range(5 - len(params["data"])):
                    await trio.lowlevel.checkpoint()
                self.data.append(params["data"])
                return {}
            case "send.open":
                return {"submission": 1}
            case "send.close":
                size_bytes = sum(map(len, self.data))
                return {"message": "m", "ref": "r", "parts": 1, "size_bytes": size_bytes, "state": "queued"}
            case "recv.read":
                offset, size_bytes = params["offset"], params["size_bytes"]
                await trio.lowlevel.checkpoint()
                return {"data": FILE[offset : offset + size_bytes] or bytes(size_bytes)}
            case "recv.confirm":
                return {}
            case "events.subscribe":
                self.sessions.append(session)
                return {}
            case "bundles.cancel" if params["bundle"] == "3f9a":
                return {"cancelled": 1}
            case "bundles.show" | "bundles.cancel":
                raise ControlError("not_found", f"there is no bundle {params['bundle']}")
        raise AssertionError(method)

    def session_closed(self, session: SessionHandle) -> None:
        self.closed.append(session.id)
        self.someone_closed.set()
        self.someone_closed = trio.Event()


class Calls:
    """Takes what is to be on record."""

    def __init__(self) -> None:
        self.refusals: list[tuple[str, str]] = []
        self.served: list[tuple[str, str]] = []

    def refused(self, peer: Peer, rights: Rights, method: str, params: dict[str, Any]) -> None:
        self.refusals.append((rights.name, method))

    def done(self, peer: Peer, rights: Rights, method: str, params: dict[str, Any], outcome: str) -> None:
        self.served.append((method, outcome))


class RawClient:
    """Frames over a trio stream."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._reader = FrameReader()
        self._next_id = 1

    async def send(self, method: str, **params: Any) -> int:
        self._next_id += 1
        await self.stream.send_all(encode_frame(Request(self._next_id, method, params)))
        return self._next_id

    async def receive(self) -> Any:
        """The next message, None at the end of the stream."""
        while (payload := self._reader.next_payload()) is None:
            try:
                data = await self.stream.receive_some(65536)
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            self._reader.receive_data(data)
        return decode_message_untrusted(payload)

    async def call(self, method: str, **params: Any) -> Any:
        request_id = await self.send(method, **params)
        answer = await self.receive()
        assert isinstance(answer, Response)
        assert answer.id == request_id
        return answer.result if answer.error is None else answer.error["name"]


@asynccontextmanager
async def connected(path: Path, *, greet: bool = True) -> AsyncIterator[RawClient]:
    async with await trio.open_unix_socket(path) as stream:
        client = RawClient(stream)
        if greet:
            assert (await client.call("hello", version=1))["node"] == "dtn://dpop1/"
        yield client


@asynccontextmanager
async def serving(
    path: Path,
    handler: Handler,
    limits: ServerLimits | None = None,
    *,
    audit: Calls | None = None,
    settings: ControlSettings | None = None,
) -> AsyncIterator[None]:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            server = ControlServer(settings or ControlSettings(path, None), handler, HELLO, audit or Calls(), limits)
            await nursery.start(server.serve)
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


async def test_a_session_knows_its_peer(path: Path) -> None:
    async with serving(path, Handler()), connected(path) as client:
        assert await client.call("status") == {"uid": os.getuid(), "pid": os.getpid(), "session": 1}
        assert len((await client.call("introspect"))["methods"]) > 20
        assert await client.call("bundles.show", bundle="3f9a") == "not_found"


async def test_the_socket_has_its_mode_and_goes_with_the_server(path: Path) -> None:
    async with serving(path, Handler()):
        status = await trio.Path(path).stat()
        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o660
    assert not await trio.Path(path).exists()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(struct.pack(">I", 1 << 30), id="1 GiB"),
        pytest.param(struct.pack(">I", 3) + b"\xc1\xc1\xc1", id="no msgpack"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="http"),
        pytest.param(encode_frame(Notification("event", {})), id="notification"),
    ],
)
@pytest.mark.parametrize("greet", [True, False])
async def test_bad_input_ends_its_own_session_only(path: Path, data: bytes, greet: bool) -> None:
    handler = Handler()
    async with serving(path, handler), connected(path) as other:
        async with connected(path, greet=greet) as client:
            await client.stream.send_all(data)
            answer = await client.receive()
            assert answer.id is None
            assert answer.error["name"] in {"bad_frame", "bad_request"}
            assert await client.receive() is None
        assert (await other.call("status"))["session"] == 1
        assert handler.closed == [2]


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("stauts", {}, "unknown_method"),
        ("bundles.show", {}, "bad_params"),
        ("bundles.show", {"bundle": 5}, "bad_params"),
        ("status", {"x": 1}, "bad_params"),
    ],
)
async def test_a_wrong_request_is_answered(path: Path, method: str, params: dict[str, Any], name: str) -> None:
    async with serving(path, Handler()), connected(path) as client:
        assert await client.call(method, **params) == name
        assert await client.call("status")


async def test_hello_comes_first(path: Path) -> None:
    async with serving(path, Handler()), connected(path, greet=False) as client:
        assert await client.call("status") == "hello_required"


async def test_whoever_says_no_hello_is_dropped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshd.control.server_session.HELLO_TIMEOUT_S", 0.0)
    async with serving(path, Handler()), connected(path, greet=False) as client:
        assert (await client.receive()).error["name"] == "hello_required"
        assert await client.receive() is None


async def test_a_long_poll_holds_up_nothing(path: Path) -> None:
    handler = Handler()
    async with serving(path, handler), connected(path) as client:
        poll = await client.send("message.wait", message="3f9a", state="delivered")
        await handler.waiting.wait()
        assert (await client.call("status"))["session"] == 1
        handler.released.set()
        assert (await client.receive()) == Response(poll, None, {"state": "delivered"})


async def test_the_pieces_of_a_message_keep_their_order(path: Path) -> None:
    handler = Handler()
    async with serving(path, handler), connected(path) as client:
        pieces = [b"a", b"bb", b"ccc", b"dddd"] * 3
        frames = [encode_frame(Request(i, "send.data", {"submission": 1, "data": p})) for i, p in enumerate(pieces, 50)]
        await client.stream.send_all(b"".join(frames))
        assert [(await client.receive()).id for _ in pieces] == list(range(50, 50 + len(pieces)))
        assert handler.data == pieces


def send_and_receive(path: Path, directory: Path) -> tuple[int, bytes]:
    message = ReceivedMessage("m", "r", "dtn://a/b", "dtn://c/d", "ROUTINE", len(FILE), 0, 0)
    with Client(str(path)) as client:
        sent = send_file(client, "dtn://home/inbox", io.BytesIO(FILE))
        return sent.size_bytes, save_message(client, 1, message, directory).read_bytes()


async def test_a_file_passes_both_ways_unchanged(path: Path, tmp_path: Path) -> None:
    handler = Handler()
    async with serving(path, handler):
        size_bytes, received = await trio.to_thread.run_sync(send_and_receive, path, tmp_path)
    assert size_bytes == len(FILE)
    assert b"".join(handler.data) == FILE
    assert received == FILE


async def test_a_client_that_hangs_up_ends_its_calls(path: Path) -> None:
    handler = Handler()
    async with serving(path, handler):
        async with connected(path) as client:
            await client.send("message.wait", message="3f9a", state="delivered")
            await handler.waiting.wait()
        await handler.someone_closed.wait()
        assert handler.closed == [1]


async def ask_and_never_read(lazy: RawClient, other: RawClient) -> None:
    for _ in range(100):
        await lazy.send("recv.read", receiver=1, message="m", offset=0, size_bytes=1 << 20)
        assert (await other.call("status"))["session"] == 1


async def test_a_client_that_reads_no_answers_is_dropped_and_another_goes_on(path: Path) -> None:
    handler = Handler()
    async with serving(path, handler), connected(path) as other, connected(path) as lazy:
        with pytest.raises(trio.BrokenResourceError):
            await ask_and_never_read(lazy, other)
        assert handler.closed == [2]


async def test_a_client_that_takes_nothing_for_long_is_dropped(path: Path) -> None:
    handler = Handler()
    async with serving(path, handler, ServerLimits(stalled_s=0.05)), connected(path) as lazy:
        await lazy.send("recv.read", receiver=1, message="m", offset=0, size_bytes=1 << 20)
        await handler.someone_closed.wait()
        assert handler.closed == [1]


async def test_a_slow_reader_of_events_loses_some_and_stays(path: Path) -> None:
    handler = Handler()
    async with serving(path, handler), connected(path) as client:
        await client.call("events.subscribe")
        (session,) = handler.sessions
        sent = 0
        while session.notify("event", {"text": "x" * 1000}):
            sent += 1
        assert 100 < sent < 2000
        for _ in range(sent):
            assert isinstance(await client.receive(), Notification)
        assert await client.call("status")
        assert session.notify("event", {})
    assert not session.notify("event", {})


async def test_one_session_too_many_is_told_so(path: Path) -> None:
    async with serving(path, Handler(), ServerLimits(sessions_max=1)), connected(path) as client:
        async with connected(path, greet=False) as other:
            answer = await other.receive()
            assert "sessions" in answer.error["message"]
            assert await other.receive() is None
        assert await client.call("status")


async def test_a_stale_socket_file_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(path, Handler()), connected(path) as client:
        assert await client.call("status")


async def start_in_vain(settings: ControlSettings) -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(ControlServer(settings, Handler(), HELLO, Calls()).serve)


def open_error(settings: ControlSettings) -> str:
    with pytest.raises(ExceptionGroup) as caught:
        trio.run(start_in_vain, settings)
    (error,) = caught.value.exceptions
    assert isinstance(error, UnixSocketError | MeshdError)
    return str(error)


async def test_a_live_daemon_keeps_its_socket(path: Path) -> None:
    async with serving(path, Handler()):
        with pytest.raises(ExceptionGroup) as caught:
            await start_in_vain(ControlSettings(path, None))
        assert caught.group_contains(UnixSocketError, match="another meshd answers")
        async with connected(path) as client:
            assert await client.call("status")


def test_a_file_in_the_way_is_not_touched(path: Path) -> None:
    path.write_text("precious")
    assert "no socket is in the way" in open_error(ControlSettings(path, None))
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda tmp: ControlSettings(tmp / "missing" / "c.sock", None), os.strerror(errno.ENOENT)),
        (lambda tmp: ControlSettings(tmp / ("x" * 108), None), "107 bytes"),
        (lambda tmp: ControlSettings(tmp / "c.sock", "no-such-group-here"), "no-such-group-here"),
    ],
)
def test_a_socket_that_cannot_be_opened_says_why(
    tmp_path: Path, make: Callable[[Path], ControlSettings], text: str
) -> None:
    assert text in open_error(make(tmp_path))


async def test_a_socket_file_that_somebody_replaced_stays(path: Path) -> None:
    async with serving(path, Handler()):
        await trio.Path(path).unlink()
        await trio.Path(path).write_text("somebody else's")
    assert await trio.Path(path).read_text() == "somebody else's"


_AS_NOBODY = """
import os, socket, sys
from meshd.client.client import Client
from meshd.control.errors import ControlError
os.chdir(sys.argv[1])  # as root: another run of the tests may close the folders above to everybody else meanwhile
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with Client(sys.argv[2]) as client:
    try:
        print(client.call("status")["uid"])
    except ControlError as error:
        print("Refused")
    try:
        client.cancel_bundle("3f9a")
    except ControlError as error:
        print(error.name)
"""


def let_everybody_in(path: Path) -> None:
    path.chmod(0o666)
    path.parent.chmod(0o711)


@pytest.mark.root
async def test_another_user_may_read_and_not_change(path: Path) -> None:
    calls = Calls()
    assert await as_nobody(path, calls, ControlSettings(path, None)) == ["65534", "unauthorised"]
    assert (calls.refusals, calls.served) == ([("viewer", "bundles.cancel")], [])


@pytest.mark.root
async def test_where_viewers_are_named_nobody_else_may_look(path: Path) -> None:
    calls = Calls()
    assert await as_nobody(path, calls, ControlSettings(path, None, viewer_group="root")) == ["Refused", "unauthorised"]
    assert calls.refusals == [("none", "status"), ("none", "bundles.cancel")]


async def as_nobody(path: Path, calls: Calls, settings: ControlSettings) -> list[str]:
    """What another user gets."""
    async with serving(path, Handler(), audit=calls, settings=settings):
        let_everybody_in(path)
        command = [sys.executable, "-c", _AS_NOBODY, str(path.parent), path.name]
        done = await trio.run_process(command, capture_stdout=True, stdin=subprocess.DEVNULL)
    return done.stdout.decode().split()


async def test_audited_calls_are_on_record_with_what_came_of_them_and_others_are_not(path: Path) -> None:
    calls = Calls()
    async with serving(path, Handler(), audit=calls), connected(path) as client:
        assert await client.call("bundles.cancel", bundle="3f9a") == {"cancelled": 1}
        assert await client.call("bundles.cancel", bundle="none") == "not_found"
        await client.call("send.open", destination="dtn://home/inbox")
        await client.call("status")
    assert calls.served == [("bundles.cancel", "ok"), ("bundles.cancel", "not_found: there is no bundle none")]


async def test_a_group_that_does_not_exist_is_named_with_its_key(path: Path) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await start_in_vain(ControlSettings(path, None, security_group="no-such-group-here"))
    assert "[control] security_group" in str(caught.value.exceptions[0])
