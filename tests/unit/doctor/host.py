# SPDX-License-Identifier: GPL-2.0-or-later
"""A healthy Sapphire Rapids host as doctor reads it, and changes to it.

MSRs as the reference wants them (msrs-cpuid.yaml), with values of vtdx's platform xeon-base.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from tdxhost.doctor.diagnosis import Diagnosis, diagnose
from tdxhost.doctor.engine import Purpose, Result
from tdxhost.doctor.facts import Facts
from tdxhost.errors import DriverMissing, TdxHostError
from tdxhost.recording import Recording, recorded_host
from tests.unit.samples import FakeDriver

CPUS = range(4)

MSRS = {
    0x3A: 0x5,
    0x3B: 0x0,
    0x87: 0x200000001F,
    0x98: 0x10,
    0x99: 0x10,
    0xA0: 0x0,
    0xBC: 0x1,
    0xBD: 0x1,
    0xCE: 0x1400,
    0xCF: 0x0,
    0xFE: 0xDD08,
    0x10A: 0x12AFD6B,
    0x122: 0x0,
    0x1A0: 0x850089,
    0x1F2: 0xFC000006,
    0x1F3: 0xFF800C00,
    0x1F6: 0x0,
    0x1F7: 0x400,
    0x345: 0xB2C5,
    0x480: 0xDA050000000016,
    0x485: 0x7004C1E7,
    0x486: 0x80000021,
    0x487: 0xFFFFFFFF,
    0x488: 0x2000,
    0x489: 0x3FF7FFF,
    0x48B: 0xDF7FFFFF00000000,
    0x48C: 0xF0106F341C1,
    0x48D: 0xFF00000016,
    0x48E: 0xFFFBFFFE04006172,
    0x48F: 0x7F7FFFFF00036DFB,
    0x490: 0x7EFFFF000011FB,
    0x492: 0xFF,
    0x500: 0x500000000000000,
    0x503: 0x0,
    0x981: 0x3F68000000F,
    0x982: 0xF001600000003,
    0x1400: 0x1000000008,
    0x1401: 0xFFFFFFE000C00,
}

CPU = """\
processor\t: {number}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: {model}
model name\t: Intel(R) Xeon(R) Platinum 8480+
stepping\t: 8
microcode\t: {microcode}
address sizes\t: 46 bits physical, 57 bits virtual
flags\t\t: {flags}

"""
FLAGS = "vmx smx ss xsave movdir64b tme x2apic sgx"

IOMEM = """\
00001000-0009fbff : System RAM
00100000-7fffffff : System RAM
100000000-17fffffff : System RAM
"""

FILES = {
    "/sys/devices/system/cpu/online": "0-3",
    "/sys/devices/system/cpu/present": "0-3",
    "/sys/devices/system/cpu/smt/control": "on",
    "/proc/cmdline": "",
    "/proc/iomem": IOMEM,
    "/proc/meminfo": "MemTotal: 4000000 kB\nMemAvailable: 3000000 kB\n",
    "/proc/self/status": "CapEff:\t000001ffffffffff\n",
    "/proc/sys/kernel/osrelease": "6.12.57+deb13-amd64",
    "/sys/kernel/kexec_loaded": "0",
    "/sys/kernel/security/lockdown": "[none] integrity confidentiality",
    "/sys/module/module/parameters/sig_enforce": "N",
    "/sys/power/state": "freeze mem disk",
    "/sys/power/mem_sleep": "s2idle [deep]",
    "/boot/config-6.12.57+deb13-amd64": "# CONFIG_INTEL_TDX_HOST is not set\n",
}


def cpuinfo(
    flags: str = FLAGS, model: int = 143, microcode: Mapping[int, str] | None = None
) -> str:
    """/proc/cpuinfo of the four CPUs."""
    told = microcode or {}
    return "".join(
        CPU.format(number=cpu, model=model, flags=flags, microcode=told.get(cpu, "0x2b000590"))
        for cpu in CPUS
    )


@dataclass(frozen=True)
class Patient:
    """A host to be examined: files, folders, MSRs (of all CPUs, or of one), log and driver."""

    files: Mapping[str, str] = field(default_factory=lambda: {**FILES, "/proc/cpuinfo": cpuinfo()})
    folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    msrs: Mapping[int, int | None] = field(default_factory=lambda: dict(MSRS))
    of_one: Mapping[tuple[int, int], int] = field(default_factory=dict)
    log: tuple[str, ...] = ()
    driver: FakeDriver | TdxHostError = field(
        default_factory=lambda: DriverMissing("there is no /dev/tdxhost", "Load it")
    )

    def but(self, **changes: Any) -> "Patient":
        """The same with changes; those of files, folders and MSRs are added."""
        for name in ("files", "folders", "msrs"):
            if name in changes:
                changes[name] = {**getattr(self, name), **changes[name]}
        return replace(self, **changes)

    def recording(self) -> Recording:
        """As it would have been recorded."""
        answers: dict[str, dict[str, Any]] = {"log": {"lines": list(self.log)}}
        answers |= {f"data {path}": {"text": text} for path, text in self.files.items()}
        answers |= {f"names {path}": {"names": list(it)} for path, it in self.folders.items()}
        for address, value in self.msrs.items():
            for cpu in CPUS:
                answers[f"msr {address:#x} cpu {cpu}"] = self._msr(address, cpu, value)
        return Recording(answers=answers)

    def _msr(self, address: int, cpu: int, value: int | None) -> dict[str, Any]:
        value = self.of_one.get((address, cpu), value)
        if value is None:
            return {"not_read": {"what": f"MSR {address:#x}", "why": "fault", "reason": "faults"}}
        return {"value": hex(value)}

    def facts(self) -> Facts:
        """What doctor looks at."""

        @contextmanager
        def opened() -> Iterator[FakeDriver]:
            if isinstance(self.driver, TdxHostError):
                raise self.driver
            yield self.driver

        return Facts(recorded_host(self.recording()), opened)

    def examined(self, *purposes: Purpose) -> Diagnosis:
        """What doctor says."""
        return diagnose(self.facts(), purposes or tuple(Purpose))

    def check(self, id_: str) -> Result:
        """What one check says."""
        return next(it for it in self.examined().results if it.check.id == id_)


HEALTHY = Patient()
