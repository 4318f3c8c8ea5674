# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of KVM, which runs TDs once TDX is up; Linux 7.3 arch/x86/kvm/vmx/tdx.c."""

from collections.abc import Mapping

from tdxhost.doctor.engine import Found, Look, failed, not_applicable, passed
from tdxhost.doctor.facts import Facts
from tdxhost.errors import NotRead
from tdxhost.records import Provider

ON = ("Y", "1")
NO_TDS = "this kernel has no TDX host support of its own, so its KVM runs no TDs"


def loaded(facts: Facts) -> Found:
    """kvm_intel."""
    if facts.provider is Provider.DIRECT:
        return not_applicable(NO_TDS)
    if facts.host.has("/sys/module/kvm_intel"):
        return passed("kvm_intel is loaded")
    return failed("there is no /sys/module/kvm_intel")


def config(facts: Facts) -> Found:
    """Whether it was built for TDX; where there is no configuration, its parameter says."""
    if facts.provider is Provider.DIRECT:
        return not_applicable(NO_TDS)
    try:
        built = facts.options.get("KVM_INTEL_TDX", "n")
    except NotRead:
        there = facts.host.has("/sys/module/kvm_intel/parameters/tdx")
        return passed("kvm_intel has a parameter tdx") if there else _no_parameter(facts)
    read = f"CONFIG_KVM_INTEL_TDX is {built}"
    return passed(read) if built == "y" else failed(read)


def _no_parameter(facts: Facts) -> Found:
    # Raises where not even the folder is there.
    facts.host.names("/sys/module/kvm_intel/parameters")
    return failed("kvm_intel has no parameter tdx")


def _parameters(facts: Facts, module: str, *names: str) -> Found:
    if not facts.host.has("/sys/module/kvm_intel"):
        return not_applicable("kvm_intel is not loaded")
    told = {name: facts.host.text(f"/sys/module/{module}/parameters/{name}") for name in names}
    read = ", ".join(f"{module}.{name} is {value}" for name, value in told.items())
    if all(value in ON for value in told.values()):
        return passed(read)
    return failed(read)


def tdx(facts: Facts) -> Found:
    """kvm_intel.tdx."""
    return _parameters(facts, "kvm_intel", "tdx")


def tdp_mmu(facts: Facts) -> Found:
    """kvm.tdp_mmu."""
    return _parameters(facts, "kvm", "tdp_mmu")


def mmio_caching(facts: Facts) -> Found:
    """kvm.mmio_caching."""
    return _parameters(facts, "kvm", "mmio_caching")


def apicv(facts: Facts) -> Found:
    """What kvm_intel asks for before it offers TDs."""
    return _parameters(facts, "kvm_intel", "ept", "eptad", "enable_apicv")


LOOKS: Mapping[str, Look] = {
    "kvm.loaded": loaded,
    "kvm.config": config,
    "kvm.tdx": tdx,
    "kvm.tdp-mmu": tdp_mmu,
    "kvm.mmio-caching": mmio_caching,
    "kvm.apicv": apicv,
}
