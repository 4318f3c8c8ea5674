# SPDX-License-Identifier: GPL-2.0-or-later
"""What the driver found, in words, and the exit code that it comes to.

The only place that decides either; the words are in wording.py, the ways to go on in
remedies.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from tdxhost.errors import ExitCode, errno_text
from tdxhost.leaves import leaf_name
from tdxhost.records import (
    Code,
    CpuResult,
    CpuState,
    EnableResult,
    Info,
    Memory,
    ModuleStatus,
    Status,
    Step,
    StepResult,
)
from tdxhost.remedies import go_on, remedies
from tdxhost.state import Outcome, State
from tdxhost.status import Decoded, Reference
from tdxhost.wording import (
    CONFIGURED_BEFORE,
    GONE,
    NO_METADATA,
    SEE_STATUS,
    TEXTS,
    TRAPS,
    config_not_pending,
    cpus_named,
    progress,
    specific,
)
from tdxhost.words import count

#: Findings that say that this host, not one CPU of it, has no usable TDX.
ABSENT = frozenset(
    {
        Code.NO_MODULE,
        Code.NO_KEYIDS,
        Code.ONE_KEYID,
        Code.NO_VMX,
        Code.VMX_LOCKED_OFF,
        Code.NO_SEAMRR,
        Code.NO_MOVDIR64B,
    }
)

#: Findings about the module as a whole, whichever CPU they name.
ABOUT_MODULE = frozenset({Code.CPU_NOT_ENABLED, Code.EARLIER_FAILURE, Code.FINAL})

#: Answers that say only that an earlier failure stands.
REFUSALS = (Code.EARLIER_FAILURE, Code.FINAL)

#: Steps that may find that there is no TDX module; after them it has answered.
BEFORE_ANSWERS = frozenset({Step.NONE, Step.PLATFORM, Step.CPUS})

#: Statuses that pass, and that the driver repeats a SEAMCALL for; README, "When it fails".
PASSING = frozenset(
    {"TDX_RND_NO_ENTROPY", "TDX_KEY_GENERATION_FAILED", "TDX_SYS_BUSY", "TDX_OPERAND_BUSY"}
)

#: The status of TDH.SYS.CONFIG that says that CPUs are missing.
WAITING = "TDX_SYS_CONFIG_NOT_PENDING"

#: Statuses that mean more than their name says, because of what the driver did before: it never
#: calls TDH.SYS.LP.INIT before TDH.SYS.INIT, nor TDH.SYS.RD before TDH.SYS.LP.INIT.
ENDED = {
    ("TDH.SYS.LP.INIT", "TDX_SYS_LP_INIT_NOT_PENDING"): CONFIGURED_BEFORE,
    ("TDH.SYS.RD", "TDX_SYS_NOT_READY"): NO_METADATA,
}

NO_MEMORY_KNOWN = Memory((), 0)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: what happened, what to do about it, and the ways to go on."""

    message: str
    hint: str = ""
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a command came to."""

    exit_code: ExitCode
    findings: tuple[Finding, ...] = ()


@dataclass
class Judge:
    """Puts what the driver found in words and decides on the exit code."""

    reference: Reference = field(default_factory=Reference)

    def explain(
        self, outcome: Outcome, where: str = "", cpu: str = "", memory: Memory = NO_MEMORY_KNOWN
    ) -> Finding:
        """Says what happened; where ("CPU 3: ") begins the message, cpu is what it is about."""
        if outcome.code is Code.SEAMCALL:
            return self._explain_seamcall(outcome, where)
        message, hint = self._text(outcome)
        if not message:
            message = f"failed: {errno_text(outcome.error)}" if outcome.error else "failed"
            if outcome.code is not Code.NONE:
                message += f" (finding {outcome.code} of the driver, newer than this package)"
        trap = TRAPS.get(outcome.trap, f"vector {outcome.trap}")
        general = message.format(
            leaf=leaf_name(outcome.leaf) if outcome.leaf else "SEAMCALL",
            trap=trap,
            with_trap=f" with {trap}" if outcome.trap else "",
            cpu=cpu or "one",
            be="are" if cpu.startswith("CPUs") else "is",
        )
        return Finding(where + (specific(outcome, memory) or general), hint)

    def _text(self, outcome: Outcome) -> tuple[str, str]:
        if outcome.code is Code.NO_MODULE and outcome.step not in BEFORE_ANSWERS:
            return GONE
        return TEXTS.get(outcome.code, ("", ""))

    def _explain_seamcall(self, outcome: Outcome, where: str) -> Finding:
        decoded = self.decode(outcome)
        if told := ENDED.get((leaf_name(outcome.leaf), decoded.name)):
            why, hint = told
            return Finding(f"{where}{leaf_name(outcome.leaf)}: {decoded.label}: {why}", hint)
        says = f": {decoded.says.removesuffix('.')}" if decoded.says else ""
        message = f"{where}{leaf_name(outcome.leaf)}: {decoded.label}{says}"
        if outcome.retries and decoded.name in PASSING:
            message += repeats(outcome)
        return Finding(message, decoded.what_to_do)

    def decode(self, outcome: Outcome) -> Decoded:
        """Decodes the completion status of an attempt."""
        return self.reference.decode(outcome.seam_status, outcome.leaf, outcome.registers)

    def host(self, info: Info) -> Verdict | None:
        """The verdict on a host that can't use TDX; None when it can."""
        if info.code is Code.NONE:
            return None
        code = ExitCode.ABSENT if info.code in ABSENT else ExitCode.FAILED
        return Verdict(code, (self.explain(Outcome(code=info.code, error=0)),))

    def cpus(self, cpus: Iterable[CpuResult]) -> Verdict:
        """The verdict on CPUs: absent only when all that were tried say the same."""
        tried = [cpu for cpu in cpus if cpu.tried or cpu.state is CpuState.FAILED]
        failed = [cpu for cpu in tried if cpu.state is CpuState.FAILED]
        if not failed:
            return Verdict(ExitCode.OK)
        codes = {cpu.code for cpu in failed}
        if len(failed) == len(tried) and len(codes) == 1 and codes <= ABSENT:
            return Verdict(ExitCode.ABSENT, (self.explain(Outcome.of(failed[0])),))
        return Verdict(ExitCode.FAILED, tuple(self._alike(failed)))

    def _alike(self, failed: Sequence[CpuResult]) -> Iterable[Finding]:
        """One finding for all CPUs that failed in the same way."""
        groups: dict[tuple[object, ...], list[CpuResult]] = {}
        for cpu in failed:
            key = (cpu.code, cpu.error, cpu.leaf, cpu.seam_status, cpu.trap)
            groups.setdefault(key, []).append(cpu)
        for group in groups.values():
            where = f"{cpus_named([cpu.cpu for cpu in group])}: "
            # Where one CPU asks for all, it alone has repeated the SEAMCALL.
            most = max(group, key=lambda cpu: cpu.retries)
            yield self.explain(Outcome.of(most), where)

    def state(self, state: State) -> Verdict:
        """The verdict on everything that stands somewhere."""
        cpus = self.cpus(state.cpus)
        return combine(self.host(state.info), cpus, self._module(state, cpus))

    def _module(self, state: State, cpus: Verdict) -> Verdict:
        """The verdict on tdx_enable(), without what that on the CPUs says already."""
        module = state.module
        failed = module.error or module.module_status is ModuleStatus.ERROR
        if not failed and module.code is Code.NONE:
            return Verdict(ExitCode.OK)
        told = bool(cpus.findings) and module.step is Step.CPUS
        if module.code in ABSENT and module.step in BEFORE_ANSWERS and not told:
            return Verdict(ExitCode.ABSENT, (self._step(module, state),))
        *causes, last = self._found(state, told)
        return Verdict(ExitCode.FAILED, (*causes, replace(last, left=self._left(state))))

    def _found(self, state: State, told: bool) -> list[Finding]:
        """What happened, its cause first; told when the CPUs' own findings are the cause."""
        module, failed = state.module, state.failed_step or state.module
        if module.code in REFUSALS:
            cause = [] if told or failed is module else [self._step(failed, state)]
            return [*cause, self._step(module, state)]
        if told and module.code is not Code.INTERRUPTED:
            return [self._missing(state.cpus)]
        return [self._step(failed, state)]

    def _left(self, state: State) -> tuple[str, ...]:
        """The ways to go on from the step that failed."""
        outcome = Outcome.of(state.failed_step or state.module)
        return remedies(state, outcome, self.decode(outcome))

    def _missing(self, cpus: Iterable[CpuResult]) -> Finding:
        """Says that the module was left alone because these CPUs are not enabled."""
        failed = [cpu.cpu for cpu in cpus if cpu.state is CpuState.FAILED]
        outcome = Outcome(code=Code.CPU_NOT_ENABLED, error=0)
        return self.explain(outcome, f"step {Step.CPUS.label}: ", cpus_named(failed))

    def _step(self, result: EnableResult | Status | StepResult, state: State) -> Finding:
        """Says how a step, or tdx_enable() at it, failed."""
        cpu = "" if result.cpu is None else cpus_named([result.cpu])
        outcome = Outcome.of(result)
        if self._waits_for_cpus(outcome):
            why, hint = config_not_pending(state.missing, state.processors)
            if why:
                return self._waiting(outcome, why, hint)
        return self.explain(outcome, step_where(result), cpu, state.memory)

    def _waits_for_cpus(self, outcome: Outcome) -> bool:
        """Whether the TDX module said so, or the driver saw to it that it was not asked."""
        if outcome.code is Code.SEAMCALL:
            return self.decode(outcome).name == WAITING
        return outcome.code is Code.CPU_OFFLINE and outcome.step is Step.CPUS

    def _waiting(self, outcome: Outcome, why: str, hint: str) -> Finding:
        """Says that TDH.SYS.CONFIG waits; the CPU that it was called on has no part in that."""
        answer = f"{leaf_name(outcome.leaf)}: {self.decode(outcome).label}: "
        called = answer if outcome.leaf else ""
        return Finding(f"step {outcome.step.label}: {called}{why}", hint)


def interrupted(status: Status, *, skip_non_cmr: bool) -> Finding:
    """Says how far a bring-up came that Ctrl-C has ended."""
    if status.running:
        return Finding("interrupted; another caller goes on with the initialisation", SEE_STATUS)
    if status.module_status is ModuleStatus.INITIALIZED:
        return Finding("interrupted, but TDX is initialized", SEE_STATUS)
    if status.module_status is ModuleStatus.ERROR:
        return Finding(f"interrupted; step {status.step.label} has failed", SEE_STATUS)
    at = f" at step {status.step.label}" if status.step is not Step.NONE else ""
    done = f", {far} done" if at and (far := progress(status)) else ""
    return Finding(f"interrupted{at}{done}", go_on(skip_non_cmr=skip_non_cmr))


def repeats(outcome: Outcome) -> str:
    """Ends a message about a status that passes, and did not; a step counts all its SEAMCALLs."""
    if outcome.step is Step.NONE:
        return f"; still so after {count(outcome.retries, 'repeat')}"
    return f"; SEAMCALLs repeated in this step: {outcome.retries}"


def step_where(result: EnableResult | Status | StepResult) -> str:
    """Begins a message about a step, such as "step config: " or "step cpus, CPU 3: "."""
    about_cpu = result.cpu is not None and result.code not in ABOUT_MODULE
    if result.step is Step.NONE:
        return f"CPU {result.cpu}: " if about_cpu else ""
    cpu = f", CPU {result.cpu}" if about_cpu else ""
    return f"step {result.step.label}{cpu}: "


def combine(*verdicts: Verdict | None) -> Verdict:
    """One verdict of many: the first absent one alone, else everything that failed."""
    given = [verdict for verdict in verdicts if verdict is not None]
    for verdict in given:
        if verdict.exit_code is ExitCode.ABSENT:
            return verdict
    findings = tuple(dict.fromkeys(found for verdict in given for found in verdict.findings))
    code = max((verdict.exit_code for verdict in given), default=ExitCode.OK)
    return Verdict(code, findings)
