# SPDX-License-Identifier: Apache-2.0
"""The fuzzer's lock file goes on top of the developers' one in the same environment: it may not change a version."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_PIN = re.compile(r"^([a-z0-9-]+)==([^ ]+)", re.MULTILINE)


def test_both_lock_files_pin_the_same_versions() -> None:
    dev, fuzz = (dict(_PIN.findall((REPOSITORY / f"requirements-{name}.txt").read_text())) for name in ("dev", "fuzz"))
    assert "atheris" in fuzz
    assert "atheris" not in dev
    assert {name: version for name, version in fuzz.items() if dev.get(name, version) != version} == {}
