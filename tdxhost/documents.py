# SPDX-License-Identifier: GPL-2.0-or-later
"""The documents that --format json and yaml give: stable, versioned.

Registers are strings of 16 hex digits, errnos numbers (0 is fine), null is what is not known.
"""

from collections.abc import Iterable, Set
from typing import Any

from tdxhost.bringup import Metadata
from tdxhost.fields import FieldTable, Reading
from tdxhost.findings import Judge, Verdict
from tdxhost.leaves import leaf_name
from tdxhost.processors import Missing
from tdxhost.records import (
    Code,
    CpuResult,
    Info,
    Memory,
    ModuleStatus,
    Provider,
    Range,
    RangeKind,
    Status,
    Step,
    StepResult,
)
from tdxhost.state import Outcome, State
from tdxhost.times import Times
from tdxhost.words import register

SCHEMA = "tdxhost/1"

Document = dict[str, Any]

PAMTS = {RangeKind.PAMT_4K: "4K", RangeKind.PAMT_2M: "2M", RangeKind.PAMT_1G: "1G"}


def head(info: Info) -> Document:
    """How every document begins; code is why TDX can't be used here."""
    return {"schema": SCHEMA, "provider": info.provider.label, "code": info.code.label}


def findings_of(verdict: Verdict) -> list[Document]:
    """What is wrong, in words; the words are for people and may change."""
    return [
        {"message": found.message, "hint": found.hint or None, "left": list(found.left)}
        for found in verdict.findings
    ]


def _outcome(judge: Judge, outcome: Outcome) -> Document:
    """What a SEAMCALL came to; null where it was not made or did not answer."""
    called = outcome.leaf != 0
    # A SEAMCALL that faulted or found no module gave no status, and the registers say 0.
    silent = outcome.trap or outcome.code is Code.NO_MODULE
    answered = called and not silent and not (outcome.error and outcome.seam_status == 0)
    name = judge.reference.name_of(outcome.seam_status, outcome.leaf) if answered else None
    return {
        "leaf": leaf_name(outcome.leaf) if called else None,
        "seam_status": register(outcome.seam_status) if answered else None,
        "status_name": name,
    }


def module_of(judge: Judge, state: State) -> Document:
    """What tdx_enable() came to."""
    result = state.module
    known = result.error or result.module_status is not ModuleStatus.UNKNOWN
    document: Document = {
        "status": result.module_status.label,
        "step": None if result.step is Step.NONE else result.step.label,
        "errno": result.error if known else None,
        "code": result.code.label,
        "trap": result.trap or None,
        "cpu": result.cpu,
        **_outcome(judge, Outcome.of(result)),
        "final": state.is_final,
    }
    silent = document["seam_status"] is None and state.info.provider is Provider.DIRECT
    if result.module_status is ModuleStatus.INITIALIZED and silent:
        document["seam_status"], document["status_name"] = register(0), "TDX_SUCCESS"
    return document


def cpu_of(judge: Judge, cpu: CpuResult) -> Document:
    """What enabling a CPU came to; nulls for one on which it was never tried."""
    known = cpu.tried or cpu.error or cpu.leaf
    return {
        "cpu": cpu.cpu,
        "package": cpu.package,
        "apic_id": cpu.apic_id,
        "node": cpu.node,
        "state": cpu.state.label,
        "errno": cpu.error if known else None,
        "code": cpu.code.label,
        "trap": cpu.trap or None,
        **_outcome(judge, Outcome.of(cpu)),
        "retries": None if cpu.by_kernel else cpu.retries,
        "did_global_init": None if cpu.by_kernel else cpu.did_global_init,
        "was_done": cpu.was_done,
        "start_ns": cpu.start_ns if cpu.tried else None,
        "duration_ns": cpu.duration_ns if cpu.tried else None,
    }


def step_of(judge: Judge, step: StepResult) -> Document:
    """What a step came to; nulls for one that was never begun."""
    begun = step.runs > 0
    return {
        "name": step.step.label,
        "runs": step.runs,
        "errno": step.error if begun else None,
        "code": step.code.label,
        "trap": step.trap or None,
        "cpu": step.cpu,
        **_outcome(judge, Outcome.of(step)),
        "retries": None if step.by_kernel else step.retries,
        "seamcalls": None if step.by_kernel else step.seamcalls,
        **_memory_of(step),
        "start_ns": step.start_ns if begun else None,
        "duration_ns": step.duration_ns if begun else None,
        "chain_ns": None if step.by_kernel else step.chain_ns,
    }


def _memory_of(step: StepResult) -> Document:
    """What a step had too little of, and for which memory; null where that is not so."""
    return {
        "base_pa": register(step.base_pa) if step.bytes else None,
        "bytes": step.bytes or None,
        "needed": step.needed or None,
        "limit": step.limit or None,
    }


def state_document(judge: Judge, state: State, verdict: Verdict) -> Document:
    """The document of status and enable."""
    return {
        **head(state.info),
        "module": module_of(judge, state),
        "cpus": [cpu_of(judge, cpu) for cpu in state.cpus],
        "steps": [step_of(judge, step) for step in state.steps],
        "times": times_of(Times.of(state.steps)),
        **_missing(state.missing),
        "pamt_bytes": state.memory.known_pamt_bytes,
        **_outside(state.memory),
        "findings": findings_of(verdict),
    }


def times_of(times: Times | None) -> Document | None:
    """How long bring-up took, and how long it had to; null where that is not known."""
    if times is None:
        return None
    return {"total_ns": times.total_ns, "critical_path_ns": times.critical_path_ns}


def _missing(missing: Missing) -> Document:
    """Processors that the TDX module waits for; apic_ids have no CPU number, null is unknown."""
    apic_ids = missing.apic_ids
    return {
        "missing_cpus": list(missing.cpus),
        "missing_apic_ids": None if apic_ids is None else list(apic_ids),
    }


def cpus_document(
    judge: Judge, info: Info, cpus: Iterable[CpuResult], verdict: Verdict
) -> Document:
    """The document of cpu-enable."""
    return {
        **head(info),
        "cpus": [cpu_of(judge, cpu) for cpu in cpus],
        "findings": findings_of(verdict),
    }


def info_document(info: Info, table: FieldTable, metadata: Metadata, verdict: Verdict) -> Document:
    """The document of info."""
    return {
        **head(info),
        "cpus": info.nr_cpus,
        "packages": info.nr_packages,
        "keyids": _keyids(info),
        "module": _module_version(info, table),
        "driver": {"retry": info.can_retry},
        "fields": [_field(reading) for reading in metadata.readings],
        "fields_not_read": metadata.not_read.message if metadata.not_read else None,
        "findings": findings_of(verdict),
    }


def _keyids(info: Info) -> Document | None:
    if not info.has_keyids:
        return None
    return {
        "first_private": info.keyid_first,
        "private": info.nr_keyids,
        "global": info.keyid_global,
    }


def _module_version(info: Info, table: FieldTable) -> Document | None:
    if not info.has_module:
        return None
    return {
        "version": info.module_version,
        "major": info.module_major,
        "minor": info.module_minor,
        "update": info.module_update,
        "build_date": build_date(info.module_build_date),
        "build_num": info.module_build_num,
        "tdx_features0": register(info.tdx_features0),
        "features": table.feature_names(info.tdx_features0),
    }


def build_date(number: int) -> str:
    """20240131, a number, as 2024-01-31."""
    text = f"{number:08}"
    return f"{text[:4]}-{text[4:6]}-{text[6:]}"


def _field(reading: Reading) -> Document:
    """A field: its values, one or an array; null where the TDX module has none."""
    values = [register(value.value) if value.error == 0 else None for value in reading.values]
    first = next((value for value in reading.values if value.error), reading.values[0])
    return {
        "name": reading.field.name,
        "id": register(reading.field.id),
        "value": values[0] if len(values) == 1 else values,
        "errno": first.error,
        "seam_status": register(first.seam_status),
    }


def _range(found: Range) -> Document:
    return {"base_pa": register(found.base_pa), "bytes": found.bytes, "node": found.node}


def _pamt(found: Range) -> Document:
    return {"page": PAMTS[found.kind], **_range(found)}


def _tdmr(memory: Memory, tdmr: Range) -> Document:
    inside = [found for found in memory.ranges if found.tdmr == tdmr.tdmr and found is not tdmr]
    return {
        "tdmr": tdmr.tdmr,
        **_range(tdmr),
        "reserved": [_range(found) for found in inside if found.kind is RangeKind.RESERVED],
        "pamts": [_pamt(found) for found in inside if found.kind in PAMTS],
    }


def _outside(memory: Memory) -> Document:
    """System RAM that can't be given to a TD."""
    return {
        "outside_cmrs_bytes": memory.bytes_of(RangeKind.OUTSIDE),
        "outside_cmrs": [_range(found) for found in memory.of_kind(RangeKind.OUTSIDE)],
    }


def memory_document(info: Info, status: Status, memory: Memory, verdict: Verdict) -> Document:
    """The document of memory: ranges by kind, and sums by NUMA node."""
    tdx, tdmrs = memory.of_kind(RangeKind.TDX), memory.of_kind(RangeKind.TDMR)
    return {
        **head(info),
        "pamt_bytes": memory.known_pamt_bytes,
        "pamt_owner": _pamt_owner(status, memory),
        "nodes": node_sums(memory),
        "system_ram": [_range(found) for found in memory.of_kind(RangeKind.RAM)],
        "cmrs": [_range(found) for found in memory.of_kind(RangeKind.CMR)],
        **_outside(memory),
        "tdx_memory": None if memory.of_kernel else [_range(found) for found in tdx],
        "tdmrs": None if memory.of_kernel else [_tdmr(memory, found) for found in tdmrs],
        "findings": findings_of(verdict),
    }


def _pamt_owner(status: Status, memory: Memory) -> str | None:
    """Who has the memory held for PAMTs; null where none is held, or that is not known."""
    if not memory.known_pamt_bytes:
        return None
    return "tdx_module" if status.module_has_pamts or memory.of_kernel else "driver"


#: What is summed up by NUMA node, and whether the kernel keeps it to itself where it can.
NODE_SUMS = {
    "system_ram_bytes": ({RangeKind.RAM}, False),
    "tdx_bytes": ({RangeKind.TDX}, True),
    "pamt_bytes": (set(PAMTS), True),
}


def node_sums(memory: Memory) -> list[Document]:
    """Bytes by NUMA node: System RAM, TDX memory, PAMTs; null for what only the kernel knows."""
    counted = set().union(*(kinds for kinds, _ in NODE_SUMS.values()))
    nodes = {found.node for found in memory.ranges if found.kind in counted}
    return [
        {"node": node}
        | {
            name: None if kept and memory.of_kernel else _sum(memory, node, kinds)
            for name, (kinds, kept) in NODE_SUMS.items()
        }
        for node in sorted(nodes, key=lambda node: (node is None, node))
    ]


def _sum(memory: Memory, node: int | None, kinds: Set[RangeKind]) -> int:
    return sum(found.bytes for found in memory.of_kind(*kinds) if found.node == node)
