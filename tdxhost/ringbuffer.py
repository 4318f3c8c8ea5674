# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel's trace ring buffer gives raw: pages of events, and the layout of an event.

Layouts come from tracefs (events/header_page and an event's format), the coding of events in a
page from events/header_event; Linux 6.1 to 7.3 include/linux/ring_buffer.h and
kernel/trace/ring_buffer.c.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from tdxhost.errors import BadData

FIELD = re.compile(
    r"field:\s*(?P<kind>[^;]*?)\s*\b(?P<name>\w+)(?:\[(?P<count>\d+)\])?;"
    r"\s*offset:(?P<offset>\d+);\s*size:(?P<size>\d+);\s*signed:(?P<signed>\d+);"
)
ID = re.compile(r"^ID: (\d+)$", re.MULTILINE)

#: struct's letters for unsigned and signed numbers by their size in bytes.
LETTERS = {(1, 0): "B", (1, 1): "b", (2, 0): "H", (2, 1): "h"}
LETTERS |= {(4, 0): "I", (4, 1): "i", (8, 0): "Q", (8, 1): "q"}

#: Values of an event's type_len that are no length (enum ring_buffer_type).
PADDING, TIME_EXTEND, TIME_STAMP = 29, 30, 31
TYPE_BITS = 5
DELTA_BITS = 27
WORD = struct.Struct("<I")
LONG = struct.Struct("<Q")
#: An event begins with this field, the ID of its format.
COMMON_TYPE = struct.Struct("<H")

#: A page's commit holds its length, and whether and how many events were lost before it.
LENGTH_MASK = (1 << DELTA_BITS) - 1
LOST = 1 << 31
LOST_COUNTED = 1 << 30


@dataclass(frozen=True, slots=True)
class Place:
    """Where a field lies, in bytes, and of how many elements it is."""

    name: str
    offset: int
    size: int
    signed: int
    count: int = 1

    @property
    def letters(self) -> str:
        """The field in struct's words; KeyError for one that is of no numbers."""
        return f"{self.count}{LETTERS[self.size // self.count, self.signed]}"


@dataclass(frozen=True, slots=True)
class EventFormat:
    """The layout of an event: its ID, and the fields that are wanted of it."""

    id: int
    places: tuple[Place, ...]
    coded: struct.Struct

    @classmethod
    def parse(cls, text: str, wanted: Sequence[str], path: str) -> Self:
        """Reads an event's format; BadData when it lacks a field that is wanted."""
        found = {place.name: place for place in places_of(text)}
        number = ID.search(text)
        missing = [name for name in wanted if name not in found]
        if missing or number is None:
            raise BadData(path, "fields", f"there is no {', '.join(missing) or 'ID'}")
        places = tuple(sorted((found[name] for name in wanted), key=lambda place: place.offset))
        try:
            return cls(int(number[1]), places, struct.Struct(_code(places)))
        except KeyError as error:
            raise BadData(path, "fields", f"none is of {error} bytes and elements") from error

    def is_of(self, event: bytes) -> bool:
        """Whether an event has this format."""
        whole = len(event) >= self.coded.size
        return whole and COMMON_TYPE.unpack_from(event)[0] == self.id

    def unpack(self, event: bytes) -> dict[str, tuple[int, ...]]:
        """The fields of an event, each with all its elements."""
        left = iter(self.coded.unpack_from(event))
        return {place.name: tuple(next(left) for _ in range(place.count)) for place in self.places}


def places_of(text: str) -> Iterator[Place]:
    """The fields that a format file lists."""
    for match in FIELD.finditer(text):
        offset, size, signed = (int(match[name]) for name in ("offset", "size", "signed"))
        yield Place(match["name"], offset, size, signed, int(match["count"] or 1))


def _code(places: Sequence[Place]) -> str:
    code, at = "<", 0
    for place in places:
        code += f"{place.offset - at}x{place.letters}"
        at = place.offset + place.size
    return code


@dataclass(frozen=True, slots=True)
class PageLayout:
    """Where a page has its time, its length and its events, in bytes."""

    timestamp: int
    commit: int
    data: int
    size: int

    @classmethod
    def parse(cls, text: str, path: str) -> Self:
        """Reads header_page; BadData when it is of another kind."""
        found = {place.name: place for place in places_of(text)}
        try:
            timestamp, commit, data = found["timestamp"], found["commit"], found["data"]
        except KeyError as error:
            raise BadData(path, "fields", f"there is no {error}") from error
        return cls(timestamp.offset, commit.offset, data.offset, data.offset + data.size)


@dataclass(frozen=True, slots=True)
class Page:
    """A page as trace_pipe_raw gives it."""

    layout: PageLayout
    data: bytes

    @property
    def _commit(self) -> int:
        return int(WORD.unpack_from(self.data, self.layout.commit)[0])

    @property
    def _end(self) -> int:
        return self.layout.data + (self._commit & LENGTH_MASK)

    @property
    def lost(self) -> int:
        """How many events were lost before the first of this page; 1 where it is not counted."""
        if not self._commit & LOST:
            return 0
        if not self._commit & LOST_COUNTED:
            return 1
        return int(LONG.unpack_from(self.data, self._end)[0])

    def events(self) -> Iterator[tuple[int, bytes]]:
        """Each event's time in the trace clock's units (ns), and its bytes."""
        (time,) = LONG.unpack_from(self.data, self.layout.timestamp)
        at = self.layout.data
        while at < self._end:
            head, after = self._word(at), at + WORD.size
            kind, delta = head & ((1 << TYPE_BITS) - 1), head >> TYPE_BITS
            if kind in (TIME_EXTEND, TIME_STAMP):
                far = delta + (self._word(after) << DELTA_BITS)
                time = far if kind == TIME_STAMP else time + far
                at = after + WORD.size
                continue
            if kind == PADDING and delta == 0:
                return
            time += delta
            start, at = self._bounds(kind, after)
            if kind != PADDING:
                yield time, self.data[start:at]

    def _bounds(self, kind: int, after: int) -> tuple[int, int]:
        """Where the bytes of an event begin and end, given its kind and what follows its head."""
        if 0 < kind < PADDING:
            return after, after + kind * WORD.size
        # The length counts itself.
        return after + WORD.size, after + max(self._word(after), WORD.size)

    def _word(self, at: int) -> int:
        return int(WORD.unpack_from(self.data, at)[0])
