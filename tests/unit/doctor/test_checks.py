# SPDX-License-Identifier: GPL-2.0-or-later
"""Each check recognises what it is about, names the CPUs, and says what to do."""

from dataclasses import replace
from typing import Any

import pytest

from tdxhost.doctor.diagnosis import AREAS, looks
from tdxhost.doctor.engine import Outcome, Purpose, checks
from tdxhost.records import Code, ModuleStatus, Provider, Step
from tests.unit.doctor.host import CPUS, FLAGS, HEALTHY, cpuinfo
from tests.unit.samples import INFO, STATUS, FakeDriver, cpu, failed_cpu, step, untried_cpu

CPU3 = frozenset({3})
KERNEL_TDX = {
    "files": {
        "/proc/sys/kernel/osrelease": "6.16.0",
        "/boot/config-6.16.0": "CONFIG_INTEL_TDX_HOST=y\nCONFIG_KVM_INTEL_TDX=y\n",
    }
}
HIGH = "100000000-1ffffffff : "
KVM = {"/sys/module": ("kvm", "kvm_intel")}


def _kernel(**files: str) -> dict[str, Any]:
    return {"files": {**KERNEL_TDX["files"], **files}, "folders": KVM}


#: A change to a healthy host, the check that sees it, how bad that is, and on which CPUs.
SICK: dict[str, tuple[dict[str, Any], str, Outcome, frozenset[int]]] = {
    "amd": (
        {"files": {"/proc/cpuinfo": cpuinfo().replace("GenuineIntel", "AuthenticAMD")}},
        "processor.vendor",
        Outcome.FAIL,
        frozenset(),
    ),
    "ice lake": (
        {"files": {"/proc/cpuinfo": cpuinfo(model=106)}, "msrs": {0xFE: 0x5D08}},
        "processor.generation",
        Outcome.FAIL,
        frozenset(),
    ),
    "unknown but able": (
        {"files": {"/proc/cpuinfo": cpuinfo(model=250)}},
        "processor.generation",
        Outcome.WARN,
        frozenset(),
    ),
    "virtual machine": (
        {"files": {"/proc/cpuinfo": cpuinfo(f"{FLAGS} hypervisor")}},
        "processor.bare-metal",
        Outcome.FAIL,
        frozenset(),
    ),
    "no SEAMRR": ({"msrs": {0xFE: 0x5D08}}, "processor.seam", Outcome.FAIL, frozenset(CPUS)),
    "no MOVDIR64B": (
        {"files": {"/proc/cpuinfo": cpuinfo("vmx ss xsave x2apic")}},
        "processor.instructions",
        Outcome.FAIL,
        frozenset(CPUS),
    ),
    "microcode differs": (
        {"files": {"/proc/cpuinfo": cpuinfo(microcode={3: "0x2b000161"})}},
        "processor.alike",
        Outcome.FAIL,
        CPU3,
    ),
    "pre-production": (
        {"msrs": {0xCE: 0x8001400}},
        "processor.production",
        Outcome.WARN,
        frozenset(CPUS),
    ),
    "unlocked": ({"msrs": {0x503: 0x2}}, "processor.debug", Outcome.WARN, frozenset(CPUS)),
    "VMX off on one CPU": ({"of_one": {(0x3A, 3): 0x1}}, "firmware.vmx", Outcome.FAIL, CPU3),
    "TME off": ({"msrs": {0x982: 0x1}}, "firmware.tme", Outcome.FAIL, frozenset(CPUS)),
    "TME unlocked": (
        {"msrs": {0x982: 0xF001600000002}},
        "firmware.tme-locked",
        Outcome.FAIL,
        frozenset(CPUS),
    ),
    "no algorithm": (
        {"msrs": {0x982: 0x0001600000003}},
        "firmware.tme-algorithm",
        Outcome.FAIL,
        frozenset(CPUS),
    ),
    "MCHECK": ({"msrs": {0xA0: 0x17}}, "firmware.mcheck", Outcome.FAIL, frozenset(CPUS)),
    "no KeyIDs": ({"msrs": {0x87: 0x3F}}, "firmware.keyids", Outcome.FAIL, frozenset(CPUS)),
    "one KeyID": (
        {"of_one": {(0x87, 3): 0x10000003E}},
        "firmware.keyids",
        Outcome.FAIL,
        CPU3,
    ),
    "KeyIDs fault": ({"msrs": {0x87: None}}, "firmware.keyids", Outcome.FAIL, frozenset(CPUS)),
    "too many KeyIDs": (
        {"msrs": {0x87: 0x7C00000040}},
        "firmware.keyids-count",
        Outcome.PASS,
        frozenset(),
    ),
    "2048 KeyIDs": (
        {"msrs": {0x87: 0x7C000000040}},
        "firmware.keyids-count",
        Outcome.FAIL,
        frozenset(CPUS),
    ),
    "SEAMRR off on one CPU": (
        {"of_one": {(0x1401, 3): 0xFFFFFFE000400}},
        "firmware.seamrr",
        Outcome.FAIL,
        CPU3,
    ),
    "SEAMRR unlocked": (
        {"msrs": {0x1401: 0xFFFFFFE000800}},
        "firmware.seamrr-locked",
        Outcome.WARN,
        frozenset(CPUS),
    ),
    "SMRR unlocked": ({"of_one": {(0x1F3, 3): 0xFF800800}}, "firmware.smrr", Outcome.FAIL, CPU3),
    "no SMRR": ({"msrs": {0xFE: 0xD508}}, "firmware.smrr", Outcome.FAIL, frozenset(CPUS)),
    "SMRR in RAM": (
        {"msrs": {0x1F2: 0x7F800006}},
        "firmware.smrr-memory",
        Outcome.FAIL,
        frozenset(),
    ),
    "xAPIC": ({"msrs": {0xBD: 0x0}}, "firmware.x2apic", Outcome.FAIL, frozenset(CPUS)),
    "energy": ({"msrs": {0xBC: 0x0}}, "firmware.energy-filtering", Outcome.FAIL, frozenset(CPUS)),
    "CPUID limit": (
        {"msrs": {0x1A0: 0xC50089}},
        "firmware.cpuid-limit",
        Outcome.FAIL,
        frozenset(CPUS),
    ),
    "old microcode": (
        {"msrs": {0x10A: 0x10AFD6B & ~0x2000}},
        "firmware.arch-capabilities",
        Outcome.FAIL,
        frozenset(CPUS),
    ),
    "no full-width writes": (
        {"msrs": {0x345: 0x92C5}},
        "firmware.perf-capabilities",
        Outcome.FAIL,
        frozenset(CPUS),
    ),
    "no posted interrupts": (
        {"msrs": {0x48D: 0x7F00000016}},
        "firmware.vmx-controls",
        Outcome.FAIL,
        frozenset(CPUS),
    ),
    "46 bits": (
        {
            "files": {
                "/proc/cpuinfo": cpuinfo().replace("46 bits physical", "40 bits physical"),
            }
        },
        "firmware.address-bits",
        Outcome.FAIL,
        frozenset(),
    ),
    "TSC_ADJUST differs": ({"of_one": {(0x3B, 3): 0x64}}, "firmware.alike", Outcome.FAIL, CPU3),
    "no SEAM loader": (
        {"msrs": {0x500: 0x0}},
        "firmware.seamldr-svn",
        Outcome.WARN,
        frozenset(),
    ),
    "no SGX": (
        {"files": {"/proc/cpuinfo": cpuinfo("vmx ss xsave movdir64b x2apic")}},
        "firmware.sgx",
        Outcome.WARN,
        frozenset(),
    ),
    "RAM outside logged CMRs": (
        {"log": ("virt/tdx: CMR: [0x100000, 0x80000000)",)},
        "memory.cmrs",
        Outcome.FAIL,
        frozenset(),
    ),
    "CMR below 1 MiB": (
        {"log": ("virt/tdx: CMR: [0x1000, 0x180000000)",)},
        "memory.low",
        Outcome.FAIL,
        frozenset(),
    ),
    "CXL as RAM": (
        {"files": {"/proc/iomem": f"{HIGH}CXL Window 0\n  {HIGH}System RAM\n"}},
        "memory.cxl",
        Outcome.FAIL,
        frozenset(),
    ),
    "persistent memory": (
        {"files": {"/proc/iomem": f"{HIGH}Persistent Memory\n"}},
        "memory.persistent",
        Outcome.WARN,
        frozenset(),
    ),
    "persistent memory as RAM": (
        {"files": {"/proc/iomem": f"{HIGH}Persistent Memory\n  {HIGH}System RAM (kmem)\n"}},
        "memory.persistent",
        Outcome.FAIL,
        frozenset(),
    ),
    "no room for PAMTs": (
        {"files": {"/proc/meminfo": "MemTotal: 4000000 kB\nMemAvailable: 20000 kB\n"}},
        "memory.pamt",
        Outcome.WARN,
        frozenset(),
    ),
    "offline CPU": (
        {"files": {"/sys/devices/system/cpu/present": "0-4"}},
        "kernel.cpus",
        Outcome.FAIL,
        frozenset({4}),
    ),
    "lockdown": (
        {"files": {"/sys/kernel/security/lockdown": "none [integrity] confidentiality"}},
        "kernel.lockdown",
        Outcome.FAIL,
        frozenset(),
    ),
    "signed drivers only": (
        {"files": {"/sys/module/module/parameters/sig_enforce": "Y"}},
        "kernel.module-signing",
        Outcome.WARN,
        frozenset(),
    ),
    "hibernation": (_kernel(), "kernel.hibernation", Outcome.FAIL, frozenset()),
    "S3 and no driver": ({}, "kernel.s3", Outcome.WARN, frozenset()),
    "kexec": (
        {"files": {"/sys/kernel/kexec_loaded": "1"}},
        "kernel.kexec",
        Outcome.WARN,
        frozenset(),
    ),
    "no driver": ({}, "kernel.driver", Outcome.WARN, frozenset()),
    "nox2apic": (
        {"files": {"/proc/cmdline": "nox2apic"}},
        "kernel.x2apic",
        Outcome.FAIL,
        frozenset(),
    ),
    "TSX differs": ({"of_one": {(0x122, 3): 0x3}}, "kernel.tsx", Outcome.WARN, CPU3),
    "mem=": (
        {"files": {"/proc/cmdline": "mem=2G"}},
        "kernel.command-line",
        Outcome.WARN,
        frozenset(),
    ),
    "KVM alone": (
        {
            "files": {
                "/proc/sys/kernel/osrelease": "7.0.1",
                "/boot/config-7.0.1": "CONFIG_INTEL_TDX_HOST=y\n",
            }
        },
        "kernel.provider",
        Outcome.WARN,
        frozenset(),
    ),
    "1.0 module in the log": (
        {"log": ("virt/tdx: TDX module: vendor_id 0x8086, major_version 1, minor_version 0",)},
        "module.version",
        Outcome.FAIL,
        frozenset(),
    ),
    "KVM without TDX": (
        _kernel(**{"/boot/config-6.16.0": "CONFIG_INTEL_TDX_HOST=y\n"}),
        "kvm.config",
        Outcome.FAIL,
        frozenset(),
    ),
    "kvm_intel.tdx=0": (
        _kernel(**{"/sys/module/kvm_intel/parameters/tdx": "N"}),
        "kvm.tdx",
        Outcome.FAIL,
        frozenset(),
    ),
    "no TDP MMU": (
        _kernel(**{"/sys/module/kvm/parameters/tdp_mmu": "N"}),
        "kvm.tdp-mmu",
        Outcome.FAIL,
        frozenset(),
    ),
    "no MMIO caching": (
        _kernel(**{"/sys/module/kvm/parameters/mmio_caching": "N"}),
        "kvm.mmio-caching",
        Outcome.FAIL,
        frozenset(),
    ),
    "no APICv": (
        _kernel(
            **{
                "/sys/module/kvm_intel/parameters/ept": "Y",
                "/sys/module/kvm_intel/parameters/eptad": "Y",
                "/sys/module/kvm_intel/parameters/enable_apicv": "N",
            }
        ),
        "kvm.apicv",
        Outcome.FAIL,
        frozenset(),
    ),
    "KVM not loaded": (KERNEL_TDX, "kvm.loaded", Outcome.WARN, frozenset()),
}


@pytest.mark.parametrize("name", SICK)
def test_a_check_sees_what_it_is_about(name: str) -> None:
    changes, id_, outcome, cpus = SICK[name]
    result = HEALTHY.but(**changes).check(id_)
    assert (result.outcome, result.found.cpus) == (outcome, cpus), result.found
    if result.is_bad:
        assert result.cause
        assert result.fix
    assert result.found.read


UNTRIED = FakeDriver(
    info=replace(INFO, valid=0),
    status=replace(STATUS, module_status=ModuleStatus.UNKNOWN, step=Step.NONE),
    cpus=tuple(untried_cpu(number) for number in CPUS),
)


def _failing(kind: Step, code: Code, **members: Any) -> FakeDriver:
    """A driver whose bring-up failed at a step."""
    failed = {"code": code, "error": 5, **members}
    status = replace(STATUS, module_status=ModuleStatus.ERROR, step=kind, code=code, error=5)
    return replace(UNTRIED, status=status, steps=(step(kind, **failed),))


def test_a_machine_without_tdx_module_is_told_once_it_was_called() -> None:
    before, after = (
        HEALTHY.but(driver=UNTRIED),
        HEALTHY.but(driver=_failing(Step.CPUS, Code.NO_MODULE, leaf=33)),
    )
    assert before.check("module.loaded").outcome is Outcome.NOT_CHECKED
    assert after.check("module.loaded").outcome is Outcome.FAIL
    assert after.check("module.version").outcome is Outcome.SKIPPED


def test_a_1_0_module_is_told_by_its_answer() -> None:
    # TDX_SYS_NOT_READY of TDH.SYS.RD: canonical/tdx issue 331.
    driver = _failing(Step.MODULE_INFO, Code.SEAMCALL, leaf=34, seam_status=0xC000050500000000)
    assert HEALTHY.but(driver=driver).examined().cause.check.id == "module.version"  # type: ignore[union-attr]


@pytest.mark.parametrize(("bit", "id_"), [(18, "module.rbp"), (20, "module.topology")])
def test_a_feature_that_kvm_needs_is_looked_for(bit: int, id_: str) -> None:
    able = FakeDriver(info=replace(INFO, tdx_features0=(1 << 64) - 1))
    unable = FakeDriver(info=replace(INFO, tdx_features0=~(1 << bit) & (1 << 64) - 1))
    assert HEALTHY.but(driver=able).check(id_).outcome is Outcome.PASS
    result = HEALTHY.but(driver=unable).check(id_)
    assert result.is_bad
    assert result.check.purpose is Purpose.KVM


def test_what_bring_up_failed_at_is_told_with_status_and_cpu() -> None:
    failed = failed_cpu(3)
    driver = replace(UNTRIED, cpus=(cpu(0), cpu(1), cpu(2), failed))
    result = HEALTHY.but(driver=driver).check("module.state")
    assert result.outcome is Outcome.FAIL
    assert result.found.cpus == CPU3
    assert "CPU 3: TDH.SYS.LP.INIT: TDX_INCONSISTENT_MSR" in result.cause
    assert "IA32_ARCH_CAPABILITIES" in result.cause


FAILED_AT_BOOT = (
    "[    1.630945] virt/tdx: BIOS enabled: private KeyID range [32, 64)",
    "[    2.100000] virt/tdx: SEAMCALL (0x000000000000002d) failed: 0xc0000a0200000001",
    "[    2.100004] virt/tdx: TDX-Module initialization failed (-5)",
)


def test_what_the_kernel_failed_at_is_read_in_its_log() -> None:
    status = replace(
        STATUS, module_status=ModuleStatus.ERROR, step=Step.KERNEL, code=Code.KERNEL, error=5
    )
    driver = replace(UNTRIED, info=replace(INFO, provider=Provider.OBSERVER), status=status)
    result = HEALTHY.but(driver=driver, log=FAILED_AT_BOOT).check("module.log")
    assert result.outcome is Outcome.FAIL
    assert "TDX_TDMR_OUTSIDE_CMRS" in result.found.read
    assert result.fix


def test_an_old_failure_in_the_log_of_a_host_that_is_up_is_none() -> None:
    up = FakeDriver(info=replace(INFO, provider=Provider.OBSERVER))
    assert HEALTHY.but(driver=up, log=FAILED_AT_BOOT).check("module.log").outcome is Outcome.PASS
    direct = HEALTHY.but(driver=UNTRIED, log=FAILED_AT_BOOT).check("module.log")
    assert direct.outcome is Outcome.NOT_APPLICABLE


def test_a_kernel_that_initialises_tdx_guards_suspend_by_itself() -> None:
    driver = FakeDriver(info=replace(INFO, provider=Provider.OBSERVER))
    patient = HEALTHY.but(driver=driver, **KERNEL_TDX)
    assert patient.check("kernel.s3").outcome is Outcome.PASS
    assert patient.check("kernel.hibernation").outcome is Outcome.PASS


def test_updates_left_are_told_where_the_kernel_tells_them() -> None:
    folder = "/sys/devices/faux/tdx_host"
    files = {f"{folder}/seamldr_version": "1.5.2", f"{folder}/num_remaining_updates": "0"}
    there = {"files": files, "folders": {folder: ("num_remaining_updates", "seamldr_version")}}
    assert HEALTHY.check("module.updates").outcome is Outcome.NOT_APPLICABLE
    assert HEALTHY.but(driver=FakeDriver(), **there).check("module.updates").outcome is Outcome.WARN


def test_every_check_has_one_way_to_be_made_and_no_other_is_there() -> None:
    known = checks()
    own = [id_ for area in AREAS for id_ in area.LOOKS]
    assert len({check.id for check in known}) == len(known)
    assert len(own) == len(set(own))
    assert set(looks(known)) == {check.id for check in known}
    assert not {check.id for check in known if check.msrs} & set(own)


def test_every_check_is_seen_to_fail_or_warn_by_a_test() -> None:
    seen = {id_ for _, id_, outcome, _ in SICK.values() if outcome in (Outcome.FAIL, Outcome.WARN)}
    of_module = {check.id for check in checks() if check.id.startswith("module.")}
    # A processor without VMX and microcode 0 are in test_diagnosis, holes in test_kernel_checks.
    others = {"processor.vmx", "processor.microcode", "kernel.reserved-areas"}
    assert {check.id for check in checks()} - seen - of_module - others == set()


def test_needs_come_before_what_needs_them() -> None:
    before: set[str] = set()
    for check in checks():
        assert set(check.needs) <= before, check.id
        before.add(check.id)
