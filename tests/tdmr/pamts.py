# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory for PAMTs, found in RAM as a kernel would find it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .layout import Layout, Range, Region


@dataclass
class Ram:
    """RAM that is free; ``top_down`` says from which end of it memory is taken."""

    free: list[Region]
    top_down: bool = False

    def take(self, size: int, node: int) -> int:
        """Contiguous memory, of this node where it has as much; its first byte."""
        fits = [part for part in self.free if part.size >= size]
        near = [part for part in fits if part.node == node] or fits
        part = near[-1 if self.top_down else 0]
        self.free.remove(part)
        rest = part.size - size
        base = part.base + rest if self.top_down else part.base
        if rest:
            at = part.base if self.top_down else part.base + size
            self.free.append(Region(at, rest, part.node))
            self.free.sort(key=lambda one: one.base)
        return base


def fit_in_ram(layout: Layout, regions: Sequence[Region], top_down: bool = False) -> list[Range]:
    """tdmr_fit() with PAMTs from the RAM of ``regions``; what is used of each piece."""
    ram = Ram(list(regions), top_down)
    nodes = [tdmr.node for tdmr in layout.tdmrs]
    bases = [ram.take(layout.piece_bytes(i), node) for i, node in enumerate(nodes)]
    return [Range(base, used) for base, used in zip(bases, layout.fit(bases), strict=True)]
