# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of the audit log: who did what, when, and what came of it; and `audit.*` of the control protocol.

What falls silent never waits for the log: `note` queues an entry and returns. What opens something waits: `append`
returns when the entry is durable, or raises. Entries go to the disk in a worker thread, in their order, as many at a
time as wait. While the disk takes none they stay in the queue, an alarm says so, and it is tried again; what the queue
does not hold is counted, and the next entry says how many are lost. The host's clock may be wrong: each entry says
whether it is trusted.
"""

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import trio

from meshd.base.errors import AuditError
from meshd.base.token_bucket import TokenBucket
from meshd.control.errors import ControlError
from meshd.control.roles import Rights
from meshd.daemon.control_handler import SessionHandle
from meshd.daemon.control_peer import Peer
from meshd.daemon.dtn_clock import monotonic_s, wall_ms
from meshd.daemon.state_file import write_state
from meshd.security.audit_chain import HeadError, Row, encode_entry, parse_anchor_untrusted
from meshd.store.audit_log import DATABASE, AuditLog, read_rows, verify_file

QUEUE_MAX: Final = 1024
BATCH_MAX: Final = 128
RETRY_S: Final = 5.0
REFUSALS_AT_ONCE: Final = 20
REFUSALS_PER_S: Final = 1 / 60
"""Of one user. Who may not do anything must not be able to push others' entries out of a log of bounded size."""
USERS_MAX: Final = 64
TEXT_MAX: Final = 200
ITEMS_MAX: Final = 8
LIST_SIZE_MAX_BYTES: Final = 1 << 20
"""Of the contents that one answer carries."""
OK: Final = "ok"

Report = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Author:
    """Who did it."""

    uid: int | None
    user: str | None
    pid: int | None
    role: str


DAEMON: Final = Author(None, None, None, "daemon")
"""The daemon on its own: a schedule, the end of an order, a boot."""


class AuditPort(Protocol):
    """Where the daemon's parts tell what they did."""

    def note(self, action: str, details: Mapping[str, Any], outcome: str = OK, author: Author = DAEMON) -> None:
        """Never waits and never fails."""

    async def append(self, action: str, details: Mapping[str, Any], author: Author = DAEMON) -> None:
        """Durable on return. Errors: AuditError."""


def summarise(params: Mapping[str, Any]) -> dict[str, Any]:
    """What a call was given, without content and without what was left out."""
    return {name: _short(value) for name, value in params.items() if value is not None}


class AuditDesk:
    """Owns the log; implements AuditPort."""

    def __init__(self, directory: Path, report: Report, is_clock_trusted: Callable[[], bool]) -> None:
        """Do nothing yet; the log is in this directory."""
        self._log = AuditLog(directory, write_state)
        self._path = directory / DATABASE
        self._report = report
        self._is_clock_trusted = is_clock_trusted
        self._queue: deque[bytes] = deque()
        self._lost = 0
        self._wake = trio.Event()
        self._disk = trio.Lock()
        self._problem: str | None = None
        self._refusals: dict[int, TokenBucket] = {}
        self._left_out = 0

    async def open(self) -> None:
        """Check the log. A damaged one is put aside with an alarm; one that can't be opened is tried again later."""
        async with self._disk:
            try:
                problems = await trio.to_thread.run_sync(self._log.open)
            except AuditError as error:
                self._fail(error)
                return
        self._tell(problems)

    def _tell(self, problems: Sequence[str]) -> None:
        """A log that was put aside is an alarm, and an entry in the one that goes on."""
        for problem in problems:
            self._report("audit.alarm", {"text": f"the audit log was not in order and is put aside: {problem}"})
        if problems:
            self.note("audit.damaged", {"problems": list(problems[:ITEMS_MAX])})

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write what is noted, until cancelled."""
        task_status.started()
        await self.open()
        while True:
            with trio.move_on_after(RETRY_S if self._queue else float("inf")):
                await self._wake.wait()
            self._wake = trio.Event()
            await self._try_to_flush()

    async def close(self) -> None:
        """Write what still waits, if the disk takes it."""
        await self._try_to_flush()
        self._log.close()

    def note(self, action: str, details: Mapping[str, Any], outcome: str = OK, author: Author = DAEMON) -> None:
        """AuditPort."""
        self._put(action, details, outcome, author)
        self._wake.set()

    async def append(self, action: str, details: Mapping[str, Any], author: Author = DAEMON) -> None:
        """AuditPort. An entry that fails stays in the queue: it was meant to happen, and the next ones say what did."""
        if not self._put(action, details, OK, author):
            raise AuditError(f"the audit log takes no entries, and {QUEUE_MAX} wait: {self._problem}")
        await self._flush()

    def done(self, peer: Peer, rights: Rights, method: str, params: dict[str, Any], outcome: str) -> None:
        """CallLog."""
        self.note(method, summarise(params), outcome[:TEXT_MAX], _author_of(peer, rights))

    def refused(self, peer: Peer, rights: Rights, method: str, params: dict[str, Any]) -> None:
        """CallLog."""
        uid = peer.uid
        if uid not in self._refusals and len(self._refusals) >= USERS_MAX:
            del self._refusals[next(iter(self._refusals))]
        now = monotonic_s()
        bucket = self._refusals.setdefault(uid, TokenBucket(REFUSALS_PER_S, REFUSALS_AT_ONCE, now))
        if not bucket.take(now):
            self._left_out += 1
            return
        self._report("control.refused", {"method": method, "uid": uid, "role": rights.name})
        self.note(method, summarise(params), "unauthorised", _author_of(peer, rights))

    def status(self) -> dict[str, Any]:
        """For `status`: the head, to be noted elsewhere, and what is wrong."""
        newest = None if self._log.head is None else self._log.head.newest
        return {"head": None if newest is None else newest.text, "waiting": len(self._queue), "problem": self._problem}

    async def list_entries(self, _: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`audit.list`."""
        arguments = params["before"], params["since_ms"], params["limit"]
        try:
            await self._flush()
            entries, more = await trio.to_thread.run_sync(_read, self._path, *arguments)
        except AuditError as error:
            raise ControlError("failed", str(error)) from error
        return {"entries": entries, "more": more}

    async def verify(self, _: SessionHandle, params: dict[str, Any]) -> dict[str, Any]:
        """`audit.verify`."""
        try:
            anchor = None if params["head"] is None else parse_anchor_untrusted(params["head"])
            verdict = await trio.to_thread.run_sync(verify_file, self._path, anchor)
        except HeadError as error:
            raise ControlError("bad_params", str(error)) from error
        except AuditError as error:
            raise ControlError("failed", str(error)) from error
        return verdict.describe()

    def _put(self, action: str, details: Mapping[str, Any], outcome: str, author: Author) -> bool:
        if len(self._queue) >= QUEUE_MAX:
            self._lost += 1
            return False
        entry = {
            "time_ms": wall_ms(),
            "clock_trusted": self._is_clock_trusted(),
            "uid": author.uid,
            "user": author.user,
            "pid": author.pid,
            "role": author.role,
            "action": action,
            "outcome": outcome,
            "details": dict(details),
        }
        counts = {"entries_lost": self._lost, "refusals_left_out": self._left_out}
        entry |= {name: count for name, count in counts.items() if count}
        self._lost = self._left_out = 0
        self._queue.append(encode_entry(entry))
        return True

    async def _try_to_flush(self) -> None:
        try:
            await self._flush()
        except AuditError:
            await trio.lowlevel.checkpoint()  # it was reported, and is tried again

    async def _flush(self) -> None:
        """Everything that waits is durable on return, also when the caller is cancelled. Errors: AuditError."""
        with trio.CancelScope(shield=True):
            async with self._disk:
                while self._queue:
                    batch = [self._queue[index] for index in range(min(BATCH_MAX, len(self._queue)))]
                    try:
                        problems = await trio.to_thread.run_sync(self._log.append, batch)
                    except AuditError as error:
                        self._fail(error)
                        raise
                    for _ in batch:
                        self._queue.popleft()
                    self._mend()
                    self._tell(problems)

    def _fail(self, error: AuditError) -> None:
        if self._problem != str(error):
            self._problem = str(error)
            self._report("audit.alarm", {"text": f"nothing is opened while the audit log takes no entry: {error}"})

    def _mend(self) -> None:
        if self._problem is not None:
            self._problem = None
            self._report("audit.mended", {"text": "the audit log takes entries again"})


def describe_entry(row: Row) -> dict[str, Any]:
    """A row for people and programs; one that is no entry of ours says so."""
    try:
        entry = json.loads(row.content)
    except ValueError:
        entry = None
    shown = entry if isinstance(entry, dict) else {"damaged": True}
    return {**shown, "number": row.number, "hash": row.hash.hex()}


def _read(path: Path, before: int | None, since_ms: int | None, limit: int) -> tuple[list[dict[str, Any]], bool]:
    entries: list[dict[str, Any]] = []
    left_bytes = LIST_SIZE_MAX_BYTES
    for row in read_rows(path, before):
        entry = describe_entry(row)
        time_ms = entry.get("time_ms")
        if since_ms is not None and isinstance(time_ms, int) and time_ms < since_ms:
            continue  # not the end: a clock may have been set back
        left_bytes -= len(row.content)
        if len(entries) == limit or left_bytes < 0:
            return entries, True
        entries.append(entry)
    return entries, False


def _author_of(peer: Peer, rights: Rights) -> Author:
    return Author(peer.uid, peer.name, peer.pid, rights.name)


def _short(value: Any) -> Any:
    match value:
        case bytes():
            return f"{len(value)} bytes"
        case str():
            return value if len(value) <= TEXT_MAX else value[:TEXT_MAX] + "..."
        case list():
            shown = [_short(each) for each in value[:ITEMS_MAX]]
            return shown if len(value) <= ITEMS_MAX else [*shown, f"and {len(value) - ITEMS_MAX} more"]
        case _:
            return value
