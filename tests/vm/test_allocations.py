# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory is never lost or freed wrongly: every allocation fails once, all is counted.

A test-only kernel module (tests/vm/allocations) sees what the driver gets and
gives back, and lets the Nth allocation fail. What each step allocates is the
driver's design; what the functions are called is the kernel's.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tdxhost.records import Code, ModuleStatus, Step
from tests.vm.hosts import Host, host
from tests.vm.witness import Witness
from vtdx.vm import build, kernels

FOLDER = Path(__file__).parent / "allocations"
FAILED = 1
ENOMEM = 12
PAGE_BYTES = 4096
CPUS = 2

# As tests/vm/allocations/probes.c calls what the kernel gives one or the other name.
PAGE = "alloc_pages"
ZEROED_PAGE = "get_zeroed_page"
PAGES = "alloc_pages_exact"
RANGE = "alloc_contig_range"
KMALLOC = "kmalloc"
KVMALLOC = "kvmalloc"
WORKQUEUE = "alloc_workqueue"
LIST = "krealloc"
MASK = "alloc_cpumask_var"
COPY = "memdup_user"

# A VMXON region for every CPU that can ever be, and who initialises TDMRs: from load to unload.
FROM_LOAD = {PAGE: [CPUS, CPUS * PAGE_BYTES], WORKQUEUE: [1, 0]}
# The list of TDX-usable memory stays for GET_MEMORY: room for 64 regions of 24 bytes.
TDX_LIST = {LIST: [1, 64 * 24]}

# What ENABLE allocates, in order: results of the CPUs; a buffer for metadata; lists
# of System RAM and of the part in CMRs; TDMRs; the list of pieces for PAMTs, then a
# piece for each TDMR; TDMR_INFOs and the array of their addresses.
OF_ENABLE = [
    (Step.CPUS, KVMALLOC),
    (Step.MODULE_INFO, KMALLOC),
    (Step.MEMORY, LIST),
    (Step.MEMORY, LIST),
    (Step.TDMR_LAYOUT, KVMALLOC),
    (Step.PAMT_ALLOC, KVMALLOC),
    (Step.PAMT_ALLOC, RANGE),
    (Step.CONFIG, PAGES),
    (Step.CONFIG, ZEROED_PAGE),
]

# What the other calls allocate: a set of CPUs, a copy of the caller's, results;
# steps; System RAM, then everything else.
OF_CALLS: dict[str, list[str]] = {
    "GET_INFO": [],
    "GET_STATUS": [],
    "CPU_ENABLE": [],
    "CPUS_ENABLE": [MASK, KVMALLOC],
    "CPUS_ENABLE mask": [MASK, COPY, KVMALLOC],
    "GET_CPUS": [MASK, KVMALLOC],
    "GET_CPUS mask": [MASK, COPY, KVMALLOC],
    "GET_STEPS": [KMALLOC],
    "SYS_RD": [],
    "GET_MEMORY": [LIST, LIST],
}

# A failed CONFIG is the end of every round, so that one boot serves them all.
CONFIG_FAILS = "TDH.SYS.CONFIG status=TDX_INVALID_TDMR"

Round = dict[str, Any]


def in_guest() -> dict[str, Path]:
    """The files of these tests in the guest."""
    kernel = kernels.find(kernels.default())
    names = ("allocations", "fragments")
    modules = {f"/opt/{name}.ko": build.module(kernel, str(folder()), name) for name in names}
    return {
        "/opt/tdxhost.ko": build.driver(kernel),
        "/opt/guest.py": FOLDER / "guest.py",
        **modules,
    }


def folder() -> Path:
    """Where the modules are built from, relative to the project."""
    return FOLDER.relative_to(build.PROJECT)


def done(machine: Host, *argv: str) -> str:
    """Run a command that has to succeed; what it prints."""
    result = machine.run(*argv, timeout=240)
    assert result.status == 0, result
    return result.stdout


def guest(machine: Host, *argv: str) -> Any:
    """What guest.py prints."""
    result = machine.run("python3", "/opt/guest.py", *argv, timeout=240)
    assert result.status == 0, result
    return result.json()


def ledger(machine: Host) -> Any:
    """What allocations.ko knows."""
    return machine.run("cat", "/sys/kernel/debug/tdxhost_allocations/ledger").json()


@contextmanager
def watched(folder: Path, name: str = "spr-2s", **options: Any) -> Iterator[Host]:
    """A machine whose driver, once loaded, is watched; the books are right in the end."""
    given = {"cpus": CPUS, "memory_bytes": 2 << 30, **options}
    with host(folder, name, seconds=600, driver=False, extra=in_guest(), **given) as machine:
        machine.sh("echo 0 >/proc/sys/debug/kprobes-optimization")
        done(machine, "insmod", "/opt/allocations.ko")
        yield machine
        books = ledger(machine)
        assert (books["wrong_frees"], books["missed"], books["no_room"]) == (0, 0, 0)
        assert machine.kernel_complaints() == []


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All sweeps on a machine where TDH.SYS.CONFIG fails."""
    with watched(tmp_path_factory.mktemp("swept"), faults=(CONFIG_FAILS,)) as machine:
        found = {
            "imports": imports(machine.machine.spec.extra["/opt/tdxhost.ko"]),
            "watched": ledger(machine)["watched"],
            "load": guest(machine, "load"),
            "enable": guest(machine, "enable"),
        }
        done(machine, "insmod", "/opt/tdxhost.ko")
        found["calls"] = guest(machine, "calls")
        done(machine, "rmmod", "tdxhost")
        return found | {"left": ledger(machine)["held"]}


def imports(driver: Path) -> set[str]:
    """The kernel's functions that the driver calls."""
    listed = subprocess.run(["nm", "-u", driver], capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in listed.stdout.splitlines()}


def test_every_allocator_that_the_driver_calls_is_watched(swept: dict[str, Any]) -> None:
    # Slab caches are data; the buffers of trace events are perf's own.
    others = {"kmalloc_caches", "perf_trace_buf_alloc"}
    name = re.compile(r"alloc|free|dup|kasprintf|get_zeroed")
    assert {function for function in swept["imports"] - others if name.search(function)} <= set(
        swept["watched"]
    )


def test_load_fails_cleanly(swept: dict[str, Any]) -> None:
    *failed, loaded = swept["load"]
    assert [played["failed"] for played in failed] == [*[PAGE] * CPUS, WORKQUEUE]
    assert {played["status"] for played in failed} == {1}
    assert all("Cannot allocate memory" in played["said"] for played in failed)
    assert loaded["status"] == 0
    assert [played["left"] for played in swept["load"]] == [{}] * (CPUS + 2)


def held_after(step: Step) -> dict[str, list[int]]:
    """What the driver holds when a step before the end of TDH.SYS.CONFIG has failed."""
    return {**FROM_LOAD, **(TDX_LIST if step > Step.MEMORY else {})}


def check_no_memory(played: Round, step: Step) -> None:
    """ENABLE has failed for want of memory, and has given everything back."""
    answer = played["answer"]
    assert (answer["error"], answer["code"]) == (ENOMEM, Code.NO_MEMORY)
    assert answer["step"] == step
    assert answer["module_status"] == ModuleStatus.ERROR
    assert played["pamt_bytes"] == 0
    assert played["held"] == held_after(step)


def check_config_failed(played: Round) -> None:
    """ENABLE got as far as TDH.SYS.CONFIG, which the TDX module refuses here."""
    answer = played["answer"]
    assert (answer["step"], answer["code"]) == (Step.CONFIG, Code.SEAMCALL)
    assert played["pamt_bytes"] == 0
    assert played["held"] == held_after(Step.CONFIG)


def test_enable_fails_at_the_step_that_got_no_memory(swept: dict[str, Any]) -> None:
    *failed, reached = swept["enable"]
    met = []
    for played in failed:
        # A range that can't be had for a PAMT is in use: the next one does as well.
        if played["failed"] == RANGE:
            check_config_failed(played)
        worst = played["rest"] or played
        met.append((Step(worst["answer"]["step"]), worst["failed"]))
        check_no_memory(worst, met[-1][0])
    check_config_failed(reached)
    assert met.count((Step.PAMT_ALLOC, RANGE)) > 1
    # There are as many pieces for PAMTs as TDMRs.
    once = [what for i, what in enumerate(met) if what[1] != RANGE or what != met[i - 1]]
    assert once == OF_ENABLE


def rounds_of_enable(swept: dict[str, Any]) -> list[Round]:
    """All rounds of ENABLE, in both ways."""
    return [one for both in swept["enable"] for one in (both, both["rest"]) if one]


def test_retry_goes_on_once_there_is_memory(swept: dict[str, Any]) -> None:
    for played in rounds_of_enable(swept):
        check_config_failed(played["retry"])


def test_nothing_is_left_of_an_unloaded_driver(swept: dict[str, Any]) -> None:
    for played in rounds_of_enable(swept):
        assert played["left"] == {}
    assert swept["left"] == {}


def check_calls(found: dict[str, list[Round]], **other: list[str]) -> None:
    """Every call answers ENOMEM for each of its allocations, and holds nothing afterwards."""
    for name, allocations in (OF_CALLS | other).items():
        *failed, served = found[name]
        assert [played["failed"] for played in failed] == allocations, name
        assert [played["errno"] for played in failed] == ["ENOMEM"] * len(failed), name
        assert served["errno"] == "0", name
        assert all(played["after"] == played["before"] for played in found[name]), name
    assert found.keys() == OF_CALLS.keys()


def test_calls_answer_enomem(swept: dict[str, Any]) -> None:
    check_calls(swept["calls"])


def check_pamts_are_held(played: Round, witness: Witness) -> None:
    """The driver holds the PAMTs that vtdx was given, and the lists that belong to them."""
    tdmrs = witness.tdmrs()
    pamts = sum(pamt[1] for t in tdmrs for pamt in (t.pamt_1g, t.pamt_2m, t.pamt_4k))
    assert played["pamt_bytes"] == pamts
    held = dict(played["held"])
    # TDMRs and the list of pieces: as long as there can be TDMRs.
    assert held.pop(KVMALLOC)[0] == 2
    assert held.pop(RANGE)[1] == pamts
    assert held == {**FROM_LOAD, **TDX_LIST}


def test_pamts_stay_once_the_module_has_them(tmp_path: Path) -> None:
    """On a machine where TDMRs are split: what is left over of a piece goes back before."""
    keys_fail = "TDH.SYS.KEY.CONFIG times=2 trap=GP"
    with watched(tmp_path, "cmr-holes", memory_bytes=None, faults=(keys_fail,)) as machine:
        done(machine, "insmod", "/opt/tdxhost.ko")
        first = guest(machine, "try")
        tries = [guest(machine, "try", "retry") for _ in range(3)]
        calls = guest(machine, "calls")
        unloaded = machine.run("rmmod", "tdxhost")
        last = ledger(machine)["held"]
        witness = machine.witness()

    second, third, after = tries
    for played in (first, second):
        assert played["answer"]["step"] == Step.KEY_CONFIG
        assert played["answer"]["code"] == Code.NO_SEAMRR
    for played in (third, after):
        assert played["answer"]["module_status"] == ModuleStatus.INITIALIZED
    for played in (first, *tries):
        check_pamts_are_held(played, witness)
    # Past TDH.SYS.CONFIG there is nothing to allocate, so nothing that could fail.
    assert [played["count"] for played in tries] == [0, 0, 0]
    # There are more ranges than the list has room for at first, 128: it grows.
    check_calls(calls, GET_MEMORY=[LIST, LIST, LIST])
    assert unloaded.status != 0
    assert last == first["held"]


def test_no_room_for_a_pamt_and_then_there_is(tmp_path: Path) -> None:
    """Memory enough, but no contiguous range of it as long as a PAMT."""
    with watched(tmp_path, "spr-1s", memory_bytes=1 << 30) as machine:
        done(machine, "insmod", "/opt/tdxhost.ko")
        done(machine, "insmod", "/opt/fragments.ko")
        refused = machine.json("enable", status=FAILED)
        said = machine.run("tdxhost", "status").stdout
        left = ledger(machine)["held"]
        nothing_given = machine.witness().of("TDH.SYS.CONFIG") == []
        done(machine, "rmmod", "fragments")
        done(machine, "tdxhost", "enable", "--retry")
        after = guest(machine, "try")
        witness = machine.witness()

    assert refused["module"]["status"] == "error"
    assert refused["module"]["step"] == "pamt_alloc"
    assert refused["pamt_bytes"] == 0
    assert "memory" in said
    (step,) = [step for step in refused["steps"] if step["name"] == "pamt_alloc"]
    (tdmr,) = witness.tdmrs()
    assert (step["errno"], step["code"]) == (ENOMEM, "no_memory")
    assert (int(step["base_pa"], 16), step["bytes"]) == (tdmr.base, tdmr.size)
    assert step["needed"] == sum(pamt[1] for pamt in (tdmr.pamt_1g, tdmr.pamt_2m, tdmr.pamt_4k))
    assert left == held_after(Step.PAMT_ALLOC)
    assert nothing_given
    assert after["answer"]["module_status"] == ModuleStatus.INITIALIZED
    check_pamts_are_held(after, witness)
