# SPDX-License-Identifier: GPL-2.0-or-later
"""Scales, tracks, grids and timelines of a report: what is drawn is what there is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdxhost.doctor.facts import Region
from tdxhost.records import Memory, Range, RangeKind, Step
from tdxhost.report.grid import packages, read_threads
from tdxhost.report.scale import LEAST_WIDTH, Scale, merged
from tdxhost.report.space import draw, tracks
from tdxhost.report.timeline import timeline
from tests.unit.machines import fake_host, many_cmrs
from tests.unit.samples import GIB, MEMORY, MIB, cpu, step

WIDTH = 1000.0
EXTENTS = st.lists(
    st.tuples(st.integers(0, 1 << 46), st.integers(1, 1 << 42)).map(lambda it: (it[0], sum(it))),
    min_size=1,
    max_size=40,
)


@given(EXTENTS, st.lists(st.integers(0, 1 << 47), max_size=20))
def test_a_scale_keeps_the_order_and_stays_in_its_width(
    extents: list[tuple[int, int]], values: list[int]
) -> None:
    scale = Scale.over(extents, WIDTH)
    bounds = [bound for extent in extents for bound in extent]
    places = [scale.place(value) for value in sorted((*values, *bounds))]
    assert places == sorted(places)
    assert all(-1e-6 <= place <= WIDTH + 1e-6 for place in places)
    assert scale.place(min(bounds)) == pytest.approx(0)
    assert scale.place(max(bounds)) == pytest.approx(WIDTH)


@given(EXTENTS)
def test_every_range_can_be_seen(extents: list[tuple[int, int]]) -> None:
    scale = Scale.over(extents, WIDTH)
    for first, end in extents:
        x, width = scale.bar(first, end)
        assert width >= LEAST_WIDTH
        assert x >= -1e-6
        assert x + width <= WIDTH + 1e-6


@given(EXTENTS)
def test_only_gaps_are_cut_short(extents: list[tuple[int, int]]) -> None:
    scale = Scale.over(extents, WIDTH)
    covered = merged(extents)
    for gap in scale.gaps:
        assert not any(first < gap.end and gap.first < end for first, end in covered)


def test_ranges_of_the_same_size_are_as_wide_whatever_is_between_them() -> None:
    scale = Scale.over([(0, GIB), (2 * GIB, 3 * GIB), (1024 * GIB, 1025 * GIB)], WIDTH)
    widths = [scale.bar(at, at + GIB)[1] for at in (0, 2 * GIB, 1024 * GIB)]
    assert widths == pytest.approx([widths[0]] * 3)
    assert len(scale.gaps) == 2
    assert scale.gaps[0].width == scale.gaps[1].width < widths[0]


def test_a_small_gap_is_to_scale() -> None:
    scale = Scale.over([(0, 100), (102, 200)], WIDTH)
    assert scale.gaps == ()
    assert scale.place(102) - scale.place(100) == pytest.approx(WIDTH / 100)


def test_a_drawing_has_a_track_for_each_kind_and_node() -> None:
    drawing = draw(tracks(MEMORY, (), ()))
    assert drawing is not None
    labels = [row.label for row in drawing.rows]
    assert labels == ["System RAM", "CMRs", "TDMRs", "PAMTs, node 0", "PAMTs, node 1"]
    assert [bar.kind for bar in drawing.rows[2].bars] == ["tdmr", "tdmr", "reserved"]


def test_what_is_outside_every_cmr_stands_out() -> None:
    drawing = draw(tracks(many_cmrs(32), (), ()))
    assert drawing is not None
    bars = {row.label: row.bars for row in drawing.rows}
    assert len(bars["CMRs"]) == 32
    assert [bar.title for bar in bars["System RAM"] if bar.kind == "outside"] == [
        "System RAM outside every CMR: 0x8000000000-0x80ffffffff, 4.0 GiB, node 1"
    ]
    assert "outside" in drawing.kinds


def test_without_driver_the_kernels_map_and_log_are_drawn() -> None:
    regions = (
        Region(MIB, 2 * GIB - 1, "System RAM", 0),
        Region(8 * GIB, 9 * GIB - 1, "CXL Window 0", 0),
        Region(3 * GIB, 3 * GIB + 0xFFF, "Reserved", 0),
    )
    cmrs = (Region(MIB, GIB - 1, "CMR", 0),)
    drawn = tracks(None, regions, cmrs)
    assert [track.label for track in drawn] == ["System RAM", "CMRs", "Other memory"]
    assert drawn[2].parts[0].title == "CXL Window 0: 0x200000000-0x23fffffff, 1.0 GiB"


def test_where_nothing_is_known_nothing_is_drawn() -> None:
    assert draw(tracks(None, (), ())) is None


def test_an_unused_reserved_area_is_not_drawn() -> None:
    tdmr = Range(base_pa=0, bytes=GIB, kind=RangeKind.TDMR, node=0, tdmr=0)
    unused = Range(base_pa=0, bytes=0, kind=RangeKind.RESERVED, node=0, tdmr=0)
    (track,) = tracks(Memory((tdmr, unused), 0), (), ())
    assert len(track.parts) == 1


def test_cpus_are_by_package_core_and_thread() -> None:
    host = fake_host(2, 112, 2)
    first, second = packages(read_threads(host, range(448), range(448)))
    assert (first.number, len(first.cores), len(first.cpus)) == (0, 112, 224)
    assert [one.cpu for one in first.cores[0].threads] == [0, 224]
    assert [one.cpu for one in second.cores[111].threads] == [223, 447]
    assert second.cores[111].number == 111


def test_a_cpu_that_is_offline_is_in_the_package_that_the_driver_knows() -> None:
    host = fake_host(1, 4, 1)
    gone = {path: text for path, text in host.files.items() if "/cpu3/" not in path}
    threads = read_threads(type(host)(gone), range(4), range(3), [cpu(3, package=0)])
    (package,) = packages(threads)
    assert package.cpus == (0, 1, 2, 3)
    assert package.cores[-1].number is None
    assert not package.cores[-1].threads[0].online


def test_a_timeline_shows_when_steps_ran_and_cuts_pauses_short() -> None:
    second = 1_000_000_000
    steps = [
        step(Step.PLATFORM, start_ns=second, duration_ns=second),
        step(Step.CPUS, start_ns=2 * second, duration_ns=3 * second),
        step(Step.CONFIG, start_ns=3600 * second, duration_ns=4 * second),
        step(Step.KERNEL, runs=0),
    ]
    drawn = timeline(steps)
    assert [bar.step.step for bar in drawn.bars] == [Step.PLATFORM, Step.CPUS, Step.CONFIG]
    platform, cpus, config = drawn.bars
    assert cpus.x == pytest.approx(platform.x + platform.width, abs=0.02)
    assert cpus.width == pytest.approx(3 * platform.width, abs=0.05)
    assert config.x + config.width == pytest.approx(100, abs=0.02)
    assert len(drawn.cuts) == 1
