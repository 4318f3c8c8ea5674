# SPDX-License-Identifier: GPL-2.0-or-later
"""What is read of a host beside its driver: files, folders, MSRs, the kernel's log.

All of the package reads through a Host, so that a recording can stand in for one.
"""

import errno
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator
from io import FileIO

from tdxhost.errors import NotRead, Why
from tdxhost.sieve import sieve, sieve_log

KERNEL_LOG = "/dev/kmsg"
#: One read gives one record, and none is longer (Linux kernel/printk/printk.c).
RECORD_BYTES = 8192
US_PER_S = 1_000_000

REASONS = {
    errno.ENOENT: Why.ABSENT,
    errno.ENODEV: Why.ABSENT,
    errno.ENXIO: Why.ABSENT,
    errno.ENOTDIR: Why.ABSENT,
    errno.EACCES: Why.DENIED,
    errno.EPERM: Why.DENIED,
}


class Host(ABC):
    """What can be read of a host; NotRead says why something can't."""

    @abstractmethod
    def data(self, path: str) -> bytes:
        """Content of a file, as far as it matters for TDX (sieve.py)."""

    @abstractmethod
    def names(self, path: str) -> tuple[str, ...]:
        """Names in a folder, sorted."""

    @abstractmethod
    def msr(self, cpu: int, address: int) -> int:
        """An MSR of a CPU; Why.FAULT where RDMSR faults."""

    @abstractmethod
    def log(self) -> tuple[str, ...]:
        """The kernel's log, lines as dmesg prints them, as far as they matter for TDX."""

    def text(self, path: str) -> str:
        """A file's content as text, without space around it."""
        return self.data(path).decode(errors="replace").strip()

    def text_or(self, path: str, instead: str = "") -> str:
        """text(), or what to take where it can't be read."""
        try:
            return self.text(path)
        except NotRead:
            return instead

    def has(self, path: str) -> bool:
        """Whether there is something at a path, as far as the caller may see."""
        folder, _, name = path.rpartition("/")
        try:
            return name in self.names(folder or "/")
        except NotRead:
            return False


class LiveHost(Host):
    """This machine; files are those below root."""

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self._root = os.fspath(root).rstrip("/")
        self._asked_for: set[str] = set()

    def _at(self, path: str) -> str:
        return f"{self._root}/{path.lstrip('/')}"

    def data(self, path: str) -> bytes:
        """Reads the file."""
        try:
            with FileIO(self._at(path)) as file:
                return sieve(path, file.readall())
        except OSError as error:
            raise _not_read(path, error) from error

    def names(self, path: str) -> tuple[str, ...]:
        """Lists the folder."""
        try:
            with os.scandir(self._at(path)) as entries:
                return tuple(sorted(entry.name for entry in entries))
        except OSError as error:
            raise _not_read(path, error) from error

    def msr(self, cpu: int, address: int) -> int:
        """Reads /dev/cpu/N/msr (msr(4)); as root it loads the kernel's msr module first."""
        path = self._at(f"dev/cpu/{cpu}/msr")
        if not os.access(path, os.F_OK):
            self._load("msr")
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return int(struct.unpack("<Q", os.pread(fd, 8, address))[0])
            finally:
                os.close(fd)
        except OSError as error:
            raise _msr_not_read(cpu, address, error) from error

    def _load(self, module: str) -> None:
        if module in self._asked_for or os.geteuid() != 0 or self._root:
            return
        import subprocess

        self._asked_for.add(module)
        try:
            subprocess.run(["modprobe", "-q", module], check=False, capture_output=True)
        except FileNotFoundError:
            # What is read next says that it is not there.
            return

    def log(self) -> tuple[str, ...]:
        """Reads /dev/kmsg from its beginning, as far as it is kept."""
        return sieve_log(map(_line, log_records(self._at(KERNEL_LOG))))


class LogTail:
    """A context manager: what the kernel logs from here on; NotRead where that can't be read.

    Lines are as dmesg prints them, all of them.
    """

    def __init__(self) -> None:
        self._fd = _open_log(KERNEL_LOG)
        os.lseek(self._fd, 0, os.SEEK_END)

    def __enter__(self) -> "LogTail":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def lines(self) -> tuple[str, ...]:
        """What was logged since it was last asked."""
        return tuple(_line(record) for record in _records(self._fd))


def log_records(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Records of the kernel's log, as far as it is kept; NotRead where it can't be read."""
    fd = _open_log(path)
    try:
        return tuple(_records(fd))
    finally:
        os.close(fd)


def _open_log(path: str | os.PathLike[str]) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _not_read("the kernel's log", error) from error


def _records(fd: int) -> Iterator[str]:
    while True:
        try:
            record = os.read(fd, RECORD_BYTES)
        except BrokenPipeError:  # overwritten meanwhile; the next read goes on behind
            continue
        except OSError:  # EAGAIN: that was the last
            return
        if not record:
            return
        yield record.decode("utf-8", errors="replace")


def _line(record: str) -> str:
    """A record of /dev/kmsg as dmesg prints it (Documentation/ABI/testing/dev-kmsg)."""
    head, _, text = record.partition(";")
    text = text.partition("\n")[0]
    words = head.split(",")
    if len(words) < 3 or not words[2].isdigit():
        return text
    seconds, rest = divmod(int(words[2]), US_PER_S)
    return f"[{seconds:5}.{rest:06}] {text}"


def _not_read(what: str, error: OSError) -> NotRead:
    why = REASONS.get(error.errno or 0, Why.FAILED)
    hint = "Run it as root." if why is Why.DENIED else ""
    return NotRead(what, why, error.strerror or str(error), hint)


def _msr_not_read(cpu: int, address: int, error: OSError) -> NotRead:
    if error.errno == errno.EIO:
        what = f"MSR {address:#x} of CPU {cpu}"
        return NotRead(what, Why.FAULT, "RDMSR faults, as where the processor has no such MSR")
    if error.errno == errno.ENOENT:
        return NotRead(
            f"MSRs of CPU {cpu}",
            Why.ABSENT,
            f"there is no /dev/cpu/{cpu}/msr",
            "Load the kernel's msr module: sudo modprobe msr",
        )
    return _not_read(f"MSRs of CPU {cpu}", error)
