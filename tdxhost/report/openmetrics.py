# SPDX-License-Identifier: GPL-2.0-or-later
"""A report as metrics, for node_exporter's textfile collector and for OpenMetrics parsers.

Every family is a gauge, of which both formats say the same: the older text format knows no info
and no stateset, and puts _total into a counter's name where OpenMetrics leaves it out. To the
older one UNIT lines and the EOF line are comments. What could not be read is left out, never 0.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tdxhost.doctor.diagnosis import Diagnosis
from tdxhost.doctor.engine import Outcome, Result
from tdxhost.documents import Document, node_sums, state_document
from tdxhost.records import Info, Memory, ModuleStatus, RangeKind, Step, StepResult
from tdxhost.report.about import About
from tdxhost.report.bundle import seconds
from tdxhost.report.model import Report

PREFIX = "tdxhost"
UNITS = ("seconds", "bytes")
NS_PER_S = 1_000_000_000
#: OpenMetrics 1.0 and the Prometheus text format 0.0.4: in a label's value.
ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
#: What a verdict can be, the worst last.
LEVELS = (Outcome.PASS, Outcome.NOT_CHECKED, Outcome.WARN, Outcome.FAIL)

#: None and empty text stand for what is not known.
Labels = Mapping[str, object]
#: Text where it is a number with a fraction.
Value = int | str


@dataclass(frozen=True, slots=True)
class Family:
    """A metric, with its samples by label; text says what it means, without full stop."""

    name: str
    text: str
    samples: tuple[tuple[Labels, Value], ...]

    def lines(self) -> Iterator[str]:
        """Its lines; none where nothing is known of it."""
        if not self.samples:
            return
        name = f"{PREFIX}_{self.name}"
        unit = name.rpartition("_")[2]
        yield f"# TYPE {name} gauge"
        if unit in UNITS:
            yield f"# UNIT {name} {unit}"
        yield f"# HELP {name} {self.text}"
        for labels, value in self.samples:
            yield f"{name}{label_set(labels)} {value}"


def openmetrics(report: Report) -> str:
    """Everything that an operator may watch or alert on."""
    lines = [line for family in families(report) for line in family.lines()]
    return "".join(f"{line}\n" for line in (*lines, "# EOF"))


def families(report: Report) -> Iterator[Family]:
    """The metrics of a report, those without samples too."""
    yield from _of_report(report)
    yield from _of_host(report.about)
    yield from _of_checks(report.diagnosis)
    state = report.state
    if state is None or report.verdict is None:
        yield _one("cpus_online", "CPUs online", report.about.cpus_online or None)
        return
    document = state_document(report.tables.judge, state, report.verdict)
    yield from _of_info(state.info)
    yield from _of_module(document["module"])
    yield _one("enable_running", "Whether tdx_enable() is running", state.status.running)
    yield _one("generation", "Grows with every change of state", state.status.generation)
    yield _one("cpus_online", "CPUs online", state.status.cpus_online)
    yield _one("cpus_enabled", "CPUs on which TDH.SYS.LP.INIT succeeded", state.status.cpus_enabled)
    yield _one("cpus_failed", "Online CPUs whose last try failed", state.status.cpus_failed)
    yield _missing(document)
    yield from _of_cpus(document["cpus"])
    yield from _of_steps(document["steps"])
    yield from _of_memory(state.memory, state.steps)


def label_set(labels: Labels) -> str:
    """Labels as they stand behind a name; those without a value are left out."""
    known = {name: str(value) for name, value in labels.items() if value not in (None, "")}
    pairs = (f'{name}="{value.translate(ESCAPES)}"' for name, value in known.items())
    return f"{{{','.join(pairs)}}}" if known else ""


def _one(name: str, text: str, value: Value | None) -> Family:
    """A metric without labels."""
    return Family(name, text, () if value is None else (({}, value),))


def _info(name: str, text: str, *told: Labels) -> Family:
    """A metric whose labels are what it tells."""
    known = (labels for labels in told if any(value not in (None, "") for value in labels.values()))
    return Family(f"{name}_info", text, tuple((labels, 1) for labels in known))


def _states(name: str, text: str, label: str, states: Iterable[str], now: str) -> Family:
    """A metric that is 1 for the state that is so, and 0 for the others."""
    every = dict.fromkeys((*states, now))
    return Family(name, text, tuple(({label: state}, int(state == now)) for state in every))


def _of_report(report: Report) -> Iterator[Family]:
    taken = seconds(report.taken_at) or None
    level = str(report.headline.level)
    unread = dict.fromkeys(one.what for one in report.unread)
    yield _one("up", "Whether the driver could be asked", int(report.state is not None))
    yield _info("build", "Version of tdxhost", {"version": report.tdxhost})
    yield _one("report_timestamp_seconds", "When the host was read, since 1970", taken)
    yield _states("verdict", "What the report comes to", "outcome", map(str, LEVELS), level)
    text = "Something that could not be read"
    yield Family("not_read", text, tuple(({"what": what}, 1) for what in unread))


def _of_host(about: About) -> Iterator[Family]:
    told = {
        "generation": about.generation,
        "signature": about.signature,
        "bios_version": about.dmi.get("bios_version"),
        "bios_date": about.dmi.get("bios_date"),
        "kernel": about.kernel,
    }
    microcode = tuple(({"version": version}, len(cpus)) for version, cpus in about.microcode)
    yield _info("host", "Processor, BIOS and kernel", told)
    yield _info("provider", "Which code initialises TDX", {"provider": about.provider})
    yield _one("packages", "Packages, as Linux counts them", about.packages or None)
    yield _one("cpus_present", "CPUs that Linux knows", about.cpus_present or None)
    yield Family("microcode_cpus", "CPUs by version of their microcode", microcode)


def _of_checks(diagnosis: Diagnosis) -> Iterator[Family]:
    counts = ((outcome, len(diagnosis.of(outcome))) for outcome in Outcome)
    samples = tuple(({"outcome": str(outcome)}, number) for outcome, number in counts)
    cause = diagnosis.cause
    yield Family("checks", "Checks of tdxhost doctor by outcome", samples)
    yield _checks("check_failed", "A check that failed", diagnosis.of(Outcome.FAIL))
    yield _checks("check_warned", "A check that warned", diagnosis.of(Outcome.WARN))
    text = "The check that failed and is the one to begin with"
    yield _info("cause", text, {"id": cause.check.id if cause else None})


def _checks(name: str, text: str, results: Iterable[Result]) -> Family:
    checks = [result.check for result in results]
    return Family(
        name, text, tuple(({"id": one.id, "purpose": str(one.purpose)}, 1) for one in checks)
    )


def _of_info(info: Info) -> Iterator[Family]:
    text = "Why TDX can't be used on this host"
    yield _info("unusable", text, {"code": info.code.label if info.code else None})
    build = {"build_num": info.module_build_num} if info.has_module else {}
    version = {"version": info.module_version, **build}
    yield _info("module", "Version of the TDX module", version)
    private = info.nr_keyids if info.has_keyids else None
    yield _one("private_keyids", "Private KeyIDs", private)
    yield _one("private_keyid_first", "The first of them", info.keyid_first if private else None)
    yield _one("global_keyid", "The global KeyID", info.keyid_global if private else None)


def _of_module(module: Document) -> Iterator[Family]:
    states = [status.label for status in ModuleStatus]
    text = "Where the TDX module stands"
    yield _states("module_status", text, "status", states, module["status"])
    yield _one("enable_errno", "What tdx_enable() ended with, 0 is fine", module["errno"])
    yield _one("enable_final", "Whether tdx_enable() refuses to try again", int(module["final"]))
    text = "How tdx_enable() failed"
    step = {"step": module["step"], "cpu": module["cpu"]}
    yield _info("enable_failure", text, *_failure(module, step))


def _failure(result: Document, labels: Labels) -> Iterator[Labels]:
    """How an attempt failed, in labels; nothing where it did not."""
    if result["errno"]:
        answer = {name: result[name] for name in ("code", "leaf", "trap")}
        yield {**labels, **answer, "status": result["status_name"]}


def _missing(document: Document) -> Family:
    """Where firmware's list of processors is not known, nobody knows how many."""
    cpus, apic_ids = document["missing_cpus"], document["missing_apic_ids"]
    number = None if apic_ids is None else len(cpus) + len(apic_ids)
    return _one("processors_missing", "Processors that the TDX module waits for", number)


Ask = Callable[[Document], Value | None]


def _seconds_taken(result: Document) -> str | None:
    taken = result["duration_ns"]
    return None if taken is None else as_seconds(taken)


def as_seconds(nanoseconds: int) -> str:
    """Nanoseconds in seconds, to the last of them."""
    whole, rest = divmod(nanoseconds, NS_PER_S)
    return f"{whole}.{rest:09}"


def _retries(result: Document) -> int | None:
    """SEAMCALLs that were repeated; None where none was tried."""
    return None if result["errno"] is None else result["retries"]


def _seamcalls(result: Document) -> int | None:
    return None if result["errno"] is None else result["seamcalls"]


CPU_FAMILIES: Sequence[tuple[str, str, Ask]] = (
    (
        "cpu_enabled",
        "Whether the CPU is enabled, and online",
        lambda cpu: int(cpu["state"] == "enabled"),
    ),
    ("cpu_errno", "What tdx_cpu_enable() ended with, 0 is fine", lambda cpu: cpu["errno"]),
    (
        "cpu_enable_duration_seconds",
        "How long tdx_cpu_enable() took: TDH.SYS.LP.INIT, on one CPU TDH.SYS.INIT too",
        _seconds_taken,
    ),
    ("cpu_enable_retries", "SEAMCALLs that tdx_cpu_enable() repeated", _retries),
)

STEP_FAMILIES: Sequence[tuple[str, str, Ask]] = (
    ("step_runs", "How often the step was begun", lambda step: step["runs"]),
    ("step_errno", "How its last run ended, 0 is fine", lambda step: step["errno"]),
    ("step_duration_seconds", "How long its last run took", _seconds_taken),
    ("step_retries", "SEAMCALLs that its last run repeated", _retries),
    ("step_seamcalls", "SEAMCALLs of its last run, with those repeated", _seamcalls),
)


def _of_cpus(cpus: Sequence[Document]) -> Iterator[Family]:
    labelled = [({"cpu": cpu["cpu"], "package": cpu["package"]}, cpu) for cpu in cpus]
    yield from _table(CPU_FAMILIES, labelled)
    failures = [found for labels, cpu in labelled for found in _failure(cpu, labels)]
    yield _info("cpu_failure", "How tdx_cpu_enable() failed on the CPU", *failures)


def _of_steps(steps: Sequence[Document]) -> Iterator[Family]:
    labelled = [({"step": step["name"]}, step) for step in steps]
    yield from _table(STEP_FAMILIES, labelled)
    failures = [
        found
        for labels, step in labelled
        for found in _failure(step, {**labels, "cpu": step["cpu"]})
    ]
    yield _info("step_failure", "How the step failed", *failures)


def _table(
    table: Sequence[tuple[str, str, Ask]], labelled: Sequence[tuple[dict[str, Any], Document]]
) -> Iterator[Family]:
    for name, text, ask in table:
        told = ((labels, ask(result)) for labels, result in labelled)
        known = tuple((labels, value) for labels, value in told if value is not None)
        yield Family(name, text, known)


def _of_memory(memory: Memory, steps: Iterable[StepResult]) -> Iterator[Family]:
    """What the TDX module told, or is to have, is known once there is some of it."""
    cmrs, tdx = memory.bytes_of(RangeKind.CMR), memory.bytes_of(RangeKind.TDX)
    outside = memory.bytes_of(RangeKind.OUTSIDE) if _was_compared(memory, steps) else None
    tdmrs = len(memory.of_kind(RangeKind.TDMR))
    yield _one("cmr_bytes", "Convertible memory (CMRs)", cmrs or None)
    yield _one("outside_cmrs_bytes", "System RAM that can't be given to a TD", outside)
    yield _one("tdx_memory_bytes", "Memory that can be given to TDs", tdx or None)
    yield _one("tdmrs", "TDMRs", tdmrs or None)
    yield _one("pamt_bytes", "Memory held for PAMTs", memory.known_pamt_bytes)
    sums = node_sums(memory)
    yield _by_node("node_system_ram_bytes", "System RAM", sums, "system_ram_bytes")
    if tdx:
        yield _by_node("node_tdx_memory_bytes", "Memory for TDs", sums, "tdx_bytes")
    yield _by_node("node_pamt_bytes", "Memory held for PAMTs", sums, "pamt_bytes")


def _was_compared(memory: Memory, steps: Iterable[StepResult]) -> bool:
    """Whether System RAM was compared with the CMRs."""
    done = any(step.step is Step.MEMORY and step.runs and not step.error for step in steps)
    return done or bool(memory.of_kind(RangeKind.OUTSIDE))


def _by_node(name: str, text: str, sums: Iterable[Document], key: str) -> Family:
    told = (({"node": _node(one["node"])}, one[key]) for one in sums)
    known = tuple((labels, value) for labels, value in told if value is not None)
    return Family(name, f"{text}, by NUMA node", known)


def _node(node: int | None) -> object:
    return "none" if node is None else node
