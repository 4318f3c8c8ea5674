# SPDX-License-Identifier: GPL-2.0-or-later
"""Arithmetic of memory ranges, against sets of addresses."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdxhost.validation.ranges import (
    Span,
    ascending,
    common,
    merged,
    named,
    overlaps,
    shrunk,
    system_ram,
    total,
    without,
)

ENDS = st.integers(0, 60)
SPANS = st.lists(st.tuples(ENDS, ENDS).map(lambda ends: Span(min(ends), max(ends))), max_size=8)

MIB = 1 << 20
IOMEM = """\
00000000-00000fff : Reserved
00001000-0009ffff : System RAM
00100000-7fffffff : System RAM
  01000000-01ffffff : Kernel code
80000000-8fffffff : PCI Bus 0000:00
100000000-17fffefff : System RAM
180000000-1ffffffff : Persistent Memory
  180000000-1ffffffff : dax0.0
    180000000-1ffffffff : System RAM (kmem)
"""


def addresses(parts: list[Span]) -> set[int]:
    """Each address by itself."""
    return {address for part in parts for address in range(part.start, part.end)}


def is_merged(parts: list[Span]) -> bool:
    """Whether spans ascend, hold something, and none touches the next."""
    gaps = all(one.end < other.start for one, other in pairwise(parts))
    return gaps and all(part.bytes > 0 for part in parts)


@given(SPANS)
def test_merged_spans_hold_the_same_addresses(parts: list[Span]) -> None:
    assert addresses(merged(parts)) == addresses(parts)
    assert is_merged(merged(parts))


@given(SPANS, SPANS)
def test_what_is_left_and_what_is_common_are_those_of_sets(a: list[Span], b: list[Span]) -> None:
    assert addresses(without(a, b)) == addresses(a) - addresses(b)
    assert addresses(common(a, b)) == addresses(a) & addresses(b)
    assert is_merged(without(a, b))
    assert is_merged(common(a, b))


@given(SPANS)
def test_overlaps_are_the_addresses_in_more_than_one_span(parts: list[Span]) -> None:
    times = [address for part in parts for address in range(part.start, part.end)]
    assert addresses(overlaps(parts)) == {one for one in times if times.count(one) > 1}
    assert is_merged(overlaps(parts))
    assert total(parts) == len(times)


@given(SPANS)
def test_merged_spans_ascend(parts: list[Span]) -> None:
    assert ascending(merged(parts))


def test_spans_that_touch_ascend_and_those_that_overlap_do_not() -> None:
    assert ascending([Span(0, 4), Span(4, 8)])
    assert not ascending([Span(0, 5), Span(4, 8)])
    assert not ascending([Span(4, 8), Span(0, 4)])


@given(ENDS, ENDS, st.integers(1, 9))
def test_a_shrunk_span_is_the_whole_multiples_in_it(one: int, other: int, to: int) -> None:
    part = Span(min(one, other), max(one, other))
    found = shrunk(part, to)
    units = [n for n in range(61) if n * to >= part.start and (n + 1) * to <= part.end]
    assert addresses([found]) == {at for n in units for at in range(n * to, n * to + to)}


@pytest.mark.parametrize(
    ("part", "to", "is_aligned"),
    [(Span(4, 8), 4, True), (Span(4, 9), 4, False), (Span(3, 8), 4, False)],
)
def test_both_ends_of_a_span_have_to_be_aligned(part: Span, to: int, is_aligned: bool) -> None:
    assert part.aligned(to) is is_aligned


def test_a_message_names_the_first_spans_and_counts_the_rest() -> None:
    assert named([Span(0x1000, 0x2000)]) == "0x1000-0x1fff"
    many = [Span(n << 12, (n + 1) << 12) for n in range(6)]
    assert named(many).endswith("0x3000-0x3fff and 2 more")


def test_system_ram_is_read_above_1_mib_in_whole_pages_and_also_where_it_is_nested() -> None:
    assert system_ram(IOMEM, MIB, 4096) == [
        Span(MIB, 0x80000000),
        Span(0x100000000, 0x17FFFF000),
        Span(0x180000000, 0x200000000),
    ]
    assert system_ram("00001000-00100800 : System RAM\n", 0, 4096) == [Span(0x1000, 0x100000)]
