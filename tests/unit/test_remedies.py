# SPDX-License-Identifier: GPL-2.0-or-later
"""What is left after a failure: going on, a retry, or nothing but a new load.

Expected results come from the uapi header (struct tdxhost_enable), and from the reference: which
statuses a leaf gives, and what state of the TDX module they stand for.
"""

from dataclasses import replace

import pytest

from tdxhost.errors import ExitCode
from tdxhost.findings import Finding, Judge, interrupted
from tdxhost.records import Code, Info, ModuleStatus, Range, RangeKind, Step, StepResult
from tdxhost.state import State
from tests.unit.samples import ENABLED, GIB, INFO, MEMORY, STATUS, cpu, step

JUDGE = Judge()
CPUS = tuple(cpu(number) for number in range(4))
KEY_CONFIG, TDMR_INIT, CONFIG, LP = 0x1F, 0x24, 0x2D, 0x23
#: TDXHOST_STEPF_FINAL of the uapi header.
FINAL_FLAG = 0x2

RETRY = "sudo tdxhost enable --retry"
NEW_LOAD = "What is left: a reboot, or another TDX module (loaded by P-SEAMLDR, or by a firmware"
OUTSIDE = replace(
    MEMORY,
    ranges=(
        *MEMORY.ranges,
        Range(base_pa=8 * GIB, bytes=GIB, kind=RangeKind.OUTSIDE, node=1, tdmr=None),
        Range(base_pa=8 * GIB, bytes=GIB, kind=RangeKind.RAM, node=1, tdmr=None),
    ),
)


def _refused(at: Step, leaf: int, status: int) -> StepResult:
    return step(at, error=5, code=Code.SEAMCALL, leaf=leaf, seam_status=status, cpu=0)


def _state(
    failed: StepResult, code: Code | None = None, info: Info = INFO, outside: bool = False
) -> State:
    answer = replace(
        ENABLED,
        module_status=ModuleStatus.ERROR,
        step=failed.step,
        error=failed.error,
        code=failed.code if code is None else code,
        leaf=failed.leaf,
        seam_status=failed.seam_status,
    )
    return State(info, STATUS, CPUS, (failed,), OUTSIDE if outside else MEMORY, answer)


def _last(state: State) -> Finding:
    verdict = JUDGE.state(state)
    assert verdict.exit_code is ExitCode.FAILED
    return verdict.findings[-1]


#: What stays refused after TDH.SYS.CONFIG, and what it means; semantics.md 1.5, 3.4 to 3.6.
FINAL = [
    (Step.KEY_CONFIG, KEY_CONFIG, 0xC000050700000000, "TDX_SYS_KEY_CONFIG_NOT_PENDING", "keys"),
    (Step.KEY_CONFIG, KEY_CONFIG, 0xC000050600000000, "TDX_SYS_SHUTDOWN", "shut down"),
    (Step.TDMR_INIT, TDMR_INIT, 0xC000050500000000, "TDX_SYS_NOT_READY", "every package"),
    (Step.TDMR_INIT, TDMR_INIT, 0xC000010000000001, "TDX_OPERAND_INVALID", "inputs"),
    (Step.TDMR_INIT, TDMR_INIT, 0xC000050200000000, "TDX_SYS_LP_INIT_NOT_DONE", "LP.INIT"),
    (Step.TDMR_INIT, TDMR_INIT, 0xC000FFFF00000000, "unknown status", "can't go on"),
]

#: What can be tried again: passing statuses anywhere, all statuses up to TDH.SYS.CONFIG.
RETRIED = [
    (Step.CPUS, LP, 0xC00009200000010A),
    (Step.CPUS, LP, 0x8000020300000000),
    (Step.MODULE_INFO, 0x22, 0xC0000C0000000000),
    (Step.CONFIG, CONFIG, 0xC0000A0000000000),
    (Step.CONFIG, CONFIG, 0x8000020200000000),
    (Step.KEY_CONFIG, KEY_CONFIG, 0x8000080000000000),
    (Step.KEY_CONFIG, KEY_CONFIG, 0x80000200000000BB),
    (Step.TDMR_INIT, TDMR_INIT, 0x8000020000000001),
]

#: What no retry changes before TDH.SYS.CONFIG either: the TDX module is past that point.
SPENT = [
    (Step.CPUS, LP, 0xC000050B00000000, "TDX_SYS_LP_INIT_NOT_PENDING"),
    (Step.CPUS, 0x21, 0xC000050600000000, "TDX_SYS_SHUTDOWN"),
]


@pytest.mark.parametrize(("at", "leaf", "status", "name", "meaning"), FINAL)
@pytest.mark.parametrize("answered", [None, Code.EARLIER_FAILURE, Code.FINAL])
def test_what_is_final_says_why_and_what_is_left_already_at_the_first_failure(
    at: Step, leaf: int, status: int, name: str, meaning: str, answered: Code | None
) -> None:
    failed = replace(_refused(at, leaf, status), flags=FINAL_FLAG)
    (left,) = _last(_state(failed, answered)).left
    assert left.startswith("--retry can't help: after TDH.SYS.CONFIG, ")
    assert name in left
    assert meaning in left
    assert NEW_LOAD in left
    assert RETRY not in left


@pytest.mark.parametrize(("at", "leaf", "status"), RETRIED)
@pytest.mark.parametrize("answered", [None, Code.EARLIER_FAILURE])
def test_what_can_be_retried_names_the_step_and_the_command(
    at: Step, leaf: int, status: int, answered: Code | None
) -> None:
    (left,) = _last(_state(_refused(at, leaf, status), answered)).left
    assert left == f"Once the cause is gone, go on at step {at.label}: {RETRY}"


@pytest.mark.parametrize(("at", "leaf", "status", "name"), SPENT)
def test_a_module_past_that_point_needs_a_new_load(
    at: Step, leaf: int, status: int, name: str
) -> None:
    (left,) = _last(_state(_refused(at, leaf, status))).left
    assert left.startswith(f"{name} means that the TDX module was ")
    assert NEW_LOAD in left


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("code", [None, Code.EARLIER_FAILURE])
def test_the_driver_alone_says_what_is_final(code: Code | None, final: bool) -> None:
    failed = replace(
        _refused(Step.KEY_CONFIG, KEY_CONFIG, 0xC000050700000000),
        flags=FINAL_FLAG if final else 0,
    )
    state = _state(failed, code)
    assert state.is_final is final
    assert ("--retry can't help" in _last(state).left[0]) is final


def test_what_another_step_came_to_is_not_final() -> None:
    done = replace(step(Step.KEY_CONFIG), flags=FINAL_FLAG)
    failed = _refused(Step.TDMR_INIT, TDMR_INIT, 0x8000020000000001)
    assert not replace(_state(failed), steps=(done, failed)).is_final


@pytest.mark.parametrize(
    ("code", "at"),
    [
        (Code.NO_MEMORY, Step.PAMT_ALLOC),
        (Code.PACKAGE_OFFLINE, Step.KEY_CONFIG),
        (Code.CPU_NOT_ENABLED, Step.CPUS),
        (Code.TOO_MANY_TDMRS, Step.TDMR_LAYOUT),
        (Code.TOO_MANY_RESERVED, Step.PAMT_ALLOC),
    ],
)
def test_findings_of_the_driver_can_be_retried(code: Code, at: Step) -> None:
    failed = step(at, error=12, code=code)
    assert _last(_state(failed)).left == (
        f"Once the cause is gone, go on at step {at.label}: {RETRY}",
    )


def test_ram_outside_cmrs_can_be_left_out() -> None:
    failed = step(Step.MEMORY, error=34, code=Code.RAM_OUTSIDE_CMR, base_pa=8 * GIB, bytes=GIB)
    left = _last(_state(failed, outside=True)).left
    assert left[1:] == (f"Or bring TDX up on the rest of memory: {RETRY} --skip-non-cmr",)


def test_a_driver_that_can_t_skip_is_not_said_to() -> None:
    failed = step(Step.MEMORY, error=34, code=Code.RAM_OUTSIDE_CMR, base_pa=8 * GIB, bytes=GIB)
    (left,) = _last(_state(failed, info=replace(INFO, features=1), outside=True)).left
    assert "--skip-non-cmr" not in left


def test_with_no_ram_in_any_cmr_there_is_no_rest_to_bring_tdx_up_on() -> None:
    failed = step(Step.MEMORY, error=34, code=Code.RAM_OUTSIDE_CMR, base_pa=0, bytes=5 * GIB)
    state = _state(failed)
    all_outside = tuple(
        replace(ram, kind=RangeKind.OUTSIDE) for ram in MEMORY.of_kind(RangeKind.RAM)
    )
    memory = replace(MEMORY, ranges=(*MEMORY.ranges, *all_outside))
    assert len(_last(replace(state, memory=memory)).left) == 1


@pytest.mark.parametrize(("at", "again"), [(Step.PAMT_ALLOC, True), (Step.KEY_CONFIG, False)])
def test_a_choice_that_was_made_is_part_of_the_command(at: Step, again: bool) -> None:
    failed = step(at, error=12, code=Code.NO_MEMORY)
    (left,) = _last(_state(failed, outside=True)).left
    assert left.endswith("--retry --skip-non-cmr" if again else "--retry")


def test_a_driver_that_can_t_retry_leaves_a_reboot() -> None:
    failed = step(Step.CONFIG, error=12, code=Code.NO_MEMORY)
    (left,) = _last(_state(failed, info=replace(INFO, features=0))).left
    assert left == "The loaded driver can't retry. What is left: a reboot."


GO_ON = "Go on with: sudo tdxhost enable"


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        (
            {"step": Step.TDMR_INIT, "progress": 3, "progress_total": 8},
            "interrupted at step tdmr_init, 3 of 8 GiB done",
            GO_ON,
        ),
        ({"step": Step.MEMORY, "progress_total": 0}, "interrupted at step memory", GO_ON),
        (
            {"step": Step.CPUS, "cpus_enabled": 1},
            "interrupted at step cpus, 1 of 4 CPUs done",
            GO_ON,
        ),
        ({"step": Step.NONE}, "interrupted", GO_ON),
        (
            {"step": Step.CONFIG, "running": 1},
            "interrupted; another caller goes on with the initialisation",
            "See how it stands with: sudo tdxhost status",
        ),
        (
            {"module_status": ModuleStatus.INITIALIZED},
            "interrupted, but TDX is initialized",
            "See how it stands with: sudo tdxhost status",
        ),
        (
            {"module_status": ModuleStatus.ERROR, "step": Step.CONFIG},
            "interrupted; step config has failed",
            "See how it stands with: sudo tdxhost status",
        ),
    ],
)
def test_an_interruption_says_how_far_it_came(
    changes: dict[str, object], message: str, hint: str
) -> None:
    status = replace(STATUS, **({"module_status": ModuleStatus.UNKNOWN} | changes))  # type: ignore[arg-type]
    assert interrupted(status, skip_non_cmr=False) == Finding(message, hint)


def test_an_interruption_keeps_the_choice_that_was_made() -> None:
    status = replace(STATUS, module_status=ModuleStatus.UNKNOWN, step=Step.NONE)
    assert interrupted(status, skip_non_cmr=True).hint == f"{GO_ON} --skip-non-cmr"
