# SPDX-License-Identifier: Apache-2.0
"""Congestion control of a bearer's sockets, and what is said when the kernel has none of that name."""

import socket

import pytest
import trio

from meshd.bearer import congestion
from meshd.bearer.congestion import check_congestion
from meshd.bearer.sockets import open_listener
from tests.unit.bearer.tcp_peers import BRAVO, Recorder, make_bearer, make_settings


def congestion_of(sock: socket.socket) -> str:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


@pytest.mark.root
def test_accepted_sockets_use_what_is_configured() -> None:
    """Every kernel has reno."""
    with open_listener(make_settings(congestion="reno"), "127.0.0.1:0") as listener:
        assert congestion_of(listener) == "reno"
        with socket.create_connection(listener.getsockname()):
            listener.setblocking(True)
            accepted, _ = listener.accept()
            with accepted:
                assert congestion_of(accepted) == "reno"


def test_a_good_name_is_no_problem() -> None:
    assert check_congestion(None) == ""
    assert check_congestion("reno") == ""


def test_a_missing_one_is_told_with_what_there_is() -> None:
    text = check_congestion("nosuch")
    assert text.startswith("the kernel has no congestion control 'nosuch', '")
    assert "it offers " + congestion.AVAILABLE.read_text().strip() in text
    assert "modprobe tcp_nosuch" in text


def test_one_that_is_restricted_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(congestion, "set_congestion", lambda sock, name: False)
    assert "'reno' is restricted to CAP_NET_ADMIN" in check_congestion("reno")


@pytest.mark.root
async def test_a_bearer_says_so_at_its_start_and_works(nursery: trio.Nursery) -> None:
    recorder = Recorder()
    bearer = make_bearer(recorder, BRAVO, {}, make_settings(congestion="nosuch"))
    await nursery.start(bearer.run)
    fields = await recorder.wait_for_report("bearer.problem")
    assert "bearer lan0: the kernel has no congestion control 'nosuch'" in str(fields["problem"])
    assert bearer.bound_address is not None
