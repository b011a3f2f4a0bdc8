# SPDX-License-Identifier: Apache-2.0
"""What the sandbox says before it starts anything."""

import os
import sys

import pytest

from netns_lab import sandbox
from netns_lab.errors import LabError


def test_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "NEEDED_PROGRAMS", {"sh": "dash", "nosuch-a": "pack-b", "nosuch-b": "pack-a"})
    with pytest.raises(LabError, match=r"^programs missing: nosuch-a, nosuch-b; install pack-a pack-b$"):
        sandbox.refuse_missing_programs()


def test_an_ordinary_user_gets_a_user_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    command = sandbox.sandbox_command(["run", "demo"])
    assert command[:3] == ["unshare", "--user", "--map-root-user"]
    assert command[-5:] == [sys.executable, str(sandbox.PROGRAM), "--inside", "run", "demo"]


def test_root_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    command = sandbox.sandbox_command(["probe"])
    assert command[:7] == ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--"]


def test_the_inner_option_is_refused_outside() -> None:
    with pytest.raises(LabError, match="is for the lab itself"):
        sandbox.enter()
