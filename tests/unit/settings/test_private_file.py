# SPDX-License-Identifier: Apache-2.0
"""Files with secrets: mode 0600, never overwritten by accident, refused when others may read them."""

from pathlib import Path

import pytest

from meshd.base.errors import SettingsError
from meshd.settings.private_file import read_private, write_private


def test_a_secret_is_written_for_us_alone_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_private(path, b"secret", overwrite=False)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_private(path, 6) == b"secret"
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


def test_nothing_is_overwritten_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_private(path, b"old", overwrite=False)
    with pytest.raises(SettingsError, match="is there already: use --force"):
        write_private(path, b"new", overwrite=False)
    assert path.read_bytes() == b"old"
    write_private(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(mode)
    with pytest.raises(SettingsError, match=f"has mode {mode:04o}: others may read this secret"):
        read_private(path, 100)


def test_what_can_not_be_read_or_written_says_why(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read: No such file"):
        read_private(tmp_path / "none", 10)
    with pytest.raises(SettingsError, match="can't be written: No such file"):
        write_private(tmp_path / "none" / "key", b"", overwrite=False)
    write_private(tmp_path / "key", bytes(11), overwrite=False)
    with pytest.raises(SettingsError, match="more than 10 bytes"):
        read_private(tmp_path / "key", 10)
