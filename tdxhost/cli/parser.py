# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: its options and sub-commands."""

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from types import ModuleType

from tdxhost import __version__
from tdxhost.cli.context import Context

#: Sub-commands; each is a module, with _ for -.
COMMANDS = (
    *("doctor", "enable", "status", "cpu-enable", "info", "memory"),
    *("decode", "report", "compare", "trace", "watch", "validate"),
)

#: Formats of every command, and those that one command alone has.
FORMATS = ("table", "json", "yaml")
OF_ONE = {"openmetrics": "report", "nfd": "report"}

DESCRIPTION = "Brings up Intel TDX on this host, step by step, and shows what happened."
EPILOG = """\
exit codes: 0 all well; 1 a check or a CPU failed; 2 usage; 3 TDX or the driver is absent;
4 not permitted; 130 interrupted"""

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


def dispatch(words: Sequence[str]) -> int:
    """Runs the sub-command that words ask for and gives its exit code."""
    arguments = parse(words)
    level = LEVELS[min(arguments.verbose, len(LEVELS) - 1)]
    logging.basicConfig(stream=sys.stderr, level=level, format="%(name)s: %(message)s")
    return int(arguments.command.run(Context.given(arguments)))


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Reads the command line; command is the module of the sub-command.

    Only the sub-command that is there is loaded: all of them take longer than most take to run.
    """
    named = next((word for word in words if word in COMMANDS), None)
    arguments = _parser([named] if named else COMMANDS).parse_args(words)
    arguments.format = getattr(arguments, "format", "table")
    arguments.verbose = getattr(arguments, "verbose", 0)
    return arguments


def _module(command: str) -> ModuleType:
    return import_module(f"tdxhost.cli.{command.replace('-', '_')}")


def _common(commands: Sequence[str]) -> argparse.ArgumentParser:
    """Options that stand before or after the sub-command, which is one of commands."""
    own = [form for form, owner in OF_ONE.items() if owner in commands]
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument(
        "--format",
        type=partial(_format, commands),
        choices=(*FORMATS, *own),
        help="a table for people (default), or a document with a stable schema"
        + "".join(f"; {form} ({OF_ONE[form]} only)" for form in own),
    )
    common.add_argument(
        "-v", "--verbose", action="count", help="more detail; twice for a log of every call"
    )
    return common


def _format(commands: Sequence[str], form: str) -> str:
    """A format; the error for one of another command names that one."""
    owner = OF_ONE.get(form)
    if owner and owner not in commands:
        reason = f"{form} is a format of {owner} alone, not of {' or '.join(commands)}"
        raise argparse.ArgumentTypeError(reason)
    return form


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; man page and completion are made from it."""
    return _parser(COMMANDS)


def _parser(names: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tdxhost",
        description=DESCRIPTION,
        epilog=EPILOG,
        parents=[_common(names)],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    added = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for command in map(_module, names):
        sub = added.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.DESCRIPTION,
            parents=[_common([command.NAME])],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.set_defaults(command=command)
        command.add_arguments(sub)
    return parser
