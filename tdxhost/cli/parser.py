# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: its options and sub-commands."""

import argparse
import sys
from collections.abc import Collection, Sequence
from functools import partial

from tdxhost import __version__
from tdxhost.cli.commands import COMMANDS, load
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

    def __init__(
        self,
        prog: str,
        indent_increment: int = 2,
        max_help_position: int = 24,
        width: int | None = None,
    ) -> None:
        super().__init__(prog, indent_increment, max_help_position, width or columns() - 2)


class Parser(argparse.ArgumentParser):
    """A parser that has Formatter from its first option on: each is formatted to see if it can."""

    def __init__(self, **given: object) -> None:
        super().__init__(**{"formatter_class": Formatter, "allow_abbrev": False, **given})  # type: ignore[arg-type]


class Name(Parser):
    """Stands for a sub-command in help and in errors, where nobody parses with it."""

    def __init__(self, **_: object) -> None:
        """Makes none of the groups, actions and texts that a parser has."""


def dispatch(words: Sequence[str]) -> int:
    """Runs the sub-command that words ask for and gives its exit code."""
    arguments = parse(words)
    from tdxhost.cli.context import Context

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
    parser = _parser([named]) if named else _parser(COMMANDS, whole=False)
    arguments = parser.parse_args(words)
    arguments.format = getattr(arguments, "format", "table")
    arguments.verbose = getattr(arguments, "verbose", 0)
    return arguments


def _common(commands: Collection[str]) -> Parser:
    """Options that stand before or after the sub-command, which is one of commands."""
    own = [form for form, owner in OF_ONE.items() if owner in commands]
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
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
    return _parser(COMMANDS)


def _parser(names: Collection[str], *, whole: bool = True) -> argparse.ArgumentParser:
    """A parser of the sub-commands in names, whole or by name alone."""
    parser = Parser(
        prog="tdxhost",
        description=DESCRIPTION,
        epilog=EPILOG,
        parents=[_common(names)],
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    added = parser.add_subparsers(
        required=True,
        metavar="COMMAND",
        title="commands",
        prog="tdxhost",
        dest="command",
        parser_class=Parser if whole else Name,
    )
    for name in names:
        if whole:
            _add(added, name)
        else:
            added.add_parser(name, help=COMMANDS[name])
    return parser


def _add(added: "argparse._SubParsersAction[Parser]", name: str) -> None:
    """Adds a sub-command with all its options."""
    command = load(name)
    sub = added.add_parser(
        name,
        help=COMMANDS[name],
        description=command.DESCRIPTION,
        parents=[_common([name])],
    )
    command.add_arguments(sub)
