# SPDX-License-Identifier: Apache-2.0
"""Binary Spray-and-Wait with three copies, ranked by predictability."""

from meshd.bundle.eid import Eid
from meshd.routing.prophet import Predictabilities
from meshd.routing.spray_and_wait import COPIES, copies_of, copies_to_give, relays

A, B, C, D, E, Z = (Eid(f"dtn://{name}/") for name in "abcdez")
NOW = 800_000_000.0


def test_three_copies_and_half_of_them_each_time() -> None:
    left, given = copies_of(is_made_here=True), []
    while copies_to_give(left):
        given.append(copies_to_give(left))
        left -= given[-1]
    assert (COPIES, given, left) == (3, [1, 1], 1)
    assert copies_to_give(copies_of(is_made_here=False)) == 0


def test_the_likeliest_neighbours_get_the_copies() -> None:
    table = Predictabilities(A)
    for neighbour, value in ((B, 0.2), (C, 0.9), (D, 0.5)):
        table.learn(neighbour, {Z: value}, NOW)
    assert relays(Z, 3, [B, C, D, E], table, NOW) == [C, D]
    assert relays(Z, 2, [B, D, E], table, NOW) == [D]
    assert relays(Z, 1, [B, C], table, NOW) == [], "the last copy waits"
    assert relays(Z, 3, [E, B], table, NOW) == [B, E], "who has said nothing comes last"
    assert relays(Z, 3, [], table, NOW) == []


def test_the_destination_gets_it_alone_even_the_last_copy() -> None:
    assert relays(Z, 3, [B, Z], Predictabilities(A), NOW) == [Z]
    assert relays(Z, 1, [B, Z], Predictabilities(A), NOW) == [Z]
