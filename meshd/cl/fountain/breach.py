# SPDX-License-Identifier: Apache-2.0
"""What may leave while this node's silence is broken: symbols of urgent bundles, or of one, and nothing else.

No beacon, no probe and no report leaves with them; answers are listened to as always. How long that goes on, and how
much leaves, is bounded by the kernel below.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from meshd.cl.fountain.lane import Lane
from meshd.cl.fountain.outgoing_bundles import Bundles
from meshd.cl.fountain.outgoing_object import OutgoingObject


@dataclass(frozen=True, slots=True)
class Breach:
    """Of a silence."""

    precedence_min: int
    bundle: Hashable | None = None
    """This one alone, by its owner's name for it; None: all of that precedence or above."""

    def next_object(
        self, bundles: Bundles, open_next: Callable[[Lane], None], encode: Callable[[OutgoingObject], None]
    ) -> OutgoingObject | None:
        """The object of the one bundle whose symbol leaves next. `open_next` opens the first bundle of a lane, `encode`
        makes repair symbols, now or later.
        """
        for each in bundles.of_name(self.bundle):
            if each.waiting is not None and each.lane.precedence >= self.precedence_min:
                each.lane.put_first(each.waiting)
                open_next(each.lane)
            for item in each.objects:
                if item.precedence < self.precedence_min:
                    continue
                if item.may_send and not item.is_symbol_there:
                    encode(item)
                if item.may_send and item.is_symbol_there:
                    return item
        return None
