# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost trace: every SEAMCALL as it happens."""

import argparse
import json
import math
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tdxhost.cli.context import Context, complain, write_document
from tdxhost.cli.running import Child, Stops, check_reader, ended_by
from tdxhost.cli.tables import show
from tdxhost.cli.trace_output import Lines, Traced, summary_blocks, trace_document
from tdxhost.documents import Document
from tdxhost.errors import ExitCode, Usage
from tdxhost.findings import Finding
from tdxhost.report.output import check_target, replace_file, unwinding
from tdxhost.trace import Call, Words, chrome_trace, in_order
from tdxhost.tracefs import Instance, find
from tdxhost.words import count

DESCRIPTION = """\
Shows every SEAMCALL of the driver's as it happens, from the tracepoint tdxhost:seamcall: when
it began, on which CPU, how long it took, leaf, what its registers say, and status; then a
summary by leaf. Traces while COMMAND runs, for some seconds, or until Ctrl-C:

  sudo tdxhost trace -- tdxhost enable
  sudo tdxhost trace --quiet --output enable.json -- tdxhost enable

What COMMAND prints goes where it would go anyway; with --format json or yaml, its standard
output goes to standard error, so that there is one document. Ctrl-C ends COMMAND, and the
summary follows. Needs root, and tracefs.

exit codes: that of COMMAND, 128 + N where signal N ended it, 127 where there is no such
command and 126 where it can't be run; without COMMAND 0, also after Ctrl-C (130 where --for
was not over); otherwise as for all commands"""

#: What the shell says of a command that is not there, and of one that can't be run.
NOT_FOUND, NOT_RUN = 127, 126

#: How often the buffers are emptied. They hold what a CPU can do in many times that.
TICK_S = 0.05

#: A call that ended this long before the buffers were read is in them, whatever its CPU.
SETTLED_NS = 20_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --for, --output, --quiet and the command."""
    parser.add_argument(
        "--for", dest="seconds", type=float, metavar="SECONDS", help="trace for so long"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="also write a trace that Perfetto and chrome://tracing open, a track a CPU",
    )
    parser.add_argument("--quiet", action="store_true", help="show the summary alone")
    parser.add_argument(
        "words", nargs="*", metavar="COMMAND", help="what to run meanwhile, with its arguments"
    )


def run(context: Context) -> int:
    """Traces, then sums up."""
    given = context.arguments
    _check(given)
    with context.open_driver() as driver:
        provider = driver.get_info().provider
    traced = Traced(provider, keeps=bool(given.output) or not (context.for_people or given.quiet))
    words = Words(context.judge.reference)
    lines = Lines(words) if context.for_people and not given.quiet else None
    try:
        code = _trace(context, traced, lines)
    except CantStart as error:
        complain([Finding(f"{given.words[0]}: {error}")])
        return error.exit_code
    try:
        if given.output:
            _write(given.output, chrome_trace(traced.calls, words, traced.began_ns))
    finally:
        if lines and lines.titled:
            print()
        _sum_up(context, traced, words)
    return code


def _write(path: Path, trace: Document) -> None:
    with unwinding():
        replace_file(path, json.dumps(trace, ensure_ascii=False).encode() + b"\n")


def _sum_up(context: Context, traced: Traced, words: Words) -> None:
    """Writes the summary, or the document, and says what the trace lacks."""
    given = context.arguments
    if context.for_people:
        show(summary_blocks(traced))
    else:
        document = trace_document(traced, words, with_calls=not given.quiet)
        write_document(document, given.format)
    sys.stdout.flush()
    complain(_losses(traced))


def _check(given: argparse.Namespace) -> None:
    if given.words and given.seconds is not None:
        raise Usage("--for and COMMAND: it is one or the other")
    if given.seconds is not None and not (math.isfinite(given.seconds) and given.seconds > 0):
        raise Usage("--for takes a number of seconds above 0")
    if given.output:
        check_target(given.output)


class CantStart(Exception):
    """COMMAND can't be started."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        self.exit_code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUN


def _trace(context: Context, traced: Traced, lines: Lines | None) -> int:
    """Traces until that is over; the exit code."""
    given = context.arguments
    with ExitStack() as stack:
        stops = stack.enter_context(Stops())
        instance = stack.enter_context(Instance(find()))
        instance.start()
        traced.began_ns = time.monotonic_ns()
        child = None
        if given.words:
            child = _start(stack, Child(given.words, keep_stdout=context.for_people))
        session = Session(instance, stops, child, given.seconds)
        for calls in session.batches():
            traced.add(calls)
            if lines:
                lines.show(calls, traced.began_ns)
        traced.ended_ns = time.monotonic_ns()
        traced.lost, traced.gaps = instance.lost(), instance.gaps
        return session.exit_code


def _start(stack: ExitStack, child: Child) -> Child:
    try:
        return stack.enter_context(child)
    except OSError as error:
        raise CantStart(error) from error


@dataclass
class Session:
    """Follows the trace until the command has ended, the time is over, or a signal came."""

    instance: Instance
    stops: Stops
    child: Child | None
    seconds: float | None
    _signals: list[int] = field(default_factory=list)

    def batches(self) -> Iterator[list[Call]]:
        """The calls as they come, each batch in order."""
        until = math.inf if self.seconds is None else time.monotonic() + self.seconds
        poll = self._poll()
        held: list[Call] = []
        over = False
        while not over:
            ready = poll.poll(1000 * max(min(TICK_S, until - time.monotonic()), 0))
            check_reader(ready)
            over = self._is_over(until)
            if over:
                self.instance.stop()
            settled = math.inf if over else time.monotonic_ns() - SETTLED_NS
            held += map(Call.of, self.instance.read())
            yield in_order(call for call in held if call.end_ns <= settled)
            held = [call for call in held if call.end_ns > settled]

    def _poll(self) -> select.poll:
        poll = select.poll()
        poll.register(self.stops, select.POLLIN)
        if self.child:
            poll.register(self.child, select.POLLIN)
        else:
            # Only a command that runs is more important than a reader that is gone.
            poll.register(sys.stdout, 0)
        return poll

    def _is_over(self, until: float) -> bool:
        signals = self.stops.taken()
        self._signals += signals
        if self.child is None:
            return bool(self._signals) or time.monotonic() >= until
        for number in signals:
            self.child.stop(number)
        self.child.remind()
        return self.child.has_ended

    @property
    def exit_code(self) -> int:
        """What it came to."""
        if self.child is not None:
            return self.child.exit_code
        if not self._signals:
            return ExitCode.OK
        first = self._signals[0]
        if first == signal.SIGINT and self.seconds is None:
            return ExitCode.OK
        return ended_by(first)


def _losses(traced: Traced) -> Iterator[Finding]:
    """Says what the trace lacks."""
    for cpu, lost in sorted(traced.lost.items()):
        yield Finding(
            f"{count(lost, 'SEAMCALL')} of CPU {cpu} were lost: they came faster than they "
            "could be read"
        )
    if traced.gaps:
        yield Finding(
            "the driver was loaded anew meanwhile: SEAMCALLs just before and after that may be "
            "missing"
        )
