# SPDX-License-Identifier: Apache-2.0
"""One fountain machine at work: its socket, its timer, its threads and its file of replay marks.

Tasks: one that listens, and opens the socket again when the device comes back; one that keeps time, sends what the
machine wants sent, and tells the node; one that saves marks; one that looks after the device, after neighbour entries
and after what was refused. What a node wants of a link is done at once and told later, by the task that keeps time.
"""

import contextlib
import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Final, cast

import trio

from meshd.bearer.backoff import Backoff
from meshd.bearer.connection import Row
from meshd.bearer.datagram_socket import TURN_DATAGRAMS, DatagramSocket
from meshd.bearer.fault_teller import FAULTS_REPORTED_S, FaultTeller
from meshd.bearer.fountain_events import FountainVoice
from meshd.bearer.fountain_link import FountainLink
from meshd.bearer.link import Figure
from meshd.bearer.pinned_entries import NeighbourPort, PinnedEntries
from meshd.bearer.problems import Problems, Report
from meshd.bearer.sockets import Address, BearerError, format_address
from meshd.bundle.eid import Eid
from meshd.bundle.scan import scan_untrusted
from meshd.bundle.stored_chunk import in_memory
from meshd.bundle.supersession import time_of_use_ms
from meshd.cl.fountain import events as cl
from meshd.cl.fountain.breach import Breach
from meshd.cl.fountain.datagram import Fault
from meshd.cl.fountain.machine import Machine
from meshd.link.settings import BearerSettings, ConvergenceLayer, NeighbourSettings
from meshd.node.events import Event
from meshd.security.replay_window import Mark

WATCH_S: Final = 2.0
WORK_THREADS_MAX: Final = 2
"""Objects encoded or decoded at a time."""
SAVE_AGAIN_S: Final = 1.0
NOISE_MIN: Final = 2
"""When so many of a turn were refused, the next turn waits for"""
NOISE_PAUSE_S: Final = 0.001
"""so long: a flood is taken in large turns, not in many small ones; the socket holds more than comes meanwhile."""
_CLONED: Final = (
    "somebody sends under this node's name what it did not send: nothing leaves this bearer any more. "
    "If this disk was restored from a copy, enrol the node anew; else its keys are in other hands: roll the link key"
)


class FountainStation:
    """One machine from its start to its end; a bearer makes another one when its neighbours change."""

    def __init__(
        self,
        settings: BearerSettings,
        machine: Machine,
        links: dict[Eid, FountainLink],
        places: dict[Eid, Address],
        save_marks: Callable[[Mapping[Eid, Mark]], None],
        entries: NeighbourPort,
        dtn_ms: Callable[[], int],
        dispatch: Callable[[Event], None],
        report: Report,
        rng: random.Random,
        *,
        is_frozen: bool,
        is_counted: bool,
    ) -> None:
        """`save_marks` blocks until they are on the disk. `links` and `places` grow by what is found."""
        self._settings = settings
        self.machine = machine
        self._links = links
        self._places = places
        self._save_marks = save_marks
        self._dtn_ms = dtn_ms
        self._report = report
        self._voice = FountainVoice(links, dispatch, report)
        self._problems = Problems(settings.name, report)
        self._backoff = Backoff(rng)
        self._threads = trio.CapacityLimiter(WORK_THREADS_MAX)
        self._wake = trio.Event()
        self._marks: Mapping[Eid, Mark] = {}
        self._marks_wanted = trio.Event()
        self._is_finding = settings.radio.discovery and settings.radio.group is None
        """The addresses of those who are found are those that they send from."""
        self._socket: DatagramSocket | None = None
        self._listening = trio.CancelScope()
        self._pause = trio.CancelScope()
        self._is_hurried = False
        self._pinned = PinnedEntries(settings.device, entries, self._problems)
        self._is_frozen = self._is_machine_frozen = is_frozen
        self._is_broken = self._is_cloned = False
        self._is_counted = is_counted
        self._faults = FaultTeller(settings.name, report)
        self.lost_here = 0
        """Datagrams that the kernel did not take."""
        self._lost_told_at = -math.inf
        if is_frozen:
            machine.freeze()

    @property
    def bound_address(self) -> str | None:
        """Where it listens; None: nowhere at the moment."""
        return self._socket.bound_address if self._socket else None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Started when the first attempt to open the socket is over."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._listen)
                nursery.start_soon(self._drive, nursery)
                nursery.start_soon(self._keep_marks)
                nursery.start_soon(self._watch)
                task_status.started()
        finally:
            self._pinned.release_all()

    def give_up(self, reason: str) -> None:
        """All links are down; called when `run` has ended."""
        for link in self._links.values():
            link.detach()
            self._voice.tell_down(link, reason)

    # What the node wants. Nothing here dispatches.

    def send_bundles(self, link: FountainLink, rows: Sequence[Row]) -> None:
        """Send these in order."""
        now, dtn_ms = trio.current_time(), self._dtn_ms()
        out = []
        for bundle, chunks in rows:
            data = b"".join(in_memory(chunks))
            header = scan_untrusted(data)
            age_ms = dtn_ms - bundle.time_ms if header.age_ms is None else header.age_ms
            link.sent[bundle] = len(data)
            expires_at = now + (time_of_use_ms(header.lifetime_ms, header.supersession) - age_ms) / 1000
            tier = None if header.supersession is None else header.supersession.tier
            out.append(cl.OutgoingRow(bundle, (data,), header.precedence, expires_at, tier))
            link.known_credit_bytes = max(link.known_credit_bytes - len(data), 0)
        self.machine.send_bundles(link.id.neighbour, out, now)
        self._wake.set()

    def answer_accepted(self, node: Eid, transfers: Sequence[int]) -> None:
        """See Answerer."""
        self.machine.accept(node, transfers, trio.current_time())
        self._wake.set()

    def answer_refused(self, node: Eid, transfer: int, *, is_retriable: bool) -> None:
        """See Answerer."""
        self.machine.refuse(node, transfer, trio.current_time(), is_retriable=is_retriable)
        self._wake.set()

    def device_changed(self) -> None:
        """Listen again at once if the socket is of no use any more, or there is none."""
        sock = self._socket
        if sock is None:
            self._backoff.reset()
            self._pause.cancel()
        elif not sock.is_current(self._settings.device):
            self._is_hurried = True
            self._listening.cancel()
            self._pinned.forget()

    def announce_silence(self, for_s: int) -> None:
        """Tell all, with the next datagram, that we fall silent."""
        self.machine.announce_silence(for_s)
        self._wake.set()

    def set_silent(self, node: Eid, for_s: int | None) -> None:
        """Somebody says that a neighbour is silent; None: that it is not."""
        self.machine.set_silent(node, for_s, trio.current_time())
        self._wake.set()

    def freeze(self) -> None:
        """Silence: nothing is sent; receiving goes on."""
        self._end_breach()
        self._is_frozen = True
        self._update_silence()

    def break_silence(self, breach: Breach, mark: int) -> None:
        """Until `freeze` or `thaw` nothing but this leaves, with this mark. Errors: BearerError: it can't."""
        if self._socket is None or self._is_cloned:
            raise BearerError(f"bearer {self._settings.name} has no socket, or sends nothing for good")
        self._socket.set_mark(mark, is_counted=True)
        self._is_broken = True
        self.machine.break_silence(breach)
        self._wake.set()

    def _end_breach(self) -> None:
        if self._is_broken:
            self._is_broken = False
            self.machine.freeze()
            if self._socket is not None:
                with contextlib.suppress(BearerError):  # the gate is shut then, and no mark passes
                    self._socket.set_mark(self._settings.mark, is_counted=self._is_counted)

    def thaw(self, *, is_counted: bool) -> None:
        """The silence is over; `is_counted`: the gate counts what leaves."""
        self._is_counted, self._is_frozen = is_counted, False
        self._end_breach()
        if self._socket is not None:
            self._socket.is_counted = is_counted
        self._update_silence()

    def _update_silence(self) -> None:
        must_freeze = self._is_frozen or self._is_cloned or self._socket is None
        if must_freeze is not self._is_machine_frozen:
            self._is_machine_frozen = must_freeze
            if must_freeze:
                self.machine.freeze()
            else:
                now = trio.current_time()
                held_s = round(self.machine.thaw(now) - now, 3)
                self._report("bearer.held_off", {"bearer": self._settings.name, "held_s": held_s})
            self._wake.set()

    # Tasks.

    async def _listen(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        while True:
            try:
                with contextlib.closing(DatagramSocket(self._settings)) as sock:
                    self._enter(sock)
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    try:
                        with trio.CancelScope() as self._listening:
                            await self._receive(sock)
                    finally:
                        self._socket = None  # nobody may send by one that is closed
            except BearerError as error:
                self._problems.report("listen", str(error))
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
            self._update_silence()
            pause_s = 0 if self._is_hurried else self._backoff.next_s()
            self._is_hurried = False
            with trio.move_on_after(pause_s) as self._pause:
                await trio.sleep_forever()

    def _enter(self, sock: DatagramSocket) -> None:
        self._socket, sock.is_counted = sock, self._is_counted
        self._problems.clear("listen")
        self._backoff.reset()
        self._update_silence()
        self._report("bearer.started", {"bearer": self._settings.name, "fountain": sock.bound_address})

    async def _receive(self, sock: DatagramSocket) -> None:
        machine = self.machine
        while True:
            await trio.lowlevel.wait_readable(sock.socket)
            count, refused = self._take(sock)
            if machine.faults[Fault.CLONED.value]:
                self._stop_for_good()
            if refused < count:
                self._wake.set()
            if refused >= NOISE_MIN and count < TURN_DATAGRAMS:
                await trio.sleep(NOISE_PAUSE_S)

    def _take(self, sock: DatagramSocket) -> tuple[int, int]:
        """Give the machine what has come: how many datagrams, and how many were refused."""
        machine, now = self.machine, trio.current_time()
        if not self._is_finding:
            datagrams = sock.receive()
            return len(datagrams), machine.receive_datagrams(datagrams, now)
        datagrams, sources = sock.receive_from()
        return len(datagrams), machine.receive_datagrams(datagrams, now, sources)

    async def _drive(self, nursery: trio.Nursery) -> None:
        machine = self.machine
        while True:
            wake = self._wake = trio.Event()
            now = trio.current_time()
            if machine.get_timer() <= now:
                machine.handle_timer(now)
            if self._is_finding:
                self._tell(nursery)  # where to answer whom
            self._send(now)
            self._tell(nursery)
            with trio.move_on_at(machine.get_timer()):
                await wake.wait()

    def _send(self, now: float) -> None:
        datagrams = self.machine.datagrams_to_send(now)
        for node, rows in itertools.groupby(datagrams, attrgetter("node")):
            sock = self._socket
            if sock is None:
                return
            try:
                lost, reason = sock.send([row.data for row in rows], self._places.get(node) if node else None)
            except BearerError as error:
                self._problems.report("listen", str(error))
                self._listening.cancel()
                return
            if lost:
                self._note_lost(lost, reason, now)

    def _note_lost(self, count: int, reason: str, now: float) -> None:
        self.lost_here += count
        if now - self._lost_told_at >= FAULTS_REPORTED_S:
            self._lost_told_at = now
            self._report("bearer.problem", {"bearer": self._settings.name, "problem": reason})

    def _tell(self, nursery: trio.Nursery) -> None:
        machine, voice = self.machine, self._voice
        while (event := machine.next_event()) is not None:
            match event:
                case cl.WorkRequested():
                    nursery.start_soon(self._work, event)
                case cl.MarksToSave(marks):
                    self._marks = marks
                    self._marks_wanted.set()
                case cl.StateCloned():
                    self._stop_for_good()
                case cl.PeerFound(node, source):
                    self._find(node, cast("Address | None", source))
                case cl.PeerGone(node):
                    self._lose(node)
                case _:
                    voice.take(event)
        voice.finish()
        window_bytes = machine.window_bytes
        for node, link in self._links.items():
            if link.is_up:
                credit_bytes = machine.credit_bytes(node)
                voice.announce(link, credit_bytes, window_bytes)
                voice.measure(link, machine.peer(node), 1 - credit_bytes / window_bytes)

    async def _work(self, wanted: cl.WorkRequested) -> None:
        result = await trio.to_thread.run_sync(wanted.work, limiter=self._threads)
        self.machine.handle_work_done(wanted.job, result, trio.current_time())
        self._wake.set()

    async def _keep_marks(self) -> None:
        while True:
            await self._marks_wanted.wait()
            self._marks_wanted = trio.Event()
            marks = self._marks
            try:
                await trio.to_thread.run_sync(self._save_marks, marks)
            except OSError as error:
                self._problems.report("marks", f"replay marks can't be saved, so nothing is taken: {error.strerror}")
                await trio.sleep(SAVE_AGAIN_S)
                self._marks_wanted.set()
                continue
            self._problems.clear("marks")
            self.machine.marks_saved(marks, trio.current_time())
            self._wake.set()

    async def _watch(self) -> None:
        while True:
            if self._socket is not None and not self._socket.is_current(self._settings.device):
                self._listening.cancel()
            for node, link in self._links.items():
                if node in self._places:
                    self._pinned.look_after(node, self._places[node][0], link.settings.mac, is_up=link.is_up)
            self._faults.look(self.machine, trio.current_time())
            await trio.sleep(WATCH_S)

    # Neighbours that are not configured.

    def _find(self, node: Eid, source: Address | None) -> None:
        name, address = self._settings.name, None if source is None else format_address(source)
        settings = NeighbourSettings(node, name, address, cl=ConvergenceLayer.FOUNTAIN)
        self._links[node] = FountainLink(name, settings, self, trio.current_time())
        if source is not None:
            self._places[node] = source
        self._voice.links_changed()
        self._report("neighbour.found", {"bearer": name, "node": node.uri, "address": address})

    def _lose(self, node: Eid) -> None:
        self._pinned.release(node)
        del self._links[node]
        self._places.pop(node, None)
        self._voice.links_changed()
        self._report("neighbour.gone", {"bearer": self._settings.name, "node": node.uri})

    def _stop_for_good(self) -> None:
        if not self._is_cloned:
            self._is_cloned = True
            self._update_silence()
            self._report("link.alarm", {"bearer": self._settings.name, "reason": _CLONED})

    def snapshot(self) -> list[dict[str, Figure]]:
        """One row of figures for each link."""
        now = trio.current_time()
        by_node = {str(row.pop("node")): row for row in self.machine.snapshot(now)}
        rows = []
        for link in self._links.values():
            figures: dict[str, Figure] = dict(by_node.get(link.id.neighbour.uri, {}))
            if not figures:  # gone, and about to be told so
                continue
            state, heard_s = figures.pop("state"), figures["last_heard_s"]
            figures["last_heard_s"] = heard_s if isinstance(heard_s, float) and math.isfinite(heard_s) else None
            rows.append(link.describe(now) | figures | {"peer": state, "lost_here": self.lost_here})
        return rows
