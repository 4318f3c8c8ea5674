# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: parses it, runs a sub-command, turns exceptions into exit codes."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from tdxhost import __version__
from tdxhost.errors import (
    DriverDenied,
    DriverMissing,
    ExitCode,
    TdxAbsent,
    TdxHostError,
    Usage,
)

DESCRIPTION = "Brings up Intel TDX on this host, step by step, and shows what happened."
EPILOG = """\
exit codes: 0 all well; 1 a check or a CPU failed; 2 usage; 3 TDX or the driver is absent;
4 not permitted; 130 interrupted"""

#: What the shell says of a process that a signal ended.
INTERRUPTED = 130
BROKEN_PIPE = 141

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)

EXIT_CODES = (
    (Usage, ExitCode.USAGE),
    (DriverMissing, ExitCode.ABSENT),
    (TdxAbsent, ExitCode.ABSENT),
    (DriverDenied, ExitCode.DENIED),
    (TdxHostError, ExitCode.FAILED),
)


def run() -> None:
    """Runs the command and leaves the process with its exit code."""
    sys.exit(main(sys.argv[1:]))


def main(words: Sequence[str]) -> int:
    """Runs the command with words as its arguments and gives its exit code."""
    try:
        return _flushed(words)
    except KeyboardInterrupt:
        print("tdxhost: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Else Python complains when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except TdxHostError as error:
        return _fail(error)
    except OSError as error:
        return _fail(TdxHostError(f"unexpected error: {error}", "Run it again with -vv."))


def _flushed(words: Sequence[str]) -> int:
    """Runs the command; a reader that went away shows here, not when Python exits."""
    try:
        return _main(words)
    finally:
        sys.stdout.flush()


def _fail(error: TdxHostError) -> int:
    print(f"tdxhost: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  {error.hint}", file=sys.stderr)
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def _main(words: Sequence[str]) -> int:
    from tdxhost.cli.context import Context

    commands = _commands()
    arguments = _parser(commands).parse_args(words)
    arguments.format = getattr(arguments, "format", "table")
    arguments.verbose = getattr(arguments, "verbose", 0)
    level = LEVELS[min(arguments.verbose, len(LEVELS) - 1)]
    logging.basicConfig(stream=sys.stderr, level=level, format="%(name)s: %(message)s")
    return int(commands[arguments.command].run(Context(arguments)))


def _commands() -> dict[str, ModuleType]:
    # They need the generated binding, whose absence is an error with a message of its own.
    from tdxhost.cli import cpu_enable, enable, info, memory, status

    return {command.NAME: command for command in (status, enable, cpu_enable, info, memory)}


def _common() -> argparse.ArgumentParser:
    """Options that stand before or after the sub-command."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument(
        "--format",
        choices=("table", "json", "yaml"),
        help="a table for people (default), or a document with a stable schema",
    )
    common.add_argument(
        "-v", "--verbose", action="count", help="more detail and a log; twice for every call"
    )
    return common


def _parser(commands: dict[str, ModuleType]) -> argparse.ArgumentParser:
    common = _common()
    parser = argparse.ArgumentParser(
        prog="tdxhost",
        description=DESCRIPTION,
        epilog=EPILOG,
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    added = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        sub = added.add_parser(
            name,
            help=command.HELP,
            description=command.DESCRIPTION,
            parents=[common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(sub)
    return parser
