# SPDX-License-Identifier: GPL-2.0-or-later
"""A row of the pairing table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vtdx.vm.build import Edit

# A test of a plan: its id, or {id: options}.
Step = str | Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Pair:
    """What a test fails under, and what it has to say then.

    ``why`` names the pair. The last step is the test; those before it lead to where it is made,
    and have to pass. ``says`` is a regular expression that its message has to match. Something
    has to be wrong: ``faults`` of vtdx (vtdx/README.md), ``edits`` of the driver, a ``platform``
    that is broken, ``plan`` (its machine and limits, which this machine does not keep to), or
    what a shell did as root before (``before``). ``earlier`` are the steps of a boot before that.
    """

    why: str
    says: str
    steps: tuple[Step, ...]
    faults: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()
    platform: str = "spr-2s"
    plan: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    before: str = ""
    earlier: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        if not (self.faults or self.edits or self.plan or self.before or self.is_broken):
            raise ValueError(f"{self.why}: nothing is wrong there")

    @property
    def is_broken(self) -> bool:
        """Whether the platform is another one than the healthy one that pairs run on."""
        return self.platform != "spr-2s"

    @property
    def test(self) -> str:
        """The id of the test."""
        return id_of(self.steps[-1])

    @property
    def driver(self) -> str:
        """Where the driver lies in the machine."""
        return f"/opt/drivers/{self.why if self.edits else 'right'}.ko"


def id_of(step: Step) -> str:
    """The id of a test of a plan."""
    return step if isinstance(step, str) else next(iter(step))


def table(*pairs: Pair) -> dict[str, tuple[Pair, ...]]:
    """Pairs by the test that they are about."""
    made: dict[str, tuple[Pair, ...]] = {}
    for pair in pairs:
        made[pair.test] = (*made.get(pair.test, ()), pair)
    return made
