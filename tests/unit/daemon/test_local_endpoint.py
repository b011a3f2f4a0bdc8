# SPDX-License-Identifier: Apache-2.0
"""Which endpoints an application may have: those of this node but its own services, and groups that it is in."""

from typing import Any

import pytest

from meshd.bundle.eid import Eid, parse_eid
from meshd.control.errors import ControlError
from meshd.daemon.control_peer import Peer
from meshd.daemon.receivers import Receivers
from meshd.daemon.submissions import local_endpoint
from meshd.node.events import Event, ReceiverAttached

NODE = parse_eid("dtn://dpop1/")
GROUP = parse_eid("dtn://convoy/~orders")


class Session:
    """A session that is told nothing."""

    id = 1

    @property
    def peer(self) -> Peer:
        raise AssertionError("nobody asks who it is")

    def notify(self, method: str, params: dict[str, Any]) -> bool:
        raise AssertionError(method)


@pytest.mark.parametrize(
    ("node", "name", "endpoint"),
    [
        ("dtn://dpop1/", "inbox", "dtn://dpop1/inbox"),
        ("dtn://dpop1/", "dtn://dpop1/a/b", "dtn://dpop1/a/b"),
        ("ipn:5.0", "12", "ipn:5.12"),
    ],
)
def test_endpoints_of_this_node(node: str, name: str, endpoint: str) -> None:
    assert local_endpoint(parse_eid(node), name) == parse_eid(endpoint)


@pytest.mark.parametrize(
    ("node", "name"),
    [
        ("dtn://dpop1/", "echo"),
        ("ipn:5.0", "7"),
        ("dtn://dpop1/", "dtn://home/inbox"),
        ("dtn://dpop1/", "dtn://dpop1/"),
        ("ipn:5.0", "inbox"),
    ],
)
def test_endpoints_that_nobody_gets(node: str, name: str) -> None:
    with pytest.raises(ControlError) as caught:
        local_endpoint(parse_eid(node), name)
    assert caught.value.name == "bad_params"


def test_groups_that_this_node_is_a_member_of() -> None:
    groups: list[Eid] = []
    events: list[Event] = []
    receivers = Receivers(events.append, lambda _ref, _offset, _size: b"", lambda _: True, NODE, lambda: groups)
    with pytest.raises(ControlError):
        receivers.open(Session(), {"endpoint": GROUP.uri})
    groups.append(GROUP)
    assert receivers.open(Session(), {"endpoint": GROUP.uri}) == {"receiver": 1, "endpoint": GROUP.uri}
    assert events == [ReceiverAttached(1, GROUP)]
