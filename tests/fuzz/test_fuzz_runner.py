# SPDX-License-Identifier: Apache-2.0
"""The runner of the fuzz targets: what it reads out of libFuzzer's words, and what it says where there is no fuzzer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.run import REPOSITORY, _escaped, _result
from tests.fuzz.target import load, names

LOG = """\
#2\tINITED cov: 12 ft: 20 corp: 1/1b exec/s: 0 rss: 40Mb
#4096\tpulse  cov: 31 ft: 64 corp: 5/9b lim: 4 exec/s: 1000 rss: 41Mb
stat::number_of_executed_units: 5000
stat::average_exec_per_sec:     1250
"""
WITHOUT_ATHERIS = (
    "import sys; sys.modules['atheris'] = None; sys.argv = ['run.py', '--seconds', '1'];"
    "from tests.fuzz.run import main; sys.exit(main())"
)


def test_a_finished_run() -> None:
    result = _result("eid", LOG, 0, [])
    assert (result.executed, result.per_second, result.coverage) == (5000, 1250, 31)
    assert not result.is_failed


@pytest.mark.parametrize(("log", "code", "new"), [(LOG, 77, []), (LOG, 0, [Path("crash-1")]), ("", 0, [])])
def test_a_finding_a_crash_and_a_run_of_nothing_are_failures(log: str, code: int, new: list[Path]) -> None:
    assert _result("eid", log, code, new).is_failed


def test_a_run_that_was_cut_short_counts_what_it_did() -> None:
    assert _result("eid", LOG.partition("stat::")[0], 1, []).executed == 4096


@pytest.mark.parametrize(("ci", "code"), [("true", 1), ("", 0)])
def test_where_there_is_no_fuzzer_it_says_so_and_fails_in_ci_only(ci: str, code: int) -> None:
    environment = os.environ | {"CI": ci}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ATHERIS],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "atheris is not installed" in done.stdout


def test_words_of_a_dictionary_are_escaped() -> None:
    assert _escaped(b'a"\\\x00') == "\\x61\\x22\\x5c\\x00"


@pytest.mark.parametrize("name", names())
def test_a_dictionary_has_no_empty_word(name: str) -> None:
    assert all(load(name).dictionary())
