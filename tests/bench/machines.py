# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual Xeons of a size, whose TDX module takes its time."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.vm.witness import Witness
from vtdx.vm import kernels, platform
from vtdx.vm.machine import Machine, Spec

#: What a Xeon takes for TDH.SYS.LP.INIT, and for one call of TDH.SYS.TDMR.INIT, which does
#: 4 MiB: 3.5 ms for a GiB (times of kernel logs that people have posted).
LP_INIT_NS = 2_000_000
TDMR_INIT_NS = 14_000
#: How often TDH.SYS.TDMR.INIT is called for a GiB.
CALLS_IN_GIB = 256
#: How much of what is measured may be the emulator's own.
OWN_SHARE = 0.05

PLATFORM = """\
[platform]
summary = {size.nodes} sockets, {size.cpus} CPUs, {size.gib} GiB
base = spr-1s
[cpu]
sockets = {size.nodes}
cores = {cores}
[memory]
{nodes}
"""


@dataclass(frozen=True, slots=True)
class Size:
    """A machine with a node for each socket, and CPUs and memory shared out evenly."""

    cpus: int
    gib: int
    nodes: int = 1

    def __str__(self) -> str:
        memory = f"{self.gib} GiB" if self.gib % 1024 else f"{self.gib // 1024} TiB"
        return f"{self.cpus} CPUs, {memory}"


@dataclass(frozen=True)
class Xeon:
    """Boots a machine of a size; latency_ns is how long leaves take, by name; extra are files."""

    size: Size
    latency_ns: dict[str, int] = field(default_factory=dict)
    kernel: str = ""
    extra: dict[str, Path] = field(default_factory=dict)

    @contextmanager
    def boot(self) -> Iterator[Guest]:
        """The machine with its driver, and vtdx's log."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "xeon.ini").write_text(self.text(), encoding="utf-8")
            spec = Spec(
                platform.load(str(folder / "xeon.ini")),
                kernel=self.kernel or kernels.default(),
                log=folder / "log",
                extra=self.extra,
                silence_seconds=600,
            )
            with Machine(spec) as machine:
                yield Guest(machine, folder / "log")

    def text(self) -> str:
        """The platform's file."""
        size = self.size
        nodes = "\n".join(f"node{at} = {size.gib // size.nodes}G" for at in range(size.nodes))
        told = PLATFORM.format(size=size, cores=size.cpus // size.nodes, nodes=nodes)
        leaves = "\n".join(f"{leaf} = {ns}ns" for leaf, ns in self.latency_ns.items())
        return f"{told}[latency]\n{leaves}\n"


@dataclass(frozen=True)
class Guest:
    """A machine that runs."""

    machine: Machine
    log: Path

    def output(self, *words: str) -> str:
        """What a command that succeeds prints."""
        done = self.machine.run(words, timeout=600)
        assert done.status == 0, done
        return done.stdout

    def json(self, *words: str) -> Any:
        """The document of a tdxhost command."""
        return json.loads(self.output("tdxhost", *words, "--format", "json"))

    def witness(self) -> Witness:
        """What vtdx saw."""
        return Witness.read(self.log)


def scale_for(own_ns: int, modelled_ns: int) -> int:
    """How often the modelled time has to be taken for the emulator's own to be a small part."""
    return max(1, -(-own_ns // int(modelled_ns * OWN_SHARE)))
