# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs benchmarks, and writes JSON, a table and pictures: scripts/bench FOLDER SECTION..."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench.result import Section, markdown
from tests.bench.sections import SECTIONS
from vtdx.vm.errors import VmError

NOT_MET, FAILED, INTERRUPTED = 1, 2, 130


def main(output: Path, sections: Sequence[str]) -> int:
    """Runs the sections, all without any; the exit code."""
    try:
        found = measure(output, sections or list(SECTIONS))
        print(markdown(found), end="", flush=True)
    except (VmError, OSError, subprocess.CalledProcessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"bench: stopped; what was measured until then is in {output}", file=sys.stderr)
        return INTERRUPTED
    return 0 if all(check.met for one in found for check in one.checks) else NOT_MET


def measure(output: Path, sections: Sequence[str]) -> list[Section]:
    """Runs the sections, and writes what there is after each: all of them take a while."""
    output.mkdir(parents=True, exist_ok=True)
    found: dict[str, Section] = {}
    for name in sections:
        print(f"bench: {name} ...", file=sys.stderr, flush=True)
        found[name] = SECTIONS[name]()
        write(found, output)
    return list(found.values())


def write(found: dict[str, Section], folder: Path) -> None:
    """All that there is so far."""
    document = {name: asdict(section) for name, section in found.items()}
    (folder / "bench.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (folder / "bench.md").write_text(markdown(list(found.values())), encoding="utf-8")
    for section in found.values():
        for picture in section.pictures:
            (folder / f"{picture.name}.svg").write_text(picture.svg(), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
