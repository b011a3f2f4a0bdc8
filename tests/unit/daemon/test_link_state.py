# SPDX-License-Identifier: Apache-2.0
"""The files of radio links: no nonce and no datagram twice across SIGKILL at any moment; lost and damaged files."""

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshd.base.errors import SettingsError
from meshd.cl.fountain.opener import Opener
from meshd.cl.fountain.sealer import Sealer
from meshd.daemon.link_state import BOOT_FILE, LinkState
from meshd.security.boot_number import BootNumberError, DurableBootNumber, pack_boot_number
from meshd.security.replay_window import Mark
from tests.unit.daemon import link_process
from tests.unit.daemon.link_process import AHEAD, BEARER, KEYS, RECEIVER, SENDER, UTC_S

RUNS = 6


@contextmanager
def running(mode: str, directory: Path) -> Iterator["subprocess.Popen[str]"]:
    """One process, killed at the end of the block."""
    command = [sys.executable, str(Path(link_process.__file__)), mode, str(directory)]
    root = Path(__file__).resolve().parents[3]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env={"PYTHONPATH": str(root)}) as process:
        try:
            yield process
        finally:
            process.kill()
            assert process.stdin is not None
            process.stdin.close()


def sealed_until_killed(directory: Path, count: int) -> list[str]:
    """Datagrams: at least so many, and whatever else came out before the process was gone."""
    with running("seal", directory) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(count)]
        process.kill()
        lines += process.stdout.readlines()
    return [line.strip() for line in lines if line.endswith("\n")]


def test_no_nonce_comes_twice_across_sigkill(tmp_path: Path) -> None:
    """An opener that forgets nothing sees them all: a nonce that came twice would be a replay to it."""
    rng = random.Random(1)
    opener = Opener((SENDER, RECEIVER), BEARER, KEYS, {SENDER: Mark(1, 1)}, 2)
    boots = []
    for _ in range(RUNS):
        lines = sealed_until_killed(tmp_path, rng.randint(0, 30))
        for line in lines:
            opener.open_untrusted(bytes.fromhex(line))
            opener.saved(opener.marks_to_save())
        boots.append(opener.heard(SENDER).boot)
    assert boots == sorted(boots)
    assert boots[-1] >= UTC_S + 3


def test_nothing_is_handed_on_twice_across_sigkill_of_the_receiver(tmp_path: Path) -> None:
    """Everything that was ever sent is sent again after each kill, as an attacker would."""
    sealer = Sealer(SENDER, BEARER, KEYS, DurableBootNumber(1))
    rng = random.Random(2)
    air: list[str] = []
    handed: list[str] = []
    for run in range(RUNS):
        with running("open", tmp_path) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            fresh = [sealer.seal(f"{run}-{number}".encode()).hex() for number in range(3 * AHEAD)]
            air += fresh
            process.stdin.write("\n".join([*air, ""]))
            process.stdin.flush()
            for _ in range(rng.randint(1, len(air))):
                handed.append(process.stdout.readline().strip())
            process.kill()
            handed += [line.strip() for line in process.stdout.readlines() if line.endswith("\n")]
    handed = [each for each in handed if each != "-"]
    assert len(handed) == len(set(handed))
    assert len(handed) > AHEAD


def test_marks_are_kept_for_each_bearer(tmp_path: Path) -> None:
    state = LinkState(tmp_path)
    assert state.read_marks("satcom0") == {}
    state.write_marks("satcom0", {SENDER: Mark(1, 2)})
    state.write_marks("satcom0.new", {SENDER: Mark(9, 9)})
    assert state.read_marks("satcom0") == {SENDER: Mark(1, 2)}


def test_a_start_is_a_new_number_and_state_and_clock_lost_is_none(tmp_path: Path) -> None:
    state = LinkState(tmp_path)
    with pytest.raises(BootNumberError):
        state.take_boot_number(None)
    numbers = [state.take_boot_number(clock).number for clock in (UTC_S, UTC_S, None, UTC_S - 1000)]
    assert numbers == [UTC_S, UTC_S + 1, UTC_S + 2, UTC_S + 3]


def test_a_new_issues_boot_number_ends_the_silence(tmp_path: Path) -> None:
    (tmp_path / BOOT_FILE).write_bytes(pack_boot_number(UTC_S))
    assert LinkState(tmp_path).take_boot_number(None).number == UTC_S + 1


def test_a_damaged_file_is_not_a_lost_one(tmp_path: Path) -> None:
    (tmp_path / BOOT_FILE).write_bytes(b"")
    with pytest.raises(SettingsError, match=r"link\.boot holds no boot number"):
        LinkState(tmp_path).take_boot_number(UTC_S)
    (tmp_path / "satcom0.link-marks").write_bytes(b"")
    with pytest.raises(SettingsError, match="roll the link key"):
        LinkState(tmp_path).read_marks("satcom0")
