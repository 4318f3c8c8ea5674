# SPDX-License-Identifier: GPL-2.0-or-later
"""What the driver's findings come to: messages, advice, exit codes."""

from dataclasses import replace

import pytest

from tdxhost.errors import ExitCode
from tdxhost.findings import ABSENT, Judge
from tdxhost.records import Code, CpuResult, EnableResult, ModuleStatus, Step, StepResult
from tdxhost.state import Outcome, State
from tdxhost.wording import TEXTS
from tests.unit.samples import (
    ENABLED,
    INFO,
    LP_INIT,
    MEMORY,
    STATUS,
    cpu,
    failed_cpu,
    step,
    untried_cpu,
)

JUDGE = Judge()
HEALTHY = tuple(cpu(number) for number in range(4))


def _failed(code: Code, at: Step = Step.CPUS, about: int | None = None) -> EnableResult:
    return replace(
        ENABLED, module_status=ModuleStatus.ERROR, step=at, error=5, code=code, cpu=about
    )


def _state(
    cpus: tuple[CpuResult, ...] = HEALTHY,
    enabled: EnableResult = ENABLED,
    steps: tuple[StepResult, ...] = (),
) -> State:
    return State(INFO, STATUS, cpus, steps, MEMORY, enabled)


def test_all_well_says_nothing_and_exits_with_0() -> None:
    verdict = JUDGE.state(_state())
    assert verdict.exit_code is ExitCode.OK
    assert verdict.findings == ()


def test_a_failed_cpu_is_named_with_leaf_status_and_what_differs() -> None:
    verdict = JUDGE.cpus([*HEALTHY[:3], failed_cpu(3)])
    assert verdict.exit_code is ExitCode.FAILED
    assert verdict.findings[0].message == (
        "CPU 3: TDH.SYS.LP.INIT: TDX_INCONSISTENT_MSR (0xc00009200000010a): "
        "MSR 0x10a IA32_ARCH_CAPABILITIES differs from the other CPUs"
    )
    assert verdict.findings[0].hint


def test_cpus_that_failed_alike_are_told_once() -> None:
    verdict = JUDGE.cpus([cpu(0), failed_cpu(1), failed_cpu(2), failed_cpu(3, error=1)])
    messages = [found.message.split(":")[0] for found in verdict.findings]
    assert messages == ["CPUs 1-2", "CPU 3"]


def test_enable_refused_for_a_missing_cpu_names_it() -> None:
    refused = _failed(Code.CPU_NOT_ENABLED, about=3)
    verdict = JUDGE.state(_state((*HEALTHY[:3], failed_cpu(3)), refused))
    assert verdict.exit_code is ExitCode.FAILED
    assert [found.message.split(":")[0] for found in verdict.findings] == ["CPU 3", "step cpus"]
    assert "CPU 3 is not" in verdict.findings[1].message


@pytest.mark.parametrize("code", sorted(ABSENT))
def test_a_host_without_usable_tdx_exits_with_3_and_one_message(code: Code) -> None:
    state = State(replace(INFO, code=code), STATUS, (untried_cpu(0),), (), MEMORY)
    verdict = JUDGE.state(state)
    assert verdict.exit_code is ExitCode.ABSENT
    assert len(verdict.findings) == 1
    assert verdict.findings[0].hint


@pytest.mark.parametrize("answered", [Code.NO_MODULE, Code.CPU_NOT_ENABLED])
def test_a_module_that_is_absent_everywhere_exits_with_3_and_one_message(answered: Code) -> None:
    cpus = tuple(failed_cpu(number, code=Code.NO_MODULE, leaf=0x21) for number in range(4))
    verdict = JUDGE.state(_state(cpus, _failed(answered, about=0)))
    assert verdict.exit_code is ExitCode.ABSENT
    assert [found.message for found in verdict.findings] == [
        "the TDX module is not loaded: TDH.SYS.INIT answered VMfailInvalid"
    ]
    assert "SEAM loader" in verdict.findings[0].hint


@pytest.mark.parametrize("answered", [Code.NO_MODULE, Code.CPU_NOT_ENABLED])
def test_a_module_that_one_cpu_misses_is_that_cpus_failure(answered: Code) -> None:
    lost = failed_cpu(3, code=Code.NO_MODULE)
    verdict = JUDGE.state(_state((*HEALTHY[:3], lost), _failed(answered, about=3)))
    assert verdict.exit_code is ExitCode.FAILED
    assert verdict.findings[0].message.startswith("CPU 3: the TDX module is not loaded")


def test_a_module_that_was_configured_before_is_told_as_such() -> None:
    spent = tuple(failed_cpu(number, seam_status=0xC000050B00000000) for number in range(4))
    enabled = replace(_failed(Code.SEAMCALL, about=0), leaf=LP_INIT)
    first, second = JUDGE.state(_state(spent, enabled)).findings
    assert first.message == (
        "CPUs 0-3: TDH.SYS.LP.INIT: TDX_SYS_LP_INIT_NOT_PENDING (0xc000050b00000000): the TDX "
        "module was configured before, and takes no more CPUs"
    )
    assert "earlier kernel" in first.hint
    assert second.message.endswith("CPUs 0-3 are not")


def test_a_module_without_metadata_is_told_as_a_1_0_module() -> None:
    # canonical/tdx issue 331: TDH.SYS.RD on a module of the 1.0 series.
    outcome = Outcome(
        code=Code.SEAMCALL, error=5, step=Step.MODULE_INFO, leaf=34, seam_status=0xC000050500000000
    )
    found = JUDGE.explain(outcome)
    assert "TDX_SYS_NOT_READY" in found.message
    assert "1.0 series" in found.message
    assert found.hint.startswith("Update the BIOS")


def test_a_module_left_alone_for_a_failed_cpu_says_which() -> None:
    enabled = _failed(Code.SEAMCALL, about=3)
    enabled = replace(enabled, leaf=LP_INIT, seam_status=failed_cpu(3).seam_status)
    verdict = JUDGE.state(_state((*HEALTHY[:3], failed_cpu(3)), enabled))
    messages = [found.message for found in verdict.findings]
    assert len(messages) == 2
    assert messages[0].startswith("CPU 3: TDH.SYS.LP.INIT: TDX_INCONSISTENT_MSR")
    assert messages[1].endswith("CPU 3 is not")


def test_an_earlier_failure_of_a_cpu_is_told_once() -> None:
    failed = step(Step.CPUS, error=5, code=Code.SEAMCALL, leaf=LP_INIT, cpu=3)
    cpus = (*HEALTHY[:3], failed_cpu(3))
    enabled = _failed(Code.EARLIER_FAILURE, about=3)
    verdict = JUDGE.state(_state(cpus, enabled, (failed,)))
    starts = [found.message.split(":")[0] for found in verdict.findings]
    assert starts == ["CPU 3", "step cpus"]
    assert "--retry" in verdict.findings[-1].left[0]


def test_an_earlier_failure_says_what_it_was_and_how_to_go_on() -> None:
    failed = step(
        Step.CONFIG,
        error=5,
        code=Code.SEAMCALL,
        leaf=0x2D,
        seam_status=0xC0000A0000000002,
        cpu=1,
    )
    enabled = _failed(Code.EARLIER_FAILURE, Step.CONFIG)
    verdict = JUDGE.state(_state(HEALTHY, enabled, (failed,)))
    assert verdict.exit_code is ExitCode.FAILED
    first, last = verdict.findings
    assert first.message == (
        "step config, CPU 1: TDH.SYS.CONFIG: TDX_INVALID_TDMR (0xc0000a0000000002): TDMR 2"
    )
    assert first.left == ()
    assert last.message.startswith("step config: the TDX module is in state error")
    assert "--retry" in last.left[0]


def test_an_interruption_at_the_cpus_is_not_told_as_their_fault() -> None:
    busy = failed_cpu(1, seam_status=0x8000020200000000, retries=3, error=11)
    stopped = replace(_failed(Code.INTERRUPTED, about=1), module_status=ModuleStatus.UNKNOWN)
    last = JUDGE.state(_state((HEALTHY[0], busy), stopped)).findings[-1]
    assert last.message == (
        "step cpus, CPU 1: a signal ended the initialisation; what was done stays done"
    )
    assert last.left == ("Go on with: sudo tdxhost enable",)


@pytest.mark.parametrize("at", [Step.CONFIG, Step.KEY_CONFIG, Step.TDMR_INIT])
def test_a_module_that_went_away_is_a_failure_and_not_absence(at: Step) -> None:
    failed = step(at, error=19, code=Code.NO_MODULE, leaf=0x2D, cpu=1)
    verdict = JUDGE.state(_state(HEALTHY, _failed(Code.NO_MODULE, at, 1), (failed,)))
    assert verdict.exit_code is ExitCode.FAILED
    (found,) = verdict.findings
    assert "the TDX module is gone: TDH.SYS.CONFIG answered VMfailInvalid" in found.message
    assert "BIOS" not in found.hint


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("TDX_RND_NO_ENTROPY", 0x8000020300000000),
        ("TDX_KEY_GENERATION_FAILED", 0x8000080000000000),
        ("TDX_SYS_BUSY", 0x8000020200000000),
        ("TDX_OPERAND_BUSY", 0x8000020000000001),
    ],
)
def test_a_status_that_passes_and_did_not_says_how_often_it_was_tried(
    name: str, status: int
) -> None:
    alike = [failed_cpu(n, seam_status=status, retries=9 * (n == 2)) for n in (1, 2)]
    (found,) = JUDGE.cpus([HEALTHY[0], *alike]).findings
    assert found.message.startswith(f"CPUs 1-2: TDH.SYS.LP.INIT: {name}")
    assert found.message.endswith("; still so after 9 repeats")
    failed = step(Step.CONFIG, error=16, code=Code.SEAMCALL, seam_status=status, retries=99)
    verdict = JUDGE.state(_state(HEALTHY, _failed(Code.SEAMCALL, Step.CONFIG), (failed,)))
    assert verdict.findings[0].message.endswith("; SEAMCALLs repeated in this step: 99")


def test_a_status_that_does_not_pass_counts_no_repeats() -> None:
    (found,) = JUDGE.cpus([HEALTHY[0], failed_cpu(1, retries=2)]).findings
    assert "repeat" not in found.message


def test_keyids_are_told_apart_none_from_one() -> None:
    none, one = (
        JUDGE.explain(Outcome(code=code, error=19)) for code in (Code.NO_KEYIDS, Code.ONE_KEYID)
    )
    assert "no private KeyIDs" in none.message
    assert "0x87" in none.message
    for word in ("TME", "TME-MT", "TDX", "SEAM loader", "key split"):
        assert word in none.hint
    assert "only one private KeyID" in one.message


@pytest.mark.parametrize(("trap", "name"), [(6, "#UD"), (13, "#GP"), (14, "vector 14")])
def test_a_trap_is_named(trap: int, name: str) -> None:
    found = JUDGE.explain(Outcome(code=Code.TRAP, error=13, trap=trap, leaf=LP_INIT), "CPU 1: ")
    assert found.message.startswith(f"CPU 1: TDH.SYS.LP.INIT faulted with {name}")


#: What is left to do says all that there is to advise.
NO_ADVICE = {Code.EARLIER_FAILURE, Code.FINAL, Code.INTERRUPTED}


def test_every_finding_of_the_abi_has_a_text() -> None:
    for code in Code:
        if code not in (Code.NONE, Code.SEAMCALL):
            message, hint = TEXTS[code]
            assert message
            assert bool(hint) is (code not in NO_ADVICE)


def test_a_finding_that_is_newer_than_the_package_is_told_by_number() -> None:
    found = JUDGE.explain(Outcome(code=Code(999), error=22))
    assert "999" in found.message
    assert "EINVAL" in found.message


@pytest.mark.parametrize("text", [text for pair in TEXTS.values() for text in pair])
def test_messages_neither_shout_nor_apologise(text: str) -> None:
    assert "!" not in text
    assert "sorry" not in text.lower()
