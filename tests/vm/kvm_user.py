# SPDX-License-Identifier: GPL-2.0-or-later
"""Who uses KVM in a virtual host, and what KVM has to find there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.vm import vmx_states
from tests.vm.hosts import Host
from tests.vm.races import invariants
from tests.vm.races.kernel_log import kernel_complaints
from tests.vm.vmx_states import States
from vtdx.vm.session import Session

#: Files of the guest.
EXTRA = {"/opt/kvm.py": Path(__file__).parent / "guest/kvm.py"}

# KVM_EXIT_FAIL_ENTRY, and VM-instruction error 7: invalid control fields.
NOT_ENTERED = "9:7"

# All that KVM wants of a CPU before it offers TDX (linux-behaviour.md, section 11),
# and the rest that a Sapphire Rapids has; /sys/module/*/parameters.
OFFERED = {
    "kvm_intel": (
        "ept",
        "eptad",
        "enable_apicv",
        "flexpriority",
        "pml",
        "preemption_timer",
        "unrestricted_guest",
        "vnmi",
        "vpid",
    ),
    "kvm": ("mmio_caching", "tdp_mmu"),
}


@dataclass
class Both:
    """A machine, with or without the driver, and who uses KVM in it."""

    host: Host
    user: Session

    def kvm(self, do: str, **more: Any) -> Any:
        """Ask KVM's user for something that has to succeed."""
        answer = self.user.ask({"do": do, **more}, timeout=300)
        assert "error" not in answer, answer
        assert answer.get("status", 0) == 0, answer
        return answer

    @property
    def at_load(self) -> bool:
        """Whether KVM turns VMX on when it is loaded: before 6.12 it does with its first VM."""
        found = self.host.run("modinfo", "--parameters", "kvm")
        assert found.status == 0, found
        return "enable_virt_at_load:" in found.stdout

    def load(self, *arguments: str) -> None:
        """Load KVM."""
        self.kvm("load", arguments=arguments)

    def load_for_vms(self) -> None:
        """Load KVM so that it has VMX on only while there are VMs."""
        self.load(*(("kvm.enable_virt_at_load=0",) if self.at_load else ()))

    def run(self, times: int = 1) -> dict[str, int]:
        """KVM_RUN on every VM that is open; how they came back."""
        exits: dict[str, int] = self.kvm("run", times=times)["exits"]
        return exits

    @contextmanager
    def storm(self, what: str, *arguments: str, threads: int = 1) -> Iterator[dict[str, Any]]:
        """KVM is used again and again inside; outside the result says what came of it."""
        result: dict[str, Any] = {}
        self.kvm("storm", what=what, threads=threads, arguments=arguments)
        try:
            yield result
        finally:
            result |= self.kvm("calm")

    def states(self, driver: frozenset[str] = frozenset()) -> States:
        """What vtdx saw of VMX up to now."""
        return States(driver).check(self.host.witness())

    def check_log(self) -> None:
        """No call that the TDX module could not be made, none done twice, no complaint."""
        witness, platform = self.host.witness(), self.host.machine.spec.platform
        for life in invariants.lives(witness):
            invariants.Life(platform).check(life)
        assert kernel_complaints(self.host) == []

    def driver_regions(self) -> frozenset[str]:
        """The driver's VMXON regions: it alone uses every CPU."""
        assert not self.states().entered
        result = self.host.run("tdxhost", "cpu-enable")
        assert result.status in (0, 1), result
        regions = vmx_states.regions(self.host.witness())
        assert len(regions) == self.host.machine.spec.platform.cpus
        return regions


@contextmanager
def using(host: Host) -> Iterator[Both]:
    """Somebody who uses KVM in a machine that has EXTRA."""
    with host.session("python3", "/opt/kvm.py") as user:
        yield Both(host, user)


def parameters(host: Host, module: str) -> dict[str, str]:
    """A module's parameters."""
    lines = host.sh(f"cd /sys/module/{module}/parameters && grep -H . *").stdout.splitlines()
    return dict(line.split(":", 1) for line in lines)


def warnings(host: Host) -> list[str]:
    """What the kernel warned of about VMX and KVM, its hint how to dump a VM entry apart."""
    lines = host.run("dmesg", "--level=emerg,alert,crit,err,warn").stdout.splitlines()
    ours = [line for line in lines if re.search("kvm|vmx|virtuali[sz]", line, re.IGNORECASE)]
    return [line for line in ours if "kvm_intel.dump_invalid_vmcs=1" not in line]


def check_loads(both: Both) -> States:
    """Load KVM, use it, unload it; vtdx's log up to the end."""
    assert "vmx" in both.host.run("grep", "-m1", "^flags", "/proc/cpuinfo").stdout.split()
    before, at_load = both.states().on(), both.at_load
    cpus = set(range(both.host.machine.spec.platform.cpus))
    both.load()
    assert both.host.run("test", "-c", "/dev/kvm").status == 0
    for module, names in OFFERED.items():
        found = parameters(both.host, module)
        assert {name: found[name] for name in names} == dict.fromkeys(names, "Y")
    assert both.states().on() == (cpus if at_load else before)
    both.kvm("open")
    assert both.states().on() == cpus
    assert both.run(3) == {NOT_ENTERED: 3}
    both.kvm("close")
    assert both.states().on() == (cpus if at_load else before)
    both.kvm("unload")
    assert warnings(both.host) == []
    assert kernel_complaints(both.host) == []
    return both.states()
