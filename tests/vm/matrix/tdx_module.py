# SPDX-License-Identifier: GPL-2.0-or-later
"""The TDX module as far as bring-up needs it, and the log that vtdx has to have of it.

States and answers: TDX module ABI reference, semantics.md 2 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.vm.matrix.contract import DONE, Answer
from tests.vm.matrix.faults import VMXON, Striker
from tests.vm.matrix.statuses import (
    CONFIG,
    INIT,
    KEY_CONFIG,
    LP_INIT,
    RD,
    TDMR_INIT,
    VALUES,
)

GIB = 1 << 30
#: One TDH.SYS.TDMR.INIT does 4 MiB; observed.md, TDMR.INIT.
CALLS_PER_GIB = GIB >> 22


@dataclass(frozen=True)
class Topology:
    """The machine: CPUs by package, TDMRs by size."""

    packages: tuple[tuple[int, ...], ...]
    tdmrs: tuple[int, ...]

    @property
    def cpus(self) -> tuple[int, ...]:
        """All CPUs, ascending."""
        return tuple(sorted(cpu for package in self.packages for cpu in package))

    def package_of(self, cpu: int) -> int:
        """The package of a CPU."""
        return next(i for i, cpus in enumerate(self.packages) if cpu in cpus)


@dataclass(frozen=True)
class Seen:
    """One SEAMCALL as vtdx logs it; the status of one that gave none is 0."""

    leaf: str
    cpu: int
    kind: str
    status: int
    struck: bool


@dataclass(frozen=True)
class Outcome:
    """A SEAMCALL with all of its tries."""

    answer: Answer
    calls: int

    @property
    def retries(self) -> int:
        """Tries after the first."""
        return self.calls - 1


class TdxModule:
    """A freshly loaded TDX module, with faults in front of it."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.striker = Striker(())
        self.seen: list[Seen] = []
        self._init = False
        self._configured = False
        self._lps: set[int] = set()
        self._keyed: set[int] = set()
        self._tdmr_calls = [0] * len(topology.tdmrs)

    @property
    def ready(self) -> bool:
        """Every package has its key."""
        return self._configured and len(self._keyed) == len(self.topology.packages)

    def vmxon(self, cpu: int) -> Answer | None:
        """How VMXON fails on a CPU, if it does."""
        return self.striker.strike(VMXON, cpu)

    def try_once(self, leaf: str, cpu: int, argument: int = 0) -> Answer:
        """One SEAMCALL."""
        struck = self.striker.strike(leaf, cpu)
        answer = struck or self._answer(leaf, cpu, argument)
        self.seen.append(Seen(leaf, cpu, answer.kind, answer.status, struck is not None))
        return answer

    def call(self, leaf: str, cpu: int, argument: int = 0) -> Outcome:
        """A SEAMCALL that is tried again as often as its answers are worth it."""
        calls = 0
        while True:
            calls += 1
            answer = self.try_once(leaf, cpu, argument)
            if calls >= answer.tries:
                return Outcome(answer, calls)

    def tdmr_done(self, tdmr: int) -> bool:
        """Whether RDX has come to the end of a TDMR."""
        return self._tdmr_calls[tdmr] == self._calls_for(tdmr)

    def _calls_for(self, tdmr: int) -> int:
        return self.topology.tdmrs[tdmr] // GIB * CALLS_PER_GIB

    def _answer(self, leaf: str, cpu: int, argument: int) -> Answer:
        if leaf == INIT:
            return self._do_init()
        if leaf == LP_INIT:
            return self._do_lp_init(cpu)
        if leaf == RD:
            return DONE if cpu in self._lps else _status("TDX_SYS_LP_INIT_NOT_DONE")
        if leaf == CONFIG:
            return self._do_config()
        if leaf == KEY_CONFIG:
            return self._do_key_config(self.topology.package_of(cpu))
        assert leaf == TDMR_INIT
        return self._do_tdmr_init(argument)

    def _do_init(self) -> Answer:
        if self._init:
            return _status("TDX_SYS_INIT_NOT_PENDING")
        self._init = True
        return DONE

    def _do_lp_init(self, cpu: int) -> Answer:
        if not self._init or self._configured:
            return _status("TDX_SYS_LP_INIT_NOT_PENDING")
        if cpu in self._lps:
            return _status("TDX_SYS_LP_INIT_DONE")
        self._lps.add(cpu)
        return DONE

    def _do_config(self) -> Answer:
        if self._configured or self._lps != set(self.topology.cpus):
            return _status("TDX_SYS_CONFIG_NOT_PENDING")
        self._configured = True
        return DONE

    def _do_key_config(self, package: int) -> Answer:
        if not self._configured or self.ready:
            return _status("TDX_SYS_KEY_CONFIG_NOT_PENDING")
        if package in self._keyed:
            return _status("TDX_KEY_CONFIGURED")
        self._keyed.add(package)
        return DONE

    def _do_tdmr_init(self, tdmr: int) -> Answer:
        if not self.ready:
            return _status("TDX_SYS_NOT_READY")
        if self.tdmr_done(tdmr):
            return _status("TDX_TDMR_ALREADY_INITIALIZED")
        self._tdmr_calls[tdmr] += 1
        return DONE


def _status(name: str) -> Answer:
    return Answer("status", VALUES[name])
