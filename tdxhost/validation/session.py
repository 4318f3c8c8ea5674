# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of one boot share: the run so far, the machine, and what is being done now."""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from tdxhost.device import Driver
from tdxhost.findings import Judge
from tdxhost.host import Host
from tdxhost.validation.journal import Journal
from tdxhost.validation.plan import Boot, Item, Plan
from tdxhost.validation.result import Measured, Outcome, Run, TestResult
from tdxhost.validation.stage import Stage, stage_of

Opener = Callable[[], AbstractContextManager[Driver]]


class Watcher(Protocol):
    """Who is told how far a run is."""

    def boot(self, boot: Boot, stage: Stage) -> None:
        """A boot's tests begin, or go on; stage is where the TDX module is."""

    def begins(self, number: int, total: int, result: TestResult) -> None:
        """A test begins: the number-th of total in the plan."""

    def says(self, text: str) -> None:
        """What the running test is doing."""

    def ended(self, result: TestResult) -> None:
        """A test has come to an end, or could not begin."""


@dataclass
class Session:
    """A run at work. results are those of the whole plan, in its order, as far as they are."""

    plan: Plan
    boot_id: str
    run: Run
    journal: Journal
    host: Host
    open_driver: Opener
    judge: Judge
    watcher: Watcher
    results: list[TestResult] = field(default_factory=list)
    current: int = 0
    measured: list[Measured] = field(default_factory=list)

    @property
    def time_s(self) -> float:
        """How long the running test may take: its own time, and what the plan gives it."""
        return self.item.test.timeout_s + float(self.item.options.get("for", 0))

    def stage(self) -> Stage:
        """Where the TDX module is now; kept, because a driver loaded anew does not know."""
        with self.open_driver() as driver:
            status = driver.get_status()
        stage = stage_of(status, touched=self.journal.is_touched(self.boot_id))
        if stage is not Stage.UNTOUCHED:
            self.journal.touch(self.boot_id)
        return stage

    @property
    def item(self) -> Item:
        """The test that runs."""
        return self.items()[self.current][1]

    def items(self) -> list[tuple[Boot, Item]]:
        """All tests of the plan, in order."""
        return [(boot, item) for boot in self.plan.boots for item in boot.items]

    def indexes_of(self, boot: Boot) -> list[int]:
        """Where the tests of a boot stand in the plan."""
        return [index for index, (of, _) in enumerate(self.items()) if of is boot]

    def rng(self) -> random.Random:
        """Random numbers of the running test's own, the same for the same seed."""
        return random.Random(f"{self.run.seed} {self.results[self.current].title} {self.current}")

    def settle(self, index: int, outcome: Outcome, message: str) -> None:
        """A test that does not run: why."""
        self.finish(index, replace(self.results[index], outcome=outcome, message=message))

    def finish(self, index: int, result: TestResult) -> None:
        """A test has ended: kept, then told."""
        self.results[index] = result
        self.journal.ended(index, result)
        self.watcher.ended(result)

    @contextmanager
    def running(self, index: int, started_at: str) -> Iterator[None]:
        """A test begins; whatever happens, it is known which one it was."""
        self.current = index
        self.measured = []
        self.results[index] = replace(self.results[index], started_at=started_at)
        self.journal.begun(index, started_at)
        self.watcher.begins(index + 1, len(self.results), self.results[index])
        yield


def blank_results(plan: Plan) -> Iterable[TestResult]:
    """A result for each test of a plan, of which none has run."""
    for boot in plan.boots:
        for item in boot.items:
            yield TestResult(
                id=item.test.id,
                boot=boot.name,
                holds=item.test.holds,
                source=item.test.source,
                options=dict(item.said),
            )
