# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command prints after a failure, an interruption, or with memory left out."""

import json
import re
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from tdxhost.cli import enable, memory, status
from tdxhost.errors import ExitCode, Interrupted, Unsupported
from tdxhost.records import Code, Memory, ModuleStatus, Range, RangeKind, Step
from tests.unit.samples import (
    ENABLED,
    GIB,
    INFO,
    MEMORY,
    MIB,
    STATUS,
    FakeDriver,
    context,
    cpu,
    step,
)

OUTSIDE = Range(base_pa=8 * GIB, bytes=GIB, kind=RangeKind.OUTSIDE, node=1, tdmr=None)
SKIPPED = replace(MEMORY, ranges=(*MEMORY.ranges, OUTSIDE))
LEFT_OUT = "1.0 GiB of System RAM outside all convertible memory stays with the kernel"


def _json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_options_of_enable_reach_the_driver() -> None:
    driver = FakeDriver()
    enable.run(context(driver))
    enable.run(context(driver, retry=True, skip_non_cmr=True))
    assert driver.wishes == [
        {"retry": False, "skip_non_cmr": False},
        {"retry": True, "skip_non_cmr": True},
    ]


@pytest.mark.parametrize(
    ("option", "features"), [("retry", 2), ("skip_non_cmr", 1), ("skip_non_cmr", 0)]
)
def test_an_option_that_the_driver_lacks_is_refused_before_anything_is_started(
    option: str, features: int
) -> None:
    driver = FakeDriver(info=replace(INFO, features=features))
    with pytest.raises(Unsupported, match="nothing was started") as refused:
        enable.run(context(driver, "table", **{option: True}))
    assert f"--{option.replace('_', '-')}" in refused.value.message
    assert refused.value.hint
    assert driver.wishes == []


@pytest.mark.parametrize("command", [enable, status, memory])
def test_ram_that_was_left_out_is_told_with_its_place(
    command: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    driver = FakeDriver(memory=SKIPPED)
    assert command.run(context(driver, skip_non_cmr=True)) is ExitCode.OK
    written = capsys.readouterr()
    assert f"{LEFT_OUT} and can't be given to a TD: 0x200000000-0x23fffffff\n" in written.out
    assert written.err == ""
    command.run(context(driver, "json", skip_non_cmr=True))
    document = _json(capsys)
    assert document["outside_cmrs_bytes"] == GIB
    assert document["outside_cmrs"] == [{"base_pa": "0x0000000200000000", "bytes": GIB, "node": 1}]


def test_ram_that_stopped_enable_is_named_by_it(capsys: pytest.CaptureFixture[str]) -> None:
    failed = step(Step.MEMORY, error=34, code=Code.RAM_OUTSIDE_CMR, base_pa=8 * GIB, bytes=GIB)
    answer = replace(
        ENABLED,
        module_status=ModuleStatus.ERROR,
        step=Step.MEMORY,
        error=34,
        code=Code.RAM_OUTSIDE_CMR,
    )
    driver = FakeDriver(memory=SKIPPED, enabled=answer, steps=(failed,))
    assert enable.run(context(driver)) is ExitCode.FAILED
    written = capsys.readouterr()
    assert written.err.startswith(
        "tdxhost: step memory: 1.0 GiB of System RAM outside all convertible memory: "
        "0x200000000-0x23fffffff\n"
    )
    assert "sudo tdxhost enable --retry --skip-non-cmr" in written.err
    assert LEFT_OUT not in written.out
    enable.run(context(driver, "json"))
    document = _json(capsys)
    assert (
        document["steps"][0].items()
        >= {
            "base_pa": "0x0000000200000000",
            "bytes": GIB,
            "needed": None,
            "limit": None,
        }.items()
    )
    assert document["findings"][0]["left"][1].endswith("--retry --skip-non-cmr")


def test_a_step_says_what_it_lacked(capsys: pytest.CaptureFixture[str]) -> None:
    lacking = step(Step.TDMR_LAYOUT, base_pa=GIB, bytes=GIB, needed=20, limit=16)
    status.run(context(FakeDriver(steps=(step(Step.MEMORY), lacking)), "json"))
    plain, told = _json(capsys)["steps"]
    names = ("base_pa", "bytes", "needed", "limit")
    assert [plain[name] for name in names] == [None] * 4
    assert [told[name] for name in names] == ["0x0000000040000000", GIB, 20, 16]


@pytest.mark.parametrize(("flags", "final"), [(0x2, True), (0, False)])
def test_the_document_says_whether_a_retry_can_help(
    flags: int, final: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = step(Step.KEY_CONFIG, error=5, code=Code.SEAMCALL, leaf=0x1F, flags=flags)
    answer = replace(
        ENABLED,
        module_status=ModuleStatus.ERROR,
        step=failed.step,
        error=failed.error,
        code=failed.code,
        leaf=failed.leaf,
    )
    enable.run(context(FakeDriver(enabled=answer, steps=(failed,)), "json"))
    assert _json(capsys)["module"]["final"] is final


def test_repeated_seamcalls_show_in_the_tables_where_there_were_any(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status.run(context(FakeDriver()))
    assert "REPEATED" not in capsys.readouterr().out
    steps = (step(Step.CPUS, retries=3, seamcalls=8), step(Step.CONFIG, seamcalls=1))
    driver = FakeDriver(cpus=(cpu(0), cpu(1), cpu(2, retries=3), cpu(3)), steps=steps)
    status.run(context(driver))
    shown = capsys.readouterr().out
    first, second, steps_shown = re.split(r"\n\n", shown)[1:]
    assert "REPEATED" not in first
    assert re.search(r"^  2 .* 3 *$", second, re.MULTILINE)
    assert re.search(r"^cpus +8 +3 ", steps_shown, re.MULTILINE)
    assert re.search(r"^config +1 +5 ms ", steps_shown, re.MULTILINE)
    status.run(context(driver, "json"))
    document = _json(capsys)
    assert [cpu["retries"] for cpu in document["cpus"]] == [0, 0, 3, 0]
    assert [step["retries"] for step in document["steps"]] == [3, 0]


@pytest.mark.parametrize(
    ("at", "held", "owner", "said"),
    [
        (Step.CONFIG, 0, None, "PAMT: 0 B; what was allocated was given back"),
        (Step.KEY_CONFIG, 16 * MIB, "tdx_module", "PAMT: 16.0 MiB, which belong to the TDX module"),
    ],
)
def test_memory_says_whose_the_pamts_are_after_a_failure(
    at: Step, held: int, owner: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = (RangeKind.RAM, RangeKind.CMR) if not held else tuple(RangeKind)
    driver = FakeDriver(
        status=replace(STATUS, module_status=ModuleStatus.ERROR, step=at, pamt_bytes=held),
        memory=Memory(tuple(MEMORY.of_kind(*kinds)), held),
    )
    memory.run(context(driver))
    shown = capsys.readouterr().out
    assert said in shown
    assert re.search(rf"^ *all .* {'16.0 MiB' if held else '0 B'}$", shown, re.MULTILINE)
    memory.run(context(driver, "json"))
    document = _json(capsys)
    assert document["pamt_owner"] == owner
    assert document["pamt_bytes"] == held
    assert sum(node["pamt_bytes"] for node in document["nodes"]) == held
    assert enable.run(context(driver)) is ExitCode.OK
    assert said in capsys.readouterr().out


def test_ctrl_c_says_how_far_it_came_and_how_to_go_on() -> None:
    stopped = replace(
        STATUS, module_status=ModuleStatus.UNKNOWN, progress=3, progress_total=8, running=0
    )
    driver = FakeDriver(status=stopped, enabled=KeyboardInterrupt())
    with pytest.raises(Interrupted) as caught:
        enable.run(context(driver, skip_non_cmr=True))
    assert caught.value.message == "interrupted at step tdmr_init, 3 of 8 GiB done"
    assert caught.value.hint == "Go on with: sudo tdxhost enable --skip-non-cmr"
