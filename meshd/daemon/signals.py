# SPDX-License-Identifier: Apache-2.0
"""Signals of the service manager: SIGTERM and SIGINT end the node, SIGHUP has it read its configuration again."""

import signal
from collections.abc import Awaitable, Callable

import trio


async def handle_signals(
    stop: trio.Event,
    reload: Callable[[], Awaitable[None]],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Until cancelled."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP:
                await reload()
            else:
                stop.set()
