# SPDX-License-Identifier: Apache-2.0
"""Promises that the checkout itself has to keep: licences, lock files, manual, units.

What reads the sources of the whole tree leaves out what `.gitignore` leaves out; it must not need git.
"""

import argparse
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.ctl.main import build_parser
from meshd.daemon import main as daemon_main
from meshd.settings import schema
from meshd.settings.load import load

REPOSITORY = Path(__file__).resolve().parents[2]
LOCK_FILES = ("requirements.txt", "requirements-dev.txt", "requirements-fuzz.txt")
UNITS = ("meshd.service", "meshd-gate.service")
PROJECT_PAGES = ("meshctl.1", "meshd.toml.5", "meshd-emcon.7", "netns-lab.7", "meshd.8")
SOURCE_FOLDERS = ("meshd", "tests", "netns-lab", "tools", "config", "man", ".ci")
DATA_FOLDERS = ("tests/vectors", "tests/fuzz/corpus", "tests/fuzz/regressions")
"""Bytes for tests, without a place for a licence."""


def sources(*suffixes: str) -> Iterator[Path]:
    """Files of the project with one of these suffixes (an empty one: without any)."""
    for folder in SOURCE_FOLDERS:
        for path in sorted((REPOSITORY / folder).rglob("*")):
            hidden = any(
                part.startswith(".") or part == "__pycache__" for part in path.relative_to(REPOSITORY).parts[1:]
            )
            is_data = any(path.is_relative_to(REPOSITORY / data) for data in DATA_FOLDERS)
            if path.is_file() and not hidden and not is_data and path.suffix in suffixes:
                yield path


def manual(name: str) -> str:
    """A manual page as its reader sees it, without the ways mdoc writes a hyphen."""
    return (REPOSITORY / "man" / name).read_text().replace("\\-", "-")


# --- licence and lock files ---


def test_every_source_file_names_its_licence() -> None:
    suffixes = (".py", ".sh", ".toml", ".service", ".sysusers", ".tmpfiles", ".1", ".5", ".7", ".8", "")
    without = []
    for path in sources(*suffixes):
        if path.name == "py.typed" or (path.name == "__init__.py" and not path.read_text()):
            continue
        head = path.read_text(errors="replace")[:200]
        if "SPDX-License-Identifier: Apache-2.0" not in head:
            without.append(str(path.relative_to(REPOSITORY)))
    assert without == []


def test_the_licence_is_there_in_full() -> None:
    text = (REPOSITORY / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("name", LOCK_FILES)
def test_lock_files_hold_hashes_and_no_address(name: str) -> None:
    text = (REPOSITORY / name).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|--index|--extra-index|--find-links|-f)\b", text, re.MULTILINE)
    pins = re.split(r"\n(?=[a-z0-9])", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    assert len(pins) > 5
    assert [pin.splitlines()[0] for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []


@pytest.mark.parametrize("name", [*LOCK_FILES, "pyproject.toml"])
def test_a_strangers_package_of_our_name_is_never_required(name: str) -> None:
    text = (REPOSITORY / name).read_text()
    assert not re.search(r"""^\s*["']?meshd\s*(\[|[=<>~!;@]=?|["']\s*,)(?!\s*["'])""", text, re.MULTILINE)


def test_the_development_lock_holds_every_pin_of_the_other() -> None:
    def pins(name: str) -> set[str]:
        text = (REPOSITORY / name).read_text()
        return set(re.findall(r"^([a-z0-9._-]+==[^ ;\\]+)", text, re.MULTILINE))

    assert pins("requirements.txt") <= pins("requirements-dev.txt")


# --- configuration ---


def documented_keys() -> list[tuple[str, str]]:
    """(table, key) of everything that may stand in meshd.toml."""
    return [(table.name, key.name) for table in schema.TABLES for key in table.keys]


def test_the_annotated_configuration_is_good_and_shows_every_key() -> None:
    path = REPOSITORY / "config/meshd.toml"
    load(path)
    tables = re.split(r"^\[+([a-z0-9.]+)[^\n]*\]\n", path.read_text(), flags=re.MULTILINE)
    shown = {
        (name.removesuffix(".quiet"), key)
        for name, content in zip(tables[1::2], tables[2::2], strict=True)
        for key in re.findall(r"^([a-z0-9_]+) = ", content, re.MULTILINE)
    }
    missing = [each for each in documented_keys() if each not in shown]
    assert missing == []


def test_the_nodes_of_the_tour_need_no_privilege_and_name_each_other() -> None:
    alpha, bravo = (load(REPOSITORY / f"config/tour/{name}.toml") for name in ("alpha", "bravo"))
    assert [each.node for each in alpha.neighbours] == [bravo.node.id]
    assert [each.node for each in bravo.neighbours] == [alpha.node.id]
    assert bravo.neighbours[0].address == alpha.bearers[0].listen
    for configuration in (alpha, bravo):
        assert configuration.emcon.gate is False
        assert [each.mark for each in configuration.bearers] == [0]
        assert str(configuration.control.socket) in (REPOSITORY / "README.md").read_text()


def test_the_manual_documents_every_key() -> None:
    sections = re.split(r"^\.Ss \[+([a-z0-9.]+)", manual("meshd.toml.5"), flags=re.MULTILINE)
    described = {
        (name.rstrip("."), key)
        for name, content in zip(sections[1::2], sections[2::2], strict=True)
        for key in re.findall(r"^\.It Ic ([a-z0-9_]+)", content, re.MULTILINE)
    }
    assert described == set(documented_keys())


def test_the_manual_says_what_a_reload_changes() -> None:
    text = manual("meshd.toml.5")
    for table in schema.TABLES:
        heading = rf"^\.Ss \[+{re.escape(table.name)}"
        section = re.split(heading, text, maxsplit=1, flags=re.MULTILINE)[1].split("\n.S", 1)[0]
        for key in table.keys:
            line = next(line for line in section.splitlines() if line.startswith(f".It Ic {key.name}"))
            assert ("reload" in line) == key.reloadable, f"{table.name}.{key.name}: {line}"
            assert ("required" in line) == (key.default is schema.REQUIRED), f"{table.name}.{key.name}: {line}"


# --- manual ---


@pytest.mark.programs("mandoc")
@pytest.mark.parametrize("name", PROJECT_PAGES)
def test_a_manual_page_is_clean(name: str) -> None:
    path = REPOSITORY / "man" / name
    assert path.is_file()
    result = subprocess.run(
        ["mandoc", "-Tlint", str(path)], capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    # Whether the pages that it refers to are installed here says nothing about the page.
    complaints = [
        line
        for line in (result.stdout + result.stderr).splitlines()
        if "referenced manual not found" not in line and "outdated mandoc.db" not in line
    ]
    assert complaints == []


def test_manual_pages_refer_to_pages_that_exist() -> None:
    ours = {tuple(page.rsplit(".", 1)) for page in PROJECT_PAGES}
    named = {name for name, _ in ours}
    for page in PROJECT_PAGES:
        for name, section in re.findall(r"^\.Xr (\S+) (\d)", manual(page), re.MULTILINE):
            if name in named or name.startswith(("mesh", "netns")):
                assert (name, section) in ours, f"{page} refers to {name}({section})"


def commands_of(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that can be typed, with its parser."""
    subparsers = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not any(action.required for action in subparsers):
        yield name, parser
    for action in subparsers:
        for word, inner in action.choices.items():
            yield from commands_of(inner, f"{name} {word}".strip())


def long_options(parser: argparse.ArgumentParser) -> set[str]:
    """All long options of a parser itself."""
    return {name.lstrip("-") for action in parser._actions for name in action.option_strings if name.startswith("--")}


def test_the_manual_has_every_command_and_option_of_meshctl_and_no_other() -> None:
    text = manual("meshctl.1")
    common = long_options(build_parser())
    entries = re.split(r"^\.It Ic ", text, flags=re.MULTILINE)
    described = {}
    for entry in entries[1:]:
        words = re.match(r"(?:[a-z][a-z-]* ?)+", entry)
        assert words is not None, entry[:40]
        described[words[0].strip()] = set(re.findall(r"^\.It Fl -([a-z-]+)", entry, re.MULTILINE))
    expected = {name: long_options(parser) - common for name, parser in commands_of(build_parser())}
    assert described == expected
    assert set(re.findall(r"Fl -([a-z-]+)", entries[0])) == common


def test_the_manual_has_every_option_of_meshd_and_no_other() -> None:
    described = set(re.findall(r"^\.It .*Fl -([a-z-]+)", manual("meshd.8"), re.MULTILINE))
    assert described == long_options(daemon_main._parser())


def test_every_table_of_exit_codes_agrees() -> None:
    text = manual("meshctl.1").split(".Sh EXIT STATUS", 1)[1]
    assert re.findall(r"^\.It (\d+)", text, re.MULTILINE) == ["0", "1", "2", "3", "4", "5", "6", "7", "130"]


# --- service ---


@pytest.fixture
def installed_units(tmp_path: Path) -> list[str]:
    """The units, with the programs that they start where they are on this machine."""
    paths = []
    for name in UNITS:
        text = (REPOSITORY / "config" / name).read_text()
        text = text.replace("/usr/local/bin/meshd", "/bin/true")
        text = text.replace("/bin/kill ", "/bin/true ")  # not every system has it: procps
        text = text.replace("/usr/local/lib/meshd/meshd-gate", str(REPOSITORY / "config/meshd-gate"))
        path = tmp_path / name
        path.write_text(text)
        paths.append(str(path))
    return paths


@pytest.mark.programs("systemd-analyze")
def test_the_units_verify(installed_units: list[str]) -> None:
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *installed_units], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@pytest.mark.programs("systemd-analyze")
def test_the_units_are_hardened(installed_units: list[str]) -> None:
    for path in installed_units:
        result = subprocess.run(
            ["systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", path],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-500:] + result.stderr


def test_the_service_has_one_capability_and_a_watchdog() -> None:
    text = (REPOSITORY / "config/meshd.service").read_text()
    settings = dict(re.findall(r"^([A-Za-z]+)=(.*)$", text, re.MULTILINE))
    assert settings["Type"] == "notify"
    assert settings["CapabilityBoundingSet"] == settings["AmbientCapabilities"] == "CAP_NET_ADMIN"
    assert settings["WatchdogSec"] == "30s"
    assert settings["RestartPreventExitStatus"] == str(daemon_main.EXIT_CONFIG)


def test_the_gate_is_needed_by_whatever_brings_the_network_up() -> None:
    text = (REPOSITORY / "config/meshd-gate.service").read_text()
    before = {unit for line in re.findall(r"^Before=(.*)$", text, re.MULTILINE) for unit in line.split()}
    required_by = {unit for line in re.findall(r"^RequiredBy=(.*)$", text, re.MULTILINE) for unit in line.split()}
    assert "network-pre.target" in before
    assert required_by
    assert required_by <= before
    assert "ExecStop=" not in text


@pytest.mark.programs("systemd-sysusers", "systemd-tmpfiles")
@pytest.mark.root
def test_user_and_directories_are_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for program, name in (("systemd-sysusers", "meshd.sysusers"), ("systemd-tmpfiles", "meshd.tmpfiles")):
        options = ["--create"] if program == "systemd-tmpfiles" else []
        subprocess.run([program, *options, f"--root={tmp_path}", str(REPOSITORY / "config" / name)], check=True)
    assert "meshd:" in (tmp_path / "etc/passwd").read_text()
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("var/lib/meshd", "run/meshd", "etc/meshd")}
    assert modes == {"var/lib/meshd": 0o700, "run/meshd": 0o755, "etc/meshd": 0o750}


# --- set-up ---


def test_every_target_that_the_readme_names_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", (REPOSITORY / "README.md").read_text()))
    assert {"demo", "test"} <= named
    assert named <= targets


def test_nobody_is_told_to_run_make_as_another_user() -> None:
    told = [path.name for path in [*REPOSITORY.glob("*.md"), *sources(".sh", ".py", "")] if "sudo " in path.read_text()]
    assert [name for name in told if name != Path(__file__).name] == []
