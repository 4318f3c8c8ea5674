# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost report: everything there is to say of a host, for people and for machines."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from tdxhost.cli.context import Context, add_from, document_text
from tdxhost.cli.tables import Block, show
from tdxhost.doctor.engine import Outcome
from tdxhost.errors import ExitCode, Usage
from tdxhost.recording import Recording
from tdxhost.report.bundle import bundle
from tdxhost.report.collect import replay, take
from tdxhost.report.document import report_document
from tdxhost.report.model import Report
from tdxhost.report.nfd import nfd
from tdxhost.report.openmetrics import openmetrics
from tdxhost.report.output import check_target, replace_file, unwinding
from tdxhost.report.page import page
from tdxhost.report.words import sentence

DESCRIPTION = """\
Writes one HTML file that needs no network: the verdict, CPUs, steps, memory, the TDX module,
MSRs and kernel, as far as they bear on TDX. Host names, addresses and serial numbers are not
read. The file is there whole or not at all, for its owner alone to read; with sudo that is the
caller. As root it says more. Exits with 1 when something failed.

--format openmetrics writes metrics for node_exporter's textfile collector, --format nfd features
for Node Feature Discovery's local source. With --output the file is there whole or not at all,
for everyone to read; without it they go to standard output. Where the driver can't be asked they
hold what else is known, and the exit code is 3 or 4; where all is well nothing is said."""

FILE = "tdxhost-report.html"
STDOUT = "-"

#: Formats that a timer writes for a service to read.
FOR_SERVICES: Mapping[str, Callable[[Report], str]] = {"openmetrics": openmetrics, "nfd": nfd}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --output, --bundle and --from."""
    parser.add_argument(
        "--output",
        metavar="FILE",
        help=f"where to write it, - for standard output (default: {FILE}; with another "
        "--format standard output; with --bundle alone nowhere)",
    )
    parser.add_argument(
        "--bundle",
        metavar="FILE",
        help="write a tar.gz: page, document, and a recording of all that was read, which other "
        "commands take with --from",
    )
    add_from(parser)


def run(context: Context) -> ExitCode:
    """Writes the report."""
    given = context.arguments
    output = _output(context)
    files = [Path(name) for name in (output, given.bundle) if name and name != STDOUT]
    if given.bundle == STDOUT:
        raise Usage("--bundle needs a file", "Name one: --bundle FILE.tar.gz")
    for path in files:
        check_target(path)
    with unwinding():
        report, recording = reports(context)
        if output == STDOUT:
            sys.stdout.write(_text(context, report))
        elif output:
            public = given.format in FOR_SERVICES
            replace_file(Path(output), _text(context, report).encode(), public=public)
        if given.bundle:
            replace_file(Path(given.bundle), bundle(report, recording))
    if given.format in FOR_SERVICES:
        return _finish_quietly(report)
    _tell(report, files, sys.stderr if output == STDOUT else sys.stdout)
    failed = report.headline.level is Outcome.FAIL
    return ExitCode.FAILED if failed else ExitCode.OK


def _finish_quietly(report: Report) -> ExitCode:
    """The exit code, with words to standard error only where it says that something is wrong."""
    if report.refusal:
        raise report.refusal
    absent = report.verdict is not None and report.verdict.exit_code is ExitCode.ABSENT
    failed = report.headline.level is Outcome.FAIL
    if not absent and not failed:
        return ExitCode.OK
    _tell(report, [], sys.stderr)
    return ExitCode.ABSENT if absent else ExitCode.FAILED


def _output(context: Context) -> str:
    """Where the page or document goes; empty for nowhere."""
    given = context.arguments
    if given.output or not context.for_people:
        return given.output or STDOUT
    return "" if given.bundle else FILE


def reports(context: Context) -> tuple[Report, Recording]:
    """The report of this host, or of the one that --from has, with its recording."""
    if recording := context.recording:
        return replay(recording, context.judge), recording
    return take(context.host, context.open_driver, context.judge)


def _text(context: Context, report: Report) -> str:
    if context.for_people:
        return page(report)
    if of_service := FOR_SERVICES.get(context.arguments.format):
        return of_service(report)
    return document_text(report_document(report), context.arguments.format)


def _tell(report: Report, files: list[Path], stream: TextIO) -> None:
    """Says what it comes to, and where it is."""
    lines: list[Block] = [sentence(report.headline.text)]
    if report.headline.hint:
        lines.append(f"  {sentence(report.headline.hint)}")
    lines += [f"Written: {path}" for path in files]
    show(lines, stream)
