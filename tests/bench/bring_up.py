# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUs and TDMRs side by side, against one after the other and against Linux's own way.

An emulator on two cores takes longer for a SEAMCALL than a Xeon for the leaf. So every
measurement is made twice: without latencies, which gives the emulator's own time, and with
latencies that are a Xeon's times a factor, at which that is a small part.
"""

from __future__ import annotations

import functools
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
#: The same release without TDX host support and with it.
KERNEL_OF_DIRECT, KERNEL_OF_UPSTREAM = "6.12", "6.12-tdx"
HERE = Path(__file__).parent
IN_GUEST = {f"/opt/{name}": HERE / name for name in ("guest_cpus.py", "guest_enable.py")}


@dataclass(frozen=True, slots=True)
class CpusAtOnce:
    """CPUS_ENABLE of all CPUs, as its caller sees it.

    own_ns is what it takes where leaves take nothing.
    """

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
class Enabled:
    """What enable says of a machine, and how many calls of TDMR.INIT and TDMRs vtdx saw."""

    document: Any
    calls: int
    tdmrs: int

    def step_ns(self, step: str) -> int:
        """How long a step took."""
        (found,) = [one for one in self.document["steps"] if one["name"] == step]
        return int(found["duration_ns"])


@dataclass(frozen=True, slots=True)
class Upstream:
    """Linux's own tdx_enable() and the direct engine: one platform, one release of Linux.

    direct_ns and upstream_ns are ENABLE as its caller sees it, cpus_ns and kernel_ns what the
    kernel's tdx_cpu_enable() on all CPUs and its tdx_enable() take of it.
    """

    size: Size
    scale: int
    direct_ns: int
    upstream_ns: int
    cpus_ns: int
    kernel_ns: int

    @property
    def faster(self) -> float:
        """How many times as fast the direct engine is."""
        return self.upstream_ns / self.direct_ns

    @property
    def added(self) -> float:
        """What provider "kernel" adds, as a part of what the kernel's functions take."""
        of_kernel = self.cpus_ns + self.kernel_ns
        return (self.upstream_ns - of_kernel) / of_kernel


def cpus_at_once(cpus: int = 32) -> CpusAtOnce:
    """LP.INIT on all CPUs at once."""
    own_ns = cpus_own_ns(cpus)
    scale = scale_for(own_ns, LP_INIT_NS)
    return CpusAtOnce(cpus, scale, own_ns, _enabling_ns(cpus, {LP_INIT: LP_INIT_NS * scale}))


@functools.cache
def cpus_own_ns(cpus: int) -> int:
    """What enabling CPUs takes where LP.INIT takes nothing."""
    return _enabling_ns(cpus, {})


def _enabling_ns(cpus: int, latency_ns: dict[str, int]) -> int:
    with Xeon(Size(cpus, gib=2), latency_ns, extra=IN_GUEST).boot() as guest:
        return int(guest.output("python3", "/opt/guest_cpus.py"))


@functools.cache
def own_ns(size: Size) -> int:
    """What bring-up takes where leaves take nothing."""
    return int(enabled(Xeon(size)).document["times"]["total_ns"])


def scale_of(size: Size) -> int:
    """The factor at which bring-up's own time is a small part of the longest TDMR's."""
    chain_ns = TDMR_INIT_NS * CALLS_IN_GIB * -(-size.gib // size.cpus)
    return scale_for(own_ns(size), chain_ns)


def tdmrs_at_once(size: Size) -> TdmrsAtOnce:
    """TDMR.INIT on all TDMRs at once, at the scale that the size takes."""
    scale = scale_of(size)
    found = enabled(Xeon(size, latencies(scale)))
    times = found.document["times"]
    return TdmrsAtOnce(
        size=size,
        scale=scale,
        own_ns=own_ns(size),
        tdmrs=found.tdmrs,
        calls=found.calls,
        step_ns=found.step_ns("tdmr_init"),
        total_ns=times["total_ns"],
        critical_path_ns=times["critical_path_ns"],
    )


def latencies(scale: int) -> dict[str, int]:
    """A Xeon's latencies times a factor."""
    return {LP_INIT: LP_INIT_NS * scale, TDMR_INIT: TDMR_INIT_NS * scale}


def against_upstream(size: Size) -> Upstream:
    """The kernel's tdx_enable() and the direct engine, with the same latencies."""
    scale = scale_of(size)
    direct, upstream = (
        _enabling(Xeon(size, latencies(scale), kernel, IN_GUEST))
        for kernel in (KERNEL_OF_DIRECT, KERNEL_OF_UPSTREAM)
    )
    return Upstream(
        size=size,
        scale=scale,
        direct_ns=direct["ioctl"],
        upstream_ns=upstream["ioctl"],
        cpus_ns=upstream["cpus"],
        kernel_ns=upstream["kernel"],
    )


def _enabling(xeon: Xeon) -> Any:
    with xeon.boot() as guest:
        return json.loads(guest.output("python3", "/opt/guest_enable.py"))


def enabled(xeon: Xeon) -> Enabled:
    """Brings a machine up."""
    with xeon.boot() as guest:
        document = guest.json("enable")
        witness = guest.witness()
    return Enabled(document, len(witness.succeeded(TDMR_INIT)), len(witness.tdmrs()))
