# SPDX-License-Identifier: Apache-2.0
"""From a file to a `Configuration`, or to one error that names everything that is wrong with it."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Final

from meshd.control.settings import Aap2Settings, ControlSettings
from meshd.emcon.settings import EmconProfile, EmconSettings
from meshd.link.settings import BearerKind, BearerSettings, Hook, NeighbourSettings
from meshd.node.settings import GroupSettings, NodeSettings
from meshd.routing.settings import RouteSettings, RoutingSettings
from meshd.settings import cross_check, schema
from meshd.settings.configuration import Configuration
from meshd.settings.foreign_check import check_mtcp, check_sockets
from meshd.settings.fountain_check import check_fountain, get_floor_bps, make_link_security, make_radio
from meshd.settings.line_finder import find_lines
from meshd.settings.problem import ConfigurationError
from meshd.settings.profile_check import read_profiles
from meshd.settings.profile_files import ProfileFile, read_profile_files
from meshd.settings.reader import DocumentReader, Row
from meshd.settings.signing_check import check_signing, make_signing
from meshd.settings.tls_check import check_tls, make_tls
from meshd.settings.toml_text import parse_toml_untrusted, whole_file
from meshd.stream.settings import StreamSettings

FILE_SIZE_MAX_BYTES: Final = 1024 * 1024
"""A larger file is no configuration."""
KEEPALIVE_LINE_S: Final = 1
KEEPALIVE_RADIO_S: Final = 15


def load(path: str | PathLike[str]) -> Configuration:
    """Read a configuration file.

    Errors:
        ConfigurationError: it can't be read, or what `parse` says of it.
    """
    file_name = str(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(FILE_SIZE_MAX_BYTES + 1)
    except OSError as error:
        reason = f"it can't be read ({error.strerror})"
        raise whole_file(file_name, reason, "check the path and that meshd's user may read it") from None
    if len(data) > FILE_SIZE_MAX_BYTES:
        raise whole_file(file_name, f"it has more than {FILE_SIZE_MAX_BYTES} bytes", "name a configuration file")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise whole_file(file_name, "it is not UTF-8 text", "save it as UTF-8", line) from None
    return parse(text, file_name, read_profile_files(Path(path)))


def parse(text: str, file_name: str, files: Sequence[ProfileFile] = ()) -> Configuration:
    """Read a configuration's text; `file_name` is for messages only. `files` are the profiles beside it.

    Errors:
        ConfigurationError: names every problem with its line.
    """
    document = parse_toml_untrusted(text, file_name)
    reader = DocumentReader(document, find_lines(text))
    reader.check_tables()
    node, store = reader.read_table(schema.NODE), reader.read_table(schema.STORE)
    control, emcon = reader.read_table(schema.CONTROL), reader.read_table(schema.EMCON)
    aap2, tls, security = (
        reader.read_table(schema.AAP2),
        reader.read_table(schema.TLS),
        reader.read_table(schema.SECURITY),
    )
    bearers, neighbours = reader.read_array(schema.BEARER), reader.read_array(schema.NEIGHBOUR)
    groups, routing = reader.read_array(schema.GROUP), reader.read_table(schema.ROUTING)
    routes, profiles = reader.read_array(schema.ROUTE), reader.read_family(schema.EMCON_PROFILE)
    streams = reader.read_table(schema.STREAMS)

    own = node.values.get("id")
    cross_check.check_node(reader, node, store)
    cross_check.check_bearers(reader, bearers, emcon)
    bearers = check_tls(reader, tls, bearers)
    cross_check.check_neighbours(reader, neighbours, bearers, own)
    check_signing(reader, security)
    check_mtcp(reader, neighbours, bearers)
    check_fountain(reader, security, neighbours, bearers, own)
    check_sockets(reader, control, aap2)
    cross_check.check_routes(reader, routes, neighbours, own)
    cross_check.check_groups(reader, groups)
    named = read_profiles(reader, profiles, bearers, emcon, files)
    if reader.problems:
        raise ConfigurationError(file_name, reader.problems)
    return Configuration(
        node=_node(node, store, groups),
        control=ControlSettings(**control.values),
        bearers=tuple(_bearer(row) for row in bearers),
        neighbours=tuple(NeighbourSettings(**row.values) for row in neighbours),
        routes=tuple(RouteSettings(**row.values) for row in routes),
        emcon=_emcon(emcon, named),
        streams=StreamSettings(streams.values["folder"], streams.values["quota"], streams.values["archive"]),
        aap2=_aap2(aap2, control),
        tls=make_tls(tls),
        security=make_link_security(security),
        signing=make_signing(security),
        routing=RoutingSettings(routing.values["advertise"]),
    )


def _node(node: Row, store: Row, groups: list[Row]) -> NodeSettings:
    return NodeSettings(
        id=node.values["id"],
        state_dir=node.values["state_dir"],
        quota_bytes=store.values["quota"],
        bundles_max=store.values["bundles_max"],
        known_max=store.values["known_max"],
        lifetime_ms=node.values["lifetime"],
        lifetime_max_ms=node.values["lifetime_max"],
        clock_trusted=node.values["clock_trusted"],
        status_reports=node.values["status_reports"],
        groups=tuple(GroupSettings(**row.values) for row in groups),
    )


def _bearer(row: Row) -> BearerSettings:
    """The defaults that depend on other keys: the device is called as the bearer, radios radiate, and lines, which
    cost nobody anything, are asked each second whether they live.
    """
    values = row.values
    radiating, keepalive_s = values["radiating"], values["keepalive"]
    if radiating is None:
        radiating = values["kind"] is not BearerKind.TERRESTRIAL
    if keepalive_s is None:
        is_line = values["kind"] is BearerKind.TERRESTRIAL and not radiating
        keepalive_s = KEEPALIVE_LINE_S if is_line else KEEPALIVE_RADIO_S
    return BearerSettings(
        name=values["name"],
        kind=values["kind"],
        device=values["device"] or values["name"],
        radiating=radiating,
        listen=values["listen"],
        rate_bps=values["rate"] or get_floor_bps(values),
        mark=values["mark"],
        keepalive_s=keepalive_s,
        mtcp_listen=values["mtcp_listen"],
        tls=values["tls"],
        congestion=values["congestion"],
        session_idle_s=values["session_idle"],
        link_idle_s=values["link_idle"],
        mdns=values["mdns"],
        radio=make_radio(values),
        management=values["management"],
        assured=values["assured"],
        hook=values["hook"] and Hook(values["hook"], values["hook_timeout"], values["hook_failure"]),
        dlep=values["dlep"],
        dlep_heartbeat_s=values["dlep_heartbeat"],
    )


def _aap2(aap2: Row, control: Row) -> Aap2Settings | None:
    """Its group is that of the control socket's operators unless it has one of its own."""
    if aap2.values["socket"] is None:
        return None
    group = aap2.values["group"] or control.values["operator_group"] or control.values["group"]
    return Aap2Settings(aap2.values["socket"], group, control.values["admin_group"])


def _emcon(emcon: Row, profiles: dict[str, EmconProfile]) -> EmconSettings:
    return EmconSettings(
        profiles=profiles,
        boot_posture=emcon.values["boot_posture"],
        lease_s=float(emcon.values["lease"]),
        gate=emcon.values["gate"],
    )
