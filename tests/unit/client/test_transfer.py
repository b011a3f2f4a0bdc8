# SPDX-License-Identifier: Apache-2.0
"""Files to and from the daemon: order, sizes, and crashes at every step of receiving."""

import io
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.client.client import Client
from meshd.client.errors import ClientError, DaemonUnreachable, SizeMismatch
from meshd.client.replies import ReceivedMessage
from meshd.client.transfer import message_file_name, save_message, send_file
from meshd.control.errors import ControlError
from tests.unit.client.fake_daemon import FakeDaemon, received

MEBIBYTE = 1 << 20
DATA = random.Random(1).randbytes(6 * MEBIBYTE + 12345)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "control.sock") as fake:
        yield fake


@pytest.fixture
def out(tmp_path: Path) -> Path:
    directory = tmp_path / "out"
    directory.mkdir()
    return directory


def receive(daemon: FakeDaemon, out: Path) -> Path:
    with Client(str(daemon.path)) as client:
        receiver = client.recv_open()
        return save_message(client, receiver, client.recv_next(receiver), out)


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


class Dribble(io.BytesIO):
    """A pipe that gives a little at a time."""

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        return super().read(min(size, 100_000))


@pytest.mark.parametrize("size_bytes", [0, 1, MEBIBYTE, MEBIBYTE + 1, len(DATA)])
def test_a_file_arrives_whole_and_in_order(daemon: FakeDaemon, size_bytes: int) -> None:
    steps: list[tuple[int, int | None]] = []
    with Client(str(daemon.path)) as client:
        file = io.BytesIO(DATA[:size_bytes])
        sent = send_file(
            client, "dtn://home/inbox", file, size_bytes=size_bytes, progress=lambda *step: steps.append(step)
        )
    assert sent.size_bytes == size_bytes
    assert daemon.sent[1] == DATA[:size_bytes]
    assert steps == [(min(i * MEBIBYTE, size_bytes), size_bytes) for i in range(1, -(-size_bytes // MEBIBYTE) + 1)]


def test_a_pipe_is_sent_in_whole_pieces(daemon: FakeDaemon) -> None:
    with Client(str(daemon.path)) as client:
        send_file(client, "dtn://home/inbox", Dribble(DATA))
    assert daemon.sent[1] == DATA
    pieces = [len(params["data"]) for method, params in daemon.calls if method == "send.data"]
    assert pieces == [MEBIBYTE] * 6 + [12345]


@pytest.mark.parametrize("announced_bytes", [10, 12])
def test_a_file_that_changed_meanwhile_is_not_sent(daemon: FakeDaemon, announced_bytes: int) -> None:
    with Client(str(daemon.path)) as client, pytest.raises(SizeMismatch):
        send_file(client, "dtn://home/inbox", io.BytesIO(bytes(11)), size_bytes=announced_bytes)
    assert [method for method, _ in daemon.calls][-1] == "send.abort"


def test_a_refusal_in_the_middle_is_raised_and_aborts(daemon: FakeDaemon) -> None:
    daemon.refuse("send.data", "store_full")
    with Client(str(daemon.path)) as client:
        with pytest.raises(ControlError) as caught:
            send_file(client, "dtn://home/inbox", io.BytesIO(DATA))
        assert caught.value.name == "store_full"
        assert client.status()
    assert daemon.sent == {}


def test_an_unknown_end_is_said_to_be_unknown(daemon: FakeDaemon) -> None:
    daemon.hang_up_on.append("send.close")
    with Client(str(daemon.path)) as client, pytest.raises(DaemonUnreachable, match="unknown: look for it"):
        send_file(client, "dtn://home/inbox", io.BytesIO(b"x"))


@pytest.mark.parametrize("size_bytes", [0, 1, MEBIBYTE, len(DATA)])
def test_a_message_becomes_a_file_and_is_confirmed(daemon: FakeDaemon, out: Path, size_bytes: int) -> None:
    daemon.load("3f9a1c0be2d4", DATA[:size_bytes])
    path = receive(daemon, out)
    assert path == out / "dpop1-3f9a1c0be2d4.bin"
    assert path.read_bytes() == DATA[:size_bytes]
    assert names(out) == [path.name]
    assert len(daemon.confirmed) == 1


def test_short_pieces_are_completed(daemon: FakeDaemon, out: Path) -> None:
    daemon.load("aaaa", DATA)

    def little(params: dict[str, int]) -> dict[str, bytes]:
        end = params["offset"] + min(params["size_bytes"], 700_000)
        return {"data": daemon.inbox[0][1][params["offset"] : end]}

    daemon.replies["recv.read"] = little
    assert receive(daemon, out).read_bytes() == DATA


def test_a_message_that_ends_early_stays_with_the_daemon(daemon: FakeDaemon, out: Path) -> None:
    daemon.load("aaaa", b"half")
    daemon.inbox[0][0]["size_bytes"] = 8
    with pytest.raises(SizeMismatch):
        receive(daemon, out)
    assert names(out) == []
    assert daemon.confirmed == []


class Crash(BaseException):
    """The process ends here: nothing of it runs any more."""


STEPS = [
    "os.fsync",
    "pathlib.Path.rename",
    "meshd.client.transfer._sync_directory",
    "meshd.client.client.Client.recv_confirm",
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("cleans_up", [True, False])
def test_a_crash_before_any_step_costs_nothing(
    daemon: FakeDaemon, out: Path, monkeypatch: pytest.MonkeyPatch, step: str, cleans_up: bool
) -> None:
    def crash(*_args: object) -> None:
        raise Crash

    daemon.load("aaaa", DATA)
    with monkeypatch.context() as patch:
        patch.setattr(step, crash)
        if not cleans_up:
            patch.setattr("pathlib.Path.unlink", lambda _self, missing_ok=False: None)
        with pytest.raises(Crash):
            receive(daemon, out)
    assert daemon.confirmed == []
    path = receive(daemon, out)
    assert path.read_bytes() == DATA
    assert names(out) == [path.name]
    assert len(daemon.confirmed) == 1


def test_a_crash_after_the_confirmation_costs_nothing(daemon: FakeDaemon, out: Path) -> None:
    daemon.load("aaaa", DATA)
    daemon.hang_up_on.append("recv.confirm")
    with pytest.raises(DaemonUnreachable):
        receive(daemon, out)
    first = (out / "dpop1-aaaa.bin").stat().st_ino
    path = receive(daemon, out)
    assert path.stat().st_ino == first
    assert names(out) == ["dpop1-aaaa.bin"]


def test_a_full_disk_leaves_the_message_with_the_daemon(
    daemon: FakeDaemon, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    daemon.load("aaaa", DATA)
    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        with pytest.raises(OSError, match="No space"):
            receive(daemon, out)
    assert (names(out), daemon.confirmed) == ([], [])


def test_another_file_of_that_name_is_left_alone(daemon: FakeDaemon, out: Path) -> None:
    (out / "dpop1-aaaa.bin").write_bytes(b"something else")
    daemon.load("aaaa", DATA)
    assert receive(daemon, out).name == "dpop1-aaaa-1.bin"
    assert (out / "dpop1-aaaa.bin").read_bytes() == b"something else"


def test_too_many_other_files_are_an_error(daemon: FakeDaemon, out: Path) -> None:
    for number in range(100):
        (out / f"dpop1-aaaa{f'-{number}' if number else ''}.bin").write_bytes(b"other")
    daemon.load("aaaa", DATA)
    with pytest.raises(ClientError, match="move them away"):
        receive(daemon, out)


@pytest.mark.parametrize(
    ("source", "ref", "name"),
    [
        ("dtn://dpop1/inbox", "3f9a", "dpop1-3f9a.bin"),
        ("ipn:5.1", "3f9a", "ipn-5.1-3f9a.bin"),
        ("dtn:none", "3f9a", "none-3f9a.bin"),
        ("dtn://../../etc/x", "3f9a", "unknown-3f9a.bin"),
        ("dtn://a b\x00\x1b[/x", "../x", "a_b___-_x.bin"),
        ("dtn://", "", "unknown-message.bin"),
        ("dtn://" + "x" * 300 + "/y", "3f9a", "x" * 100 + "-3f9a.bin"),
    ],
)
def test_a_file_name_is_safe(source: str, ref: str, name: str) -> None:
    fields = {**received(ref, 1), "source": source}
    assert message_file_name(ReceivedMessage(**fields)) == name
