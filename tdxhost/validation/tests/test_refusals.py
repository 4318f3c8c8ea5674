# SPDX-License-Identifier: GPL-2.0-or-later
"""What the driver refuses: too early, badly asked for, by the wrong caller, for no CPU."""

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tdxhost import abi
from tdxhost.abi import lib
from tdxhost.device import MAX_FIELDS, Driver
from tdxhost.errors import NoEnabledCpu
from tdxhost.fields import FieldTable
from tdxhost.host import Host
from tdxhost.opening import DEVICE
from tdxhost.records import Code, CpuState, Info, Provider, Status
from tdxhost.topology import NR_CPUS, Topology, parse_cpu_list, pinned
from tdxhost.validation import Stage, could_not_run, not_applicable, requirement
from tdxhost.validation.callers import as_nobody, without_sys_admin
from tdxhost.validation.calls import ACTING, ENTRIES, STRUCTS, Calls, new_mask, request_of
from tdxhost.validation.checks import Standing, enabled_cpus, names
from tdxhost.validation.missing_cpus import enable_refused, errno_name
from tdxhost.validation.problems import none_of

ABI = "kmod/include/uapi/linux/tdxhost.h"

#: An address that no process has anything at (vm.mmap_min_addr).
NOWHERE = 8
#: A struct, or an entry, may not be longer (uapi header, first comment).
LONGEST = 4096
#: A flag that no call has.
UNKNOWN_FLAG = 1 << 31


@requirement(
    "refusal.enable-before-cpus",
    holds="Before any CPU is enabled, ENABLE is refused at step cpus, names a CPU, and calls and "
    "holds nothing.",
    source=f"{ABI}, struct tdxhost_enable; Linux tdx_enable(), which needs every online CPU",
    needs=Stage.UNTOUCHED,
)
def test_enable_before_cpus(driver: Driver, topology: Topology) -> None:
    with Calls() as calls:
        none_of(enable_refused(driver, calls, sorted(topology.online())))
    if early := enabled_cpus(driver):
        raise AssertionError(f"ENABLE without CPUS has enabled {names(early)}")


@requirement(
    "refusal.metadata-before-cpus",
    holds="Before any CPU is enabled, the TDX module's metadata can't be asked for on any CPU.",
    source=f"{ABI}, struct tdxhost_sys_rd: ENXIO; TDX module ABI spec, TDH.SYS.RD, which takes "
    "TDH.SYS.LP.INIT on the CPU",
    needs=Stage.UNTOUCHED,
)
def test_metadata_before_cpus(driver: Driver, fields: FieldTable, cpus: tuple[int, ...]) -> None:
    before = Standing.of(driver)
    ids = fields.all_ids()[:1]
    served = [cpu for cpu in cpus if _answers(driver, cpu, ids)]
    problems = [f"{names(served)}: SYS_RD was served, and no CPU is enabled"] if served else []
    if driver.get_info().has_module:
        problems += ["GET_INFO has a version of the TDX module, which nobody can have asked for"]
    none_of([*problems, *before.changes(Standing.of(driver))])


def _answers(driver: Driver, cpu: int, ids: Sequence[int]) -> bool:
    try:
        with pinned(cpu):
            driver.sys_rd(ids)
    except NoEnabledCpu:
        return False
    return True


@dataclass
class Spoiled:
    """A call that has to be refused: what is wrong with it, and with which errno.

    keeps holds what the argument points to.
    """

    command: str
    what: str
    wanted: int
    argument: Any
    request: int = 0
    keeps: tuple[Any, ...] = field(default=())

    def problems(self, calls: Calls, others: frozenset[int]) -> Iterator[str]:
        """What is wrong with the answer; others are errnos that are right here for any call."""
        number = calls.errno_of(self.request or request_of(self.command), self.argument)
        if number != self.wanted and number not in others:
            yield (
                f"{self.command} with {self.what} has to be refused with "
                f"{errno_name(self.wanted)}: {errno_name(number)}"
            )


def sized(command: str, size: int, **members: int) -> bytearray:
    """The struct of a call, as a caller has it whose struct is size bytes long."""
    argument = abi.new(STRUCTS[command], **members)
    argument.size = size
    known = bytes(abi.buffer_of(argument))
    return bytearray(known[:size].ljust(max(size, len(known)), b"\0"))


def well_asked(command: str) -> tuple[dict[str, int], tuple[Any, ...]]:
    """Members of a call that would be served, and what they point to."""
    if command == "CPU_ENABLE":
        result = abi.new("tdxhost_cpu_result")
        size = abi.size_of("tdxhost_cpu_result")
        return {"result": abi.address_of(result), "entry_size": size}, (result,)
    if command not in ENTRIES:
        return {}, ()
    _, entry = ENTRIES[command]
    return {"entry_size": abi.size_of(entry)}, ()


def spoiled_sizes(command: str) -> Iterator[Spoiled]:
    """Sizes that no caller has, and bytes that a newer one may."""
    members, keeps = well_asked(command)
    own = abi.size_of(STRUCTS[command])
    for size in (0, 4, 7):
        short = sized(command, own, **members)
        short[:4] = size.to_bytes(4, "little")
        yield Spoiled(command, f"a size of {size}", errno.EINVAL, short, keeps=keeps)
    long = sized(command, LONGEST + 8, **members)
    yield Spoiled(command, f"a size of {LONGEST + 8}", errno.E2BIG, long, keeps=keeps)
    newer = sized(command, own + 8, **members)
    newer[-1] = 1
    yield Spoiled(command, "bytes set that it does not know", errno.E2BIG, newer, keeps=keeps)
    yield Spoiled(command, "a struct at no address", errno.EFAULT, NOWHERE)


def spoiled_members(command: str) -> Iterator[Spoiled]:
    """Members with values that they can't have."""
    members, keeps = well_asked(command)
    own = abi.size_of(STRUCTS[command])
    for what, spoil in spoils(command):
        argument = sized(command, own, **{**members, **spoil})
        yield Spoiled(command, what, errno.EINVAL, argument, keeps=keeps)


def spoils(command: str) -> Iterator[tuple[str, dict[str, int]]]:
    """What is wrong, and the members that make it so."""
    known = {name for name, _ in abi.ffi.typeof(f"struct {STRUCTS[command]}").fields}
    yield "an unknown flag", {"flags": UNKNOWN_FLAG}
    if "__reserved" in known:
        yield "a reserved field set", {"__reserved": 1}
    if "entry_size" in known:
        yield "entries of no size", {"entry_size": 0}
        yield f"entries of {LONGEST + 1} bytes", {"entry_size": LONGEST + 1}
    if "mask" in known:
        yield "a mask of bytes at no address", {"mask_bytes": 1}
        yield "a mask of no bytes", {"mask": NOWHERE}
        yield "a mask that is too long", {"mask": NOWHERE, "mask_bytes": LONGEST + 1}
    if command == "SYS_RD":
        yield "entries that hold no id", {"entry_size": 7}
        yield f"{MAX_FIELDS + 1} fields", {"count": MAX_FIELDS + 1}


def spoiled_arrays(command: str) -> Iterator[Spoiled]:
    """Arrays that have no room, or no address; calls that act get none of the latter."""
    if command not in ENTRIES:
        return
    member, entry = ENTRIES[command]
    own, size = abi.size_of(STRUCTS[command]), abi.size_of(entry)
    if command != "SYS_RD":
        room = abi.new(entry)
        full = sized(command, own, entry_size=size, **{member: abi.address_of(room)})
        yield Spoiled(command, "no room for entries", errno.EMSGSIZE, full, keeps=(room,))
    if command not in ACTING:
        count = MAX_FIELDS if command == "SYS_RD" else NR_CPUS
        lost = sized(command, own, entry_size=size, count=count, **{member: NOWHERE})
        yield Spoiled(command, "entries at no address", errno.EFAULT, lost)


def spoiled(command: str, *, has_steps: bool) -> Iterator[Spoiled]:
    """Everything that can be wrong with a call."""
    yield from spoiled_sizes(command)
    yield from spoiled_members(command)
    # Where the kernel initialises TDX by itself there are no steps, and room for none is enough.
    if command != "GET_STEPS" or has_steps:
        yield from spoiled_arrays(command)


def unknown_commands() -> Iterator[Spoiled]:
    """Numbers that are no call of the driver's."""
    first_free = max(request_of(command) & 0xFF for command in STRUCTS) + 1
    kind = lib.TDXHOST_IOCTL_TYPE << 8
    status = request_of("GET_STATUS")
    size = abi.size_of("tdxhost_status")
    for request in (
        *(kind | number for number in (first_free, first_free + 1, 0xFF)),
        # Another driver's type; the call's own number with a size and a direction in it.
        status ^ 0x100,
        status | size << 16 | 3 << 30,
    ):
        argument = sized("GET_STATUS", size)
        yield Spoiled(f"call {request:#x}", "a number of nobody's", errno.ENOTTY, argument, request)


def other_errnos(command: str, info: Info, status: Status) -> frozenset[int]:
    """Errnos that are right here whatever is asked ("any of them may come")."""
    found = set()
    if command in ACTING | {"SYS_RD"} and info.code is not Code.NONE:
        found.add(errno.ENODEV)
    if command in ACTING and info.provider is Provider.OBSERVER:
        found.add(errno.EOPNOTSUPP)
    if command == "SYS_RD" and not status.cpus_enabled:
        found.add(errno.ENXIO)
    return frozenset(found)


def newer_callers(calls: Calls) -> Iterator[str]:
    """What is wrong where a caller's struct is longer or shorter, which is served."""
    for command in ("GET_INFO", "GET_STATUS", "GET_CPUS", "GET_STEPS", "GET_MEMORY"):
        members, _ = well_asked(command)
        sizes = [abi.size_of(STRUCTS[command]) + 8, LONGEST]
        sizes += [8, 12] if command in ("GET_INFO", "GET_STATUS") else []
        for size in sizes:
            argument = sized(command, size, **members)
            number = calls.errno_of(request_of(command), argument)
            if number:
                yield f"{command} with a size of {size} has to be served: {errno_name(number)}"
            if any(argument[size:]):
                yield f"{command} wrote behind the {size} bytes of its caller"


@requirement(
    "refusal.arguments",
    holds="Unknown calls, flags and bytes, reserved fields that are set, and sizes and addresses "
    "that can't be are refused by every call, and nothing is done about them.",
    source=f"{ABI}, first comment: errnos of every call",
)
def test_arguments(driver: Driver) -> None:
    before = Standing.of(driver)
    info = driver.get_info()
    problems: list[str] = []
    with Calls() as calls:
        for command in STRUCTS:
            others = other_errnos(command, info, before.status)
            for call in spoiled(command, has_steps=bool(before.steps)):
                problems += call.problems(calls, others)
        for call in unknown_commands():
            problems += call.problems(calls, frozenset())
        problems += newer_callers(calls)
    none_of([*problems, *before.changes(Standing.of(driver))])


@requirement(
    "refusal.privilege",
    holds="Without CAP_SYS_ADMIN nobody opens the device: neither another user nor root.",
    source=f"{ABI}, first comment: open() answers EPERM",
)
def test_privilege(driver: Driver) -> None:
    before = Standing.of(driver)
    if os.geteuid() != 0:
        could_not_run("only root can try what other users may: run it as root")
    problems = []
    opened = without_sys_admin(_open_errno)
    if opened != errno.EPERM:
        problems.append(
            f"root without CAP_SYS_ADMIN opens {DEVICE}: EPERM is due, and it is "
            f"{errno_name(opened)}"
        )
    opened = as_nobody(_open_errno)
    if opened not in (errno.EPERM, errno.EACCES):
        problems.append(
            f"a user without rights opens {DEVICE}: EACCES or EPERM is due, and it is "
            f"{errno_name(opened)}"
        )
    none_of([*problems, *before.changes(Standing.of(driver))])


def _open_errno() -> int:
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error.errno or 0
    return 0


def of_cpus(command: str, cpus: Sequence[int], room: int) -> tuple[bytearray, tuple[Any, ...]]:
    """A call on CPUs with room for some results, and what it points to."""
    mask = new_mask(cpus)
    results = abi.new_array("tdxhost_cpu_result", room)
    argument = sized(
        command,
        abi.size_of("tdxhost_cpus"),
        mask=abi.address_of(mask),
        mask_bytes=len(mask),
        count=room,
        results=abi.address_of(results) if room else 0,
        entry_size=abi.size_of("tdxhost_cpu_result"),
    )
    return argument, (mask, results)


def impossible(calls: Calls, absent: int, there: int) -> Iterator[str]:
    """What is wrong where a CPU that can't exist is asked for, alone and among others."""
    for command in ("CPUS_ENABLE", "GET_CPUS"):
        for cpus in ([absent], [there, absent]):
            for room in (0, len(cpus)):
                argument, _keeps = of_cpus(command, cpus, room)
                number = calls.errno_of(request_of(command), argument)
                if number != errno.EINVAL:
                    yield (
                        f"{command} of {names(cpus)}, of which CPU {absent} can't exist, has to be "
                        f"refused with EINVAL: {errno_name(number)}"
                    )


def offline(calls: Calls, cpus: Sequence[int]) -> Iterator[str]:
    """What is wrong where CPUs are to be enabled that are offline."""
    for result in calls.cpus_enable(cpus):
        told = (result.state, result.code, result.error)
        if told != (CpuState.OFFLINE, Code.CPU_OFFLINE, errno.ENXIO):
            yield (
                f"CPU {result.cpu} is offline: its result has to say so (cpu_offline, ENXIO), and "
                f"says {result.state.label}, {result.code.label}, {errno_name(result.error)}"
            )


@requirement(
    "refusal.absent-cpu",
    holds="A CPU that can't exist is refused with EINVAL and nothing is done; one that is offline "
    "gets a result that says so.",
    source=f"{ABI}, struct tdxhost_cpus",
)
def test_absent_cpu(driver: Driver, host: Host, topology: Topology) -> None:
    if driver.get_info().provider is Provider.OBSERVER:
        not_applicable("the kernel enables CPUs by itself on this host, and takes no orders")
    before = Standing.of(driver)
    possible = parse_cpu_list(host.text("/sys/devices/system/cpu/possible"))
    there = min(topology.online())
    problems: list[str] = []
    with Calls() as calls:
        for absent in {max(possible) + 1, NR_CPUS, LONGEST * 8 - 1}:
            problems += impossible(calls, absent, there)
        if off := sorted(topology.present() - topology.online()):
            problems += offline(calls, off)
    none_of([*problems, *before.changes(Standing.of(driver))])
