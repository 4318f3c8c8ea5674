# SPDX-License-Identifier: GPL-2.0-or-later
"""How tests of the suite fail: with everything that is wrong, and what to do about it."""

from collections.abc import Iterable

#: Of many problems, those that a message has; the rest is counted.
MOST_TOLD = 20


def none_of(problems: Iterable[str], todo: str = "") -> None:
    """Fails with all problems, each told once on a line of its own, then todo; not without one."""
    found = list(dict.fromkeys(problems))
    if not found:
        return
    lines = found[:MOST_TOLD]
    if len(found) > MOST_TOLD:
        lines.append(f"and {len(found) - MOST_TOLD} more")
    raise AssertionError("\n".join([*lines, *([todo] if todo else [])]))
