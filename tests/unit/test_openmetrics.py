# SPDX-License-Identifier: GPL-2.0-or-later
"""Metrics of a report: good for both parsers, true to what was read, silent on what was not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import Metric, parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from tdxhost.findings import Judge
from tdxhost.recording import Recording
from tdxhost.records import (
    Code,
    CpuResult,
    Memory,
    ModuleStatus,
    Provider,
    Range,
    RangeKind,
    Step,
)
from tdxhost.report.collect import replay, take
from tdxhost.report.model import Report
from tdxhost.report.openmetrics import as_seconds, label_set, openmetrics
from tests import golden
from tests.unit.machines import FakeHost, fake_host, no_driver
from tests.unit.samples import (
    GIB,
    INFO,
    MIB,
    STATUS,
    FakeDriver,
    context,
    cpu,
    failed_cpu,
    step,
    untried_cpu,
)
from tests.unit.test_golden_hosts import CAUSES

Parse = Callable[[str], Iterable[Metric]]
PARSERS: tuple[Parse, ...] = (
    parser.text_string_to_metric_families,
    openmetrics_parser.text_string_to_metric_families,
)
#: Of the text format 0.0.4; a type of any other name is an error to node_exporter.
TEXT_TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}
UNTRIED = FakeDriver(
    info=replace(INFO, valid=0),
    status=replace(
        STATUS, module_status=ModuleStatus.UNKNOWN, step=Step.NONE, cpus_enabled=0, pamt_bytes=0
    ),
    cpus=tuple(untried_cpu(number) for number in range(4)),
    steps=tuple(step(kind, runs=0, start_ns=0, duration_ns=0) for kind in Step if kind),
    memory=Memory((Range(base_pa=MIB, bytes=GIB, kind=RangeKind.RAM, node=0, tdmr=None),), 0),
)
BY_KERNEL = 0x4  # TDXHOST_CPU_BY_KERNEL
STEP_BY_KERNEL = 0x1  # TDXHOST_STEPF_BY_KERNEL

Key = tuple[str, frozenset[tuple[str, str]]]


def samples(text: str, parse: Parse = PARSERS[1]) -> dict[Key, float]:
    """Values by name and labels; each is there once."""
    found = [one for family in parse(text) for one in family.samples]
    values = {(one.name, frozenset(one.labels.items())): one.value for one in found}
    assert len(values) == len(found)
    return values


def report(driver: FakeDriver | None, host: FakeHost | None = None) -> Report:
    """A report of a host, live."""
    opened = no_driver if driver is None else context(driver).open_driver
    return take(host or fake_host(), opened, Judge())[0]  # type: ignore[arg-type]


def told(driver: FakeDriver | None, host: FakeHost | None = None) -> dict[Key, float]:
    """The metrics of a host."""
    return samples(openmetrics(report(driver, host)))


def of(found: dict[Key, float], name: str) -> dict[tuple[str, ...], float]:
    """The samples of a metric, by the values of their labels in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(labels)): number
        for (metric, labels), number in found.items()
        if metric == f"tdxhost_{name}"
    }


def labels(found: dict[Key, float], name: str) -> list[dict[str, str]]:
    """The labels of a metric that tells by them; its value is always 1."""
    of_it = [(dict(key[1]), value) for key, value in found.items() if key[0] == f"tdxhost_{name}"]
    assert {value for _, value in of_it} <= {1}
    return [one for one, _ in of_it]


def names(found: dict[Key, float]) -> set[str]:
    """Metrics that are there."""
    return {name.removeprefix("tdxhost_") for name, _ in found}


@cache
def recorded(name: str) -> tuple[Recording, str]:
    """A recording of a platform, and its metrics."""
    recording = Recording.load(golden.path_of(name))
    return recording, openmetrics(replay(recording, Judge()))


@pytest.mark.parametrize("name", golden.names())
def test_both_parsers_read_the_same(name: str) -> None:
    older, newer = (samples(recorded(name)[1], parse) for parse in PARSERS)
    assert older == newer
    lines = [line for line in recorded(name)[1].splitlines() if not line.startswith("#")]
    assert len(older) == len(lines)
    assert older["tdxhost_up", frozenset()] == 1


@pytest.mark.parametrize("name", golden.names())
def test_every_metric_has_a_meaning_a_unit_where_it_has_one_and_a_type_of_both(name: str) -> None:
    for parse in PARSERS:
        for family in parse(recorded(name)[1]):
            assert family.documentation, family.name
            assert family.type in TEXT_TYPES, family.name
            assert family.samples, family.name
    for family in PARSERS[1](recorded(name)[1]):
        ending = family.name.rpartition("_")[2]
        assert family.unit == (ending if ending in ("seconds", "bytes") else ""), family.name


@pytest.mark.parametrize("name", golden.names())
def test_text_is_such_that_both_formats_write_it_alike(name: str) -> None:
    lines = recorded(name)[1].splitlines()
    helps = [line for line in lines if line.startswith("# HELP")]
    # Where quotes are escaped in one alone, and backslashes in both.
    assert [line for line in helps if '"' in line or "\\" in line] == []
    assert lines.index("# EOF") == len(lines) - 1
    assert recorded(name)[1].endswith("# EOF\n")
    assert all(line.isascii() for line in lines)


@pytest.mark.parametrize("name", golden.names())
def test_cpus_and_steps_are_those_of_the_recording(name: str) -> None:
    recording, text = recorded(name)
    found = samples(text)
    cpus: list[dict[str, Any]] = recording.answers["driver GET_CPUS"]["answer"]
    steps: list[dict[str, Any]] = recording.answers["driver GET_STEPS"]["answer"]
    tried = {(str(one["cpu"]), str(one["package"])): one for one in cpus if one["start_ns"]}
    assert of(found, "cpu_errno") == {key: one["error"] for key, one in tried.items()}
    took = {key: one["duration_ns"] / 1e9 for key, one in tried.items()}
    assert of(found, "cpu_enable_duration_seconds") == took
    assert sum(of(found, "cpu_enabled").values()) == sum(one["state"] == 1 for one in cpus)
    assert len(of(found, "cpu_enabled")) == len(cpus)
    begun = {(Step(one["step"]).label,): one for one in steps if one["runs"]}
    assert of(found, "step_errno") == {key: one["error"] for key, one in begun.items()}
    of_steps = {key: one["duration_ns"] / 1e9 for key, one in begun.items()}
    assert of(found, "step_duration_seconds") == of_steps


@pytest.mark.parametrize(("name", "cause"), [(name, cause) for name, (cause, _) in CAUSES.items()])
def test_the_cause_of_a_failure_can_be_alerted_on(name: str, cause: str | None) -> None:
    found = samples(recorded(name)[1])
    failed = {one["id"] for one in labels(found, "check_failed")}
    assert of(found, "checks")["fail",] == len(failed)
    assert [one["id"] for one in labels(found, "cause_info")] == ([cause] if cause else [])
    assert failed >= ({cause} if cause else set())
    assert of(found, "verdict")["fail",] == bool(cause)


def test_a_host_that_is_up() -> None:
    found = told(FakeDriver())
    assert of(found, "up") == {(): 1}
    assert of(found, "module_status") == {("unknown",): 0, ("initialized",): 1, ("error",): 0}
    assert labels(found, "module_info") == [{"version": "1.5.06", "build_num": "744"}]
    assert labels(found, "provider_info") == [{"provider": "direct"}]
    assert of(found, "cpus_enabled") == of(found, "cpus_online") == {(): 4}
    assert of(found, "cpus_failed") == {(): 0}
    assert of(found, "private_keyids") == {(): 32}
    assert of(found, "generation") == {(): 30}
    assert of(found, "pamt_bytes") == {(): 16 * MIB}
    assert of(found, "node_pamt_bytes") == {("0",): 8 * MIB, ("1",): 8 * MIB}
    assert of(found, "cmr_bytes") == {(): 4 * GIB - MIB}
    assert of(found, "tdx_memory_bytes") == {(): 4 * GIB - MIB}
    assert of(found, "node_tdx_memory_bytes") == {("0",): 2 * GIB - MIB, ("1",): 2 * GIB}
    assert of(found, "outside_cmrs_bytes") == {(): 0}
    assert of(found, "cpu_enable_retries")["2", "1"] == 0
    assert names(found) & {"cpu_failure_info", "step_failure_info", "enable_failure_info"} == set()


def test_a_cpu_that_failed_is_named_with_its_status() -> None:
    cpus = (*(cpu(number) for number in range(3)), failed_cpu(3, retries=2))
    status = replace(
        STATUS,
        module_status=ModuleStatus.ERROR,
        step=Step.CPUS,
        error=5,
        code=Code.CPU_NOT_ENABLED,
        cpu=3,
        cpus_failed=1,
    )
    steps = (step(Step.CPUS, error=5, code=Code.CPU_NOT_ENABLED, cpu=3),)
    found = told(FakeDriver(cpus=cpus, status=status, steps=steps))
    assert labels(found, "cpu_failure_info") == [
        {
            "cpu": "3",
            "package": "1",
            "code": "seamcall",
            "leaf": "TDH.SYS.LP.INIT",
            "status": "TDX_INCONSISTENT_MSR",
        }
    ]
    assert of(found, "cpu_errno")["3", "1"] == 5
    assert of(found, "cpu_enabled")["3", "1"] == 0
    assert of(found, "cpu_enable_retries")["3", "1"] == 2
    named = {"step": "cpus", "cpu": "3", "code": "cpu_not_enabled"}
    assert labels(found, "step_failure_info") == labels(found, "enable_failure_info") == [named]
    assert of(found, "module_status")["error",] == 1
    assert of(found, "enable_errno") == {(): 5}


def test_what_was_not_done_yet_is_absent_and_not_0() -> None:
    found = told(UNTRIED)
    known = names(found)
    assert known & {"cpu_errno", "cpu_enable_duration_seconds", "cpu_enable_retries"} == set()
    steps = {"step_errno", "step_duration_seconds", "step_retries", "step_seamcalls"}
    assert known & steps == set()
    memory = {"cmr_bytes", "outside_cmrs_bytes", "tdx_memory_bytes", "node_tdx_memory_bytes"}
    assert known & (memory | {"tdmrs"}) == set()
    assert known & {"module_info", "private_keyids", "global_keyid", "enable_errno"} == set()
    assert set(of(found, "step_runs").values()) == {0}
    assert of(found, "pamt_bytes") == {(): 0}
    assert of(found, "module_status")["unknown",] == 1


def test_ram_outside_cmrs_is_known_once_it_was_looked_for() -> None:
    looked = replace(UNTRIED, steps=(step(Step.MEMORY),))
    assert of(told(looked), "outside_cmrs_bytes") == {(): 0}
    failed = (step(Step.MEMORY, error=22, code=Code.NO_MEMORY),)
    assert of(told(replace(UNTRIED, steps=failed)), "outside_cmrs_bytes") == {}
    outside = Range(base_pa=8 * GIB, bytes=GIB, kind=RangeKind.OUTSIDE, node=1, tdmr=None)
    there = replace(UNTRIED, steps=failed, memory=Memory((outside,), 0))
    assert of(told(there), "outside_cmrs_bytes") == {(): GIB}


def _by_kernel(number: int) -> CpuResult:
    return cpu(number, flags=BY_KERNEL, leaf=0, start_ns=0, duration_ns=0)


def test_what_the_kernel_keeps_to_itself_is_absent() -> None:
    ram = Range(base_pa=MIB, bytes=GIB, kind=RangeKind.RAM, node=0, tdmr=None)
    driver = FakeDriver(
        info=replace(INFO, provider=Provider.OBSERVER),
        status=replace(STATUS, step=Step.KERNEL, pamt_bytes=None),
        cpus=tuple(map(_by_kernel, range(4))),
        steps=(step(Step.KERNEL, flags=STEP_BY_KERNEL),),
        memory=Memory((ram,), None),
    )
    found = told(driver)
    retries = {"cpu_enable_retries", "step_retries", "step_seamcalls"}
    assert names(found) & (retries | {"cpu_enable_duration_seconds", "node_pamt_bytes"}) == set()
    assert names(found) & {"pamt_bytes", "tdx_memory_bytes"} == set()
    assert set(of(found, "cpu_enabled").values()) == {1}
    line = "[    1.000000] virt/tdx: 17409 KB allocated for PAMT"
    logged = told(driver, replace(fake_host(), lines=(line,)))
    assert of(logged, "pamt_bytes") == {(): 17409 * 1024}


def test_without_the_driver_there_is_what_the_host_says() -> None:
    found = told(None)
    assert of(found, "up") == {(): 0}
    assert of(found, "cpus_online") == of(found, "cpus_present") == {(): 4}
    assert of(found, "packages") == {(): 2}
    assert {"what": "the driver"} in labels(found, "not_read")
    assert names(found) & {"module_status", "cpus_enabled", "cpu_enabled", "pamt_bytes"} == set()


def test_without_root_what_could_not_be_read_is_named() -> None:
    found = told(None, fake_host(root=False))
    whats = {one["what"] for one in labels(found, "not_read")}
    assert whats >= {"the driver", "memory map", "MSRs", "kernel log"}
    assert of(found, "verdict")["fail",] == 0


def test_processors_are_missing_where_firmwares_list_is_known() -> None:
    assert of(told(UNTRIED), "processors_missing") == {}
    assert of(told(FakeDriver()), "processors_missing") == {(): 0}
    recording, text = recorded("seamrr-off-one-cpu")
    assert "data /sys/firmware/acpi/tables/APIC" in recording.answers
    assert of(samples(text), "processors_missing") == {(): 1}


def test_cpus_of_each_microcode_are_counted() -> None:
    odd = fake_host(microcode={3: "0x2b000590"})
    expected = {("0x2b000603",): 3, ("0x2b000590",): 1}
    assert of(told(FakeDriver(), odd), "microcode_cpus") == expected


def test_the_time_is_when_the_host_was_read() -> None:
    made = replace(report(FakeDriver()), taken_at="2026-11-26T02:00:00Z")
    assert of(samples(openmetrics(made)), "report_timestamp_seconds") == {(): 1795658400}
    made = replace(made, taken_at="")
    assert of(samples(openmetrics(made)), "report_timestamp_seconds") == {}


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0.000000000"), (1, "0.000000001"), (61_500_000_000, "61.500000000")],
)
def test_no_nanosecond_is_lost(nanoseconds: int, text: str) -> None:
    assert as_seconds(nanoseconds) == text


def test_what_firmware_says_is_text_in_a_label() -> None:
    evil = 'a"} 1\n# EOF\n\\n{x="'
    host = fake_host(files={"/sys/class/dmi/id/bios_version": evil})
    for parse in PARSERS:
        found = samples(openmetrics(report(FakeDriver(), host)), parse)
        assert [one["bios_version"] for one in labels(found, "host_info")] == [evil]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@example("\\")
@example('\\"')
@example("\\n")
@example('"} 1')
@example("a,b=c")
def test_a_label_has_any_text(text: str) -> None:
    lines = f"# TYPE x gauge\nx{label_set({'name': text, 'other': 1})} 1\n# EOF\n"
    for parse in PARSERS:
        ((_, found),) = samples(lines, parse)
        assert dict(found) == {"name": text, "other": "1"}


def test_what_is_not_known_is_no_label() -> None:
    assert label_set({"a": None, "b": ""}) == ""
    assert label_set({"a": None, "b": 0}) == '{b="0"}'
