# SPDX-License-Identifier: Apache-2.0
"""Real daemons, a stream of messages over each bearer into one of them, and SIGKILL at random moments of any.

    python -m tests.lab.kill9_run --kills 1000 --messages 20000 --bearers 2 --seed 1

The receiving daemon has so many bearers, with a sending daemon at the far end of each; it gets half of the kills. A
sender counts a message as acknowledged when `send.close` was answered ("queued"); when its session breaks before, it
sends the message anew, marked as another attempt. The receiver writes each message to disk and confirms it. In the end
every acknowledged message has to be there once, with the right content, and no other one twice.
One line of figures; exit code 1 when anything is lost, doubled or changed.
"""

import argparse
import hashlib
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from meshd.client.client import Client
from meshd.client.errors import ClientError
from meshd.client.transfer import save_message
from meshd.control.errors import ControlError
from tests.lab.forked_daemons import ForkedDaemon, Forker
from tests.unit.daemon.daemon_process import DaemonProcess, free_ports

CONTENT_MAX_BYTES = 4000
RECEIVE_POLL_S = 0.5
RECONNECT_S = 0.05
KILL_WINDOW_S = 0.2
"""A kill comes at a random moment up to this long after all daemons are ready and were given more to carry."""
EARLY_KILLS = 0.15
"""Share of kills after which the next one does not wait: it may hit a daemon that is still starting."""
EARLY_WINDOW_S = 0.3
RECEIVER_SHARE = 0.5
"""Of the kills; it is the one under load from several bearers."""
BEARER = """
[[bearer]]
name = "lan{index}"
kind = "terrestrial"
device = "lo"
rate = "1 Gbit/s"
mark = 0
listen = "127.0.0.1:{port}"
[[neighbour]]
node = "dtn://{name}/"
bearer = "lan{index}"
address = "127.0.0.1:{other_port}"
"""
STALLED_S = 120.0
"""Without a new message for this long, the rest is lost."""


@dataclass
class Tally:
    """What the sender was told, and what the receiver was given."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    """Message ID to the SHA-256 of its content."""
    attempts: int = 0
    offers: int = 0
    received: set[str] = field(default_factory=set)
    """Message IDs that the receiver has on its disk."""
    problems: list[str] = field(default_factory=list)


def content_of(number: int, attempt: int) -> bytes:
    """What the message says; the same number is another content at each attempt."""
    rng = random.Random(number * 1000 + attempt)
    head = json.dumps([number, attempt]).encode() + b"\n"
    return head + rng.randbytes(rng.randrange(CONTENT_MAX_BYTES))


class Sender(threading.Thread):
    """Sends the messages of these numbers one after the other, as far as it is allowed to."""

    def __init__(self, daemon: DaemonProcess, destination: str, numbers: range, tally: Tally) -> None:
        super().__init__(name=f"sender {daemon.name}", daemon=True)
        self._daemon_process = daemon
        self._destination = destination
        self._numbers = numbers
        self._tally = tally
        self._allowed = threading.Semaphore(0)
        self.stopping = threading.Event()

    @property
    def messages(self) -> int:
        """How many it has to send."""
        return len(self._numbers)

    def allow(self, count: int) -> None:
        """Let it send this many more."""
        self._allowed.release(count)

    def run(self) -> None:
        """Until all are acknowledged."""
        done = attempt = 0
        while done < len(self._numbers) and not self.stopping.is_set():
            number = self._numbers[done]
            try:
                with self._daemon_process.client() as client:
                    while done < len(self._numbers):
                        number = self._numbers[done]
                        if attempt == 0:
                            self._allowed.acquire()
                        attempt += 1
                        self._send(client, content_of(number, attempt))
                        done, attempt = done + 1, 0
            except (ClientError, ControlError) as error:
                if isinstance(error, ControlError) and error.name != "shutting_down":
                    self._tally.problems.append(f"message {number} was refused: {error}")
                    return
                self.stopping.wait(RECONNECT_S)

    def _send(self, client: Client, content: bytes) -> None:
        self._tally.attempts += 1
        submission = client.send_open(self._destination)
        client.send_data(submission, content)
        sent = client.send_close(submission)
        self._tally.acknowledged[sent.message] = hashlib.sha256(content).hexdigest()


class ReceivingApplication(threading.Thread):
    """Writes each message into a directory, and confirms it then."""

    def __init__(self, daemon: DaemonProcess, directory: Path, tally: Tally) -> None:
        super().__init__(name="receiver", daemon=True)
        self._daemon_process = daemon
        self._directory = directory
        self._tally = tally
        self.stopping = threading.Event()

    def run(self) -> None:
        """Until told to stop."""
        while not self.stopping.is_set():
            try:
                with self._daemon_process.client() as client:
                    self._receive(client)
            except (ClientError, ControlError):
                self.stopping.wait(RECONNECT_S)

    def _receive(self, client: Client) -> None:
        receiver = client.recv_open()
        while not self.stopping.is_set():
            try:
                message = client.recv_next(receiver, RECEIVE_POLL_S)
            except ControlError as error:
                if error.name != "timeout":
                    raise
                continue
            self._tally.offers += 1
            directory = self._directory / hashlib.sha256(message.message.encode()).hexdigest()[:32]
            directory.mkdir(exist_ok=True)
            try:
                save_message(client, receiver, message, directory)
            finally:
                # Also when the answer to the confirmation is missing: then it need not be offered again.
                if any(not path.name.endswith(".part") for path in directory.iterdir()):
                    self._tally.received.add(message.message)


def kill_at_random(
    daemons: Sequence[DaemonProcess], kills: int, senders: Sequence[Sender], rng: random.Random
) -> list[int]:
    """Kill one of them, start it again, `kills` times; how often each was hit. The last one is the receiver."""
    hits = [0] * len(daemons)
    allowed = [0] * len(senders)
    for kill in range(kills):
        for index, sender in enumerate(senders):
            more = sender.messages * (kill + 1) // (kills + 1) - allowed[index]
            sender.allow(more)
            allowed[index] += more
        time.sleep(rng.uniform(0, KILL_WINDOW_S))
        index = len(senders) if rng.random() < RECEIVER_SHARE else rng.randrange(len(senders))
        daemons[index].kill()
        hits[index] += 1
        daemons[index].start()
        if rng.random() < EARLY_KILLS:
            time.sleep(rng.uniform(0, EARLY_WINDOW_S))
            continue
        for daemon in daemons:
            wait_ready_again(daemon)
    for daemon in daemons:
        wait_ready_again(daemon)
    for index, sender in enumerate(senders):
        sender.allow(sender.messages - allowed[index])
    return hits


def wait_ready_again(daemon: DaemonProcess) -> None:
    """Until its control socket answers; readiness may have been told and heard before."""
    while True:
        assert daemon.process is not None
        assert daemon.process.poll() is None, f"{daemon.name} ended by itself:\n{daemon.log()[-4000:]}"
        try:
            with daemon.client() as client:
                client.status()
                return
        except ClientError:
            time.sleep(RECONNECT_S)


def wait_for_the_rest(senders: Sequence[Sender], tally: Tally) -> None:
    """Until everything that was acknowledged has arrived, or nothing does any more."""
    last, last_at = -1, time.monotonic()
    while time.monotonic() - last_at < STALLED_S:
        if tally.problems:
            return
        if not any(sender.is_alive() for sender in senders) and tally.acknowledged.keys() <= tally.received:
            return
        if len(tally.received) + len(tally.acknowledged) != last:
            last, last_at = len(tally.received) + len(tally.acknowledged), time.monotonic()
        time.sleep(RECONNECT_S)


def check(directory: Path, messages: int, tally: Tally) -> dict[str, int]:
    """Compare what is on the receiver's disk with what the sender was told."""
    by_folder = {
        hashlib.sha256(message.encode()).hexdigest()[:32]: (message, digest)
        for message, digest in tally.acknowledged.items()
    }
    seen: dict[str, str] = {}
    unacknowledged = 0
    for folder in directory.iterdir():
        files = list(folder.iterdir())
        if len(files) != 1:
            tally.problems.append(f"{folder.name}: {len(files)} files for one message")
            continue
        content = files[0].read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        number, attempt = json.loads(content.split(b"\n", 1)[0])
        if content != content_of(number, attempt):
            tally.problems.append(f"message {number}.{attempt} has changed on its way")
        if digest in seen:
            tally.problems.append(f"message {number}.{attempt} came under two IDs")
        seen[digest] = folder.name
        if folder.name not in by_folder:
            unacknowledged += 1
        elif by_folder[folder.name][1] != digest:
            tally.problems.append(f"message {by_folder[folder.name][0]} came with the content of another one")
    lost = [message for message, digest in tally.acknowledged.items() if digest not in seen]
    tally.problems.extend(f"message {message} was acknowledged and never came" for message in lost)
    if len(tally.acknowledged) != messages:
        tally.problems.append(f"{len(tally.acknowledged)} of {messages} messages were acknowledged")
    return {
        "acknowledged": len(tally.acknowledged),
        "attempts": tally.attempts,
        "received": len(seen),
        "lost": len(lost),
        "unacknowledged_received": unacknowledged,
        "offered_again": tally.offers - len(seen),
    }


def make_star(forker: Forker, directory: Path, bearers: int) -> list[DaemonProcess]:
    """So many senders, each on a bearer of its own to the receiver, which is the last of the list."""
    ports = free_ports(2 * bearers)
    names = [f"sender{index}" for index in range(bearers)]
    daemons = [
        ForkedDaemon(forker, directory / name, name, ports[index], {"receiver": ports[bearers + index]})
        for index, name in enumerate(names)
    ]
    receiver = ForkedDaemon(forker, directory / "receiver", "receiver", ports[bearers], {names[0]: ports[0]})
    tables = [
        BEARER.format(index=index, name=names[index], port=ports[bearers + index], other_port=ports[index])
        for index in range(1, bearers)
    ]
    receiver.config.write_text(receiver.config.read_text() + "".join(tables))
    return [*daemons, receiver]


def run(kills: int, messages: int, seed: int, directory: Path, bearers: int) -> tuple[str, list[str]]:
    """The whole run below a directory. Returns the line of figures and the problems."""
    rng = random.Random(seed)
    tally = Tally()
    begun = time.monotonic()
    with Forker() as forker:
        daemons = make_star(forker, directory, bearers)
        inbox = directory / "inbox"
        inbox.mkdir()
        senders = [
            Sender(daemon, "dtn://receiver/inbox", range(index, messages, bearers), tally)
            for index, daemon in enumerate(daemons[:-1])
        ]
        application = ReceivingApplication(daemons[-1], inbox, tally)
        try:
            for daemon in daemons:
                daemon.start()
            for daemon in daemons:
                daemon.wait_ready()
            for thread in (*senders, application):
                thread.start()
            hits = kill_at_random(daemons, kills, senders, rng)
            killing_s = time.monotonic() - begun
            wait_for_the_rest(senders, tally)
            ended_by_itself(daemons, tally)
        finally:
            for sender in senders:
                sender.stopping.set()
            application.stopping.set()
            application.join(30)
            for daemon in daemons:
                daemon.end()
    figures: dict[str, object] = {"seed": seed, "bearers": bearers, "messages": messages}
    figures |= {f"kills_{daemon.name}": count for daemon, count in zip(daemons, hits, strict=True)}
    figures |= check(inbox, messages, tally)
    figures |= {"problems": len(tally.problems), "killing_s": round(killing_s, 1)}
    figures["seconds"] = round(time.monotonic() - begun, 1)
    return "kill9 " + " ".join(f"{key}={value}" for key, value in figures.items()), tally.problems


def ended_by_itself(daemons: Sequence[DaemonProcess], tally: Tally) -> None:
    """A daemon that is gone, or has reported damage, is a problem of its own."""
    for daemon in daemons:
        if daemon.process is None or daemon.process.poll() is not None:
            tally.problems.append(f"{daemon.name} ended by itself:\n{daemon.log()[-4000:]}")
        alarms = [line for line in daemon.log().splitlines() if "store.alarm" in line or "Traceback" in line]
        tally.problems.extend(f"{daemon.name}: {line}" for line in alarms)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="SIGKILL daemons again and again; nothing acknowledged may be lost")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--bearers", type=int, default=2, help="of the receiver, each with a sender")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="meshd-kill9-") as directory:
        line, problems = run(arguments.kills, arguments.messages, arguments.seed, Path(directory), arguments.bearers)
    sys.stdout.write(line + "\n")
    sys.stderr.writelines(f"{problem}\n" for problem in problems[:50])
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
