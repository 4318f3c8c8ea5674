# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets `python -m tdxhost` be the command `tdxhost`."""

from tdxhost.cli.main import run

if __name__ == "__main__":
    run()
