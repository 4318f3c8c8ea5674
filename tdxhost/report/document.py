# SPDX-License-Identifier: GPL-2.0-or-later
"""The document of a report: what status, info, memory and doctor say, and what they read."""

from tdxhost.doctor.document import doctor_document
from tdxhost.doctor.facts import MsrReading, Region
from tdxhost.documents import (
    SCHEMA,
    Document,
    info_document,
    memory_document,
    state_document,
)
from tdxhost.findings import combine
from tdxhost.klog.diagnosis import Finding
from tdxhost.msrs import MsrTable, WrongBits
from tdxhost.report.about import DMI_FILES, About
from tdxhost.report.grid import Thread
from tdxhost.report.model import Kernel, Report
from tdxhost.words import register


def report_document(report: Report) -> Document:
    """The whole document; status, info and memory are null where the driver was not asked."""
    return {
        "schema": SCHEMA,
        "taken_at": report.taken_at,
        "tdxhost": report.tdxhost,
        "verdict": {
            "outcome": str(report.headline.level),
            "message": report.headline.text,
            "hint": report.headline.hint or None,
        },
        "host": about_document(report.about),
        "doctor": doctor_document(report.identity, report.diagnosis),
        **_of_driver(report),
        "topology": [_thread(thread) for thread in report.threads],
        "memory_map": [_region(region) for region in report.regions],
        "logged_cmrs": [_region(region) for region in report.logged_cmrs],
        "msrs": [_msr(report.tables.msrs, reading) for reading in report.msrs],
        "kernel": _kernel(report.kernel),
        "not_read": [
            {"what": one.what, "reason": one.reason, "hint": one.hint or None}
            for one in report.unread
        ],
    }


def _of_driver(report: Report) -> Document:
    """The documents of status, info and memory, as these commands give them."""
    state, judge = report.state, report.tables.judge
    if state is None or report.verdict is None:
        return {"status": None, "info": None, "memory": None}
    host = judge.host(state.info)
    cpus = state.cpus if report.metadata.not_read else ()
    of_info = combine(host, judge.cpus(cpus))
    fields = report.tables.fields
    return {
        "status": state_document(judge, state, report.verdict),
        "info": info_document(state.info, fields, report.metadata, of_info),
        "memory": memory_document(state.info, state.status, state.memory, combine(host)),
    }


def about_document(about: About) -> Document:
    """The host by its kind."""
    return {
        **{name: about.dmi.get(name) for name in DMI_FILES},
        "cpu": about.cpu or None,
        "signature": about.signature or None,
        "generation": about.generation or None,
        "microcode": [
            {"version": version, "cpus": list(cpus)} for version, cpus in about.microcode
        ],
        "hypervisor": about.hypervisor,
        "packages": about.packages,
        "cpus_present": about.cpus_present,
        "cpus_online": about.cpus_online,
        "kernel": about.kernel or None,
        "provider": about.provider or None,
    }


def _thread(thread: Thread) -> Document:
    return {
        "cpu": thread.cpu,
        "online": thread.online,
        "package": thread.package,
        "core": thread.core,
        "siblings": list(thread.siblings),
    }


def _region(region: Region) -> Document:
    return {
        "base_pa": register(region.first),
        "bytes": region.last - region.first + 1,
        "name": region.name,
        "depth": region.depth,
    }


def _msr(table: MsrTable, reading: MsrReading) -> Document:
    msr = table.get(reading.address)
    return {
        "address": f"{reading.address:#x}",
        "name": reading.name,
        "values": [
            {
                "value": register(value),
                "cpus": list(cpus),
                "wrong": [_wrong(bits) for bits in msr.wrong(value)],
            }
            for value, cpus in reading.groups()
        ],
        "faults": list(reading.faults),
    }


def _wrong(bits: WrongBits) -> Document:
    return {
        "high": bits.high,
        "low": bits.low,
        "name": bits.name,
        "found": bits.found,
        "wanted": bits.wanted,
        "by": bits.by,
    }


def _kernel(kernel: Kernel) -> Document:
    return {
        "options": dict(kernel.options),
        "parameters": list(kernel.parameters),
        "module_parameters": dict(kernel.modules),
        "log": list(kernel.log),
        "log_findings": [_log_finding(found) for found in kernel.findings],
    }


def _log_finding(found: Finding) -> Document:
    """As decode has it; lines are numbered as in log, from 1 on."""
    return {
        "cause": found.cause,
        "kind": str(found.kind),
        "title": found.title,
        "says": list(found.says),
        "means": found.means or None,
        "likely": list(found.likely),
        "todo": list(found.todo),
        "lines": [{"number": line.number, "text": line.text} for line in found.lines],
    }
