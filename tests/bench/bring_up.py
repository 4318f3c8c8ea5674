# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUs and TDMRs side by side, against one after the other and against Linux's own way.

An emulator on two cores takes longer for a SEAMCALL than a Xeon for the leaf. So every
measurement is made twice: without latencies, which gives the emulator's own time, and with
latencies that are a Xeon's times a factor, at which that is a small part.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.machines import (
    CALLS_IN_GIB,
    LP_INIT_NS,
    TDMR_INIT_NS,
    Size,
    Xeon,
    scale_for,
)

LP_INIT, TDMR_INIT = "TDH.SYS.LP.INIT", "TDH.SYS.TDMR.INIT"
KERNEL_OF_UPSTREAM = "6.12-tdx"
HERE, ENABLE = Path(__file__).parent, "/opt/guest_enable.py"


@dataclass(frozen=True, slots=True)
class CpusAtOnce:
    """CPUS_ENABLE on all CPUs: from the first that began to the last that ended."""

    cpus: int
    scale: int
    own_ns: int
    wall_ns: int

    @property
    def lp_init_ns(self) -> int:
        """What one TDH.SYS.LP.INIT was made to take."""
        return LP_INIT_NS * self.scale

    @property
    def of_one(self) -> float:
        """Against one TDH.SYS.LP.INIT: 1 is the least there can be."""
        return self.wall_ns / self.lp_init_ns

    @property
    def faster(self) -> float:
        """Against all of them one after the other."""
        return self.cpus / self.of_one


@dataclass(frozen=True, slots=True)
class TdmrsAtOnce:
    """TDH.SYS.TDMR.INIT of all TDMRs, and the whole bring-up around it.

    own_ns is what bring-up takes where leaves take nothing.
    """

    size: Size
    scale: int
    own_ns: int
    tdmrs: int
    calls: int
    step_ns: int
    total_ns: int
    critical_path_ns: int

    @property
    def one_by_one_ns(self) -> int:
        """What all calls take one after the other, the emulator's own time left out."""
        return self.calls * TDMR_INIT_NS * self.scale

    @property
    def faster(self) -> float:
        """Against one after the other."""
        return self.one_by_one_ns / self.step_ns

    @property
    def of_critical_path(self) -> float:
        """All of bring-up against the longest chain of SEAMCALLs."""
        return self.total_ns / self.critical_path_ns


@dataclass(frozen=True, slots=True)
class Upstream:
    """Linux's own tdx_enable() and the direct engine, on machines that are the same.

    ioctl_ns is ENABLE as its caller sees it, cpus_ns and kernel_ns the kernel's tdx_cpu_enable()
    on all CPUs and its tdx_enable().
    """

    direct: TdmrsAtOnce
    ioctl_ns: int
    cpus_ns: int
    kernel_ns: int

    @property
    def faster(self) -> float:
        """How many times as fast the direct engine is."""
        return self.ioctl_ns / self.direct.total_ns

    @property
    def added(self) -> float:
        """What provider "kernel" adds, as a part of what the kernel's functions take."""
        of_kernel = self.cpus_ns + self.kernel_ns
        return (self.ioctl_ns - of_kernel) / of_kernel


def cpus_at_once(cpus: int = 32) -> CpusAtOnce:
    """LP.INIT on all CPUs at once."""
    own_ns = cpus_own_ns(cpus)
    scale = scale_for(own_ns, LP_INIT_NS)
    xeon = Xeon(Size(cpus, gib=2), {LP_INIT: LP_INIT_NS * scale})
    return CpusAtOnce(cpus, scale, own_ns, _enabling_ns(xeon))


def cpus_own_ns(cpus: int) -> int:
    """What enabling CPUs takes where LP.INIT takes nothing."""
    return _enabling_ns(Xeon(Size(cpus, gib=2)))


def _enabling_ns(xeon: Xeon) -> int:
    with xeon.boot() as guest:
        cpus = guest.json("cpu-enable")["cpus"]
    begun = min(cpu["start_ns"] for cpu in cpus)
    return int(max(cpu["start_ns"] + cpu["duration_ns"] for cpu in cpus) - begun)


def tdmrs_at_once(size: Size) -> TdmrsAtOnce:
    """TDMR.INIT on all TDMRs at once, at the scale that the size takes."""
    own_ns = _enabled(Xeon(size))[0]["times"]["total_ns"]
    chain_ns = TDMR_INIT_NS * CALLS_IN_GIB * -(-size.gib // size.cpus)
    return tdmrs_scaled(size, own_ns, scale_for(own_ns, chain_ns))


def tdmrs_scaled(size: Size, own_ns: int, scale: int) -> TdmrsAtOnce:
    """The same at a scale that is known."""
    document, calls, tdmrs = _enabled(Xeon(size, latencies(scale)))
    times = document["times"]
    return TdmrsAtOnce(
        size=size,
        scale=scale,
        own_ns=own_ns,
        tdmrs=tdmrs,
        calls=calls,
        step_ns=_duration_of("tdmr_init", document),
        total_ns=times["total_ns"],
        critical_path_ns=times["critical_path_ns"],
    )


def latencies(scale: int) -> dict[str, int]:
    """A Xeon's latencies times a factor."""
    return {LP_INIT: LP_INIT_NS * scale, TDMR_INIT: TDMR_INIT_NS * scale}


def against_upstream(size: Size) -> Upstream:
    """The kernel's tdx_enable() and the direct engine, with the same latencies."""
    direct = tdmrs_at_once(size)
    extra = {ENABLE: HERE / "guest_enable.py"}
    xeon = Xeon(size, latencies(direct.scale), kernel=KERNEL_OF_UPSTREAM, extra=extra)
    with xeon.boot() as guest:
        found = json.loads(guest.output("python3", ENABLE))
    return Upstream(direct, found["ioctl"], found["cpus"], found["kernel"])


def _enabled(xeon: Xeon) -> tuple[Any, int, int]:
    """What enable says, calls of TDMR.INIT that vtdx saw, and TDMRs."""
    with xeon.boot() as guest:
        document = guest.json("enable")
        witness = guest.witness()
    return document, len(witness.succeeded(TDMR_INIT)), len(witness.tdmrs())


def _duration_of(step: str, document: Any) -> int:
    (found,) = [one for one in document["steps"] if one["name"] == step]
    return int(found["duration_ns"])
