# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of what firmware has to set up, where the rules of data/msrs.yaml are not enough."""

from collections.abc import Iterator, Mapping

from tdxhost.doctor.engine import Found, Look, Outcome, failed, not_checked, passed, warned
from tdxhost.doctor.facts import Facts, MsrReading, Region
from tdxhost.doctor.msr_bits import look_at_bits, shown

KEYID_PARTITIONING = 0x87
TME_CAPABILITY, TME_ACTIVATE = 0x981, 0x982
SEAMRR_BASE, SEAMRR_MASK = 0x1400, 0x1401
#: Base and mask of SMRR and SMRR2.
SMRRS = ((0x1F2, 0x1F3), (0x1F6, 0x1F7))
SGX_SVN_STATUS = 0x500

WORD = 0xFFFFFFFF
#: IA32_TME_ACTIVATE, bits 35:32: address bits that KeyIDs take.
KEYID_BITS_AT, KEYID_BITS_MASK = 32, 0xF
#: Physical address bits of every processor with TDX; TDX module ABI spec, CPUID leaf 0x80000008.
ADDRESS_BITS = 52
SMRR_VALID = 1 << 11
SMRR_FIELD = 0xFFFFF000


def tme_algorithm(facts: Facts) -> Found:
    """Any algorithm, but where the TDX module has refused what there is.

    Which kind it wants, with integrity or without, firmware has told the TDX module alone.
    """
    found = look_at_bits(facts, (TME_CAPABILITY, TME_ACTIVATE), ("3:0", "51:48"))
    if found.outcome is not Outcome.PASS:
        return found
    if facts.refused_msr in (TME_CAPABILITY, TME_ACTIVATE) and _is_locked(facts):
        return failed(f"{found.read}, and TDH.SYS.INIT refused that", facts.online)
    return found


def _is_locked(facts: Facts) -> bool:
    """Whether the other thing that the TDX module asks of IA32_TME_ACTIVATE is so."""
    return all(value & 1 for value in facts.msr(TME_ACTIVATE).values.values())


def keyids(facts: Facts) -> Found:
    """At least one private KeyID for the module, and one for a TD."""
    reading = facts.msr(KEYID_PARTITIONING)
    counts = {cpu: value >> 32 for cpu, value in reading.values.items()}
    if reading.faults:
        return failed(_faults(facts, reading), reading.faults)
    none = [cpu for cpu, count in counts.items() if count == 0]
    one = [cpu for cpu, count in counts.items() if count == 1]
    read = f"{shown(facts, reading)}: bits 63:32, private KeyIDs, are {_each(facts, counts)}"
    if none:
        return failed(read, none)
    if one:
        return failed(
            read,
            one,
            fails="firmware gives TDX a single private KeyID, which the TDX module takes itself",
            fix="BIOS: TME-MT/TDX key split at 2 or more, or a larger number of KeyIDs for TME-MT.",
        )
    return passed(read)


def _each(facts: Facts, counts: Mapping[int, int]) -> str:
    cpus: dict[int, list[int]] = {}
    for cpu, count in counts.items():
        cpus.setdefault(count, []).append(cpu)
    return ", ".join(f"{count} on {facts.all_cpus(tuple(on))}" for count, on in cpus.items())


def _faults(facts: Facts, reading: MsrReading) -> str:
    return f"{reading.label}: RDMSR faults on {facts.all_cpus(reading.faults)}"


def seamrr(facts: Facts) -> Found:
    """Configured and valid on every CPU."""
    readings = [facts.msr(SEAMRR_BASE), facts.msr(SEAMRR_MASK)]
    bad: set[int] = set()
    for reading, bit in zip(readings, (3, 11), strict=True):
        bad |= {cpu for cpu, value in reading.values.items() if not value >> bit & 1}
        bad |= set(reading.faults)
    read = "; ".join(shown(facts, reading) for reading in readings)
    if not bad:
        return passed(read)
    where = facts.all_cpus(frozenset(bad))
    return failed(read, bad, fails=f"the SEAM range is not switched on for {where}")


def smrr_memory(facts: Facts) -> Found:
    """No SMM memory in convertible memory, nor in what Linux uses."""
    taken = (*facts.cmrs, *facts.ram)
    for base, mask in SMRRS:
        for region in _smrrs(facts, base, mask):
            if hit := next((other for other in taken if other.overlaps(region)), None):
                return failed(f"SMM has {region.span}, and {hit.name} is {hit.span}")
    return passed(f"no SMM memory in {len(facts.cmrs)} CMRs and {len(facts.ram)} ranges of RAM")


def _smrrs(facts: Facts, base: int, mask: int) -> Iterator[Region]:
    masks = facts.msr(mask).values
    for cpu, value in facts.msr(base).values.items():
        if masks.get(cpu, 0) & SMRR_VALID:
            size = (~(masks[cpu] & SMRR_FIELD) & WORD) + 1
            start = value & SMRR_FIELD
            yield Region(start, start + size - 1, "SMRR", 0)


def address_bits(facts: Facts) -> Found:
    """Those that Linux counts, and those that KeyIDs take of them."""
    values = facts.msr(TME_ACTIVATE).values
    keyid_bits = {value >> KEYID_BITS_AT & KEYID_BITS_MASK for value in values.values()}
    counted = {cpu.phys_bits for cpu in facts.cpus}
    sums = {bits + taken for bits in counted for taken in keyid_bits}
    read = (
        f"{_numbers(counted)} bits in /proc/cpuinfo, and {_numbers(keyid_bits)} for KeyIDs "
        "(IA32_TME_ACTIVATE bits 35:32)"
    )
    if 0 in counted:
        return not_checked("/proc/cpuinfo has no address sizes")
    # Linux before 5.19 and hypervisors leave the KeyID bits where they are.
    if ADDRESS_BITS in sums | counted:
        return passed(read)
    return failed(read)


def _numbers(values: set[int]) -> str:
    return ", ".join(map(str, sorted(values)))


def alike(facts: Facts) -> Found:
    """Each MSR that TDH.SYS.LP.INIT compares, on every CPU."""
    differing = [reading for reading in _compared(facts) if len(reading.groups()) > 1]
    if not differing:
        count = sum(msr.compared for msr in facts.table.by_address.values())
        return passed(f"{count} MSRs, each the same on every CPU that can read it")
    bad = {cpu for reading in differing for _, cpus in reading.groups()[1:] for cpu in cpus}
    names = ", ".join(reading.label for reading in differing)
    return failed(
        "; ".join(shown(facts, reading) for reading in differing),
        bad,
        fails=f"{names} differs on {facts.all_cpus(frozenset(bad))}",
    )


def _compared(facts: Facts) -> Iterator[MsrReading]:
    """Readings of what the module compares; some can be read in SEAM mode alone."""
    for msr in facts.table.by_address.values():
        if msr.compared:
            yield facts.msr(msr.address)


def seamldr_svn(facts: Facts) -> Found:
    """The SEAM loader's version."""
    reading = facts.msr(SGX_SVN_STATUS)
    if reading.faults:
        return not_checked(_faults(facts, reading))
    versions = {value >> 56 for value in reading.values.values()}
    if 0 in versions:
        return warned(shown(facts, reading))
    return passed(f"SEAM loader SVN {_numbers(versions)}")


def sgx(facts: Facts) -> Found:
    """SGX as Linux sees it."""
    if all("sgx" in cpu.flags for cpu in facts.cpus):
        return passed("sgx on every CPU")
    return warned("sgx is not among the features in /proc/cpuinfo")


LOOKS: Mapping[str, Look] = {
    "firmware.tme-algorithm": tme_algorithm,
    "firmware.keyids": keyids,
    "firmware.seamrr": seamrr,
    "firmware.smrr-memory": smrr_memory,
    "firmware.address-bits": address_bits,
    "firmware.alike": alike,
    "firmware.seamldr-svn": seamldr_svn,
    "firmware.sgx": sgx,
}
