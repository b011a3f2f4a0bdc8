# SPDX-License-Identifier: Apache-2.0
"""Addresses of streams outside: `udp://[SOURCE@]HOST:PORT[@DEVICE]`, and the same with `rtp://`.

HOST and SOURCE are numeric; IPv6 stands in brackets. HOST is a multicast group, which DEVICE, and for source-specific
multicast SOURCE, go with; or, of an input, an address of this host; or, of an output, where it goes.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from meshd.base.errors import SettingsError

SCHEMES: Final = ("udp", "rtp")
DEVICE_CHARACTERS_MAX: Final = 15
_FORM: Final = re.compile(
    r"(?P<scheme>udp|rtp)://(?:(?P<source>\[[^\]@]+\]|[^@\[\]:]+)@)?(?P<host>\[[^\]@]+\]|[^@\[\]:]*):(?P<port>\d{1,5})"
    r"(?:@(?P<device>[^@\s/]{1,15}))?"
)

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class UdpAddress:
    """Where a stream comes from or goes to."""

    scheme: str
    host: IpAddress
    port: int
    source: IpAddress | None = None
    device: str | None = None

    @property
    def text(self) -> str:
        """As it is written."""
        source = "" if self.source is None else f"{_render(self.source)}@"
        device = "" if self.device is None else f"@{self.device}"
        return f"{self.scheme}://{source}{_render(self.host)}:{self.port}{device}"


def parse_udp_address(text: str) -> UdpAddress:
    """Errors: SettingsError."""
    hint = "write udp://239.1.1.1:5004@lan0, udp://10.0.0.9@232.1.1.1:5004@lan0, udp://0.0.0.0:5004 or rtp://..."
    found = _FORM.fullmatch(text)
    if found is None:
        raise SettingsError(f"{text!r} is no address of a stream: {hint}")
    try:
        host = ipaddress.ip_address(found["host"].strip("[]"))
        source = None if found["source"] is None else ipaddress.ip_address(found["source"].strip("[]"))
    except ValueError as error:
        raise SettingsError(f"{text!r} is no address of a stream: {error}; {hint}") from error
    port = int(found["port"])
    if port > 65535:
        raise SettingsError(f"{text!r}: a port is at most 65535")
    if source is not None and (not host.is_multicast or source.version != host.version or source.is_multicast):
        raise SettingsError(f"{text!r}: a source stands before a multicast group of its kind only")
    return UdpAddress(found["scheme"], host, port, source, found["device"])


def _render(address: IpAddress) -> str:
    return f"[{address}]" if address.version == 6 else str(address)
