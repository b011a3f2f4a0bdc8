# SPDX-License-Identifier: Apache-2.0
"""`meshctl bundle create` and `bundle validate`: files in, files out, no daemon."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from meshd.bundle.codec import decode_untrusted
from meshd.bundle.precedence import Precedence
from meshd.bundle.scan import scan_untrusted
from meshd.ctl.main import run
from tests.fuzz.seeds import folder_files, read_hex

NEEDED = ("--source", "dtn://dpop1/inbox", "--destination", "home")


@pytest.fixture(autouse=True)
def no_daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MESHD_SOCKET", str(tmp_path / "no daemon is needed"))


def create(tmp_path: Path, *argv: str, payload: bytes = b"hello") -> bytes:
    (tmp_path / "payload").write_bytes(payload)
    output = tmp_path / "bundle"
    files = ["--payload", str(tmp_path / "payload"), "--output", str(output)]
    assert run(["bundle", "create", *NEEDED, *files, *argv]) == 0
    return output.read_bytes()


def test_what_is_created_is_what_was_asked_for(tmp_path: Path) -> None:
    data = create(
        tmp_path,
        *("--lifetime", "2h", "--precedence", "flash", "--flags", "must_not_fragment,report_delivery"),
        *("--crc", "crc16", "--creation-time", "2026-01-02T03:04:05Z", "--sequence", "7", "--age", "90s"),
        *("--hop-limit", "9", "--report-to", "dtn://dpop1/"),
    )
    header = scan_untrusted(data)
    assert header.source.uri == "dtn://dpop1/inbox"
    assert header.destination.uri == "dtn://home/inbox"
    assert header.report_to.uri == "dtn://dpop1/"
    assert (header.id.time_ms, header.id.sequence) == (820_638_245_000, 7)
    assert header.lifetime_ms == 2 * 3600 * 1000
    assert header.precedence == Precedence.FLASH
    assert header.flags == 0x20004
    assert header.primary_crc_type == 1
    assert header.age_ms == 90_000
    assert header.hop_limit == 9
    assert decode_untrusted(data).payload == b"hello"


def test_defaults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = scan_untrusted(create(tmp_path))
    assert header.lifetime_ms == 24 * 3600 * 1000
    assert header.id.time_ms > 820_000_000_000
    assert (header.age_ms, header.hop_limit, header.flags, header.primary_crc_type) == (None, 32, 0, 2)
    assert capsys.readouterr().out.startswith("dtn://dpop1/inbox@")


def test_without_a_clock_there_is_an_age(tmp_path: Path) -> None:
    header = scan_untrusted(create(tmp_path, "--creation-time", "none", "--hop-limit", "0", "--crc", "none"))
    assert (header.id.time_ms, header.age_ms, header.hop_limit) == (0, 0, 0)
    assert scan_untrusted(create(tmp_path, "--creation-time", "1000")).id.time_ms == 1000


def test_from_standard_input_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"piped")))
    assert run(["bundle", "create", *NEEDED, "--payload", "-"]) == 0
    captured = capsysbinary.readouterr()
    assert decode_untrusted(captured.out).payload == b"piped"
    assert captured.err.startswith(b"dtn://dpop1/inbox@")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--flags", "report_deliverly"], "did you mean 'report_delivery'?"),
        (["--flags", "1"], "fragments are not made here"),
        (["--creation-time", "yesterday"], "is no time"),
        (["--creation-time", "2026-01-02T03:04:05"], "has no zone"),
        (["--creation-time", "1999-01-02T03:04:05Z"], "where DTN time begins"),
        (["--hop-limit", "256"], "from 0 to 255"),
        (["--sequence", "18446744073709551616"], "is no whole number"),
        (["--crc", "crc64"], "is unknown"),
    ],
)
def test_wrong_usage_is_exit_code_2(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(["bundle", "create", *NEEDED, "--payload", "-", *argv])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--source", "dtn:none"], "anonymous source"),
        (["--source", "nowhere"], "no endpoint ID"),
        (["--flags", "is_admin_record,report_delivery"], "an administrative record asks for status reports"),
        (["--payload", "/no/such/file"], "No such file"),
    ],
)
def test_an_impossible_bundle_is_not_written(
    argv: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payload, output = tmp_path / "payload", tmp_path / "bundle"
    payload.write_bytes(b"x")
    arguments = [*NEEDED, "--payload", str(payload), "--output", str(output), *argv]
    assert run(["bundle", "create", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_json_of_create(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = create(tmp_path, "--json", "--creation-time", "5")
    assert json.loads(capsys.readouterr().out) == {
        "id": "dtn://dpop1/inbox@5.0",
        "file": str(tmp_path / "bundle"),
        "size_bytes": len(data),
    }


def validate(tmp_path: Path, data: bytes, *argv: str) -> int:
    path = tmp_path / "b"
    path.write_bytes(data)
    return run(["bundle", "validate", str(path), *argv])


def test_a_sound_bundle_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(tmp_path, create(tmp_path, "--creation-time", "5")) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{tmp_path}/b: sound"
    assert validate(tmp_path, create(tmp_path, "--creation-time", "5"), "--json") == 0
    verdict = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert verdict == {"is_sound": True, "reason": None, "message": None, "id": "dtn://dpop1/inbox@5.0"}


@pytest.mark.parametrize("path", folder_files("malformed"), ids=lambda path: path.stem)
def test_a_malformed_bundle_is_one_line_and_exit_code_1(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validate(tmp_path, read_hex(path)) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert f"# refused: {line.split(': ')[1]}" in path.read_text().splitlines()
    assert validate(tmp_path, read_hex(path), "--json") == 1
    verdict: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert verdict["is_sound"] is False
    assert verdict["message"] in line
