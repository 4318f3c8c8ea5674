# SPDX-License-Identifier: GPL-2.0-or-later
"""What a benchmark came to: ratios against their goals, pictures, numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

TEMPLATES = Path(__file__).parent / "templates"


def told(value: float) -> str:
    """A number for people: three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Check:
    """A ratio or an amount, and what it has to be: at most, or at least."""

    what: str
    value: float
    goal: float
    at_least: bool = False
    unit: str = ""
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    @property
    def goal_text(self) -> str:
        """The goal in words."""
        return f"at {'least' if self.at_least else 'most'} {told(self.goal)}{self.unit}"

    @property
    def value_text(self) -> str:
        """What was measured."""
        return f"{told(self.value)}{self.unit}"


@dataclass(frozen=True, slots=True)
class Picture:
    """Values over sizes, as bars; label is what the values are."""

    name: str
    label: str
    bars: tuple[tuple[str, float], ...]

    def svg(self) -> str:
        """The drawing."""
        most = max(value for _, value in self.bars) or 1.0
        return _render("bars.svg.j2", picture=self, most=most, told=told)


@dataclass(frozen=True, slots=True)
class Section:
    """One benchmark: numbers are all that was measured."""

    title: str
    checks: tuple[Check, ...]
    numbers: Any
    pictures: tuple[Picture, ...] = ()
    table: tuple[tuple[str, ...], ...] = field(default=())


def markdown(sections: Sequence[Section]) -> str:
    """A table for each section."""
    return _render("bench.md.j2", sections=sections)


def _render(name: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=name.endswith(".svg.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(**values)
