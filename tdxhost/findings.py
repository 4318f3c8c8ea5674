# SPDX-License-Identifier: GPL-2.0-or-later
"""What the driver found, in words, and the exit code that it comes to.

The only place that decides either.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tdxhost.errors import ExitCode, errno_text
from tdxhost.leaves import leaf_name
from tdxhost.records import (
    Code,
    CpuResult,
    CpuState,
    EnableResult,
    Info,
    ModuleStatus,
    Status,
    Step,
    StepResult,
)
from tdxhost.status import Decoded, Reference
from tdxhost.topology import format_cpu_list

#: Findings that say that this host, not one CPU of it, has no usable TDX.
ABSENT = frozenset(
    {
        Code.NO_MODULE,
        Code.NO_KEYIDS,
        Code.ONE_KEYID,
        Code.NO_VMX,
        Code.VMX_LOCKED_OFF,
        Code.NO_SEAMRR,
        Code.NO_MOVDIR64B,
    }
)

#: Findings about the module as a whole, whichever CPU they name.
ABOUT_MODULE = frozenset({Code.CPU_NOT_ENABLED, Code.EARLIER_FAILURE, Code.FINAL})

BIOS_TDX = (
    "Turn on in the BIOS, under processor configuration: Total Memory Encryption (TME), "
    "TME Multi-Tenant (TME-MT), Trust Domain Extension (TDX), the TDX SEAM loader, and a "
    "TME-MT/TDX key split above 0. Then power-cycle."
)
BIOS_LOADER = (
    "Turn on the TDX SEAM loader in the BIOS, or update the BIOS: it loads the TDX module at "
    "boot (some platforms take it from EFI/TDX on the EFI system partition)."
)
REPORT_CPU = "Compare this CPU's firmware settings and microcode with the other CPUs'."
REBOOT = "Only a reboot makes the TDX module usable again."
RETRY = "Once the cause is gone: sudo tdxhost enable --retry"

TRAPS = {
    6: "#UD, invalid opcode: the CPU is not in VMX operation, or has no SEAM",
    13: "#GP, general protection: the SEAM range is not enabled",
}

#: Finding to what happened and what to do. {leaf} and {trap} are filled in.
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
        "and {cpu} is not",
        "Once every CPU can be enabled: sudo tdxhost enable --retry",
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
        "tdxhost memory lists the ranges. CXL, persistent or hot-plugged memory is not "
        "convertible: keep it out of System RAM.",
    ),
    Code.TOO_MANY_TDMRS: (
        "memory is so scattered that it needs more TDMRs than the TDX module has",
        "tdxhost memory shows the ranges; undo memmap= and similar on the kernel command line.",
    ),
    Code.TOO_MANY_RESERVED: (
        "memory has more holes than a TDMR has reserved areas",
        "tdxhost memory shows the ranges; undo memmap= and similar on the kernel command line.",
    ),
    Code.NO_MEMORY: (
        "there was not enough free memory for the TDX module's page metadata",
        "Free memory (drop caches, huge pages), then: sudo tdxhost enable --retry",
    ),
    Code.PACKAGE_OFFLINE: (
        "a package has no online CPU to configure its key on",
        "Bring a CPU of every package online, then: sudo tdxhost enable --retry",
    ),
    Code.EARLIER_FAILURE: (
        "the TDX module is in state error since an earlier failure, and was left alone",
        RETRY,
    ),
    Code.FINAL: ("the TDX module can't be initialised any more since that failure", REBOOT),
    Code.INTERRUPTED: (
        "a signal ended the initialisation between two steps",
        "Go on with: sudo tdxhost enable",
    ),
    Code.NO_MOVDIR64B: (
        "the CPU lacks MOVDIR64B, which clears memory that TDX has used",
        "Update BIOS and microcode, and look for clearcpuid= on the kernel command line.",
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: what happened, and what to do."""

    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a command came to."""

    exit_code: ExitCode
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a struct of the ABI says about one attempt."""

    code: Code
    error: int
    leaf: int = 0
    seam_status: int = 0
    trap: int = 0
    registers: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, result: EnableResult | Status | CpuResult | StepResult) -> "Outcome":
        """Takes the attempt out of a record."""
        registers = {}
        if isinstance(result, CpuResult | StepResult):
            registers = {"rcx": result.rcx, "rdx": result.rdx, "r8": result.r8}
        return cls(
            code=result.code,
            error=result.error,
            leaf=result.leaf,
            seam_status=result.seam_status,
            trap=result.trap,
            registers=registers,
        )


@dataclass
class Judge:
    """Puts what the driver found in words and decides on the exit code."""

    reference: Reference = field(default_factory=Reference)

    def explain(self, outcome: Outcome, where: str = "", cpu: str = "") -> Finding:
        """Says what happened; where ("CPU 3: ") begins the message, cpu is what it is about."""
        if outcome.code is Code.SEAMCALL:
            return self._explain_seamcall(outcome, where)
        message, hint = TEXTS.get(outcome.code, ("", ""))
        if not message:
            message = f"failed: {errno_text(outcome.error)}" if outcome.error else "failed"
            if outcome.code is not Code.NONE:
                message += f" (finding {outcome.code} of the driver, newer than this package)"
        trap = TRAPS.get(outcome.trap, f"vector {outcome.trap}")
        return Finding(
            where
            + message.format(
                leaf=leaf_name(outcome.leaf) if outcome.leaf else "SEAMCALL",
                trap=trap,
                with_trap=f" with {trap}" if outcome.trap else "",
                cpu=cpu or "one",
            ),
            hint,
        )

    def _explain_seamcall(self, outcome: Outcome, where: str) -> Finding:
        decoded = self.decode(outcome)
        says = f": {decoded.says.removesuffix('.')}" if decoded.says else ""
        message = f"{where}{leaf_name(outcome.leaf)}: {decoded.label}{says}"
        return Finding(message, decoded.what_to_do)

    def decode(self, outcome: Outcome) -> Decoded:
        """Decodes the completion status of an attempt."""
        return self.reference.decode(outcome.seam_status, outcome.leaf, outcome.registers)

    def host(self, info: Info) -> Verdict | None:
        """The verdict on a host that can't use TDX; None when it can."""
        if info.code is Code.NONE:
            return None
        code = ExitCode.ABSENT if info.code in ABSENT else ExitCode.FAILED
        return Verdict(code, (self.explain(Outcome(code=info.code, error=0)),))

    def cpus(self, cpus: Iterable[CpuResult]) -> Verdict:
        """The verdict on CPUs: absent only when all that were tried say the same."""
        tried = [cpu for cpu in cpus if cpu.tried or cpu.state is CpuState.FAILED]
        failed = [cpu for cpu in tried if cpu.state is CpuState.FAILED]
        if not failed:
            return Verdict(ExitCode.OK)
        codes = {cpu.code for cpu in failed}
        if len(failed) == len(tried) and len(codes) == 1 and codes <= ABSENT:
            return Verdict(ExitCode.ABSENT, (self.explain(Outcome.of(failed[0])),))
        return Verdict(ExitCode.FAILED, tuple(self._alike(failed)))

    def _alike(self, failed: Sequence[CpuResult]) -> Iterable[Finding]:
        """One finding for all CPUs that failed in the same way."""
        groups: dict[tuple[object, ...], list[CpuResult]] = {}
        for cpu in failed:
            key = (cpu.code, cpu.error, cpu.leaf, cpu.seam_status, cpu.trap)
            groups.setdefault(key, []).append(cpu)
        for group in groups.values():
            where = f"{cpus_named([cpu.cpu for cpu in group])}: "
            yield self.explain(Outcome.of(group[0]), where)

    def module(self, result: EnableResult | Status) -> Verdict:
        """The verdict on tdx_enable()."""
        failed = result.error or result.module_status is ModuleStatus.ERROR
        if not failed and result.code is Code.NONE:
            return Verdict(ExitCode.OK)
        code = ExitCode.ABSENT if result.code in ABSENT else ExitCode.FAILED
        return Verdict(code, (self.step(result),))

    def missing(self, cpus: Iterable[CpuResult]) -> Verdict:
        """The verdict on a module that was left alone because these CPUs are not enabled."""
        failed = [cpu.cpu for cpu in cpus if cpu.state is CpuState.FAILED]
        outcome = Outcome(code=Code.CPU_NOT_ENABLED, error=0)
        where = f"step {Step.CPUS.label}: "
        return Verdict(ExitCode.FAILED, (self.explain(outcome, where, cpus_named(failed)),))

    def step(self, result: EnableResult | Status | StepResult) -> Finding:
        """Says how a step, or tdx_enable() at it, failed."""
        cpu = "" if result.cpu is None else cpus_named([result.cpu])
        return self.explain(Outcome.of(result), step_where(result), cpu)


def cpus_named(cpus: Sequence[int]) -> str:
    """CPUs as a message names them: CPU 3, CPUs 0-2,8."""
    return f"CPU{'s' if len(cpus) > 1 else ''} {format_cpu_list(cpus)}"


def step_where(result: EnableResult | Status | StepResult) -> str:
    """Begins a message about a step, such as "step config: " or "step cpus, CPU 3: "."""
    about_cpu = result.cpu is not None and result.code not in ABOUT_MODULE
    if result.step is Step.NONE:
        return f"CPU {result.cpu}: " if about_cpu else ""
    cpu = f", CPU {result.cpu}" if about_cpu else ""
    return f"step {result.step.label}{cpu}: "


def combine(*verdicts: Verdict | None) -> Verdict:
    """One verdict of many: the first absent one alone, else everything that failed."""
    given = [verdict for verdict in verdicts if verdict is not None]
    for verdict in given:
        if verdict.exit_code is ExitCode.ABSENT:
            return verdict
    findings = tuple(dict.fromkeys(found for verdict in given for found in verdict.findings))
    code = max((verdict.exit_code for verdict in given), default=ExitCode.OK)
    return Verdict(code, findings)
