# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver's tracepoint through tracefs, in an instance of its own.

An instance has buffers of its own, so that nobody else's tracing is disturbed; Linux
Documentation/trace/ftrace.rst, "Instances".
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tdxhost.access import Access
from tdxhost.errors import DriverDenied, TdxHostError
from tdxhost.host import LiveHost
from tdxhost.ringbuffer import EventFormat, Page, PageLayout

#: Where tracefs is mounted; the second where debugfs brings it along.
PLACES = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
EVENT = Path("events/tdxhost/seamcall")
NAME = "tdxhost-{pid}"
LEFT_BEHIND = re.compile(r"tdxhost-(\d+)")

#: What is read of an event (kmod/trace.h).
FIELDS = ("leaf", "status", "duration_ns", "code", "trap", "in", "out")

#: CLOCK_MONOTONIC, in which the driver's own records are.
CLOCK = "mono"

#: The kernel's default for each CPU, some 10 000 SEAMCALLs, and most for all CPUs together.
CPU_KIB = 1408
ALL_KIB = 256 * 1024
LEAST_KIB = 64

#: What a CPU's stats count of events that nobody can read any more.
LOST = re.compile(r"^(?:overrun|commit overrun|dropped events): (\d+)$", re.MULTILINE)


class TracingMissing(TdxHostError):
    """The kernel's tracing, or the driver's part of it, is not there."""


class TracingDenied(DriverDenied):
    """The caller may not use the kernel's tracing."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it was read: CPU, time in CLOCK_MONOTONIC ns, fields."""

    cpu: int
    time_ns: int
    fields: dict[str, tuple[int, ...]]


def find(places: tuple[Path, ...] = PLACES) -> Path:
    """Where tracefs is; TracingMissing or TracingDenied when it can't be used."""
    for place in places:
        try:
            if (place / "instances").is_dir():
                return place
        except OSError as error:
            raise _failure(place, error) from error
    if not places[0].is_dir():
        raise TracingMissing(
            f"there is no {places[0]}: this kernel was built without tracing",
            "It takes a kernel with CONFIG_FTRACE and CONFIG_EVENT_TRACING, as distributions have.",
        )
    raise TracingMissing(
        "tracefs is not mounted", f"Mount it with: sudo mount -t tracefs tracefs {places[0]}"
    )


class Instance:
    """A context manager: an instance of the tracing, which is gone at its end."""

    def __init__(self, tracing: Path) -> None:
        self._tracing = tracing
        self.path = tracing / "instances" / NAME.format(pid=os.getpid())
        #: How often the driver was loaded anew, which loses SEAMCALLs around that.
        self.gaps = 0
        self._on = False
        self._buffers: dict[int, int] = {}
        self._format: EventFormat | None = None
        self._layout: PageLayout | None = None
        self._seen_lost: dict[int, int] = {}

    def __enter__(self) -> Self:
        """Makes the instance, with the event off; TracingMissing or TracingDenied."""
        try:
            self._remove_left_behind()
            self.path.mkdir()
        except OSError as error:
            raise _failure(self.path, error) from error
        try:
            self._set_up()
        except OSError as error:
            self.close()
            raise _failure(self.path, error) from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the instance."""
        for fd in self._buffers.values():
            os.close(fd)
        self._buffers = {}
        with suppress(OSError):
            self.stop()
        with suppress(FileNotFoundError):
            self.path.rmdir()

    def start(self) -> None:
        """Switches the event on."""
        if not (self.path / EVENT).is_dir():
            raise TracingMissing(
                "the tracing of this kernel knows no SEAMCALLs: the driver's tracepoint is missing",
                "It takes a kernel with CONFIG_EVENT_TRACING, and the driver loaded.",
            )
        self._switch_on()

    def stop(self) -> None:
        """Switches it off; what was seen can still be read."""
        self._on = False
        # A driver that was unloaded has taken its tracepoint along.
        with suppress(FileNotFoundError):
            self._write(f"{EVENT}/enable", "0")

    def read(self) -> list[Event]:
        """What there is to read, CPU by CPU."""
        self._follow_driver()
        return [event for cpu in self._buffers for event in self._read_cpu(cpu)]

    def lost(self) -> dict[int, int]:
        """How many events were lost so far, by CPU."""
        counted = {cpu: max(self._counted(cpu), self._seen_lost.get(cpu, 0)) for cpu in self._cpus}
        return {cpu: lost for cpu, lost in counted.items() if lost}

    @property
    def _cpus(self) -> list[int]:
        folders = (self.path / "per_cpu").iterdir()
        return sorted(int(folder.name.removeprefix("cpu")) for folder in folders)

    def _set_up(self) -> None:
        header = self._tracing / "events/header_page"
        self._layout = PageLayout.parse(header.read_text(encoding="utf-8"), str(header))
        self._write("trace_clock", CLOCK)
        cpus = self._cpus
        each = max(min(CPU_KIB, ALL_KIB // len(cpus)), LEAST_KIB)
        self._write("buffer_size_kb", str(each))
        for cpu in cpus:
            file = self.path / f"per_cpu/cpu{cpu}/trace_pipe_raw"
            self._buffers[cpu] = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def _switch_on(self) -> None:
        file = self.path / EVENT / "format"
        self._format = EventFormat.parse(file.read_text(encoding="utf-8"), FIELDS, str(file))
        self._write(f"{EVENT}/enable", "1")
        self._on = True

    def _follow_driver(self) -> None:
        """Switches the event on once more where the driver was unloaded and has come back."""
        if not self._on:
            return
        try:
            if (self.path / EVENT / "enable").read_text(encoding="utf-8").startswith("1"):
                return
            self._switch_on()
        except OSError:
            return
        self.gaps += 1

    def _read_cpu(self, cpu: int) -> Iterator[Event]:
        assert self._layout is not None
        assert self._format is not None
        while data := _next_page(self._buffers[cpu], self._layout.size):
            page = Page(self._layout, data)
            if page.lost:
                self._seen_lost[cpu] = self._seen_lost.get(cpu, 0) + page.lost
            for time, event in page.events():
                if self._format.is_of(event):
                    yield Event(cpu, time, self._format.unpack(event))

    def _counted(self, cpu: int) -> int:
        stats = (self.path / f"per_cpu/cpu{cpu}/stats").read_text(encoding="utf-8")
        return sum(map(int, LOST.findall(stats)))

    def _write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text, encoding="utf-8")

    def _remove_left_behind(self) -> None:
        """Removes instances of processes that were killed; one that is in use stays."""
        for folder in self.path.parent.iterdir():
            match = LEFT_BEHIND.fullmatch(folder.name)
            if match and (folder == self.path or not _is_alive(int(match[1]))):
                with suppress(OSError):
                    folder.rmdir()


def _next_page(buffer: int, size: int) -> bytes:
    """A page of a CPU's buffer; empty where there is none yet."""
    try:
        return os.read(buffer, size)
    except BlockingIOError:
        return b""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _failure(path: Path, error: OSError) -> TdxHostError:
    """Says why the tracing can't be used."""
    reason = os.strerror(error.errno or 0)
    if error.errno not in (errno.EPERM, errno.EACCES):
        return TracingMissing(f"{error.filename or path} can't be used: {reason}")
    access = Access.read(LiveHost())
    if access.lockdown == "confidentiality":
        return TracingDenied(
            f"{path} can't be used: kernel lockdown (confidentiality) forbids tracing, to root too",
            access.way_out,
        )
    return TracingDenied(f"{path} can't be used: {reason}", "Run it as root: sudo tdxhost trace")
