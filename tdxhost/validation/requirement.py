# SPDX-License-Identifier: GPL-2.0-or-later
"""What a test of the suite holds, where that comes from, and what it needs."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from tdxhost.validation.options import Option
from tdxhost.validation.stage import ANY, Stage

Test = TypeVar("Test", bound=Callable[..., object])

#: Where the decorator leaves a Requirement on a test function.
ATTRIBUTE = "tdxhost_requirement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What a test holds.

    id is permanent, and never used for another one; source is the specification, patch or ABI
    that asks for it. The test runs at one of the stages in needs, and leaves the TDX module at
    leaves (None: as it was). reads names what of the plan it judges by: "machine", or limits.
    disturbs says how it disturbs the machine's other work; only a plan that says so runs it.
    """

    id: str
    holds: str
    source: str
    needs: frozenset[Stage] = ANY
    leaves: Stage | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    disturbs: str = ""
    timeout_s: float = 300.0


def requirement(
    id: str,  # noqa: A002 - it is what the suite calls it everywhere
    *,
    holds: str,
    source: str,
    needs: Stage | Collection[Stage] = ANY,
    leaves: Stage | None = None,
    options: Mapping[str, Option] | None = None,
    reads: tuple[str, ...] = (),
    disturbs: str = "",
    timeout_s: float = 300.0,
) -> Callable[[Test], Test]:
    """Makes a pytest function a test of the suite; arguments as in Requirement.

    ValueError when the id is not AREA.WHAT in small letters, or a text is missing.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]*\.[a-z0-9][a-z0-9-]*", id):
        raise ValueError(f"{id}: an id is AREA.WHAT, in small letters, digits and -")
    if not holds or not source:
        raise ValueError(f"{id}: what it holds and where that comes from have to be said")
    stages = frozenset({needs} if isinstance(needs, Stage) else needs)
    made = Requirement(
        id=id,
        holds=holds,
        source=source,
        needs=stages,
        leaves=leaves,
        options=dict(options or {}),
        reads=reads,
        disturbs=disturbs,
        timeout_s=timeout_s,
    )

    def mark(test: Test) -> Test:
        setattr(test, ATTRIBUTE, made)
        return test

    return mark


def requirement_of(function: Any) -> Requirement | None:
    """The requirement of a test function, None where it has none."""
    found = getattr(function, ATTRIBUTE, None)
    return found if isinstance(found, Requirement) else None


class CouldNotRun(Exception):
    """A test could not be made on this machine as it is; never a pass."""


class NotApplicable(Exception):
    """What a test is about does not exist on this machine, by its nature."""


def could_not_run(reason: str) -> NoReturn:
    """Ends a test that can't be made: something that it needs is missing."""
    raise CouldNotRun(reason)


def not_applicable(reason: str) -> NoReturn:
    """Ends a test whose subject this kind of machine does not have, such as a second package."""
    raise NotApplicable(reason)
