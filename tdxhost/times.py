# SPDX-License-Identifier: GPL-2.0-or-later
"""How long bring-up took, and how long it had to take: what the TDX module leaves no choice in."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from tdxhost.records import StepResult
from tdxhost.words import duration


@dataclass(frozen=True, slots=True)
class Times:
    """The last runs of all steps: their time, and the part of it that is the critical path.

    The critical path is the longest chain of SEAMCALLs of which each has to wait for the one
    before: TDH.SYS.INIT, the slowest TDH.SYS.LP.INIT, TDH.SYS.CONFIG, every TDH.SYS.KEY.CONFIG,
    the TDMR that takes longest (TDX module ABI spec, platform initialisation).
    """

    total_ns: int
    critical_path_ns: int

    @classmethod
    def of(cls, steps: Iterable[StepResult]) -> Self | None:
        """None where no step has run, or the kernel made the SEAMCALLs."""
        ran = [step for step in steps if step.runs]
        path = sum(step.chain_ns for step in ran)
        if not path or any(step.by_kernel for step in ran):
            return None
        return cls(sum(step.duration_ns for step in ran), path)

    def __str__(self) -> str:
        ratio = self.total_ns / self.critical_path_ns
        return (
            f"It took {duration(self.total_ns)}; critical path {duration(self.critical_path_ns)} "
            f"(SEAMCALLs that have to follow one another); ratio {ratio:.2f}"
        )
