# SPDX-License-Identifier: GPL-2.0-or-later
"""What a sub-command is given, and what it gives back."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from tdxhost.cli.documents import Document
from tdxhost.cli.tables import Block, show
from tdxhost.device import Device, Driver
from tdxhost.errors import ExitCode
from tdxhost.findings import Finding, Judge, Verdict
from tdxhost.processors import Processors, read_processors
from tdxhost.state import State
from tdxhost.topology import Topology

Opener = Callable[[], AbstractContextManager[Driver]]


@dataclass(frozen=True)
class Context:
    """What there is to work with; open_driver opens the device anew each time."""

    arguments: argparse.Namespace
    open_driver: Opener = Device
    judge: Judge = field(default_factory=Judge)
    topology: Topology = field(default_factory=Topology)
    processors: Callable[[], Processors] = read_processors

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
        return replace(state, processors=self.processors())

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
    if form == "json":
        json.dump(document, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
        return
    import yaml

    yaml.safe_dump(document, sys.stdout, sort_keys=False, allow_unicode=True)


def complain(findings: Iterable[Finding]) -> None:
    """Writes what is wrong, and what to do, to standard error; no advice twice."""
    told = {""}
    for found in findings:
        print(f"tdxhost: {found.message}", file=sys.stderr)
        for advice in (found.hint, *found.left):
            if advice not in told:
                print(f"  {advice}", file=sys.stderr)
            told.add(advice)
