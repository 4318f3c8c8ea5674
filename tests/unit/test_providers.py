# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the kernel initialises TDX: what it tells nobody is null, and what is left is said.

What is not known follows from the flags of the uapi header.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tdxhost.cli import cpu_enable, enable, memory, status
from tdxhost.errors import ExitCode, KernelOwnsTdx, OptionUnsupported, Unsupported
from tdxhost.records import Code, CpuResult, Memory, ModuleStatus, Provider, Step
from tests.unit.samples import ENABLED, INFO, MEMORY, STATUS, FakeDriver, context, cpu, step

CPU_BY_KERNEL, STEP_BY_KERNEL, FINAL = 0x4, 0x1, 0x2

BY_KERNEL = FakeDriver(
    info=replace(INFO, provider=Provider.KERNEL, features=1),
    status=replace(STATUS, step=Step.KERNEL, pamt_bytes=None),
    cpus=tuple(cpu(number, flags=CPU_BY_KERNEL, leaf=0) for number in range(4)),
    steps=(
        step(Step.CPUS, flags=STEP_BY_KERNEL),
        step(Step.MODULE_INFO, seamcalls=76),
        step(Step.KERNEL, flags=STEP_BY_KERNEL),
    ),
    memory=Memory(MEMORY.ranges, None),
    enabled=replace(ENABLED, step=Step.KERNEL),
)
OBSERVED = replace(
    BY_KERNEL,
    info=replace(INFO, provider=Provider.OBSERVER, features=0),
    status=replace(STATUS, step=Step.NONE, pamt_bytes=None),
    cpus=tuple(
        cpu(number, flags=CPU_BY_KERNEL, leaf=0, start_ns=0, duration_ns=0) for number in range(4)
    ),
    steps=(),
    enabled=Unsupported(95, "ENABLE"),
)
FAILED = replace(
    BY_KERNEL,
    steps=(step(Step.KERNEL, flags=STEP_BY_KERNEL | FINAL, error=5, code=Code.KERNEL),),
    enabled=replace(
        ENABLED, module_status=ModuleStatus.ERROR, step=Step.KERNEL, error=5, code=Code.KERNEL
    ),
)


def document_of(capsys: pytest.CaptureFixture[str]) -> Any:
    """What a command wrote."""
    return json.loads(capsys.readouterr().out)


def test_seamcalls_of_the_kernel_s_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    assert enable.run(context(BY_KERNEL, "json")) is ExitCode.OK
    document = document_of(capsys)
    assert document["module"]["status"] == "initialized"
    assert document["module"]["seam_status"] is None
    for found in document["cpus"]:
        unknown = ("leaf", "seam_status", "status_name", "retries", "did_global_init")
        assert {found[name] for name in unknown} == {None}
        assert found["errno"] == 0
        assert found["duration_ns"] > 0
    cpus, module_info, kernel = document["steps"]
    assert cpus["seamcalls"] is kernel["seamcalls"] is kernel["retries"] is None
    assert module_info["seamcalls"] == 76


def test_tdmrs_and_pamts_of_the_kernel_s_are_null_and_not_empty(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert memory.run(context(BY_KERNEL, "json")) is ExitCode.OK
    document = document_of(capsys)
    assert document["tdmrs"] is document["tdx_memory"] is None
    assert {node["pamt_bytes"] for node in document["nodes"]} == {None}
    assert {node["tdx_bytes"] for node in document["nodes"]} == {None}
    assert all(node["system_ram_bytes"] is not None for node in document["nodes"])
    assert document["cmrs"]


def test_a_table_shows_that_tdmrs_are_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert memory.run(context(BY_KERNEL)) is ExitCode.OK
    said = capsys.readouterr().out
    assert "TDMRs are known to the kernel alone" in said
    assert "no TDMRs yet" not in said


def test_a_failure_of_the_kernel_s_is_final_and_points_to_its_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert enable.run(context(FAILED, "json")) is ExitCode.FAILED
    written = capsys.readouterr()
    assert json.loads(written.out)["module"]["final"]
    message, hint, left = written.err.splitlines()
    assert message == (
        "tdxhost: step kernel: the kernel's own initialisation of the TDX module failed"
    )
    assert "dmesg" in hint
    assert left.endswith(
        "--retry can't help: the kernel initialises the TDX module once a boot. "
        "What is left: a reboot."
    )


@pytest.mark.parametrize("code", [Code.INTERRUPTED, Code.VMX_BUSY, Code.VMXON_FAILED])
def test_what_was_not_begun_is_not_final(code: Code, capsys: pytest.CaptureFixture[str]) -> None:
    answer = replace(ENABLED, module_status=ModuleStatus.ERROR, step=Step.KERNEL, code=code)
    driver = replace(
        FAILED,
        steps=(step(Step.KERNEL, error=16, code=code),),
        enabled=replace(answer, error=16),
    )
    enable.run(context(driver, "json"))
    assert not document_of(capsys)["module"]["final"]


def test_the_kernel_takes_all_memory_and_an_option_says_so() -> None:
    driver = replace(BY_KERNEL, wishes=[])
    with pytest.raises(OptionUnsupported) as caught:
        enable.run(context(driver, skip_non_cmr=True))
    assert "takes all of its memory" in caught.value.hint
    assert driver.wishes == []


@pytest.mark.parametrize("retry", [False, True])
def test_commands_that_act_say_who_owns_tdx(retry: bool) -> None:
    with pytest.raises(KernelOwnsTdx, match="the kernel owns TDX here"):
        enable.run(context(OBSERVED, retry=retry))


def test_a_cpu_can_t_be_enabled_where_the_kernel_owns_tdx() -> None:
    class Refusing(FakeDriver):
        def cpu_enable(self) -> CpuResult:
            raise Unsupported(95, "CPU_ENABLE")

    driver = Refusing(info=OBSERVED.info)
    with pytest.raises(KernelOwnsTdx):
        cpu_enable.run(context(driver, cpus="0"))


def test_what_the_kernel_did_is_shown_without_times_it_did_not_tell(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status.run(context(OBSERVED, "json")) is ExitCode.OK
    document = document_of(capsys)
    assert document["provider"] == "observer"
    assert document["module"]["step"] is None
    assert {found["state"] for found in document["cpus"]} == {"enabled"}
    assert {found["duration_ns"] for found in document["cpus"]} == {None}
    assert document["steps"] == []
