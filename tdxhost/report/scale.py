# SPDX-License-Identifier: GPL-2.0-or-later
"""A scale for ranges with wide gaps between them: true inside, gaps cut short."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

#: A gap is cut short from this part of all that is covered on; a smaller one is left as it is.
WIDE_GAP = 0.04
GAP_WIDTH = 22.0
#: All gaps together take no more of the width than this.
MOST_FOR_GAPS = 0.3
#: What is too small to be seen at its size is drawn as wide as this.
LEAST_WIDTH = 3.0

Extent = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Piece:
    """From first to end, not included, drawn from at on; cut: a gap, which is not to scale."""

    first: int
    end: int
    at: float
    width: float
    cut: bool = False

    def place(self, value: int) -> float:
        """Where a value inside is."""
        part = (value - self.first) / (self.end - self.first)
        return self.at + self.width * min(max(part, 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """Pieces from left to right; every second one is a gap that was cut short."""

    pieces: tuple[Piece, ...]
    width: float

    @classmethod
    def over(cls, extents: Iterable[Extent], width: float) -> Self:
        """Makes a scale for ranges of first and end; nothing is where there are none."""
        runs = _runs([extent for extent in extents if extent[1] > extent[0]])
        gap = _gap_width(len(runs) - 1, width)
        widths = _widths([end - first for first, end in runs], width - gap * (len(runs) - 1))
        pieces: list[Piece] = []
        at = 0.0
        for (first, end), wide in zip(runs, widths, strict=True):
            if pieces:
                pieces.append(Piece(pieces[-1].end, first, at, gap, cut=True))
                at += gap
            pieces.append(Piece(first, end, at, wide))
            at += wide
        return cls(tuple(pieces), width)

    @property
    def gaps(self) -> tuple[Piece, ...]:
        """What was cut short."""
        return tuple(piece for piece in self.pieces if piece.cut)

    def end(self, value: int) -> float:
        """Where what ends before a value ends: on this side of a gap that begins there."""
        return self.place(value - 1) if value else 0.0

    def place(self, value: int) -> float:
        """Where a value is; one outside is at the nearer end."""
        starts = [piece.first for piece in self.pieces]
        return self.pieces[max(bisect_right(starts, value) - 1, 0)].place(value)

    def bar(self, first: int, end: int) -> tuple[float, float]:
        """Where a range begins and how wide it is, never too narrow to be seen."""
        left, right = self.place(first), self.place(end)
        wide = max(right - left, LEAST_WIDTH)
        return min(left, self.width - wide), wide


def merged(extents: Iterable[Extent]) -> list[Extent]:
    """Ranges in order, those that touch or overlap taken together."""
    out: list[Extent] = []
    for first, end in sorted(extents):
        if out and first <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((first, end))
    return out


def _runs(extents: Iterable[Extent]) -> list[Extent]:
    """Ranges between gaps that are wide against all that is covered."""
    parts = merged(extents)
    wide = WIDE_GAP * sum(end - first for first, end in parts)
    runs: list[Extent] = []
    for first, end in parts:
        if runs and first - runs[-1][1] <= wide:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((first, end))
    return runs


def _gap_width(gaps: int, width: float) -> float:
    return min(GAP_WIDTH, MOST_FOR_GAPS * width / gaps) if gaps > 0 else GAP_WIDTH


def _widths(lengths: Sequence[int], width: float) -> list[float]:
    """Shares the width out by length; the smallest get as much as can be seen."""
    if not lengths:
        return []
    per_unit = width / sum(lengths)
    small = [length * per_unit < LEAST_WIDTH for length in lengths]
    rest = sum(length for length, tiny in zip(lengths, small, strict=True) if not tiny)
    if not rest:
        return [width / len(lengths)] * len(lengths)
    left = width - LEAST_WIDTH * sum(small)
    return [
        LEAST_WIDTH if tiny else left * length / rest
        for length, tiny in zip(lengths, small, strict=True)
    ]
