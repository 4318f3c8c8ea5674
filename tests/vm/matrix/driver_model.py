# SPDX-License-Identifier: GPL-2.0-or-later
"""What the driver has to do and to say when a call fails, worked out by its contract.

A request goes in, and what every ioctl has to show afterwards comes out, with
the SEAMCALLs that it takes. It knows nothing of what the driver under test said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.vm.matrix import contract
from tests.vm.matrix.contract import (
    AGAIN_FROM,
    DID_GLOBAL_INIT,
    FIELDS_READ,
    LIMIT_FIELDS,
    NONE,
    NUM_CMRS_FIELD,
    OPTIONAL_FIELDS,
    STEP_FINAL,
    STEP_TEXT,
    WAS_DONE,
    Answer,
    Code,
    Cpu,
    Failure,
    Module,
    Record,
    Step,
    failure_of,
    finding,
    is_final,
    log_line,
    vmx_failure,
)
from tests.vm.matrix.faults import Fault, Striker
from tests.vm.matrix.statuses import (
    CONFIG,
    INIT,
    KEY_CONFIG,
    LEAVES,
    LP_INIT,
    RD,
    TDMR_INIT,
    VALUES,
    name_of,
)
from tests.vm.matrix.tdx_module import Outcome, TdxModule, Topology


@dataclass
class CpuRecord:
    """GET_CPUS: one CPU."""

    cpu: int
    state: Cpu = Cpu.UNKNOWN
    flags: int = 0
    retries: int = 0
    failure: Failure = field(default_factory=Failure)

    def members(self) -> Record:
        """As struct tdxhost_cpu_result has it."""
        members = {**self.failure.members(), "cpu": self.cpu}
        return {**members, "state": self.state, "flags": self.flags, "retries": self.retries}


@dataclass
class StepRecord:
    """GET_STEPS: one step."""

    step: Step
    runs: int = 0
    retries: int = 0
    seamcalls: int = 0
    failure: Failure = field(default_factory=Failure)

    def members(self) -> Record:
        """As struct tdxhost_step_result has it; the last call of a good run is its own affair."""
        members = self.failure.members()
        if not self.failure.error:
            members = {name: members[name] for name in ("error", "code", "trap")}
            members["cpu"] = NONE
        counts = {"runs": self.runs, "retries": self.retries, "seamcalls": self.seamcalls}
        return {"step": self.step, "flags": self.flags, **counts, **members}

    @property
    def flags(self) -> int:
        """Whether the TDX module can't go on, once TDH.SYS.CONFIG has succeeded."""
        return STEP_FINAL if self.step > Step.CONFIG and is_final(self.failure) else 0


class DriverModel:
    """The driver, freshly loaded, before a freshly loaded TDX module.

    ``initialiser`` tells which CPU makes the next TDH.SYS.INIT of a request in
    which many CPUs are equal: chance, and vtdx's log knows.
    """

    def __init__(self, topology: Topology, initialiser: Callable[[], int]) -> None:
        self.topology = topology
        self.module = TdxModule(topology)
        self.caller = 0
        self.log: list[str] = []
        self.status = Module.UNKNOWN
        self.pamt_bytes = 0
        self.cpus = {cpu: CpuRecord(cpu) for cpu in topology.cpus}
        self.steps = {step: StepRecord(step) for step in Step}
        self._initialiser = initialiser
        self._init_done = False
        self._last = StepRecord(Step.PLATFORM)
        self._next = Step.PLATFORM
        self._configured = False
        self._keyed: set[int] = set()
        self._tdmrs_done = 0

    def strike(self, faults: tuple[Fault, ...]) -> None:
        """From here on these faults are there, with counts of their own."""
        self.module.striker = Striker(faults)

    # Requests

    def cpu_enable(self, cpu: int) -> Record:
        """CPU_ENABLE on a CPU; its answer."""
        was_enabled = self.cpus[cpu].state is Cpu.ENABLED
        self._enable([cpu], lambda: cpu)
        answer = self.cpus[cpu].members()
        answer["flags"] |= WAS_DONE if was_enabled else 0
        return answer

    def enable(self, *, retry: bool = False) -> Record:
        """ENABLE, with CPUs; its answer."""
        refusal = None
        if self.status is Module.ERROR and not retry:
            refusal = Code.EARLIER_FAILURE
        elif self.status is Module.ERROR and self._final:
            refusal = Code.FINAL
        elif self.status is not Module.INITIALIZED:
            self._attempt()
        return self._answer(refusal)

    def shown(self) -> Record:
        """What GET_STATUS has to show."""
        states = [record.state for record in self.cpus.values()]
        counts = {
            "cpus_online": len(states),
            "cpus_enabled": states.count(Cpu.ENABLED),
            "cpus_failed": states.count(Cpu.FAILED),
        }
        shown = {**self._answer(None), **counts, "running": 0, "pamt_bytes": self.pamt_bytes}
        if self.status is Module.UNKNOWN:
            shown["step"] = 0
        return shown

    @property
    def _final(self) -> bool:
        return self._configured and is_final(self._last.failure)

    def _answer(self, refusal: Code | None) -> Record:
        members = self._last.failure.members()
        if not self._last.failure.error:
            members |= {"leaf": 0, "seam_status": 0}
        if refusal is not None:
            members |= {"code": refusal, "error": contract.CODES[refusal][0]}
        return {"module_status": self.status, "step": self._last.step, **members}

    # The steps

    def _attempt(self) -> None:
        for step in Step:
            if step < self._next:
                continue
            self._last = StepRecord(step, runs=self.steps[step].runs + 1)
            self.steps[step] = self._last
            self._last.failure = self._run(step)
            if self._last.failure.error:
                self._fail(step)
                return
            if step >= Step.CONFIG:
                self._next = Step(min(step + 1, Step.TDMR_INIT))
        self.status = Module.INITIALIZED

    def _fail(self, step: Step) -> None:
        self.status = Module.ERROR
        self._next = AGAIN_FROM[step]
        # Every CPU is online and enabled here.
        if name_of(self._last.failure.seam_status) == "TDX_SYS_CONFIG_NOT_PENDING":
            self.log.append(contract.NONE_MISSING)
        self.log.append(log_line(STEP_TEXT[step], self._last.failure))
        if not self._configured:
            self.pamt_bytes = 0

    def _run(self, step: Step) -> Failure:
        runs: dict[Step, Callable[[], Failure]] = {
            Step.PLATFORM: self._check_platform,
            Step.CPUS: self._enable_cpus,
            Step.MODULE_INFO: self._read_module_info,
            Step.PAMT_ALLOC: self._alloc_pamts,
            Step.CONFIG: self._config,
            Step.KEY_CONFIG: self._config_keys,
            Step.TDMR_INIT: self._init_tdmrs,
        }
        return runs.get(step, Failure)()

    def _check_platform(self) -> Failure:
        for cpu in self.topology.cpus:
            struck = self.module.vmxon(cpu)
            if struck:
                return vmx_failure(struck, cpu)
        return Failure()

    def _enable_cpus(self) -> Failure:
        before = len(self.module.seen)
        tried = self._enable(list(self.topology.cpus), self._initialiser)
        self._last.seamcalls = len(self.module.seen) - before
        self._last.retries = sum(record.retries for record in tried)
        failed = [record for record in tried if record.state is Cpu.FAILED]
        return failed[0].failure if failed else Failure()

    def _read_module_info(self) -> Failure:
        lost: set[int] = set()
        for field_id in FIELDS_READ:
            if field_id == contract.CMR_BASE_FIELD and _no_limits(lost):
                return finding(Code.BAD_METADATA)
            if field_id >= contract.CMR_BASE_FIELD and NUM_CMRS_FIELD in lost:
                break
            failure = self._window(RD, self.caller)
            if failure.error and field_id not in OPTIONAL_FIELDS:
                return failure
            # A status of success class that is not TDX_SUCCESS comes with no value.
            if failure.seam_status:
                lost.add(field_id)
        return finding(Code.NO_CMRS) if NUM_CMRS_FIELD in lost else Failure()

    def _alloc_pamts(self) -> Failure:
        self.pamt_bytes = contract.pamt_bytes(list(self.topology.tdmrs))
        return Failure()

    def _config(self) -> Failure:
        failure = self._window(CONFIG, self.caller)
        self._configured = not failure.error
        return failure

    def _config_keys(self) -> Failure:
        for number, cpus in enumerate(self.topology.packages):
            if number in self._keyed:
                continue
            failure = self._window(KEY_CONFIG, cpus[0])
            if failure.error:
                return failure
            self._keyed.add(number)
        return Failure()

    def _init_tdmrs(self) -> Failure:
        # One TDMR has one worker, on the first CPU of its node.
        worker = self.topology.cpus[0]
        # Where the next stretch of VMX operation begins is a matter of time.
        struck = self.module.vmxon(worker)
        if struck:
            return vmx_failure(struck, worker, LEAVES[TDMR_INIT])
        while self._tdmrs_done < len(self.topology.tdmrs):
            outcome = self.module.call(TDMR_INIT, worker, self._tdmrs_done)
            failure = self._took(outcome, TDMR_INIT, worker)
            if failure.error:
                return failure
            already = failure.seam_status == VALUES["TDX_TDMR_ALREADY_INITIALIZED"]
            if already or self.module.tdmr_done(self._tdmrs_done):
                self._tdmrs_done += 1
        return Failure()

    def _window(self, leaf: str, cpu: int) -> Failure:
        """A SEAMCALL of a step, in a stretch of VMX operation of its own."""
        struck = self.module.vmxon(cpu)
        if struck:
            return vmx_failure(struck, cpu, LEAVES[leaf])
        return self._took(self.module.call(leaf, cpu), leaf, cpu)

    def _took(self, outcome: Outcome, leaf: str, cpu: int) -> Failure:
        self._last.seamcalls += outcome.calls
        self._last.retries += outcome.retries
        return failure_of(outcome.answer, leaf, cpu)

    # CPUs

    def _enable(self, cpus: list[int], initialiser: Callable[[], int]) -> list[CpuRecord]:
        """One request to enable CPUs; the records of those that were not enabled before."""
        tried = [self.cpus[cpu] for cpu in cpus if self.cpus[cpu].state is not Cpu.ENABLED]
        in_vmx = []
        for record in tried:
            self.cpus[record.cpu] = fresh = CpuRecord(record.cpu)
            struck = self.module.vmxon(record.cpu)
            if struck:
                self._settle(fresh, vmx_failure(struck, record.cpu))
            else:
                in_vmx.append(fresh)
        for record in self._init(in_vmx, initialiser):
            self._lp_init(record)
        tried = [self.cpus[record.cpu] for record in tried]
        self.log += _cpu_lines(tried)
        return tried

    def _init(self, records: list[CpuRecord], initialiser: Callable[[], int]) -> list[CpuRecord]:
        """TDH.SYS.INIT, one series for all but those on which it faults; who can go on then."""
        left = {record.cpu: record for record in records}
        while left and not self._init_done:
            cpu, answer = self._ask_init(left, initialiser)
            failure = failure_of(answer, INIT, cpu)
            not_pending = failure.seam_status == VALUES["TDX_SYS_INIT_NOT_PENDING"]
            self._init_done = not failure.error or not_pending
            if not failure.error:
                left[cpu].flags |= DID_GLOBAL_INIT
            elif failure.trap:
                self._settle(left.pop(cpu), failure)
            elif not self._init_done:
                for record in left.values():
                    self._settle(record, failure_of(answer, INIT, record.cpu))
                return []
        return list(left.values())

    def _ask_init(
        self, records: dict[int, CpuRecord], initialiser: Callable[[], int]
    ) -> tuple[int, Answer]:
        """One series of tries, and the CPU of the last."""
        calls = 0
        while True:
            calls += 1
            cpu = initialiser()
            assert cpu in records, f"CPU {cpu} has no part in this request"
            answer = self.module.try_once(INIT, cpu)
            records[cpu].retries += calls > 1
            if calls >= answer.tries:
                return cpu, answer

    def _lp_init(self, record: CpuRecord) -> None:
        outcome = self.module.call(LP_INIT, record.cpu)
        record.retries += outcome.retries
        failure = failure_of(outcome.answer, LP_INIT, record.cpu)
        if failure.seam_status == VALUES["TDX_SYS_LP_INIT_DONE"]:
            failure.error, failure.code = 0, Code.NONE
            record.flags |= WAS_DONE
        self._settle(record, failure)

    def _settle(self, record: CpuRecord, failure: Failure) -> None:
        record.failure = failure
        record.state = Cpu.FAILED if failure.error else Cpu.ENABLED


def _no_limits(lost: set[int]) -> bool:
    return any(field_id in lost for field_id in LIMIT_FIELDS)


def _cpu_lines(records: list[CpuRecord]) -> Iterator[str]:
    """One line for all CPUs that have failed alike, at the lowest of them."""
    alike: dict[tuple[int, ...], list[CpuRecord]] = {}
    for record in records:
        if record.failure.error:
            key = tuple(v for k, v in record.failure.members().items() if k != "cpu")
            alike.setdefault(key, []).append(record)
    for group in alike.values():
        yield log_line("enabling", group[0].failure, len(group) - 1)
