# SPDX-License-Identifier: Apache-2.0
"""A bearer that has to find its rate, in virtual time: how long that takes, what it is worth, what waits meanwhile.

The row `auto` of the fountain table.
"""

from collections.abc import Callable
from typing import Final

from tests.sim.fountain_bulk import MIB, Bulk, begin, make, show
from tests.sim.fountain_world import World

FLOOR_BPS: Final = 64_000
CEILING_BPS: Final = 100_000_000
LINK_BPS: Final = 10_000_000
STEP_S: Final = 0.05
QUEUE_MAX_S: Final = 0.3
"""Half of the round trip: what a probe adds comes to what is taken for waiting."""


def make_auto(
    seed: int,
    loss: float,
    *,
    link_bps: int = LINK_BPS,
    modem_s: float = 0.6,
    delay_s: float = 0.3,
    count: int = 2,
    is_multicast: bool = False,
) -> World:
    """Nodes that know a floor, behind modems of such a rate that buffer so much; begun."""
    buffer_bytes = int(modem_s * link_bps / 8)
    world = make(
        seed, loss, count, rate_max_bps=CEILING_BPS, modem_buffer_bytes=buffer_bytes, is_multicast=is_multicast
    )
    world.delay_s = delay_s
    world.rates_bps = dict.fromkeys(range(count), FLOOR_BPS)
    world.modems_bps = dict.fromkeys(range(count), link_bps)
    begin(world)
    return world


def found_bps(world: World) -> float:
    """What node 0 has found."""
    return float(world.nodes[0].machine.snapshot(world.time.now)[0]["rate_bps"])


def wait_for(world: World, is_so: Callable[[float], bool], within_s: float) -> float:
    """Seconds until what node 0 has found is so."""
    since = world.time.now
    while not is_so(found_bps(world)) and world.time.now < since + within_s:
        world.time.run_until(world.time.now + STEP_S)
    return world.time.now - since


def steady_share(world: World, bulk: Bulk, over_s: float, loss: float) -> float:
    """Goodput of a time, as a share of what the modem carries and the air leaves."""
    since = world.time.now
    world.time.run_until(since + over_s)
    done = [at for at in bulk.done if at >= since]
    return (len(done) - 1) * MIB * 8 / (done[-1] - done[0]) / (world.modems_bps[0] * (1 - loss))


def auto(loss: float) -> None:
    """10 Mbit/s and 600 ms, found from a floor of 64 kbit/s; then a tenth of it, and all of it again."""
    if loss > 0.1:
        return
    world = make_auto(1, loss)
    bulk = Bulk(world, MIB, 400)
    bulk.feed()
    rtts = wait_for(world, lambda bps: bps > 0.8 * LINK_BPS, 20) / 0.6
    show(f"rate found, loss {loss:.0%}: round trips until 0.8 of it", rtts, 10, at_most=True)
    world.time.run_until(world.time.now + 6)
    world.nodes[0].backlog_most_bytes = 0
    show("  share of capacity", steady_share(world, bulk, 30, loss), 0.85)
    show("  longest wait in the modem, s", world.nodes[0].backlog_most_bytes * 8 / LINK_BPS, QUEUE_MAX_S, at_most=True)
    world.modems_bps[0] = LINK_BPS // 10
    rtts = wait_for(world, lambda bps: bps < 1.3 * LINK_BPS / 10, 20) / 0.6
    show("  a tenth of it: round trips until that is found", rtts, 3, at_most=True)
    world.time.run_until(world.time.now + 15)
    show("  share of its capacity", steady_share(world, bulk, 60, loss), 0.85)
    world.modems_bps[0] = LINK_BPS
    rtts = wait_for(world, lambda bps: bps > 0.8 * LINK_BPS, 40) / 0.6
    show("  all of it again: round trips until 0.8 is found", rtts, 25, at_most=True)
