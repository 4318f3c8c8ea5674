# SPDX-License-Identifier: GPL-2.0-or-later
"""What a sub-command is given, and what it gives back."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from tdxhost.cli.tables import Block, show
from tdxhost.device import Device, Driver, Source
from tdxhost.documents import Document
from tdxhost.errors import ExitCode
from tdxhost.findings import Finding, Judge, Verdict
from tdxhost.host import Host, LiveHost
from tdxhost.kernel import complete
from tdxhost.processors import read_processors
from tdxhost.recording import Recorder, Recording, recorded_driver, recorded_host
from tdxhost.state import State

Opener = Callable[[], AbstractContextManager[Driver]]


@dataclass(frozen=True)
class Context:
    """What there is to work with; open_driver opens the device anew each time."""

    arguments: argparse.Namespace
    open_driver: Opener = Device
    judge: Judge = field(default_factory=Judge)
    host: Host = field(default_factory=LiveHost)
    recording: Recording | None = None

    @classmethod
    def given(cls, arguments: argparse.Namespace) -> Self:
        """What the command line asks for: this host, or with --from the recording of one."""
        path = getattr(arguments, "recording", None)
        if path is None:
            return cls(arguments)
        recording = Recording.load(path)
        return cls(arguments, host=recorded_host(recording), recording=recording)

    def open_source(self) -> AbstractContextManager[Source]:
        """The driver to read from: this host's, or that of the recording."""
        return recorded_driver(self.recording) if self.recording else self.open_driver()

    def memoised_host(self) -> Recorder:
        """The host, of which each thing is read once."""
        if isinstance(self.host, Recorder):
            return self.host
        return Recorder(self.host)

    @property
    def verbose(self) -> bool:
        """Whether -v was given."""
        return bool(self.arguments.verbose)

    @property
    def for_people(self) -> bool:
        """Whether the output is a table, not a document."""
        return bool(self.arguments.format == "table")

    def complete(self, state: State) -> State:
        """Adds to what the driver says what the host itself does."""
        memory = complete(state.memory, self.host)
        return replace(state, memory=memory, processors=read_processors(self.host))

    def finish(
        self, verdict: Verdict, document: Callable[[], Document], blocks: Callable[[], list[Block]]
    ) -> ExitCode:
        """Writes the result to standard output and what is wrong to standard error."""
        if not self.for_people:
            write_document(document(), self.arguments.format)
        elif verdict.exit_code is not ExitCode.ABSENT or self.verbose:
            show(blocks())
        sys.stdout.flush()
        complain(verdict.findings)
        return verdict.exit_code


def write_document(document: Document, form: str) -> None:
    """Writes a document to standard output as json or yaml."""
    sys.stdout.write(document_text(document, form))


def document_text(document: Document, form: str) -> str:
    """A document as json or yaml."""
    if form == "json":
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    import yaml

    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def complain(findings: Iterable[Finding]) -> None:
    """Writes what is wrong, and what to do, to standard error; no advice twice."""
    told = {""}
    for found in findings:
        print(f"tdxhost: {found.message}", file=sys.stderr)
        for advice in (found.hint, *found.left):
            if advice not in told:
                print(f"  {advice}", file=sys.stderr)
            told.add(advice)


def add_from(parser: argparse.ArgumentParser) -> None:
    """Adds --from, for commands that only look."""
    parser.add_argument(
        "--from",
        dest="recording",
        metavar="FILE",
        type=Path,
        help="look at a recording of a host (tdxhost report --bundle) instead of at this one; "
        "needs neither root nor TDX",
    )
