# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run came to: data that is written to documents and read back from them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self


class Outcome(StrEnum):
    """What became of one test of the plan."""

    PASSED = "passed"
    FAILED = "failed"
    #: The test itself went wrong: an exception of the test's, or it took too long.
    BROKEN = "broken"
    #: Something that it needs is missing; never a pass.
    COULD_NOT_RUN = "could-not-run"
    #: This kind of machine does not have what it is about.
    NOT_APPLICABLE = "not-applicable"
    #: It needs the TDX module as it is after a reboot.
    NEEDS_REBOOT = "needs-reboot"
    #: Its turn has not come yet.
    NOT_RUN = "not-run"
    #: It was running when the run came to a sudden end: the machine may have crashed.
    LOST = "lost"


#: What counts against the machine.
BAD = frozenset({Outcome.FAILED, Outcome.BROKEN, Outcome.LOST})
#: What is still to be done.
OPEN = frozenset({Outcome.NEEDS_REBOOT, Outcome.NOT_RUN})


class RunOutcome(StrEnum):
    """What a run came to as a whole."""

    PASSED = "passed"
    FAILED = "failed"
    #: Nothing failed, but something could not run.
    INCOMPLETE = "incomplete"
    #: Nothing failed so far, and tests are left.
    UNFINISHED = "unfinished"


class Unit(StrEnum):
    """Units of what is measured."""

    NS = "ns"
    BYTES = "bytes"
    COUNT = "count"
    #: No amount, but what something is: the same each time, or something is wrong.
    STATE = "state"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Something that a test measured: one value, or one for each CPU."""

    name: str
    unit: Unit
    value: int | None = None
    by_cpu: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Reads it back; JSON has words for keys."""
        by_cpu = {int(cpu): int(value) for cpu, value in document["by_cpu"].items()}
        value = document["value"]
        return cls(name=document["name"], unit=Unit(document["unit"]), value=value, by_cpu=by_cpu)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCall:
    """A SEAMCALL that failed: where ("CPU 3", "step config"), and its answer decoded."""

    where: str
    leaf: str
    status: str
    name: str
    says: str
    hint: str
    registers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a failure is defended with.

    details: the assertion and where it stands, as pytest tells it; driver: members of GET_STATUS;
    calls: SEAMCALLs that have failed; log: kernel log lines since the test began; diagnosis: what
    doctor says of the snapshot; snapshot: the file of it, in the run's folder, for --from.
    """

    details: str = ""
    driver: Mapping[str, Any] = field(default_factory=dict)
    calls: tuple[FailedCall, ...] = ()
    log: tuple[str, ...] = ()
    diagnosis: tuple[str, ...] = ()
    snapshot: str = ""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Reads it back."""
        return cls(
            details=document["details"],
            driver=document["driver"],
            calls=tuple(FailedCall(**call) for call in document["calls"]),
            log=tuple(document["log"]),
            diagnosis=tuple(document["diagnosis"]),
            snapshot=document["snapshot"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """One test of the plan; started_at is UTC as in ISO 8601, empty where it never started.

    Where the test is another one's counterpart in a later boot, options tell them apart.
    """

    __test__ = False  # not a test of pytest's

    id: str
    boot: str
    holds: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    outcome: Outcome = Outcome.NOT_RUN
    message: str = ""
    started_at: str = ""
    duration_s: float = 0.0
    measured: tuple[Measured, ...] = ()
    evidence: Evidence | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Reads it back."""
        known = {one.name: document[one.name] for one in fields(cls)}
        evidence = document["evidence"]
        known |= {
            "outcome": Outcome(document["outcome"]),
            "measured": tuple(Measured.of(one) for one in document["measured"]),
            "evidence": Evidence.of(evidence) if evidence else None,
        }
        return cls(**known)

    @property
    def amounts(self) -> tuple[Measured, ...]:
        """What was measured and has an amount; the document has the rest too."""
        return tuple(one for one in self.measured if one.unit is not Unit.STATE)

    @property
    def title(self) -> str:
        """Id and options: cpus.enable (order=shuffled)."""
        said = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.id} ({said})" if said else self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of a plan, whole or as far as it is; tests stand in the order of the plan.

    plan has name, about and file; host is what report says of the host (about_document), with
    the TDX module's "module_version" added.
    """

    id: str
    plan: Mapping[str, Any]
    seed: int
    started_at: str
    tdxhost: str
    host: Mapping[str, Any]
    tests: tuple[TestResult, ...]
    ended_at: str = ""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Reads it back from its document."""
        return cls(
            id=document["run"],
            plan=document["plan"],
            seed=document["seed"],
            started_at=document["started_at"],
            ended_at=document["ended_at"] or "",
            tdxhost=document["tdxhost"],
            host=document["host"],
            tests=tuple(TestResult.of(one) for one in document["tests"]),
        )

    @property
    def outcome(self) -> RunOutcome:
        """What it came to: a failure stands, whatever is left."""
        outcomes = {test.outcome for test in self.tests}
        if outcomes & BAD:
            return RunOutcome.FAILED
        if outcomes & OPEN:
            return RunOutcome.UNFINISHED
        if Outcome.COULD_NOT_RUN in outcomes or Outcome.PASSED not in outcomes:
            return RunOutcome.INCOMPLETE
        return RunOutcome.PASSED

    @property
    def needs_reboot(self) -> bool:
        """Whether tests are left that only come after a reboot of the machine."""
        begun = False
        for _, tests in self.boots():
            outcomes = {test.outcome for test in tests}
            if outcomes & OPEN:
                return not is_paused(tests) and (begun or Outcome.NEEDS_REBOOT in outcomes)
            begun = True
        return False

    def boots(self) -> Iterable[tuple[str, list[TestResult]]]:
        """Names of the plan's boots, in order, each with its tests."""
        found: dict[str, list[TestResult]] = {}
        for test in self.tests:
            found.setdefault(test.boot, []).append(test)
        return found.items()

    def count(self, *outcomes: Outcome) -> int:
        """How many tests came to one of some outcomes."""
        return sum(test.outcome in outcomes for test in self.tests)


def is_paused(tests: Sequence[TestResult]) -> bool:
    """Whether the tests of a boot were stopped midway: some have begun, others are to come."""
    return any(test.outcome is Outcome.NOT_RUN for test in tests) and any(
        test.started_at or test.outcome is not Outcome.NOT_RUN for test in tests
    )


def test_document(test: TestResult) -> dict[str, Any]:
    """A test as JSON has it; TestResult.of() reads it back."""
    return asdict(test)


def run_document(run: Run) -> dict[str, Any]:
    """The document of a run, result.json; Run.of() reads it back."""
    return {
        "schema": "tdxhost/1",
        "run": run.id,
        "plan": dict(run.plan),
        "outcome": str(run.outcome),
        "needs_reboot": run.needs_reboot,
        "seed": run.seed,
        "started_at": run.started_at,
        "ended_at": run.ended_at or None,
        "tdxhost": run.tdxhost,
        "host": dict(run.host),
        "tests": [test_document(test) for test in run.tests],
    }
