# SPDX-License-Identifier: Apache-2.0
"""What may stand behind a key: one small function for each kind of value.

Each takes what `tomllib` made of the text and returns the value in the unit that the settings types use, or raises
`ValueProblem` with reason and remedy. Nothing here knows which key it reads.
"""

import ipaddress
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, Final

from meshd.base.errors import MeshdError
from meshd.base.units import (
    QuantityError,
    parse_duration_ms,
    parse_rate_bps,
    parse_size_bytes,
    render_duration_ms,
    render_rate_bps,
    render_size_bytes,
)
from meshd.bundle.eid import Eid, check_node_id, parse_eid
from meshd.bundle.errors import EidError
from meshd.link.settings import Station

Reader = Callable[[Any], Any]
"""From what tomllib gives to what a settings type holds; raises ValueProblem."""

SOCKET_PATH_BYTES_MAX: Final = 107
"""The kernel's limit for the name of a UNIX socket."""
ALIASES_MAX: Final = 64
STATIONS_MAX: Final = 16
"""Each is a rule that every frame of a silent device is held against."""
DEVICE_NAME_MAX: Final = 15
"""The kernel's limit for the name of a network device."""

_STATION_EXAMPLE: Final = '{ mac = "02:00:00:00:00:09", address = "10.9.0.2" }'
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_DEVICE = re.compile(r"[^\s/:%]{1,15}")
_PERCENTAGE = re.compile(r"([0-9]{1,4}) ?%")
_HARDWARE = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_ADDRESS = re.compile(r"(?:\[(?P<v6>[^\]\s]+)\]|(?P<v4>[^:\s]+)):(?P<port>[0-9]{1,5})")


class ValueProblem(MeshdError):
    """A value can't stand behind its key."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


def shown(value: Any) -> str:
    """A value for a message, cut short."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _text(value: Any, example: str) -> str:
    if not isinstance(value, str):
        raise ValueProblem(f"{shown(value)} is not a text", f"write it in quotation marks, such as {example!r}")
    return value


def boolean(value: Any) -> bool:
    """`true` or `false`."""
    if not isinstance(value, bool):
        raise ValueProblem(f"{shown(value)} is neither true nor false", "write true or false, without quotation marks")
    return value


def whole_number(least: int, most: int) -> Reader:
    """A whole number within bounds."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueProblem(f"{shown(value)} is not a whole number", "write digits without quotation marks")
        if not least <= value <= most:
            raise ValueProblem(f"{value} is out of range", f"write a number from {least} to {most}")
        return value

    return read


def _quantity(parse: Callable[[str], int], render: Callable[[int], str], least: int, most: int) -> Reader:
    example = render(min(max(least, 1), most))

    def read(value: Any) -> int:
        text = _text(value, example)
        try:
            number = parse(text)
        except QuantityError as error:
            reason, _, remedy = str(error).partition("; ")
            raise ValueProblem(reason, remedy or f"write one such as {example!r}") from None
        if not least <= number <= most:
            raise ValueProblem(f"{text!r} is out of range", f"write one from {render(least)!r} to {render(most)!r}")
        return number

    return read


def duration_ms(least_ms: int, most_ms: int) -> Reader:
    """A duration such as `24 h`, in milliseconds."""
    return _quantity(parse_duration_ms, render_duration_ms, least_ms, most_ms)


def duration_s(least_s: int, most_s: int) -> Reader:
    """A duration of whole seconds such as `15 s`, in seconds."""
    read_ms = duration_ms(least_s * 1000, most_s * 1000)

    def read(value: Any) -> int:
        number_ms = int(read_ms(value))
        if number_ms % 1000:
            raise ValueProblem(f"{value!r} is not a whole number of seconds", "write one such as '15 s'")
        return number_ms // 1000

    return read


def size_bytes(least_bytes: int, most_bytes: int) -> Reader:
    """A size such as `8 GiB`, in bytes."""
    return _quantity(parse_size_bytes, render_size_bytes, least_bytes, most_bytes)


def rate_bps(least_bps: int, most_bps: int) -> Reader:
    """A rate such as `2 Mbit/s`, in bits per second."""
    return _quantity(parse_rate_bps, render_rate_bps, least_bps, most_bps)


def rate_or_auto(least_bps: int, most_bps: int) -> Reader:
    """A rate, or `auto`, which is 0."""
    read_rate = rate_bps(least_bps, most_bps)

    def read(value: Any) -> int:
        return 0 if value == "auto" else int(read_rate(value))

    return read


def percentage(least: int, most: int) -> Reader:
    """A share such as `40 %`, in percent."""

    def read(value: Any) -> int:
        match = _PERCENTAGE.fullmatch(_text(value, "40 %"))
        if match is None:
            raise ValueProblem(f"{shown(value)} is not a percentage", "write one such as '40 %'")
        if not least <= int(match[1]) <= most:
            raise ValueProblem(f"{value!r} is out of range", f"write one from '{least} %' to '{most} %'")
        return int(match[1])

    return read


def choice(members: dict[str, Any]) -> Reader:
    """One of a few words, to what each stands for."""

    def read(value: Any) -> Any:
        if not isinstance(value, str) or value not in members:
            raise ValueProblem(f"{shown(value)} is not known here", f"write one of {', '.join(map(repr, members))}")
        return members[value]

    return read


def choices(members: dict[str, Any]) -> Reader:
    """A list of a few words, each once, to the set of what they stand for."""
    read_one = choice(members)

    def read(value: Any) -> frozenset[Any]:
        if not isinstance(value, list):
            raise ValueProblem(f"{shown(value)} is not a list", f"write one such as {list(members)[:2]}")
        return frozenset(read_one(element) for element in value)

    return read


def node_ids(value: Any) -> frozenset[Eid]:
    """A list of node IDs, at least one."""
    if not isinstance(value, list) or not value:
        raise ValueProblem(f"{shown(value)} is no list of node IDs", "write one such as ['dtn://dpop1/']")
    return frozenset(node_id(element) for element in value)


def group_endpoint(value: Any) -> Eid:
    """An endpoint with several members: its name begins with a tilde."""
    text = _text(value, "dtn://convoy/~orders")
    try:
        endpoint = parse_eid(text)
    except EidError as error:
        raise ValueProblem(str(error), "a group is such as 'dtn://convoy/~orders'") from None
    if endpoint.is_singleton:
        raise ValueProblem(f"{shown(text)} is no group", "begin its name with a tilde, such as 'dtn://convoy/~orders'")
    return endpoint


def node_id(value: Any) -> Eid:
    """A node ID such as `dtn://dpop1/` or `ipn:1.0`."""
    text = _text(value, "dtn://dpop1/")
    try:
        return check_node_id(parse_eid(text))
    except EidError as error:
        raise ValueProblem(str(error), "a node ID is such as 'dtn://dpop1/' or 'ipn:1.0'") from None


def destination(value: Any) -> Eid | None:
    """A node ID, or `*` (None) for every node without a route of its own."""
    return None if value == "*" else node_id(value)


def name(value: Any) -> str:
    """A name that we give: of a bearer, a group."""
    text = _text(value, "satcom0")
    if not _NAME.fullmatch(text):
        raise ValueProblem(
            f"{shown(text)} can't be a name", "use up to 32 letters, digits, '_', '.' or '-', a letter or digit first"
        )
    return text


def names(value: Any) -> tuple[str, ...]:
    """A list of names, each once."""
    if not isinstance(value, list):
        raise ValueProblem(f"{shown(value)} is not a list", "write one such as ['los0', 'satcom0']")
    found = tuple(name(element) for element in value)
    if len(set(found)) != len(found):
        raise ValueProblem(f"{shown(value)} names something twice", "name each once, in order of preference")
    return found


def aliases(value: Any) -> dict[str, str]:
    """A table of names that stand for other names."""
    if not isinstance(value, dict):
        raise ValueProblem(f"{shown(value)} is no table of names", "write one such as { D = 'silent' }")
    if len(value) > ALIASES_MAX:
        raise ValueProblem(f"{len(value)} names are too many", f"use at most {ALIASES_MAX}")
    return {name(alias): name(element) for alias, element in value.items()}


def device(value: Any) -> str:
    """A network device of this host; it need not exist yet."""
    text = _text(value, "eth1")
    if not _DEVICE.fullmatch(text) or text in (".", ".."):
        raise ValueProblem(
            f"{shown(text)} can't be a network device", f"use one such as 'eth1' ({DEVICE_NAME_MAX} bytes)"
        )
    return text


def absolute_path(value: Any) -> PurePosixPath:
    """An absolute path."""
    text = _text(value, "/var/lib/meshd")
    if not text.startswith("/") or "\0" in text:
        raise ValueProblem(f"{shown(text)} is not an absolute path", "begin it with '/', as in '/var/lib/meshd'")
    return PurePosixPath(text)


def socket_path(value: Any) -> PurePosixPath:
    """An absolute path that is short enough for a UNIX socket."""
    path = absolute_path(value)
    length = len(str(path).encode())
    if length > SOCKET_PATH_BYTES_MAX:
        raise ValueProblem(
            f"a path of {length} bytes is too long for a socket", f"use one of at most {SOCKET_PATH_BYTES_MAX} bytes"
        )
    return path


def listen_address(value: Any) -> str:
    """Where to listen, such as `[::]:4556`; port 0 lets the kernel choose."""
    return _address(value, port_least=0)


def dial_address(value: Any) -> str:
    """Whom to dial, such as `10.11.0.1:4556`."""
    return _address(value, port_least=1)


def group_address(value: Any) -> str:
    """A multicast group and a port, such as `239.77.1.1:4557`."""
    text = _address(value, port_least=1)
    if not ipaddress.ip_address(text.rpartition(":")[0].strip("[]")).is_multicast:
        raise ValueProblem(f"{shown(text)} is no multicast group", "write one such as '239.77.1.1:4557'")
    return text


def hardware_address(value: Any) -> str:
    """Of an Ethernet station, such as `02:00:00:00:00:01`."""
    text = _text(value, "02:00:00:00:00:01").lower()
    if not _HARDWARE.fullmatch(text) or int(text[:2], 16) & 1:
        raise ValueProblem(f"{shown(value)} is no hardware address of a host", "write one such as '02:00:00:00:00:01'")
    return text


def stations(value: Any) -> tuple[Station, ...]:
    """A list of stations, each with its hardware address and its IP address."""
    if not isinstance(value, list) or len(value) > STATIONS_MAX:
        remedy = f"write at most {STATIONS_MAX} such as {_STATION_EXAMPLE}"
        raise ValueProblem(f"{shown(value)} is no list of stations", remedy)
    return tuple(_station(element) for element in value)


def _station(value: Any) -> Station:
    if not isinstance(value, dict) or set(value) != {"mac", "address"}:
        raise ValueProblem(f"{shown(value)} is no station", f"write it such as {_STATION_EXAMPLE}")
    address = _text(value["address"], "10.9.0.2")
    try:
        return Station(hardware_address(value["mac"]), str(ipaddress.ip_address(address)))
    except ValueError:
        raise ValueProblem(f"{shown(address)} is no IP address", f"write it such as {_STATION_EXAMPLE}") from None


def command(value: Any) -> tuple[str, ...]:
    """A program by its absolute path, and its arguments."""
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise ValueProblem(
            f"{shown(value)} is no command", "write one such as ['/usr/local/bin/radio-inhibit', 'los0']"
        )
    absolute_path(value[0])
    if any("\0" in each for each in value):
        raise ValueProblem(f"{shown(value)} is no command", "remove the NUL character")
    return tuple(value)


def _address(value: Any, port_least: int) -> str:
    """Numbers only: looking a name up would emit frames that nobody ordered."""
    remedy = "write an IP address and a port, such as '10.11.0.1:4556' or '[fd00::1]:4556'"
    text = _text(value, "10.11.0.1:4556")
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueProblem(f"{shown(text)} is not an address with a port", remedy)
    try:
        if match["v6"] is not None:
            ipaddress.IPv6Address(match["v6"])
        else:
            ipaddress.IPv4Address(match["v4"])
    except ValueError:
        raise ValueProblem(f"{shown(text)} holds no IP address (host names are not looked up)", remedy) from None
    if not port_least <= int(match["port"]) <= 65535:
        raise ValueProblem(f"port {match['port']} is out of range", f"write one from {port_least} to 65535")
    return text
