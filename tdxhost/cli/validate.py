# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost validate: what it is asked for. validate_run.py does it, and loads pytest for that."""

import argparse
from pathlib import Path

from tdxhost.cli.context import Context
from tdxhost.errors import ExitCode

DESCRIPTION = """\
Runs the tests of a plan: a list of boots, each from an untouched TDX module on. What needs a
reboot is said, and done after it with --resume; --reboot goes through all boots by itself, and
over a crash. Results are kept as they come, with the evidence for each failure; at the end there
are result.json, junit.xml and report.html. Needs root.

Plans: smoke (a minute), standard (the default), soak (hours), hotplug (disturbs the machine), or
a YAML file. Exits with 0 when all has passed, with 1 when something failed, could not run, or
waits for a reboot."""

#: As in tdxhost.validation.reboot, which help does without.
STATE = Path("/var/lib/tdxhost")
UNIT = "tdxhost-validate.service"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds PLAN and all options."""
    parser.add_argument(
        "plan", metavar="PLAN", nargs="?", default="standard", help="a ready plan, or a YAML file"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--list", action="store_true", help="show plans and tests: id, what each holds, and why"
    )
    what.add_argument(
        "--check", action="store_true", help="look for errors in PLAN, and run nothing"
    )
    what.add_argument(
        "--resume", action="store_true", help="go on with the run that was begun last"
    )
    parser.add_argument(
        "--reboot",
        action="store_true",
        help="reboot the machine as often as the plan needs it, and go on by itself after each "
        f"(systemd, {UNIT})",
    )
    parser.add_argument(
        "--only",
        metavar="ID",
        action="append",
        help="of the plan, only this test; may be given more than once",
    )
    parser.add_argument(
        "--tests", metavar="DIR", type=Path, help="a folder with tests of your own (pytest)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, help="repeat a run's random choices (default: by chance)"
    )
    parser.add_argument(
        "--time", metavar="TIME", help="how long the plan's soak tests take in all, such as 30m"
    )
    parser.add_argument(
        "--against",
        metavar="FILE",
        type=Path,
        help="also say what is different in this result.json, of another machine or BIOS",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="put result.json, junit.xml, report.html here too",
    )
    parser.add_argument(
        "--state",
        metavar="DIR",
        type=Path,
        default=STATE,
        help=f"where runs are kept, with their evidence (default: {STATE})",
    )


def run(context: Context) -> ExitCode:
    """Runs a plan, or what else was asked for."""
    from tdxhost.cli.validate_run import validate

    return validate(context)
