# SPDX-License-Identifier: GPL-2.0-or-later
"""The exceptions of the package: what happened, and what to do about it."""

import errno
import os
from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """Exit codes of the command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    ABSENT = 3
    DENIED = 4
    #: What the shell says of a process that SIGINT ended.
    INTERRUPTED = 130


class TdxHostError(Exception):
    """What happened (message) and what to do next (hint, may be empty)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NotBuilt(TdxHostError):
    """The package runs from a source tree in which its binding was never generated."""


class DriverMissing(TdxHostError):
    """There is no /dev/tdxhost."""


class DriverDenied(TdxHostError):
    """The caller may not open /dev/tdxhost."""


class DriverRefused(TdxHostError):
    """The driver refused a request; errno and command say what and which."""

    def __init__(self, number: int, command: str, hint: str = "", message: str = "") -> None:
        refused = f"{command} was refused by the driver: {errno_text(number)}"
        super().__init__(message or refused, hint)
        self.errno = number
        self.command = command


class Unsupported(DriverRefused):
    """The driver, or the provider that it uses, does not serve this command."""


class KernelOwnsTdx(Unsupported):
    """The kernel initialises TDX by itself, and nobody else can."""

    def __init__(self, command: str) -> None:
        message = f"{command}: the kernel owns TDX here, and initialises it by itself at boot"
        hint = "See what it did with: sudo tdxhost status, and: dmesg | grep virt/tdx"
        super().__init__(errno.EOPNOTSUPP, command, hint, message)


class OptionUnsupported(Unsupported):
    """The loaded driver can't do what an option asks for; nothing was started."""

    def __init__(self, option: str, hint: str = "") -> None:
        message = f"{option}: the loaded driver can't do that; nothing was started"
        super().__init__(errno.EOPNOTSUPP, option, hint, message)


class NoEnabledCpu(DriverRefused):
    """No enabled CPU is there to ask the TDX module on."""


class TdxAbsent(TdxHostError):
    """This host has no usable TDX; code is the driver's finding (TDXHOST_CODE_*)."""

    def __init__(self, message: str, hint: str = "", code: int = 0) -> None:
        super().__init__(message, hint)
        self.code = code


class SeamcallFailed(TdxHostError):
    """Bring-up failed on a CPU or at a step; cpu is None where it is about none."""

    def __init__(self, message: str, hint: str = "", cpu: int | None = None) -> None:
        super().__init__(message, hint)
        self.cpu = cpu


class Interrupted(TdxHostError):
    """Ctrl-C ended a command; the message says how far it came."""


class BadData(TdxHostError):
    """Something that was read makes no sense; path and where say what."""

    def __init__(self, path: str, where: str, reason: str, hint: str = "") -> None:
        super().__init__(f"{path}, {where}: {reason}", hint)
        self.path = path
        self.where = where


class Why(StrEnum):
    """Why something could not be read."""

    ABSENT = "absent"
    DENIED = "denied"
    FAULT = "fault"
    FAILED = "failed"
    NOT_RECORDED = "not_recorded"


class NotRead(TdxHostError):
    """Something of a host that could not be read: what, why, and the system's own words."""

    def __init__(self, what: str, why: Why, reason: str, hint: str = "") -> None:
        super().__init__(f"{what}: {reason}", hint)
        self.what = what
        self.why = why
        self.reason = reason


class Usage(TdxHostError):
    """What the caller asked for can't be."""


class CpuUnavailable(Usage):
    """A CPU that was asked for is absent, offline or outside the caller's cpuset."""

    def __init__(self, cpu: int, reason: str, hint: str = "") -> None:
        super().__init__(f"CPU {cpu} {reason}", hint)
        self.cpu = cpu


def errno_text(number: int) -> str:
    """Says an errno as people search for it: name, meaning, number."""
    name = errno.errorcode.get(number, "unknown errno")
    return f"{name}, {os.strerror(number)} ({number})"
