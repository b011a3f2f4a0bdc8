#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compiles the hot modules of meshd to machine code by mypyc, from the very sources that run without it.

    tools/compile.py [--into FOLDER]          default: build/compiled

FOLDER gets a copy of the package `meshd` with extension modules beside the sources named in COMPILED. Whoever puts it
first on the module path runs the compiled form; the checkout itself stays as it is, so that no stale machine code ever
hides an edited source. Nothing is done when FOLDER was made from the same sources by the same tools.

Needs the development packages (mypy brings mypyc), a C compiler and the headers of Python.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[1]
DEFAULT_FOLDER: Final = REPOSITORY / "build" / "compiled"
STAMP: Final = "stamp"
COMPILE_TIMEOUT_S: Final = 1200

SETUP: Final = """\
from mypyc.build import mypycify
from setuptools import setup

setup(name="meshd-compiled", ext_modules=mypycify({modules!r}, opt_level="3", group_name="meshd"))
"""


class CompileError(Exception):
    """What is missing or went wrong, and the remedy."""


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Compile the hot modules of meshd to machine code.")
    parser.add_argument("--into", type=Path, default=DEFAULT_FOLDER, help="folder to make (default build/compiled)")
    args = parser.parse_args()
    try:
        is_new = compile_package(args.into.resolve())
    except CompileError as error:
        print(f"compile: {error}", file=sys.stderr)
        return 1
    print(f"compile: {args.into} {'made' if is_new else 'is up to date'}")
    return 0


def hot_modules() -> list[str]:
    """Paths of the modules that are worth it, relative to the repository: `[tool.meshd-compile] modules`."""
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        modules: list[str] = tomllib.load(file)["tool"]["meshd-compile"]["modules"]
    for module in modules:
        if not (REPOSITORY / module).is_file():
            raise CompileError(f"[tool.meshd-compile] names {module}, which is not there: correct pyproject.toml")
    return modules


def compile_package(folder: Path) -> bool:
    """Make `folder`; False when it is up to date.

    Errors:
        CompileError: a tool is missing, or the compiler failed.
    """
    wanted = _fingerprint()
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text() == wanted:
        return False
    _check_tools()
    shutil.rmtree(folder, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(REPOSITORY / "meshd", folder / "meshd", ignore=ignore)
    _run_mypyc(folder, hot_modules())
    shutil.rmtree(folder / "build", ignore_errors=True)
    stamp.write_text(wanted)
    return True


def _check_tools() -> None:
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None and shutil.which("cc") is None:
        raise CompileError(f"the C compiler {compiler} is missing: install gcc, or run meshd without compiling it")
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.is_file():
        raise CompileError(f"{header} is missing: install python3-dev, or run meshd without compiling it")


def _run_mypyc(folder: Path, modules: list[str]) -> None:
    with (REPOSITORY / "pyproject.toml").open() as file:
        text = file.read()
    # mypy's settings, without the project's metadata, which setuptools would read as its own.
    begin = text.index("[tool.mypy]")
    (folder / "mypy.ini").unlink(missing_ok=True)
    (folder / "pyproject.toml").write_text(text[begin : text.index("[tool.ruff]", begin)])
    (folder / "setup.py").write_text(SETUP.format(modules=modules))
    compiler = {} if shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]) else {"CC": "cc"}
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"],
        cwd=folder,
        env=os.environ | compiler | {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=COMPILE_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise CompileError("mypyc failed:\n" + done.stdout.decode(errors="replace")[-4000:])
    for leftover in ("setup.py", "pyproject.toml"):
        (folder / leftover).unlink()


def _fingerprint() -> str:
    digest = hashlib.sha256(f"{sys.version} {sysconfig.get_platform()} {version('mypy')}".encode())
    sources = [*(REPOSITORY / "meshd").rglob("*.py"), REPOSITORY / "pyproject.toml", Path(__file__)]
    for source in sorted(sources):
        digest.update(str(source.relative_to(REPOSITORY)).encode() + source.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
