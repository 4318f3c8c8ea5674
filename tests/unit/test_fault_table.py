# SPDX-License-Identifier: GPL-2.0-or-later
"""The table and the model that the fault matrix is worked out from."""

from __future__ import annotations

from collections import Counter
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
import yaml

from tdxhost import records
from tests.vm.matrix import cases, chains, contract, statuses
from tests.vm.matrix.contract import Answer, Code, Module, Step
from tests.vm.matrix.driver_model import DriverModel
from tests.vm.matrix.faults import Fault
from tests.vm.matrix.statuses import (
    ANSWERS,
    CONFIG,
    INIT,
    KEY_CONFIG,
    LP_INIT,
    RD,
    TDMR_INIT,
    VALUES,
)

# Source files of TDX module 1.5.01 that the reference names, and the leaf in each.
SOURCES = {
    "tdh_sys_init.c": INIT,
    "tdh_sys_lp_init.c": LP_INIT,
    "tdh_sys_rd.c": RD,
    "tdh_sys_config.c": CONFIG,
    "tdh_sys_key_config.c": KEY_CONFIG,
    "tdh_sys_tdmr_init.c": TDMR_INIT,
}
# What leaves return from code that they share with others; semantics.md 1.5, 3.4, 3.6.
SHARED_SOURCES = {
    "TDX_SYS_SHUTDOWN": "tdx_vmm_dispatcher.c",
    "TDX_SYS_NOT_READY": "tdx_vmm_dispatcher.c",
    "TDX_KEY_GENERATION_FAILED": "helpers.c",
    "TDX_METADATA_FIELD_ID_INCORRECT": "metadata_sys.c",
    "TDX_METADATA_FIELD_NOT_READABLE": "metadata_sys.c",
}


@pytest.fixture(scope="module")
def reference(shared: Path) -> dict[str, dict[str, Any]]:
    """The statuses of the reference, by name."""
    text = (shared / "tdx-abi/status-codes.yaml").read_text(encoding="utf-8")
    return {entry["name"]: entry for entry in yaml.safe_load(text)["statuses"]}


def names(leaf: str) -> set[str]:
    """Statuses that the table has for a leaf."""
    return {row.name for row in ANSWERS[leaf]}


def test_every_status_that_a_leaf_mentions_is_in_the_table(
    reference: dict[str, dict[str, Any]],
) -> None:
    for name, entry in reference.items():
        for source in entry["in_source"] if entry["in_source"] != "many" else ():
            if source in SOURCES:
                assert name in names(SOURCES[source]), (name, source)


def test_nothing_in_the_table_is_unknown_to_the_leaf(reference: dict[str, dict[str, Any]]) -> None:
    for source, leaf in SOURCES.items():
        for name in names(leaf):
            files = reference[name]["in_source"]
            assert files == "many" or source in files or SHARED_SOURCES[name] in files, (leaf, name)


def test_values_and_bits_are_those_of_the_reference(reference: dict[str, dict[str, Any]]) -> None:
    for name, value in VALUES.items():
        entry = reference[name]
        assert value == entry["value"], name
        assert bool(value & statuses.ERROR) == entry["error"], name
        assert bool(value & statuses.NON_RECOVERABLE) == entry["non_recoverable"], name


def test_low_halves_are_of_the_kind_that_the_reference_says(
    reference: dict[str, dict[str, Any]],
) -> None:
    for row in (row for rows in ANSWERS.values() for row in rows):
        kind = reference[row.name]["low32"]["kind"]
        assert (row.low == (0,)) == (kind in ("none", "list_index")) or kind == "operand_id", row
        if kind == "smrr_index":
            assert row.low == (0, 1)


def test_operands_and_leaves_have_the_numbers_of_the_reference(shared: Path) -> None:
    operands = yaml.safe_load((shared / "tdx-abi/operands.yaml").read_text(encoding="utf-8"))
    ids = {entry["name"]: entry["id"] for entry in operands["operands"]}
    for name in ("RAX", "RCX", "RDX", "R8", "KET"):
        assert getattr(statuses, name) == ids[name]
    leaves = yaml.safe_load((shared / "tdx-abi/leaves.yaml").read_text(encoding="utf-8"))
    numbers = {entry["name"]: entry["number"] for entry in leaves["module_leaves"]}
    assert {name: numbers[name] for name in statuses.LEAVES} == statuses.LEAVES


@pytest.mark.parametrize(
    ("ours", "header"),
    [
        (contract.Module, records.ModuleStatus),
        (contract.Cpu, records.CpuState),
        (contract.Step, records.Step),
        (contract.Code, records.Code),
    ],
)
def test_the_contract_has_the_numbers_of_the_header(
    ours: type[IntEnum], header: type[IntEnum]
) -> None:
    for member in ours:
        assert header[member.name] == member.value


def test_every_status_strikes_everywhere_and_as_often_as_there_is() -> None:
    spots = {INIT: 4, LP_INIT: 3, RD: len(cases.READS), CONFIG: 1}
    made = Counter(case.faults[0].what for group in cases.fresh_groups() for case in group.cases)
    no_value = len(contract.LIMIT_FIELDS) + 1
    for leaf, positions in spots.items():
        kinds = len(ANSWERS[leaf]) + len(cases.TRAPS)
        extra = no_value if leaf == RD else 0
        assert made[leaf] == kinds * positions * len(cases.TIMES) + extra


@pytest.mark.parametrize("leaf", [KEY_CONFIG, TDMR_INIT])
def test_past_config_every_status_strikes_first_in_the_middle_and_last(leaf: str) -> None:
    struck: Counter[tuple[str, str]] = Counter()
    for group in (*chains.chain_groups(), *chains.ending_groups()):
        for case in group.cases:
            if case.name.startswith(leaf) and case.faults:
                struck[str(case.faults[0].answer), case.faults[0].what] += 1
    for row in ANSWERS[leaf]:
        assert struck[str(Answer("status", VALUES[row.name] | row.low[0])), leaf] >= 3, row
    for trap in ("ud", "gp", "vmfail"):
        assert struck[trap, leaf] >= 9, trap


def test_no_two_cases_of_a_group_share_a_name() -> None:
    for group in (*cases.fresh_groups(), *chains.chain_groups(), *chains.ending_groups()):
        repeated = [name for name, n in Counter(c.name for c in group.cases).items() if n > 1]
        assert repeated == [], group.name


def model(*faults: Fault, initialiser: int = 2) -> DriverModel:
    """A driver on the machine of the matrix."""
    made = DriverModel(cases.TOPOLOGY, lambda: initialiser)
    made.strike(faults)
    return made


def made_calls(driver: DriverModel) -> Counter[str]:
    """SEAMCALLs of a model, by leaf."""
    return Counter(call.leaf for call in driver.module.seen)


def test_undisturbed_the_model_brings_the_host_up() -> None:
    driver = model()

    assert driver.enable()["error"] == 0
    assert driver.status is Module.INITIALIZED
    # One INIT, one LP.INIT a CPU, 10 needed fields, 2 more and 64 of CMRs, one
    # CONFIG, one key a package, one TDMR.INIT for each 4 MiB of 1 GiB.
    assert made_calls(driver) == {
        INIT: 1,
        LP_INIT: 4,
        RD: 76,
        CONFIG: 1,
        KEY_CONFIG: 4,
        TDMR_INIT: 256,
    }
    # 16 bytes for each page of 4 KiB, 2 MiB and 1 GiB, in whole pages, for 1 TDMR.
    assert driver.shown()["pamt_bytes"] == ((4 << 20) + (8 << 10) + (4 << 10))
    assert driver.log == []


def test_a_busy_lock_is_tried_a_hundred_times_and_blamed_on_every_cpu() -> None:
    driver = model(Fault(INIT, Answer("status", VALUES["TDX_SYS_BUSY"])))

    answer = driver.enable()

    assert answer["error"] == 16
    assert answer["step"] == Step.CPUS
    assert made_calls(driver) == {INIT: 100}
    assert driver.steps[Step.CPUS].retries == 99
    assert {cpu: record.retries for cpu, record in driver.cpus.items()} == {0: 0, 1: 0, 2: 99, 3: 0}
    line = "failed on CPU 0{}: TDH.SYS.INIT: TDX_SYS_BUSY 0x8000020200000000 (-16)"
    assert driver.log == [
        "enabling " + line.format(" and 3 more"),
        "enabling CPUs " + line.format(""),
    ]


def test_a_final_status_ends_the_way_and_a_trap_does_not() -> None:
    refused = model(Fault(KEY_CONFIG, Answer("status", VALUES["TDX_SYS_SHUTDOWN"]), times=1))
    trapped = model(Fault(KEY_CONFIG, contract.UD, times=1))

    for driver in (refused, trapped):
        assert driver.enable()["step"] == Step.KEY_CONFIG
        assert driver.enable()["code"] == Code.EARLIER_FAILURE
    assert refused.enable(retry=True)["code"] == Code.FINAL
    assert made_calls(refused)[KEY_CONFIG] == 1
    assert trapped.enable(retry=True)["module_status"] == Module.INITIALIZED
    assert made_calls(trapped)[KEY_CONFIG] == 5
    assert made_calls(trapped)[CONFIG] == 1
