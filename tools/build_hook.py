# SPDX-License-Identifier: Apache-2.0
"""Puts machine code into the wheel when MESHD_COMPILE=1 is set: then it is for this platform and Python only.

Without it the wheel is pure Python and runs everywhere. What is compiled, and how, is the matter of tools/compile.py.
"""

import os
import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileHook(BuildHookInterface[Any]):
    """Adds the extension modules of build/compiled to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version` is "editable" for a development install, which stays pure."""
        if os.environ.get("MESHD_COMPILE") != "1" or version == "editable":
            return
        tool = runpy.run_path(str(Path(self.root) / "tools" / "compile.py"))
        tool["compile_package"](tool["DEFAULT_FOLDER"])
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for module in tool["DEFAULT_FOLDER"].rglob("*.so"):
            build_data["force_include"][str(module)] = str(module.relative_to(tool["DEFAULT_FOLDER"]))
