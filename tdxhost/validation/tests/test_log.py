# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel has logged since the driver was loaded."""

import re

from tdxhost.errors import NotRead
from tdxhost.validation import could_not_run, kernel_log, requirement
from tdxhost.validation.problems import none_of

#: Errors of the driver that are their caller's doing, as tests of this suite are: ENABLE asked
#: for before CPUs were enabled, or ended by a signal.
CALLERS_DOING = (
    re.compile(r"failed on CPU .*: an online CPU is not enabled"),
    re.compile(r"failed.*: a signal came"),
)
TODO = "Read the log around these lines: dmesg --time-format iso."


@requirement(
    "log.clean",
    holds="the kernel's log has no warning, oops, hang, machine check or error of the driver",
    source="Linux Documentation/admin-guide/bug-hunting.rst; README, what the driver logs",
)
def test_clean() -> None:
    """From the line on with which the driver was loaded in this boot, or all that is kept."""
    try:
        lines = kernel_log.since_load(kernel_log.read())
    except NotRead as error:
        could_not_run(error.message)
    bad = kernel_log.complaints(lines)
    bad += kernel_log.driver_errors(lines, CALLERS_DOING)
    none_of(map(str, sorted(bad, key=lambda line: line.time_us)), TODO)
