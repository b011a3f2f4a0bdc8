# SPDX-License-Identifier: Apache-2.0
"""What one node sends us: objects that are open, decoded, accepted or refused, and what is to be said about them.

A node is told that an object is taken only when every bundle in it was accepted by the owner, that is, lies on the
disk. A symbol of an object that was answered already is answered once more, with the next report. Everything here is
bounded: who sends more than that is answered nothing until there is room.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from heapq import nlargest
from operator import attrgetter
from typing import Final

from meshd.bundle.eid import Eid
from meshd.cl.fountain.assembly import Assemblies
from meshd.cl.fountain.events import TransferRow
from meshd.cl.fountain.fountain_code import FountainCode
from meshd.cl.fountain.frames import GROUP_ALL, Symbol
from meshd.cl.fountain.incoming_object import IncomingObject, State, is_acceptable
from meshd.cl.fountain.object_format import Content, ObjectError, parse_object_untrusted, read_digest

OPEN_MAX: Final = 1024
"""Objects of one node that are not answered, and"""
OPEN_MAX_BYTES: Final = 64 * 1024 * 1024
"""their bytes, as announced, with what waits for other pieces."""
STALE_S: Final = 60.0
"""An object without news for so long makes room when room is short."""
HEARD_S: Final = 70.0
"""Who was not heard for longer, a beacon and a little, was not asked in vain."""
ANSWERED_MAX: Final = 4096
"""Objects answered that are remembered; older ones are answered by what the node makes of a second copy."""
THREAD_BYTES: Final = 64 * 1024
"""An object from this size on is decoded in a thread."""
ANSWER_REPEATS: Final = 2
"""Reports that carry each answer: no more answers wait than objects are remembered."""
REFUSED_FOR_NOW: Final = 1
REFUSED_FOR_EVER: Final = 2

Work = Callable[[Callable[[], object], Callable[[object], None]], None]


class Receiver:
    """All that one node sends us."""

    def __init__(
        self, node: Eid, own_index: int, code: FountainCode, work: Work, take_number: Callable[[], int]
    ) -> None:
        """`take_number` gives each transfer its number."""
        self.node = node
        self._own_index = own_index
        self._code = code
        self._work = work
        self._take_number = take_number
        self._objects: dict[bytes, IncomingObject] = {}
        """Open, decoding or waiting."""
        self._answered: OrderedDict[bytes, IncomingObject] = OrderedDict()
        self._assemblies = Assemblies()
        self._transfers: dict[int, list[IncomingObject]] = {}
        self._answers: OrderedDict[bytes, int] = OrderedDict()
        """Objects to be answered with the next reports, and in how many of them."""
        self._groups: dict[int, frozenset[int]] = {}
        self._open_bytes = 0
        self.arrived: list[TransferRow] = []
        """Bundles since the owner last took them."""
        self.symbols_taken = 0
        """All symbols that came, and"""
        self.symbols_late = 0
        """those of objects that were decoded already."""
        self.refused_objects = 0
        """Objects for which there was no room."""
        self.failures = 0
        """Objects that could not be decoded or were malformed."""

    @property
    def open_objects(self) -> int:
        """Objects that are not answered."""
        return len(self._objects)

    def take_symbol(self, symbol: Symbol, now: float) -> None:
        """A symbol has come."""
        self.symbols_taken += 1
        item = self._objects.get(symbol.object_id)
        if item is None:
            answered = self._answered.get(symbol.object_id)
            if answered is not None and not self._is_joined(answered, symbol.group):
                self.symbols_late += 1
                self._answer(answered)
                return
            if not is_acceptable(symbol) or not self._make_room(symbol.object_bytes, now):
                return
            item = self._objects[symbol.object_id] = IncomingObject(symbol, now)
            self._open_bytes += symbol.object_bytes
        if item.state is not State.OPEN:
            self.symbols_late += 1
        elif item.take(symbol, now):
            self._decode(item)

    def take_group(self, group: int, members: Sequence[int]) -> None:
        """Symbols of this node with this number are for these."""
        self._groups[group] = frozenset(members)

    def _is_member(self, group: int) -> bool:
        return group != GROUP_ALL and self._own_index in self._groups.get(group, ())

    def _is_joined(self, item: IncomingObject, group: int) -> bool:
        """An object was for others, and is for us, too, now: it has to come once more."""
        if item.state is not State.PASSED_OVER or not self._is_member(group):
            return False
        del self._answered[item.object_id]
        return True

    def _make_room(self, object_bytes: int, now: float) -> bool:
        held_bytes = self._open_bytes + object_bytes
        if len(self._objects) < OPEN_MAX and held_bytes <= OPEN_MAX_BYTES:
            return True
        stale = [
            item for item in self._objects.values() if item.state is State.OPEN and item.touched_at + STALE_S < now
        ]
        for item in sorted(stale, key=lambda each: each.touched_at):
            self._drop(item)
            if len(self._objects) < OPEN_MAX and self._open_bytes + object_bytes <= OPEN_MAX_BYTES:
                return True
        self.refused_objects += 1
        return False

    def _drop(self, item: IncomingObject) -> None:
        """Forget it; it may come anew."""
        if self._objects.pop(item.object_id, None) is not None:
            self._open_bytes -= item.object_bytes

    # Decoding.

    def _decode(self, item: IncomingObject) -> None:
        item.state = State.DECODING
        work = partial(_open, self._code, item.object_bytes, item.symbol_bytes, item.symbols)
        if item.object_bytes < THREAD_BYTES:
            self._decoded(item, work())
        else:
            self._work(work, partial(self._decoded, item))

    def _decoded(self, item: IncomingObject, result: object) -> None:
        if result is None:
            if not item.decoding_failed():
                self._pass_over(item)
            return
        if isinstance(result, ObjectError):
            self._pass_over(item)
            return
        assert isinstance(result, tuple)
        content, item.digest = result
        assert isinstance(content, Content)
        item.symbols = {}
        item.state, item.precedence = State.WAITING, content.precedence
        if content.nodes and self._own_index not in content.nodes and not self._is_member(item.group):
            self._close(item, State.PASSED_OVER)
        elif content.piece is not None:
            item.transfers = 1
            joined = self._assemblies.add(content.piece, item)
            if joined is not None:
                self._arrive(*joined, content.nodes)
            for each in self._assemblies.pop_excess():
                self._drop(each)
        else:
            item.transfers = len(content.bundles)
            for bundle in content.bundles:
                self._arrive(bundle, [item], content.nodes)

    def _pass_over(self, item: IncomingObject) -> None:
        self.failures += 1
        item.symbols = {}
        self._close(item, State.PASSED_OVER)

    def _arrive(self, bundle: bytes, objects: list[IncomingObject], nodes: tuple[int, ...]) -> None:
        number = self._take_number()
        self._transfers[number] = objects
        self.arrived.append(TransferRow(number, bundle, nodes))

    # Answers.

    def accept(self, transfers: Iterable[int]) -> None:
        """These bundles are durable. Unknown numbers are passed over."""
        for number in transfers:
            self._settle(number, 0)

    def refuse(self, transfer: int, *, is_retriable: bool) -> None:
        """This bundle is not taken; the object that brought it, and others, is refused when all of it is settled."""
        self._settle(transfer, REFUSED_FOR_NOW if is_retriable else REFUSED_FOR_EVER)

    def _settle(self, transfer: int, reason: int) -> None:
        for item in self._transfers.pop(transfer, ()):
            item.transfers -= 1
            item.reason = item.reason or reason
            if item.transfers == 0:
                self._close(item, State.REFUSED if item.reason else State.TAKEN)
                self._answer(item)

    def _close(self, item: IncomingObject, state: State) -> None:
        self._drop(item)
        item.state = state
        self._answered[item.object_id] = item
        if len(self._answered) > ANSWERED_MAX:
            object_id, _ = self._answered.popitem(last=False)
            self._answers.pop(object_id, None)

    def _answer(self, item: IncomingObject) -> None:
        if item.state is not State.PASSED_OVER:
            self._answers.setdefault(item.object_id, ANSWER_REPEATS)

    @property
    def has_answers(self) -> bool:
        """True when the next report has something to say about finished objects."""
        return bool(self._answers)

    @property
    def answer_precedence(self) -> int:
        """Of the most urgent object that waits to be answered; -1: there is none."""
        return max((self._answered[object_id].precedence for object_id in self._answers), default=-1)

    def take_answers(self, count: int) -> list[IncomingObject]:
        """At most so many objects, finished, to be mentioned in a report that leaves now: the most urgent first."""
        items = [self._answered[object_id] for object_id in self._answers]
        items = sorted(items, key=lambda item: -item.precedence)[:count] if len(items) > count else items
        for item in items:
            left = self._answers.pop(item.object_id) - 1
            if left:
                self._answers[item.object_id] = left
        return items

    def needs(self, count: int, now: float, heard_at: float) -> list[tuple[bytes, int]]:
        """What so many objects that are not answered need: those with the latest news, for others may be given up.

        Args:
            heard_at: when the node was heard last. An object that it has been asked for in vain is forgotten.
        """
        items = list(self._objects.values())
        if len(items) > count:
            items = nlargest(count, items, key=attrgetter("touched_at"))
        if heard_at + HEARD_S > now:
            for item in items:
                if item.is_given_up(now):
                    self._drop(item)
        return [(item.object_id, item.need) for item in items]


def _open(code: FountainCode, object_bytes: int, symbol_bytes: int, symbols: dict[int, bytes]) -> object:
    """Decode and check; runs in a thread for large objects. None: more symbols are needed."""
    data = code.decode(object_bytes, symbol_bytes, symbols)
    if data is None:
        return None
    try:
        return parse_object_untrusted(data), read_digest(data)
    except ObjectError as error:
        return error
