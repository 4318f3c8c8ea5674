# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables of CPUs and steps, for status, enable and cpu-enable."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from tdxhost.cli.tables import Block, Column, Row, Table
from tdxhost.findings import Judge
from tdxhost.leaves import leaf_name
from tdxhost.records import Code, CpuResult, CpuState, Info, ModuleStatus, StepResult
from tdxhost.state import Outcome, State
from tdxhost.wording import outside_memory, pamt_after_failure
from tdxhost.words import count, duration

#: How often SEAMCALLs were repeated; shown where any was.
REPEATED = Column("REPEATED", right=True, rank=1)
CPU_COLUMNS = (
    Column("CPU", right=True),
    Column("APIC", right=True, rank=2),
    Column("NODE", right=True, rank=3),
    Column("STATE"),
    Column("TIME", right=True, rank=1),
    REPEATED,
    Column("RESULT"),
)
STEP_COLUMNS = (
    Column("STEP"),
    Column("SEAMCALLS", right=True, rank=2),
    REPEATED,
    Column("TIME", right=True, rank=1),
    Column("RESULT"),
)
NOTHING = "-"


def state_blocks(judge: Judge, state: State) -> list[Block]:
    """A summary line, CPUs by package, steps."""
    blocks: list[Block] = [summary(state), versions(state.info), *notes(state)]
    blocks += cpu_blocks(judge, state.cpus)
    steps = [step for step in state.steps if step.runs]
    if steps:
        rows = tuple(_step_row(judge, step) for step in steps)
        blocks += ["", _table("Steps", STEP_COLUMNS, rows)]
    return blocks


def notes(state: State) -> list[str]:
    """What there is to know about memory: RAM left out, PAMTs after a failure."""
    outside = outside_memory(state.memory) if state.left_out else ""
    return [line for line in (outside, pamt_after_failure(state.status)) if line]


def _table(title: str, columns: tuple[Column, ...], rows: tuple[Row, ...]) -> Table:
    """A table without the column of repeats where there were none."""
    place = columns.index(REPEATED)
    table = Table(title, columns, rows)
    if any(row.cells[place] for row in rows):
        return table
    return table.keep([i for i in range(len(columns)) if i != place])


def _repeated(retries: int) -> str:
    return str(retries) if retries else ""


def summary(state: State) -> str:
    """The one line that says how it stands."""
    module = state.module
    stands = f"TDX {module.module_status.label}"
    if module.module_status is ModuleStatus.ERROR:
        stands += f" at step {module.step.label}"
    elif state.status.running:
        stands += f", step {state.status.step.label} under way"
    return f"{stands}; {cpus_summary(state.cpus)}"


def versions(info: Info) -> str:
    """What was talked to."""
    module = f"TDX module {info.module_version}; " if info.has_module else ""
    return f"{module}provider {info.provider.label}"


def cpus_summary(cpus: Sequence[CpuResult]) -> str:
    """How many of the CPUs are enabled, failed, offline."""
    enabled = _in_state(cpus, CpuState.ENABLED)
    packages = len({cpu.package for cpu in cpus} - {None})
    text = f"{enabled} of {count(len(cpus), 'CPU')} enabled in {count(packages, 'package')}"
    for state in (CpuState.FAILED, CpuState.OFFLINE):
        if number := _in_state(cpus, state):
            text += f", {number} {state.label}"
    return text


def _in_state(cpus: Iterable[CpuResult], state: CpuState) -> int:
    return sum(cpu.state is state for cpu in cpus)


def cpu_blocks(judge: Judge, cpus: Sequence[CpuResult]) -> list[Block]:
    """A blank line and a table for each package."""
    blocks: list[Block] = []
    by_package = sorted(cpus, key=lambda cpu: (cpu.package is None, cpu.package, cpu.cpu))
    for package, group in groupby(by_package, key=lambda cpu: cpu.package):
        members = list(group)
        enabled = _in_state(members, CpuState.ENABLED)
        name = "Package unknown" if package is None else f"Package {package}"
        title = f"{name}: {enabled} of {count(len(members), 'CPU')} enabled"
        rows = tuple(_cpu_row(judge, cpu) for cpu in members)
        blocks += ["", _table(title, CPU_COLUMNS, rows)]
    return blocks


def _cpu_row(judge: Judge, cpu: CpuResult) -> Row:
    cells = (
        str(cpu.cpu),
        str(cpu.apic_id),
        NOTHING if cpu.node is None else str(cpu.node),
        cpu.state.label,
        duration(cpu.duration_ns) if cpu.tried else NOTHING,
        _repeated(cpu.retries),
        _cpu_result(judge, cpu),
    )
    return Row(cells, bad=cpu.state is CpuState.FAILED)


def _cpu_result(judge: Judge, cpu: CpuResult) -> str:
    if cpu.state is CpuState.FAILED:
        return _failure(judge, cpu)
    return "did the global initialisation" if cpu.did_global_init else ""


def _failure(judge: Judge, result: CpuResult | StepResult) -> str:
    outcome = Outcome.of(result)
    if outcome.code is Code.SEAMCALL:
        return f"{leaf_name(outcome.leaf)} {judge.decode(outcome).label}"
    cpu = "" if result.cpu is None else f"CPU {result.cpu}"
    return judge.explain(outcome, cpu=cpu).message


def _step_row(judge: Judge, step: StepResult) -> Row:
    result = _failure(judge, step) if step.error else "done"
    cells = (
        step.step.label,
        str(step.seamcalls),
        _repeated(step.retries),
        duration(step.duration_ns),
        result,
    )
    return Row(cells, bad=bool(step.error))


def cpu_enable_blocks(judge: Judge, info: Info, cpus: Sequence[CpuResult]) -> list[Block]:
    """The result of cpu-enable."""
    return [cpus_summary(cpus), versions(info), *cpu_blocks(judge, cpus)]
