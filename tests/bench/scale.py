# SPDX-License-Identifier: GPL-2.0-or-later
"""Results at sizes that can be run, and what they say of those that can't.

What a Xeon's TDX module takes is modelled, and what the driver adds is measured on the emulator:
ratios between sizes hold, times of the emulator itself don't.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import linear_regression

from tdxhost import abi
from tests.bench.bring_up import TdmrsAtOnce, cpus_own_ns, tdmrs_scaled
from tests.bench.machines import CALLS_IN_GIB, TDMR_INIT_NS, Size

CPUS = (2, 4, 8, 16, 32)
GIBS = (2, 4, 8, 16, 32, 64)
#: CPUs of the machines that differ in memory.
FEW_CPUS = 4

#: TDX module ABI spec: MAX_TDMRS, of which the layout keeps a quarter in reserve; PAMT entries of
#: 16 bytes for each 4 KiB, 2 MiB and 1 GiB.
MOST_TDMRS = 48
ENTRY_BYTES = 16
GIB = 1 << 30
#: 8 sockets with 128 cores of 2 threads each, and 8 TiB to a socket.
LARGEST = Size(cpus=2048, gib=64 * 1024, nodes=8)


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line through measurements."""

    each: float
    base: float

    @classmethod
    def through(cls, points: Iterable[tuple[int, int]]) -> Line:
        """By least squares."""
        xs, ys = zip(*points, strict=True)
        found = linear_regression(xs, ys)
        return cls(found.slope, found.intercept)

    def at(self, x: float) -> float:
        """Its value."""
        return self.base + self.each * x


@dataclass(frozen=True, slots=True)
class Scale:
    """What enabling CPUs costs beyond LP.INIT by CPUs, and initialising TDMRs by GiB; in ns.

    The times are the emulator's own: no latency is modelled.
    """

    cpus: tuple[tuple[int, int], ...]
    gibs: tuple[TdmrsAtOnce, ...]

    @property
    def by_cpus(self) -> Line:
        """ns of CPUS_ENABLE by CPUs."""
        return Line.through(self.cpus)

    @property
    def by_gib(self) -> Line:
        """ns of TDMR.INIT by GiB."""
        return Line.through((one.size.gib, one.step_ns) for one in self.gibs)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected of a size: ns by a Xeon's latencies, bytes by the ABI's sizes."""

    size: Size
    largest_tdmr_gib: int
    tdmr_init_ns: int
    pamt_bytes: int
    get_cpus_bytes: int
    ipi_ns: float

    @property
    def first_limit(self) -> str:
        """What it runs into first."""
        if self.largest_tdmr_gib > -(-self.size.gib // self.size.cpus):
            return f"TDMRs: {MOST_TDMRS} of them for {self.size.cpus} CPUs"
        return "CPUs: each has a TDMR"


def scale(cpus: Sequence[int] = CPUS, gibs: Sequence[int] = GIBS) -> Scale:
    """Boots a machine of each size."""
    enabling = tuple((number, cpus_own_ns(number)) for number in cpus)
    initialising = tuple(tdmrs_scaled(Size(FEW_CPUS, gib), own_ns=0, scale=0) for gib in gibs)
    return Scale(enabling, initialising)


def forecast(size: Size, measured: Scale) -> Forecast:
    """What the ABI and a Xeon's latencies say of a size; IPIs by what was measured."""
    largest = -(-size.gib // min(MOST_TDMRS, size.cpus))
    return Forecast(
        size=size,
        largest_tdmr_gib=largest,
        tdmr_init_ns=largest * CALLS_IN_GIB * TDMR_INIT_NS,
        pamt_bytes=sum(size.gib * GIB // page * ENTRY_BYTES for page in (1 << 12, 1 << 21, GIB)),
        get_cpus_bytes=size.cpus * abi.size_of("tdxhost_cpu_result"),
        ipi_ns=measured.by_cpus.at(size.cpus),
    )
