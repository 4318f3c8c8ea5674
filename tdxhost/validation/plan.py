# SPDX-License-Identifier: GPL-2.0-or-later
"""A plan: boots, each a list of tests, and what the machine has to be."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from tdxhost.errors import Usage
from tdxhost.validation.requirement import Requirement

Version = tuple[int, int, int]

#: The option that says how long a test goes on; --time scales it.
TIME = "for"

COMPARE: Mapping[str, Callable[[Version, Version], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}
CONDITION = re.compile(r"(>=|<=|==|>|<)?\s*(\d{1,5})\.(\d{1,5})\.(\d{1,5})")


@dataclass(frozen=True, slots=True)
class Versions:
    """Versions of the TDX module that are allowed; str() is as the plan has it."""

    text: str
    conditions: tuple[tuple[str, Version], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads one version, or conditions with commas between; ValueError says what is wanted."""
        conditions = []
        for part in text.split(","):
            found = CONDITION.fullmatch(part.strip())
            if not found:
                raise ValueError("a version such as 1.5.06 is wanted, or a range: >=1.5.06, <2.0.0")
            version = (int(found[2]), int(found[3]), int(found[4]))
            conditions.append((found[1] or "==", version))
        made = cls(text, tuple(conditions))
        if not made.possible:
            raise ValueError("a version that is all of this is wanted, and there is none")
        return made

    def allow(self, version: Version) -> bool:
        """Whether a version meets every condition."""
        return all(COMPARE[sign](version, bound) for sign, bound in self.conditions)

    @property
    def possible(self) -> bool:
        """Whether there is any such version: the least one is a bound, the next, or 0.0.0."""
        bounds = [bound for _, bound in self.conditions]
        following = [(major, minor, update + 1) for major, minor, update in bounds]
        return any(map(self.allow, [(0, 0, 0), *bounds, *following]))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a plan says that the machine must be; None is not said.

    packages, cpus (online), keyids (private KeyIDs): exact numbers; module: versions of the TDX
    module; memory_bytes: least System RAM.
    """

    packages: int | None = None
    cpus: int | None = None
    keyids: int | None = None
    module: Versions | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How fast the machine must be; None is not said.

    lp_init_ns: TDH.SYS.LP.INIT with all around it on each CPU; spread_ns: between the fastest and
    the slowest CPU; total_ns: tdx_enable() as a whole, from the first CPU to the last step.
    """

    lp_init_ns: int | None = None
    spread_ns: int | None = None
    total_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A test of a plan with its options, defaults included; said are those that the plan says.

    options are as the test's parsers made them, said as they stand in the plan.
    """

    test: Requirement
    options: Mapping[str, Any]
    said: Mapping[str, Any]
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """Tests that run in order, from an untouched TDX module on."""

    name: str
    about: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan as it was read; text is the file, which a run keeps.

    disturbs says that the machine's other work may be disturbed.
    """

    name: str
    about: str
    file: str
    text: str
    boots: tuple[Boot, ...]
    disturbs: bool = False
    machine: Machine = field(default_factory=Machine)
    limits: Limits = field(default_factory=Limits)


def with_time(plan: Plan, seconds: float) -> Plan:
    """The plan with its durations ("for") scaled so that their sum is seconds.

    Usage where that can't be: no time at all, or no test that goes on for one.
    """
    if seconds <= 0:
        raise Usage(f"{seconds:g} s is no time to run for", "Write it like 30m or 4h.")
    whole = sum(item.options.get(TIME, 0.0) for boot in plan.boots for item in boot.items)
    if not whole:
        raise Usage(
            f"no test of the plan {plan.name} goes on for a time, so none can be set",
            'Tests with the option "for" do, such as those of the plan soak.',
        )
    return replace(plan, boots=tuple(_scaled(boot, seconds / whole) for boot in plan.boots))


def _scaled(boot: Boot, factor: float) -> Boot:
    return replace(boot, items=tuple(_scaled_item(item, factor) for item in boot.items))


def _scaled_item(item: Item, factor: float) -> Item:
    if TIME not in item.options:
        return item
    seconds = item.options[TIME] * factor
    options = {**item.options, TIME: seconds}
    return replace(item, options=options, said={**item.said, TIME: f"{seconds:g}s"})
