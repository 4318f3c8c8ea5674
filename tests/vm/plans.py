# SPDX-License-Identifier: GPL-2.0-or-later
"""Plans on virtual hosts: each boot of a plan is a new machine, and what a run keeps goes along.

Machines are booted, and not started from a snapshot: all from one would say that they
are the same boot.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.vm.hosts import Boot, Host
from tests.vm.witness import Witness

STATE = "/var/lib/tdxhost"
OUTPUT = "/tmp/results"
# The driver where modprobe finds it, as scripts/install puts it.
INSTALL_DRIVER = (
    "cd /usr/lib/modules/$(uname -r) && mkdir -p updates && "
    "cp /usr/lib/vtdx/tdxhost.ko updates && depmod"
)
# More boots than any plan has.
MOST_BOOTS = 12


@dataclass
class Played:
    """A plan that was run to its end: exit codes and documents after each boot, vtdx's logs."""

    statuses: list[int] = field(default_factory=list)
    documents: list[dict[str, Any]] = field(default_factory=list)
    witnesses: list[Witness] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    junit: str = ""

    @property
    def document(self) -> dict[str, Any]:
        """The run as it was in the end."""
        return self.documents[-1]

    def not_passed(self) -> list[str]:
        """Every test that came to something else, with what it said."""
        return [
            f"{test['boot']}: {test['id']} {test['options']}: {test['outcome']}: {test['message']}"
            for test in self.document["tests"]
            if test["outcome"] != "passed"
        ]


def play(boot: Boot, name: str, plan: str, *, seed: int = 1, **options: Any) -> Played:
    """Runs a plan, a machine for each of its boots."""
    played = Played()
    words, kept = [plan, "--seed", str(seed)], ""
    for _ in range(MOST_BOOTS):
        with boot(name, seconds=900, **options) as host:
            assert host.sh(INSTALL_DRIVER).status == 0
            if kept:
                put_state(host, kept)
            validated(host, played, *words)
            kept = take_state(host)
        if not played.document["needs_reboot"]:
            return played
        words = ["--resume"]
    raise AssertionError(f"{plan} was not over after {MOST_BOOTS} boots: {played.not_passed()}")


def validated(host: Host, played: Played, *words: str) -> None:
    """Runs one boot of a plan."""
    ran = host.run(
        "tdxhost", "validate", *words, "--output", OUTPUT, "--format", "json", timeout=800
    )
    assert ran.status in (0, 1), ran
    played.statuses.append(ran.status)
    played.documents.append(ran.json())
    played.witnesses.append(host.witness())
    played.complaints += host.kernel_complaints()
    played.junit = host.run("cat", f"{OUTPUT}/junit.xml").stdout


def take_state(host: Host) -> str:
    """What the suite keeps on a host, as a text."""
    packed = host.sh(f"cd {STATE} && tar -cz --exclude='*.tar.gz' . | base64 -w0")
    assert packed.status == 0, packed
    return packed.stdout


def put_state(host: Host, state: str) -> None:
    """What the suite kept on one host, to another one that goes on."""
    done = host.sh(f"mkdir -p {STATE} && cd {STATE} && echo '{state}' | base64 -d | tar -xz")
    assert done.status == 0, done
