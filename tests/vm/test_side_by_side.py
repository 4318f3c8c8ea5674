# SPDX-License-Identifier: GPL-2.0-or-later
"""TDMRs are initialised side by side, each near its memory, and fail as one step."""

from __future__ import annotations

import statistics
from collections import defaultdict
from pathlib import Path

import pytest

from tests.vm.hosts import Boot
from tests.vm.witness import Witness

TDMR_INIT = "TDH.SYS.TDMR.INIT"
MS = 1_000_000
#: How long SEAMCALLs of one window may go on beginning, and what the emulator adds.
SHORT_NS, JITTER_NS = 100_000, 50_000
CALLS_IN_GIB = 256
#: Two nodes with two CPUs and two GiB each.
PLATFORM = """\
[platform]
summary = two nodes, and a TDX module that takes 5 ms for each 4 MiB of a TDMR
base = spr-2s
[cpu]
sockets = 2
cores = 2
threads = 1
[memory]
node0 = 2G
node1 = 2G
[latency]
TDH.SYS.TDMR.INIT = 5ms
"""
FAULT = f"{TDMR_INIT} call=300 times=1 trap=UD"
UD = 6


@pytest.fixture
def platform(tmp_path: Path) -> str:
    """The platform's file."""
    file = tmp_path / "two-nodes.ini"
    file.write_text(PLATFORM, encoding="utf-8")
    return str(file)


def cpus_by_tdmr(witness: Witness) -> dict[int, set[int]]:
    """CPUs that made calls for each TDMR, by its base."""
    found: defaultdict[int, set[int]] = defaultdict(set)
    for call in witness.of(TDMR_INIT):
        found[call.registers_in["rcx"]].add(call.cpu)
    return found


def windows(witness: Witness) -> list[list[int]]:
    """Stretches of VMX operation with TDMR.INIT in them: when each call of one was made, in ns."""
    found: list[list[int]] = []
    inside: dict[int, list[int]] = {}
    for event in witness.events:
        if event["event"] == "vmxon":
            inside[event["cpu"]] = []
        elif event["event"] == "seamcall" and event["leaf"] == TDMR_INIT:
            inside[event["cpu"]].append(event["t_ns"])
        elif event["event"] == "vmxoff" and (calls := inside.pop(event["cpu"], [])):
            found.append(calls)
    return found


def test_each_tdmr_has_a_cpu_of_its_node_and_all_take_as_long_as_one(
    boot: Boot, platform: str
) -> None:
    with boot(platform, warm=True) as host:
        document = host.json("enable")
        tdmrs = {int(one["base_pa"], 16): one["node"] for one in host.json("memory")["tdmrs"]}
        witness = host.witness()
    nodes = {cpu["cpu"]: cpu["node"] for cpu in document["cpus"]}
    by_tdmr = cpus_by_tdmr(witness)
    assert by_tdmr.keys() == tdmrs.keys()
    assert len(tdmrs) == len(nodes) == 4
    workers = {base: cpus.pop() for base, cpus in by_tdmr.items()}
    # One CPU for each TDMR, and no two TDMRs on one.
    assert not any(by_tdmr.values())
    assert set(workers.values()) == set(nodes)
    assert {base: nodes[cpu] for base, cpu in workers.items()} == tdmrs
    (step,) = [one for one in document["steps"] if one["name"] == "tdmr_init"]
    assert step["seamcalls"] == 4 * CALLS_IN_GIB
    one_by_one = 4 * CALLS_IN_GIB * 5 * MS
    assert one_by_one / 4 <= step["chain_ns"] <= step["duration_ns"] < one_by_one / 2
    times = document["times"]
    assert step["chain_ns"] < times["critical_path_ns"] < times["total_ns"] < one_by_one


def test_a_tdmr_that_fails_ends_the_step_and_retry_does_what_is_left(
    boot: Boot, platform: str
) -> None:
    with boot(platform, faults=(FAULT,), warm=True) as host:
        failed = host.json("enable", status=1)
        failed_calls = len(host.witness().of(TDMR_INIT))
        again = host.json("enable", "--retry")
        witness = host.witness()
    (struck,) = [call for call in witness.of(TDMR_INIT) if call.fault]
    module = failed["module"]
    assert (module["step"], module["cpu"], module["trap"]) == ("tdmr_init", struck.cpu, UD)
    # The others came to an end soon, with most of the work still to do.
    assert failed_calls < 2 * CALLS_IN_GIB
    assert again["module"]["status"] == "initialized"
    for tdmr in witness.tdmrs():
        assert witness.initialized_to(tdmr) == tdmr.base + tdmr.size
    assert len(witness.succeeded(TDMR_INIT)) == 4 * CALLS_IN_GIB


def test_interrupts_wait_for_one_long_seamcall_or_for_some_short_ones(
    boot: Boot, platform: str
) -> None:
    with boot(platform, warm=True) as host:
        host.json("enable")
        long_ones = windows(host.witness())
    with boot("spr-2s") as host:
        host.json("enable")
        short_ones = windows(host.witness())
    assert {len(window) for window in long_ones} == {1}
    assert max(len(window) for window in short_ones) > 1
    # None begins later than 100 us after the first, but where a busy host stopped the clock.
    spans = [window[-1] - window[0] for window in short_ones]
    assert statistics.median(spans) <= SHORT_NS + JITTER_NS
