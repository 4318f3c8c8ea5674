# SPDX-License-Identifier: GPL-2.0-or-later
"""What checks look at: a host and its driver, read once and put in order."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from tdxhost.access import Access
from tdxhost.bringup import read_state
from tdxhost.doctor.models import Model, model_of
from tdxhost.errors import BadData, NotRead, TdxHostError, Why
from tdxhost.findings import Judge
from tdxhost.host import Host
from tdxhost.kernel import complete
from tdxhost.msrs import MsrTable
from tdxhost.processors import Processors, read_processors
from tdxhost.recording import Opener
from tdxhost.records import Code, Provider, RangeKind
from tdxhost.state import Outcome, State
from tdxhost.status import DETAIL_MASK
from tdxhost.topology import Topology, format_cpu_list
from tdxhost.words import span

IOMEM_LINE = re.compile(r"(?P<indent> *)(?P<first>[0-9a-f]+)-(?P<last>[0-9a-f]+) : (?P<name>.*)")
#: Linux 6.8 to 7.3 arch/x86/virt/vmx/tdx/tdx.c, print_cmrs(); upper bound not included.
CMR_LINE = re.compile(r"\bCMR: \[0x(?P<first>[0-9a-f]+), 0x(?P<end>[0-9a-f]+)\)")
#: Where distributions keep a kernel's configuration.
CONFIGS = ("/boot/config-{0}", "/lib/modules/{0}/config", "/usr/lib/modules/{0}/config")


@dataclass(frozen=True, slots=True)
class MsrReading:
    """An MSR on every online CPU: its value, or that RDMSR faulted."""

    address: int
    name: str
    values: Mapping[int, int]
    faults: tuple[int, ...]

    @property
    def label(self) -> str:
        """As messages name it."""
        return f"{self.name} (MSR {self.address:#x})"

    def groups(self) -> list[tuple[int, tuple[int, ...]]]:
        """Values with the CPUs that have them, the most common first."""
        found: dict[int, list[int]] = {}
        for cpu, value in self.values.items():
            found.setdefault(value, []).append(cpu)
        ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[1]))
        return [(value, tuple(cpus)) for value, cpus in ordered]


@dataclass(frozen=True, slots=True)
class Cpu:
    """A CPU as /proc/cpuinfo has it."""

    number: int
    vendor: str
    family: int
    model: int
    stepping: int
    name: str
    microcode: str
    phys_bits: int
    flags: frozenset[str]

    @property
    def signature(self) -> str:
        """Family, model and stepping as microcode files are named: 06-8f-08."""
        return f"{self.family:02x}-{self.model:02x}-{self.stepping:02x}"


@dataclass(frozen=True, slots=True)
class Region:
    """A line of /proc/iomem; depth 0 is the outermost, last is included."""

    first: int
    last: int
    name: str
    depth: int

    @property
    def span(self) -> str:
        """First and last byte, as /proc/iomem writes them."""
        return span(self.first, self.last - self.first + 1)

    def inside(self, other: "Region") -> bool:
        """Whether all of it lies in another."""
        return other.first <= self.first and self.last <= other.last

    def overlaps(self, other: "Region") -> bool:
        """Whether some of it lies in another."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Facts:
    """A host and its driver; NotRead, or the driver's error, for what can't be had."""

    host: Host
    open_driver: Opener
    table: MsrTable = field(default_factory=MsrTable.load)
    judge: Judge = field(default_factory=Judge)

    @cached_property
    def online(self) -> tuple[int, ...]:
        """CPUs that are online, in order."""
        return tuple(sorted(Topology(self.host).online()))

    @cached_property
    def present(self) -> tuple[int, ...]:
        """CPUs that are there."""
        return tuple(sorted(Topology(self.host).present()))

    @cached_property
    def processors(self) -> Processors:
        """What firmware says of processors, and what limits Linux."""
        return read_processors(self.host)

    @cached_property
    def access(self) -> Access:
        """What keeps the driver out."""
        return Access.read(self.host)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The kernel's command line, as far as it bears on TDX."""
        return tuple(self.host.text("/proc/cmdline").split())

    @cached_property
    def release(self) -> str:
        """The kernel's release, such as 6.12.57+deb13-amd64."""
        return self.host.text("/proc/sys/kernel/osrelease")

    @cached_property
    def kernel_version(self) -> tuple[int, int]:
        """Major and minor of the release; (0, 0) where it has none."""
        found = re.match(r"(\d+)\.(\d+)", self.release)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    @cached_property
    def options(self) -> Mapping[str, str]:
        """Options of the kernel's configuration: y, m, or n where it is not set."""
        error = NotRead("the kernel's configuration", Why.ABSENT, "is in none of the usual places")
        for path in CONFIGS:
            try:
                return dict(_options(self.host.text(path.format(self.release))))
            except NotRead as failure:
                error = failure if failure.why is Why.DENIED else error
        raise error

    @cached_property
    def cpus(self) -> tuple[Cpu, ...]:
        """Every online CPU as /proc/cpuinfo has it."""
        blocks = self.host.text("/proc/cpuinfo").split("\n\n")
        try:
            return tuple(_cpu(block) for block in blocks if block.strip())
        except (KeyError, ValueError, IndexError) as error:
            raise BadData("/proc/cpuinfo", "processor", f"lacks {error}") from error

    @cached_property
    def model(self) -> Model | None:
        """The processor's model, where it is one that has TDX."""
        return model_of(self.cpus[0].family, self.cpus[0].model)

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """Physical memory as /proc/iomem has it; only root sees addresses."""
        regions = tuple(_regions(self.host.text("/proc/iomem")))
        if regions and not any(region.last for region in regions):
            reason = "shows addresses to root alone"
            raise NotRead("/proc/iomem", Why.DENIED, reason, "Run it as root.")
        return regions

    @cached_property
    def ram(self) -> tuple[Region, ...]:
        """System RAM."""
        return tuple(region for region in self.regions if region.name.startswith("System RAM"))

    @cached_property
    def log(self) -> tuple[str, ...]:
        """The kernel's log, as far as it bears on TDX."""
        return self.host.log()

    @cached_property
    def logged_cmrs(self) -> tuple[Region, ...]:
        """CMRs that the kernel's own TDX support printed."""
        found = (CMR_LINE.search(line) for line in self.log)
        return tuple(
            Region(int(match["first"], 16), int(match["end"], 16) - 1, "CMR", 0)
            for match in found
            if match and match["first"] != match["end"]
        )

    @cached_property
    def cmrs(self) -> tuple[Region, ...]:
        """CMRs, as the driver or the kernel's log has them; none where nobody has asked yet."""
        if state := self.state_or_none:
            known = state.memory.of_kind(RangeKind.CMR)
            if known:
                return tuple(
                    Region(it.base_pa, it.base_pa + it.bytes - 1, "CMR", 0) for it in known
                )
        try:
            return self.logged_cmrs
        except NotRead:
            return ()

    @cached_property
    def state(self) -> State:
        """Where the driver says that everything stands."""
        with self.open_driver() as source:
            state = read_state(source)
        memory = complete(state.memory, self.host)
        return replace(state, memory=memory, processors=self.processors)

    @cached_property
    def refused_msr(self) -> int | None:
        """The MSR that TDH.SYS.INIT did not accept; None where it named none."""
        for cpu in self.state_or_none.cpus if self.state_or_none else ():
            if cpu.code is Code.SEAMCALL:
                decoded = self.judge.decode(Outcome.of(cpu))
                if decoded.name == "TDX_INCORRECT_MSR_VALUE":
                    return decoded.value & DETAIL_MASK
        return None

    @property
    def state_or_none(self) -> State | None:
        """The state; None where the driver can't be asked."""
        try:
            return self.state
        except TdxHostError:
            return None

    @cached_property
    def provider(self) -> Provider | None:
        """Which code initialises TDX, as the driver or the kernel's configuration says."""
        if state := self.state_or_none:
            return state.info.provider
        told = self.host.text_or("/sys/class/misc/tdxhost/provider")
        if told:
            return Provider[told.upper()]
        try:
            kernel = self.options.get("INTEL_TDX_HOST") == "y"
        except NotRead:
            return None
        if not kernel:
            return Provider.DIRECT
        return Provider.KERNEL if self.kernel_version < (6, 19) else Provider.OBSERVER

    def msr(self, address: int) -> MsrReading:
        """Reads an MSR on every online CPU; NotRead where none can be."""
        values: dict[int, int] = {}
        faults = []
        for cpu in self.online:
            try:
                values[cpu] = self.host.msr(cpu, address)
            except NotRead as error:
                if error.why is not Why.FAULT:
                    raise
                faults.append(cpu)
        return MsrReading(address, self.table.get(address).name, values, tuple(faults))

    def all_cpus(self, cpus: tuple[int, ...] | frozenset[int]) -> str:
        """Names CPUs: every CPU, CPU 3, CPUs 0-3."""
        if len(cpus) == len(self.online):
            return "every CPU"
        return f"{'CPU' if len(cpus) == 1 else 'CPUs'} {format_cpu_list(cpus)}"


def _options(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, _, value = line.removeprefix("# ").removeprefix("CONFIG_").partition("=")
        if value:
            yield name, value
        else:
            yield name.partition(" ")[0], "n"


def _cpu(block: str) -> Cpu:
    pairs = (line.partition(":") for line in block.splitlines() if ":" in line)
    told = {name.strip(): value.strip() for name, _, value in pairs}
    return Cpu(
        number=int(told["processor"]),
        vendor=told["vendor_id"],
        family=int(told["cpu family"]),
        model=int(told["model"]),
        stepping=int(told["stepping"]) if told["stepping"].isdigit() else 0,
        name=told.get("model name", ""),
        microcode=told.get("microcode", ""),
        phys_bits=int(told.get("address sizes", "0").split()[0]),
        flags=frozenset(told.get("flags", "").split()),
    )


def _regions(text: str) -> Iterator[Region]:
    for line in text.splitlines():
        if found := IOMEM_LINE.match(line):
            first, last = int(found["first"], 16), int(found["last"], 16)
            yield Region(first, last, found["name"], len(found["indent"]) // 2)
