# SPDX-License-Identifier: Apache-2.0
"""Where the bundles of streams go: two endpoints on each node, and one in each group that has streams."""

from typing import Final

from meshd.bundle.eid import Eid

LIVE_NAME: Final = "stream"
FILL_NAME: Final = "stream-fill"
LIVE_SERVICE: Final = "71"
FILL_SERVICE: Final = "72"
"""Of nodes with ipn IDs."""
GROUP_NAME: Final = "~stream"
"""A group of receivers is `dtn://GROUP/~stream`."""


def live_endpoint(node: Eid) -> Eid:
    """Where a node takes pieces, manifests and announcements."""
    return _endpoint(node, LIVE_NAME, LIVE_SERVICE)


def fill_endpoint(node: Eid) -> Eid:
    """Where a node takes requests for what is missing, and answers to its own."""
    return _endpoint(node, FILL_NAME, FILL_SERVICE)


def is_stream_group(endpoint: Eid) -> bool:
    """Whether a group is for streams."""
    return endpoint.demux == GROUP_NAME


def _endpoint(node: Eid, name: str, service: str) -> Eid:
    return Eid(node.uri[:-1] + service) if node.uri.startswith("ipn:") else Eid(node.uri + name)
