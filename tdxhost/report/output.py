# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes a file whole or not at all.

What a report holds the kernel may show to root alone: its file is its owner's to read, and
belongs to whoever called sudo. A public one is there for a service of the host to read, which
has a user of its own, and belongs to who runs the command.
"""

import os
import secrets
import signal
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tdxhost.errors import Usage

#: What ends a process that would leave a temporary file behind; Ctrl-C is an exception anyway.
SIGNALS = (signal.SIGTERM, signal.SIGHUP)
OWNER_ONLY = 0o600
FOR_EVERYONE = 0o644


class Ended(BaseException):
    """A signal has come that ends the process."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def unwinding() -> Iterator[None]:
    """SIGTERM and SIGHUP first unwind what runs in it, and then end the process as ever."""
    before = {
        number: signal.signal(number, _end)
        for number in SIGNALS
        if signal.getsignal(number) is signal.SIG_DFL
    }
    try:
        yield
    except Ended as ended:
        signal.signal(ended.number, signal.SIG_DFL)
        os.kill(os.getpid(), ended.number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> None:
    raise Ended(number)


def check_target(path: Path) -> None:
    """Usage where no file can be put at a path, or something that is no file is there."""
    if not path.parent.is_dir():
        raise Usage(f"{path} can't be written: there is no folder {path.parent}")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(path, error) from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise Usage(f"{path} is {what}, and is left as it is", "Give another name with --output.")


def replace_file(path: Path, content: bytes, *, public: bool = False) -> None:
    """Puts a file at a path, where an older one may be; until it is whole that one stays."""
    check_target(path)
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _write(new, content, public=public)
        new.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        new.unlink(missing_ok=True)


def _write(path: Path, content: bytes, *, public: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY)
    with os.fdopen(fd, "wb") as file:
        if public:
            # Whatever the umask of a timer is.
            os.fchmod(fd, FOR_EVERYONE)
        elif owner := caller(os.environ):
            os.fchown(fd, *owner)
        file.write(content)
        file.flush()
        os.fsync(fd)


def caller(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """User and group of who called sudo; None where nobody did."""
    ids = environment.get("SUDO_UID", ""), environment.get("SUDO_GID", "")
    if os.geteuid() != 0 or not all(one.isdigit() for one in ids):
        return None
    return int(ids[0]), int(ids[1])


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _unwritable(path: Path, error: OSError) -> Usage:
    return Usage(f"{path} can't be written: {error.strerror or error}")
