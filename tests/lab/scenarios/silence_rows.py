# SPDX-License-Identifier: Apache-2.0
"""Measures of silence between real daemons: what an independent sniffer sees, with the gate and without.

Arguments: JSON, the measure's name to its values. Prints one JSON object, name to figures. Each measure begins and
ends with node b's daemon running and OPEN. A sleep is a window of measurement: silence is looked at for so long, since
it has no event that could be waited for; what has an event is waited for by `wait_until`.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from meshd.control.errors import ControlError
from netns_lab.backend import run_program
from netns_lab.errors import LabError
from netns_lab.scenario import ScenarioContext
from netns_lab.timeline import wait_until
from tests.lab.silence_net import (
    END_TIMEOUT_S,
    GATE_HELPER,
    GROUP,
    KINDS,
    Flood,
    Listener,
    SilenceNet,
    silence_lab,
)

FLOOD_PER_S: Final = 1500.0
STREAM_PER_S: Final = 100.0
SHAPER_BPS: Final = 500_000
BACKLOG_BYTES: Final = 125_000
"""2 s of it."""
DISK_BYTES: Final = 48 << 20
STRANGER_UID: Final = 65534
PROMISE_MS: Final = 5.0
LATE_S: Final = 0.25
"""How long after an order frames are looked for: 50 times what is allowed."""

Figures = dict[str, float]


def measure_boot(net: SilenceNet, for_s: float = 3) -> Figures:
    """A host starts without any state; the helper of the boot unit first, then the wire, then the daemon."""
    opened = _boot(net, for_s, 'boot_posture = "OPEN"', with_helper=False)
    silent = _boot(net, for_s, with_helper=True)
    net.order("unrestricted")
    return {"frames_open": opened, "frames_silent": silent, "for_s": for_s}


def _boot(net: SilenceNet, for_s: float, *emcon_lines: str, with_helper: bool) -> int:
    net.b.stop()
    (net.b.state / "emcon.state").unlink(missing_ok=True)
    net.b.configure(*emcon_lines)
    net.b.run("ip link set rad0 down")
    net.b.run("nft flush ruleset")
    net.b.run("tc qdisc delete dev rad0 clsact") if "clsact" in net.b.run("tc qdisc show dev rad0") else None
    if with_helper:
        net.b.run(f"{GATE_HELPER} {net.b.config}")
    since_s = time.monotonic()
    net.b.run("ip link set rad0 up")
    with net.attack():
        time.sleep(for_s / 4)
        net.b.start()
        time.sleep(max(0.0, since_s + for_s - time.monotonic()))
    return net.left(since_s).frames


def measure_attack(net: SilenceNet, for_s: float = 4, runs: int = 1) -> Figures:
    """Provoked while OPEN, then in RX_ONLY, where a multicast stream has to arrive all the same."""
    listener = Listener(net, "b", "rad0", GROUP)
    since_s = time.monotonic()
    with net.attack() as attack:
        time.sleep(for_s)
    opened = net.left(since_s).frames
    net.order("silent")
    silent, sent, heard, provoked = [], 0, 0, 0
    for _ in range(runs):
        listener.take(0.0)
        since_s = time.monotonic()
        with net.attack() as attack, Flood(net, "rad0", STREAM_PER_S, to=GROUP, node="a") as stream:
            time.sleep(for_s)
        heard += len(listener.take())
        silent.append(net.left(since_s).frames)
        sent, provoked = sent + stream.sent, provoked + attack.sent
    listener.close()
    net.order("unrestricted")
    return {
        "frames_open": opened,
        "frames_silent": max(silent),
        "runs_silent": sum(frames == 0 for frames in silent),
        "provoking_per_s": provoked / for_s / runs,
        "multicast_pct": heard * 100 / sent,
        "for_s": for_s,
    }


def measure_closing(net: SilenceNet, count: int = 5) -> Figures:
    """Orders to fall silent while datagrams leave without a pause: when the last one left, seen from the moment when
    the caller has its answer."""
    last_ms, late, open_frames, took_ms = [], 0, [], []
    with net.b.client() as client, Flood(net, "rad0", FLOOD_PER_S):
        for _ in range(count):
            client.set_emcon("unrestricted")
            begun_s = time.monotonic()
            time.sleep(LATE_S)
            ordered_s = time.monotonic()
            client.set_emcon("silent")
            returned_s = time.monotonic()
            time.sleep(LATE_S)
            took_ms.append((returned_s - ordered_s) * 1e3)
            open_frames.append(net.left(begun_s, ordered_s).frames)
            last_s = net.left(begun_s).last_s
            assert last_s is not None, "frames left before the order"
            last_ms.append((last_s - returned_s) * 1e3)
            late += net.left(returned_s + PROMISE_MS / 1e3).frames
    net.order("unrestricted")
    return {
        "closings": count,
        "last_frame_ms": max(last_ms),
        "late_frames": late,
        "order_median_ms": sorted(took_ms)[count // 2],
        "open_frames_per_s": min(open_frames) / LATE_S,
    }


def measure_backlog(net: SilenceNet) -> Figures:
    """2 s of datagrams stand in the shaper's queue when the order comes."""
    opened = _queue_and(net, time.monotonic)
    silent = _queue_and(net, lambda: net.order("silent"))
    net.order("unrestricted")
    is_shaped = "tbf" in net.b.run("tc qdisc show dev rad0 root")
    net.b.run("tc qdisc delete dev rad0 root")
    return {"frames_open": opened, "frames_silent": silent, "shaper_is_back": is_shaped}


def _queue_and(net: SilenceNet, act: Callable[[], float]) -> int:
    """Frames of the second after `act`, which returns when that begins."""
    net.b.run("tc qdisc replace dev rad0 root pfifo limit 1000")
    net.b.run(f"tc qdisc replace dev rad0 root tbf rate {SHAPER_BPS} burst 2kb limit {2 * BACKLOG_BYTES}")
    with Flood(net, "rad0", 1e6, size_bytes=1208) as flood:
        wait_until(lambda: flood.sent * 1250 >= BACKLOG_BYTES, END_TIMEOUT_S, "the queue does not fill")
    since_s = act()
    time.sleep(1.0)
    return net.left(since_s).frames


def measure_lease(net: SilenceNet, lease_s: int = 1, more_s: float = 1.5) -> Figures:
    """SIGKILL while OPEN: the last frame, seen from then."""
    net.b.stop()
    net.b.configure('boot_posture = "OPEN"', f'lease = "{lease_s} s"')
    net.b.start()
    with net.attack(), Flood(net, "rad0", FLOOD_PER_S / 10):
        since_s = time.monotonic()
        time.sleep(1.0)
        net.b.kill()
        killed_s = time.monotonic()
        time.sleep(lease_s + more_s)
    last_s = net.left(since_s).last_s
    figures = {
        "lease_s": lease_s,
        "frames_open": net.left(since_s, killed_s).frames,
        "last_frame_s": (last_s or since_s) - killed_s,
        "frames_after_lease": net.left(killed_s + lease_s).frames,
    }
    net.b.configure('boot_posture = "OPEN"')
    net.b.start()
    return figures


def measure_survival(net: SilenceNet, for_s: float = 1.0) -> Figures:
    """What may befall a silent host, under attack; frames of each."""
    since_s = time.monotonic()
    with net.attack():
        time.sleep(for_s)
    figures: Figures = {"frames_open": net.left(since_s).frames}
    net.order("silent")
    events: dict[str, Callable[[], None]] = {
        "kill": net.b.kill,
        "restart": net.b.start,
        "reload": lambda: net.b.process.send_signal(1),
        "replug": net.replug,
        "flush": lambda: _ignore(net.b.run("nft flush ruleset")),
        "clsact": lambda: _ignore(net.b.run("tc qdisc delete dev rad0 clsact")),
        "stop": net.b.stop,
        "upgrade": net.b.start_copy,
    }
    with net.attack() as attack, Flood(net, "rad0", STREAM_PER_S):
        for name, happen in events.items():
            since_s = time.monotonic()
            happen()
            time.sleep(for_s)
            figures[f"frames_{name}"] = net.left(since_s).frames
    figures["provoking_frames"] = attack.sent
    figures["frames_silent"] = sum(figures[f"frames_{name}"] for name in events)
    net.order("unrestricted")
    return figures


def _ignore(text: str) -> None:
    """Of a program whose output does not matter."""


def measure_full_disk(net: SilenceNet, for_s: float = 1.0) -> Figures:
    """Without room for the state file silence is kept all the same, with an alarm, and nothing opens."""
    net.b.stop()
    run_program(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "meshd-disk", str(net.b.state)])
    net.b.start()
    ballast = net.b.state / "ballast"
    with net.b.client() as listener, net.b.client() as client:
        listener.subscribe(["emcon.alarm"])
        _fill(ballast)
        client.set_emcon("silent")
        since_s = time.monotonic()
        alarm = listener.next_event(END_TIMEOUT_S)
        is_refused = False
        try:
            client.set_emcon("unrestricted")
        except ControlError:
            is_refused = True
        with net.attack():
            time.sleep(for_s)
        figures: Figures = {
            "frames_silent": net.left(since_s).frames,
            "is_alarm": alarm is not None and "restart" in str(alarm),
            "is_opening_refused": is_refused,
            "is_silent": all(row["posture"] == "RX_ONLY" for row in client.emcon()["bearers"]),
        }
        ballast.unlink()
        since_s = time.monotonic()
        client.set_emcon("unrestricted")
        with net.attack():
            time.sleep(for_s)
        figures["frames_open"] = net.left(since_s).frames
    net.b.stop()
    run_program(["umount", str(net.b.state)])
    net.b.start()
    return figures


def _fill(path: Path) -> None:
    """Until the disk has no room."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
        try:
            while True:
                file.write(bytes(1))
        except OSError:
            return


def measure_three(net: SilenceNet, for_s: float = 3.0) -> Figures:
    """One of three bearers is silent; numbered streams leave on all of them, and messages by the daemons."""
    listeners = {bearer: Listener(net, "a", bearer) for bearer in KINDS}
    since_s = time.monotonic()
    sent, heard = _stream(net, listeners, 0.5)
    figures: Figures = {
        "frames_open": net.left(since_s).frames,
        "lost_before": sum(sent.values()) - sum(heard.values()),
    }
    net.order("one-silent")
    since_s = time.monotonic()
    with net.a.client() as there, net.b.client() as here:
        receiver = there.recv_open("inbox")
        messages = {here.send_bytes("dtn://a/inbox", bytes(1000)).message for _ in range(10)}
        sent, heard = _stream(net, listeners, for_s)
        for _ in range(len(messages)):
            message = there.recv_next(receiver, END_TIMEOUT_S)
            messages.discard(message.message)
            there.recv_confirm(receiver, message.message)
        there.recv_close(receiver)
    figures["frames_silent"] = net.left(since_s).frames
    figures["sent_on_others"] = sum(sent[bearer] for bearer in KINDS if bearer != "rad0")
    figures["lost_on_others"] = sum(sent[bearer] - heard[bearer] for bearer in KINDS if bearer != "rad0")
    figures["heard_on_silent"] = heard["rad0"]
    figures["messages_lost"] = len(messages)
    for listener in listeners.values():
        listener.close()
    net.order("unrestricted")
    return figures


def _stream(net: SilenceNet, listeners: dict[str, Listener], for_s: float) -> tuple[dict[str, int], dict[str, int]]:
    """Sent and heard, by bearer."""
    floods = {bearer: Flood(net, bearer, STREAM_PER_S) for bearer in KINDS}
    for flood in floods.values():
        flood.__enter__()
    time.sleep(for_s)
    for flood in floods.values():
        flood.__exit__()
    heard = {bearer: len(listener.take()) for bearer, listener in listeners.items()}
    return {bearer: flood.sent for bearer, flood in floods.items()}, heard


def measure_order(net: SilenceNet, count: int = 3) -> Figures:
    """The operator's command, from its start to its end; Python's own start is in it."""
    took_ms, shut = [], 0
    for _ in range(count):
        net.order("unrestricted")
        since_s = time.monotonic()
        net.b.meshctl("emcon", "set", "silent")
        took_ms.append((time.monotonic() - since_s) * 1e3)
        rows = net.b.meshctl("emcon", "status")[0]["bearers"]
        shut += all(not row["gate"]["open"] for row in rows)
    net.order("unrestricted")
    return {"set_silent_ms": sorted(took_ms)[count // 2], "set_silent_max_ms": max(took_ms), "all_shut": shut == count}


def measure_stranger(net: SilenceNet, for_s: float = 0.5) -> Figures:
    """A user without any role orders silence, then its end: refused, on record, and nothing changes."""
    since_s = time.monotonic()
    exits = {net.b.order_as(STRANGER_UID, "silent")}
    with net.attack():
        time.sleep(for_s)
    opened = net.left(since_s).frames
    since_s = net.order("silent")
    exits.add(net.b.order_as(STRANGER_UID, "unrestricted"))
    with net.attack():
        time.sleep(for_s)
    silent = net.left(since_s).frames
    rows = [row for row in net.b.meshctl("audit", "show") if row.get("uid") == STRANGER_UID]
    net.order("unrestricted")
    return {
        "frames_open": opened,
        "frames_silent": silent,
        "exit_code": exits.pop() if len(exits) == 1 else -1,
        "on_record": len(rows),
        "is_log_whole": net.b.meshctl("audit", "verify")[0]["good"],
    }


MEASURES: Final[dict[str, Callable[..., Figures]]] = {
    "boot": measure_boot,
    "attack": measure_attack,
    "closing": measure_closing,
    "backlog": measure_backlog,
    "lease": measure_lease,
    "survival": measure_survival,
    "full disk": measure_full_disk,
    "three": measure_three,
    "order": measure_order,
    "stranger": measure_stranger,
}


def run(context: ScenarioContext) -> int:
    """Print one JSON object."""
    wanted = json.loads(context.arguments[0])
    measures = {name: MEASURES[name] for name in wanted}
    result = {}
    with silence_lab(context) as net:
        net.start()
        for name, values in wanted.items():
            begun_s = time.monotonic()
            try:
                result[name] = measures[name](net, **values)
            except (AssertionError, LabError) as error:
                raise LabError(f"{name}: {error}\n{net.b.log_end()}") from error
            result[name]["took_s"] = time.monotonic() - begun_s
    sys.stdout.write(json.dumps(result) + "\n")
    return 0
