# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a file matters for TDX; the rest is not looked at, and so never gets into a recording.

Disks, network addresses and serial numbers are in the same files, and are nobody's business.

Patterns are compiled when they are first used: most commands use few of them.
"""

import re
from collections.abc import Callable, Iterable

#: What begins kernel parameters that bear on TDX; Linux, kernel-parameters.txt, and parameters of
#: modules.
PARAMETERS = (
    *("tdx", "kvm", "nohibernate", "hibernate=", "noresume", "maxcpus=", "nr_cpus="),
    *("possible_cpus=", "nosmp", "nosmt", "disable_cpu_apicid=", "mem=", "memmap=", "movable"),
    *("kernelcore=", "memhp_default_state=", "memory_hotplug", "hugepages", "default_hugepagesz="),
    *("hugetlb", "tsx", "mitigations=", "lockdown=", "module.sig_enforce", "numa", "nox2apic"),
    *("x2apic", "noapic", "nolapic", "acpi=", "clearcpuid=", "setcpuid=", "dis_ucode_ldr"),
    *("microcode", "crashkernel=", "efi_fake_mem", "efi=", "noefi", "intel_iommu=", "iommu="),
    *("mce=", "isolcpus=", "sgx", "nosgx", "tdxhost"),
)
#: Lines of /proc/iomem that say what memory is.
MEMORY_KINDS = (
    r"(?i)System RAM|Persistent Memory|CXL Window|Reserved|Unusable|ACPI|Soft Reserved|dax|kmem"
)
CPU_FIELDS = (
    r"(processor|vendor_id|cpu family|model|model name|stepping|microcode|physical id|core id"
    r"|apicid|address sizes)\s*:"
)
CPU_FLAGS = frozenset(
    {"vmx", "smx", "ss", "xsave", "movdir64b", "tme", "pconfig", "x2apic", "hypervisor", "rtm"}
    | {"sgx", "tdx_host_platform", "tdx_guest", "la57", "pku", "pks", "wbnoinvd", "waitpkg"}
)
OPTIONS = (
    r"(# )?CONFIG_(INTEL_TDX_HOST|INTEL_TDX_GUEST|KVM|KVM_INTEL|KVM_INTEL_TDX|KVM_X86|X86_X2APIC"
    r"|HIBERNATION|SUSPEND|KEXEC_CORE|MODULES|MODULE_SIG|MODULE_SIG_FORCE|SECURITY_LOCKDOWN_LSM"
    r"|LOCK_DOWN_IN_EFI_SECURE_BOOT|X86_MSR|CONTIG_ALLOC|NUMA|MEMORY_HOTPLUG|CXL_BUS|CXL_REGION"
    r"|DEV_DAX_KMEM|TRACEPOINTS|FTRACE|X86_INTEL_TSX_MODE_OFF|X86_INTEL_TSX_MODE_ON"
    r"|X86_INTEL_TSX_MODE_AUTO|KEYS|ARCH_KEEP_MEMBLOCK|TDX_HOST_SERVICES|PREEMPT_RT)[= ]"
)
#: Log lines that bear on TDX, of the kernel and of what people post with it.
LOG_LINES = r"""(?xi)
    \btdx|seam(call|ldr|rr|\b)|\bkvm|\bt?mk?tme\b|x86/(tme|mktme)|\bVMX\b|microcode|x2apic
    |Linux\ version|ommand\ line:|CPU0:\ |hypervisor|\bsgx\b|\bSMRR|hibernation|lockdown
    |Memory:\ |online_pages|nx86|Secure\ boot|module\ verification|tsx|\bCMR\b|PAMT|BIOS-e820
    |DMI:\ |R1[01]\ 0x|R0?[89]\ 0x|\bR[CD]X\ 0x
    """
COMMAND_LINE = r"(?P<head>.*?ommand line: )(?P<words>.*)"
#: Of an address of a network card or an e-mail nothing is kept, wherever it stands.
PRIVATE = r"(?i)\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b|\S+@\S+\.\w+"


def sieve(path: str, content: bytes) -> bytes:
    """Leaves of a file's content what matters; a file that all matters of stays as it is."""
    for pattern, keep in SIEVES:
        if re.fullmatch(pattern, path):
            lines = content.decode(errors="replace").splitlines()
            return "".join(f"{line}\n" for line in keep(lines)).encode()
    return content


def sieve_log(lines: Iterable[str]) -> tuple[str, ...]:
    """The lines of a kernel log that bear on TDX, without what is private."""
    return tuple(_public(line) for line in lines if re.search(LOG_LINES, line))


def _public(line: str) -> str:
    if found := re.fullmatch(COMMAND_LINE, line):
        line = found["head"] + parameters(found["words"])
    return re.sub(PRIVATE, "(left out)", line)


def parameters(words: str) -> str:
    """Of a kernel command line, the parameters that bear on TDX."""
    return " ".join(word for word in words.split() if word.startswith(PARAMETERS))


def _command_line(lines: list[str]) -> list[str]:
    return [parameters(line) for line in lines]


def _memory_map(lines: list[str]) -> list[str]:
    return [line for line in lines if re.search(MEMORY_KINDS, line)]


def _processors(lines: list[str]) -> list[str]:
    kept = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            kept.append(f"flags : {' '.join(sorted(CPU_FLAGS & set(value.split())))}")
        elif re.match(CPU_FIELDS, line) or not line:
            kept.append(line)
    return kept


def _options(lines: list[str]) -> list[str]:
    return [line for line in lines if re.match(OPTIONS, line)]


def _own_rights(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("CapEff:", "Uid:"))]


def _memory_left(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("MemTotal:", "MemFree:", "MemAvailable:"))]


def _modules(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("kvm", "tdx", "msr "))]


SIEVES: tuple[tuple[str, Callable[[list[str]], list[str]]], ...] = (
    (r"/proc/cmdline", _command_line),
    (r"/proc/iomem", _memory_map),
    (r"/proc/cpuinfo", _processors),
    (r"/proc/self/status", _own_rights),
    (r"/proc/meminfo", _memory_left),
    (r"/proc/modules", _modules),
    (r"/boot/config-.*|/(usr/)?lib/modules/.*/config", _options),
)
