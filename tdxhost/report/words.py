# SPDX-License-Identifier: GPL-2.0-or-later
"""Words of a report."""


def sentence(text: str) -> str:
    """A text with a capital at its beginning and a full stop at its end."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")
