# SPDX-License-Identifier: GPL-2.0-or-later
"""The user's cache: things that are made once and used by every run.

An entry is ``<cache>/<name>/<key>``, a file or a folder whose content follows
from ``key``. It appears whole or not at all, and one process makes it while the
others wait.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vtdx.vm import report

_KEEP_SECONDS = 14 * 24 * 3600


def root() -> Path:
    """The folder of all entries, in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "tdxhost"


def key_of(*parts: str | bytes) -> str:
    """A short name for what an entry is made of."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:16]


def key_of_files(files: Iterable[Path], base: Path, *parts: str) -> str:
    """``key_of`` for the names (below ``base``) and the contents of files."""
    pieces: list[str | bytes] = list(parts)
    for file in sorted(files):
        pieces += [str(file.relative_to(base)), file.read_bytes()]
    return key_of(*pieces)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove(path: Path) -> None:
    """Delete a file or a folder, also one that root made on our behalf."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            subprocess.run([*as_root(), "rm", "-rf", "--one-file-system", str(path)], check=True)
    else:
        path.unlink(missing_ok=True)


def _prune(folder: Path, keep: Path, most: int | None) -> None:
    """Drop what nobody has used for two weeks, and all but the ``most`` that were used last."""
    limit = time.time() - _KEEP_SECONDS
    used = {lock.with_suffix(""): lock.stat().st_mtime for lock in folder.glob("*.lock")}
    there = sorted((path for path in used if path.exists()), key=lambda path: -used[path])
    for number, path in enumerate(there):
        late = most is not None and number >= most
        if path != keep and (late or used[path] < limit):
            remove(path)


def entry(
    name: str, key: str, make: Callable[[Path], None], what: str = "", most: int | None = None
) -> Path:
    """The path of entry ``name``/``key``, made by ``make(path)`` where it is missing.

    ``what`` is the line of progress shown meanwhile. ``most`` is for large entries that are
    made in no time: so many of them are kept.
    """
    path = root() / name / key
    lock = path.with_suffix(".lock")
    if path.exists():
        # The entry itself may be root's; the lock tells when it was used last.
        lock.touch()
        return path
    with _locked(lock):
        if path.exists():
            return path
        part = path.with_name(f"{key}.part")
        remove(part)
        try:
            if what:
                with report.step(what):
                    make(part)
            else:
                make(part)
            part.rename(path)
        finally:
            remove(part)
        _prune(path.parent, path, most)
    return path


def as_root() -> list[str]:
    """The prefix of a command that needs root."""
    return [] if os.geteuid() == 0 else ["sudo"]
