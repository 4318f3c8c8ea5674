# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the cffi binding from the uapi header; all else is in pyproject.toml."""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HEADER = Path("kmod/include/uapi/linux/tdxhost.h")
BUILDER = Path("tdxhost/_abi_build.py")


class BuildWithAbi(build_py):  # type: ignore[misc]
    """build_py that also writes tdxhost/_tdxhost_abi.py."""

    def run(self) -> None:
        super().run()
        where = Path() if self.editable_mode else Path(self.build_lib)
        write_module = runpy.run_path(str(BUILDER))["write_module"]
        write_module(HEADER, where / "tdxhost" / "_tdxhost_abi.py")

    def get_source_files(self) -> list[str]:
        """Names what an sdist has to carry, the header outside the package included."""
        sources: list[str] = super().get_source_files()
        kept = [name for name in sources if Path(name).name != "_tdxhost_abi.py"]
        return [*kept, str(HEADER)]


setup(cmdclass={"build_py": BuildWithAbi})
