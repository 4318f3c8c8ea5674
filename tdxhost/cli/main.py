# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: parses it, runs a sub-command, turns exceptions into exit codes."""

import argparse
import sys

from tdxhost import __version__


def run() -> None:
    """Runs the command and leaves the process with its exit code."""
    parser = argparse.ArgumentParser(prog="tdxhost")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.parse_args()
    sys.exit(0)
