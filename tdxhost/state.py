# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a host stands, taken together, and what a struct of the ABI says about one attempt."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tdxhost.processors import UNKNOWN, Missing, Processors, missing
from tdxhost.records import (
    Code,
    CpuResult,
    EnableResult,
    Info,
    Memory,
    ModuleStatus,
    RangeKind,
    Status,
    Step,
    StepResult,
)


@dataclass(frozen=True, slots=True)
class State:
    """Where everything stands.

    enabled is what ENABLE answered, where it was asked; processors is what the host knows beside
    the driver.
    """

    info: Info
    status: Status
    cpus: tuple[CpuResult, ...]
    steps: tuple[StepResult, ...]
    memory: Memory
    enabled: EnableResult | None = None
    processors: Processors = UNKNOWN

    @property
    def module(self) -> EnableResult | Status:
        """What there is to say about tdx_enable()."""
        return self.enabled or self.status

    @property
    def failed_step(self) -> StepResult | None:
        """The step that tdx_enable() failed at, which knows more than its answer."""
        at = self.module.step
        return next((step for step in self.steps if step.step is at and step.error), None)

    @property
    def is_final(self) -> bool:
        """Whether the driver refuses to try again: tdx_enable() answers TDXHOST_CODE_FINAL."""
        return self.failed_step is not None and self.failed_step.final

    @property
    def missing(self) -> Missing:
        """Processors that firmware enabled and the TDX module was never told of."""
        if self.module.module_status is ModuleStatus.INITIALIZED:
            return Missing((), (), ())
        return missing(self.cpus, self.processors)

    @property
    def left_out(self) -> bool:
        """Whether RAM outside CMRs was left out by choice, and is not what failed."""
        return self.module.step > Step.MEMORY and bool(self.memory.of_kind(RangeKind.OUTSIDE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a struct of the ABI says about one attempt; members as in the uapi header."""

    code: Code
    error: int
    step: Step = Step.NONE
    leaf: int = 0
    seam_status: int = 0
    trap: int = 0
    retries: int = 0
    base_pa: int = 0
    bytes: int = 0
    needed: int = 0
    limit: int = 0
    registers: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, result: EnableResult | Status | CpuResult | StepResult) -> "Outcome":
        """Takes the attempt out of a record, as far as that one knows it."""
        names = ["code", "error", "leaf", "seam_status", "trap"]
        if not isinstance(result, CpuResult):
            names += ["step"]
        if isinstance(result, CpuResult | StepResult):
            names += ["retries"]
        if isinstance(result, StepResult):
            names += ["base_pa", "bytes", "needed", "limit"]
        registers = {}
        if isinstance(result, CpuResult | StepResult):
            registers = {"rcx": result.rcx, "rdx": result.rdx, "r8": result.r8}
        return cls(registers=registers, **{name: getattr(result, name) for name in names})
