# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: its options and sub-commands."""

import argparse
import sys
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from tdxhost import __version__
from tdxhost.cli.commands import COMMANDS, load
from tdxhost.cli.context import Context
from tdxhost.cli.terminal import columns

#: Formats of every command, and those that one command alone has.
FORMATS = ("table", "json", "yaml")
OF_ONE = {"openmetrics": "report", "nfd": "report"}

DESCRIPTION = "Brings up Intel TDX on this host, step by step, and shows what happened."
EPILOG = """\
exit codes: 0 all well; 1 a check or a CPU failed; 2 usage; 3 TDX or the driver is absent;
4 not permitted; 130 interrupted"""

LEVELS = ("WARNING", "INFO", "DEBUG")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal; argparse asks shutil for that, and waits for all it imports."""

    def __init__(self, prog: str, **given: Any) -> None:
        super().__init__(prog, **{"width": columns() - 2, **given})


def dispatch(words: Sequence[str]) -> int:
    """Runs the sub-command that words ask for and gives its exit code."""
    arguments = parse(words)
    if arguments.verbose:
        log(LEVELS[min(arguments.verbose, len(LEVELS) - 1)])
    return int(load(arguments.command).run(Context.given(arguments)))


def log(level: str) -> None:
    """Sends what is logged to standard error; what nobody asked for is not even loaded."""
    import logging

    logging.basicConfig(stream=sys.stderr, level=level, format="%(name)s: %(message)s")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Reads the command line; command is the name of the sub-command.

    Only the sub-command that is there is loaded. Where none is, it is help or an error, which
    take no more than names.
    """
    named = next((word for word in words if word in COMMANDS), None)
    parser = _parser([named], [named]) if named else _parser(COMMANDS, ())
    arguments = parser.parse_args(words)
    arguments.format = getattr(arguments, "format", "table")
    arguments.verbose = getattr(arguments, "verbose", 0)
    return arguments


def _common(commands: Collection[str]) -> argparse.ArgumentParser:
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


def _format(commands: Collection[str], form: str) -> str:
    """A format; the error for one of another command names that one."""
    owner = OF_ONE.get(form)
    if owner and owner not in commands:
        reason = f"{form} is a format of {owner} alone, not of {' or '.join(commands)}"
        raise argparse.ArgumentTypeError(reason)
    return form


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; man page and completion are made from it."""
    return _parser(COMMANDS, COMMANDS)


def _parser(names: Collection[str], whole: Collection[str]) -> argparse.ArgumentParser:
    """A parser that knows the sub-commands in names, and of those in whole all options."""
    parser = argparse.ArgumentParser(
        prog="tdxhost",
        description=DESCRIPTION,
        epilog=EPILOG,
        parents=[_common(names)],
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    added = parser.add_subparsers(
        required=True, metavar="COMMAND", title="commands", prog="tdxhost", dest="command"
    )
    for name in names:
        if name in whole:
            _add(added, name)
        else:
            added.add_parser(name, help=COMMANDS[name])
    return parser


def _add(added: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str) -> None:
    """Adds a sub-command with all its options."""
    command = load(name)
    sub = added.add_parser(
        name,
        help=COMMANDS[name],
        description=command.DESCRIPTION,
        parents=[_common([name])],
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    command.add_arguments(sub)
