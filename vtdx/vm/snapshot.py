# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that start where another one was stopped, in a second instead of a boot.

A booted machine's memory is kept in files, its devices in one more. Each machine
that starts from them maps the memory for itself and copies what it writes. It is a
new QEMU with a new plugin, so that its platform file may have other faults.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vtdx.vm.errors import ControlRefused, SnapshotFailed
from vtdx.vm.machine import Machine, Snapshot, Spec

# A CPU may be in the middle of an instruction that vtdx answers: not for long.
_TRIES = 20
_PAUSE_SECONDS = 0.05


@contextmanager
def snapshot(
    spec: Spec,
    prepare: Callable[[Machine], object] | None = None,
    timeout: float | None = None,
) -> Iterator[Snapshot]:
    """Boot a machine, ``prepare`` it, and keep it for others to start from.

    ``with snapshot(spec) as snap: with Machine(other_spec, start=snap)``. A session
    that ``prepare`` leaves open is there in each of them (Machine.attach()). Raises
    SnapshotFailed when ``prepare`` left VMX on or called the TDX module, or for a
    machine with a disk, whose writes would be lost. The files
    are gone at the end; machines that started from them run on.
    """
    if spec.disk is not None:
        raise SnapshotFailed("A machine with a disk can't be kept: what it wrote would be lost.")
    with (
        tempfile.TemporaryDirectory(prefix="tdxhost-snapshot-") as name,
        _memory_files(len(spec.platform.nodes)) as memory,
    ):
        devices = Path(name) / "devices"
        with Machine(spec, timeout, keep=memory) as machine:
            if prepare is not None:
                prepare(machine)
            carried = stop(machine)
            machine.monitor.write_devices(devices)
            taken = Snapshot(spec, devices, machine.parts, machine.hello, carried)
        yield taken


@contextmanager
def _memory_files(count: int) -> Iterator[tuple[Path, ...]]:
    """Files without a name: half a gigabyte is not left behind, however this process ends."""
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(count)]
        yield tuple(Path(f"/proc/{os.getpid()}/fd/{file.fileno()}") for file in files)


def stop(machine: Machine) -> str:
    """Stop a machine where its plugin can let go of it; what that carries over.

    Where it can't, the machine runs on, and SnapshotFailed says why.
    """
    for attempt in range(1, _TRIES + 1):
        machine.monitor.stop()
        try:
            return machine.control.save()
        except ControlRefused as refused:
            machine.monitor.resume()
            if attempt == _TRIES:
                raise SnapshotFailed(f"The machine can't be kept: {refused.why}.") from refused
            time.sleep(_PAUSE_SECONDS)
    raise AssertionError
