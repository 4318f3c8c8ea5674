# SPDX-License-Identifier: GPL-2.0-or-later
"""The physical address space as a drawing: one track for each kind of memory."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tdxhost.doctor.facts import Region
from tdxhost.records import Memory, Range, RangeKind
from tdxhost.report.scale import Extent, Piece, Scale, merged
from tdxhost.words import size, span

WIDTH = 960.0
LABEL_WIDTH = 104.0
TRACK_HEIGHT = 20.0
TRACK_STEP = 32.0
TOP = 6.0
#: Room that the label of an address takes, and that below the tracks.
TICK_WIDTH = 78.0
AXIS_HEIGHT = 34.0
#: On which side of an address its label begins or ends (SVG, text-anchor).
START, END = "start", "end"

PAMT_PAGES = {RangeKind.PAMT_4K: "4K", RangeKind.PAMT_2M: "2M", RangeKind.PAMT_1G: "1G"}
#: Memory that is no RAM of the kernel's, as /proc/iomem has it.
OTHER = re.compile(r"Persistent Memory|CXL Window|Soft Reserved|dax|Unusable", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """A range of a track, with what it is and what to say of it."""

    first: int
    end: int
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Track:
    """Parts of one kind, later ones on top."""

    label: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """A part as it is drawn."""

    x: float
    width: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Row:
    """A track as it is drawn."""

    y: float
    label: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """An address on the axis."""

    x: float
    address: str
    size: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """Everything in units of the drawing."""

    width: float
    height: float
    left: float
    bar_height: float
    rows: tuple[Row, ...]
    gaps: tuple[Piece, ...]
    ticks: tuple[Tick, ...]
    kinds: frozenset[str]


def tracks(
    memory: Memory | None, regions: Sequence[Region], logged_cmrs: Sequence[Region]
) -> tuple[Track, ...]:
    """What there is to draw: as the driver tells it, or else as the kernel does."""
    other = tuple(_regions((one for one in regions if OTHER.search(one.name)), "other"))
    if memory is not None and memory.ranges:
        drawn = (*_of_driver(memory), Track("Other memory", other))
    else:
        ram = (one for one in regions if one.name.startswith("System RAM"))
        drawn = (
            Track("System RAM", tuple(_regions(ram, "ram"))),
            Track("CMRs", tuple(_regions(logged_cmrs, "cmr"))),
            Track("Other memory", other),
        )
    return tuple(track for track in drawn if track.parts)


def _of_driver(memory: Memory) -> Iterator[Track]:
    ram = memory.of_kind(RangeKind.RAM), memory.of_kind(RangeKind.OUTSIDE)
    yield Track("System RAM", (*_ranges(ram[0], "ram"), *_ranges(ram[1], "outside")))
    yield Track("CMRs", tuple(_ranges(memory.of_kind(RangeKind.CMR), "cmr")))
    tdmrs, reserved = memory.of_kind(RangeKind.TDMR), memory.of_kind(RangeKind.RESERVED)
    yield Track("TDMRs", (*_ranges(tdmrs, "tdmr"), *_ranges(reserved, "reserved")))
    pamts = memory.of_kind(*PAMT_PAGES)
    for node in sorted({one.node for one in pamts}, key=lambda node: (node is None, node or 0)):
        here = [one for one in pamts if one.node == node]
        yield Track(f"PAMTs, {_node(node)}", tuple(_ranges(here, "pamt")))


def _node(node: int | None) -> str:
    return "node unknown" if node is None else f"node {node}"


NAMES = {
    RangeKind.RAM: "System RAM",
    RangeKind.OUTSIDE: "System RAM outside every CMR",
    RangeKind.CMR: "CMR",
    RangeKind.TDX: "TDX memory",
    RangeKind.TDMR: "TDMR",
    RangeKind.RESERVED: "Reserved area of TDMR",
} | {kind: f"PAMT {page} of TDMR" for kind, page in PAMT_PAGES.items()}


def _ranges(ranges: Iterable[Range], kind: str) -> Iterator[Part]:
    for one in ranges:
        if one.bytes:
            number = "" if one.tdmr is None else f" {one.tdmr}"
            node = "" if one.node is None else f", node {one.node}"
            where = f"{span(one.base_pa, one.bytes)}, {size(one.bytes)}{node}"
            title = f"{NAMES[one.kind]}{number}: {where}"
            yield Part(one.base_pa, one.base_pa + one.bytes, kind, title)


def _regions(regions: Iterable[Region], kind: str) -> Iterator[Part]:
    for one in regions:
        length = one.last - one.first + 1
        title = f"{one.name}: {span(one.first, length)}, {size(length)}"
        yield Part(one.first, one.last + 1, kind, title)


def draw(drawn: Sequence[Track]) -> Drawing | None:
    """Draws tracks one below the other; None where there is nothing to draw."""
    extents = [(part.first, part.end) for track in drawn for part in track.parts]
    if not extents:
        return None
    scale = Scale.over(extents, WIDTH - LABEL_WIDTH)
    rows = tuple(
        Row(TOP + TRACK_STEP * number, track.label, tuple(_bars(track, scale)))
        for number, track in enumerate(drawn)
    )
    return Drawing(
        width=WIDTH,
        height=TOP + TRACK_STEP * len(rows) + AXIS_HEIGHT,
        left=LABEL_WIDTH,
        bar_height=TRACK_HEIGHT,
        rows=rows,
        gaps=scale.gaps,
        ticks=tuple(_ticks(scale, extents)),
        kinds=frozenset(part.kind for track in drawn for part in track.parts),
    )


def _bars(track: Track, scale: Scale) -> Iterator[Bar]:
    for part in track.parts:
        x, width = scale.bar(part.first, part.end)
        yield Bar(round(x, 2), round(width, 2), part.kind, part.title)


def _ticks(scale: Scale, extents: Sequence[Extent]) -> Iterator[Tick]:
    """Bounds of what is drawn in one piece, then as many inside as have room."""
    pieces = [piece for piece in scale.pieces if not piece.cut]
    outer = [(piece.first, piece.end) for piece in pieces]
    bounds = [
        *((first, START) for first, _ in outer[:1]),
        *((end, END) for _, end in reversed(outer)),
        *((first, START) for first, _ in outer[1:]),
        *((bound, START) for extent in merged(extents) for bound in extent),
        *((bound, START) for extent in sorted(extents) for bound in extent),
    ]
    taken: list[tuple[float, float]] = []
    for bound, anchor in bounds:
        x = scale.end(bound) if anchor == END else scale.place(bound)
        left = x - TICK_WIDTH if anchor == END else x
        right = left + TICK_WIDTH
        if left < 0 or right > scale.width or any(a < right and left < b for a, b in taken):
            continue
        taken.append((left, right))
        yield Tick(round(x, 2), f"{bound:#x}", size(bound), anchor)
