# SPDX-License-Identifier: GPL-2.0-or-later
"""Says how far a run is: a line a test, and on a terminal what the running one does."""

import time
from typing import TextIO

from tdxhost.validation.plan import Boot
from tdxhost.validation.result import BAD, TestResult
from tdxhost.validation.stage import Stage
from tdxhost.validation.words import LABELS

#: What a test says of itself is shown no more often, where every line stays.
QUIET_S = 30.0


class Lines:
    """Tells a stream how far a run is; a running test's line is rewritten on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lively = stream.isatty()
        self._running = ""
        self._told = 0.0

    def boot(self, boot: Boot, stage: Stage) -> None:
        """A boot's tests begin, or go on."""
        self._line(f"boot {boot.name}: the TDX module is {stage.label}")

    def begins(self, number: int, total: int, result: TestResult) -> None:
        """A test begins."""
        self._running = f"[{number:{len(str(total))}}/{total}] {result.title}"
        self._told = time.monotonic()
        self._draft(self._running)

    def says(self, text: str) -> None:
        """What the running test is doing."""
        if self._lively:
            self._draft(f"{self._running}: {text}")
        elif time.monotonic() - self._told >= QUIET_S:
            self._told = time.monotonic()
            self._line(f"{self._running}: {text}")

    def ended(self, result: TestResult) -> None:
        """A test has come to an end, or could not begin."""
        name = self._running or f"- {result.title}"
        took = f" {result.duration_s:.1f} s" if result.started_at else ""
        word = LABELS[result.outcome]
        self._line(f"{name}: {word.upper() if result.outcome in BAD else word}{took}")
        self._running = ""

    def _draft(self, text: str) -> None:
        if self._lively:
            self._stream.write(f"\r\x1b[K{text[: self._width()]}")
            self._stream.flush()

    def _line(self, text: str) -> None:
        self._stream.write(f"\r\x1b[K{text}\n" if self._lively else f"{text}\n")
        self._stream.flush()

    @staticmethod
    def _width() -> int:
        import shutil

        return shutil.get_terminal_size((80, 24)).columns - 1
