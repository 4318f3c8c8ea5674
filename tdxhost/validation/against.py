# SPDX-License-Identifier: GPL-2.0-or-later
"""A run against one of another machine or BIOS: what got different that matters."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Any

from tdxhost.errors import BadData, Usage
from tdxhost.validation.result import Measured, Outcome, Run, TestResult, Unit
from tdxhost.validation.shape import WrongShape, check_run
from tdxhost.validation.values import highest, matters, typical
from tdxhost.validation.words import FACTS, fact_text

RESULT = "result.json"
NO_RESULT = (
    "A run's folder or its result.json is wanted; tdxhost validate --output DIR leaves one there."
)
#: A result of thousands of CPUs and tests has some megabytes.
MOST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Fact:
    """A member of the host's document that differs, in words."""

    name: str
    here: str
    there: str


@dataclass(frozen=True, slots=True)
class Turned:
    """A test that came to something else; None where that run does not have it.

    message is what the test said here, or there where it is not here.
    """

    boot: str
    title: str
    here: Outcome | None
    there: Outcome | None
    message: str


@dataclass(frozen=True, slots=True)
class Value:
    """Something measured that differs: a value, or of all CPUs the median or the most.

    cpu_here and cpu_there are the CPUs that have the most.
    """

    boot: str
    title: str
    name: str
    unit: Unit
    of: str
    here: int
    there: int
    cpu_here: int | None = None
    cpu_there: int | None = None

    @property
    def ratio(self) -> float | None:
        """How many times as much it is here; None where it is nothing there."""
        return self.here / self.there if self.there else None


@dataclass(frozen=True, slots=True)
class Apart:
    """A CPU that differs from the same CPU there by more than the others do.

    beside is its ratio beside that of the middle CPU: 2.0 is twice as slow, all else the same;
    None where it was nothing there.
    """

    boot: str
    title: str
    name: str
    unit: Unit
    cpu: int
    here: int
    there: int
    beside: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between a run (here) and another (there)."""

    here: Run
    there: Run
    facts: tuple[Fact, ...]
    tests: tuple[Turned, ...]
    values: tuple[Value, ...]
    cpus: tuple[Apart, ...]

    @property
    def differs(self) -> bool:
        """Whether anything does."""
        return bool(self.facts or self.tests or self.values or self.cpus)


def compare_runs(run: Run, other: Run) -> Comparison:
    """Compares; tests are the same where boot, id and options are."""
    pairs = list(_pairs(run, other))
    both = [(here, there) for here, there in pairs if here and there]
    measured = [
        (test, one, twin) for test, there in both for one, twin in _both_measured(test, there)
    ]
    return Comparison(
        here=run,
        there=other,
        facts=tuple(_facts(run.host, other.host)),
        tests=tuple(_turned(pairs)),
        values=tuple(value for found in measured for value in _values(*found)),
        cpus=tuple(cpu for found in measured for cpu in _apart(*found)),
    )


def _facts(here: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[Fact]:
    """Members that both know of, an older tdxhost not knowing of all."""
    both = here.keys() & there.keys()
    for name in (*(name for name in FACTS if name in both), *sorted(both - FACTS.keys())):
        texts = fact_text(name, here[name]), fact_text(name, there[name])
        if texts[0] != texts[1]:
            yield Fact(name, *texts)


Key = tuple[str, str, str, int]
Pair = tuple[TestResult | None, TestResult | None]


def _pairs(run: Run, other: Run) -> Iterator[Pair]:
    """Tests of both in the order of this run, then those that only the other has."""
    here, there = _by_key(run), _by_key(other)
    for key in (*here, *(key for key in there if key not in here)):
        yield here.get(key), there.get(key)


def _by_key(run: Run) -> dict[Key, TestResult]:
    """A test that stands in a boot more than once is told apart by its turn."""
    turns: Counter[tuple[str, str, str]] = Counter()
    found = {}
    for test in run.tests:
        same = test.boot, test.id, json.dumps(dict(test.options), sort_keys=True, default=str)
        turns[same] += 1
        found[*same, turns[same]] = test
    return found


def _turned(pairs: list[Pair]) -> Iterator[Turned]:
    for here, there in pairs:
        is_here, was_there = (test.outcome if test else None for test in (here, there))
        if (test := here or there) and is_here is not was_there:
            yield Turned(test.boot, test.title, is_here, was_there, test.message)


def _both_measured(here: TestResult, there: TestResult) -> Iterator[tuple[Measured, Measured]]:
    """What both measured, in the same unit."""
    twins = {(one.name, one.unit): one for one in there.measured}
    for one in here.measured:
        if twin := twins.get((one.name, one.unit)):
            yield one, twin


def _values(test: TestResult, one: Measured, twin: Measured) -> Iterator[Value]:
    for value in _all_values(test, one, twin):
        if matters(value.unit, value.here, value.there):
            yield value


def _all_values(test: TestResult, one: Measured, twin: Measured) -> Iterator[Value]:
    about = test.boot, test.title, one.name, one.unit
    if one.value is not None and twin.value is not None:
        yield Value(*about, "value", one.value, twin.value)
    if one.by_cpu and twin.by_cpu:
        yield Value(*about, "median", typical(one), typical(twin))
        (cpu_here, most_here), (cpu_there, most_there) = highest(one), highest(twin)
        yield Value(*about, "most", most_here, most_there, cpu_here, cpu_there)


def _apart(test: TestResult, one: Measured, twin: Measured) -> Iterator[Apart]:
    """CPUs that got slower or faster than the machine did, those that did most first."""
    both = {cpu: (one.by_cpu[cpu], twin.by_cpu[cpu]) for cpu in one.by_cpu if cpu in twin.by_cpu}
    middle = _middle(one.unit, both.values())
    about = test.boot, test.title, one.name, one.unit
    found = [
        Apart(*about, cpu, here, there, here / there / middle if there else None)
        for cpu, (here, there) in sorted(both.items())
        if matters(one.unit, here, there * middle)
    ]
    yield from sorted(found, key=_closeness)


def _closeness(apart: Apart) -> float:
    """1 for a CPU that did as the others did, less the more it differs either way."""
    beside = apart.beside or 0.0
    return min(beside, 1 / beside) if beside else 0.0


def _middle(unit: Unit, both: Iterable[tuple[int, int]]) -> float:
    """How many times as slow the machine got; what else is counted grows with nothing."""
    ratios = [here / there for here, there in both if there]
    return median_low(ratios) or 1.0 if unit is Unit.NS and ratios else 1.0


def read_run(path: Path) -> Run:
    """Reads result.json of a run, or of a run's folder.

    Usage when it can't be read, BadData when it is no result, with where it is not.
    """
    try:
        path = path / RESULT if path.is_dir() else path
        with path.open("rb") as file:
            content = file.read(MOST_BYTES)
        document = json.loads(content, parse_constant=_no_constant)
        check_run(document)
        # An escape can stand for half a letter, which nothing can be written with.
        json.dumps(document, ensure_ascii=False).encode()
        return Run.of(document)
    except OSError as error:
        raise Usage(f"{path} can't be read: {error.strerror or error}", NO_RESULT) from error
    except WrongShape as error:
        where = error.where or "top level"
        raise BadData(str(path), where, error.reason, NO_RESULT) from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise BadData(str(path), where, f"is no JSON ({error.msg})", NO_RESULT) from error
    except (ValueError, RecursionError) as error:
        reason = f"is no result of tdxhost validate ({error})"
        raise BadData(str(path), "content", reason, NO_RESULT) from error


def _no_constant(name: str) -> None:
    """JSON has no NaN and no Infinity, although Python's reader does."""
    raise ValueError(f"{name} is no number")
