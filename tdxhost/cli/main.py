# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a command line, and turns exceptions into exit codes.

Imports little, so that hardly any of the start-up lies outside main() and its handling of
Ctrl-C.
"""

import os
import sys
from collections.abc import Sequence

from tdxhost.errors import (
    DriverDenied,
    DriverMissing,
    ExitCode,
    Interrupted,
    TdxAbsent,
    TdxHostError,
    Usage,
)

#: What the shell says of a process that SIGPIPE ended.
BROKEN_PIPE = 141

EXIT_CODES = (
    (Usage, ExitCode.USAGE),
    (DriverMissing, ExitCode.ABSENT),
    (TdxAbsent, ExitCode.ABSENT),
    (DriverDenied, ExitCode.DENIED),
    (Interrupted, ExitCode.INTERRUPTED),
    (TdxHostError, ExitCode.FAILED),
)


def run() -> None:
    """Runs the command and leaves the process with its exit code."""
    sys.exit(main(sys.argv[1:]))


def main(words: Sequence[str]) -> int:
    """Runs the command with words as its arguments and gives its exit code."""
    if sys.stdout is None:
        # The caller closed it: tdxhost status >&-
        _discard_output()
    try:
        return _flushed(words)
    except KeyboardInterrupt:
        return _fail(Interrupted("interrupted"))
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE
    except TdxHostError as error:
        return _fail(error)
    except OSError as error:
        _discard_output()
        return _fail(TdxHostError(f"unexpected error: {error}"))


def _flushed(words: Sequence[str]) -> int:
    """Runs the command; a reader that went away shows here, not when Python exits."""
    from tdxhost.cli.parser import dispatch

    try:
        return dispatch(words)
    finally:
        sys.stdout.flush()


def _discard_output() -> None:
    """Replaces standard output; what is still buffered is lost, and Python does not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if sys.stdout is None:
        sys.stdout = os.fdopen(nowhere, "w")
    else:
        os.dup2(nowhere, sys.stdout.fileno())


def _fail(error: TdxHostError) -> int:
    print(f"tdxhost: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  {error.hint}", file=sys.stderr)
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))
