# SPDX-License-Identifier: Apache-2.0
"""meshctl as a whole: what it imports, its exit codes, its arguments, interrupts."""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.control.errors import ERRORS, ControlError
from meshd.ctl import main
from meshd.ctl.arguments import Parser
from meshd.ctl.main import run
from tests.unit.client.fake_daemon import STATUS, FakeDaemon

SLOW_TO_IMPORT = ["trio", "asyncio", "ssl", "cryptography", "rich", "importlib.metadata", "msgspec", "pyroute2"]


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "control.sock") as fake:
        monkeypatch.setenv("MESHD_SOCKET", str(fake.path))
        yield fake


def test_a_status_imports_nothing_slow(daemon: FakeDaemon) -> None:
    program = (
        "import sys\nfrom meshd.ctl.main import run\ncode = run(['status'])\n"
        f"print([name for name in {SLOW_TO_IMPORT} if name in sys.modules], file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "dtn://dpop1/" in done.stdout


@pytest.mark.parametrize("argv", [["status", "--json"], ["--json", "status"]])
def test_json_may_stand_before_or_behind(
    daemon: FakeDaemon, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == 0
    assert json.loads(capsys.readouterr().out) == STATUS


@pytest.mark.parametrize("behind", [True, False])
def test_the_socket_may_be_named(tmp_path: Path, behind: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeDaemon(tmp_path / "other.sock") as fake:
        option = ["--socket", str(fake.path)]
        assert run(["status", *option] if behind else [*option, "status"]) == 0
    assert "dpop1" in capsys.readouterr().out


@pytest.mark.parametrize("name", list(ERRORS))
def test_every_error_has_its_exit_code(daemon: FakeDaemon, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.refuse("status", name, "because\x1b[2J")
    assert run(["status"]) == ERRORS[name].exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "meshctl: because\N{REPLACEMENT CHARACTER}[2J\n"


def test_an_error_is_json_when_asked_for(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.refuse("status", "unauthorised", "no")
    assert run(["--json", "status"]) == 7
    assert json.loads(capsys.readouterr().err) == {"error": {"name": "unauthorised", "code": 10, "message": "no"}}


def test_no_daemon_is_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--socket", str(tmp_path / "nobody"), "status"]) == 3
    assert "is it running" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["stauts"], "did you mean 'status'"),
        (["bundles", "shwo", "3f9a"], "did you mean 'show'"),
        (["send", "home", "f", "--precedence", "flsh"], "did you mean 'FLASH'"),
        (["send", "home", "f", "--lifetime", "24"], "unit"),
        (["send", "ho me", "f"], "no destination"),
        (["send", "home", "f", "--no-reprot"], "did you mean '--no-report'"),
        (["recv", "--count", "0"], "above 0"),
        (["recv", "--foll"], "did you mean '--follow'"),
        (["status", "--jsno"], "did you mean '--json'"),
        ([], "COMMAND"),
        (["bundles"], "ACTION"),
    ],
)
def test_a_wrong_word_is_exit_code_2_and_a_suggestion(
    argv: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(argv)
    assert caught.value.code == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["status"],
        ["peers"],
        ["links"],
        ["send"],
        ["recv"],
        ["bundles"],
        ["explain"],
        ["bundle", "dump"],
        ["bundle", "validate"],
        ["bundle", "create"],
        ["emcon", "set"],
        ["events"],
        ["reload"],
    ],
)
def test_help_has_examples(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run([*argv, "--help"])
    assert caught.value.code == 0
    assert "example" in capsys.readouterr().out


def test_an_option_of_another_command_is_not_its_own_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    """`bundle create` has --output, `recv` has --out."""
    with pytest.raises(SystemExit) as caught:
        run(["recv", "--output", "x"])
    assert caught.value.code == 2
    assert "--output is unknown; did you mean '--out'?" in capsys.readouterr().err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("meshctl 0.")


def test_an_interrupt_is_exit_code_130_and_no_noise(daemon: FakeDaemon, tmp_path: Path) -> None:
    asked, released = threading.Event(), threading.Event()

    def wait(_params: dict[str, Any]) -> Any:
        asked.set()
        released.wait()
        raise ControlError("timeout", "nobody listens any more")

    daemon.replies["recv.next"] = wait
    with subprocess.Popen(
        [sys.executable, "-m", "meshd.ctl.main", "recv", "--follow", "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # Whoever runs the tests in the background has it ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert asked.wait(30)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    released.set()
    assert (process.returncode, output) == (130, b"")


def test_a_reader_that_left_is_no_noise(daemon: FakeDaemon) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "meshd.ctl.main", "status"], stdout=write_end, stderr=subprocess.PIPE, check=False
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, b"")


def test_every_command_is_found_in_the_module_that_the_table_names() -> None:
    for name in dict.fromkeys(main.MODULES.values()):
        commands = argparse.ArgumentParser().add_subparsers()
        module = importlib.import_module(f"meshd.ctl.commands.{name}")
        module.add_parsers(commands, Parser(add_help=False))
        assert list(commands.choices) == [command for command, home in main.MODULES.items() if home == name]


def test_only_the_module_of_the_command_is_loaded() -> None:
    program = "import sys; from meshd.ctl import main; main._parse(['--json', 'emcon', 'status']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if name.startswith("meshd.ctl.commands.")}
    assert loaded == {"meshd.ctl.commands.emcon"}
