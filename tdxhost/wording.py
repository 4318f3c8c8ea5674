# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said of each finding of the driver's and of memory. Decides nothing."""

from collections.abc import Callable, Mapping, Sequence

from tdxhost.processors import Missing, Processors
from tdxhost.records import Code, Memory, ModuleStatus, Range, RangeKind, Status, Step
from tdxhost.state import Outcome
from tdxhost.topology import format_cpu_list
from tdxhost.words import count, size, span

BIOS_TDX = (
    "Turn on in the BIOS, under processor configuration: Total Memory Encryption (TME), "
    "TME Multi-Tenant (TME-MT), Trust Domain Extension (TDX), the TDX SEAM loader, and a "
    "TME-MT/TDX key split above 0. Then power-cycle. What is missing: sudo tdxhost doctor"
)
BIOS_LOADER = (
    "Turn on the TDX SEAM loader in the BIOS, or update the BIOS: it loads the TDX module at "
    "boot (some platforms take it from EFI/TDX on the EFI system partition)."
)
REPORT_CPU = "Compare this CPU's firmware settings and microcode with the other CPUs'."
SEE_STATUS = "See how it stands with: sudo tdxhost status"
MEMORY_MAP = "tdxhost memory shows the ranges; undo memmap= and similar on the kernel command line."

WAITS = "the TDX module waits for every processor that firmware enabled"
CONFIGURED_BEFORE = (
    "the TDX module was configured before, and takes no more CPUs",
    "An earlier kernel (kexec) or driver has done that; a reboot takes it back.",
)
#: TDX_SYS_NOT_READY of TDH.SYS.RD, once TDH.SYS.LP.INIT was done (TDX module 1.0 ABI spec).
NO_METADATA = (
    "this is a TDX module of the 1.0 series, which has no such leaf",
    "Update the BIOS, or put a 1.5 module on the EFI system partition (EFI/TDX).",
)
NONE_MISSING = (
    "every processor in ACPI's list (MADT) is enabled: firmware enabled more than it lists, or the "
    "TDX module was configured meanwhile",
    "Reboot; if it is so again, update the BIOS.",
)
SMT_ON = "Turn hyperthreads on: echo on | sudo tee /sys/devices/system/cpu/smt/control"
SMT_FORCED = "Boot without nosmt=force: until then, hyperthreads can't be turned on."
PASSED_OVER = "Boot with every processor; why some were passed over: sudo dmesg | grep -i apic"

TRAPS = {
    6: "#UD, invalid opcode: the CPU is not in VMX operation, or has no SEAM",
    13: "#GP, general protection: the SEAM range is not enabled",
}

#: Finding to what happened and what to do about it. {leaf} and {trap} are filled in.
TEXTS: Mapping[Code, tuple[str, str]] = {
    Code.NO_MODULE: (
        "the TDX module is not loaded: {leaf} answered VMfailInvalid",
        BIOS_LOADER,
    ),
    Code.TRAP: ("{leaf} faulted with {trap}", REPORT_CPU),
    Code.NO_KEYIDS: (
        "TDX is off: firmware set no private KeyIDs aside (MSR 0x87, bits 63:32)",
        BIOS_TDX,
    ),
    Code.ONE_KEYID: (
        "firmware set only one private KeyID aside (MSR 0x87, bits 63:32), and TDX needs two: "
        "one for the TDX module and one for each TD",
        "Give TDX a larger share of the KeyIDs in the BIOS: the TME-MT/TDX key split.",
    ),
    Code.NO_VMX: (
        "the CPU does not offer VMX",
        "Turn on Intel VT-x (VMX) in the BIOS; in a virtual machine, TDX can't be brought up.",
    ),
    Code.VMX_LOCKED_OFF: (
        "firmware locked VMX off (IA32_FEATURE_CONTROL, MSR 0x3a: locked, VMX outside SMX clear)",
        "Turn on Intel VT-x (VMX) in the BIOS, then power-cycle.",
    ),
    Code.VMXON_FAILED: (
        "VMXON failed{with_trap}",
        "See the kernel log; another hypervisor may hold VMX.",
    ),
    Code.NO_SEAMRR: (
        "the SEAM range is not enabled (IA32_SEAMRR_PHYS_MASK, MSR 0x1401, bit 11)",
        BIOS_TDX,
    ),
    Code.CPU_NOT_ENABLED: (
        "the TDX module was not initialised: every online CPU must be enabled first, "
        "and {cpu} {be} not",
        "Taking the CPU offline is no way out: the TDX module counts every CPU that firmware "
        "has enabled.",
    ),
    Code.CPU_OFFLINE: (
        "the CPU is offline",
        "Bring it online: echo 1 > /sys/devices/system/cpu/cpuN/online",
    ),
    Code.BAD_METADATA: (
        "the TDX module's metadata makes no sense",
        "Update the TDX module (BIOS); attach the output of tdxhost info to a bug report.",
    ),
    Code.NO_CMRS: (
        "the TDX module lists no convertible memory",
        "Update the BIOS, and check that all memory is of a kind that TDX supports.",
    ),
    Code.RAM_OUTSIDE_CMR: (
        "there is System RAM outside all convertible memory",
        "CXL, persistent or hot-plugged memory is not convertible: keep it out of System RAM, or "
        "take it offline (chmem --disable).",
    ),
    Code.TOO_MANY_TDMRS: (
        "memory is so scattered that it needs more TDMRs than the TDX module has",
        MEMORY_MAP,
    ),
    Code.TOO_MANY_RESERVED: ("memory has more holes than a TDMR has reserved areas", MEMORY_MAP),
    Code.NO_MEMORY: (
        "there was not enough free memory",
        "Free memory (drop caches, huge pages).",
    ),
    Code.PACKAGE_OFFLINE: (
        "a package has no online CPU to configure its key on",
        "Bring a CPU of every package online.",
    ),
    Code.EARLIER_FAILURE: (
        "the TDX module is in state error since an earlier failure, and was left alone",
        "",
    ),
    Code.FINAL: ("the TDX module can't be initialised any more since that failure", ""),
    Code.INTERRUPTED: ("a signal ended the initialisation; what was done stays done", ""),
    Code.NO_MOVDIR64B: (
        "the CPU lacks MOVDIR64B, which clears memory that TDX has used",
        "Update BIOS and microcode, and look for clearcpuid= on the kernel command line.",
    ),
    Code.KERNEL: (
        "the kernel's own initialisation of the TDX module failed",
        "The kernel says what the TDX module answered: sudo tdxhost decode --dmesg",
    ),
    Code.VMX_BUSY: (
        "KVM was just turning VMX on or off",
        "Try again when KVM has been loaded, or unloaded.",
    ),
}

#: VMfailInvalid from a TDX module that had answered before: no fault of the BIOS's.
GONE = (
    "the TDX module is gone: {leaf} answered VMfailInvalid, and SEAMCALLs before it succeeded",
    "It is being replaced by P-SEAMLDR, was shut down, or stopped for good on a fault of its own.",
)

#: Ranges that a message names; tdxhost memory and the documents have all.
NAMED_RANGES = 16


#: What GET_STATUS counts at a step (struct tdxhost_status).
UNITS = {
    Step.PLATFORM: "CPUs",
    Step.PAMT_ALLOC: "TDMRs",
    Step.KEY_CONFIG: "packages",
    Step.TDMR_INIT: "GiB",
}


def specific(outcome: Outcome, memory: Memory) -> str:
    """Says which memory and how much of what; empty where the driver did not tell."""
    say = SPECIFIC.get(outcome.code)
    return say(outcome, memory) if say else ""


def _outside(outcome: Outcome, memory: Memory) -> str:
    ranges = memory.of_kind(RangeKind.OUTSIDE)
    if ranges:
        total = size(memory.bytes_of(RangeKind.OUTSIDE))
        return f"{total} of System RAM outside all convertible memory: {named(ranges)}"
    if outcome.bytes:
        first = span(outcome.base_pa, outcome.bytes)
        return f"there is System RAM outside all convertible memory, the first at {first}"
    return ""


def _too_many_tdmrs(outcome: Outcome, _: Memory) -> str:
    if not outcome.needed:
        return ""
    if outcome.bytes:
        in_use = count(outcome.limit, "TDMR")
        return f"the TDMR {_place(outcome)} has too many holes for one, and all {in_use} are in use"
    there = f", and the TDX module has {outcome.limit}" if outcome.limit else ""
    return f"memory needs {count(outcome.needed, 'TDMR')} at least{there}"


def _too_many_reserved(outcome: Outcome, _: Memory) -> str:
    if not outcome.needed:
        return ""
    where = f"memory at {_place(outcome)}" if outcome.bytes else "a TDMR"
    there = f", and a TDMR has {outcome.limit}" if outcome.limit else ""
    return f"{where} needs {count(outcome.needed, 'reserved area')}{there}"


def _no_memory(outcome: Outcome, memory: Memory) -> str:
    if not outcome.needed:
        return ""
    what = f"no room for {size(outcome.needed)} of page metadata (PAMT) in one piece"
    there = f" (at most {size(outcome.limit)})" if outcome.limit else ""
    where = f", for the TDMR {_place(outcome)}{_on_nodes(outcome, memory)}" if outcome.bytes else ""
    return what + there + where


def _place(outcome: Outcome) -> str:
    return f"{span(outcome.base_pa, outcome.bytes)} ({size(outcome.bytes)})"


def _on_nodes(outcome: Outcome, memory: Memory) -> str:
    """The TDMRs of a failed attempt are gone, but System RAM still knows its nodes."""
    end = outcome.base_pa + outcome.bytes
    nodes = {
        ram.node
        for ram in memory.of_kind(RangeKind.RAM)
        if ram.base_pa < end and ram.base_pa + ram.bytes > outcome.base_pa and ram.node is not None
    }
    listed = " and ".join(map(str, sorted(nodes)))
    return f" on node{'s' if len(nodes) > 1 else ''} {listed}" if nodes else ""


SPECIFIC: Mapping[Code, Callable[[Outcome, Memory], str]] = {
    Code.RAM_OUTSIDE_CMR: _outside,
    Code.TOO_MANY_TDMRS: _too_many_tdmrs,
    Code.TOO_MANY_RESERVED: _too_many_reserved,
    Code.NO_MEMORY: _no_memory,
}


def named(ranges: Sequence[Range]) -> str:
    """Ranges in a message: first and last byte, and sizes where there are several."""
    if len(ranges) == 1:
        return span(ranges[0].base_pa, ranges[0].bytes)
    told = [f"{span(r.base_pa, r.bytes)} ({size(r.bytes)})" for r in ranges[:NAMED_RANGES]]
    if more := len(ranges) - len(told):
        told.append(f"and {more} more (tdxhost memory lists all)")
    return ", ".join(told)


def outside_memory(memory: Memory) -> str:
    """Says how much System RAM TDX can't use, and where; empty when there is none."""
    ranges = memory.of_kind(RangeKind.OUTSIDE)
    if not ranges:
        return ""
    return (
        f"{size(memory.bytes_of(RangeKind.OUTSIDE))} of System RAM outside all convertible memory "
        f"stays with the kernel and can't be given to a TD: {named(ranges)}"
    )


def pamt_after_failure(status: Status) -> str:
    """Says whose the memory for PAMTs is when tdx_enable() did not come to its end."""
    if status.running or status.module_status is ModuleStatus.INITIALIZED:
        return ""
    if status.pamt_bytes is None:
        return ""
    if status.module_has_pamts:
        return (
            f"PAMT: {size(status.pamt_bytes)}, which belong to the TDX module since "
            "TDH.SYS.CONFIG, and stay with it"
        )
    if status.step >= Step.PAMT_ALLOC and not status.pamt_bytes:
        return "PAMT: 0 B; what was allocated was given back"
    return ""


def progress(status: Status) -> str:
    """Says how far the current step is, such as 3 of 8 GiB; empty where that is not known."""
    if status.step is Step.CPUS:
        return f"{status.cpus_enabled} of {count(status.cpus_online, 'CPU')}"
    if not status.progress_total or status.step not in UNITS:
        return ""
    return f"{status.progress} of {status.progress_total} {UNITS[status.step]}"


def cpus_named(cpus: Sequence[int]) -> str:
    """CPUs as a message names them: CPU 3, CPUs 0-2,8."""
    return f"CPU{'s' if len(cpus) > 1 else ''} {format_cpu_list(cpus)}"


def config_not_pending(missing: Missing, processors: Processors) -> tuple[str, str]:
    """Says why TDH.SYS.CONFIG can't go ahead, and what to do; empty where that is not known."""
    if missing.apic_ids is None and not missing.cpus:
        return "", ""
    who = [_never_enabled(missing)] if missing.cpus else []
    if missing.apic_ids:
        ids = f"APIC id{'s' if len(missing.apic_ids) > 1 else ''}"
        who.append(f"Linux has no CPU for {ids} {format_cpu_list(missing.apic_ids)}")
    if not who:
        return NONE_MISSING
    return f"{', and '.join(who)}; {WAITS}", _bring_in(missing, processors)


def _never_enabled(missing: Missing) -> str:
    if missing.offline != missing.cpus:
        return f"not enabled: {cpus_named(missing.cpus)}"
    are = "are offline and were" if len(missing.cpus) > 1 else "is offline and was"
    return f"{cpus_named(missing.cpus)} {are} never enabled"


def _bring_in(missing: Missing, processors: Processors) -> str:
    advice = []
    if missing.offline and processors.smt == "off":
        advice.append(SMT_ON)
    elif missing.offline and processors.smt == "forceoff":
        advice.append(SMT_FORCED)
    elif missing.offline:
        them = "them" if len(missing.offline) > 1 else "it"
        cpus = format_cpu_list(missing.offline)
        advice.append(f"Bring {them} online: sudo chcpu --enable {cpus}")
    if missing.apic_ids:
        words = " ".join(processors.limits)
        advice.append(f"Boot without {words}" if words else PASSED_OVER)
    return "; ".join(advice)
