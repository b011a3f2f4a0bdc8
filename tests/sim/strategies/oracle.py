# SPDX-License-Identifier: Apache-2.0
"""The oracle: knows which contacts take place and every bundle that is to come; what others are measured by.

Each bundle in the order of its creation is booked for its earliest delivery; one that cannot be in time takes nothing.
"""

from tests.sim.contact_mesh import Figures
from tests.sim.scenario import Scenario
from tests.sim.strategies.earliest import Bookings


def run_oracle(scenario: Scenario) -> Figures:
    """What can be had by one who knows the future."""
    bookings = Bookings(scenario.actual)
    delivered_s: dict[int, float] = {}
    for load in scenario.loads:
        hops = bookings.route(load, load.source, load.created_s)
        if hops:
            bookings.book(hops)
            delivered_s[load.number] = hops[-1].done_s + hops[-1].contact.owd_s
    return Figures(scenario, delivered_s, 1.0, 1)
