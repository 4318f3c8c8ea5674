# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests measure: in words, over CPUs, and when a difference matters."""

from statistics import median_low

from tdxhost.validation.result import Measured, Unit
from tdxhost.words import duration, size

#: A time is another one by this factor, either way, and by as much as this: less comes and goes
#: with an interrupt (SMIs take tens of µs).
FACTOR = 1.25
LEAST_NS = 20_000
NS_PER_S = 1_000_000_000


def value_text(value: int, unit: Unit) -> str:
    """A measured value with its unit."""
    match unit:
        case Unit.NS:
            return duration(value)
        case Unit.BYTES:
            return size(value)
        case Unit.COUNT | Unit.STATE:
            return str(value)


def seconds_text(time_s: float) -> str:
    """How long a test took."""
    return duration(round(time_s * NS_PER_S)) if time_s else "-"


def pair_text(here: int, there: int, unit: Unit) -> tuple[str, str]:
    """Two values that differ: to the last digit where else they would read the same."""
    texts = value_text(here, unit), value_text(there, unit)
    if texts[0] != texts[1] or unit in (Unit.COUNT, Unit.STATE):
        return texts
    name = "B" if unit is Unit.BYTES else str(unit)
    return f"{here} {name}", f"{there} {name}"


def change_text(here: int, there: int, unit: Unit) -> str:
    """How a value changed: a time by a factor, of sizes and counts the difference."""
    if unit is Unit.NS:
        return ratio_text(here / there) if there else "-"
    return f"{'-' if here < there else '+'}{value_text(abs(here - there), unit)}"


def ratio_text(ratio: float | None) -> str:
    """How many times as much, in three digits or so."""
    return "-" if ratio is None else f"{ratio:.2f}x" if ratio < 100 else f"{ratio:.0f}x"


def measured_text(measured: Measured) -> str:
    """What was measured, such as lp_init: median 1.2 ms, most 1.9 ms on CPU 3."""
    told = []
    if measured.value is not None:
        told.append(value_text(measured.value, measured.unit))
    if measured.by_cpu:
        middle, (cpu, most) = typical(measured), highest(measured)
        told.append(f"median {value_text(middle, measured.unit)}")
        told.append(f"most {value_text(most, measured.unit)} on CPU {cpu}")
    return f"{measured.name}: {', '.join(told) or 'not measured'}"


def typical(measured: Measured) -> int:
    """The median over CPUs: a value that a CPU has, of two the lower."""
    return median_low(measured.by_cpu.values())


def highest(measured: Measured) -> tuple[int, int]:
    """The CPU with the highest value, the first where several have it, and the value."""
    return max(sorted(measured.by_cpu.items()), key=lambda one: one[1])


def stands_out(measured: Measured, cpu: int) -> bool:
    """Whether a CPU took longer than others by what matters; of sizes and counts none does."""
    typically, value = typical(measured), measured.by_cpu[cpu]
    return measured.unit is Unit.NS and value > typically and matters(Unit.NS, value, typically)


def matters(unit: Unit, one: float, other: float) -> bool:
    """Whether a difference is more than what comes and goes; of sizes and counts, any is."""
    if unit is not Unit.NS:
        return one != other
    low, high = sorted((one, other))
    return high - low >= LEAST_NS and high >= FACTOR * low
