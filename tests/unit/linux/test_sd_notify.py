# SPDX-License-Identifier: Apache-2.0
"""What systemd hears."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.linux.sd_notify import STATUS_SIZE_MAX_BYTES, SdNotify


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        if request.param == "path":
            named = str(tmp_path / "notify")
            listener.bind(named)
        else:
            listener.bind("")  # the kernel picks an abstract name
            named = "@" + listener.getsockname()[1:].decode()
        listener.setblocking(False)
        yield listener, named


def test_what_it_says(manager: tuple[socket.socket, str]) -> None:
    listener, named = manager
    notify = SdNotify({"NOTIFY_SOCKET": named})
    assert notify.is_wanted
    notify.ready("3 bearers,\n2 up")
    notify.status("silent")
    notify.watchdog()
    notify.reloading(12)
    notify.stopping()
    said = [listener.recv(4096).decode() for _ in range(5)]
    assert said == [
        "READY=1\nSTATUS=3 bearers, 2 up",
        "STATUS=silent",
        "WATCHDOG=1",
        "RELOADING=1\nMONOTONIC_USEC=12",
        "STOPPING=1",
    ]


def test_a_long_status_is_cut(manager: tuple[socket.socket, str]) -> None:
    listener, named = manager
    SdNotify({"NOTIFY_SOCKET": named}).status("é" * STATUS_SIZE_MAX_BYTES)
    assert len(listener.recv(65536)) == len("STATUS=") + STATUS_SIZE_MAX_BYTES


@pytest.mark.parametrize("named", ["", "vsock:2:1234", "relative"])
def test_without_a_manager_nothing_happens(named: str) -> None:
    notify = SdNotify({"NOTIFY_SOCKET": named})
    assert not notify.is_wanted
    notify.ready()


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    SdNotify({"NOTIFY_SOCKET": str(tmp_path / "gone")}).watchdog()


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval(environ: dict[str, str], watchdog_s: float | None) -> None:
    assert SdNotify(environ).watchdog_s == watchdog_s
