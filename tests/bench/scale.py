# SPDX-License-Identifier: GPL-2.0-or-later
"""Results at sizes that can be run, and what they say of those that can't.

What a Xeon's TDX module takes is modelled, and what the driver and Linux add is measured on the
emulator. Of the measurements by GiB the slope counts, against the one that is modelled; of those
by CPUs the slope is what a CPU costs the emulator, whose two cores take turns at all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import linear_regression

from tdxhost import abi
from tests.bench.bring_up import cpus_own_ns, enabled, latencies
from tests.bench.machines import CALLS_IN_GIB, TDMR_INIT_NS, Size, Xeon

CPUS = (2, 4, 8, 16, 32)
GIBS = (2, 4, 8, 16, 32, 64)
#: CPUs of the machines that differ in memory, and how often they take a Xeon's time.
FEW_CPUS = 4
SCALE = 100

#: TDX module ABI spec: MAX_TDMRS is 64, of which the layout keeps a quarter in reserve; PAMT
#: entries of 16 bytes for each 4 KiB, 2 MiB and 1 GiB.
MOST_TDMRS = 48
ENTRY_BYTES = 16
GIB = 1 << 30
SIZES = (
    Size(cpus=64, gib=512, nodes=1),
    Size(cpus=256, gib=4 * 1024, nodes=2),
    # 8 sockets with 128 cores of 2 threads each, and 8 TiB to a socket.
    Size(cpus=2048, gib=64 * 1024, nodes=8),
)


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
class Initialised:
    """A machine with so much memory: TDMR.INIT with modelled time, and memory for PAMTs."""

    gib: int
    step_ns: int
    pamt_bytes: int


@dataclass(frozen=True, slots=True)
class Scale:
    """What was measured: ns of CPUS_ENABLE by CPUs without modelled time, and memory by GiB."""

    cpus: tuple[tuple[int, int], ...]
    gibs: tuple[Initialised, ...]

    @property
    def by_cpus(self) -> Line:
        """ns of CPUS_ENABLE by CPUs: interrupts, and what each CPU does."""
        return Line.through(self.cpus)

    @property
    def of_modelled(self) -> float:
        """TDMR.INIT of one GiB more, against what is modelled."""
        modelled_ns = CALLS_IN_GIB * TDMR_INIT_NS * SCALE / FEW_CPUS
        return Line.through((one.gib, one.step_ns) for one in self.gibs).each / modelled_ns

    @property
    def pamt_bytes(self) -> Line:
        """Memory for PAMTs by GiB."""
        return Line.through((one.gib, one.pamt_bytes) for one in self.gibs)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected of a size that can't be run.

    interrupts are those that CPUS_ENABLE, the cache flush and the key's configuration send;
    interrupt_ns is what those of CPUS_ENABLE and the work behind them would take the emulator.
    """

    size: Size
    largest_tdmr_gib: int
    tdmr_init_ns: float
    pamt_bytes: float
    pamt_piece_bytes: int
    results_bytes: int
    interrupts: int
    interrupt_ns: float

    @property
    def limit(self) -> str:
        """What keeps it from being faster."""
        if self.size.cpus > MOST_TDMRS:
            return f"{MOST_TDMRS} TDMRs for {self.size.cpus} CPUs"
        return "CPUs: each has a TDMR"


def scale(cpus: Sequence[int] = CPUS, gibs: Sequence[int] = GIBS) -> Scale:
    """Boots a machine of each size."""
    enabling = tuple((number, cpus_own_ns(number)) for number in cpus)
    return Scale(enabling, tuple(_initialised(gib) for gib in gibs))


def _initialised(gib: int) -> Initialised:
    found = enabled(Xeon(Size(FEW_CPUS, gib), latencies(SCALE)))
    return Initialised(gib, found.step_ns("tdmr_init"), found.document["pamt_bytes"])


def forecast(size: Size, measured: Scale) -> Forecast:
    """What was measured, the ABI and a Xeon's latencies say of a size."""
    largest = -(-size.gib // min(MOST_TDMRS, size.cpus))
    return Forecast(
        size=size,
        largest_tdmr_gib=largest,
        tdmr_init_ns=largest * CALLS_IN_GIB * TDMR_INIT_NS * measured.of_modelled,
        pamt_bytes=measured.pamt_bytes.at(size.gib),
        pamt_piece_bytes=largest * GIB // (1 << 12) * ENTRY_BYTES,
        results_bytes=size.cpus * abi.size_of("tdxhost_cpu_result"),
        interrupts=2 * size.cpus + size.nodes,
        interrupt_ns=measured.by_cpus.at(size.cpus),
    )
