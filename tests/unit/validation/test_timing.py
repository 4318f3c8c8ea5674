# SPDX-License-Identifier: GPL-2.0-or-later
"""Slow CPUs are found and named, and only what bring-up took counts."""

from hypothesis import given
from hypothesis import strategies as st

from tdxhost.records import CpuResult, CpuState, Step
from tdxhost.validation.timing import busy_ns, fastest_and_slowest, named, slow_cpus, timed
from tests.unit.samples import cpu, failed_cpu, step, untried_cpu

MS = 1_000_000


def of(*durations_ms: int) -> dict[int, CpuResult]:
    """CPUs from 0 on that took so long; the first made TDH.SYS.INIT."""
    return timed(cpu(at, duration_ns=ms * MS) for at, ms in enumerate(durations_ms))


def test_cpus_without_a_time_are_not_looked_at() -> None:
    by_kernel_at_boot = cpu(3, start_ns=0, duration_ns=0)
    offline = cpu(4, state=CpuState.OFFLINE)
    assert list(timed([cpu(0), failed_cpu(1), untried_cpu(2), by_kernel_at_boot, offline])) == [0]


def test_slow_cpus_are_named_with_package_and_time_slowest_first() -> None:
    assert slow_cpus(of(2, 51, 3, 70), 50 * MS) == [
        "2 of 4 CPUs took longer than 50 ms to be enabled; the median is 3 ms",
        "CPU 3 (package 1): 70 ms",
        "CPU 1 (package 0): 51 ms",
    ]


def test_a_cpu_at_the_limit_keeps_it() -> None:
    assert slow_cpus(of(50, 50), 50 * MS) == []


def test_many_slow_cpus_are_told_in_one_list() -> None:
    lines = slow_cpus(of(*([9] * 30)), 8 * MS)
    assert len(lines) == 22
    assert lines[-1] == "and CPUs 20-29"


def test_a_cpu_is_named_with_what_it_did_for_all() -> None:
    assert named(cpu(0)) == "CPU 0 (package 0, did the global initialisation)"
    assert named(cpu(5, package=None)) == "CPU 5 (package not known)"


def test_the_spread_leaves_the_cpu_out_that_made_the_global_initialisation() -> None:
    ends = fastest_and_slowest(of(90, 4, 2, 7))
    assert ends is not None
    assert [it.cpu for it in ends] == [2, 3]
    assert fastest_and_slowest(of(90, 4)) is None


def test_time_between_calls_does_not_count() -> None:
    early = timed([cpu(1, start_ns=100, duration_ns=20), cpu(2, start_ns=110, duration_ns=20)])
    steps = [
        step(Step.PLATFORM, start_ns=1000, duration_ns=5),
        step(Step.MODULE_INFO, start_ns=1005, duration_ns=7),
        step(Step.CONFIG, start_ns=0, duration_ns=0, runs=0),
    ]
    assert busy_ns(early, steps) == 30 + 12


def test_cpus_in_a_step_count_once_and_later_ones_not_at_all() -> None:
    cpus = timed([cpu(1, start_ns=10, duration_ns=5), cpu(2, start_ns=900, duration_ns=5)])
    assert busy_ns(cpus, [step(Step.CPUS, start_ns=5, duration_ns=100)]) == 100
    assert busy_ns(cpus, []) == 0


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), min_size=1, max_size=8))
def test_busy_time_is_the_number_of_moments_in_which_something_ran(
    spans: list[tuple[int, int]],
) -> None:
    steps = [step(Step.CPUS, start_ns=start, duration_ns=length) for start, length in spans]
    moments = {at for start, length in spans for at in range(start, start + length)}
    assert busy_ns({}, steps) == len(moments)
