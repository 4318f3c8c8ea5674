# SPDX-License-Identifier: GPL-2.0-or-later
"""/dev/tdxhost: its ioctls as methods, its errnos as exceptions."""

import errno
import fcntl
import logging
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from tdxhost import abi
from tdxhost.abi import lib
from tdxhost.access import Access
from tdxhost.errors import (
    DriverDenied,
    DriverMissing,
    DriverRefused,
    NoEnabledCpu,
    TdxAbsent,
    TdxHostError,
    Unsupported,
)
from tdxhost.host import LiveHost
from tdxhost.records import (
    CpuResult,
    EnableResult,
    FieldValue,
    Info,
    Memory,
    Range,
    Status,
    StepResult,
    bytes_or_none,
)

log = logging.getLogger(__name__)

DEVICE = Path("/dev/tdxhost")
#: Most fields that one SYS_RD takes (struct tdxhost_sys_rd, count).
MAX_FIELDS = 1024
#: An array can grow between asking for its length and reading it, but not for ever.
GROW_TRIES = 8


class Source(Protocol):
    """Everything that can be read of a driver; what a recording can stand in for."""

    def get_info(self) -> Info: ...
    def get_status(self) -> Status: ...
    def get_cpus(self) -> tuple[CpuResult, ...]: ...
    def get_steps(self) -> tuple[StepResult, ...]: ...
    def get_memory(self) -> Memory: ...
    def sys_rd(self, ids: Sequence[int]) -> tuple[FieldValue, ...]: ...


class Driver(Source, Protocol):
    """A source that can also act."""

    def enable(
        self, *, cpus: bool = True, retry: bool = False, skip_non_cmr: bool = False
    ) -> EnableResult: ...
    def cpu_enable(self) -> CpuResult: ...
    def cpus_enable(self, cpus: Collection[int] | None = None) -> tuple[CpuResult, ...]: ...


class Device:
    """The driver of this machine. A context manager; closed at its end."""

    def __init__(self, path: Path = DEVICE) -> None:
        """Opens the device; DriverMissing or DriverDenied when that can't be."""
        self._fd = _open(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the device; a second time does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def get_info(self) -> Info:
        """GET_INFO."""
        argument = abi.new("tdxhost_info")
        self._call("GET_INFO", argument)
        return Info.of(abi.members_of(argument))

    def get_status(self) -> Status:
        """GET_STATUS; answers at once, also while another caller enables."""
        argument = abi.new("tdxhost_status")
        self._call("GET_STATUS", argument)
        return Status.of(abi.members_of(argument))

    def get_cpus(self) -> tuple[CpuResult, ...]:
        """GET_CPUS: last result of every present CPU; does nothing on them."""
        _, entries = self._read_array("GET_CPUS", "tdxhost_cpus", "results", "tdxhost_cpu_result")
        return tuple(CpuResult.of(entry) for entry in entries)

    def get_steps(self) -> tuple[StepResult, ...]:
        """GET_STEPS: last result of every step, in their order."""
        _, entries = self._read_array(
            "GET_STEPS", "tdxhost_steps", "results", "tdxhost_step_result"
        )
        return tuple(StepResult.of(entry) for entry in entries)

    def get_memory(self) -> Memory:
        """GET_MEMORY."""
        answer, entries = self._read_array(
            "GET_MEMORY", "tdxhost_memory", "ranges", "tdxhost_range"
        )
        ranges = tuple(Range.of(entry) for entry in entries)
        return Memory(ranges, bytes_or_none(int(answer.pamt_bytes)))

    def sys_rd(self, ids: Sequence[int]) -> tuple[FieldValue, ...]:
        """SYS_RD: reads metadata fields, in the order asked; NoEnabledCpu without one."""
        values: list[FieldValue] = []
        for start in range(0, len(ids), MAX_FIELDS):
            values += self._sys_rd_some(ids[start : start + MAX_FIELDS])
        return tuple(values)

    def enable(
        self, *, cpus: bool = True, retry: bool = False, skip_non_cmr: bool = False
    ) -> EnableResult:
        """ENABLE, with every online CPU first unless cpus is False; TdxAbsent without TDX."""
        argument = abi.new("tdxhost_enable", flags=lib.TDXHOST_ENABLE_CPUS if cpus else 0)
        if retry:
            argument.flags |= lib.TDXHOST_ENABLE_RETRY
        if skip_non_cmr:
            argument.flags |= lib.TDXHOST_ENABLE_SKIP_NON_CMR
        self._call("ENABLE", argument)
        return EnableResult.of(abi.members_of(argument))

    def cpu_enable(self) -> CpuResult:
        """CPU_ENABLE on the CPU that the caller runs on; pin it first."""
        result = abi.new("tdxhost_cpu_result")
        argument = abi.new(
            "tdxhost_cpu_enable",
            result=abi.address_of(result),
            entry_size=abi.size_of("tdxhost_cpu_result"),
        )
        self._call("CPU_ENABLE", argument)
        return CpuResult.of(abi.members_of(result))

    def cpus_enable(self, cpus: Collection[int] | None = None) -> tuple[CpuResult, ...]:
        """CPUS_ENABLE: a set of CPUs at once, None for every online one; ascending by CPU."""
        mask = bytearray(max(cpus, default=0) // 8 + 1) if cpus is not None else bytearray()
        for cpu in cpus or ():
            mask[cpu // 8] |= 1 << cpu % 8
        room = len(self.get_cpus())
        entries = abi.new_array("tdxhost_cpu_result", room)
        held = abi.ffi.from_buffer(mask)
        argument = abi.new(
            "tdxhost_cpus",
            mask=abi.address_of(held) if mask else 0,
            mask_bytes=len(mask),
            count=room,
            results=abi.address_of(entries),
            entry_size=abi.size_of("tdxhost_cpu_result"),
        )
        self._call("CPUS_ENABLE", argument)
        return tuple(CpuResult.of(abi.members_of(entries[i])) for i in range(argument.count))

    def _sys_rd_some(self, ids: Sequence[int]) -> list[FieldValue]:
        entries = abi.new_array("tdxhost_field", len(ids))
        for entry, field_id in zip(entries, ids, strict=True):
            entry.id = field_id
        argument = abi.new(
            "tdxhost_sys_rd",
            fields=abi.address_of(entries),
            count=len(ids),
            entry_size=abi.size_of("tdxhost_field"),
        )
        self._call("SYS_RD", argument)
        return [FieldValue.of(abi.members_of(entry)) for entry in entries]

    def _read_array(
        self, command: str, struct: str, member: str, entry: str
    ) -> tuple[Any, list[dict[str, int]]]:
        """Reads an array whole: asks for its length, makes room, asks again if it grew."""
        room = 0
        for _ in range(GROW_TRIES):
            entries = abi.new_array(entry, room)
            argument = abi.new(struct, count=room, entry_size=abi.size_of(entry))
            setattr(argument, member, abi.address_of(entries) if room else 0)
            fitted = self._fits(command, argument)
            if fitted and argument.count <= room:
                return argument, [abi.members_of(entries[i]) for i in range(argument.count)]
            room = int(argument.count)
        raise DriverRefused(errno.EMSGSIZE, command, "The answer kept growing; try again.")

    def _fits(self, command: str, argument: Any) -> bool:
        try:
            self._call(command, argument)
        except DriverRefused as error:
            if error.errno == errno.EMSGSIZE:
                return False
            raise
        return True

    def _call(self, command: str, argument: Any) -> None:
        """Makes one ioctl; begins again when a signal came before anything was started."""
        request = getattr(lib, f"TDXHOST_{command}")
        while True:
            try:
                # Python runs signal handlers first: Ctrl-C is a KeyboardInterrupt here.
                fcntl.ioctl(self._fd, request, abi.buffer_of(argument), True)
            except InterruptedError:
                continue
            except OSError as error:
                log.debug("%s: %s", command, error)
                raise _refusal(error.errno or 0, command) from error
            log.debug("%s: served", command)
            return


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _open_failure(path, error) from error


def _open_failure(path: Path, error: OSError) -> TdxHostError:
    if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        return DriverMissing(
            f"there is no {path}: the tdxhost driver is not loaded",
            _missing_hint(Access.read(LiveHost())),
        )
    if error.errno in (errno.EPERM, errno.EACCES):
        return _denial(f"{path} can't be opened", error.errno, Access.read(LiveHost()))
    return DriverRefused(error.errno or 0, f"open {path}")


def _missing_hint(access: Access) -> str:
    load = (
        "Load it with 'sudo modprobe tdxhost'; where it is not installed, 'sudo ./scripts/install' "
        "in the source tree does both. If it does not load, the kernel log says why."
    )
    return f"{load}\n  {access.in_the_way}" if access.in_the_way else load


def _denial(what: str, number: int, access: Access) -> DriverDenied:
    """Names the one of the kernel's reasons that it was; number alone does not tell."""
    if number == errno.EPERM and access.administrator and access.locked_down:
        return DriverDenied(
            f"{what}: kernel lockdown ({access.lockdown}) forbids it, to root too", access.way_out
        )
    return DriverDenied(f"{what}: {os.strerror(number)}", _denied_hint(access))


def _denied_hint(access: Access) -> str:
    if os.geteuid() != 0:
        return "Run it as root: sudo tdxhost …"
    if not access.administrator:
        return "The caller is root without CAP_SYS_ADMIN, as in a container: run it on the host."
    return (
        "The caller has CAP_SYS_ADMIN, so it is kernel lockdown, which mostly follows Secure Boot, "
        "or a security module; the kernel log says which."
    )


def _no_tdx(_: int, command: str) -> TdxHostError:
    return TdxAbsent(f"{command}: this host has no TDX", "The kernel log says why.")


def _not_served(number: int, command: str) -> TdxHostError:
    return Unsupported(
        number, command, "The provider that the driver uses here can't do this; see tdxhost info."
    )


def _too_old(number: int, command: str) -> TdxHostError:
    return Unsupported(
        number, command, "The loaded driver is older than this package; build and load its own."
    )


def _no_cpu(number: int, command: str) -> TdxHostError:
    return NoEnabledCpu(number, command, "Enable one first: sudo tdxhost enable")


def _denied(number: int, command: str) -> TdxHostError:
    return _denial(command, number, Access.read(LiveHost()))


def _mismatch(number: int, command: str) -> TdxHostError:
    return DriverRefused(
        number, command, "Driver and package may be of different versions; install both anew."
    )


#: The errno contract of the uapi header.
REFUSALS: dict[int, Callable[[int, str], TdxHostError]] = {
    errno.ENODEV: _no_tdx,
    errno.EOPNOTSUPP: _not_served,
    errno.ENOTTY: _too_old,
    errno.ENXIO: _no_cpu,
    errno.EPERM: _denied,
    errno.EACCES: _denied,
    errno.E2BIG: _mismatch,
    errno.EINVAL: _mismatch,
}


def _refusal(number: int, command: str) -> TdxHostError:
    make = REFUSALS.get(number, DriverRefused)
    return make(number, command)
