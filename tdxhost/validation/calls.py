# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver's calls as they are, for what tdxhost.device keeps from its callers."""

import fcntl
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tdxhost import abi
from tdxhost.abi import lib
from tdxhost.opening import DEVICE
from tdxhost.records import CpuResult, EnableResult

#: Every call, and the struct that it takes (kmod/include/uapi/linux/tdxhost.h).
STRUCTS = {
    "GET_INFO": "tdxhost_info",
    "GET_STATUS": "tdxhost_status",
    "CPU_ENABLE": "tdxhost_cpu_enable",
    "CPUS_ENABLE": "tdxhost_cpus",
    "GET_CPUS": "tdxhost_cpus",
    "ENABLE": "tdxhost_enable",
    "GET_STEPS": "tdxhost_steps",
    "SYS_RD": "tdxhost_sys_rd",
    "GET_MEMORY": "tdxhost_memory",
}
#: The array that a call writes to: its member, and the struct of its entries.
ENTRIES = {
    "CPUS_ENABLE": ("results", "tdxhost_cpu_result"),
    "GET_CPUS": ("results", "tdxhost_cpu_result"),
    "GET_STEPS": ("results", "tdxhost_step_result"),
    "GET_MEMORY": ("ranges", "tdxhost_range"),
    "SYS_RD": ("fields", "tdxhost_field"),
}
#: Those that change something.
ACTING = frozenset({"CPU_ENABLE", "CPUS_ENABLE", "ENABLE"})


def request_of(command: str) -> int:
    """The number of a call."""
    return int(getattr(lib, f"TDXHOST_{command}"))


class Calls:
    """An open device of its own. A context manager; closed at its end."""

    def __init__(self, path: Path = Path(DEVICE)) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> Self:
        """Opens the device; OSError when that can't be."""
        self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def errno_of(self, request: int, argument: Any) -> int:
        """Makes a call; its errno, 0 when it was served.

        argument is a writable buffer, or a small number as an address that nothing is at.
        """
        while True:
            try:
                fcntl.ioctl(self._fd, request, argument, True)
            except InterruptedError:
                continue
            except OSError as error:
                return error.errno or 0
            return 0

    def served(self, command: str, argument: Any) -> None:
        """Makes a call; OSError when it is not served."""
        number = self.errno_of(request_of(command), abi.buffer_of(argument))
        if number:
            raise OSError(number, f"{command}: {os.strerror(number)}")

    def enable(self, flags: int = 0) -> EnableResult:
        """ENABLE with just these TDXHOST_ENABLE_* flags."""
        argument = abi.new("tdxhost_enable", flags=flags)
        self.served("ENABLE", argument)
        return EnableResult.of(abi.members_of(argument))

    def cpus_enable(self, cpus: Iterable[int] | None = None) -> tuple[CpuResult, ...]:
        """CPUS_ENABLE, by one call: of some CPUs, or of every online one."""
        mask = new_mask(cpus) if cpus is not None else None
        argument = abi.new("tdxhost_cpus", entry_size=abi.size_of("tdxhost_cpu_result"))
        if mask is not None:
            argument.mask, argument.mask_bytes = abi.address_of(mask), len(mask)
        self.served("CPUS_ENABLE", argument)
        argument.entry_size = abi.size_of("tdxhost_cpu_result")
        results = abi.new_array("tdxhost_cpu_result", argument.count)
        argument.results = abi.address_of(results)
        self.served("CPUS_ENABLE", argument)
        return tuple(CpuResult.of(abi.members_of(results[i])) for i in range(argument.count))


@dataclass
class Question:
    """A call that reads, with room for its answer, to be asked again and again."""

    command: str
    argument: Any
    entries: Any = None
    room: int = 0

    @classmethod
    def of(cls, calls: Calls, command: str) -> Self:
        """Room for as much as there is to tell now."""
        argument = abi.new(STRUCTS[command])
        if command not in ENTRIES:
            return cls(command, argument)
        argument.entry_size = abi.size_of(ENTRIES[command][1])
        calls.served(command, argument)
        return cls._with_room(command, argument, int(argument.count))

    @classmethod
    def of_fields(cls, ids: Sequence[int]) -> Self:
        """SYS_RD of some metadata fields."""
        made = cls._with_room("SYS_RD", abi.new("tdxhost_sys_rd"), len(ids))
        for entry, number in zip(made.entries, ids, strict=True):
            entry.id = number
        return made

    @classmethod
    def _with_room(cls, command: str, argument: Any, room: int) -> Self:
        member, entry = ENTRIES[command]
        entries = abi.new_array(entry, room)
        setattr(argument, member, abi.address_of(entries))
        return cls(command, argument, entries, room)

    def ask(self, calls: Calls) -> bytes:
        """The answer as it is in memory: the struct, or the array where there is one."""
        if self.entries is None:
            calls.served(self.command, self.argument)
            return bytes(abi.buffer_of(self.argument))
        self.argument.count = self.room
        self.argument.entry_size = abi.size_of(ENTRIES[self.command][1])
        calls.served(self.command, self.argument)
        return bytes(abi.buffer_of(self.entries))

    @property
    def answered_by(self) -> int | None:
        """The CPU that asked the TDX module; None for a call that does not ask it."""
        return int(self.argument.cpu) if self.command == "SYS_RD" else None


def new_mask(cpus: Iterable[int]) -> Any:
    """CPUs as CPUS_ENABLE and GET_CPUS take them: bit n of byte n / 8, no longer than it takes."""
    bits = sum(1 << cpu for cpu in set(cpus))
    return abi.ffi.new("uint8_t[]", list(bits.to_bytes(-(-bits.bit_length() // 8), "little")))
