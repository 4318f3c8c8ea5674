# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel shows to everyone about TDX."""

from pathlib import Path

ATTRIBUTES = ("provider", "status", "module_version")


def public_state(root: Path = Path("/")) -> dict[str, str]:
    """Reads the driver's sysfs attributes, which need no privilege; those there are."""
    found: dict[str, str] = {}
    for name in ATTRIBUTES:
        try:
            text = (root / "sys/class/misc/tdxhost" / name).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text:
            found[name] = text
    return found
