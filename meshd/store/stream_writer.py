# SPDX-License-Identifier: Apache-2.0
"""Large bundles on their way into the log, each under its number: the part of the writer thread that writes pieces.

What one cannot take is answered once, with the command that failed; what follows of it is passed over. How many there
are at a time is the node's business, and the log's.
"""

from collections.abc import Sequence

from msgspec import structs

from meshd.base.errors import StoreError
from meshd.node.commands import AbortStream, BeginStream, FinishStream, StreamCommand, WritePiece, WriteStore
from meshd.store.segment_log import Rows, SegmentLog
from meshd.store.stream_handle import StreamHandle

StreamOutcome = tuple[StreamCommand, StoreError | None]
"""A command that was carried out, or passed over, or why it failed."""


class StreamWriter:
    """Owns the streams that are open. All calls come from the thread that commits."""

    def __init__(self, log: SegmentLog) -> None:
        self._log = log
        self._open: dict[int, StreamHandle] = {}

    def run(self, commands: Sequence[StreamCommand]) -> tuple[list[StreamOutcome], list[WriteStore]]:
        """Carry these out in order.

        Returns:
            What became of each, and the groups to be committed for those that are finished.
        """
        outcomes: list[StreamOutcome] = []
        groups: list[WriteStore] = []
        for command in commands:
            error = None
            try:
                self._run(command, groups)
            except StoreError as caught:
                error = caught
            outcomes.append((command, error))
        return outcomes, groups

    def _run(self, command: StreamCommand, groups: list[WriteStore]) -> None:
        if isinstance(command, BeginStream):
            self._open[command.stream] = self._log.begin_stream(command.size_bytes)
            return
        handle = self._open.pop(command.stream, None)
        if handle is None:  # it has failed, and was answered then
            if isinstance(command, FinishStream):
                raise StoreError("a piece of it could not be written")
            return
        match command:
            case WritePiece():
                handle.append(command.data)
                self._open[command.stream] = handle
            case FinishStream():
                groups.append(WriteStore([structs.replace(command.record, payload=handle.finish())]))
            case AbortStream():
                handle.abort()

    def drop_failed(self, outcomes: Sequence[tuple[WriteStore, Rows | StoreError]]) -> None:
        """Forget the bytes of those whose record could not be committed."""
        for group, result in outcomes:
            if isinstance(result, StoreError):
                for record in group.puts:
                    if record.payload.inline is None:
                        self._log.drop_stream(record.payload)

    def close(self) -> None:
        """Forget all that is not finished."""
        for handle in self._open.values():
            handle.abort()
        self._open.clear()
