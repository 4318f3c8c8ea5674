# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab's plan and tests on a machine that is rebooted: each boot is a virtual machine of its own.

A boot is given what the one before it has kept, and an id that tells it apart: all of them start
from the same snapshot.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.vm.hosts import Boot, Host
from vtdx.vm.machine import Machine, Result
from vtdx.vm.session import Session

TESTS, PLAN = "/opt/lab", "/opt/lab.yaml"
STATE = "/var/lib/tdxhost"
BOOT_ID = "/proc/sys/kernel/random/boot_id"

SERVER, SESSION = "/opt/commands.py", "commands"
GUEST = Path(__file__).parent / "guest"
#: What one word of a command line may have, with room to spare.
WORD_BYTES = 100_000


def write_files(folder: Path, boots: Mapping[str, list[str]]) -> dict[str, Path]:
    """The lab's files for Spec.extra: its plan is made of these boots, by name."""
    plan = {
        "schema": "tdxhost-plan/1",
        "name": "lab",
        "about": "A lab's own.",
        "boots": [
            {"name": name, "about": "Some tests.", "tests": tests} for name, tests in boots.items()
        ],
    }
    file = folder / "lab.yaml"
    file.write_text(json.dumps(plan), encoding="utf-8")
    lab = {PLAN: file, f"{TESTS}/test_lab.py": GUEST / "lab.py"}
    return {SERVER: GUEST / "commands.py", **lab}


def serving(machine: Machine) -> None:
    """Leaves who runs commands in a snapshot."""
    machine.session(["python3", SERVER], name=SESSION).ask({})


@dataclass(frozen=True)
class Lab:
    """One boot of the machine."""

    host: Host
    commands: Session

    def run(self, *words: str) -> Result:
        """A tdxhost command."""
        self.begin(*words)
        return self.end()

    def start(self, *words: str) -> Result:
        """Begins a run of the lab's plan, and waits for its end."""
        return self.run("validate", PLAN, "--tests", TESTS, *words)

    def resume(self, *words: str) -> Result:
        """Goes on with it."""
        return self.run("validate", "--resume", *words)

    def begin(self, *words: str) -> None:
        """Starts a tdxhost command."""
        self.commands.ask({"begin": words})

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self.commands.ask({"signal": number})

    def end(self) -> Result:
        """Waits for it."""
        return Result(**self.commands.ask({"end": True}))

    def shell(self, script: str) -> str:
        """Output of a shell script that succeeds."""
        done = self.host.sh(script)
        assert done.status == 0, done
        return done.stdout

    def outcomes(self) -> dict[str, str]:
        """What each test of the last run came to, by boot and id."""
        return {f"{one['boot']} {one['id']}": one["outcome"] for one in self.result()["tests"]}

    def result(self) -> Any:
        """The document that is kept of the last run."""
        return json.loads(
            self.shell(f"cat {STATE}/validate/$(cat {STATE}/validate/latest)/result.json")
        )


class Boots:
    """Boots of one and the same machine."""

    def __init__(self, boot: Boot, files: Mapping[str, Path]) -> None:
        self._boot = boot
        self._files = files
        self._state = ""

    @contextmanager
    def next(self) -> Iterator[Lab]:
        """The machine after a reboot; what is kept when this is left is what the next one has."""
        options: dict[str, Any] = {"cpus": 2, "extra": self._files}
        with (
            self._boot("spr-1s", warm=True, prepare=serving, **options) as host,
            host.attach(SESSION) as commands,
        ):
            lab = Lab(host, commands)
            self._restore(lab)
            yield lab
            self._state = lab.shell(f"[ ! -e {STATE} ] || tar -cz -C / .{STATE} | base64 -w0")

    def _restore(self, lab: Lab) -> None:
        for at in range(0, len(self._state), WORD_BYTES):
            lab.shell(f"printf %s '{self._state[at : at + WORD_BYTES]}' >>/tmp/state")
        unpack = "base64 -d /tmp/state | tar -xz -C /" if self._state else "true"
        name = f"echo {uuid.uuid4()} >/run/boot_id && mount --bind /run/boot_id {BOOT_ID}"
        lab.shell(f"{unpack} && {name}")
