# SPDX-License-Identifier: Apache-2.0
"""What the comparison strategies have in common: a buffer, who has been met with what, and what is under way."""

from meshd.bundle.eid import Eid
from meshd.routing.contact import Contact
from tests.sim.contact_mesh import Strategy
from tests.sim.scenario import Load


class Carrier:
    """Keeps bundles within a buffer, the oldest of the least precedence going first. Implements most of `Strategy`."""

    def __init__(self, node: Eid, buffer_bytes: int) -> None:
        self.node = node
        self.loads: dict[int, Load] = {}
        self.seen: set[int] = set()
        self.peers: dict[Contact, Carrier] = {}
        self.busy: set[int] = set()
        self._room_bytes = buffer_bytes

    def begins(self, contact: Contact, peer: Strategy, now: float) -> None:
        """Remember who is there."""
        assert isinstance(peer, Carrier), "all nodes of a mesh have the same strategy"
        self.peers[contact] = peer
        self.met(peer, now)

    def met(self, peer: "Carrier", now: float) -> None:
        """For strategies that learn from encounters."""

    def ends(self, contact: Contact, now: float) -> None:
        """Forget it."""
        del self.peers[contact]

    def take(self, load: Load, contact: Contact | None, now: float) -> bool:
        """Keep it, dropping others when the buffer is full."""
        if load.number in self.seen:
            return True
        self.seen.add(load.number)
        self.loads[load.number] = load
        self._room_bytes -= load.size_bytes
        for victim in sorted(self.loads.values(), key=lambda each: (each.precedence, each.created_s)):
            if self._room_bytes >= 0:
                break
            if victim.number not in self.busy:
                self.drop(victim)
        return True

    def drop(self, load: Load) -> None:
        """It is gone from here."""
        if self.loads.pop(load.number, None) is not None:
            self._room_bytes += load.size_bytes

    def next_for(self, contact: Contact, now: float) -> Load | None:
        """The most urgent of what the strategy wants to send."""
        for load in [each for each in self.loads.values() if each.expiry_s <= now and each.number not in self.busy]:
            self.drop(load)
        peer = self.peers[contact]
        wanted = [
            load
            for load in self.loads.values()
            if load.number not in self.busy
            and load.number not in peer.seen
            and (load.destination == peer.node or self.wants(load, contact, peer))
        ]
        chosen = min(wanted, key=lambda load: self.urgency(load, peer), default=None)
        if chosen is not None:
            self.busy.add(chosen.number)
        return chosen

    def wants(self, load: Load, contact: Contact, peer: "Carrier") -> bool:
        """Whether a bundle for somebody else goes to this peer."""
        raise NotImplementedError

    def urgency(self, load: Load, peer: "Carrier") -> tuple[float, ...]:
        """Least goes first: what is for the peer itself, by precedence, then by age."""
        return (-load.precedence, load.destination != peer.node, load.created_s)

    def sent(self, contact: Contact, load: Load, now: float) -> None:
        """The other end has it; nobody keeps a bundle that has been delivered."""
        self.busy.discard(load.number)
        if load.destination == contact.receiver:
            self.drop(load)
        else:
            self.passed_on(load, contact)

    def passed_on(self, load: Load, contact: Contact) -> None:
        """A relay has it."""
        raise NotImplementedError

    def failed(self, contact: Contact, load: Load, now: float) -> None:
        """Try again when there is a chance."""
        self.busy.discard(load.number)

    def refused(self, contact: Contact, load: Load, now: float) -> None:
        """Everybody takes everything."""

    def holds(self, load: Load) -> bool:
        """It is still here."""
        return load.number in self.loads

    def get_timer(self) -> float | None:
        """Contacts are all that these wait for."""
        return None

    def handle_timer(self, now: float) -> None:
        """Never asked for."""
