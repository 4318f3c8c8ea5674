# SPDX-License-Identifier: GPL-2.0-or-later
"""What a plan may say about one of its tests."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Option:
    """One thing that a plan may say about a test.

    parse takes what the YAML file has, and raises ValueError with what is wanted instead.
    """

    help: str
    parse: Callable[[Any], Any]
    default: Any


def one_of(*words: str) -> Callable[[Any], str]:
    """A parser of one of some words."""

    def parse(value: Any) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)} is wanted")
        return str(value)

    return parse


def at_least(least: int) -> Callable[[Any], int]:
    """A parser of whole numbers."""

    def parse(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"a whole number of at least {least} is wanted")
        return value

    return parse


def duration(value: Any) -> float:
    """Parses a time such as 30s, 5m, 2h or 40ms; seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)", str(value))
    if not found or not float(found[1]):
        raise ValueError("a time is wanted: a number with ms, s, m or h")
    return float(found[1]) * UNITS_S[found[2]]
