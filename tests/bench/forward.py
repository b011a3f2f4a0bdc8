# SPDX-License-Identifier: Apache-2.0
"""Durable forwarding: source process -> one meshd, or two -> sink process over loopback TCPCLv4, plain and TLS 1.3.

Every bundle is on a daemon's disk before it is acknowledged. Beside it, in the same run: a bare TCP copy of the same
bytes over as many hops, `dd` with fsync of the same bytes, and a peer where one is named (see support/relay.py). All
processes share this machine's cores.

    python -m tests.bench.forward [--tls] [--quick] [--json]

With --tls only one hop over TLS and only 1 MiB are measured. A bundle has at most 16 MiB with its headers: what is
called 16 MiB here has 1 KiB less payload.
"""

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, NamedTuple

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.support.harness import Helper, helper, median_of, print_table, quick_share, run_main, scratch
from tests.bench.support.reference import dd_per_s, tcp_copy_per_s
from tests.bench.support.relay import Chain, chain, make_certificates, peer, peer_program

TRAFFIC: Final = "tests.bench.support.traffic"


class Load(NamedTuple):
    """One size of bundle."""

    name: str
    key: str
    payload_bytes: int
    bundles: int
    quick_bundles: int

    def count(self, quick: bool) -> int:
        """Bundles in one run."""
        return max(1, int(self.quick_bundles * quick_share())) if quick else self.bundles


class Way(NamedTuple):
    """What lies between source and sink."""

    hops: int
    is_tls: bool

    @property
    def suffix(self) -> str:
        """Of the names of its figures."""
        return ("" if self.hops == 1 else f"_{self.hops}_hops") + ("_tls" if self.is_tls else "")


Figures = dict[str, float]
LOADS: Final = (
    Load("100 B", "100b", 100, 100_000, 30_000),
    Load("1 KiB", "1k", 1024, 100_000, 30_000),
    Load("16 KiB", "16k", 16 * 1024, 40_000, 6_000),
    Load("64 KiB", "64k", 64 * 1024, 16_000, 3_000),
    Load("1 MiB", "1m", 1 << 20, 1_500, 300),
    Load("16 MiB", "16m", (16 << 20) - 1024, 96, 16),
)
WARM_UP: Final = Load("warm-up", "", 1024, 5_000, 5_000)
RUNS: Final = 3
WAYS: Final = (Way(1, False), Way(2, False), Way(1, True), Way(2, True))
QUICK_LOADS: Final = {WAYS[0]: LOADS, WAYS[1]: (LOADS[1], LOADS[4]), WAYS[2]: (LOADS[1], LOADS[4]), WAYS[3]: LOADS[4:5]}
SMALL_BYTES: Final = 4096
"""Up to here bundles per second are the figure, above it Mbit/s."""
DSYNC_BLOCKS: Final = 200


def batch_s(load: Load, count: int, series: int, port: int, sink: Helper, tls: Path | None) -> float:
    """One batch: seconds from the first byte sent to the last bundle taken."""
    with helper(TRAFFIC, "source", port, load.payload_bytes, count, series, tls=tls) as source:
        begin: float = source.read()["begin"]
        end: float = sink.read()["end"]
    return end - begin


def forward(load: Load, count: int, series: int, nodes: Chain, sink: Helper, tls: Path | None = None) -> Figures:
    """One batch through the daemons: bundles per second, and their CPU time per bundle."""
    cpu_begin_s = nodes.cpu_s()
    took_s = batch_s(load, count, series, nodes.port, sink, tls)
    return {"bundles_per_s": count / took_s, "cpu_us": (nodes.cpu_s() - cpu_begin_s) / count * 1e6}


def batches_of(loads: tuple[Load, ...], quick: bool) -> list[Load]:
    """The batches in their order, the warm-up first; the sink has to know them beforehand."""
    return [WARM_UP, *(load for load in loads for _ in range(1 if quick else RUNS))]


def sink_of(batches: list[Load], quick: bool, tls: Path | None = None) -> AbstractContextManager[Helper]:
    """The sink for these batches."""
    return helper(TRAFFIC, "sink", *[f"{load.payload_bytes}:{load.count(quick)}" for load in batches], tls=tls)


def run_way(way: Way, loads: tuple[Load, ...], quick: bool) -> tuple[dict[Load, Figures], str]:
    """All loads over one way: the medians, and a line about the first daemon."""
    batches = batches_of(loads, quick)
    with scratch() as directory:
        folder = directory / "tls" if way.is_tls else None
        if folder is not None:
            make_certificates(folder)
        source_tls = folder / "source" if folder else None
        with (
            sink_of(batches, quick, folder / "sink" if folder else None) as sink,
            chain(directory, way.hops, sink.read()["port"], folder) as nodes,
        ):
            idle_mb = nodes.rss_mb()
            results = collect_in_order(batches, quick, nodes, sink, source_tls)
            memory = f"resident {idle_mb:.0f} MB idle, {nodes.rss_mb():.0f} MB after the load"
            return medians(batches, results), f"ready in {nodes.daemons[0].ready_s:.2f} s; {memory}"


def collect_in_order(
    batches: list[Load], quick: bool, nodes: Chain, sink: Helper, tls: Path | None = None
) -> list[Figures]:
    """Run the batches one after the other through the daemons."""
    return [forward(load, load.count(quick), series, nodes, sink, tls) for series, load in enumerate(batches)]


def medians(batches: list[Load], results: list[Figures]) -> dict[Load, Figures]:
    """By load, without the warm-up."""
    by_load: dict[Load, list[Figures]] = {}
    for load, result in zip(batches, results, strict=True):
        by_load.setdefault(load, []).append(result)
    return {load: median_of(runs) for load, runs in by_load.items() if load is not WARM_UP}


def run_peer(program: str, loads: tuple[Load, ...], quick: bool) -> dict[Load, Figures]:
    """The named peer over one plain hop."""
    batches = batches_of(loads, quick)
    with (
        scratch() as directory,
        sink_of(batches, quick) as sink,
        peer(program, directory / "peer", sink.read()["port"]) as port,
    ):
        results: list[Figures] = []
        for series, load in enumerate(batches):
            count = load.count(quick)
            results.append({"bundles_per_s": count / batch_s(load, count, series, port, sink, None)})
        return medians(batches, results)


def rate_figure(load: Load, bundles_per_s: float) -> tuple[str, float]:
    """The name and value under which a rate is reported."""
    if load.payload_bytes <= SMALL_BYTES:
        return f"bundles_per_s_{load.key}", bundles_per_s
    return f"mbit_per_s_{load.key}", bundles_per_s * 8e-6 * load.payload_bytes


def show(way: Way, results: dict[Load, Figures], references: dict[str, dict[Load, float]]) -> Figures:
    """Print one way's table; its figures, with a ratio to each reference."""
    figures: Figures = {}
    table = [("payload", "bundles/s", "Mbit/s", "CPU us/bundle", *(f"/ {name}" for name in references))]
    for load, result in results.items():
        rate = result["bundles_per_s"]
        name, value = rate_figure(load, rate)
        figures[name + way.suffix] = value
        figures[f"cpu_us_per_bundle_{load.key}{way.suffix}"] = result["cpu_us"]
        ratios = []
        for reference, rates in references.items():
            ratios.append(rate / rates[load])
            figures[f"ratio_to_{reference.replace(' ', '_')}_{load.key}{way.suffix}"] = ratios[-1]
        mbit_per_s = rate * 8e-6 * load.payload_bytes
        cells = (f"{rate:.0f}", f"{mbit_per_s:.0f}", f"{result['cpu_us']:.1f}", *(f"{ratio:.3f}" for ratio in ratios))
        table.append((load.name, *cells))
    crypto = "TLS 1.3" if way.is_tls else "plain TCP"
    print_table(f"durable forwarding over {way.hops} node{'s' * (way.hops > 1)}, {crypto}", table)
    return figures


def measure(quick: bool) -> Figures:
    """Every way and every load; prints the tables."""
    figures: Figures = {}
    runs = 1 if quick else RUNS
    copies: dict[int, dict[Load, float]] = {}
    with scratch() as directory:
        fsynced = {load: dd_per_s(directory, load.payload_bytes, load.count(quick), "conv=fsync") for load in LOADS}
        figures["dd_dsync_per_s_1k"] = dd_per_s(directory, 1024, DSYNC_BLOCKS, "oflag=dsync")
    for way in WAYS:
        loads = QUICK_LOADS[way] if quick else LOADS
        results, memory = run_way(way, loads, quick)
        copied = copies.setdefault(way.hops, {})
        for load in loads:
            if load not in copied:
                each = [{"per_s": tcp_copy_per_s(load.payload_bytes, load.count(quick), way.hops)} for _ in range(runs)]
                copied[load] = median_of(each)["per_s"]
        references = {"tcp copy": copied}
        if way == WAYS[0]:
            references["dd fsync"] = fsynced
            program = peer_program()
            if program is not None:
                peers = run_peer(program, loads, quick)
                references["peer"] = {load: result["bundles_per_s"] for load, result in peers.items()}
                figures |= {f"peer_{name}": value for name, value in map_rates(references["peer"])}
            figures |= {f"tcp_copy_{name}": value for name, value in map_rates(copied)}
        figures |= show(way, results, references)
        print(f"  {memory}")
    print(f"dd with dsync, 1 KiB each: {figures['dd_dsync_per_s_1k']:.0f}/s")
    return figures


def map_rates(rates: dict[Load, float]) -> list[tuple[str, float]]:
    """Rates of a reference as figures."""
    return [rate_figure(load, rate) for load, rate in rates.items()]


def measure_tls(quick: bool) -> Figures:
    """One hop over TLS in large bundles alone."""
    way = Way(1, True)
    results, _ = run_way(way, LOADS[4:5], quick)
    return show(way, results, {})


VARIANTS: Final = {"tls": ("measure one hop over TLS 1.3 in bundles of 1 MiB alone", measure_tls)}

if __name__ == "__main__":
    sys.exit(run_main("Durable forwarding beside a bare TCP copy and dd.", measure, VARIANTS))
