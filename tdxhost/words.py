# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers as people and documents read them."""

NS_PER_US = 1000
STEPS = (("s", 1_000_000_000), ("ms", 1_000_000), ("µs", NS_PER_US))
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
KIBI = 1024


def register(value: int) -> str:
    """A register as documents have it: 16 hex digits."""
    return f"0x{value:016x}"


def duration(nanoseconds: int) -> str:
    """A time with a unit, three digits or so."""
    for unit, size in STEPS:
        if nanoseconds >= size:
            return (
                f"{nanoseconds / size:.3g} {unit}"
                if nanoseconds < 1000 * size
                else (f"{nanoseconds // size} {unit}")
            )
    return f"{nanoseconds} ns"


def size(count: int) -> str:
    """Bytes with a unit and one decimal, which bytes themselves don't have."""
    value, unit = float(count), UNITS[0]
    for unit in UNITS:
        if value < KIBI or unit == UNITS[-1]:
            break
        value /= KIBI
    return f"{value:.1f} {unit}" if unit != UNITS[0] else f"{count} B"


def span(base: int, length: int) -> str:
    """A range as /proc/iomem has it: first and last byte."""
    return f"{base:#x}-{base + length - 1:#x}" if length else f"{base:#x} (empty)"


def count(number: int, noun: str) -> str:
    """A number and its noun, such as 1 CPU, 2 CPUs."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
