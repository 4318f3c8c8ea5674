# SPDX-License-Identifier: GPL-2.0-or-later
"""/dev/tdxhost: its ioctls as methods, its errnos as exceptions."""

import errno
import fcntl
import os
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, Self

from tdxhost import abi
from tdxhost.abi import lib
from tdxhost.access import Access
from tdxhost.errors import (
    CpuUnavailable,
    DriverRefused,
    NoEnabledCpu,
    TdxAbsent,
    TdxHostError,
    Unsupported,
)
from tdxhost.host import LiveHost
from tdxhost.opening import denial, open_device
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
    def cpu_enable_each(
        self, cpus: Sequence[int], go_to: Callable[[int], None]
    ) -> tuple[CpuResult | None, ...]: ...
    def cpus_enable(self, cpus: Collection[int] | None = None) -> tuple[CpuResult, ...]: ...


class Device:
    """The driver of this machine. A context manager; closed at its end."""

    def __init__(self, fd: int | None = None) -> None:
        """Takes over what open_device() gave, or opens the device; raises what that raises."""
        self._fd = open_device() if fd is None else fd

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
        (result,) = self.cpu_enable_each((0,), lambda _: None)
        assert result is not None
        return result

    def cpu_enable_each(
        self, cpus: Sequence[int], go_to: Callable[[int], None]
    ) -> tuple[CpuResult | None, ...]:
        """CPU_ENABLE on each CPU that go_to leads to; None for one where it is CpuUnavailable.

        All memory is there before the first and read after the last: whatever is done on a CPU
        that the caller has just come to takes several times as long.
        """
        entry_bytes = abi.size_of("tdxhost_cpu_result")
        entries = abi.new_array("tdxhost_cpu_result", len(cpus))
        begin = abi.address_of(entries)
        argument = abi.new("tdxhost_cpu_enable")
        unavailable = set()
        for place, cpu in enumerate(cpus):
            try:
                go_to(cpu)
            except CpuUnavailable:
                unavailable.add(place)
                continue
            argument.result = begin + place * entry_bytes
            argument.entry_size = entry_bytes
            self._call("CPU_ENABLE", argument)
        return tuple(
            None if place in unavailable else CpuResult.of(abi.members_of(entries[place]))
            for place in range(len(cpus))
        )

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
                _log("%s: %s", command, error)
                raise _refusal(error.errno or 0, command) from error
            _log("%s: served", command)
            return


def _log(message: str, *about: object) -> None:
    """Logs where somebody listens, who then has loaded logging, which takes long to load."""
    if "logging" in sys.modules:
        import logging

        logging.getLogger(__name__).debug(message, *about)


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
    return denial(command, number, Access.read(LiveHost()))


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
