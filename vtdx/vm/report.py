# SPDX-License-Identifier: GPL-2.0-or-later
"""Progress of long work, on standard error.

Nothing is printed for work that is not needed, so a machine whose parts are all
there starts without a word.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def step(what: str) -> Iterator[None]:
    """Show that ``what`` is under way, and say how long it took when it is done."""
    begin = time.monotonic()
    try:
        if sys.stderr.isatty():
            with _clock(what):
                yield
        else:
            _say(f"{what} ...")
            yield
    except BaseException:
        _say(f"{what}: failed")
        raise
    _say(f"{what}: {time.monotonic() - begin:.0f} s")


def _say(line: str) -> None:
    print(f"tdxhost: {line}", file=sys.stderr, flush=True)


@contextmanager
def _clock(what: str) -> Iterator[None]:
    """A line that shows how much time has passed, gone at the end."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("tdxhost: {task.description}", markup=False),
        SpinnerColumn("line"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        progress.add_task(what, total=None)
        yield
