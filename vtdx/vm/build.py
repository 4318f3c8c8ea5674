# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the project's own parts: plugin, seam library, driver, package."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
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

# Folders with objects, 20 MB each: one for each kernel, with and without W=1, and some more.
_MOST_MODULES = 40


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

    ``edits`` are made to a copy, for a driver that has to be found out; only what they change
    is compiled again.
    """
    if kernel.headers is None:
        raise SetupFailed(
            f"There are no headers to build {name}.ko for {kernel.image} with.",
            "Name a bzImage in its build tree, or take --no-driver.",
        )
    files = sources(folder)
    key = cache.key_of_files(files, PROJECT, name, kernel.release, str(kernel.headers), make_args)
    what = f"building {name}.ko for {kernel.release}"

    def make_all(into: Path) -> None:
        with _scratch(kernel) as scratch:
            copy(files, scratch)
            _make_module(kernel, scratch / folder, name, make_args)
            shutil.copytree(scratch / folder, into)

    def make_edited(into: Path) -> None:
        with _scratch(kernel) as scratch:
            # With the times of its files, by which make knows what is up to date.
            shutil.copytree(built, scratch / folder)
            for edit in edits:
                edit.apply(scratch / folder)
            _make_module(kernel, scratch / folder, name, make_args)
            shutil.copy(scratch / folder / f"{name}.ko", into)

    built = cache.entry("built-module", key, make_all, what, most=_MOST_MODULES)
    if not edits:
        return built / f"{name}.ko"
    edited = cache.key_of(key, *map(repr, edits))
    return cache.entry("edited-module", edited, make_edited, f"{what}, edited")


def _scratch(kernel: Kernel) -> AbstractContextManager[Path]:
    return scratch_folder(kernel.toolroot and kernel.toolroot / "var/tmp")


def _make_module(kernel: Kernel, source: Path, name: str, make_args: str) -> None:
    """Run the kernel's make on a module's folder, in the kernel's own root.

    There the folder is always in one place: make takes commands that name another for others.
    """
    what, words = f"building in {source.name}", f"{make_args} -j{os.cpu_count()} modules"
    if kernel.toolroot is None:
        command = ["make", "-s", "-C", str(kernel.headers), f"M={source}", *words.split()]
        output = roots.run_logged(command, what)
    else:
        script = f"make -s -C {kernel.headers} M=/mnt {words}"
        output = roots.chroot(kernel.toolroot, script, what, mnt=source)
    if "warning:" in output:
        raise SetupFailed(f"{name}.ko does not build cleanly:\n{output.strip()}")


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
