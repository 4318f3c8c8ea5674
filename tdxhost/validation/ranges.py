# SPDX-License-Identifier: GPL-2.0-or-later
"""Arithmetic of memory ranges: sets of addresses as spans, and what is wrong with lists of them."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple, Self

from tdxhost import words
from tdxhost.records import Range

#: Of many ranges, those that a message names.
MOST_NAMED = 4
SYSTEM_RAM = re.compile(r"\s*([0-9a-f]+)-([0-9a-f]+) : System RAM\b")


class Span(NamedTuple):
    """Addresses from start to the one before end."""

    start: int
    end: int

    @classmethod
    def of(cls, part: Range) -> Self:
        """The addresses of a range of GET_MEMORY."""
        return cls(part.base_pa, part.base_pa + part.bytes)

    @property
    def bytes(self) -> int:
        """How many there are."""
        return self.end - self.start

    def aligned(self, to: int) -> bool:
        """Whether both ends are multiples of a size."""
        return not self.start % to and not self.end % to

    def __str__(self) -> str:
        return words.span(self.start, self.bytes)


def spans(parts: Iterable[Range]) -> list[Span]:
    """The addresses of ranges, in the order given."""
    return [Span.of(part) for part in parts]


def merged(parts: Iterable[Span]) -> list[Span]:
    """The same addresses in ascending spans, of which none touches the next."""
    out: list[Span] = []
    for part in sorted(part for part in parts if part.bytes > 0):
        if out and part.start <= out[-1].end:
            out[-1] = Span(out[-1].start, max(out[-1].end, part.end))
        else:
            out.append(part)
    return out


def without(parts: Iterable[Span], holes: Iterable[Span]) -> list[Span]:
    """The addresses of the first that are in none of the second, as merged() has them."""
    left = merged(parts)
    for hole in merged(holes):
        below = (Span(part.start, min(part.end, hole.start)) for part in left)
        above = (Span(max(part.start, hole.end), part.end) for part in left)
        left = merged([*below, *above])
    return left


def common(first: Iterable[Span], second: Iterable[Span]) -> list[Span]:
    """The addresses that are in both, as merged() has them."""
    one = merged(first)
    return without(one, without(one, second))


def overlaps(parts: Iterable[Span]) -> list[Span]:
    """The addresses that are in more than one of the spans, as merged() has them."""
    out: list[Span] = []
    seen = Span(0, 0)
    for part in sorted(part for part in parts if part.bytes > 0):
        out.append(Span(part.start, min(part.end, seen.end)))
        seen = max(seen, part, key=lambda one: one.end)
    return merged(out)


def ascending(parts: Iterable[Span]) -> bool:
    """Whether each begins where the one before ends, or above."""
    return all(one.end <= other.start for one, other in pairwise(parts))


def total(parts: Iterable[Span]) -> int:
    """How many addresses there are; those in several spans count as often."""
    return sum(part.bytes for part in parts)


def named(parts: Iterable[Span]) -> str:
    """Spans as a message names them: the first few, and how many more."""
    given = list(parts)
    more = len(given) - MOST_NAMED
    text = ", ".join(map(str, given[:MOST_NAMED]))
    return f"{text} and {more} more" if more > 0 else text


def shrunk(part: Span, to: int) -> Span:
    """The multiples of a size that lie whole in a span; of no bytes where there are none."""
    start, end = -(-part.start // to) * to, part.end // to * to
    return Span(start, max(start, end))


def system_ram(iomem: str, floor: int, page: int) -> list[Span]:
    """System RAM from floor on, whole pages, as /proc/iomem has it; merged."""
    return merged(shrunk(Span(max(part.start, floor), part.end), page) for part in _ram(iomem))


def _ram(iomem: str) -> Iterator[Span]:
    for line in iomem.splitlines():
        if found := SYSTEM_RAM.match(line):
            yield Span(int(found[1], 16), int(found[2], 16) + 1)
