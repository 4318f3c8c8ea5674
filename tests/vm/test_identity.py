# SPDX-License-Identifier: GPL-2.0-or-later
"""A virtual machine says that it is the server that its platform file describes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.vm.hosts import Boot

#: Of each CPU: leaves 1, 7.0, and the brand string in 0x80000002 to 0x80000004, as they are
#: read from the cpuid device: position is leaf and sub-leaf (Linux arch/x86/kernel/cpuid.c).
READ = """
modprobe cpuid
modprobe msr
python3 - <<END
import json, os
def leaf(cpu, number, subleaf=0):
    fd = os.open(f"/dev/cpu/{cpu}/cpuid", os.O_RDONLY)
    data = os.pread(fd, 16, number | subleaf << 32)
    os.close(fd)
    return [int.from_bytes(data[at:at + 4], "little") for at in range(0, 16, 4)]
def msr(cpu, number):
    fd = os.open(f"/dev/cpu/{cpu}/msr", os.O_RDONLY)
    return int.from_bytes(os.pread(fd, 8, number), "little")
brand = b"".join(
    word.to_bytes(4, "little") for at in (2, 3, 4) for word in leaf(0, 0x80000000 + at)
)
print(json.dumps({
    "leaf 1": [leaf(cpu, 1) for cpu in range(4)],
    "leaf 7": [leaf(cpu, 7) for cpu in range(4)],
    "brand": brand.rstrip(b"\\0").decode(),
    "address bits": leaf(0, 0x80000008)[0] & 0xff,
    "microcode": [msr(cpu, 0x8b) >> 32 for cpu in range(4)],
    "of the kernel": int(open("/sys/devices/system/cpu/cpu0/microcode/version").read(), 16),
    "names": {
        name: open(f"/sys/class/dmi/id/{name}").read().strip()
        for name in ("sys_vendor", "product_name", "bios_version", "bios_date")
    },
}))
END
"""


def looked_at(boot: Boot, name: str, *, warm: bool = False) -> Any:
    """What tools read of a machine."""
    with boot(name, warm=warm) as host:
        result = host.sh(READ)
        assert result.status == 0, result
        return result.json()


def has(regs: list[int], reg: int, bit: int) -> bool:
    """A bit of EAX, EBX, ECX or EDX."""
    return bool(regs[reg] >> bit & 1)


EBX, ECX, EDX = 1, 2, 3

# SDM vol. 2, CPUID.
VMX = ("leaf 1", ECX, 5)
SS = ("leaf 1", EDX, 27)
ERMS = ("leaf 7", EBX, 9)
TME = ("leaf 7", ECX, 13)
MOVDIR64B = ("leaf 7", ECX, 28)
FSRM = ("leaf 7", EDX, 4)
ARCH_CAPABILITIES = ("leaf 7", EDX, 29)


def cpus_with(seen: Any, feature: tuple[str, int, int]) -> list[int]:
    """The CPUs that have a feature."""
    leaf, reg, bit = feature
    return [cpu for cpu, regs in enumerate(seen[leaf]) if has(regs, reg, bit)]


def test_a_machine_looks_like_the_server_of_its_platform(boot: Boot) -> None:
    seen = looked_at(boot, "spr-2s", warm=True)

    assert seen["brand"] == "Intel(R) Xeon(R) Platinum 8480+"
    # Family 6, model 143, stepping 8.
    assert {regs[0] for regs in seen["leaf 1"]} == {0x806F8}
    for feature in (VMX, SS, TME, MOVDIR64B, ARCH_CAPABILITIES, ERMS, FSRM):
        assert cpus_with(seen, feature) == [0, 1, 2, 3], feature
    assert seen["address bits"] == 52
    # The kernel writes 0 before it asks, which is how it has to be done (SDM vol. 3, 11.11.7.1).
    assert seen["microcode"] == [0x2B000639] * 4
    assert seen["of the kernel"] == 0x2B000639
    assert seen["names"] == {
        "sys_vendor": "Intel Corporation",
        "product_name": "M50FCP2SBSTD",
        "bios_version": "SE5C7411.86B.9525.D33",
        "bios_date": "05/20/2025",
    }


@pytest.mark.slow
def test_an_old_xeon_has_no_feature_of_newer_ones(boot: Boot) -> None:
    seen = looked_at(boot, "old-xeon")

    assert seen["brand"] == "Intel(R) Xeon(R) Platinum 8380"
    assert {regs[0] for regs in seen["leaf 1"]} == {0x606A6}
    assert cpus_with(seen, MOVDIR64B) == []
    for feature in (VMX, SS, TME, ARCH_CAPABILITIES):
        assert cpus_with(seen, feature) == [0, 1, 2, 3], feature
    assert seen["address bits"] == 46


@pytest.mark.slow
def test_a_cpu_with_a_cpuid_of_its_own_shows_it_to_the_guest(boot: Boot) -> None:
    seen = looked_at(boot, "cpuid-differs")

    for feature in (ERMS, FSRM):
        assert cpus_with(seen, feature) == [0, 1, 2], feature
    assert cpus_with(seen, MOVDIR64B) == [0, 1, 2, 3]
