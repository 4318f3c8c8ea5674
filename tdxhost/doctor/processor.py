# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of processors: the right ones, alike, and with microcode."""

from collections.abc import Callable, Mapping

from tdxhost.doctor.engine import Found, Look, failed, passed, warned
from tdxhost.doctor.facts import Cpu, Facts
from tdxhost.errors import NotRead

#: Instructions by their flag in /proc/cpuinfo; Linux 7.3 arch/x86/virt/vmx/tdx/tdx.c, tdx_enable().
INSTRUCTIONS = {"movdir64b": "MOVDIR64B", "ss": "self-snoop", "xsave": "XSAVE"}
#: IA32_MTRRCAP, bit 15: SEAMRR.
MTRRCAP, SEAMRR = 0xFE, 1 << 15


def vendor(facts: Facts) -> Found:
    """Intel, all of them."""
    others = {cpu.vendor for cpu in facts.cpus} - {"GenuineIntel"}
    if others:
        return failed(f"/proc/cpuinfo has vendor {', '.join(sorted(others))}")
    return passed(f"GenuineIntel, {facts.cpus[0].name or 'without a name'}")


def generation(facts: Facts) -> Found:
    """One that is known to have TDX, or that has the registers for it."""
    cpu = facts.cpus[0]
    known = facts.model
    told = f"{cpu.name}, family {cpu.family}, model {cpu.model}, stepping {cpu.stepping}"
    if known:
        return passed(f"{known.name}: {told}")
    if _has_seamrr(facts):
        return warned(
            f"{told}: newer than this tdxhost",
            fails="the processor is newer than this tdxhost, and has a SEAM range",
            fix="Go on; a newer tdxhost knows it by name.",
        )
    return failed(told)


def _has_seamrr(facts: Facts) -> bool:
    try:
        return any(value & SEAMRR for value in facts.msr(MTRRCAP).values.values())
    except NotRead:
        return False


def bare_metal(facts: Facts) -> Found:
    """No hypervisor below."""
    if any("hypervisor" in cpu.flags for cpu in facts.cpus):
        maker = facts.host.text_or("/sys/hypervisor/type")
        return failed(f"CPUID says that a hypervisor runs below{f': {maker}' if maker else ''}")
    return passed("no hypervisor shows")


def vmx(facts: Facts) -> Found:
    """VMX; Linux hides it where firmware has locked it off, and then its MSR is still there."""
    lacking = [cpu.number for cpu in facts.cpus if "vmx" not in cpu.flags]
    if not lacking:
        return passed("vmx on every CPU")
    try:
        if not facts.msr(0x3A).faults:
            return passed("the processor has it; Linux does not use it, see firmware.vmx")
    except NotRead:
        pass
    return failed(f"vmx is not among the features of {facts.all_cpus(tuple(lacking))}", lacking)


def instructions(facts: Facts) -> Found:
    """What Linux and the driver use of a TDX-capable processor."""
    lacking = {
        name: tuple(cpu.number for cpu in facts.cpus if flag not in cpu.flags)
        for flag, name in INSTRUCTIONS.items()
    }
    missing = {name: cpus for name, cpus in lacking.items() if cpus}
    if not missing:
        return passed(f"{', '.join(INSTRUCTIONS.values())} on every CPU")
    told = [f"no {name} on {facts.all_cpus(cpus)}" for name, cpus in missing.items()]
    return failed("; ".join(told), {cpu for cpus in missing.values() for cpu in cpus})


def alike(facts: Facts) -> Found:
    """The same signature and microcode on all."""
    signatures = _by(facts, lambda cpu: cpu.signature)
    revisions = _by(facts, lambda cpu: cpu.microcode)
    if len(signatures) == 1 and len(revisions) == 1:
        revision = facts.cpus[0].microcode
        return passed(f"{facts.cpus[0].signature}, microcode {revision or 'unknown'} on every CPU")
    differing = signatures if len(signatures) > 1 else revisions
    told = ", ".join(f"{value} on {facts.all_cpus(cpus)}" for value, cpus in differing.items())
    what = "signatures" if len(signatures) > 1 else "microcode"
    # Of two that are as many, those that the boot CPU is not among.
    fewest = min(differing.values(), key=lambda cpus: (len(cpus), -cpus[0]))
    return failed(
        f"{what}: {told}", fewest, fails=f"CPUs differ in {what}: {facts.all_cpus(fewest)}"
    )


def _by(facts: Facts, key: Callable[[Cpu], str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = {}
    for cpu in facts.cpus:
        found.setdefault(key(cpu), []).append(cpu.number)
    return {value: tuple(cpus) for value, cpus in found.items()}


def microcode(facts: Facts) -> Found:
    """A revision that is not 0."""
    bare = [cpu.number for cpu in facts.cpus if cpu.microcode in ("", "0x0")]
    revisions = sorted({cpu.microcode for cpu in facts.cpus})
    if bare:
        return warned(f"no revision on {facts.all_cpus(tuple(bare))}", bare)
    return passed(f"revision {', '.join(revisions)}")


LOOKS: Mapping[str, Look] = {
    "processor.vendor": vendor,
    "processor.generation": generation,
    "processor.bare-metal": bare_metal,
    "processor.vmx": vmx,
    "processor.instructions": instructions,
    "processor.alike": alike,
    "processor.microcode": microcode,
}
