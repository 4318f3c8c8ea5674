# SPDX-License-Identifier: GPL-2.0-or-later
"""VMX operation of each CPU, as vtdx's log has it: who entered it, who used it.

What may come after what: SDM vol. 3C, VMXON, VMXOFF, VMX instruction reference.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.vm.witness import Witness

DRIVER, KVM = "driver", "kvm"
ENTERING, LEAVING = "entering", "leaving"

# VM entry is not modelled, and "invalid control fields" is what KVM is told.
_ENTRY = ("VMLAUNCH", "vmfailvalid", 7)

# How the driver asks whether the CPU is in VMX operation: the moments in which
# KVM has set CR4.VMXE and is not in it are the only ones in which it is not.
_QUESTION = "VMPTRST"


@dataclass
class Cpu:
    """Where one CPU is."""

    vmxe: bool = False
    region: str | None = None
    left: bool = False
    asked: bool = False


@dataclass
class States:
    """Follows a log; ``check`` fails at the first event that no CPU may come to.

    ``driver`` are the driver's VMXON regions, where they are known. ``seamcalls``
    counts calls by whose VMX operation they used, ``half_open`` windows of the driver's
    that fell between KVM's CR4.VMXE and its VMX operation, ENTERING or LEAVING it.
    """

    driver: frozenset[str] = frozenset()
    cpus: defaultdict[int, Cpu] = field(default_factory=lambda: defaultdict(Cpu))
    seamcalls: Counter[str] = field(default_factory=Counter)
    entered: Counter[str] = field(default_factory=Counter)
    half_open: Counter[str] = field(default_factory=Counter)

    def check(self, witness: Witness) -> States:
        """Go through a log, or go on with the rest of one."""
        steps = {
            "cr4.vmxe": self._vmxe,
            "vmxon": self._vmxon,
            "vmxoff": self._vmxoff,
            "seamcall": self._seamcall,
            "vmx": self._vmx,
        }
        for event in witness.events:
            if event["event"] in steps:
                steps[event["event"]](event, self.cpus[event["cpu"]])
        return self

    def on(self) -> set[int]:
        """CPUs in VMX operation."""
        return {number for number, cpu in self.cpus.items() if cpu.region is not None}

    def vmxe(self) -> set[int]:
        """CPUs with CR4.VMXE set."""
        return {number for number, cpu in self.cpus.items() if cpu.vmxe}

    def _owner(self, cpu: Cpu) -> str:
        return DRIVER if cpu.region in self.driver else KVM

    def _vmxe(self, event: dict[str, Any], cpu: Cpu) -> None:
        assert event["value"] or cpu.region is None, event
        cpu.vmxe = bool(event["value"])
        cpu.left = False

    def _vmxon(self, event: dict[str, Any], cpu: Cpu) -> None:
        assert event["result"] == "done", event
        assert cpu.vmxe, event
        assert cpu.region is None, event
        cpu.region = event["pa"]
        self.entered[self._owner(cpu)] += 1
        if cpu.asked:
            self.half_open[LEAVING if cpu.left else ENTERING] += 1
        cpu.asked = False

    def _vmxoff(self, event: dict[str, Any], cpu: Cpu) -> None:
        assert event["result"] == "done", event
        assert cpu.region is not None, event
        # A window of the driver's in the middle of KVM's leaves that where it was.
        cpu.left = cpu.left or self._owner(cpu) == KVM
        cpu.region = None

    def _seamcall(self, event: dict[str, Any], cpu: Cpu) -> None:
        assert cpu.region is not None, event
        assert event["result"] == "done", event
        self.seamcalls[self._owner(cpu)] += 1

    def _vmx(self, event: dict[str, Any], cpu: Cpu) -> None:
        if event["instruction"] == _QUESTION and event["result"] == "ud":
            assert cpu.vmxe, event
            assert cpu.region is None, event
            cpu.asked = True
            return
        told = (event["instruction"], event["result"], event["error"])
        assert event["result"] == "done" or told == _ENTRY, event


def regions(witness: Witness) -> frozenset[str]:
    """The VMXON regions that were used in a piece of a log."""
    return frozenset(event["pa"] for event in witness.events if event["event"] == "vmxon")
