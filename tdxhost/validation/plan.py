# SPDX-License-Identifier: GPL-2.0-or-later
"""A plan: boots, each a list of tests, and what the machine has to be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tdxhost.validation.requirement import Requirement


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a plan says that the machine must be; None is not said.

    packages, cpus, keyids: exact numbers; module: (least, most) versions as tuples of three
    numbers, either None; memory_bytes: least System RAM.
    """

    packages: int | None = None
    cpus: int | None = None
    keyids: int | None = None
    module: tuple[tuple[int, int, int] | None, tuple[int, int, int] | None] = (None, None)
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
    """A test of a plan with its options, defaults included; said are those that the plan says."""

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
