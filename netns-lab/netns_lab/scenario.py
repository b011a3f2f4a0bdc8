# SPDX-License-Identifier: Apache-2.0
"""Scenarios: Python files with `run(context) -> int`, found by name in netns-lab/scenarios or given by path.

The first line of a scenario's docstring says what it does; `netns-lab/lab list` shows it.
"""

import ast
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netns_lab.errors import LabError
from netns_lab.lab import Lab
from netns_lab.link_profile import LinkProfile, load_profile
from netns_lab.topology import Topology, load_topology

LAB_FOLDER: Final = Path(__file__).resolve().parent.parent
CHECKOUT: Final = LAB_FOLDER.parent
PROFILES: Final = LAB_FOLDER / "profiles"
TOPOLOGIES: Final = LAB_FOLDER / "topologies"
SCENARIOS: Final = LAB_FOLDER / "scenarios"


def find_topology(name: str) -> Topology:
    """A topology by its name, or by its path when the name ends in `.toml`."""
    path = Path(name) if name.endswith(".toml") else TOPOLOGIES / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in TOPOLOGIES.glob("*.toml")))
        raise LabError(f"topology {name!r} is unknown; known: {known}; or give the path of a .toml file")
    return load_topology(path, PROFILES)


def find_profile(name: str) -> LinkProfile:
    """A link profile by its name."""
    return load_profile(name, PROFILES)


@dataclass(frozen=True, slots=True)
class ScenarioContext:
    """What a scenario is run with."""

    arguments: list[str]
    """What followed the scenario's name on the command line."""
    backend: str
    seed: int

    def lab(self, topology: Topology | str) -> Lab:
        """A lab with the back end and seed asked for on the command line."""
        made = find_topology(topology) if isinstance(topology, str) else topology
        return Lab(made, backend=self.backend, seed=self.seed)


def find_scenario(name: str) -> Path:
    """A scenario's file by its name, or by its path when the name ends in `.py`."""
    path = Path(name) if name.endswith(".py") else SCENARIOS / f"{name}.py"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SCENARIOS.glob("*.py")))
        raise LabError(f"scenario {name!r} is unknown; known: {known}; or give the path of a .py file")
    return path


def describe_scenario(path: Path) -> str:
    """The first line of its docstring, without running it."""
    words = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return words.partition("\n")[0]


def load_scenario(path: Path) -> Callable[[ScenarioContext], int]:
    """A scenario's `run`. LabError when the file has none."""
    name = f"netns_lab_scenario_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a .py file has a spec"
    assert spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    run = getattr(module, "run", None)
    if not callable(run):
        raise LabError(f"{path}: is no scenario: it has no function run(context)")
    found: Callable[[ScenarioContext], int] = run
    return found
