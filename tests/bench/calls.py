# SPDX-License-Identifier: GPL-2.0-or-later
"""What calls of the device cost, in one and the same machine: as ratios of each other."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.bench.machines import Size, Xeon

HERE = Path(__file__).parent
UAPI = HERE.parents[1] / "kmod/include/uapi"
IN_GUEST, SWEEP = "/opt/calls", "/opt/guest_sweep.py"


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


def calls(cpus: int = 8) -> Calls:
    """One boot, all of them in it."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "calls"
        compile_calls(program)
        extra = {IN_GUEST: program, SWEEP: HERE / "guest_sweep.py"}
        with Xeon(Size(cpus, gib=2), extra=extra).boot() as guest:
            guest.json("cpu-enable")
            found = dict(line.split() for line in guest.output(IN_GUEST).splitlines())
            python = guest.output("python3", SWEEP)
    return Calls(
        cpus=cpus,
        getppid_ns=int(found["getppid"]),
        unknown_ns=int(found["unknown"]),
        get_status_ns=int(found["get_status"]),
        cpu_enable_ns=int(found["cpu_enable"]),
        sweep_ns=int(found["sweep"]),
        python_sweep_ns=int(python),
    )


def compile_calls(program: Path) -> None:
    """A program that needs nothing of the guest."""
    words = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", f"-I{UAPI}"]
    subprocess.run([*words, "-o", str(program), str(HERE / "calls.c")], check=True)
