# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the cffi binding from the uapi header, and man page and completion from the parser.

All else is in pyproject.toml.
"""

import os
import runpy
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HEADER = Path("kmod/include/uapi/linux/tdxhost.h")
BUILDER = Path("tdxhost/_abi_build.py")

PARSER = ("tdxhost.cli.parser", "build_parser")
COMPLETION = {
    "bash": "share/bash-completion/completions/tdxhost",
    "zsh": "share/zsh/site-functions/_tdxhost",
    "fish": "share/fish/vendor_completions.d/tdxhost.fish",
}
MAN_PAGE = "share/man/man8/tdxhost.8"


def completion_command(shell: str) -> list[str]:
    """Arguments of the Python that prints the completion of a shell."""
    return ["-m", "shtab", ".".join(PARSER), "--prog", "tdxhost", "--shell", shell]


def man_page_command(version: str, description: str) -> list[str]:
    """Arguments of the Python that prints the man page."""
    module, function = PARSER
    return [
        *("-c", "from argparse_manpage.cli import main; main()"),
        *("--module", module, "--function", function),
        *("--prog", "tdxhost", "--project-name", "tdxhost", "--version", version),
        *("--description", description, "--manual-section", "8"),
        *("--manual-title", "System Administration"),
    ]


class BuildWithGenerated(build_py):  # type: ignore[misc]
    """build_py that also writes tdxhost/_tdxhost_abi.py, and what is made from the package."""

    def run(self) -> None:
        super().run()
        where = Path() if self.editable_mode else Path(self.build_lib)
        write_module = runpy.run_path(str(BUILDER))["write_module"]
        write_module(HEADER, where / "tdxhost" / "_tdxhost_abi.py")
        if not self.editable_mode:
            self.distribution.data_files = self._make_shared()

    def _make_shared(self) -> list[tuple[str, list[str]]]:
        """Files for below the installation's prefix, made by the package just built."""
        meta = self.distribution.metadata
        commands = {path: completion_command(shell) for shell, path in COMPLETION.items()}
        commands[MAN_PAGE] = man_page_command(meta.version, meta.description)
        made = []
        for place, command in commands.items():
            file = Path(self.build_lib).parent / "generated" / place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self._output_of(command))
            made.append((str(Path(place).parent), [str(file)]))
        return made

    def _output_of(self, arguments: list[str]) -> bytes:
        """Standard output of a Python that finds the package just built; never empty."""
        paths = [str(Path(self.build_lib).resolve()), os.environ.get("PYTHONPATH", "")]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "COLUMNS": "80"}
        # The package in the current folder has no binding.
        env["PYTHONSAFEPATH"] = "1"
        command = [sys.executable, *arguments]
        made = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE).stdout
        if not made:
            raise RuntimeError(f"{' '.join(command)} printed nothing")
        return made

    def get_source_files(self) -> list[str]:
        """Names what an sdist has to carry, the header outside the package included."""
        sources: list[str] = super().get_source_files()
        kept = [name for name in sources if Path(name).name != "_tdxhost_abi.py"]
        return [*kept, str(HEADER)]


setup(cmdclass={"build_py": BuildWithGenerated})
