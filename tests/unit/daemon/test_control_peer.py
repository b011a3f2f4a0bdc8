# SPDX-License-Identifier: Apache-2.0
"""Who may change something over the control socket."""

import pytest

from meshd.daemon.control_peer import Peer, groups_of, may_mutate


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        (Peer(1, 0, 0, frozenset()), True),
        (Peer(1, 50, 5, frozenset({5})), True),
        (Peer(1, 60, 6, frozenset({6, 77})), True),
        (Peer(1, 60, 6, frozenset({6})), False),
    ],
)
def test_who_may_change_something(peer: Peer, allowed: bool) -> None:
    assert may_mutate(peer, socket_gid=77, daemon_uid=50) is allowed


def test_a_user_whom_nobody_knows_has_the_primary_group() -> None:
    assert groups_of(3_999_999, 12345) == [12345]
