# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a plan: the boot that is next, as far as the TDX module allows it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tdxhost import __version__
from tdxhost.doctor.facts import Facts
from tdxhost.errors import Interrupted, TdxHostError
from tdxhost.findings import Judge
from tdxhost.host import Host
from tdxhost.records import Provider, RangeKind
from tdxhost.report.about import About
from tdxhost.report.document import about_document
from tdxhost.report.grid import packages, read_threads
from tdxhost.validation.collect import Collector, start
from tdxhost.validation.journal import Journal
from tdxhost.validation.plan import Boot, Plan
from tdxhost.validation.plugin import Plugin, now
from tdxhost.validation.result import OPEN, Outcome, Run, is_paused
from tdxhost.validation.session import Opener, Session, Watcher, blank_results
from tdxhost.validation.stage import Stage

BOOT_ID = "/proc/sys/kernel/random/boot_id"
OWNED = (
    "the kernel initialises TDX by itself at boot, so that the TDX module is never {wanted} here"
)
AGAIN = (
    "the TDX module is {stage} again after a reboot, and has to be {wanted}: something brings it "
    "up at boot (KVM with tdx=1, a service)"
)


@dataclass(frozen=True)
class Bench:
    """The host that a plan is run on, and who is told."""

    host: Host
    open_driver: Opener
    judge: Judge
    watcher: Watcher

    def boot_id(self) -> str:
        """What tells this boot of the machine from all others."""
        return self.host.text_or(BOOT_ID, "unknown")

    def about(self) -> dict[str, Any]:
        """The host by its kind, as report has it, with the TDX module's version."""
        facts = Facts(self.host, self.open_driver, judge=self.judge)
        threads = read_threads(self.host, facts.present, facts.online, facts.state.cpus)
        number = sum(one.number is not None for one in packages(threads))
        state = facts.state
        return about_document(About.of(facts, number)) | {
            "memory_bytes": state.memory.bytes_of(RangeKind.RAM),
            "module_version": state.info.module_version,
        }


def begin(bench: Bench, plan: Plan, seed: int) -> Run:
    """A new run of a plan, of which nothing has run."""
    started = now()
    return Run(
        id=f"{started.replace(':', '').replace('-', '')}-{plan.name}",
        plan={"name": plan.name, "about": plan.about, "file": plan.file},
        seed=seed,
        started_at=started,
        tdxhost=__version__,
        host=bench.about(),
        tests=tuple(blank_results(plan)),
    )


@dataclass
class Runner:
    """Goes on with a run; folder has a lab's tests.

    last_boot_id is that of the boot of the machine in which a test of the run was last made.
    """

    bench: Bench
    plan: Plan
    run: Run
    journal: Journal
    folder: Path | None = None
    last_boot_id: str = ""
    _fresh: bool = field(default=False, init=False)

    def go_on(self) -> Run:
        """Runs what can be run before the next reboot; Interrupted on Ctrl-C, all kept."""
        session = self._session()
        while (boot := self._next(session)) and (indexes := self._indexes(session, boot)):
            stage = session.stage()
            self._fresh = stage is Stage.UNTOUCHED
            self.journal.add("boot", boot_id=session.boot_id, name=boot.name, at=now())
            self.last_boot_id = session.boot_id
            session.watcher.boot(boot, stage)
            self._play(session, indexes)
        run = self._whole(session)
        if not run.count(*OPEN):
            self.journal.add("over", at=run.ended_at, host=dict(run.host))
        return run

    def _play(self, session: Session, indexes: Sequence[int]) -> None:
        plugin = Plugin(session, indexes, partial(self._decide, session))
        code = start([], [Collector(), plugin], self.folder)
        if code is pytest.ExitCode.INTERRUPTED:
            self.journal.add("pause", at=now())
            raise Paused(self._whole(session))
        if code is not pytest.ExitCode.OK and code is not pytest.ExitCode.TESTS_FAILED:
            raise TdxHostError(f"pytest ended with {code.name}", "This is a bug: please report it.")

    def _session(self) -> Session:
        bench = self.bench
        return Session(
            plan=self.plan,
            boot_id=bench.boot_id(),
            run=self.run,
            journal=self.journal,
            host=bench.host,
            open_driver=bench.open_driver,
            judge=bench.judge,
            watcher=bench.watcher,
            results=list(self.run.tests),
        )

    def _next(self, session: Session) -> Boot | None:
        """The boot of the plan to go on with; None where none is left, or a reboot is due."""
        for boot in self.plan.boots:
            mine = [session.results[index] for index in session.indexes_of(boot)]
            if not any(result.outcome in OPEN for result in mine):
                continue
            rebooted = session.boot_id != self.last_boot_id
            ready = rebooted or is_paused(mine) or session.stage() is Stage.UNTOUCHED
            return boot if ready else None
        return None

    def _indexes(self, session: Session, boot: Boot) -> list[int]:
        """What is left of a boot; after a reboot with the tests that lead to where it was."""
        mine = session.indexes_of(boot)
        outcomes = {index: session.results[index].outcome for index in mine}
        if session.boot_id == self.last_boot_id:
            return [index for index in mine if outcomes[index] is Outcome.NOT_RUN]
        left = [index for index in mine if outcomes[index] in OPEN]
        return [
            index
            for index in mine
            if index in left
            # One that the machine did not survive is not made again.
            or (self._leads(session, index, left[-1]) and outcomes[index] is not Outcome.LOST)
        ]

    @staticmethod
    def _leads(session: Session, index: int, last: int) -> bool:
        return index < last and session.items()[index][1].test.leaves is not None

    def _decide(self, session: Session, index: int) -> tuple[Outcome, str] | None:
        """Whether the TDX module is where a test needs it; what to say of one that can't run."""
        needs = session.items()[index][1].test.needs
        stage = session.stage()
        if stage in needs:
            return None
        # Nobody wants it stuck, though some tests can be made then too.
        wanted = " or ".join(one.label for one in sorted(needs - {Stage.STUCK} or needs))
        with session.open_driver() as driver:
            owned = driver.get_info().provider is Provider.OBSERVER
        if owned:
            return Outcome.COULD_NOT_RUN, OWNED.format(wanted=wanted)
        said = f"the TDX module is {stage.label}, and has to be {wanted}"
        if stage < max(needs) or self._fresh:
            return Outcome.COULD_NOT_RUN, f"{said}; see the tests before it in this boot"
        if session.results[index].outcome is Outcome.NEEDS_REBOOT:
            return Outcome.COULD_NOT_RUN, AGAIN.format(stage=stage.label, wanted=wanted)
        return Outcome.NEEDS_REBOOT, said

    def _whole(self, session: Session) -> Run:
        """The run as far as it is, with what is known of the TDX module by now."""
        with session.open_driver() as driver:
            version = driver.get_info().module_version
        host = {**self.run.host, "module_version": version or self.run.host["module_version"]}
        return replace(self.run, host=host, tests=tuple(session.results), ended_at=now())


class Paused(Interrupted):
    """Ctrl-C; the run as far as it is."""

    def __init__(self, run: Run) -> None:
        super().__init__("interrupted", "Go on with: sudo tdxhost validate --resume")
        self.run = run
