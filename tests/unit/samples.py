# SPDX-License-Identifier: GPL-2.0-or-later
"""Records as a driver would answer them, to render and to judge."""

import argparse
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from tdxhost.cli.context import Context
from tdxhost.recording import NothingKnown
from tdxhost.records import (
    Code,
    CpuResult,
    CpuState,
    EnableResult,
    FieldValue,
    Info,
    Memory,
    ModuleStatus,
    Provider,
    Range,
    RangeKind,
    Status,
    Step,
    StepResult,
)

LP_INIT = 0x23
INCONSISTENT_MSR = 0xC00009200000010A
MIB = 1 << 20
GIB = 1 << 30

INFO = Info(
    features=3,
    valid=3,
    provider=Provider.DIRECT,
    code=Code.NONE,
    nr_cpus=4,
    nr_packages=2,
    keyid_first=32,
    nr_keyids=32,
    keyid_global=32,
    module_major=1,
    module_minor=5,
    module_update=6,
    module_build_date=20240131,
    module_build_num=744,
    tdx_features0=0xF0FBF | 1 << 60,
)
STATUS = Status(
    module_status=ModuleStatus.INITIALIZED,
    step=Step.TDMR_INIT,
    running=0,
    error=0,
    code=Code.NONE,
    trap=0,
    cpu=None,
    cpus_online=4,
    cpus_enabled=4,
    cpus_failed=0,
    leaf=0,
    seam_status=0,
    progress=4,
    progress_total=4,
    pamt_bytes=16 * MIB,
    generation=30,
)
ENABLED = EnableResult(
    module_status=ModuleStatus.INITIALIZED,
    step=Step.TDMR_INIT,
    error=0,
    code=Code.NONE,
    trap=0,
    cpu=None,
    leaf=0,
    seam_status=0,
)


def cpu(number: int, **changes: Any) -> CpuResult:
    """An enabled CPU; two of them to a package."""
    made = CpuResult(
        cpu=number,
        package=number // 2,
        apic_id=number * 2,
        node=number // 2,
        state=CpuState.ENABLED,
        error=0,
        code=Code.NONE,
        trap=0,
        flags=1 if number == 0 else 0,
        retries=0,
        leaf=LP_INIT,
        seam_status=0,
        rcx=0,
        rdx=0,
        r8=0,
        r9=0,
        r10=0,
        r11=0,
        start_ns=1000 + number,
        duration_ns=1_234_567,
    )
    return replace(made, **changes)


def failed_cpu(number: int, **changes: Any) -> CpuResult:
    """A CPU whose MSR 0x10a is not that of the others."""
    told = {
        "state": CpuState.FAILED,
        "error": 5,
        "code": Code.SEAMCALL,
        "seam_status": INCONSISTENT_MSR,
    }
    return cpu(number, **(told | changes))


def untried_cpu(number: int) -> CpuResult:
    """A CPU on which nothing was done yet."""
    return cpu(number, state=CpuState.UNKNOWN, leaf=0, start_ns=0, duration_ns=0, flags=0)


def step(kind: Step, **changes: Any) -> StepResult:
    """A step that was done."""
    made = StepResult(
        step=kind,
        runs=1,
        error=0,
        code=Code.NONE,
        trap=0,
        cpu=None,
        retries=0,
        flags=0,
        leaf=0,
        seam_status=0,
        rcx=0,
        rdx=0,
        r8=0,
        r9=0,
        r10=0,
        r11=0,
        seamcalls=0,
        start_ns=1,
        duration_ns=5_000_000,
        base_pa=0,
        bytes=0,
        needed=0,
        limit=0,
    )
    return replace(made, **changes)


MEMORY = Memory(
    ranges=(
        Range(base_pa=MIB, bytes=2 * GIB - MIB, kind=RangeKind.RAM, node=0, tdmr=None),
        Range(base_pa=4 * GIB, bytes=2 * GIB, kind=RangeKind.RAM, node=1, tdmr=None),
        Range(base_pa=MIB, bytes=2 * GIB - MIB, kind=RangeKind.CMR, node=None, tdmr=None),
        Range(base_pa=4 * GIB, bytes=2 * GIB, kind=RangeKind.CMR, node=None, tdmr=None),
        Range(base_pa=MIB, bytes=2 * GIB - MIB, kind=RangeKind.TDX, node=0, tdmr=None),
        Range(base_pa=4 * GIB, bytes=2 * GIB, kind=RangeKind.TDX, node=1, tdmr=None),
        Range(base_pa=0, bytes=2 * GIB, kind=RangeKind.TDMR, node=0, tdmr=0),
        Range(base_pa=4 * GIB, bytes=2 * GIB, kind=RangeKind.TDMR, node=1, tdmr=1),
        Range(base_pa=0, bytes=MIB, kind=RangeKind.RESERVED, node=0, tdmr=0),
        Range(base_pa=GIB, bytes=8 * MIB, kind=RangeKind.PAMT_4K, node=0, tdmr=0),
        Range(base_pa=5 * GIB, bytes=8 * MIB, kind=RangeKind.PAMT_4K, node=1, tdmr=1),
    ),
    pamt_bytes=16 * MIB,
)


@dataclass
class FakeDriver:
    """Answers with records; does nothing."""

    info: Info = INFO
    status: Status = STATUS
    cpus: tuple[CpuResult, ...] = tuple(cpu(number) for number in range(4))
    steps: tuple[StepResult, ...] = tuple(step(kind) for kind in Step if kind is not Step.NONE)
    memory: Memory = MEMORY
    enabled: EnableResult | BaseException = ENABLED
    fields: dict[int, int] | Exception = field(default_factory=dict)
    wishes: list[dict[str, bool]] = field(default_factory=list)

    def get_info(self) -> Info:
        return self.info

    def get_status(self) -> Status:
        return self.status

    def get_cpus(self) -> tuple[CpuResult, ...]:
        return self.cpus

    def get_steps(self) -> tuple[StepResult, ...]:
        return self.steps

    def get_memory(self) -> Memory:
        return self.memory

    def sys_rd(self, ids: Sequence[int]) -> tuple[FieldValue, ...]:
        if isinstance(self.fields, Exception):
            raise self.fields
        known = self.fields
        return tuple(self._field(number, known.get(number)) for number in ids)

    def _field(self, number: int, value: int | None) -> FieldValue:
        missing = value is None
        return FieldValue(
            id=number,
            value=value or 0,
            next_id=0,
            seam_status=0xC0000C0000000000 if missing else 0,
            error=5 if missing else 0,
            trap=0,
        )

    def enable(
        self, *, cpus: bool = True, retry: bool = False, skip_non_cmr: bool = False
    ) -> EnableResult:
        self.wishes.append({"retry": retry, "skip_non_cmr": skip_non_cmr})
        if isinstance(self.enabled, BaseException):
            raise self.enabled
        return self.enabled

    def cpu_enable(self) -> CpuResult:
        return self.cpus[0]

    def cpu_enable_each(
        self, cpus: Sequence[int], go_to: Callable[[int], None]
    ) -> tuple[CpuResult | None, ...]:
        return tuple(self.cpu_enable() for _ in cpus)

    def cpus_enable(self, cpus: Collection[int] | None = None) -> tuple[CpuResult, ...]:
        return tuple(one for one in self.cpus if cpus is None or one.cpu in cpus)


def context(driver: FakeDriver, form: str = "table", **arguments: Any) -> Context:
    """What a sub-command is given when driver is the driver."""

    @contextmanager
    def opened() -> Iterator[FakeDriver]:
        yield driver

    options = {"retry": False, "skip_non_cmr": False} | arguments
    given = argparse.Namespace(format=form, verbose=0, **options)
    return Context(given, opened, host=NothingKnown())
