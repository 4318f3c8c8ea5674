# SPDX-License-Identifier: GPL-2.0-or-later
"""Progress of long work, as lines on standard error.

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
    """Say ``what`` is under way, and how long it took when it is done."""
    live = sys.stderr.isatty()
    print(f"tdxhost: {what} ...", end="" if live else "\n", file=sys.stderr, flush=True)
    begin = time.monotonic()
    try:
        yield
    except BaseException:
        print(" failed" if live else f"tdxhost: {what}: failed", file=sys.stderr, flush=True)
        raise
    took = f"{time.monotonic() - begin:.0f} s"
    print(f" {took}" if live else f"tdxhost: {what}: {took}", file=sys.stderr, flush=True)
