#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts/install takes of a checkout, in an archive, and a sum that tells two apart."""

from __future__ import annotations

import argparse
import hashlib
import sys
import tarfile
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent

#: Where it lies in the archive.
CHECKOUT = Path("checkout")
WHEELS = Path("wheels")

_WHAT = ("LICENSE", "README.md", "kmod", "pyproject.toml", "scripts", "setup.py", "tdxhost")

# What builds leave beside the sources, and what is for this machine alone.
_LEFT_OUT = (
    *("__pycache__", "*.pyc", "_tdxhost_abi.py", "*.egg-info", "build", "ansible"),
    *("*.o", "*.ko", "*.mod", "*.mod.c", ".*", "Module.symvers", "modules.order"),
)


def files(project: Path, wheels: Path | None = None) -> dict[Path, Path]:
    """Files by the place that they have in the archive, in order."""
    found = {CHECKOUT / file.relative_to(project): file for file in _sources(project)}
    if wheels is not None:
        found |= {WHEELS / file.name: file for file in wheels.glob("*.whl")}
    return dict(sorted(found.items()))


def _sources(project: Path) -> Iterable[Path]:
    for name in _WHAT:
        top = project / name
        for file in [top] if top.is_file() else top.rglob("*"):
            inside = file.relative_to(project).parts
            if file.is_file() and not any(map(_is_left_out, inside)):
                yield file


def _is_left_out(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in _LEFT_OUT)


def sum_of(found: Mapping[Path, Path]) -> str:
    """A sum over names, contents, and which can be run."""
    whole = hashlib.sha256()
    for place, file in found.items():
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        whole.update(f"{place} {_mode(file):o} {content}\n".encode())
    return whole.hexdigest()


def _mode(file: Path) -> int:
    return 0o755 if file.stat().st_mode & 0o100 else 0o644


def pack(found: Mapping[Path, Path], archive: Path) -> None:
    """Writes an archive, gzipped, of files that are root's."""
    with tarfile.open(archive, "w:gz", compresslevel=6) as out:
        for place, file in found.items():
            member = tarfile.TarInfo(str(place))
            member.size, member.mode = file.stat().st_size, _mode(file)
            member.mtime = int(file.stat().st_mtime)
            with file.open("rb") as content:
                out.addfile(member, content)


def main() -> int:
    """Prints the sum, and writes the archive where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", metavar="DIR", type=Path, default=PROJECT)
    parser.add_argument("--wheels", metavar="DIR", type=Path, help="add the wheels in DIR")
    parser.add_argument("--archive", metavar="FILE", type=Path, help="write it (.tar.gz)")
    given = parser.parse_args()
    if given.wheels is not None and not given.wheels.is_dir():
        parser.error(f"{given.wheels}: there is no such folder")
    found = files(given.checkout, given.wheels)
    if given.archive is not None:
        pack(found, given.archive)
    print(sum_of(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
