# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual hosts as the tests use them: a machine, and vtdx's log of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.vm.witness import Log, Witness
from vtdx.vm import platform
from vtdx.vm.control import Control
from vtdx.vm.machine import Machine, Result, Snapshot, Spec
from vtdx.vm.session import Session
from vtdx.vm.snapshot import snapshot

# Overall limit for a test's own machine: a lost one must not stop the suite.
MACHINE_SECONDS = 300.0


@dataclass
class Host:
    """A machine that is up, with vtdx's log of it."""

    machine: Machine
    log: Path
    _lines: Log = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._lines = Log(self.log)

    @property
    def control(self) -> Control:
        """Faults, latencies, marks and a new TDX module while the machine runs."""
        return self.machine.control

    def session(self, *argv: str, name: str | None = None) -> Session:
        """Start a process in the machine that stays, to ask it things."""
        return self.machine.session(argv, name=name)

    def attach(self, name: str) -> Session:
        """The session of that name, which ``prepare`` left in the snapshot."""
        return self.machine.attach(name)

    def run(self, *argv: str, timeout: float = 120) -> Result:
        """Run a command in the machine."""
        return self.machine.run(argv, timeout=timeout)

    def sh(self, script: str, timeout: float = 120) -> Result:
        """Run a shell script in the machine."""
        return self.machine.shell(script, timeout=timeout)

    def json(self, *argv: str, status: int = 0) -> Any:
        """Run a tdxhost command with --format json; its document."""
        result = self.run("tdxhost", *argv, "--format", "json")
        assert result.status == status, result
        return result.json()

    def witness(self) -> Witness:
        """vtdx's log up to now."""
        return self._lines.witness()

    def kernel_complaints(self) -> list[str]:
        """Warnings, oopses and worse in the kernel log."""
        return complaints(self.run("dmesg").stdout)


def complaints(log: str) -> list[str]:
    """The lines of a kernel log that no healthy machine has."""
    words = ("WARNING:", "BUG:", "Oops", "Call Trace", "general protection", "soft lockup")
    return [line for line in log.splitlines() if any(word in line for word in words)]


Prepare = Callable[[Machine], object]


class Snapshots:
    """A context manager: booted machines to start from, each made when it is first asked for."""

    def __init__(self) -> None:
        self._taken: dict[object, Snapshot] = {}
        self._folders = ExitStack()

    def __enter__(self) -> Snapshots:
        return self

    def __exit__(self, *_: object) -> None:
        self._folders.close()

    def of(self, spec: Spec, prepare: Prepare | None = None) -> Snapshot:
        """A machine like this, booted without faults and prepared."""
        key = (
            spec.platform.hardware,
            spec.kernel,
            spec.driver,
            tuple(spec.driver_args),
            spec.append,
            tuple(sorted(spec.extra.items())),
            spec.plug_bytes,
            prepare,
        )
        if key not in self._taken:
            healthy = replace(spec.platform, text=spec.platform.hardware)
            template = replace(spec, platform=healthy, seam=None, log=None, console=None)
            taken = self._folders.enter_context(snapshot(template, prepare, MACHINE_SECONDS))
            self._taken[key] = taken
        return self._taken[key]


@contextmanager
def host(
    folder: Path,
    which: str = "spr-2s",
    seconds: float | None = MACHINE_SECONDS,
    *,
    snapshots: Snapshots | None = None,
    prepare: Prepare | None = None,
    **options: Any,
) -> Iterator[Host]:
    """Boot a machine on a platform; ``options`` as for platform.load() and Spec.

    With ``snapshots`` it starts from one. ``prepare`` was called in either.
    """
    loaded = {key: options.pop(key) for key in ("cpus", "memory_bytes", "faults") if key in options}
    name = Path(which).stem
    log = folder / f"{name}.log"
    spec = Spec(
        platform=platform.load(which, **loaded),
        log=log,
        console=folder / f"{name}.console",
        **options,
    )
    start = snapshots.of(spec, prepare) if snapshots is not None else None
    with Machine(spec, seconds, start=start) as machine:
        if start is None and prepare is not None:
            prepare(machine)
        yield Host(machine, log)


Boot = Callable[..., AbstractContextManager[Host]]


@dataclass
class BroughtUp:
    """A host after ``tdxhost enable``, and what that printed."""

    host: Host
    enabled: Any

    @property
    def witness(self) -> Witness:
        """vtdx's log up to now."""
        return self.host.witness()
