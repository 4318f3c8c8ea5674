# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of the kernel: what it uses of the machine, and what it lets the driver do."""

from collections.abc import Mapping, Sequence

from tdxhost.doctor.engine import (
    Found,
    Look,
    failed,
    not_applicable,
    not_checked,
    passed,
    warned,
)
from tdxhost.doctor.facts import Facts
from tdxhost.errors import DriverMissing, NotRead, Why
from tdxhost.processors import Missing
from tdxhost.records import ModuleStatus, Provider
from tdxhost.topology import format_cpu_list
from tdxhost.wording import config_not_pending
from tdxhost.words import count, span

TSX_CTRL = 0x122
#: 1 where a kernel is ready for kexec (Linux Documentation/ABI/testing/sysfs-kernel-kexec-kdump).
KEXEC_LOADED = "/sys/kernel/kexec_loaded"
MIB, GIB = 1 << 20, 1 << 30
#: Reserved areas of a TDMR; TDX module ABI spec, TDMR_INFO.
RESERVED_AREAS = 16
#: Linux that takes holes from CMRs: x86/virt/tdx: Reduce TDMR's reserved areas.
FEWER_HOLES = (6, 13)
#: Linux whose tdx_enable() is exported to KVM alone; README, Kernels.
KVM_ALONE = ((6, 19), (7, 0))

#: Parameters that get in the way, and how.
PARAMETERS = {
    "mem=": "hides memory from Linux, not from the TDX module",
    "clearcpuid=": "hides features of the processor",
    "efi_fake_mem=": "changes the memory map",
    "acpi=off": "keeps Linux from firmware's list of processors",
    "tdx_host=off": "switches the kernel's TDX support off",
    "kvm_intel.tdx=0": "switches KVM's use of TDX off",
    "dis_ucode_ldr": "keeps microcode updates out",
}
PROVIDERS = {
    Provider.DIRECT: "the driver does all of it (provider direct)",
    Provider.KERNEL: "the kernel's tdx_enable(), called by the driver (provider kernel)",
    Provider.OBSERVER: "the kernel does, by itself or for KVM; the driver looks on (observer)",
}


def cpus(facts: Facts) -> Found:
    """Processors that firmware enabled against those that Linux uses."""
    state = facts.state_or_none
    if state and state.module.module_status is ModuleStatus.INITIALIZED:
        return passed("TDX is initialized: every processor was there")
    missing = state.missing if state else _missing(facts)
    left_out = missing.apic_ids or ()
    if not missing.offline and not left_out:
        known = "" if missing.apic_ids is not None else "; firmware's own list needs root"
        return passed(f"{count(len(facts.online), 'CPU')} online, none offline{known}")
    told = [f"offline: CPUs {format_cpu_list(missing.offline)}"] if missing.offline else []
    if left_out:
        told.append(f"without a CPU number: {count(len(left_out), 'processor')}")
    told += [f"the command line has {word}" for word in facts.processors.limits]
    _, hint = config_not_pending(missing, facts.processors)
    return failed("; ".join(told), missing.offline, fix=hint)


def _missing(facts: Facts) -> Missing:
    """Without the driver there are no APIC ids to compare with, but their number."""
    offline = tuple(sorted(set(facts.present) - set(facts.online)))
    firmware = facts.processors.apic_ids
    if firmware is None:
        return Missing(offline, offline, None)
    spare = len(firmware) - len(facts.present)
    return Missing(offline, offline, tuple(sorted(firmware)[-spare:]) if spare > 0 else ())


def provider(facts: Facts) -> Found:
    """Who initialises TDX on this kernel."""
    chosen = facts.provider
    if chosen is None:
        return not_checked(
            "neither the driver nor the kernel's configuration is there to say",
            "Load the driver: sudo modprobe tdxhost",
        )
    told = f"Linux {facts.release}: {PROVIDERS[chosen]}"
    if chosen is Provider.OBSERVER and facts.kernel_version in KVM_ALONE:
        return warned(
            told,
            fails="this kernel initialises TDX for KVM alone",
            fix="Load KVM with kvm_intel.tdx=1, or the driver with provider=kernel.",
        )
    return passed(told)


def driver(facts: Facts) -> Found:
    """Whether it is loaded, and can be opened."""
    try:
        state = facts.state
    except DriverMissing as error:
        return warned(error.message, fix=error.hint)
    return passed(f"loaded, provider {state.info.provider.label}")


def lockdown(facts: Facts) -> Found:
    """Kernel lockdown."""
    access = facts.access
    if not access.lockdown:
        return not_applicable("this kernel has no lockdown")
    if access.locked_down:
        return failed(f"lockdown is {access.lockdown}", fix=access.way_out)
    return passed("none")


def module_signing(facts: Facts) -> Found:
    """Whether the kernel takes drivers without a signature that it trusts."""
    if not facts.access.signed_only:
        return passed("drivers without a signature are taken")
    if facts.state_or_none:
        return passed("signed ones only, and the driver is loaded")
    return warned("sig_enforce is Y", fix=facts.access.in_the_way)


def hibernation(facts: Facts) -> Found:
    """Hibernation against the kernel's own TDX support."""
    if facts.provider is Provider.DIRECT:
        return not_applicable("the driver refuses hibernation by itself while TDX is up")
    if "disk" not in facts.host.text("/sys/power/state").split():
        return passed("/sys/power/state has no disk")
    state = facts.state_or_none
    if state and state.module.module_status is ModuleStatus.INITIALIZED:
        return passed("offered, and TDX came up before it was")
    return failed("/sys/power/state has disk")


def s3(facts: Facts) -> Found:
    """Suspend to RAM, which somebody has to refuse while TDX is up."""
    if "deep" not in facts.host.text_or("/sys/power/mem_sleep"):
        return passed("not offered")
    if facts.provider in (Provider.KERNEL, Provider.OBSERVER):
        return passed("offered; the kernel's TDX support switches it off where firmware has TDX on")
    if facts.state_or_none or facts.host.has("/sys/module/tdxhost"):
        return passed("offered; the driver refuses it once a CPU is enabled")
    return warned("/sys/power/mem_sleep has deep, and the driver is not loaded")


def kexec(facts: Facts) -> Found:
    """A next kernel that does not come through firmware, where partial writes do harm."""
    if not (facts.model and facts.model.partial_write):
        return not_applicable("this processor has no partial-write machine check erratum")
    try:
        loaded = facts.host.text(KEXEC_LOADED)
    except NotRead as error:
        if error.why is not Why.ABSENT:
            raise
        return passed("this kernel has no kexec")
    told = f"{facts.model.name}, {KEXEC_LOADED} is {loaded}"
    return passed(told) if loaded == "0" else warned(told)


def x2apic(facts: Facts) -> Found:
    """The mode of the APIC that TDX hosts run in."""
    if "nox2apic" in facts.words:
        return failed("the command line has nox2apic")
    lacking = [cpu.number for cpu in facts.cpus if "x2apic" not in cpu.flags]
    if lacking:
        return failed("x2apic is not among the features in /proc/cpuinfo", lacking)
    return passed("x2apic on every CPU")


def tsx(facts: Facts) -> Found:
    """TSX control, which hides CPUID bits."""
    reading = facts.msr(TSX_CTRL)
    if reading.faults:
        return not_applicable("the processor has no IA32_TSX_CTRL")
    groups = reading.groups()
    told = ", ".join(f"{value:#x} on {facts.all_cpus(cpus)}" for value, cpus in groups)
    if len(groups) > 1:
        return warned(f"{reading.label} is {told}", groups[-1][1])
    return passed(f"{reading.label} is {told}")


def command_line(facts: Facts) -> Found:
    """Parameters that are known to get in the way."""
    found = {
        word: why
        for word in facts.words
        for begin, why in PARAMETERS.items()
        if word.startswith(begin)
    }
    if found:
        return warned("; ".join(f"{word} {why}" for word, why in found.items()))
    told = " ".join(facts.words)
    return passed(told or "none that bears on TDX")


def reserved_areas(facts: Facts) -> Found:
    """Holes in a TDMR, where the kernel reserves each of them."""
    if facts.provider is not Provider.KERNEL or facts.kernel_version >= FEWER_HOLES:
        return not_applicable("whoever initialises TDX here takes holes from CMRs")
    memory = [range(max(ram.first, MIB), ram.last + 1) for ram in facts.ram if ram.last >= MIB]
    holes = {tdmr: _holes(tdmr, memory) for tdmr in _tdmrs(memory)}
    fullest = max(holes, key=holes.__getitem__, default=None)
    if fullest is None:
        return not_checked("/proc/iomem has no RAM")
    where = span(fullest.start, len(fullest))
    told = f"{count(holes[fullest], 'hole')} in the TDMR {where}, and no TDMR has more"
    return failed(told) if holes[fullest] > RESERVED_AREAS else passed(told)


def _tdmrs(memory: Sequence[range]) -> list[range]:
    """TDMRs that Linux lays over memory; Linux 6.12 tdx.c, fill_out_tdmrs()."""
    made: list[range] = []
    for part in memory:
        first, end = part.start // GIB * GIB, -(-part.stop // GIB) * GIB
        covered = made[-1].stop if made else 0
        if end > covered:
            made.append(range(max(first, covered), end))
    return made


def _holes(tdmr: range, memory: Sequence[range]) -> int:
    """How many there are before, between and behind memory."""
    holes, at = 0, tdmr.start
    for part in memory:
        if part.stop > tdmr.start and part.start < tdmr.stop:
            holes += part.start > at
            at = part.stop
    return holes + (at < tdmr.stop)


LOOKS: Mapping[str, Look] = {
    "kernel.cpus": cpus,
    "kernel.provider": provider,
    "kernel.driver": driver,
    "kernel.lockdown": lockdown,
    "kernel.module-signing": module_signing,
    "kernel.hibernation": hibernation,
    "kernel.s3": s3,
    "kernel.kexec": kexec,
    "kernel.x2apic": x2apic,
    "kernel.tsx": tsx,
    "kernel.command-line": command_line,
    "kernel.reserved-areas": reserved_areas,
}
