# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages of one look, each one HTML file that needs nothing beside it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tdxhost.report.words import sentence

FOLDER = Path(__file__).parent


def render(
    template: Path, view: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]]
) -> str:
    """Fills in a template that extends frame.html.j2.

    The frame takes from view: title, level (symbol and word), taken_at, tdxhost, and document
    (the command that gives the same as a document).
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader([template.parent, FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({"sentence": sentence, **filters})
    # Both are the package's own files.
    own = {"css": Markup(_text("report.css")), "js": Markup(_text("report.js"))}
    return environment.get_template(template.name).render(**view, **own)


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
