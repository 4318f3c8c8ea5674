# SPDX-License-Identifier: GPL-2.0-or-later
"""Loads the reference tables in data/."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from tdxhost.errors import BadData

DATA = f"{__file__.rpartition('/')[0]}/data"


@cache
def load(name: str) -> Mapping[str, Any]:
    """Reads data/<name>.yaml, once; BadData when it is no mapping."""
    from pathlib import Path

    import yaml

    # libyaml is ten times as fast, and not everywhere.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = Path(DATA, f"{name}.yaml").read_text(encoding="utf-8")
    content = yaml.load(text, Loader=loader)
    if not isinstance(content, dict):
        raise BadData(f"data/{name}.yaml", "top level", "is no mapping")
    return content
