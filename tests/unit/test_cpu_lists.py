# SPDX-License-Identifier: GPL-2.0-or-later
"""CPU lists, sysfs, cpusets, and the affinity that is always put back."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdxhost import topology
from tdxhost.errors import BadData, CpuUnavailable, Usage
from tdxhost.host import LiveHost
from tdxhost.topology import Topology, check_usable, format_cpu_list, parse_cpu_list

CPUS = st.frozensets(st.integers(0, topology.NR_CPUS - 1), min_size=1)


@given(CPUS)
def test_a_list_that_was_written_is_read_back(cpus: frozenset[int]) -> None:
    assert parse_cpu_list(format_cpu_list(cpus)) == cpus


@given(CPUS)
def test_a_written_list_is_ascending_and_merged(cpus: frozenset[int]) -> None:
    parts = [part.split("-") for part in format_cpu_list(cpus).split(",")]
    ends = [(int(part[0]), int(part[-1])) for part in parts]
    assert all(low <= high for low, high in ends)
    assert all(high + 1 < low for (_, high), (low, _) in pairwise(ends))


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        cpus = parse_cpu_list(text)
    except ValueError:
        return
    assert cpus
    assert all(0 <= cpu < topology.NR_CPUS for cpu in cpus)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0", {0}), ("0-3,8", {0, 1, 2, 3, 8}), (" 1 , 2-2\n", {1, 2}), ("3,1,3", {1, 3})],
)
def test_lists_are_read(text: str, cpus: set[int]) -> None:
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize("text", ["", ",", "1,", "a", "-1", "1-", "3-1", "0-9999999", "²", "1-2-3"])
def test_what_is_no_list_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(Usage) as caught:
        topology.cpus_or_usage(text)
    assert f"'{text}'" in caught.value.message
    assert "0-3,8" in caught.value.hint


def _sysfs(root: Path, online: str, present: str) -> Topology:
    folder = root / "sys/devices/system/cpu"
    folder.mkdir(parents=True)
    (folder / "online").write_text(online, encoding="ascii")
    (folder / "present").write_text(present, encoding="ascii")
    return Topology(LiveHost(root))


def test_sysfs_tells_online_and_present_cpus(tmp_path: Path) -> None:
    host = _sysfs(tmp_path, "0,2-3\n", "0-3\n")
    assert host.online() == {0, 2, 3}
    assert host.present() == {0, 1, 2, 3}


def test_sysfs_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="cpu/online"):
        _sysfs(tmp_path, "x\n", "0\n").online()
    with pytest.raises(BadData, match="cpu/present"):
        Topology(LiveHost(tmp_path / "nowhere")).present()


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [({0, 9}, "CPU 9 does not exist"), ({3}, "CPU 3 is offline"), ({2}, "CPU 2 is outside")],
)
def test_a_cpu_that_cant_be_run_on_is_named_with_the_reason(wanted: set[int], reason: str) -> None:
    with pytest.raises(CpuUnavailable, match=reason) as caught:
        check_usable(wanted, frozenset(range(4)), frozenset({0, 1, 2}), frozenset({0, 1}))
    assert caught.value.cpu in wanted
    assert caught.value.hint


def test_cpus_that_can_be_run_on_pass() -> None:
    check_usable({0, 1}, frozenset(range(4)), frozenset({0, 1, 2}), frozenset({0, 1}))


def test_pinned_runs_on_that_cpu_alone_and_restores_the_affinity() -> None:
    before = os.sched_getaffinity(0)
    for cpu in before:
        with topology.pinned(cpu):
            assert os.sched_getaffinity(0) == {cpu}
        assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_the_affinity_is_restored_when_the_body_raises(error: type[BaseException]) -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(error), topology.pinned(min(before)):
        raise error
    assert os.sched_getaffinity(0) == before


def test_a_cpu_that_the_kernel_refuses_is_named_and_the_affinity_restored() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(CpuUnavailable, match="CPU 8000 "), topology.pinned(8000):
        pytest.fail("ran on a CPU that is not there")
    assert os.sched_getaffinity(0) == before


def test_the_cpuset_is_asked_of_the_kernel_and_not_of_taskset() -> None:
    before = os.sched_getaffinity(0)
    with topology.pinned(min(before)):
        assert topology.allowed_cpus() >= before
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before
