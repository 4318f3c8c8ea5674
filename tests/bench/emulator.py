# SPDX-License-Identifier: GPL-2.0-or-later
"""What the emulator itself costs: a SEAMCALL, a boot, memory over a million calls."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.vm.caller import program
from tests.vm.witness import Witness
from vtdx.vm import platform
from vtdx.vm.machine import Machine, Spec

# MAX_TDMRS; TDX module ABI spec, global metadata fields.
_FIELD = 0x9100000100000008

# Calls of one go, with interrupts off: well below what Linux takes for a lockup.
_CALLS_AT_ONCE = 100_000

_CALLS_IN_BATCH = 100


@dataclass(frozen=True, slots=True)
class SeamcallCost:
    """What TDH.SYS.RD of one field takes at the median, without modelled time, in ns.

    ``seamcall_ns`` and ``logged_ns`` are what a guest's loop sees without and with vtdx's log.
    ``answered_ns`` is the same for a MOV from CR4, which the plugin answers with next to no
    work: QEMU's own cost of leaving a translated block and coming back. ``emulation_ns`` is
    from the callback's begin to the answer, the log's ``duration_ns``.
    """

    seamcall_ns: float
    logged_ns: float
    answered_ns: float
    emulation_ns: float

    @property
    def own_ns(self) -> float:
        """The plugin's share of a SEAMCALL without log: above what QEMU takes for itself."""
        return self.seamcall_ns - self.answered_ns


@dataclass(frozen=True, slots=True)
class Boot:
    """A boot: wall time to the agent, and processor time of QEMU up to there, in s."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class BootRatio:
    """Boots with the plugin and without, in pairs: the ratio is the median of the pairs'."""

    with_plugin: tuple[Boot, ...]
    without: tuple[Boot, ...]

    @property
    def wall(self) -> float:
        """By wall time."""
        pairs = zip(self.with_plugin, self.without, strict=True)
        return statistics.median(ours.wall_s / theirs.wall_s for ours, theirs in pairs)

    @property
    def cpu(self) -> float:
        """By processor time, which other processes of a busy machine don't change as much."""
        pairs = zip(self.with_plugin, self.without, strict=True)
        return statistics.median(ours.cpu_s / theirs.cpu_s for ours, theirs in pairs)


@dataclass(frozen=True, slots=True)
class MemoryGrowth:
    """QEMU's memory of its own, without the guest's, in bytes: before so many SEAMCALLs, after."""

    calls: int
    before_bytes: int
    after_bytes: int

    @property
    def bytes_per_call(self) -> float:
        """What one call leaves behind."""
        return (self.after_bytes - self.before_bytes) / self.calls


def seamcall_cost(batches: int = 500, boots: int = 3) -> SeamcallCost:
    """Time SEAMCALLs in a guest's loop, ``batches`` times 100 of each kind, in some boots.

    Of the boots the fastest counts: what is not the emulator's own only adds.
    """
    return min((_one_cost(batches) for _ in range(boots)), key=lambda cost: cost.seamcall_ns)


def _one_cost(batches: int) -> SeamcallCost:
    with _machine() as machine:
        answered = _median_ns(machine, "cr4", batches)
        plain = _median_ns(machine, "seamcall", batches)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with _machine(log) as machine:
            logged = _median_ns(machine, "seamcall", batches)
        reads = Witness.read(log).of("TDH.SYS.RD")[-batches * _CALLS_IN_BATCH :]
    emulation = statistics.median(call.event["duration_ns"] for call in reads)
    return SeamcallCost(plain, logged, answered, emulation)


def boot_ratio(pairs: int = 5) -> BootRatio:
    """Boot with the plugin and without in turn; the first boot of all is not counted."""
    _boot(plugin=True)
    ours: list[Boot] = []
    theirs: list[Boot] = []
    for number in range(pairs):
        # Whoever goes first in a pair finds other caches than whoever follows.
        for plugin in (True, False) if number % 2 else (False, True):
            (ours if plugin else theirs).append(_boot(plugin=plugin))
    return BootRatio(tuple(ours), tuple(theirs))


def memory_growth(calls: int = 1_000_000) -> MemoryGrowth:
    """Memory of QEMU before and after so many TDH.SYS.RD, logged; the first ones not counted."""
    with tempfile.TemporaryDirectory() as folder, _machine(Path(folder) / "log") as machine:
        _repeat(machine, _CALLS_AT_ONCE)
        before = _anonymous_bytes(machine.process)
        _repeat(machine, calls)
        return MemoryGrowth(calls, before, _anonymous_bytes(machine.process))


@contextmanager
def _machine(log: Path | None = None) -> Iterator[Machine]:
    """A machine whose CPUs are enabled, in which SEAMCALLs can be repeated."""
    spec = Spec(platform.load("spr-1s", cpus=2), log=log, extra=program.extra())
    with Machine(spec) as machine:
        assert machine.run(["tdxhost", "cpu-enable"]).status == 0
        program.load(machine)
        yield machine


def _median_ns(machine: Machine, instruction: str, batches: int) -> float:
    # CPU 1: the shell that asks for it waits on either.
    record = program.run(
        machine, instruction, rdx=_FIELD, calls=_CALLS_IN_BATCH, batches=batches, cpus="1"
    )[1]
    return statistics.median(record.batches_ns) / _CALLS_IN_BATCH


def _repeat(machine: Machine, calls: int) -> None:
    for start in range(0, calls, _CALLS_AT_ONCE):
        program.run(machine, rdx=_FIELD, calls=min(_CALLS_AT_ONCE, calls - start), cpus="1")


def _boot(*, plugin: bool) -> Boot:
    machine = Machine(Spec(platform.load("spr-1s", cpus=2), driver=False, plugin=plugin))
    begin = time.monotonic()
    with machine:
        wall = time.monotonic() - begin
        return Boot(wall, _cpu_seconds(machine.process))


def _cpu_seconds(process: int) -> float:
    # proc(5): utime and stime are fields 14 and 15; the second one may have blanks in it.
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _anonymous_bytes(process: int) -> int:
    # proc(5): in kB. The guest's memory is a memfd, which is not among it.
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "RssAnon":
            return int(value.split()[0]) * 1024
    raise ValueError("no RssAnon in /proc/PID/status")
