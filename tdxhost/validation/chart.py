# SPDX-License-Identifier: GPL-2.0-or-later
"""A value of each CPU as columns side by side."""

from dataclasses import dataclass

from tdxhost.validation.result import Measured
from tdxhost.validation.values import highest, stands_out, typical, value_text

#: Room for the labels of values, at the left, and of CPUs, below.
LEFT = 70
BELOW = 18
ABOVE = 8
HEIGHT = 96
#: The columns together are at most as wide as this, unless each would be too narrow to be seen.
WIDE = 900
WIDEST = 26.0
NARROWEST = 2.0
#: What is left free between two columns.
GAP = 0.18
#: What is nothing beside the highest is still to be seen.
LEAST_HEIGHT = 1.0
#: A line of text, and a digit, at the size of labels.
LINE = 13
DIGIT = 7


@dataclass(frozen=True, slots=True)
class Column:
    """A CPU; title is all that there is to say of it, high that it stands out."""

    cpu: int
    x: float
    y: float
    width: float
    height: float
    title: str
    high: bool


@dataclass(frozen=True, slots=True)
class Label:
    """A text beside the columns."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, in pixels; middle is the height at which the median is."""

    width: float
    height: float
    left: int
    middle: float
    columns: tuple[Column, ...]
    values: tuple[Label, ...]
    cpus: tuple[Label, ...]

    @property
    def has_high(self) -> bool:
        """Whether a CPU stands out."""
        return any(column.high for column in self.columns)


def chart(measured: Measured) -> Chart:
    """Draws what was measured on each CPU, of which there is one at least."""
    pitch = max(min(WIDEST, WIDE / len(measured.by_cpu)), NARROWEST)
    columns = tuple(
        _column(measured, cpu, LEFT + at * pitch, pitch)
        for at, cpu in enumerate(sorted(measured.by_cpu))
    )
    median = typical(measured)
    return Chart(
        width=round(LEFT + len(columns) * pitch + DIGIT, 2),
        height=ABOVE + HEIGHT + BELOW,
        left=LEFT,
        middle=_top(measured, median),
        columns=columns,
        values=tuple(_values(measured, median)),
        cpus=_cpus(columns, pitch),
    )


def _top(measured: Measured, value: int) -> float:
    return round(ABOVE + HEIGHT * (1 - value / max(highest(measured)[1], 1)), 2)


def _column(measured: Measured, cpu: int, x: float, pitch: float) -> Column:
    value = measured.by_cpu[cpu]
    top = min(_top(measured, value), ABOVE + HEIGHT - LEAST_HEIGHT)
    title = f"CPU {cpu}: {value_text(value, measured.unit)}"
    high = stands_out(measured, cpu)
    width, height = round(pitch * (1 - GAP), 2), round(ABOVE + HEIGHT - top, 2)
    return Column(cpu, round(x, 2), top, width, height, title, high)


def _values(measured: Measured, median: int) -> list[Label]:
    """Labels of the highest value, of nothing, and of the median where there is room for it."""
    most = highest(measured)[1]
    labels = [
        Label(LEFT - 8, _top(measured, value) + 4, text)
        for value, text in (
            (most, value_text(most, measured.unit)),
            (0, "0"),
        )
    ]
    at = _top(measured, median) + 4
    if all(abs(at - label.y) >= LINE for label in labels):
        labels.append(Label(LEFT - 8, at, value_text(median, measured.unit)))
    return labels


def _cpus(columns: tuple[Column, ...], pitch: float) -> tuple[Label, ...]:
    """Numbers of as many CPUs as there is room for."""
    room = DIGIT * (len(str(columns[-1].cpu)) + 1)
    every = 1
    while every * pitch < room:
        every *= 2
    return tuple(
        Label(round(one.x + one.width / 2, 2), ABOVE + HEIGHT + LINE, str(one.cpu))
        for one in columns[::every]
    )
