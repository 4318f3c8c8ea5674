# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM on every kernel: its checks of VMX pass on vtdx, up to the entry of a VM."""

from __future__ import annotations

from tests.kernels.conftest import Boot
from tests.kernels.selection import each
from tests.vm.kvm_user import EXTRA, check_loads, parameters, using

# Types of VMs that KVM_CAP_VM_TYPES tells; arch/x86/include/uapi/asm/kvm.h
DEFAULT_VM, TDX_VM = 1 << 0, 1 << 5

# TD attributes that KVM wants of a TDX module (SEPT_VE_DISABLE), XFAM's x87 and SSE,
# which are always there; TDX module ABI spec.
SEPT_VE_DISABLE = 1 << 28
XFAM_ALWAYS = 3

KERNELS = ["6.1", "6.12", "6.12-rt", "7.2", "7.3", "6.12-tdx", "7.3-tdx"]


@each(KERNELS, always=["7.3-tdx"])
def test_kvm_intel_loads_and_leaves_vmx_as_it_was(boot: Boot, kernel: str) -> None:
    with boot(kernel, driver=False, extra=EXTRA) as host, using(host) as both:
        before = both.states()
        after = check_loads(both)

    # A kernel that has initialised TDX itself is in VMX operation for good.
    assert before.on() == ({0, 1, 2, 3} if kernel == "7.3-tdx" else set())
    assert after.on() == after.vmxe() == before.on()


@each(["7.3-tdx"])
def test_kvm_offers_tdx_where_the_kernel_has_it(boot: Boot, kernel: str) -> None:
    with boot(kernel, driver=False, extra=EXTRA) as host, using(host) as both:
        both.load("tdx=1")
        assert parameters(host, "kvm_intel")["tdx"] == "Y"
        offered = both.kvm("tdx")
        assert host.kernel_complaints() == []
        both.kvm("unload")

    assert offered["types"] & (DEFAULT_VM | TDX_VM) == DEFAULT_VM | TDX_VM
    assert offered["attributes"] & SEPT_VE_DISABLE
    assert offered["xfam"] & XFAM_ALWAYS == XFAM_ALWAYS


@each(["6.12", "6.12-tdx"])
def test_a_kvm_without_tdx_says_so(boot: Boot, kernel: str) -> None:
    """modprobe passes a parameter that there is not; the kernel names it and goes on."""
    with boot(kernel, driver=False, extra=EXTRA) as host, using(host) as both:
        both.load("tdx=1")
        assert "tdx" not in parameters(host, "kvm_intel")
        assert "kvm_intel: unknown parameter 'tdx' ignored" in host.run("dmesg").stdout
        offered = both.kvm("tdx")
        both.kvm("unload")

    assert offered == {"types": DEFAULT_VM}
