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
