# SPDX-License-Identifier: Apache-2.0
"""Versions that meshd speaks: its own, and those of what it puts on a wire, a disk or the control socket."""

from typing import Final

__version__ = "0.1.0"

BUNDLE_PROTOCOL_VERSION: Final = 7
"""RFC 9171."""
TCPCL_VERSION: Final = 4
"""RFC 9174."""
STORE_VERSION: Final = 2
"""The segment log's record format."""
CONTROL_VERSION: Final = 1
"""The control socket's protocol."""
