# SPDX-License-Identifier: GPL-2.0-or-later
"""What calls of the device cost, in one and the same machine: as ratios of each other."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.bench.machines import Size, Xeon

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
UAPI = PROJECT / "kmod/include/uapi"
IN_GUEST, SWEEP = "/opt/calls", "/opt/guest_sweep.py"
#: guest_sweep.py on this machine, with a driver that answers at once and does nothing.
ANSWERED = """\
import fcntl, os, runpy, sys
from tdxhost import opening
fcntl.ioctl = lambda *_: 0
opening.open_device = lambda: os.open(os.devnull, os.O_RDONLY)
runpy.run_path(sys.argv[1])
"""


@dataclass(frozen=True, slots=True)
class Calls:
    """ns of one call each, in the guest; sweeps are for each CPU, pinned and asked.

    unknown_ns is that of an ioctl that the driver does not have: what the kernel takes for any.
    """

    cpus: int
    getppid_ns: int
    unknown_ns: int
    get_status_ns: int
    cpu_enable_ns: int
    sweep_ns: int
    python_sweep_ns: int

    @property
    def get_status(self) -> float:
        """Against getppid()."""
        return self.get_status_ns / self.getppid_ns

    @property
    def cpu_enable(self) -> float:
        """On a CPU that is done, against GET_STATUS."""
        return self.cpu_enable_ns / self.get_status_ns

    @property
    def python_sweep(self) -> float:
        """Python's sweep against that of a C program."""
        return self.python_sweep_ns / self.sweep_ns


@dataclass(frozen=True, slots=True)
class HostSweep:
    """A sweep over this machine's CPUs, with a driver that does nothing: ns for each CPU.

    pin_ns is what the kernel takes of it, program_ns that of a C program that goes there.
    """

    cpus: int
    program_ns: int
    pin_ns: int
    python_ns: int

    @property
    def added_us(self) -> float:
        """What Python adds to what the kernel takes."""
        return (self.python_ns - self.pin_ns) / 1000


def calls(cpus: int = 8, boots: int = 5) -> Calls:
    """All of them in each of some boots: the one with the median of GET_STATUS."""
    found = sorted((_calls(cpus) for _ in range(boots)), key=lambda one: one.get_status)
    return found[boots // 2]


def _calls(cpus: int) -> Calls:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "calls"
        compile_calls(program)
        extra = {IN_GUEST: program, SWEEP: HERE / "guest_sweep.py"}
        with Xeon(Size(cpus, gib=2), extra=extra).boot() as guest:
            guest.json("cpu-enable")
            found = numbers_of(guest.output(IN_GUEST))
            python = guest.output("python3", SWEEP)
    return Calls(
        cpus=cpus,
        getppid_ns=found["getppid"],
        unknown_ns=found["unknown"],
        get_status_ns=found["get_status"],
        cpu_enable_ns=found["cpu_enable"],
        sweep_ns=found["sweep"],
        python_sweep_ns=numbers_of(python)["sweep"],
    )


def host_sweep() -> HostSweep:
    """On this machine, the same programs that run in the guest."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "calls"
        compile_calls(program)
        alone = numbers_of(_output(str(program)))
    swept = numbers_of(_output(sys.executable, "-c", ANSWERED, str(HERE / "guest_sweep.py")))
    cpus = len(os.sched_getaffinity(0))
    return HostSweep(cpus, alone["pin"], swept["pin"], swept["sweep"])


def numbers_of(output: str) -> dict[str, int]:
    """What the C program prints, by name."""
    return {name: int(ns) for name, ns in (line.split() for line in output.splitlines())}


def _output(*words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout


def compile_calls(program: Path) -> None:
    """A program that needs nothing of the guest."""
    words = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", f"-I{UAPI}"]
    subprocess.run([*words, "-o", str(program), str(HERE / "calls.c")], check=True)
