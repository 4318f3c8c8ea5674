# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of MSRs by the rules of data/msrs.yaml: the same on every CPU, or told apart."""

from collections.abc import Iterable, Iterator, Sequence

from tdxhost.doctor.engine import Check, Found, failed, passed
from tdxhost.doctor.facts import Facts, MsrReading
from tdxhost.msrs import WrongBits, parse_bits


def look_at_msrs(check: Check, facts: Facts) -> Found:
    """Looks at the check's MSRs, or at some bits of them, on every CPU."""
    return look_at_bits(facts, check.msrs, check.bits)


def look_at_bits(facts: Facts, msrs: Iterable[int], bits: Sequence[str] = ()) -> Found:
    """Looks at MSRs, or at some bits of them ("11", "63:32"), on every CPU."""
    readings = [facts.msr(address) for address in msrs]
    complaints: list[str] = []
    bad: set[int] = set()
    for reading in readings:
        for text, cpus in _complaints(facts, reading, bits):
            complaints.append(text)
            bad |= set(cpus)
    if complaints:
        return failed("; ".join(complaints), bad)
    return passed(_together(facts, readings))


def _together(facts: Facts, readings: Sequence[MsrReading]) -> str:
    """What MSRs are, once for all CPUs where these are alike."""
    if any(len(reading.groups()) != 1 for reading in readings):
        return "; ".join(shown(facts, reading) for reading in readings)
    told = (f"{reading.label} is {reading.groups()[0][0]:#x}" for reading in readings)
    return f"{', '.join(told)} on every CPU"


def _complaints(
    facts: Facts, reading: MsrReading, bits: Sequence[str]
) -> Iterator[tuple[str, Sequence[int]]]:
    if reading.faults:
        where = facts.all_cpus(reading.faults)
        yield f"{reading.label}: RDMSR faults on {where}", reading.faults
    for value, cpus in reading.groups():
        wrong = [one for one in facts.table.get(reading.address).wrong(value) if _asked(one, bits)]
        if wrong:
            told = ", ".join(map(wrong_words, wrong))
            yield f"{reading.label} is {value:#x} on {facts.all_cpus(cpus)}: {told}", cpus


def _asked(wrong: WrongBits, bits: Sequence[str]) -> bool:
    """Whether the check is about these bits."""
    if not bits:
        return True
    spans = map(parse_bits, bits)
    return any(low <= wrong.high and wrong.low <= high for high, low in spans)


def wrong_words(wrong: WrongBits) -> str:
    """A wrong bit in words: bit 1 TME_ENABLE is 0, has to be 1."""
    name = "" if wrong.name == wrong.label else f" {wrong.name}"
    found = str(wrong.found) if wrong.found < 10 else f"{wrong.found:#x}"
    return f"{wrong.label}{name} is {found}, has to be {wrong.wanted}"


def shown(facts: Facts, reading: MsrReading) -> str:
    """What an MSR is on which CPUs."""
    groups = [f"{value:#x} on {facts.all_cpus(cpus)}" for value, cpus in reading.groups()]
    return f"{reading.label} is {', '.join(groups)}"
