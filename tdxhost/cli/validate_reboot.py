# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run that waits for a reboot says, and the reboot where that was asked for."""

import signal
import sys
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager

from tdxhost.cli.context import complain
from tdxhost.errors import Interrupted
from tdxhost.findings import Finding
from tdxhost.validation import reboot
from tdxhost.validation.journal import Journal
from tdxhost.validation.result import OPEN, Run
from tdxhost.validation.words import RESUME
from tdxhost.words import count

#: How long a person has to stop a reboot.
DELAY_S = 10

AFTER_IT = f"After one, go on with: {RESUME}"
BY_ITSELF = f"Or let it reboot and go on by itself: {RESUME} --reboot"
KEEPS_ON = f"it goes on at the next boot; not wanted: sudo systemctl disable {reboot.UNIT}"


@contextmanager
def unattended(came: Container[int], *, wanted: bool) -> Iterator[None]:
    """A run that goes on by itself no longer does so once it was stopped, or can't go on.

    Only SIGTERM leaves that as it is: a shutdown of the machine sends it to the unit.
    """
    try:
        yield
    except BaseException:
        if wanted and signal.SIGTERM not in came:
            reboot.disable()
        elif wanted:
            _say(KEEPS_ON)
        raise


def reboot_for(run: Run, journal: Journal) -> None:
    """Reboots the machine for what is left of a run, after a while in which Ctrl-C stops that."""
    if error := reboot.too_often(journal.read(), more=1):
        raise error
    left = count(run.count(*OPEN), "test")
    if not sys.stderr.isatty():
        _say(f"{left} left: rebooting; not wanted: sudo systemctl disable {reboot.UNIT}")
        reboot.reboot()
        return
    _say(f"{left} left: rebooting in {DELAY_S} s; Ctrl-C stops this")
    try:
        time.sleep(DELAY_S)
    except KeyboardInterrupt:
        raise Interrupted("interrupted: no reboot", AFTER_IT) from None
    reboot.reboot()


def say_next(run: Run, *, began: Run) -> None:
    """Says that the machine has to be rebooted, and how to go on."""
    left = count(run.count(*OPEN), "test")
    message = f"{left} left that need the TDX module as it is after a reboot: reboot first"
    if run.tests == began.tests:
        message = f"nothing was run: {message}"
    hint = f"sudo reboot, and then: {RESUME}"
    complain([Finding(message, hint, left=(BY_ITSELF,))])


def say_over(run: Run) -> None:
    """Says that there is nothing to go on with."""
    message = f"the run {run.id} is over since {run.ended_at}; nothing was run"
    complain([Finding(message, "Begin another one: sudo tdxhost validate PLAN")])


def _say(text: str) -> None:
    print(f"tdxhost: {text}", file=sys.stderr, flush=True)
