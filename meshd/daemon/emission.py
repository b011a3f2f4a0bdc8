# SPDX-License-Identifier: Apache-2.0
"""The shell around EMCON policy: gate, state file, clock, timers and the watch over the kernel's rule set.

`start` must have returned before any bearer opens a socket; `run` must run as long as the daemon does, since it renews
the leases. The gate is always called directly in the trio thread (each call is well below 5 ms); only the state file is
written in a worker thread, after the gate was shut. What to do is decided by `meshd.emcon.policy`.
"""

import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, assert_never

import trio

from meshd.base.errors import AuditError, GateError, MeshdError, SettingsError
from meshd.bundle.dtn_time import dtn_ms_from_unix
from meshd.daemon.emission_status import describe
from meshd.daemon.state_file import read_state, remove_state, write_state
from meshd.emcon import commands as todo
from meshd.emcon import events
from meshd.emcon.gate import EmissionGate
from meshd.emcon.order import (
    SCHEDULED,
    STATE_SIZE_MAX_BYTES,
    OrderState,
    StateError,
    decode_state_untrusted,
    encode_state,
)
from meshd.emcon.policy import EmconPolicy
from meshd.emcon.profile import UnknownProfileError, device_postures, find_profile
from meshd.emcon.schedule import Schedule
from meshd.emcon.settings import EmconSettings, Restriction
from meshd.emcon.silence_plan import plan_of
from meshd.link.settings import BearerSettings, Posture
from meshd.linux.link_monitor import KernelChange, LinkMonitor, RulesetChanged

RECORD_RETRY_S: Final = 5.0
"""Between attempts to open what the schedule or new settings open while the record takes no entry."""
STEPS_MAX: Final = 1000
"""Events and commands that follow from one event; more is a circle, our own fault."""

ReportCall = Callable[[str, dict[str, Any]], None]
AnnounceCall = Callable[[Sequence[str], float | None], Awaitable[None]]
BeforeOpening = Callable[[OrderState | None], Awaitable[None]]


class OrderRefusedError(MeshdError):
    """The order is not in force as it was given; the message says why."""


class EmissionControl:
    """Emission control of one daemon.

    Args: `wall_ms` gives Unix time in ms, None while the clock is not to be trusted; `now` monotonic seconds;
    `watch_kernel` False leaves out the netlink watch (no gate, or a test); `before_opening` is awaited before anything
    is opened, and forbids it by AuditError; `announce` tells neighbours on these bearers of a silence, for so long.
    """

    def __init__(
        self,
        settings: EmconSettings,
        bearers: Sequence[BearerSettings],
        gate: EmissionGate,
        state_path: Path,
        on_postures: Callable[[dict[str, Posture]], None],
        report: ReportCall,
        wall_ms: Callable[[], int | None],
        now: Callable[[], float] = time.monotonic,
        watch_kernel: bool = True,
        before_opening: BeforeOpening | None = None,
        announce: AnnounceCall | None = None,
    ) -> None:
        self._settings = settings
        self._bearers = tuple(bearers)
        self._gate = gate
        self._path = state_path
        self._on_postures = on_postures
        self._report = report
        self._wall_ms = wall_ms
        self._now = now
        self._watch_kernel = watch_kernel
        self._before_opening = before_opening
        self._announce = announce
        self._policy = EmconPolicy(settings, bearers)
        self._todo: deque[todo.PersistState] = deque()
        self._answers: dict[int, str | None] = {}
        self._orders = 0
        self._latest_write = 0
        self._disk = trio.Lock()
        self._is_asking = False
        """The record is asked whether the schedule may open something."""
        self._wake_at = math.inf
        self._rearmed = trio.Event()
        self._monitor: LinkMonitor | None = None
        self._weakness = ""

    async def start(self) -> None:
        """Shut the gate of everything that radiates, then see what holds, then open accordingly.

        Errors: GateError when there is no gate to be had; the daemon must not go on then.
        """
        lacking = self._gate.probe() if self._settings.gate else []
        if lacking:
            raise GateError("this host can't hold an emission gate: " + "; ".join(lacking))
        self._weakness = "; ".join(self._gate.probe_weak()) if self._settings.gate else ""
        self._dispatch(events.GateProbed(self._weakness))
        self._gate.adopt({bearer.device for bearer in self._bearers if bearer.radiating})
        if self._watch_kernel and self._settings.gate:
            self._monitor = LinkMonitor(self._gate.ports)
        state, problem = await trio.to_thread.run_sync(self._read)
        self._dispatch(events.Booted(state, problem, self._wall_ms()))
        await self._write_all()

    async def order(
        self,
        profile: str,
        for_s: float | None,
        reason: str | None,
        by: str,
        *,
        until_ms: int | None = None,
        schedule: Schedule | None = None,
        announce: bool = False,
    ) -> dict[str, Any]:
        """Put a profile, or with `scheduled` a schedule, in force. Returns what `status` does.

        `announce`: neighbours on bearers that fall silent are told first, and the gate waits for that.

        Errors: UnknownProfileError, OrderRefusedError; GateError when silence is ordered and the kernel does not shut.
        """
        after = self.preview(profile, schedule)
        if until_ms is not None:
            for_s = self._seconds_until(until_ms)
        if announce and self._announce is not None:
            now = self.postures
            await self._announce([name for name in now if now[name].may_send and not after[name].may_send], for_s)
        self._orders += 1
        number = self._orders
        try:
            self._dispatch(events.OrderGiven(number, profile, for_s, by, reason, self._wall_ms(), schedule))
            await self._write_all()  # whoever wrote it, the answer is there when nothing is left to write
        finally:
            refusal = self._answers.pop(number, "the daemon did not answer the order")
        if refusal is not None:
            raise OrderRefusedError(refusal)
        self._check_silence()
        return self.status()

    def preview(self, profile: str, schedule: Schedule | None) -> dict[str, Posture]:
        """What an order would give each bearer. Errors: UnknownProfileError, OrderRefusedError."""
        if profile == SCHEDULED and schedule is None and self._policy.schedule is None:
            raise OrderRefusedError("there is no schedule: give one with `meshctl emcon schedule`")
        for name in () if schedule is None else schedule.profiles:
            find_profile(self._settings, name)
        return self._policy.preview(profile, schedule, self._now())

    def preview_restrictions(self, profile: str, schedule: Schedule | None) -> dict[str, Restriction]:
        """What it would let out of each bearer that it restricts. Errors: UnknownProfileError."""
        return self._policy.preview_restrictions(profile, schedule)

    def _seconds_until(self, until_ms: int) -> float:
        wall_ms = self._wall_ms()
        if wall_ms is None:
            raise OrderRefusedError("the clock is unknown, so no order can end at a time of day: say how long it holds")
        if until_ms <= wall_ms:
            raise OrderRefusedError("the order would end in the past: times are Zulu")
        return (until_ms - wall_ms) / 1000

    @property
    def postures(self) -> Mapping[str, Posture]:
        """By bearer, as they are now."""
        return self._policy.postures

    @property
    def order_until_ms(self) -> int | None:
        """DTN time at which what is shut opens: the order's end, or the schedule's next opening; None: not known."""
        unix_ms = self._policy.order.until_ms
        if unix_ms is None:
            unix_ms = self._policy.opens_at_ms(self._now())
        return None if unix_ms is None else dtn_ms_from_unix(unix_ms / 1000)

    def note_broken(self, devices: frozenset[str]) -> None:
        """By order something leaves these devices that are shut; empty: that is over."""
        self._dispatch(events.SilenceBroken(devices))

    @property
    def plan(self) -> Schedule | None:
        """What others have to know of the schedule, while that is in force."""
        schedule = self._policy.schedule
        if schedule is None or self._policy.order.profile != SCHEDULED:
            return None
        return plan_of(schedule, self._settings, self._bearers)

    @property
    def precedence_floors(self) -> dict[str, int]:
        """By bearer, where it is restricted: bundles below wait."""
        return {name: each.precedence_min for name, each in self._policy.restrictions.items()}

    def status(self) -> dict[str, Any]:
        """The map that `emcon.status` of the control protocol answers with."""
        return describe(self._policy, self._gate, self._settings, self._bearers, self._weakness, self._now())

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Renew leases, watch the kernel, keep deadlines. Ends by cancellation; the gate then shuts by its lease."""
        async with trio.open_nursery() as nursery:
            if self._monitor is not None:
                nursery.start_soon(self._monitor.run, self._kernel_changed)
                self._reapply("the daemon started to watch")  # what changed since `start`
            nursery.start_soon(self._keep_time, nursery)
            task_status.started()

    async def reload(self, settings: EmconSettings, bearers: Sequence[BearerSettings] | None = None) -> None:
        """Take a new configuration. What it shuts is shut at once; what it opens waits for the record.

        Errors: SettingsError when an order in force names a profile that it lacks; nothing is changed then.
        """
        try:
            self._policy.check_settings(settings)
        except UnknownProfileError as exc:
            raise SettingsError(f"[emcon] lacks the profile that is in force: {exc}") from exc
        self._settings = settings
        self._bearers = self._bearers if bearers is None else tuple(bearers)
        self._dispatch(events.SettingsChanged(settings, self._bearers))
        await self._write_all()
        self._dispatch(events.TimerFired(self._wall_ms(), self._before_opening is None))
        if self._policy.is_opening_due and not await self._open_on_record():
            text = "what the new settings open stays shut until the audit log takes an entry: make room on its disk"
            self._report("emcon.alarm", {"text": text})

    def hook_ran(self, bearer: str, has_failed: bool) -> None:
        """Of a bearer that is to be down where its hook fails."""
        self._dispatch(events.HookRan(bearer, has_failed))

    def close(self) -> None:
        """Stop watching the kernel. The gate stays as it is."""
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None

    def _dispatch(self, event: events.Event) -> None:
        """Tell policy, do at once what it wants, tell it what came of that; only writes are put off."""
        waiting: deque[events.Event] = deque([event])
        for _ in range(STEPS_MAX):
            if not waiting:
                return
            for command in self._policy.handle(waiting.popleft(), self._now()):
                answer = self._execute(command)
                if answer is not None:
                    waiting.append(answer)
        raise AssertionError(f"EMCON policy still wants something after {STEPS_MAX} steps")

    def _execute(self, command: todo.Command) -> events.Event | None:
        match command:
            case todo.CloseGate(devices, off):
                return self._close_gate(devices, off)
            case todo.OpenGate(device, lease_s):
                return self._let(device, lambda: self._gate.open(device, lease_s))
            case todo.RestrictGate(device, limits, lease_s):
                return self._let(device, lambda: self._gate.restrict(device, limits, lease_s))
            case todo.ReadCounters():
                return self._read_counters()
            case todo.ChangePostures(postures):
                self._on_postures(postures)
            case todo.PersistState():
                self._latest_write = command.number
                self._todo.append(command)
            case todo.OrderHolds(number):
                self._answers[number] = None
            case todo.OrderRefused(number, reason):
                self._answers[number] = reason
            case todo.WakeAt(at):
                self._arm(math.inf if at is None else at)
            case todo.Report(kind, fields):
                self._report(kind, dict(fields))
            case _ as never:
                assert_never(never)
        return None

    def _close_gate(self, devices: Sequence[str], off: Sequence[str]) -> events.Event:
        try:
            self._gate.close(devices, off)
        except GateError as exc:
            return events.GateFailed(devices, str(exc))
        return events.GateClosed(devices)

    def _let(self, device: str, call: Callable[[], None]) -> events.Event:
        try:
            call()
        except GateError as exc:
            return events.GateFailed((device,), str(exc))
        return events.GateOpened(device)

    def _read_counters(self) -> events.Event | None:
        try:
            return events.CountersRead(self._gate.counters())
        except GateError as exc:
            self._report("emcon.alarm", {"text": str(exc)})
            return None

    async def _write_all(self) -> None:
        """Make durable what policy wants durable; complete also when the caller is cancelled meanwhile."""
        with trio.CancelScope(shield=True):
            async with self._disk:
                while self._todo:
                    job = self._todo.popleft()
                    if job.number == self._latest_write:
                        await self._write(job)
            await trio.lowlevel.checkpoint()

    async def _write(self, job: todo.PersistState) -> None:
        try:
            if self._policy.is_opening and self._before_opening is not None:
                await self._before_opening(job.state)
            if job.state is None:
                await trio.to_thread.run_sync(remove_state, self._path)
            else:
                await trio.to_thread.run_sync(write_state, self._path, encode_state(job.state))
        except AuditError as exc:
            self._dispatch(events.PersistingFailed(job.number, str(exc)))
        except OSError as exc:
            self._dispatch(events.PersistingFailed(job.number, f"{self._path}: {exc.strerror or exc}"))
        else:
            self._dispatch(events.Persisted(job.number))

    def _read(self) -> tuple[OrderState | None, str | None]:
        try:
            data = read_state(self._path, STATE_SIZE_MAX_BYTES)
            return (None if data is None else decode_state_untrusted(data)), None
        except StateError as exc:
            return None, f"{self._path}: {exc}"
        except OSError as exc:
            return None, f"{self._path}: {exc.strerror or exc}"

    def _arm(self, at: float) -> None:
        if at != self._wake_at:
            self._wake_at = at
            self._rearmed.set()

    async def _keep_time(self, nursery: trio.Nursery) -> None:
        """Call policy at the time that it asked for. Writes go on beside: a hung disk must not let a lease run out."""
        while True:
            self._rearmed = trio.Event()
            with trio.move_on_after(max(0.0, self._wake_at - self._now())):
                await self._rearmed.wait()
                continue
            self._wake_at = math.inf
            self._dispatch(events.TimerFired(self._wall_ms(), self._before_opening is None))
            if self._todo:
                nursery.start_soon(self._write_all)
            if self._policy.is_opening_due and not self._is_asking:
                self._is_asking = True
                nursery.start_soon(self._open_later)
            await trio.lowlevel.checkpoint()

    async def _open_later(self) -> None:
        """What the record does not take stays shut, and is tried again; its own alarm says so."""
        if not await self._open_on_record():
            await trio.sleep(RECORD_RETRY_S)
        self._is_asking = False

    async def _open_on_record(self) -> bool:
        """What the schedule or new settings open, after the record; False: that takes no entry."""
        assert self._before_opening is not None, "else nothing waits"
        try:
            state = OrderState(self._policy.order, is_bounded=False, before=None, schedule=self._policy.schedule)
            await self._before_opening(state)
        except AuditError:
            return False
        self._dispatch(events.TimerFired(self._wall_ms()))
        return True

    def _kernel_changed(self, changes: list[KernelChange]) -> None:
        """Somebody touched devices, qdiscs or the ruleset: see that the gate is whole, at once."""
        authors = {change.by for change in changes if isinstance(change, RulesetChanged) and change.by}
        self._reapply(", ".join(sorted(authors)) or "the kernel or an unknown program")

    def _reapply(self, by: str) -> None:
        try:
            mended = self._gate.reapply()
        except GateError as exc:
            devices = device_postures(self._policy.postures, self._bearers)
            shut = [device for device, posture in devices.items() if not posture.may_send]
            self._dispatch(events.GateFailed(shut, str(exc)))
            return
        for what in mended:
            self._report("emcon.alarm", {"text": f"the gate was changed and is whole again: {what}", "by": by})

    def _check_silence(self) -> None:
        """Raise when a device that is ordered silent could not be shut."""
        problems = self._policy.problems
        for device, posture in device_postures(self._policy.postures, self._bearers).items():
            if not posture.may_send and device in problems:
                raise GateError(f"the order is in force, but {device} is not shut: {problems[device]}")
