# SPDX-License-Identifier: Apache-2.0
"""Durable forwarding through one daemon: source process -> meshd -> sink process over loopback TCPCLv4.

Every bundle is on the daemon's disk before the source gets its acknowledgement. Beside it, in the same run, a bare TCP
copy of the same bytes (source -> copier -> sink): what this machine does when nobody thinks about the data. All
processes share its cores.

    python -m tests.bench.forward [--tls] [--quick] [--json]

With --tls the sessions on both sides of the daemon are TLS 1.3 with certificates, and only large bundles are measured.
"""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from meshd.bundle.eid import Eid
from meshd.security.keys import KeyKind, make_private_key, private_key_to_pem
from meshd.security.pki import issue_certificate, make_authority, to_pem
from tests.bench.support.harness import Daemon, Helper, free_port, helper, median_of, print_table, run_main, scratch

TRAFFIC: Final = "tests.bench.support.traffic"

CONFIG: Final = """
[node]
id = "dtn://relay/"
state_dir = "{directory}/state"
[store]
quota = "8 GiB"
[control]
socket = "{directory}/control.sock"
[[bearer]]
name = "lan0"
kind = "terrestrial"
device = "lo"
radiating = false
listen = "127.0.0.1:{port}"
rate = "10 Gbit/s"
[[neighbour]]
node = "dtn://source/"
bearer = "lan0"
[[neighbour]]
node = "dtn://sink/"
bearer = "lan0"
address = "127.0.0.1:{sink_port}"
[emcon]
boot_posture = "OPEN"
gate = false
"""


class Load(NamedTuple):
    """One size of bundle."""

    name: str
    payload_bytes: int
    bundles: int
    quick_bundles: int


LOADS: Final = (
    Load("100 B", 100, 100_000, 40_000),
    Load("1 KiB", 1024, 100_000, 40_000),
    Load("1 MiB", 1 << 20, 1500, 500),
)
WARM_UP: Final = Load("warm-up", 1024, 5_000, 5_000)
RUNS: Final = 3


class Run(NamedTuple):
    """One batch through the daemon."""

    load: Load
    bundles: int
    series: int


def plan(quick: bool) -> list[Run]:
    """The batches in their order; the sink has to know them beforehand."""
    loads = [WARM_UP, *(load for load in LOADS for _ in range(1 if quick else RUNS))]
    return [Run(load, load.quick_bundles if quick else load.bundles, series) for series, load in enumerate(loads)]


def forward(run: Run, daemon: Daemon, port: int, sink: Helper, tls: Path | None = None) -> dict[str, float]:
    """One batch: bundles per second from the first byte sent to the last bundle taken, CPU of the daemon per bundle."""
    with helper(TRAFFIC, "source", port, run.load.payload_bytes, run.bundles, run.series, tls=tls) as source:
        cpu_begin_s = daemon.cpu_s()
        times = source.read()
        took_s = sink.read()["end"] - times["begin"]
        cpu_s = daemon.cpu_s() - cpu_begin_s
    return {"bundles_per_s": run.bundles / took_s, "cpu_us": cpu_s / run.bundles * 1e6}


def copy(size: int, count: int) -> dict[str, float]:
    """The bare TCP copy of the same bytes."""
    with (
        helper(TRAFFIC, "bytes-sink", size * count) as sink,
        helper(TRAFFIC, "copier", sink.read()["port"]) as copier,
        helper(TRAFFIC, "bytes-source", copier.read()["port"], size, count) as source,
    ):
        begin = source.read()["begin"]
        return {"bundles_per_s": count / (sink.read()["end"] - begin)}


def measure(quick: bool) -> dict[str, float]:
    """All loads; prints the table."""
    runs = plan(quick)
    results: dict[str, list[dict[str, float]]] = {}
    port = free_port()
    batches = [f"{run.load.payload_bytes}:{run.bundles}" for run in runs]
    with scratch() as directory, helper(TRAFFIC, "sink", *batches) as sink:
        config = CONFIG.format(directory=directory, port=port, sink_port=sink.read()["port"])
        with Daemon(directory, config) as daemon:
            idle_rss_mb = daemon.rss_mb()
            for run in runs:
                results.setdefault(run.load.name, []).append(forward(run, daemon, port, sink))
            loaded_rss_mb = daemon.rss_mb()
            ready_s = daemon.ready_s
    return show(quick, results, {"idle_rss_mb": idle_rss_mb, "ready_s": ready_s}, loaded_rss_mb)


def measure_tls(quick: bool) -> dict[str, float]:
    """Large bundles over TLS on both sides; prints one line."""
    load = LOADS[-1]
    count = load.quick_bundles if quick else load.bundles
    runs = [Run(load, count, series) for series in range(2 if quick else RUNS + 1)]
    port = free_port()
    with scratch() as directory:
        tables = make_certificates(directory)
        with helper(TRAFFIC, "sink", *[f"{load.payload_bytes}:{count}" for _ in runs], tls=directory / "sink") as sink:
            config = CONFIG.format(directory=directory, port=port, sink_port=sink.read()["port"])
            with Daemon(directory, config + tables) as daemon:
                results = [forward(run, daemon, port, sink, directory / "source") for run in runs]
    rate = median_of(results[1:])  # the first one warms up
    mbit_per_s = rate["bundles_per_s"] * 8e-6 * load.payload_bytes
    print(f"durable forwarding over TLS 1.3 on both sides: {mbit_per_s:.0f} Mbit/s in bundles of {load.name}")
    print(f"  CPU {rate['cpu_us']:.0f} us/bundle")
    return {"mbit_per_s_1m_tls": mbit_per_s}


def make_certificates(directory: Path) -> str:
    """For the daemon and both its neighbours; the daemon's [tls] table."""
    now = datetime.now(UTC)
    authority = make_authority("bench", make_private_key(KeyKind.ED25519), 1, now, timedelta(days=1))
    for serial, name in enumerate(("relay", "source", "sink"), 2):
        folder = directory / name
        folder.mkdir()
        key = make_private_key(KeyKind.ED25519)
        certificate = issue_certificate(
            authority, Eid(f"dtn://{name}/"), key.public_key(), serial, now, timedelta(days=1)
        )
        (folder / "node.pem").write_bytes(to_pem(certificate))
        (folder / "ca.pem").write_bytes(to_pem(authority.certificate))
        (folder / "node.key").touch(mode=0o600)
        (folder / "node.key").write_bytes(private_key_to_pem(key))
    own = directory / "relay"
    return f'[tls]\ncertificate = "{own}/node.pem"\nkey = "{own}/node.key"\nca = "{own}/ca.pem"\n'


def show(
    quick: bool, results: dict[str, list[dict[str, float]]], figures: dict[str, float], loaded_rss_mb: float
) -> dict[str, float]:
    """Add the bare copy, print the table, name the figures."""
    table = [("payload", "bundles/s", "Mbit/s", "CPU us/bundle", "TCP copy Mbit/s", "ratio")]
    rates: dict[str, dict[str, float]] = {}
    for load in LOADS:
        rate = median_of(results[load.name])
        count = load.quick_bundles if quick else load.bundles
        copied = median_of([copy(load.payload_bytes, count) for _ in range(1 if quick else RUNS)])
        mbit = 8e-6 * load.payload_bytes
        rate["mbit_per_s"] = rate["bundles_per_s"] * mbit
        rate["ratio"] = rate["bundles_per_s"] / copied["bundles_per_s"]
        rates[load.name] = rate
        table.append(
            (
                load.name,
                f"{rate['bundles_per_s']:.0f}",
                f"{rate['mbit_per_s']:.0f}",
                f"{rate['cpu_us']:.1f}",
                f"{copied['bundles_per_s'] * mbit:.0f}",
                f"{rate['ratio']:.3f}",
            )
        )
    print_table("durable forwarding, one daemon between source and sink on loopback", table)
    print(f"  ready in {figures['ready_s']:.2f} s")
    print(f"  resident {figures['idle_rss_mb']:.0f} MB idle, {loaded_rss_mb:.0f} MB after the load")
    return {
        "bundles_per_s_100b": rates["100 B"]["bundles_per_s"],
        "bundles_per_s_1k": rates["1 KiB"]["bundles_per_s"],
        "mbit_per_s_1m": rates["1 MiB"]["mbit_per_s"],
        "ratio_to_tcp_copy_1m": rates["1 MiB"]["ratio"],
        "cpu_us_per_bundle_1k": rates["1 KiB"]["cpu_us"],
        **figures,
    }


VARIANTS: Final = {"tls": ("measure TLS 1.3 on both sides of the daemon instead", measure_tls)}

if __name__ == "__main__":
    sys.exit(run_main("Durable forwarding through one daemon, beside a bare TCP copy.", measure, VARIANTS))
