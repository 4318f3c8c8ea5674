# SPDX-License-Identifier: GPL-2.0-or-later
"""How wide a terminal is."""

import os
import sys

#: Width of what is piped, unless COLUMNS says otherwise: a mail, a log.
DEFAULT_COLUMNS = 80


def columns() -> int:
    """COLUMNS of the environment, else the width of the terminal that is standard output.

    As shutil.get_terminal_size() has it, without the compressors that shutil imports.
    """
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        found = os.get_terminal_size(sys.__stdout__.fileno()).columns if sys.__stdout__ else 0
    except (OSError, ValueError):
        found = 0
    return found or DEFAULT_COLUMNS
