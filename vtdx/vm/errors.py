# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong around a virtual machine, apart from the command in it."""

from __future__ import annotations


class VmError(Exception):
    """Something that a person has to do something about.

    ``message`` says what was tried and what happened, ``hint`` what to do next.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class SetupFailed(VmError):
    """A part that a machine is made of could not be fetched or built."""


class BadPlatform(VmError):
    """A platform file, or what the command line makes of it, makes no sense."""


class MachineLost(VmError):
    """The machine did not come up, or went away; not the command's failure."""


class DeadlinePassed(VmError):
    """The overall deadline came before the command was done."""


class SnapshotFailed(VmError):
    """A machine could not be kept, or another one could not start from it."""


class ControlRefused(VmError):
    """The plugin did not do what its control channel asked for; ``why`` is its answer."""

    def __init__(self, request: str, why: str) -> None:
        super().__init__(f"vtdx refused {request!r}: {why}")
        self.why = why


class SessionEnded(VmError):
    """A session's process ended, with ``status``; ``stderr`` is the end of what it said."""

    def __init__(self, name: str, status: int, stderr: str) -> None:
        super().__init__(f"Session {name!r} ended with status {status}.", stderr.strip())
        self.status = status
        self.stderr = stderr


class BadAnswer(VmError):
    """A session's process wrote a line that is no JSON."""
