# SPDX-License-Identifier: Apache-2.0
"""Tells the service manager that the daemon is alive, as often as it wants to hear it."""

import trio

from meshd.linux.sd_notify import SdNotify

TIMES_PER_INTERVAL = 3


async def feed_watchdog(notify: SdNotify) -> None:
    """Until cancelled; ends at once where nobody watches."""
    while notify.watchdog_s is not None:
        notify.watchdog()
        await trio.sleep(notify.watchdog_s / TIMES_PER_INTERVAL)
    await trio.lowlevel.checkpoint()
