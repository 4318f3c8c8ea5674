# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUs by package, core and thread, with what came of each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tdxhost.errors import BadData, NotRead
from tdxhost.host import Host
from tdxhost.records import CpuResult
from tdxhost.topology import parse_cpu_list

TOPOLOGY = "/sys/devices/system/cpu/cpu{0}/topology"


@dataclass(frozen=True, slots=True)
class Thread:
    """A CPU and where it is; package and core are None where nobody says."""

    cpu: int
    online: bool
    package: int | None = None
    core: int | None = None
    siblings: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Core:
    """The threads of a core, by number."""

    number: int | None
    threads: tuple[Thread, ...]


@dataclass(frozen=True, slots=True)
class Package:
    """The cores of a package, by number; last those whose core is not known."""

    number: int | None
    cores: tuple[Core, ...]

    @property
    def cpus(self) -> tuple[int, ...]:
        """Its CPUs, by number."""
        return tuple(sorted(one.cpu for core in self.cores for one in core.threads))


def read_threads(
    host: Host, present: Iterable[int], online: Iterable[int], results: Sequence[CpuResult] = ()
) -> tuple[Thread, ...]:
    """Reads where every present CPU is; of one that is offline the driver may know more."""
    up = frozenset(online)
    told = {result.cpu: result.package for result in results}
    return tuple(_thread(host, cpu, cpu in up, told) for cpu in sorted(present))


def _thread(host: Host, cpu: int, online: bool, told: Mapping[int, int | None]) -> Thread:
    folder = TOPOLOGY.format(cpu)
    package = _number(host, f"{folder}/physical_package_id")
    return Thread(
        cpu=cpu,
        online=online,
        package=told.get(cpu) if package is None else package,
        core=_number(host, f"{folder}/core_id"),
        siblings=_siblings(host, f"{folder}/thread_siblings_list"),
    )


def _number(host: Host, path: str) -> int | None:
    text = host.text_or(path)
    return int(text) if text.isdigit() else None


def _siblings(host: Host, path: str) -> tuple[int, ...]:
    try:
        return tuple(sorted(parse_cpu_list(host.text(path))))
    except NotRead:
        return ()
    except ValueError as error:
        raise BadData(path, "CPU list", str(error)) from error


def packages(threads: Iterable[Thread]) -> tuple[Package, ...]:
    """Sorts CPUs by package and core."""
    found: dict[int | None, list[Thread]] = {}
    for thread in threads:
        found.setdefault(thread.package, []).append(thread)
    ordered = sorted(found.items(), key=lambda item: (item[0] is None, item[0] or 0))
    return tuple(Package(number, tuple(_cores(members))) for number, members in ordered)


def _cores(threads: Iterable[Thread]) -> Iterator[Core]:
    found: dict[tuple[object, ...], list[Thread]] = {}
    for thread in threads:
        # Core numbers begin anew on each die; the threads of a core are those of no other.
        found.setdefault((thread.core, thread.siblings[:1]), []).append(thread)
    ordered = sorted(found.values(), key=lambda members: (members[0].core is None, members[0].cpu))
    for members in ordered:
        yield Core(members[0].core, tuple(sorted(members, key=lambda one: one.cpu)))
