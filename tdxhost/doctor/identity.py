# SPDX-License-Identifier: GPL-2.0-or-later
"""What kind of host it is, without what tells it from others of its kind."""

from dataclasses import dataclass

from tdxhost.doctor.facts import Facts
from tdxhost.errors import TdxHostError

DMI = "/sys/class/dmi/id"


@dataclass(frozen=True, slots=True)
class Identity:
    """Make, BIOS, processors and kernel; empty or 0 where it can't be read. No serial numbers."""

    system: str
    bios: str
    cpu: str
    signature: str
    microcode: str
    cpus: int
    packages: int
    kernel: str

    @property
    def line(self) -> str:
        """All of it in one line."""
        told = (self.system, self.cpu, self.bios and f"BIOS {self.bios}", f"Linux {self.kernel}")
        return "; ".join(filter(None, told))


def identity(facts: Facts) -> Identity:
    """Reads it; what everyone may see is enough."""
    host = facts.host
    dmi = {
        name: host.text_or(f"{DMI}/{name}")
        for name in ("sys_vendor", "product_name", "bios_version", "bios_date")
    }
    try:
        first, online = facts.cpus[0], facts.online
    except (TdxHostError, IndexError):
        first, online = None, ()
    return Identity(
        system=" ".join(filter(None, (dmi["sys_vendor"], dmi["product_name"]))),
        bios=" of ".join(filter(None, (dmi["bios_version"], dmi["bios_date"]))),
        cpu=first.name if first else "",
        signature=first.signature if first else "",
        microcode=first.microcode if first else "",
        cpus=len(online),
        packages=len(_packages(facts)),
        kernel=host.text_or("/proc/sys/kernel/osrelease"),
    )


def _packages(facts: Facts) -> set[str]:
    topology = "/sys/devices/system/cpu/cpu{}/topology/physical_package_id"
    try:
        told = {facts.host.text_or(topology.format(cpu)) for cpu in facts.online}
    except TdxHostError:
        return set()
    return told - {""}
