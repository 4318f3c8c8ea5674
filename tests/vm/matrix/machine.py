# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs groups of cases on virtual machines."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.vm.matrix.cases import TOPOLOGY, Case, Group
from tests.vm.matrix.compare import Comparison, complaints, leak
from tests.vm.matrix.contract import Record
from tests.vm.matrix.driver_model import DriverModel
from tests.vm.matrix.statuses import INIT
from tests.vm.witness import Call, Witness
from vtdx.vm import platform
from vtdx.vm.errors import VmError
from vtdx.vm.machine import Machine, Snapshot, Spec
from vtdx.vm.session import Session
from vtdx.vm.snapshot import snapshot

HERE = Path(__file__).resolve().parent
PLATFORM = HERE / "four-packages.ini"
GUEST = "/usr/lib/vtdx/matrix.py"
SESSION = "matrix"
BOOT_SECONDS = 300
#: A case takes less than a second on a quiet machine; what takes this long hangs.
CASE_SECONDS = 180
SETTLE_TRIES = 20
SETTLE_SECONDS = 0.2

Problems = dict[str, list[str]]


class LogReader:
    """vtdx's log, read on from where it was read last."""

    def __init__(self, path: Path) -> None:
        self._file = path.open(encoding="utf-8")

    def calls(self) -> list[Call]:
        """SEAMCALLs since the last time."""
        return Witness([json.loads(line) for line in self._file]).calls


class Rig:
    """A machine with the guest's part running, and vtdx's log of it."""

    def __init__(self, machine: Machine, session: Session, log: Path) -> None:
        self.control = machine.control
        self.session = session
        self.log = LogReader(log)

    def ask(self, op: str, **more: Any) -> Any:
        """One request to the guest."""
        return self.session.ask({"op": op, **more}, timeout=CASE_SECONDS)

    def strike(self, case: Case) -> None:
        """Put the faults of a case into place."""
        self.control.clear_faults()
        for fault in case.faults:
            self.control.fault(fault.spec)
        self.control.mark(case.name)

    def look(self) -> Record:
        """What a machine is in the end judged by."""
        looked: Record = self.ask("look")
        return looked


def run_group(group: Group, start: Snapshot, folder: Path) -> Problems:
    """Run all cases of a group; what is wrong with each."""
    run = _run_reloaded if group.reload else _run_chain
    found: Problems = {}
    try:
        with _rig(start, folder) as rig:
            for case, problems in run(rig, group):
                found[case.name] = problems
    except (VmError, OSError, KeyError, AssertionError, ValueError) as error:
        return _lost(group, found, repr(error))
    return found


def _lost(group: Group, found: Problems, why: str) -> Problems:
    """The case in which the machine was lost, and those that did not get their turn."""
    missing = [case.name for case in group.cases if case.name not in found]
    for number, name in enumerate(missing):
        found[name] = [why if number == 0 else f"not run: {missing[0]} ended the machine"]
    return found


@contextmanager
def prepared(folder: Path) -> Iterator[Snapshot]:
    """A machine that was booted and has the guest's part running, to start from."""

    def prepare(machine: Machine) -> None:
        # Nobody here waits for udev, which takes longer over events than the driver over steps.
        machine.run(["udevadm", "control", "--exit"])
        machine.session(["python3", GUEST], name=SESSION).ask({"op": "look"})

    with snapshot(_spec(folder), prepare, BOOT_SECONDS) as taken:
        yield taken


def _spec(folder: Path) -> Spec:
    folder.mkdir(parents=True)
    return Spec(
        platform=platform.load(str(PLATFORM)),
        log=folder / "log",
        console=folder / "console",
        extra={GUEST: HERE / "guest.py"},
    )


@contextmanager
def _rig(start: Snapshot, folder: Path) -> Iterator[Rig]:
    spec = _spec(folder)
    assert spec.log is not None
    with Machine(spec, start=start) as machine, machine.attach(SESSION) as session:
        yield Rig(machine, session, spec.log)


def _run_reloaded(rig: Rig, group: Group) -> Iterator[tuple[Case, list[str]]]:
    """A new driver and a new TDX module for each case."""
    # The first time memory is taken that stays taken: caches, names, slabs.
    first = group.cases[0]
    rig.ask("unload")
    _reloaded_case(rig, first)
    base = rig.look()
    for case in group.cases:
        problems = _reloaded_case(rig, case)
        yield case, [*problems, *_left_behind(rig, base, 0)]


def _left_behind(rig: Rig, base: Record, held: int) -> list[str]:
    """What a case has left in the kernel: memory besides ``held`` bytes, a warning, a taint.

    Some memory is freed when the kernel gets to it. A leak stays.
    """
    problems: list[str] = []
    for _ in range(SETTLE_TRIES):
        now = rig.look()
        problems += complaints(now["lines"])
        lost = list(leak(now["free"], held, base["free"]))
        if not lost:
            break
        time.sleep(SETTLE_SECONDS)
    if now["tainted"] != base["tainted"]:
        lost.append(f"the kernel is tainted: {now['tainted']:#x}, it was {base['tainted']:#x}")
    return [*problems, *lost]


def _reloaded_case(rig: Rig, case: Case) -> list[str]:
    rig.control.reload()
    rig.strike(case)
    loaded = rig.ask("load")
    views = rig.ask("calls", calls=case.calls, caller=case.caller)["views"]
    unloaded = rig.ask("unload")
    problems = [
        f"{what}: errno {answer['errno']}"
        for what, answer in (("insmod", loaded), ("rmmod", unloaded))
        if answer["errno"]
    ]
    calls = rig.log.calls()
    problems += Comparison(_model(calls), calls).case(case, views)
    problems += complaints([*loaded["lines"], *unloaded["lines"]])
    return problems


def _model(calls: list[Call]) -> DriverModel:
    """A model that knows from vtdx's log which CPU makes the next TDH.SYS.INIT."""

    def initialiser() -> int:
        number = sum(call.leaf == INIT for call in model.module.seen)
        cpus = [call.cpu for call in calls if call.leaf == INIT]
        return cpus[number] if number < len(cpus) else 0

    model = DriverModel(TOPOLOGY, initialiser)
    return model


def _run_chain(rig: Rig, group: Group) -> Iterator[tuple[Case, list[str]]]:
    """One driver, one TDX module, one case after the other."""
    base = rig.look()
    calls: list[Call] = []
    comparison = Comparison(_model(calls), calls)
    for case in group.cases:
        rig.strike(case)
        views = rig.ask("calls", calls=case.calls, caller=case.caller)["views"]
        calls += rig.log.calls()
        problems = comparison.case(case, views)
        problems += _left_behind(rig, base, comparison.model.pamt_bytes)
        # The TDX module has memory of the driver's from the first case on.
        refused = rig.ask("unload")
        if refused["errno"] != errno.EAGAIN:
            problems.append(f"rmmod: errno {refused['errno']}")
        yield case, [*problems, *complaints(refused["lines"])]
