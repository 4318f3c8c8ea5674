# SPDX-License-Identifier: GPL-2.0-or-later
"""What a sub-command is given, and what it gives back."""

from __future__ import annotations

import argparse
import sys
from functools import cached_property

from tdxhost.errors import ExitCode
from tdxhost.host import Host, LiveHost

#: Type checkers take it for true. That of typing takes typing to load.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Any

    from tdxhost.cli.tables import Block
    from tdxhost.device import Driver, Source
    from tdxhost.documents import Document
    from tdxhost.findings import Finding, Judge, Verdict
    from tdxhost.recording import Recorder, Recording
    from tdxhost.state import State

    Opener = Callable[[], AbstractContextManager[Driver]]


def open_device() -> AbstractContextManager[Driver]:
    """Opens this host's driver; where there is none, nothing of it is loaded."""
    from tdxhost.opening import open_device as opened

    fd = opened()
    from tdxhost.device import Device

    return Device(fd)


class Context:
    """What there is to work with; open_driver opens the device anew each time.

    No dataclass, and loads what it needs when it needs it: a command that finds no driver is over
    before dataclasses alone would be there.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        open_driver: Opener = open_device,
        host: Host | None = None,
        recording: Recording | None = None,
    ) -> None:
        self.arguments = arguments
        self.open_driver = open_driver
        self.host = host or LiveHost()
        self.recording = recording

    @classmethod
    def given(cls, arguments: argparse.Namespace) -> Context:
        """What the command line asks for: this host, or with --from the recording of one."""
        path = getattr(arguments, "recording", None)
        if path is None:
            return cls(arguments)
        from tdxhost.recording import Recording, recorded_host

        recording = Recording.load(path)
        return cls(arguments, host=recorded_host(recording), recording=recording)

    def but(self, **changes: Any) -> Context:
        """The same with some attributes changed."""
        return Context(**{**self._own(), **changes})

    def _own(self) -> dict[str, Any]:
        names = ("arguments", "open_driver", "host", "recording")
        return {name: getattr(self, name) for name in names}

    @cached_property
    def judge(self) -> Judge:
        """Puts what the driver found in words."""
        from tdxhost.findings import Judge

        return Judge()

    def open_source(self) -> AbstractContextManager[Source]:
        """The driver to read from: this host's, or that of the recording."""
        if self.recording is None:
            return self.open_driver()
        from tdxhost.recording import recorded_driver

        return recorded_driver(self.recording)

    def memoised_host(self) -> Recorder:
        """The host, of which each thing is read once."""
        from tdxhost.recording import Recorder

        return self.host if isinstance(self.host, Recorder) else Recorder(self.host)

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
        from dataclasses import replace

        from tdxhost.kernel import complete
        from tdxhost.processors import read_processors

        memory = complete(state.memory, self.host)
        return replace(state, memory=memory, processors=read_processors(self.host))

    def finish(
        self, verdict: Verdict, document: Callable[[], Document], blocks: Callable[[], list[Block]]
    ) -> ExitCode:
        """Writes the result to standard output and what is wrong to standard error."""
        if not self.for_people:
            write_document(document(), self.arguments.format)
        elif verdict.exit_code is not ExitCode.ABSENT or self.verbose:
            from tdxhost.cli.tables import show

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
        import json

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


def _path(text: str) -> Path:
    from pathlib import Path

    return Path(text)


def add_from(parser: argparse.ArgumentParser) -> None:
    """Adds --from, for commands that only look."""
    parser.add_argument(
        "--from",
        dest="recording",
        metavar="FILE",
        type=_path,
        help="look at a recording of a host (tdxhost report --bundle) instead of at this one; "
        "needs neither root nor TDX",
    )
