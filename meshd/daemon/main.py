# SPDX-License-Identifier: Apache-2.0
"""The `meshd` command."""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from meshd.base.errors import GateError, MeshdError, SettingsError
from meshd.base.version import __version__
from meshd.bearer.congestion import check_congestion
from meshd.daemon.node import TIME_FLOOR_FILE, Node
from meshd.daemon.radio_state import load_link_files
from meshd.daemon.time_floor import TimeFloor
from meshd.daemon.tls import load_identity
from meshd.emcon.gate import EmissionGate, NoGate
from meshd.link.settings import Station
from meshd.linux.covering_gate import CoveringGate
from meshd.linux.device_stack import DeviceStack
from meshd.linux.emission_gate import KernelGate
from meshd.settings.configuration import Configuration
from meshd.settings.load import load

CONFIG_DEFAULT: Final = "/etc/meshd/meshd.toml"
SWITCH_INTERVAL_S: Final = 0.0005
"""How long the trio thread may keep the store's writer waiting for the interpreter; Python's own 5 ms is a commit."""
GC_THRESHOLDS: Final = (50_000, 20, 100)
"""Bundles in transit are no garbage: at Python's own 700 objects looking for it takes a tenth of the time."""
EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 2
"""argparse ends with 2 as well: what was asked for makes no sense."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon until SIGTERM; returns its exit code."""
    arguments = _parser().parse_args(argv)
    path = Path(arguments.check_config or arguments.config)
    try:
        configuration = load(path)
    except SettingsError as error:
        sys.stderr.write(f"meshd: {error}\n")
        return EXIT_CONFIG
    if arguments.check_config:
        return _check(path, configuration)
    exit_code = 0
    try:
        trio.run(_run, configuration, path)
    except* SettingsError as group:
        for reason in _reasons(group):
            sys.stderr.write(f"meshd: {reason}\n")
        exit_code = EXIT_CONFIG
    except* (MeshdError, OSError) as group:
        for reason in _reasons(group):
            sys.stderr.write(f"meshd: {reason}\n")
        exit_code = EXIT_FAILED
    return exit_code


async def _run(configuration: Configuration, path: Path) -> None:
    os.umask(0o077)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    node = Node(configuration, path, make_gate(configuration))
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    await node.run()


def make_gate(configuration: Configuration) -> EmissionGate:
    """The kernel's gate, or none where the configuration does without.

    What a site shaped is noted beside the control socket, in a directory that outlives the daemon but not a boot.
    """
    if not configuration.emcon.gate:
        return NoGate()
    management: dict[str, tuple[Station, ...]] = {}
    for bearer in configuration.bearers:
        management[bearer.device] = management.get(bearer.device, ()) + bearer.management
    folder = Path(configuration.control.socket).parent
    return CoveringGate(lambda stations: KernelGate(folder, stations), DeviceStack(), management)


def _check(path: Path, configuration: Configuration) -> int:
    """Say that the file is good, and what this kernel can't do of it."""
    sys.stdout.write(
        f"{path}: good: {configuration.node.id.uri}, {len(configuration.bearers)} bearers,"
        f" {len(configuration.neighbours)} neighbours, {len(configuration.routes)} routes\n"
    )
    if configuration.tls is not None:
        _check_tls(configuration)
    try:
        load_link_files(configuration)
    except SettingsError as error:
        sys.stdout.write(f"link keys: {error}\n")
    for bearer in configuration.bearers:
        problem = check_congestion(bearer.congestion)
        if problem:
            sys.stdout.write(f"bearer {bearer.name}: {problem}\n")
    if not configuration.emcon.gate:
        sys.stdout.write("emission gate: off ([emcon] gate = false): silence is not kept by the kernel\n")
        return 0
    lacking, weak = _lacking()
    for piece in (*lacking, *weak):
        sys.stdout.write(f"emission gate: {piece}\n")
    for bearer in configuration.bearers if lacking or weak else ():
        if bearer.assured:
            sys.stdout.write(f"bearer {bearer.name}: RX_ONLY is refused here, since it is assured: order OFF\n")
    return 0


def _check_tls(configuration: Configuration) -> None:
    """Say what is wrong with the [tls] files, by this host's clock."""
    try:
        identity = load_identity(configuration, TimeFloor(Path(configuration.node.state_dir) / TIME_FLOOR_FILE))
    except (SettingsError, OSError) as error:
        sys.stdout.write(f"tls: {error}\n")
        return
    for warning in [] if identity is None else identity.warn():
        sys.stdout.write(f"tls: {warning}\n")


def _lacking() -> tuple[list[str], list[str]]:
    """Pieces without which there is no gate, and those without which a path stays open."""
    try:
        gate = KernelGate(None)
    except GateError as error:
        return [str(error)], []
    try:
        return gate.probe(), gate.probe_weak()
    except GateError as error:
        return [str(error)], []
    finally:
        gate.disconnect()


def _reasons(group: BaseExceptionGroup[BaseException]) -> list[str]:
    """The single errors within."""
    reasons: list[str] = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            reasons.extend(_reasons(error))
        else:
            reasons.append(str(error))
    return reasons


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meshd",
        description="Delay-tolerant mesh networking daemon: carries bundles over any bearer, silent on order.",
        epilog="See meshd(8) and meshd.toml(5). Operators use meshctl(1).",
    )
    parser.add_argument("--config", metavar="FILE", default=CONFIG_DEFAULT, help="configuration (default: %(default)s)")
    parser.add_argument(
        "--check-config", metavar="FILE", help="check this configuration, say what is wrong with it, end"
    )
    parser.add_argument("--version", action="version", version=f"meshd {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
