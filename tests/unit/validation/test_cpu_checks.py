# SPDX-License-Identifier: GPL-2.0-or-later
"""How tests of CPUs choose them, count them, and name those with a problem."""

from __future__ import annotations

import random
import threading
from dataclasses import replace

import pytest

from tdxhost.records import Code, CpuResult, CpuState
from tdxhost.validation.callers import at_once
from tdxhost.validation.checks import by_cpus, initializers
from tdxhost.validation.problems import none_of
from tdxhost.validation.tests.test_cpus import half_of, in_order
from tdxhost.validation.tests.test_races import overlapping, spread

ENABLED = CpuResult(
    cpu=0,
    package=0,
    apic_id=0,
    node=0,
    state=CpuState.ENABLED,
    error=0,
    code=Code.NONE,
    trap=0,
    flags=0,
    retries=0,
    leaf=35,
    seam_status=0,
    rcx=0,
    rdx=0,
    r8=0,
    r9=0,
    r10=0,
    r11=0,
    start_ns=1,
    duration_ns=1,
)


@pytest.mark.parametrize(
    ("packages", "number"),
    [
        ({0: [0, 1, 2, 3]}, 2),
        ({0: [0, 1, 4, 5], 1: [2, 3]}, 3),
        ({0: [0, 1, 2], 1: [3]}, 2),
        ({0: [0], 1: [1]}, 1),
    ],
)
def test_half_of_each_package_is_chosen_and_never_all(
    packages: dict[int, list[int]], number: int
) -> None:
    for seed in range(20):
        chosen = half_of(packages, random.Random(seed))

        assert len(set(chosen)) == len(chosen) == number
        assert set(chosen) < {cpu for cpus in packages.values() for cpu in cpus}
        if number >= len(packages):
            assert all(set(cpus) & set(chosen) for cpus in packages.values())


def test_orders_are_what_they_are_called() -> None:
    cpus = list(range(8))
    shuffled = in_order(cpus, "shuffled", random.Random(1))

    assert in_order(cpus, "forwards", random.Random(1)) == cpus
    assert in_order(cpus, "backwards", random.Random(1)) == cpus[::-1]
    assert shuffled != cpus
    assert sorted(shuffled) == cpus
    assert shuffled == in_order(cpus, "shuffled", random.Random(1))


def test_cpus_with_the_same_problem_are_named_together() -> None:
    told = list(by_cpus([(3, "odd"), (1, "odd"), (2, "even"), (1, "odd")]))

    assert told == ["CPUs 1,3: odd", "CPU 2: even"]


def test_a_failure_has_every_problem_once() -> None:
    none_of([])
    with pytest.raises(AssertionError, match=r"^one\nother$"):
        none_of(["one", "other", "one"])


def test_one_cpu_did_the_global_initialisation() -> None:
    plain = replace(ENABLED, cpu=1)
    first, found, kernels = (replace(ENABLED, flags=flag) for flag in (0x1, 0x2, 0x4))

    assert not list(initializers([first, plain]))
    assert not list(initializers([found, plain]))
    assert not list(initializers([kernels]))
    assert not list(initializers([replace(plain, start_ns=0)]))
    assert list(initializers([plain])) == [
        "no CPU did the global initialisation (TDH.SYS.INIT), and nothing was done before"
    ]
    assert "CPUs 0,5 did" in "".join(initializers([first, replace(first, cpu=5), plain]))


def test_cpus_that_were_enabled_at_the_same_time_are_counted() -> None:
    times = [(10, 10), (15, 10), (20, 10), (40, 1)]
    results = [replace(ENABLED, start_ns=start, duration_ns=took) for start, took in times]

    assert overlapping(results) == 2


def test_callers_are_from_all_over_the_cpus() -> None:
    assert spread(range(4), 8) == [0, 1, 2, 3]
    assert spread(range(16), 4) == [0, 4, 8, 12]
    assert len(spread(range(448), 32)) <= 32


def test_callers_are_let_go_together() -> None:
    inside = threading.Barrier(3, timeout=30)

    assert sorted(at_once([(0, inside.wait)] * 3)) == [0, 1, 2]


def test_what_a_caller_raises_is_raised() -> None:
    def fails() -> int:
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        at_once([(0, fails), (0, lambda: 1)])


def test_a_cpu_that_is_not_there_ends_it_for_all() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        at_once([(0, lambda: 1), (8191, lambda: 1)])
