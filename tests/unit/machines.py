# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts that exist as a few files, MSRs and log lines, of any size."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from tdxhost.doctor.engine import Check, Found, Outcome, Purpose, Result, Scope
from tdxhost.doctor.facts import Facts
from tdxhost.errors import DriverMissing, NotRead, Why
from tdxhost.host import Host
from tdxhost.records import CpuResult, Memory, Range, RangeKind
from tdxhost.sieve import sieve, sieve_log
from tests.unit.doctor.host import FILES as HEALTHY
from tests.unit.doctor.host import FLAGS, MSRS
from tests.unit.samples import GIB, MIB, FakeDriver, cpu

RELEASE = "6.12.57+deb13-amd64"
CPUINFO = """\
processor\t: {cpu}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8480+
stepping\t: 8
microcode\t: {microcode}
physical id\t: {package}
core id\t\t: {core}
address sizes\t: 52 bits physical, 57 bits virtual
flags\t\t: {flags}
"""
FILES = HEALTHY | {
    "/proc/cmdline": "BOOT_IMAGE=/vmlinuz root=UUID=1111-2222 nohibernate kvm_intel.tdx=1\n",
    "/proc/sys/kernel/osrelease": f"{RELEASE}\n",
    f"/boot/config-{RELEASE}": "CONFIG_KVM_INTEL=m\n# CONFIG_INTEL_TDX_HOST is not set\n",
    "/sys/class/dmi/id/sys_vendor": "Example Corp.\n",
    "/sys/class/dmi/id/product_name": "Server 9000\n",
    "/sys/class/dmi/id/bios_vendor": "Example BIOS\n",
    "/sys/class/dmi/id/bios_version": "1.2.3\n",
    "/sys/class/dmi/id/bios_date": "06/05/2024\n",
    "/sys/class/dmi/id/product_serial": "SERIAL-4711\n",
    "/sys/class/dmi/id/product_uuid": "01234567-89ab-cdef-0123-456789abcdef\n",
    "/proc/sys/kernel/hostname": "secret-name\n",
    "/sys/module/kvm_intel/parameters/tdx": "N\n",
    "/sys/module/kvm_intel/parameters/ept": "Y\n",
}
IOMEM = """\
00000000-00000fff : Reserved
00001000-0009ffff : System RAM
00100000-7fffffff : System RAM
fec00000-fec003ff : IOAPIC 0
100000000-17fffffff : System RAM
400000000-47fffffff : Persistent Memory
"""
LOG = (
    "[    0.000000] Linux version 6.12.57+deb13-amd64",
    "[    0.000000] Command line: BOOT_IMAGE=/vmlinuz root=UUID=1111-2222 nohibernate",
    "[    0.900000] eth0: 52:54:00:12:34:56 up",
    "[    1.000000] virt/tdx: BIOS enabled: private KeyID range [32, 64)",
)


@dataclass(frozen=True)
class FakeHost(Host):
    """A host of files; an MSR that is not there faults."""

    files: Mapping[str, str]
    msrs: Mapping[tuple[int, int], int] = field(default_factory=dict)
    lines: Sequence[str] = LOG
    root: bool = True

    def data(self, path: str) -> bytes:
        if path not in self.files:
            raise NotRead(path, Why.ABSENT, "No such file or directory")
        return sieve(path, self.files[path].encode())

    def names(self, path: str) -> tuple[str, ...]:
        below = [one.removeprefix(f"{path}/") for one in self.files if one.startswith(f"{path}/")]
        if not below:
            raise NotRead(path, Why.ABSENT, "No such file or directory")
        return tuple(sorted({one.partition("/")[0] for one in below}))

    def msr(self, cpu: int, address: int) -> int:
        if not self.root:
            what = f"MSR {address:#x} of CPU {cpu}"
            raise NotRead(what, Why.DENIED, "Permission denied", "Run it as root.")
        if (cpu, address) not in self.msrs:
            raise NotRead(f"MSR {address:#x}", Why.FAULT, "RDMSR faults")
        return self.msrs[cpu, address]

    def log(self) -> tuple[str, ...]:
        if not self.root:
            raise NotRead("the kernel's log", Why.DENIED, "Operation not permitted", "Be root.")
        return sieve_log(self.lines)


def topology(
    packages: int, cores: int, threads: int, microcode: Mapping[int, str] | None = None
) -> dict[str, str]:
    """Files about CPUs, numbered as Linux does: first threads of all cores come first."""
    total = packages * cores * threads
    every = f"0-{total - 1}\n"
    cpus = "/sys/devices/system/cpu"
    files = {f"{cpus}/online": every, f"{cpus}/present": every}
    blocks = []
    for number in range(total):
        core = number % (packages * cores)
        package = core // cores
        siblings = ",".join(str(core + one * packages * cores) for one in range(threads))
        folder = f"{cpus}/cpu{number}/topology"
        files[f"{folder}/physical_package_id"] = f"{package}\n"
        files[f"{folder}/core_id"] = f"{core % cores}\n"
        files[f"{folder}/thread_siblings_list"] = f"{siblings}\n"
        version = (microcode or {}).get(number, "0x2b000603")
        blocks.append(
            CPUINFO.format(
                cpu=number, package=package, core=core % cores, microcode=version, flags=FLAGS
            )
        )
    return files | {"/proc/cpuinfo": "\n".join(blocks)}


def fake_host(
    packages: int = 2,
    cores: int = 2,
    threads: int = 1,
    *,
    changed: Mapping[tuple[int, int], int] | None = None,
    microcode: Mapping[int, str] | None = None,
    root: bool = True,
    files: Mapping[str, str] | None = None,
) -> FakeHost:
    """A host; changed are MSRs of CPUs that are not as on the others."""
    total = packages * cores * threads
    msrs = {(cpu, address): value for cpu in range(total) for address, value in MSRS.items()}
    iomem = IOMEM if root else "00000000-00000000 : System RAM\n"
    made = FILES | topology(packages, cores, threads, microcode) | {"/proc/iomem": iomem}
    made |= files or {}
    return FakeHost(made, msrs | dict(changed or {}), root=root)


def no_driver() -> FakeDriver:
    """Stands for opening a device that is not there."""
    raise DriverMissing("there is no /dev/tdxhost: the tdxhost driver is not loaded", "Load it.")


def facts(host: Host, driver: FakeDriver | None) -> Facts:
    """A host with a driver, or without."""

    @contextmanager
    def opened() -> Iterator[FakeDriver]:
        yield driver if driver is not None else no_driver()

    return Facts(host, opened)


def many_cpus(
    packages: int, cores: int, threads: int, failed: Sequence[CpuResult] = ()
) -> FakeDriver:
    """The driver of a host of that many CPUs, in which all are enabled but some."""
    total = packages * cores * threads
    results = {number: _placed(number, packages, cores) for number in range(total)}
    results |= {one.cpu: replace(one, package=results[one.cpu].package) for one in failed}
    return FakeDriver(cpus=tuple(results.values()))


def _placed(number: int, packages: int, cores: int) -> CpuResult:
    package = number % (packages * cores) // cores
    return cpu(number, package=package, node=package, duration_ns=900_000 + number * 7919 % 400_000)


def many_cmrs(number: int, outside: bool = True) -> Memory:
    """Memory in pieces of 2 GiB with holes between them, one CMR and one TDMR for each."""
    made = []
    for at in range(number):
        base, node = 4 * GIB + at * 3 * GIB, at * 2 // number
        for kind, offset, length in (
            (RangeKind.RAM, 0, 2 * GIB),
            (RangeKind.CMR, 0, 2 * GIB),
            (RangeKind.TDMR, 0, 3 * GIB),
            (RangeKind.RESERVED, 2 * GIB, GIB),
            (RangeKind.PAMT_4K, GIB, 8 * MIB),
        ):
            tdmr = at if kind >= RangeKind.TDMR else None
            made.append(Range(base_pa=base + offset, bytes=length, kind=kind, node=node, tdmr=tdmr))
    if outside:
        base = 512 * GIB
        made += [
            Range(base_pa=base, bytes=4 * GIB, kind=kind, node=1, tdmr=None)
            for kind in (RangeKind.RAM, RangeKind.OUTSIDE)
        ]
    return Memory(tuple(sorted(made, key=lambda one: (one.kind, one.base_pa))), 16 * MIB)


def check(id_: str, found: Found, **changes: object) -> Result:
    """A check that came to something."""
    told = {
        "title": f"The check {id_}",
        "purpose": Purpose.BRING_UP,
        "scope": Scope.HOST,
        "expected": "all as it has to be",
        "why": "TDX needs it",
        "fails": f"{id_} is not as it has to be",
        "fix": "change it in the BIOS",
    }
    return Result(Check(id=id_, **(told | changes)), found)  # type: ignore[arg-type]


def some_results() -> tuple[Result, ...]:
    """One result of each outcome."""
    return (
        check("processor.model", Found(Outcome.PASS, "Sapphire Rapids")),
        check(
            "firmware.tme",
            Found(Outcome.FAIL, "bit 1 of MSR 0x982 is 0 on CPU 3", frozenset({3})),
            fails="memory encryption (TME) is off",
            fix="In the BIOS: Socket Configuration, Memory Encryption (TME): Enabled",
        ),
        check("firmware.seamrr", Found(Outcome.NOT_APPLICABLE, "no SEAMRR")),
        check("memory.cxl", Found(Outcome.WARN, "4.0 GiB of CXL memory is online")),
        check("kernel.log", Found(Outcome.NOT_CHECKED, "the kernel's log needs root")),
        check("module.version", Found(Outcome.SKIPPED, "firmware.tme did not pass")),
    )
