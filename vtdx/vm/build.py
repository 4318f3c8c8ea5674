# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the project's own parts: plugin, seam library, driver, package."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vtdx.vm import cache, roots
from vtdx.vm.errors import SetupFailed
from vtdx.vm.kernels import Kernel

PROJECT = Path(__file__).resolve().parent.parent.parent

_SOURCE_SUFFIXES = {
    *(".c", ".h", ".py", ".toml", ".yaml", ".md"),
    *(".css", ".j2", ".js", ".service"),
}
_SOURCE_NAMES = {"Makefile", "Kbuild", "LICENSE", "dkms.conf"}
_NOT_SOURCE = {"build", "__pycache__"}


def sources(*folders: str) -> list[Path]:
    """Source files below folders of the project, and files named themselves."""
    found: list[Path] = []
    for name in folders:
        path = PROJECT / name
        found += [path] if path.is_file() else [p for p in path.rglob("*") if _is_source(p)]
    return sorted(found)


def _is_source(path: Path) -> bool:
    if _NOT_SOURCE & set(path.relative_to(PROJECT).parts) or not path.is_file():
        return False
    generated = path.name.startswith("_tdxhost_abi") or path.name.endswith(".mod.c")
    return (path.suffix in _SOURCE_SUFFIXES or path.name in _SOURCE_NAMES) and not generated


def copy(files: list[Path], into: Path) -> None:
    """Copy files of the project to the same places below another folder."""
    for file in files:
        target = into / file.relative_to(PROJECT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)


def vtdx_folder() -> Path:
    """A folder with vtdx.so and libseam.so, built from this checkout."""
    files = [*sources("vtdx/plugin", "vtdx/seam"), PROJECT / "vtdx/Makefile"]

    def make(into: Path) -> None:
        into.mkdir()
        command = ["make", "-s", "-C", str(PROJECT / "vtdx"), f"O={into}", f"-j{os.cpu_count()}"]
        roots.run_logged(command, "building vtdx")

    key = cache.key_of_files(files, PROJECT, _compiler_id())
    return cache.entry("vtdx", key, make, "building the vtdx plugin")


def _compiler_id() -> str:
    gcc = shutil.which("gcc")
    if gcc is None:
        raise SetupFailed("gcc is not installed.", "apt-get install gcc")
    return roots.run_logged([gcc, "--version"], "gcc --version").splitlines()[0]


def driver(kernel: Kernel, make_args: str = "") -> Path:
    """tdxhost.ko for a kernel; ``make_args`` go to make (W=1, for example)."""
    return module(kernel, "kmod", "tdxhost", make_args)


@dataclass(frozen=True)
class Edit:
    """A change to a source file, whose name is relative to its folder; ``old`` is there once."""

    file: str
    old: str
    new: str

    def apply(self, folder: Path) -> None:
        """Make it below a folder; SetupFailed where it does not fit."""
        path = folder / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise SetupFailed(
                f"{self.file} has {self.old!r} {text.count(self.old)} times, not once."
            )
        path.write_text(text.replace(self.old, self.new))


def module(
    kernel: Kernel, folder: str, name: str, make_args: str = "", edits: tuple[Edit, ...] = ()
) -> Path:
    """``name``.ko for a kernel, built from a folder of the project without a warning.

    ``edits`` are made to a copy, for a driver that has to be found out.
    """
    if kernel.headers is None:
        raise SetupFailed(
            f"There are no headers to build {name}.ko for {kernel.image} with.",
            "Name a bzImage in its build tree, or take --no-driver.",
        )
    files = sources(folder)

    def make(into: Path) -> None:
        with scratch_folder(kernel.toolroot and kernel.toolroot / "var/tmp") as scratch:
            copy(files, scratch)
            for edit in edits:
                edit.apply(scratch / folder)
            output = _make_module(kernel, scratch / folder, f"{make_args} modules")
            if "warning:" in output:
                raise SetupFailed(f"{name}.ko does not build cleanly:\n{output.strip()}")
            shutil.copy(scratch / folder / f"{name}.ko", into)

    about = (name, kernel.release, str(kernel.headers), make_args, *map(repr, edits))
    key = cache.key_of_files(files, PROJECT, *about)
    return cache.entry("module", key, make, f"building {name}.ko for {kernel.release}")


def _make_module(kernel: Kernel, source: Path, make_args: str) -> str:
    """Run the kernel's make on a module's folder, in the kernel's own root."""
    what = f"building in {source.name}"
    if kernel.toolroot is None:
        command = ["make", "-s", "-C", str(kernel.headers), f"M={source}", *make_args.split()]
        return roots.run_logged(command, what)
    inside = Path("/") / source.relative_to(kernel.toolroot)
    return roots.chroot(
        kernel.toolroot, f"make -s -C {kernel.headers} M={inside} {make_args}", what
    )


@contextmanager
def scratch_folder(base: Path | None) -> Iterator[Path]:
    """A temporary folder that is removed even where root wrote into it."""
    path = Path(tempfile.mkdtemp(prefix="tdxhost-", dir=base))
    try:
        yield path
    finally:
        cache.remove(path)


def wheel() -> Path:
    """The tdxhost package as a wheel, in a folder of its own."""
    files = sources("tdxhost", "pyproject.toml", "kmod/include", "README.md", "LICENSE")
    files += [path for path in (PROJECT / "setup.py", PROJECT / "MANIFEST.in") if path.is_file()]

    def make(into: Path) -> None:
        with scratch_folder(None) as scratch:
            copy(files, scratch)
            command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps"]
            command += ["--no-build-isolation", "-w", str(into), str(scratch)]
            roots.run_logged(command, "building the package")

    key = cache.key_of_files(files, PROJECT)
    return next(cache.entry("wheel", key, make, "building the package").glob("*.whl"))
