# SPDX-License-Identifier: GPL-2.0-or-later
"""A command that runs while it is watched, and signals that end the watching in good order."""

import errno
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Self

#: What ends a process in good order.
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: What the shell adds to the number of the signal that ended a process.
SIGNAL_BASE = 128

#: A terminal sends Ctrl-C to the command as well: time that it has to heed that one.
GRACE_S = 0.5


def ended_by(number: int) -> int:
    """The exit code of a process that a signal ended, as shells have it."""
    return SIGNAL_BASE + number


def check_reader(ready: Iterable[tuple[int, int]]) -> None:
    """BrokenPipeError when nobody reads standard output any more.

    ready is what poll() said; a pipe says so without being asked for any event.
    """
    gone = select.POLLERR | select.POLLHUP
    if any(fd == sys.stdout.fileno() and events & gone for fd, events in ready):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class Stops:
    """A context manager: signals are noted in it, and interrupt nothing.

    A signal that the caller's parent had ignored stays ignored. fileno() can be read from, by
    poll() for example, when there is one.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, object] = {}
        self._wakeup = -1

    def __enter__(self) -> Self:
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in ENDINGS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, _noted)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        """For poll() and select()."""
        return self._read

    def taken(self) -> list[int]:
        """Signals that came since it was last asked."""
        try:
            return [number for number in os.read(self._read, 256) if number in ENDINGS]
        except BlockingIOError:
            return []


def _noted(number: int, frame: FrameType | None) -> None:
    """The number is in the pipe by now."""


class Child:
    """A context manager: a command that runs; it has ended when the context does.

    OSError when it can't be started. Its standard output goes to standard error where that
    of this process is for a document.
    """

    def __init__(self, words: Sequence[str], *, keep_stdout: bool = True) -> None:
        self._words = words
        self._stdout = None if keep_stdout else sys.stderr
        self._asked = 0
        self._forward_at: float | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._words, stdout=self._stdout)
        self._pidfd = os.pidfd_open(self._process.pid)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._pidfd)
        self._process.wait()

    def fileno(self) -> int:
        """Is readable when the command has ended."""
        return self._pidfd

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        return self._process.poll() is not None

    @property
    def exit_code(self) -> int:
        """Its exit code, as shells have it."""
        status = self._process.wait()
        return status if status >= 0 else ended_by(-status)

    def stop(self, number: int) -> None:
        """Passes a signal on; the second and third Ctrl-C ask more firmly."""
        if number != signal.SIGINT:
            self._process.send_signal(number)
            return
        self._asked += 1
        if self._asked == 1:
            self._forward_at = time.monotonic() + GRACE_S
        else:
            self._process.send_signal(signal.SIGTERM if self._asked == 2 else signal.SIGKILL)

    def remind(self) -> None:
        """Sends the command a Ctrl-C that it seems not to have got by itself."""
        if self._forward_at is not None and time.monotonic() >= self._forward_at:
            self._forward_at = None
            self._process.send_signal(signal.SIGINT)
