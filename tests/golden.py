# SPDX-License-Identifier: GPL-2.0-or-later
"""Recordings of every platform of vtdx, which tests read in place of the machines.

python -m tests.golden [PLATFORM...] makes them anew: it boots each, tries to bring TDX up, and
keeps what tdxhost report --bundle recorded.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

from tdxhost.recording import Recording
from tests.vm.hosts import Host, host
from vtdx.vm import platform

FOLDER = Path(__file__).resolve().parent / "data/hosts"
#: A base for others and no machine by itself.
NO_MACHINE = frozenset({"xeon-base"})
BUNDLE = "/tmp/bundle.tar.gz"


def names() -> list[str]:
    """Every platform that is a machine."""
    return sorted(set(platform.shipped()) - NO_MACHINE)


def path_of(name: str) -> Path:
    """Where the recording of a platform is."""
    return FOLDER / f"{name}.json"


def record(machine: Host, folder: Path) -> Recording:
    """Tries to bring TDX up on a machine, and records it.

    CPU 0 goes first, so that it is no matter of chance which CPUs differ from the first one.
    """
    machine.run("tdxhost", "cpu-enable", "--cpus", "0")
    machine.run("tdxhost", "enable")
    made = machine.run("tdxhost", "report", "--bundle", BUNDLE)
    assert made.status in (0, 1), made
    encoded = machine.run("base64", BUNDLE)
    assert encoded.status == 0, encoded
    file = folder / "bundle.tar.gz"
    file.write_bytes(base64.b64decode(encoded.stdout))
    return Recording.load(file)


def main(wanted: list[str]) -> None:
    """Makes recordings anew."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in wanted or names():
        with tempfile.TemporaryDirectory(prefix="tdxhost-") as folder:
            with host(Path(folder), name) as machine:
                recording = record(machine, Path(folder))
            path_of(name).write_text(recording.text(), encoding="utf-8")
        print(f"{path_of(name).relative_to(FOLDER.parent.parent.parent)}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
