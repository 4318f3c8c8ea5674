# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a file matters for TDX; the rest is not looked at, and so never gets into a recording.

Disks, network addresses and serial numbers are in the same files, and are nobody's business.
"""

import re
from collections.abc import Callable, Iterable

#: Kernel parameters that bear on TDX; Linux, kernel-parameters.txt, and parameters of modules.
PARAMETERS = re.compile(
    r"""(?x)
    (tdx|kvm|nohibernate|hibernate=|noresume|maxcpus=|nr_cpus=|possible_cpus=|nosmp|nosmt
    |disable_cpu_apicid=|mem=|memmap=|movable|kernelcore=|memhp_default_state=|memory_hotplug
    |hugepages|default_hugepagesz=|hugetlb|tsx|mitigations=|lockdown=|module\.sig_enforce|numa
    |nox2apic|x2apic|noapic|nolapic|acpi=|clearcpuid=|setcpuid=|dis_ucode_ldr|microcode
    |crashkernel=|efi_fake_mem|efi=|noefi|intel_iommu=|iommu=|mce=|isolcpus=|sgx|nosgx|tdxhost)
    """
)
#: Lines of /proc/iomem that say what memory is.
MEMORY_KINDS = re.compile(
    r"System RAM|Persistent Memory|CXL Window|Reserved|Unusable|ACPI|Soft Reserved|dax|kmem",
    re.IGNORECASE,
)
CPU_FIELDS = re.compile(
    r"(processor|vendor_id|cpu family|model|model name|stepping|microcode|physical id|core id"
    r"|apicid|address sizes)\s*:"
)
CPU_FLAGS = frozenset(
    {"vmx", "smx", "ss", "xsave", "movdir64b", "tme", "pconfig", "x2apic", "hypervisor", "rtm"}
    | {"sgx", "tdx_host_platform", "tdx_guest", "la57", "pku", "pks", "wbnoinvd", "waitpkg"}
)
OPTIONS = re.compile(
    r"(# )?CONFIG_(INTEL_TDX_HOST|INTEL_TDX_GUEST|KVM|KVM_INTEL|KVM_INTEL_TDX|KVM_X86|X86_X2APIC"
    r"|HIBERNATION|SUSPEND|KEXEC_CORE|MODULES|MODULE_SIG|MODULE_SIG_FORCE|SECURITY_LOCKDOWN_LSM"
    r"|LOCK_DOWN_IN_EFI_SECURE_BOOT|X86_MSR|CONTIG_ALLOC|NUMA|MEMORY_HOTPLUG|CXL_BUS|CXL_REGION"
    r"|DEV_DAX_KMEM|TRACEPOINTS|FTRACE|X86_INTEL_TSX_MODE_OFF|X86_INTEL_TSX_MODE_ON"
    r"|X86_INTEL_TSX_MODE_AUTO|KEYS|ARCH_KEEP_MEMBLOCK|TDX_HOST_SERVICES|PREEMPT_RT)[= ]"
)
#: Log lines that bear on TDX, of the kernel and of what people post with it.
LOG_LINES = re.compile(
    r"""(?xi)
    \btdx|seam(call|ldr|rr|\b)|\bkvm|\bt?mk?tme\b|x86/(tme|mktme)|\bVMX\b|microcode|x2apic
    |Linux\ version|ommand\ line:|CPU0:\ |hypervisor|\bsgx\b|\bSMRR|hibernation|lockdown
    |Memory:\ |online_pages|nx86|Secure\ boot|module\ verification|tsx|\bCMR\b|PAMT|BIOS-e820
    |DMI:\ |R1[01]\ 0x|R0?[89]\ 0x|\bR[CD]X\ 0x
    """
)
COMMAND_LINE = re.compile(r"(?P<head>.*?ommand line: )(?P<words>.*)")
#: Of an address of a network card or an e-mail nothing is kept, wherever it stands.
PRIVATE = re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b|\S+@\S+\.\w+", re.IGNORECASE)


def sieve(path: str, content: bytes) -> bytes:
    """Leaves of a file's content what matters; a file that all matters of stays as it is."""
    for pattern, keep in SIEVES:
        if pattern.fullmatch(path):
            lines = content.decode(errors="replace").splitlines()
            return "".join(f"{line}\n" for line in keep(lines)).encode()
    return content


def sieve_log(lines: Iterable[str]) -> tuple[str, ...]:
    """The lines of a kernel log that bear on TDX, without what is private."""
    return tuple(_public(line) for line in lines if LOG_LINES.search(line))


def _public(line: str) -> str:
    if found := COMMAND_LINE.fullmatch(line):
        line = found["head"] + parameters(found["words"])
    return PRIVATE.sub("(left out)", line)


def parameters(words: str) -> str:
    """Of a kernel command line, the parameters that bear on TDX."""
    return " ".join(word for word in words.split() if PARAMETERS.match(word))


def _command_line(lines: list[str]) -> list[str]:
    return [parameters(line) for line in lines]


def _memory_map(lines: list[str]) -> list[str]:
    return [line for line in lines if MEMORY_KINDS.search(line)]


def _processors(lines: list[str]) -> list[str]:
    kept = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            kept.append(f"flags : {' '.join(sorted(CPU_FLAGS & set(value.split())))}")
        elif CPU_FIELDS.match(line) or not line:
            kept.append(line)
    return kept


def _options(lines: list[str]) -> list[str]:
    return [line for line in lines if OPTIONS.match(line)]


def _own_rights(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("CapEff:", "Uid:"))]


def _memory_left(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("MemTotal:", "MemFree:", "MemAvailable:"))]


def _modules(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("kvm", "tdx", "msr "))]


SIEVES: tuple[tuple[re.Pattern[str], Callable[[list[str]], list[str]]], ...] = (
    (re.compile(r"/proc/cmdline"), _command_line),
    (re.compile(r"/proc/iomem"), _memory_map),
    (re.compile(r"/proc/cpuinfo"), _processors),
    (re.compile(r"/proc/self/status"), _own_rights),
    (re.compile(r"/proc/meminfo"), _memory_left),
    (re.compile(r"/proc/modules"), _modules),
    (re.compile(r"/boot/config-.*|/(usr/)?lib/modules/.*/config"), _options),
)
