# SPDX-License-Identifier: GPL-2.0-or-later
"""Two hosts, or one at two times: what differs that matters."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TypeVar

from tdxhost.doctor.engine import Outcome, Result
from tdxhost.doctor.facts import MsrReading
from tdxhost.leaves import leaf_name
from tdxhost.msrs import BitField, Msr
from tdxhost.records import CpuResult, CpuState, RangeKind
from tdxhost.report.about import DMI_FILES
from tdxhost.report.model import Report
from tdxhost.report.words import metadata_text
from tdxhost.state import Outcome as Attempt
from tdxhost.words import register, size, span

T = TypeVar("T")

#: MSRs that say what goes on at the moment: IA32_INTR_PENDING.
PASSING = frozenset({0x9A})
NOTHING = "none"
FAULT = "RDMSR faults"
#: Checks that were made on both sides differ; others follow from what is told elsewhere.
MADE = frozenset({Outcome.PASS, Outcome.WARN, Outcome.FAIL, Outcome.NOT_APPLICABLE})
THERE, NOT_THERE = "there", "not there"


class Group(StrEnum):
    """What a difference is about, in the order in which that matters."""

    VERDICT = "verdict"
    PROCESSOR = "processor"
    FIRMWARE = "firmware"
    MEMORY = "memory"
    KERNEL = "kernel"
    MODULE = "module"
    CPUS = "cpus"


@dataclass(frozen=True, slots=True)
class Bits:
    """A field of an MSR that differs."""

    label: str
    name: str
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not the same; cpus are those that it is about, where it is about some."""

    group: Group
    what: str
    a: str
    b: str
    cpus: tuple[int, ...] = ()
    bits: tuple[Bits, ...] = ()


@dataclass(frozen=True, slots=True)
class Uncompared:
    """Something that one side does not know."""

    what: str
    side: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs, and what could not be compared."""

    differences: tuple[Difference, ...]
    uncompared: tuple[Uncompared, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two reports."""

    a: Report
    b: Report

    def each(self, of: Callable[[Report], T]) -> tuple[T, T]:
        """Something of both."""
        return of(self.a), of(self.b)

    def both(self, known: Callable[[Report], object]) -> bool:
        """Whether both sides know something."""
        return bool(known(self.a)) and bool(known(self.b))

    @property
    def cpus(self) -> list[int]:
        """CPUs that both have."""
        return sorted({one.cpu for one in self.a.threads} & {one.cpu for one in self.b.threads})


def compare(a: Report, b: Report) -> Comparison:
    """Compares all that both know."""
    pair = Pair(a, b)
    found = tuple(difference for look in LOOKS for difference in look(pair))
    return Comparison(found, tuple(_uncompared(pair)))


def _verdicts(pair: Pair) -> Iterator[Difference]:
    yield from _text(pair, Group.VERDICT, "verdict", lambda report: report.headline.text)
    told = pair.each(_checks)
    for id_ in (id_ for id_ in told[0] if id_ in told[1]):
        a, b = told[0][id_], told[1][id_]
        if {a.outcome, b.outcome} <= MADE and _came_to(a) != _came_to(b):
            yield Difference(Group.VERDICT, f"check {id_}", _check(a), _check(b))


def _checks(report: Report) -> dict[str, Result]:
    return {result.check.id: result for result in report.diagnosis.results}


def _came_to(result: Result) -> tuple[object, ...]:
    """What counts: of checks that passed, what they read is compared below."""
    return (result.outcome, result.cause) if result.is_bad else (result.outcome,)


def _check(result: Result) -> str:
    return f"{result.outcome}: {result.cause if result.is_bad else result.found.read}"


def _processors(pair: Pair) -> Iterator[Difference]:
    for what, of in (
        ("processor", lambda report: report.about.cpu),
        ("signature", lambda report: report.about.signature),
        ("packages", lambda report: str(report.about.packages or "")),
        ("CPUs that are there", lambda report: str(report.about.cpus_present or "")),
        ("CPUs online", lambda report: str(report.about.cpus_online or "")),
    ):
        yield from _text(pair, Group.PROCESSOR, what, of)
    yield from _by_cpu(pair, Group.PROCESSOR, "microcode", *pair.each(_microcode))


def _microcode(report: Report) -> dict[int, str]:
    return {cpu: version for version, cpus in report.about.microcode for cpu in cpus}


def _text(pair: Pair, group: Group, what: str, of: Callable[[Report], str]) -> Iterator[Difference]:
    """A difference where both know a text and it is not the same."""
    a, b = of(pair.a), of(pair.b)
    if a and b and a != b:
        yield Difference(group, what, a, b)


def _by_cpu(
    pair: Pair, group: Group, what: str, a: Mapping[int, str], b: Mapping[int, str]
) -> Iterator[Difference]:
    """Differences of CPUs that both have, CPUs that differ alike taken together."""
    found: dict[tuple[str, str], list[int]] = {}
    for cpu in pair.cpus:
        if cpu in a and cpu in b and a[cpu] != b[cpu]:
            found.setdefault((a[cpu], b[cpu]), []).append(cpu)
    for (of_a, of_b), cpus in found.items():
        yield Difference(group, what, of_a, of_b, tuple(cpus))


def _firmware(pair: Pair) -> Iterator[Difference]:
    for name in DMI_FILES:
        yield from _text(pair, Group.FIRMWARE, name, partial(_dmi, name))
    readings = pair.each(lambda report: {one.address: one for one in report.msrs})
    for address in sorted(readings[0].keys() & readings[1].keys() - PASSING):
        msr = pair.a.tables.msrs.get(address)
        sides = _msr_values(readings[0][address]), _msr_values(readings[1][address])
        label = readings[0][address].label
        for found in _by_cpu(pair, Group.FIRMWARE, label, *sides):
            yield _with_bits(found, msr)


def _dmi(name: str, report: Report) -> str:
    return report.about.dmi.get(name, "")


def _msr_values(reading: MsrReading) -> dict[int, str]:
    told = {cpu: register(value) for cpu, value in reading.values.items()}
    return told | dict.fromkeys(reading.faults, FAULT)


def _with_bits(found: Difference, msr: Msr) -> Difference:
    """Adds the fields that differ, of an MSR that has some and that both could read."""
    if not msr.fields or FAULT in (found.a, found.b):
        return found
    a, b = int(found.a, 16), int(found.b, 16)
    fields = {field for field, _ in (*msr.describe(a), *msr.describe(b))}
    differing = [field for field in fields if field.of(a) != field.of(b)]
    bits = tuple(_bits(field, a, b) for field in sorted(differing, key=lambda one: one.low))
    return Difference(found.group, found.what, found.a, found.b, found.cpus, bits)


def _bits(field: BitField, a: int, b: int) -> Bits:
    return Bits(field.label, field.name, field.of(a), field.of(b))


def _memory(pair: Pair) -> Iterator[Difference]:
    for what, of in (("CMRs", _cmrs), ("System RAM", _ram)):
        if pair.both(of) and of(pair.a) != of(pair.b):
            yield from _ranges(what, of(pair.a), of(pair.b))


Ranges = frozenset[tuple[int, int]]


def _cmrs(report: Report) -> Ranges:
    if report.state and (known := report.state.memory.of_kind(RangeKind.CMR)):
        return frozenset((one.base_pa, one.bytes) for one in known if one.bytes)
    return frozenset((one.first, one.last - one.first + 1) for one in report.logged_cmrs)


def _ram(report: Report) -> Ranges:
    regions = (one for one in report.regions if one.name.startswith("System RAM"))
    return frozenset((one.first, one.last - one.first + 1) for one in regions)


def _ranges(what: str, a: Ranges, b: Ranges) -> Iterator[Difference]:
    """The ranges that only one side has, and the sums where they differ."""
    sums = sum(length for _, length in a), sum(length for _, length in b)
    if sums[0] != sums[1]:
        yield Difference(Group.MEMORY, f"{what}, in all", size(sums[0]), size(sums[1]))
    yield Difference(Group.MEMORY, f"{what} that only one has", _spans(a - b), _spans(b - a))


def _spans(ranges: Ranges) -> str:
    return ", ".join(span(*one) for one in sorted(ranges)) or NOTHING


def _kernel(pair: Pair) -> Iterator[Difference]:
    yield from _text(pair, Group.KERNEL, "release", lambda report: report.about.kernel)
    yield from _text(pair, Group.KERNEL, "provider", lambda report: report.about.provider)
    if pair.both(lambda report: report.kernel.options):
        yield from _named(Group.KERNEL, *pair.each(lambda report: report.kernel.options), "CONFIG_")
    words = pair.each(lambda report: dict.fromkeys(report.kernel.parameters, THERE))
    yield from _named(Group.KERNEL, *words, "command line: ", NOT_THERE)
    yield from _modules(pair)


def _modules(pair: Pair) -> Iterator[Difference]:
    """Modules that one side has loaded, and parameters of those that both have."""
    loaded = pair.each(_loaded)
    for module in sorted(loaded[0] | loaded[1]):
        if module in loaded[0] & loaded[1]:
            yield from _named(Group.KERNEL, *pair.each(partial(_parameters, module)))
        else:
            a, b = ("loaded" if module in side else "not loaded" for side in loaded)
            yield Difference(Group.KERNEL, f"module {module}", a, b)


def _loaded(report: Report) -> set[str]:
    return {name.partition(".")[0] for name in report.kernel.modules}


def _parameters(module: str, report: Report) -> dict[str, str]:
    told = report.kernel.modules
    return {name: value for name, value in told.items() if name.startswith(f"{module}.")}


def _named(
    group: Group,
    a: Mapping[str, str],
    b: Mapping[str, str],
    prefix: str = "",
    lacking: str = NOTHING,
) -> Iterator[Difference]:
    for name in dict.fromkeys((*a, *b)):
        told = a.get(name, lacking), b.get(name, lacking)
        if told[0] != told[1]:
            yield Difference(group, f"{prefix}{name}", *told)


def _module(pair: Pair) -> Iterator[Difference]:
    yield from _text(pair, Group.MODULE, "state", _module_state)
    yield from _text(pair, Group.MODULE, "version", _version)
    yield from _text(pair, Group.MODULE, "private KeyIDs", _keyids)
    if pair.both(_version):
        yield from _named(Group.MODULE, *pair.each(_features), "feature ", NOT_THERE)
    if pair.both(_metadata):
        yield from _named(Group.MODULE, *pair.each(_metadata), "metadata ")


def _module_state(report: Report) -> str:
    return report.state.module.module_status.label if report.state else ""


def _version(report: Report) -> str:
    if report.state is None or not report.state.info.has_module:
        return ""
    info = report.state.info
    return f"{info.module_version}, built {info.module_build_date}, build {info.module_build_num}"


def _keyids(report: Report) -> str:
    if report.state is None or not report.state.info.has_keyids:
        return ""
    return f"{report.state.info.nr_keyids} from {report.state.info.keyid_first} on"


def _features(report: Report) -> dict[str, str]:
    features = report.state.info.tdx_features0 if report.state else 0
    return dict.fromkeys(report.tables.fields.feature_names(features), THERE)


def _metadata(report: Report) -> dict[str, str]:
    known = (one for one in report.metadata.readings if one.known)
    return {one.field.name: metadata_text(one.values) for one in known}


def _results(pair: Pair) -> Iterator[Difference]:
    yield from _by_cpu(pair, Group.CPUS, "result", *pair.each(_cpu_results))


def _cpu_results(report: Report) -> dict[int, str]:
    cpus = report.state.cpus if report.state else ()
    return {cpu.cpu: _result(report, cpu) for cpu in cpus}


def _result(report: Report, cpu: CpuResult) -> str:
    if cpu.state is not CpuState.FAILED:
        return cpu.state.label
    judge, attempt = report.tables.judge, Attempt.of(cpu)
    if attempt.seam_status:
        return f"failed: {leaf_name(attempt.leaf)} {judge.decode(attempt).label}"
    return f"failed: {judge.explain(attempt, cpu=f'CPU {cpu.cpu}').message}"


LOOKS = (_verdicts, _processors, _firmware, _memory, _kernel, _module, _results)

KNOWN: tuple[tuple[str, Callable[[Report], object]], ...] = (
    ("processors", lambda report: report.about.microcode),
    ("MSRs", lambda report: report.msrs),
    ("CMRs", _cmrs),
    ("System RAM", _ram),
    ("kernel configuration", lambda report: report.kernel.options),
    ("the driver's results", lambda report: report.state),
    ("metadata of the TDX module", lambda report: report.metadata.readings),
)


def _uncompared(pair: Pair) -> Iterable[Uncompared]:
    """What one side alone knows; of what neither knows nobody has to be told."""
    for what, known in KNOWN:
        a, b = bool(known(pair.a)), bool(known(pair.b))
        if a != b:
            yield Uncompared(what, "b" if a else "a")
