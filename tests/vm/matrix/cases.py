# SPDX-License-Identifier: GPL-2.0-or-later
"""The fault matrix: leaf, status, position, how often; and which cases share a machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from tests.vm.matrix.contract import (
    CMR_BASE_FIELD,
    CMR_SIZE_FIELD,
    FIELDS_READ,
    GP,
    LIMIT_FIELDS,
    NUM_CMRS,
    NUM_CMRS_FIELD,
    UD,
    VMFAIL,
    Answer,
)
from tests.vm.matrix.faults import VMXON, Fault
from tests.vm.matrix.statuses import (
    ANSWERS,
    CONFIG,
    INIT,
    LP_INIT,
    RD,
    VALUES,
)
from tests.vm.matrix.tdx_module import GIB, Topology

#: Four packages of one core, two TDMRs of 1 GiB; machine.py has the platform.
TOPOLOGY = Topology(packages=((0,), (1,), (2,), (3,)), tdmrs=(GIB,))

#: First, middle, last.
CPUS = {"first": 0, "middle": 2, "last": 3}
TIMES: dict[str, int | None] = {"once": 1, "thrice": 3, "always": None}
TRAPS = (UD, GP, VMFAIL)
VMXON_ANSWERS = (GP, VMFAIL)


def _read_position(field: int) -> int:
    """The number of the TDH.SYS.RD that reads a field."""
    return FIELDS_READ.index(field) + 1


#: The first field may be missing, so the first that may not is a position too. No CMR is
#: at half of the CMR table or at its end: what is read there has no effect of its own.
READS = {
    "first": 1,
    "first-needed": _read_position(0x0800000100000004),
    "middle": _read_position(CMR_BASE_FIELD + NUM_CMRS // 2),
    "last": _read_position(CMR_SIZE_FIELD + NUM_CMRS - 1),
}


@dataclass(frozen=True)
class Case:
    """Faults, and the requests that meet them; vtdx counts their calls from here on."""

    name: str
    faults: tuple[Fault, ...]
    calls: tuple[str, ...]
    caller: int = 0

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Group:
    """Cases on one machine. With ``reload``, driver and TDX module are new for each case."""

    name: str
    cases: tuple[Case, ...]
    reload: bool


def status(name: str, low: int = 0) -> Answer:
    return Answer("status", VALUES[name] | low)


# What ends a request whose own fault is over before it gets to the point of no return.
_STOP_AT_RD = Fault(RD, status("TDX_METADATA_FIELD_NOT_READABLE"))
_STOP_AT_CONFIG = Fault(CONFIG, status("TDX_SYS_CONFIG_NOT_PENDING"))


def _answers(leaf: str, count: int) -> Iterator[tuple[str, list[Answer]]]:
    """For each status of a leaf, ``count`` answers that go through all of its low halves."""
    for row in ANSWERS[leaf]:
        lows = [row.low[i % len(row.low)] for i in range(max(count, len(row.low)))]
        name = row.name + (f"-{row.low[0]:#x}" if row.name == "TDX_OPERAND_INVALID" else "")
        yield name, [Answer("status", VALUES[row.name] | low, row.registers) for low in lows]
    for trap in TRAPS:
        yield str(trap), [trap] * count


def _matrix(leaf: str, positions: Sequence[str]) -> Iterator[tuple[str, str, str, Answer]]:
    """Every status of a leaf, at every position, as often as there is."""
    spots = list(product(positions, TIMES))
    for name, answers in _answers(leaf, len(spots)):
        for (position, often), answer in zip(spots, answers, strict=False):
            yield f"{leaf}-{name}-{position}-{often}", position, often, answer


def _requests(often: str, *before: str) -> tuple[str, ...]:
    """One that fails, a plain one after it, and RETRY until a fault that ends is over.

    ``before``: requests that are struck too.
    """
    struck = TIMES[often] or 1
    return (*before, "enable", "enable", *["retry"] * max(struck - len(before), 1))


def init_cases() -> Iterator[Case]:
    """TDH.SYS.INIT: on the CPU that is enabled first, or on all at once."""
    for name, position, often, answer in _matrix(INIT, [*CPUS, "together"]):
        faults = (Fault(INIT, answer, times=TIMES[often]), _STOP_AT_RD)
        if position == "together":
            yield Case(name, faults, _requests(often), 1)
        else:
            cpu = CPUS[position]
            yield Case(name, faults, _requests(often, f"cpu:{cpu}"), cpu)


def lp_init_cases() -> Iterator[Case]:
    """TDH.SYS.LP.INIT: on one CPU, in a request for all and in one of its own."""
    for name, position, often, answer in _matrix(LP_INIT, list(CPUS)):
        cpu = CPUS[position]
        faults = (Fault(LP_INIT, answer, cpu, times=TIMES[often]), _STOP_AT_RD)
        yield Case(name, faults, (*_requests(often), f"cpu:{cpu}"), 1)


def rd_cases() -> Iterator[Case]:
    """TDH.SYS.RD: from one field on."""
    for name, position, often, answer in _matrix(RD, list(READS)):
        faults = (Fault(RD, answer, call=READS[position], times=TIMES[often]), _STOP_AT_CONFIG)
        yield Case(name, faults, _requests(often), 2)
    for field in (*LIMIT_FIELDS, NUM_CMRS_FIELD):
        # Success class, and no value.
        answer = status("TDX_METADATA_FIRST_FIELD_ID_IN_CONTEXT")
        faults = (Fault(RD, answer, call=_read_position(field), times=1), _STOP_AT_CONFIG)
        yield Case(f"{RD}-no-value-{field:#x}", faults, ("enable", "enable", "retry"), 3)


def config_cases() -> Iterator[Case]:
    """TDH.SYS.CONFIG: its only call, from the first, a middle or the last CPU."""
    callers = list(CPUS.values())
    for number, (name, _, often, answer) in enumerate(_matrix(CONFIG, ["only"])):
        stop = _STOP_AT_CONFIG
        if stop.answer == answer:
            stop = Fault(CONFIG, status("TDX_INVALID_TDMR"))
        faults = (Fault(CONFIG, answer, times=TIMES[often]), stop)
        yield Case(name, faults, _requests(often), callers[number % len(callers)])


def vmxon_cases() -> Iterator[Case]:
    """VMXON: before each of the calls that come before the point of no return."""
    for answer, (often, times) in product(VMXON_ANSWERS, TIMES.items()):
        for position, cpu in CPUS.items():
            tail = f"VMXON-{answer}-{position}-{often}"
            fault = Fault(VMXON, answer, cpu, times=times)
            yield Case(f"platform-{tail}", (fault, _STOP_AT_RD), _requests(often), 1)
            alone = _requests(often, f"cpu:{cpu}")
            yield Case(f"{INIT}-{tail}", (fault, _STOP_AT_RD), alone, 1)
            # The first one is the platform check's.
            fault = Fault(VMXON, answer, cpu, call=2, times=times)
            together = (*_requests(often), f"cpu:{cpu}")
            yield Case(f"{LP_INIT}-{tail}", (fault, _STOP_AT_RD), together, 1)
        yield from _vmxon_in_task(answer, often, times)


def _vmxon_in_task(answer: Answer, often: str, times: int | None) -> Iterator[Case]:
    """VMXON on the CPU that makes the calls that any CPU could make."""
    before = 2  # platform check, and this CPU's own initialisation
    for position, number in READS.items():
        fault = Fault(VMXON, answer, 2, call=before + number, times=times)
        name = f"{RD}-VMXON-{answer}-{position}-{often}"
        yield Case(name, (fault, _STOP_AT_CONFIG), _requests(often), 2)
    fault = Fault(VMXON, answer, 2, call=before + len(FIELDS_READ) + 1, times=times)
    name = f"{CONFIG}-VMXON-{answer}-only-{often}"
    yield Case(name, (fault, _STOP_AT_CONFIG), _requests(often), 2)


def fresh_groups() -> list[Group]:
    """Cases that end before the point of no return: a new driver for each."""
    init = list(init_cases())
    half = len(init) // 2
    parts = {
        "init-1": init[:half],
        "init-2": init[half:],
        "lp-init": list(lp_init_cases()),
        "rd": list(rd_cases()),
        "config": [*config_cases(), *vmxon_cases()],
    }
    return [Group(name, tuple(cases), reload=True) for name, cases in parts.items()]
