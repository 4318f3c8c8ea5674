# SPDX-License-Identifier: GPL-2.0-or-later
"""The module that repeats an instruction in the guest: building it, running it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vtdx.vm import build, kernels
from vtdx.vm.machine import Machine

IN_GUEST = "/opt/caller.ko"

#: Leaf number of TDH.SYS.RD; TDX module ABI spec. It passes the dispatcher in every state.
RD = 34

_RUN = "/sys/kernel/debug/vtdx_caller/run"


@dataclass(frozen=True)
class Record:
    """What a CPU did: the last value of RAX, and the ns of the guest's clock for each batch."""

    rax: int
    batches_ns: tuple[int, ...]


def extra() -> dict[str, Path]:
    """The module as a file of the guest, for Spec.extra."""
    return {IN_GUEST: build.module(kernels.find(kernels.default()), "tests/vm/caller", "caller")}


def load(machine: Machine) -> None:
    """Load it in a machine that has its file."""
    loaded = machine.run(["insmod", IN_GUEST])
    assert loaded.status == 0, loaded


def run(
    machine: Machine,
    instruction: str = "seamcall",
    *,
    rax: int = RD,
    rdx: int = 0,
    calls: int,
    batches: int = 1,
    cpus: str = "0",
) -> dict[int, Record]:
    """Have CPUs repeat ``seamcall``, ``cr4`` (MOV from CR4) or ``none``, all at once.

    Each of them does ``batches`` times ``calls`` of them, with interrupts off and in VMX
    operation.
    """
    order = f"{instruction} {rax:x} 0 {rdx:x} {calls} {batches} {cpus}"
    done = machine.shell(f"echo '{order}' >{_RUN} && cat {_RUN}", timeout=120)
    assert done.status == 0, done
    records = {}
    for line in done.stdout.splitlines():
        cpu, last, *taken = map(int, line.split())
        records[cpu] = Record(last, tuple(taken))
    return records
