# SPDX-License-Identifier: GPL-2.0-or-later
"""The generated binding, made anew where tests run from the checkout."""

from pathlib import Path

import tdxhost
from tdxhost._abi_build import write_module

PROJECT = Path(__file__).resolve().parents[2]
HEADER = PROJECT / "kmod/include/uapi/linux/tdxhost.h"


def _bind_checkout() -> None:
    """Writes tdxhost/_tdxhost_abi.py where it is missing or older than the header."""
    package = Path(tdxhost.__file__).parent
    target = package / "_tdxhost_abi.py"
    sources = (HEADER, package / "_abi_build.py")
    if package.parent != PROJECT:
        return
    newest = max(source.stat().st_mtime for source in sources)
    if not target.exists() or target.stat().st_mtime < newest:
        write_module(HEADER, target)


# Test modules import the package when they are collected, before any fixture.
_bind_checkout()
