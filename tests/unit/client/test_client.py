# SPDX-License-Identifier: Apache-2.0
"""The synchronous client against a fake daemon."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.client.client import Client
from meshd.client.connection import DEFAULT_SOCKET, default_socket
from meshd.client.errors import DaemonUnreachable, ReplyTimeout
from meshd.client.streams import Streams
from meshd.control.errors import ControlError
from tests.unit.client.fake_daemon import STATUS, FakeDaemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "control.sock") as fake:
        yield fake


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[Client]:
    with Client(str(daemon.path), timeout_s=10) as one:
        yield one


def test_a_call_is_answered(client: Client) -> None:
    assert client.hello["node"] == "dtn://dpop1/"
    assert client.status() == STATUS
    assert client.introspect()["version"] == 1


def test_every_method_of_the_protocol_has_one_of_the_client(daemon: FakeDaemon, client: Client) -> None:
    daemon.replies |= {
        "peers": lambda _: {"peers": [{"node": "dtn://home/"}]},
        "links": lambda _: {"links": [{"link": "a"}]},
        "emcon.set": lambda params: params,
        "bundles.explain": lambda _: {"summary": "s"},
        "bundles.cancel": lambda _: {"cancelled": 3},
        "reload": lambda _: {"changed": [], "needs_restart": ["node.id"]},
        "events.subscribe": lambda _: {},
        "contacts.list": lambda _: {"contacts": [], "total": 0},
        "routes.list": lambda _: {"routes": [], "nodes": 0},
        "peers.set_silent": lambda _: {},
        "peers.clear_silent": lambda _: {},
        "emcon.schedule": lambda params: params,
        "emcon.preview": lambda params: params,
        "emcon.verify": lambda _: {"bearers": []},
        "emcon.break": lambda params: params,
        "emcon.plan": lambda params: {"plans": [params["node"]]},
        "audit.list": lambda _: {"entries": [], "more": False},
        "audit.verify": lambda _: {"head": "00"},
        "streams.publish": lambda params: {"stream": "00", "receivers": params["to"], "feed": 3},
        "streams.feed": lambda _: {},
        "streams.list": lambda params: {"streams": [{"name": params["name"]}]},
        "streams.watch": lambda params: {"output": params["output"], "is_known": True},
        "streams.open": lambda _: {"reader": 4, "is_known": True},
        "streams.next": lambda params: {"data": b"played", "lost_bytes": 0, "has_ended": params["reader"] == 4},
        "streams.read": lambda params: {"data": b"whole"[params["offset"] :][:3], "size_bytes": 5},
        "streams.stop": lambda _: {},
        "streams.remove": lambda _: {"size_bytes": 7},
        "contacts.add": lambda _: {"ref": "3f9a1c0b", "total": 1},
        "contacts.remove": lambda _: {"removed": 1, "total": 0},
        "contacts.import": lambda params: {"total": 2, "warnings": [params["name"]]},
        "contacts.export": lambda _: {"data": b"plan", "size_bytes": 4, "warnings": []},
    }
    daemon.load("aaaa", b"hello")
    assert client.peers() == [{"node": "dtn://home/"}]
    assert client.links() == [{"link": "a"}]
    order = client.set_emcon("open", for_s=5.0)
    assert (order["profile"], order["for_s"], order["reason"]) == ("open", 5.0, None)
    assert client.emcon()["profile"] == "quiet"
    assert client.explain_bundle("3f9a")["summary"] == "s"
    assert client.show_bundle("3f9a")["ref"] == "3f9a1c0be2d4"
    assert client.bundles()["total"] == 5
    assert client.cancel_bundle("3f9a") == 3
    assert client.reload()["needs_restart"] == ["node.id"]
    assert client.contacts()["total"] == 0
    assert client.routes() == {"routes": [], "nodes": 0}
    client.set_silent("dtn://home/")
    client.clear_silent("dtn://home/")
    row = "quiet from 2026-05-01T10:00:00Z for 5min"
    assert client.schedule_emcon([row])["rows"] == [row]
    assert client.preview_emcon("silent")["profile"] == "silent"
    assert client.verify_emcon() == {"bearers": []}
    assert client.break_silence(["sat0"], reason="now")["bearers"] == ["sat0"]
    assert client.emcon_plan("dtn://b/") == {"plans": ["dtn://b/"]}
    assert client.audit_entries(5) == []
    assert client.verify_audit()["head"] == "00"
    assert client.add_contact({"from": "dtn://a/", "to": "dtn://b/", "rate": "1 bit/s"})["ref"] == "3f9a1c0b"
    assert client.remove_contacts({"all": True})["removed"] == 1
    assert client.import_contacts(b"", name="p") == {"total": 2, "warnings": ["p"]}
    assert client.export_contacts() == (b"plan", [])
    assert client.send_bytes("dtn://home/inbox", b"abc").size_bytes == 3
    submission = client.send_open("dtn://home/inbox")
    client.send_data(submission, b"abc")
    client.send_close(submission)
    client.send_abort(submission)
    assert client.wait_message("3f9a").state == "delivered"
    receiver = client.recv_open()
    assert client.recv_next(receiver, data_max_bytes=5).data == b"hello"
    message = client.recv_next(receiver, data_max_bytes=4)
    assert message.data is None
    assert client.recv_read(receiver, message.message, 1, 3) == b"ell"
    client.recv_confirm(receiver, message.message)
    client.recv_close(receiver)
    streams = Streams(client)
    assert streams.publish("drone", ["home"], label="x")["receivers"] == ["home"]
    streams.feed(3, b"data")
    assert streams.list("drone") == [{"name": "drone"}]
    assert streams.watch("drone", "udp://127.0.0.1:5004")["is_known"]
    assert streams.next(streams.open("drone")["reader"], 1.0)["data"] == b"played"
    assert streams.read_span("drone", 0) == b"whole"
    streams.stop("drone")
    assert streams.remove("drone")["size_bytes"] == 7
    client.subscribe()
    client.status()
    client.introspect()
    called = {method for method, _ in daemon.calls}
    assert called | {"hello"} >= set(client.hello["methods"])


def test_an_error_of_the_daemon_is_raised(daemon: FakeDaemon, client: Client) -> None:
    daemon.refuse("bundles.show", "ambiguous", "3f9a fits two")
    with pytest.raises(ControlError, match="fits two") as caught:
        client.show_bundle("3f9a")
    assert caught.value.name == "ambiguous"
    assert client.status() == STATUS


def test_answers_may_be_fetched_in_any_order(client: Client) -> None:
    first, second = client.start("status", {}), client.start("bundles.list", {})
    assert client.finish(second)["total"] == 5
    assert client.finish(first) == STATUS


def test_events_come_with_and_after_the_subscription(daemon: FakeDaemon, client: Client) -> None:
    def event(seq: int) -> dict[str, object]:
        return {"seq": seq, "time_ms": 0, "kind": "link.up", "fields": {}, "lost": seq - 1}

    daemon.replies["events.subscribe"] = lambda _: {"notify": [event(1), event(2)]}
    events = client.events(["link"], replay=2)
    assert [(e.seq, e.lost) for e in (next(events), next(events))] == [(1, 0), (2, 1)]
    assert client.next_event(timeout_s=0.0) is None


def test_a_daemon_that_hangs_up_is_unreachable(daemon: FakeDaemon, client: Client) -> None:
    daemon.hang_up_on.append("status")
    with pytest.raises(DaemonUnreachable, match="closed the session"):
        client.status()
    with pytest.raises(DaemonUnreachable):
        client.status()


def test_no_daemon_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnreachable, match="is it running"):
        Client(str(tmp_path / "nobody"))


def test_an_answer_that_never_comes_times_out(tmp_path: Path) -> None:
    path = tmp_path / "mute.sock"
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        with pytest.raises(ReplyTimeout, match="did not answer"):
            Client(str(path), timeout_s=0.05)


def test_what_is_no_daemon_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "ssh.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DaemonUnreachable, match="does not speak"):
            Client(str(path))
        thread.join()


def test_the_environment_names_the_socket(monkeypatch: pytest.MonkeyPatch, daemon: FakeDaemon) -> None:
    monkeypatch.delenv("MESHD_SOCKET", raising=False)
    assert default_socket() == DEFAULT_SOCKET
    monkeypatch.setenv("MESHD_SOCKET", str(daemon.path))
    with Client() as client:
        assert client.status() == STATUS
