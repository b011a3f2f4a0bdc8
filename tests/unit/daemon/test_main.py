# SPDX-License-Identifier: Apache-2.0
"""The `meshd` command: checking a configuration, and the ways in which a start ends badly."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.base.errors import GateError
from meshd.base.version import __version__
from meshd.daemon import main as command
from meshd.daemon.main import main
from meshd.emcon.gate import NoGate
from meshd.linux.covering_gate import CoveringGate
from meshd.linux.emission_gate import KernelGate
from meshd.settings.load import load
from tests.unit.daemon.daemon_process import DaemonProcess, configuration, free_ports


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A good configuration."""
    path = tmp_path / "meshd.toml"
    (port,) = free_ports(1)
    path.write_text(configuration(tmp_path, "alpha", port, {"bravo": 4556}))
    return path


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """One that runs."""
    (port,) = free_ports(1)
    made = DaemonProcess(tmp_path / "alpha", "alpha", port, {})
    try:
        made.start()
        made.wait_ready()
        yield made
    finally:
        made.end()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"meshd {__version__}\n"


def test_unknown_option() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--nonsense"])
    assert ended.value.code == 2


def test_check_config(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check-config", str(config)]) == 0
    output = capsys.readouterr()
    assert f"{config}: good: dtn://alpha/, 1 bearers, 1 neighbours, 0 routes" in output.out
    assert "emission gate: off" in output.out
    assert output.err == ""
    assert not (config.parent / "state").exists(), "checking touches nothing"


@pytest.mark.parametrize(
    ("refuses", "said"), [(None, "nf_tables is missing"), (GateError("may not: run as root"), "may not: run as root")]
)
def test_check_config_says_what_this_kernel_lacks(
    config: Path,
    refuses: GateError | None,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def probe(gate: KernelGate) -> list[str]:
        if refuses is not None:
            raise refuses
        return ["nf_tables is missing"]

    config.write_text(config.read_text().replace("gate = false", "gate = true"))
    monkeypatch.setattr(KernelGate, "probe", probe)
    assert main(["--check-config", str(config)]) == 0
    assert f"emission gate: {said}" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--check-config", "--config"])
@pytest.mark.parametrize(
    ("text", "said"),
    [("[node", "meshd.toml"), ('[node]\nid = "nonsense"\n', "id"), ("[nodes]\n", "nodes")],
)
def test_bad_configuration(
    tmp_path: Path, option: str, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "meshd.toml"
    path.write_text(text)
    assert main([option, str(path)]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err.startswith("meshd: ")) == ("", True)
    assert said in output.err


def test_missing_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(tmp_path / "none.toml")]) == 2
    assert "none.toml" in capsys.readouterr().err


def test_second_daemon_on_the_same_state(daemon: DaemonProcess, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(daemon.config)]) == 1
    error = capfd.readouterr().err
    assert str(daemon.directory / "state") in error
    assert "another" in error
    assert "Traceback" not in error
    with daemon.client() as client:
        assert client.status()["node"] == "dtn://alpha/", "the first one is unharmed"


def test_state_directory_that_can_not_be_made(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (config.parent / "state").write_text("a file is in the way")
    assert main(["--config", str(config)]) == 1
    error = capfd.readouterr().err
    assert str(config.parent / "state") in error
    assert "Traceback" not in error


def test_listen_address_in_use_keeps_the_daemon_running(daemon: DaemonProcess, tmp_path: Path) -> None:
    other = DaemonProcess(tmp_path / "bravo", "bravo", daemon.port, {})
    try:
        other.start()
        other.wait_ready()
        assert "bearer.problem" in other.log()
    finally:
        other.end()


def test_the_check_says_which_path_stays_open_and_what_is_refused(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = config.read_text().replace("gate = false", "gate = true")
    config.write_text(text.replace("[[bearer]]", "[[bearer]]\nassured = true", 1))
    monkeypatch.setattr(KernelGate, "probe", lambda _: [])
    monkeypatch.setattr(KernelGate, "probe_weak", lambda _: ["no clsact; what tc redirects passes"])
    assert main(["--check-config", str(config)]) == 0
    said = capsys.readouterr().out
    assert "emission gate: no clsact; what tc redirects passes" in said
    assert "RX_ONLY is refused here, since it is assured: order OFF" in said


def test_gate_by_configuration(config: Path) -> None:
    assert isinstance(command.make_gate(load(config)), NoGate)
    config.write_text(config.read_text().replace("gate = false", "gate = true"))
    gate = command.make_gate(load(config))
    assert isinstance(gate, CoveringGate)
    gate.disconnect()
