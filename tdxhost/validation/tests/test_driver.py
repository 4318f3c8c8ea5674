# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver as the system has it: loaded anew, kept, in sysfs, its events, its tracepoint."""

import errno
import os
import select
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tdxhost.bringup import enable_cpus
from tdxhost.device import Driver, Source
from tdxhost.events import Change, Monitor, MonitorMissing, Subject
from tdxhost.fields import FieldTable
from tdxhost.findings import Judge
from tdxhost.host import Host
from tdxhost.kernel import ATTRIBUTES, public_state
from tdxhost.leaves import leaf_name
from tdxhost.records import (
    CpuResult,
    CpuState,
    FieldValue,
    ModuleStatus,
    Provider,
    RangeKind,
    Status,
    Step,
)
from tdxhost.topology import pinned
from tdxhost.trace import Call, in_order
from tdxhost.tracefs import Instance, TracingDenied, TracingMissing, find
from tdxhost.validation import Option, Stage, could_not_run, not_applicable, requirement
from tdxhost.validation.callers import as_nobody
from tdxhost.validation.checks import (
    LP_INIT_DONE,
    Standing,
    by_cpus,
    enabled_cpus,
    names,
    record_changes,
    why_failed,
)
from tdxhost.validation.loading import Loading, openers, references, try_unload
from tdxhost.validation.missing_cpus import errno_name
from tdxhost.validation.problems import none_of
from tdxhost.validation.session import Opener
from tdxhost.validation.stage import BEFORE_CONFIG

ABI = "kmod/include/uapi/linux/tdxhost.h"

CLASS = "/sys/class/misc/tdxhost"

#: Time for the kernel's events to come, and for none to come.
EVENTS_S = 10.0
SILENCE_S = 0.5

#: Metadata fields that are traced: more than the buffers of tracing hold are none.
TRACED_FIELDS = 64


@requirement(
    "driver.reload",
    holds="Before TDH.SYS.CONFIG the driver can be unloaded and loaded again: it has forgotten "
    "everything, and CPUs that were enabled are found so.",
    source="TDX module ABI spec, TDH.SYS.LP.INIT: TDX_SYS_LP_INIT_DONE; kmod/main.c",
    needs=BEFORE_CONFIG,
    options={
        "file": Option(
            help="the driver's file, tdxhost.ko; the one that modprobe finds where this is empty",
            parse=str,
            default="",
        )
    },
)
def test_reload(open_driver: Opener, options: Mapping[str, Any], judge: Judge) -> None:
    again = Loading.find(options["file"])
    with open_driver() as driver:
        before, info = Standing.of(driver), driver.get_info()
        if info.provider is Provider.OBSERVER:
            not_applicable("the kernel initialises TDX by itself on this host")
    again.reload()
    with open_driver() as driver:
        problems = [*record_changes(info, driver.get_info()), *not_forgotten(driver)]
        enabled = [cpu.cpu for cpu in before.cpus if cpu.state is CpuState.ENABLED]
        answers = enable_cpus(driver, enabled)
    none_of(
        [
            *(f"GET_INFO, after the driver was loaded again: {said}" for said in problems),
            *by_cpus(not_found_enabled(answers, judge)),
        ]
    )


def not_forgotten(driver: Source) -> Iterator[str]:
    """What a driver that was just loaded tells of things that another one did."""
    status = driver.get_status()
    blank = ("running", "error", "trap", "cpus_enabled", "cpus_failed", "leaf", "seam_status")
    for name in blank:
        if getattr(status, name):
            yield f"GET_STATUS: {name} is {getattr(status, name)} in a driver that was just loaded"
    if status.module_status is not ModuleStatus.UNKNOWN or status.step is not Step.NONE:
        yield f"GET_STATUS: {status.module_status.label} at step {status.step.label}"
    known = [cpu.cpu for cpu in driver.get_cpus() if cpu.tried or cpu.state is CpuState.ENABLED]
    if known:
        yield f"GET_CPUS: {names(known)}: there is a result"
    ran = [step.step.label for step in driver.get_steps() if step.runs]
    if ran:
        yield f"GET_STEPS: there are results of {', '.join(ran)}"
    if status.pamt_bytes or driver.get_memory().of_kind(RangeKind.TDMR):
        yield "GET_MEMORY: there are TDMRs or PAMTs"


def not_found_enabled(answers: Iterable[CpuResult], judge: Judge) -> Iterator[tuple[int, str]]:
    """CPUs that an earlier driver has enabled, and that the new one does not find so."""
    for cpu in answers:
        status = judge.reference.decode(cpu.seam_status, cpu.leaf).name
        if cpu.error:
            yield (
                cpu.cpu,
                f"enabled before the driver was loaded again, and {why_failed(cpu, judge)}",
            )
        elif not cpu.was_done and not cpu.by_kernel:
            yield cpu.cpu, "enabled before the driver was loaded again, and WAS_DONE is not set"
        elif not cpu.by_kernel and status != LP_INIT_DONE:
            yield cpu.cpu, f"TDH.SYS.LP.INIT has to answer {LP_INIT_DONE}, and answered {status}"


@requirement(
    "driver.stays",
    holds="While the TDX module has memory of the driver's, the driver can't be unloaded.",
    source="kmod/enable.c: PAMTs are the TDX module's from TDH.SYS.CONFIG on; TDX module ABI spec",
    needs=(Stage.INITIALIZED, Stage.STUCK),
)
def test_stays(open_driver: Opener) -> None:
    with open_driver() as driver:
        if driver.get_info().provider is not Provider.DIRECT:
            not_applicable("the kernel holds the PAMTs on this host, and the driver may go")
        before = Standing.of(driver)
    held = references()
    if held is None:
        not_applicable("this kernel unloads no modules")
    if others := openers():
        could_not_run(f"the device is open, which keeps the driver too: {', '.join(others)}")
    # Without a reference it would go, and leave the TDX module's memory to everyone.
    if not held:
        raise AssertionError(
            "nothing keeps the driver: its reference count is 0 (/sys/module/tdxhost/refcnt), and "
            "the TDX module has its memory"
        )
    refused = try_unload()
    if refused not in (errno.EAGAIN, errno.EBUSY):
        raise AssertionError(
            f"unloading the driver has to be refused, as in use: {errno_name(refused)}"
        )
    with open_driver() as driver:
        none_of(before.changes(Standing.of(driver)))


@requirement(
    "driver.sysfs",
    holds="What sysfs tells everyone of the driver is what the driver tells root, and nobody can "
    "write it.",
    source='README, "The driver": everyone may read provider, status and module_version',
)
def test_sysfs(driver: Driver, host: Host) -> None:
    info, status = driver.get_info(), driver.get_status()
    wanted = {
        "provider": info.provider.label,
        "status": status.module_status.label,
        "module_version": info.module_version or "unknown",
    }
    none_of([*sysfs_differs(wanted, public_state(host)), *sysfs_rights()])


def sysfs_differs(wanted: Mapping[str, str], told: Mapping[str, str]) -> Iterator[str]:
    """Attributes that are not what they should be."""
    for name, value in wanted.items():
        if told.get(name) != value:
            yield f"{CLASS}/{name} has to be {value}, and is {told.get(name, 'not there')}"


def sysfs_rights() -> Iterator[str]:
    """Attributes that not everyone can read, or that somebody may write."""
    for name in ATTRIBUTES:
        path = Path(CLASS, name)
        mode = path.stat().st_mode & 0o777
        if mode != 0o444:
            yield f"{path} has to be readable by all and writable by nobody, and is {mode:o}"
        if os.geteuid() == 0 and (error := as_nobody(partial(read_errno, path))):
            yield f"a user without rights can't read {path}: {errno_name(error)}"


def read_errno(path: Path) -> int:
    """Reads a file; the errno, 0 when that went well."""
    try:
        path.read_bytes()
    except OSError as error:
        return error.errno or 0
    return 0


@requirement(
    "driver.uevents",
    holds="When a CPU is enabled the kernel's event says so, once, with what GET_STATUS tells; "
    "when it is enabled again, there is none.",
    source='README, "The driver": each change of state is a uevent; kmod/status.c',
    needs=(Stage.UNTOUCHED, Stage.SOME_CPUS),
    leaves=Stage.SOME_CPUS,
)
def test_uevents(driver: Driver, host: Host, cpus: tuple[int, ...], judge: Judge) -> None:
    left = sorted(set(cpus) - set(enabled_cpus(driver)))
    if len(left) < 2:
        could_not_run("one CPU is not enabled, and a later test needs one: run this one earlier")
    try:
        monitor = Monitor(host)
    except MonitorMissing as error:
        could_not_run(f"{error.message}\n{error.hint}")
    (answer,) = enable_cpus(driver, left[:1])
    first = received(monitor, EVENTS_S)
    status = driver.get_status()
    enable_cpus(driver, left[:1])
    again = received(monitor, SILENCE_S, every=True)
    if answer.error:
        raise AssertionError(f"CPU {answer.cpu}: {why_failed(answer, judge)}")
    none_of([*badly_announced(answer.cpu, first, status), *announced_again(answer.cpu, again)])


def received(monitor: Monitor, seconds: float, *, every: bool = False) -> list[Change]:
    """Events about the driver that come within some time: the first ones, or every one."""
    found: list[Change] = []
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and (every or not found):
        if select.select([monitor], [], [], left)[0]:
            found += (one for one in monitor.changes() if one.subject is Subject.DRIVER)
    return found


def badly_announced(cpu: int, changes: Sequence[Change], status: Status) -> Iterator[str]:
    """What is wrong with the events after a CPU was enabled."""
    if len(changes) != 1:
        yield f"CPU {cpu} was enabled, and {len(changes)} events came within {EVENTS_S:g} s"
    for change in changes:
        step = None if status.step is Step.NONE else status.step.label
        for name, there in (
            ("status", status.module_status.label),
            ("step", step),
            ("cpus_enabled", status.cpus_enabled),
        ):
            if change.state.get(name) != there:
                yield (
                    f"CPU {cpu} was enabled, and the event tells of {name} "
                    f"{change.state.get(name)}; GET_STATUS tells of {there}"
                )


def announced_again(cpu: int, changes: Sequence[Change]) -> Iterator[str]:
    """Events about a CPU that was enabled already."""
    if changes:
        yield f"CPU {cpu} was enabled again, which does nothing, and {len(changes)} events came"


@requirement(
    "driver.trace",
    holds="The tracepoint tells of each SEAMCALL: reading metadata makes those that the answers "
    "tell of, on the caller's CPU, and enabling a CPU again makes none.",
    source="kmod/trace.h, tdxhost:seamcall; TDX module ABI spec, TDH.SYS.RD",
    needs=(Stage.SOME_CPUS, Stage.ALL_CPUS, Stage.INITIALIZED, Stage.STUCK),
)
def test_trace(driver: Driver, cpus: tuple[int, ...], fields: FieldTable) -> None:
    enabled = sorted(set(enabled_cpus(driver)) & set(cpus))
    if not enabled:
        could_not_run("no CPU is enabled that this process may run on")
    cpu = enabled[-1]
    ids = fields.all_ids()[:TRACED_FIELDS]
    acts = driver.get_info().provider is not Provider.OBSERVER
    begun = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    try:
        with Instance(find()) as instance:
            instance.start()
            with pinned(cpu):
                values = driver.sys_rd(ids)
                if acts:
                    driver.cpu_enable()
            instance.stop()
            calls = in_order(Call.of(event) for event in instance.read())
            lost = instance.lost()
    except (TracingMissing, TracingDenied) as error:
        could_not_run(f"{error.message}\n{error.hint}")
    if lost:
        could_not_run("events were lost: this machine makes more SEAMCALLs than there is room for")
    ended = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    none_of([*traced_elsewhere(calls, cpu, begun, ended), *badly_traced(calls, values)])


def traced_elsewhere(calls: Iterable[Call], cpu: int, begun: int, ended: int) -> Iterator[str]:
    """SEAMCALLs in a trace that are none of the reader's: another leaf, CPU or time."""
    for call in calls:
        leaf = leaf_name(call.leaf)
        if leaf != "TDH.SYS.RD":
            yield f"{leaf} is in the trace, and nobody has asked for anything but TDH.SYS.RD"
        if call.cpu != cpu:
            yield f"{leaf} is in the trace on CPU {call.cpu}, and CPU {cpu} was to make it"
        if not call.duration_ns:
            yield f"{leaf} is in the trace, and took no time at all"
        if call.start_ns < begun or call.end_ns > ended:
            yield f"{leaf} is in the trace at a time at which nobody had called"


def badly_traced(calls: Iterable[Call], values: Sequence[FieldValue]) -> Iterator[str]:
    """Where the trace of metadata reads is not what SYS_RD answered."""
    # One that is repeated has the same field id again; its last try is what was answered.
    tries: dict[int, Call] = {call.inputs[1]: call for call in calls}
    if missing := [value for value in values if value.id not in tries]:
        yield f"{len(missing)} of {len(values)} fields that were read are not in the trace"
    for value in values:
        call = tries.get(value.id)
        if call is None:
            continue
        for what, traced, told in (
            ("status", call.status, value.seam_status),
            ("R8", call.outputs[2], value.value),
            ("RDX", call.outputs[1], value.next_id),
            ("trap", call.trap, value.trap),
        ):
            if traced != told:
                yield (
                    f"TDH.SYS.RD of field {value.id:#x}: {what} is {traced:#x} in the trace, and "
                    f"{told:#x} in SYS_RD's answer"
                )
