# SPDX-License-Identifier: GPL-2.0-or-later
"""Which kind of host it is, by nothing that tells it from another of its kind."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

from tdxhost.doctor.facts import Facts
from tdxhost.errors import TdxHostError
from tdxhost.host import Host

T = TypeVar("T")

DMI = "/sys/class/dmi/id"
#: Of the folder's files those without serial number, asset tag and UUID.
DMI_FILES = ("sys_vendor", "product_name", "board_name", "bios_vendor", "bios_version", "bios_date")


@dataclass(frozen=True, slots=True)
class About:
    """Vendor, product, BIOS, processor, kernel; what is not known is empty.

    microcode has the CPUs of each version, the most common first.
    """

    dmi: Mapping[str, str]
    cpu: str
    signature: str
    generation: str
    microcode: tuple[tuple[str, tuple[int, ...]], ...]
    hypervisor: bool
    packages: int
    cpus_present: int
    cpus_online: int
    kernel: str
    provider: str

    @property
    def system(self) -> str:
        """Vendor and product."""
        return self._dmi(" ", "sys_vendor", "product_name")

    @property
    def bios(self) -> str:
        """Vendor, version and date."""
        return self._dmi(", ", "bios_vendor", "bios_version", "bios_date")

    def _dmi(self, between: str, *names: str) -> str:
        return between.join(self.dmi[name] for name in names if name in self.dmi)

    @classmethod
    def of(cls, facts: Facts, packages: int) -> Self:
        """Reads it; packages are counted by those who know the CPUs."""
        cpus = _or_none(lambda: facts.cpus) or ()
        first = cpus[0] if cpus else None
        model = facts.model if first else None
        return cls(
            dmi=read_dmi(facts.host),
            cpu=first.name if first else "",
            signature=first.signature if first else "",
            generation=model.name if model else "",
            microcode=by_value((cpu.microcode, cpu.number) for cpu in cpus),
            hypervisor=first is not None and "hypervisor" in first.flags,
            packages=packages,
            cpus_present=len(_or_none(lambda: facts.present) or ()),
            cpus_online=len(_or_none(lambda: facts.online) or ()),
            kernel=_or_none(lambda: facts.release) or "",
            provider=facts.provider.label if facts.provider else "",
        )


def read_dmi(host: Host) -> dict[str, str]:
    """What firmware calls the host; the files are there for everyone to read."""
    told = {name: host.text_or(f"{DMI}/{name}") for name in DMI_FILES}
    return {name: text for name, text in told.items() if text}


def by_value(pairs: Iterable[tuple[str, int]]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Values with the CPUs that have them, the most common first."""
    found: dict[str, list[int]] = {}
    for value, cpu in pairs:
        found.setdefault(value, []).append(cpu)
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[1]))
    return tuple((value, tuple(cpus)) for value, cpus in ordered)


def _or_none(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except TdxHostError:
        return None
