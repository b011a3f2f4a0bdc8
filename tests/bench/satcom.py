# SPDX-License-Identifier: Apache-2.0
"""A radio link of 10 Mbit/s and 600 ms there and back: meshd beside TCP CUBIC and TCP BBR over the same emulator.

meshd is two daemons with the fountain layer, sealed and durable; TCP is a plain socket copy of as many bytes. Rates are
counted on Ethernet frames of 1514 bytes, loss takes air time, in both directions. Ratios are to rate x (1 - loss), or
to what TCP made of the same link in the same run. All labs of one run share the cores of this machine; the daemons'
stores lie on a RAM disk. With --quick 5 % loss alone, a minute, the labs beside each other.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.support.harness import BenchError, print_table, run_main
from tests.lab.radio_run import LOSSES_PCT, Row, RowFailed, run_row

AVAILABLE: Final = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
CONGESTIONS: Final = ("cubic", "bbr")
QUICK_LOSS_PCT: Final = 5
JOBS: Final = 2
FILE_MIB: Final = 20
STEADY_MIB: Final = 48
TCP_LIMIT_S: Final = {True: 14, False: 40}
FLASHES: Final = {True: 20, False: 100}
FLASH_BULK_MIB: Final = 0.4
"""What the link carries from one urgent message to the next, and a little."""
MULTICAST_MIB: Final = {True: 2, False: 10}
BLIND: Final[Mapping[bool, Mapping[str, float]]] = {
    True: {"count": 20, "size_mib": 0.25},
    False: {"count": 100, "size_mib": 1},
}

Figures = dict[str, float | None]


def tcp_rows(pct: int, quick: bool) -> Iterable[Row]:
    """Copies by each congestion control that the kernel has; with much loss for as long as the limit allows."""
    values = {"size_mib": FILE_MIB if quick else STEADY_MIB, "limit_s": TCP_LIMIT_S[quick]}
    known = AVAILABLE.read_text().split()
    for name in CONGESTIONS:
        if name in known:
            yield Row(f"{name} {pct}", "tcp", {"loss": pct / 100}, values | {"congestion": name})


def make_batches(quick: bool) -> list[list[Row]]:
    """What takes most of the processor is not run beside what is compared."""
    links: list[Row] = []
    for pct in [QUICK_LOSS_PCT] if quick else LOSSES_PCT:
        net = {"loss": pct / 100}
        links.append(Row(f"file {pct}", "file", net))
        if not quick:
            links.append(Row(f"steady {pct}", "file", net, {"size_mib": STEADY_MIB}))
        links += tcp_rows(pct, quick)
    flashes = {"count": FLASHES[quick], "bulk_mib": FLASHES[quick] * FLASH_BULK_MIB + 4}
    silent = {"loss": 0.2, "delay_s": 0.05, "is_blind": True, "bearer_lines": ["emcon_rtc = 0"]}
    group = {"loss": 0.05, "receivers": 5, "is_multicast": True}
    others = [
        Row("multicast", "multicast", group, {"size_mib": MULTICAST_MIB[quick]}),
        Row("flash", "flash", {"loss": QUICK_LOSS_PCT / 100}, flashes),
        Row("blind", "blind", silent, BLIND[quick]),
    ]
    return [links, others]


def run_rows(rows: Sequence[Row], jobs: int) -> dict[str, dict[str, float]]:
    """All of them, some at a time. Errors: BenchError."""
    with ThreadPoolExecutor(jobs) as pool:
        results = [(row.name, pool.submit(run_row, row, 1)) for row in rows]
        try:
            return {name: result.result() for name, result in results}
        except RowFailed as error:
            pool.shutdown(cancel_futures=True)
            raise BenchError(str(error)) from error


def loss_figures(pct: int, found: Mapping[str, Mapping[str, float]]) -> Figures:
    """All that is measured at one loss."""
    file = found[f"file {pct}"]
    goodput = found.get(f"steady {pct}", file)["goodput_ratio"]
    figures: Figures = {f"goodput_ratio_{pct}pct": goodput}
    for name in CONGESTIONS:
        reference = found.get(f"{name} {pct}")
        ratio = None if reference is None else goodput / max(reference["goodput_ratio"], 1e-6)
        figures[f"ratio_to_{name}_{pct}pct"] = ratio
    figures[f"file_20mib_s_{pct}pct"] = file["file_s"]
    figures[f"wire_per_payload_{pct}pct"] = file["wire_per_payload"]
    return figures


def show_losses(losses: Sequence[int], found: Mapping[str, Mapping[str, float]]) -> None:
    """The table beside TCP."""
    head = ("loss", "meshd", *CONGESTIONS, *(f"to {name}" for name in CONGESTIONS), "20 MiB s", "wire/payload")
    rows: list[tuple[str, ...]] = [head]
    for pct in losses:
        file = found[f"file {pct}"]
        figures = loss_figures(pct, found)
        shares = [found.get(f"{name} {pct}", {}).get("goodput_ratio") for name in CONGESTIONS]
        ratios = [figures[f"ratio_to_{name}_{pct}pct"] for name in CONGESTIONS]
        cells = [figures[f"goodput_ratio_{pct}pct"], *shares, *ratios]
        rows.append(
            (
                f"{pct} %",
                *("no such kernel part" if cell is None else f"{cell:.3f}" for cell in cells),
                f"{file['file_s']:.2f}",
                f"{file['wire_per_payload']:.3f}",
            )
        )
    print_table("10 Mbit/s, 600 ms, shares of rate x (1 - loss); TCP behind its slow start", rows)


def measure(quick: bool) -> Figures:
    """All rows; prints the tables."""
    losses = [QUICK_LOSS_PCT] if quick else list(LOSSES_PCT)
    found: dict[str, dict[str, float]] = {}
    for batch in make_batches(quick):
        found |= run_rows(batch, JOBS)
    show_losses(losses, found)
    figures: Figures = {}
    for pct in losses:
        figures |= loss_figures(pct, found)
    figures["flash_p95_s"] = found["flash"]["flash_p95_s"]
    figures["multicast_bytes_ratio"] = found["multicast"]["multicast_bytes_ratio"]
    figures["blind_complete_pct"] = found["blind"]["blind_complete_pct"]
    check(found)
    others: list[tuple[str, ...]] = [("figure", "now")]
    others += [
        (name, f"{figures[name]:.3f}") for name in ("flash_p95_s", "multicast_bytes_ratio", "blind_complete_pct")
    ]
    print_table(f"FLASH during bulk at {QUICK_LOSS_PCT} % loss; one file for 5 receivers; blind at 20 % loss", others)
    return figures


def check(found: Mapping[str, Mapping[str, float]]) -> None:
    """Fast and wrong is no figure. Errors: BenchError."""
    for name, figures in found.items():
        if figures.get("wrong"):
            raise BenchError(f"{name}: {figures['wrong']:g} messages are not what was sent")
    if found["multicast"]["receivers_complete"] < 5:
        raise BenchError(f"multicast: only {found['multicast']['receivers_complete']:g} receivers are complete")
    if found["blind"]["frames_back"]:
        raise BenchError(f"blind: the silent node sent {found['blind']['frames_back']:g} frames")


if __name__ == "__main__":
    sys.exit(run_main("meshd, TCP CUBIC and TCP BBR over a radio link with loss.", measure))
