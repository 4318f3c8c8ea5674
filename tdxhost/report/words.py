# SPDX-License-Identifier: GPL-2.0-or-later
"""Words of a report."""

from collections.abc import Sequence

from tdxhost.records import FieldValue

#: What unused elements of an array read as.
PADDING = (0, (1 << 64) - 1)


def sentence(text: str) -> str:
    """A text with a full stop at its end, and a capital where it begins with a plain word."""
    first = text.partition(" ")[0]
    begin = text[:1].upper() if first.rstrip(",:").isalpha() else text[:1]
    return begin + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def metadata_text(values: Sequence[FieldValue]) -> str:
    """The values of a metadata field, of an array without its unused end."""
    shown = [value.value for value in values]
    while len(shown) > 1 and shown[-1] in PADDING:
        shown.pop()
    return " ".join(f"{value:#x}" for value in shown)
