# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine that a plan states against the one that is there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tdxhost.doctor.facts import Facts
from tdxhost.errors import NotRead, TdxHostError, Why
from tdxhost.validation.plan import Machine, Version, Versions
from tdxhost.words import size

PACKAGE = "/sys/devices/system/cpu/cpu{}/topology/physical_package_id"


@dataclass(frozen=True, slots=True)
class Fit:
    """What differs, and what could not be compared; a sentence for each."""

    differences: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trait:
    """Something that a plan may state of a machine, and how to find out about it."""

    member: str
    what: str
    find: Callable[[Facts], Any]
    fits: Callable[[Any, Any], bool] = lambda wanted, found: bool(wanted == found)
    wanted: Callable[[Any], str] = str
    found: Callable[[Any], str] = str


def fit(machine: Machine, facts: Facts) -> Fit:
    """Compares all that a plan states."""
    told = list(_compared(machine, facts))
    differences = tuple(says for known, says in told if known and says)
    return Fit(differences, tuple(says for known, says in told if not known))


def _compared(machine: Machine, facts: Facts) -> Iterator[tuple[bool, str]]:
    """Whether it could be compared, and what there is to say about it."""
    for trait in TRAITS:
        wanted = getattr(machine, trait.member)
        if wanted is None:
            continue
        try:
            found = trait.find(facts)
        except TdxHostError as error:
            hint = f" ({error.hint})" if error.hint else ""
            yield False, f"{trait.what}: not known: {error.message}{hint}"
            continue
        expected = f"{trait.wanted(wanted)} expected, {trait.found(found)} found"
        yield True, "" if trait.fits(wanted, found) else f"{trait.what}: {expected}"


def _packages(facts: Facts) -> int:
    return len({facts.host.text(PACKAGE.format(cpu)) for cpu in facts.online})


def _cpus(facts: Facts) -> int:
    return len(facts.online)


def _keyids(facts: Facts) -> int:
    """Their number; the driver has none where IA32_MKTME_KEYID_PARTITIONING has none."""
    info = facts.state.info
    return info.nr_keyids if info.has_keyids else 0


def _module(facts: Facts) -> Version:
    info = facts.state.info
    if not info.has_module:
        raise NotRead(
            "the TDX module's metadata",
            Why.ABSENT,
            "nobody has read it since the driver was loaded",
            "The test has to stand behind enable.all in the plan.",
        )
    return info.module_major, info.module_minor, info.module_update


def _memory(facts: Facts) -> int:
    return sum(region.last - region.first + 1 for region in facts.ram)


def _version(version: Version) -> str:
    return f"{version[0]}.{version[1]}.{version[2]:02}"


TRAITS = (
    Trait("packages", "packages with an online CPU", _packages),
    Trait("cpus", "online CPUs", _cpus),
    Trait("keyids", "private KeyIDs", _keyids),
    Trait("module", "version of the TDX module", _module, Versions.allow, found=_version),
    Trait(
        "memory_bytes",
        "System RAM",
        _memory,
        fits=lambda least, found: bool(found >= least),
        wanted=lambda least: f"at least {size(least)}",
        found=size,
    ),
)
