# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows on a terminal how far a long bring-up is."""

import sys
import threading
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Self

from tdxhost.device import Source
from tdxhost.errors import TdxHostError
from tdxhost.records import Status
from tdxhost.wording import progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from tdxhost.cli.context import Opener

#: A bring-up that is done by then needs no progress display.
PATIENCE_S = 0.3
INTERVAL_S = 0.1


class Progress(AbstractContextManager["Progress"]):
    """Polls GET_STATUS on a descriptor of its own while the body runs.

    The body stays on the main thread, where signals arrive. Nothing is shown when standard
    error is no terminal.
    """

    def __init__(self, open_driver: "Opener") -> None:
        self._open_driver = open_driver
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()

    def _follow(self) -> None:
        if self._over.wait(PATIENCE_S):
            return
        try:
            with self._open_driver() as driver, _display() as display:
                self._show_until_over(driver, display)
        except TdxHostError:
            # The caller's own call says what is wrong.
            return

    def _show_until_over(self, source: Source, display: "RichProgress") -> None:
        task = display.add_task("enabling TDX", total=None)
        while not self._over.wait(INTERVAL_S):
            status = source.get_status()
            display.update(
                task,
                description=describe(status),
                completed=status.progress,
                total=status.progress_total or None,
            )


def describe(status: Status) -> str:
    """One line about where a bring-up is."""
    if not status.running:
        return "waiting"
    far = progress(status)
    return f"{status.step.label}, {far}" if far else status.step.label


def _display() -> "RichProgress":
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
