# SPDX-License-Identifier: GPL-2.0-or-later
"""Which kernels are looked at every time, and which only by scripts/test --all."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def each(names: Iterable[str], always: Iterable[str] = ()) -> pytest.MarkDecorator:
    """Parametrises by ``kernel``; those not in ``always`` are slow."""
    quick = set(always)
    return pytest.mark.parametrize(
        "kernel",
        [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names],
    )
