# SPDX-License-Identifier: GPL-2.0-or-later
"""Steps of the bring-up as bars over time."""

from collections.abc import Iterable
from dataclasses import dataclass

from tdxhost.records import StepResult
from tdxhost.report.scale import Scale

#: Bars are placed in percent.
WHOLE = 100.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A step with where its last run is, in percent of all; cut: where time was left out."""

    step: StepResult
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """Steps in order; cuts are where nothing went on for long, in percent."""

    bars: tuple[Bar, ...]
    cuts: tuple[tuple[float, float], ...]


def timeline(steps: Iterable[StepResult]) -> Timeline:
    """Places every step that was begun."""
    run = [step for step in steps if step.runs]
    extents = [(step.start_ns, step.start_ns + max(step.duration_ns, 1)) for step in run]
    # Of 100 units, what is drawn at least and for a gap would be too much.
    scale = Scale.over(extents, WHOLE * 10)
    bars = []
    for step, (first, end) in zip(run, extents, strict=True):
        x, width = scale.bar(first, end)
        bars.append(Bar(step, round(x / 10, 2), round(width / 10, 2)))
    cuts = tuple((round(gap.at / 10, 2), round(gap.width / 10, 2)) for gap in scale.gaps)
    return Timeline(tuple(bars), cuts)
