# SPDX-License-Identifier: GPL-2.0-or-later
"""What a host answers to calls without a fault in them, as far as that does not change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tdxhost import abi

# The structs and entries of the calls, by the name of the call: the uapi header.
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
ENTRIES = {
    "CPU_ENABLE": "tdxhost_cpu_result",
    "CPUS_ENABLE": "tdxhost_cpu_result",
    "GET_CPUS": "tdxhost_cpu_result",
    "GET_STEPS": "tdxhost_step_result",
    "SYS_RD": "tdxhost_field",
    "GET_MEMORY": "tdxhost_range",
}

# The CPU that the program in the guest runs on.
CALLER_CPU = 0


def number(command: str) -> int:
    """The second argument of ioctl()."""
    return int(getattr(abi.lib, f"TDXHOST_{command}"))


def position(struct: str, member: str) -> tuple[int, int]:
    """Where a member lies in its struct, and its size."""
    found = dict(abi.ffi.typeof(f"struct {struct}").fields)[member]
    return int(found.offset), int(abi.ffi.sizeof(found.type))


def members(struct: str) -> list[str]:
    """The members of a struct."""
    return [name for name, _ in abi.ffi.typeof(f"struct {struct}").fields]


@dataclass(frozen=True)
class Picture:
    """A struct of which some bytes are known; ``known`` has 1 for each that is."""

    struct: str
    data: bytes
    known: bytes

    @classmethod
    def of(cls, struct: str, data: bytes) -> Picture:
        """All of it known; what ``data`` is short of is 0."""
        whole = data.ljust(abi.size_of(struct), b"\0")
        return cls(struct, whole, b"\1" * len(whole))

    def get(self, member: str) -> int:
        """A member."""
        at, size = position(self.struct, member)
        return int.from_bytes(self.data[at : at + size], "little")

    def with_members(self, **values: int) -> Picture:
        """With members of these values."""
        data = bytearray(self.data)
        known = bytearray(self.known)
        for name, value in values.items():
            at, size = position(self.struct, name)
            data[at : at + size] = value.to_bytes(size, "little")
            known[at : at + size] = b"\1" * size
        return replace(self, data=bytes(data), known=bytes(known))

    def without(self, names: Iterable[str]) -> Picture:
        """With members of any value."""
        known = bytearray(self.known)
        for name in names:
            at, size = position(self.struct, name)
            known[at : at + size] = bytes(size)
        return replace(self, known=bytes(known))

    def cut(self, size: int) -> Picture:
        """The first bytes alone, or with zeros behind."""
        data = self.data[:size].ljust(size, b"\0")
        return replace(self, data=data, known=self.known[:size].ljust(size, b"\1"))


def _all_but(struct: str, *names: str) -> tuple[str, ...]:
    return tuple(name for name in members(struct) if name not in names)


@dataclass(frozen=True)
class State:
    """What stands between calls and success, and what calls change, by struct."""

    has_tdx: bool
    enabled: bool
    changing: Mapping[str, tuple[str, ...]]


# No TDX at all: nothing can change.
ABSENT = State(has_tdx=False, enabled=False, changing={})

# The TDX module turns TDH.SYS.INIT away: no CPU gets enabled, but tries are counted.
FAILING = State(
    has_tdx=True,
    enabled=False,
    changing={
        "tdxhost_status": _all_but(
            "tdxhost_status", "flags", "running", "cpus_online", "cpus_enabled", "pamt_bytes"
        ),
        "tdxhost_cpu_result": _all_but("tdxhost_cpu_result", "cpu", "package", "apic_id", "node"),
        "tdxhost_step_result": _all_but("tdxhost_step_result", "step", "__reserved"),
        "tdxhost_enable": _all_but("tdxhost_enable", "size", "flags"),
    },
)

# Brought up: there is nothing left to do.
UP = State(has_tdx=True, enabled=True, changing={"tdxhost_status": ("generation",)})


@dataclass(frozen=True)
class Facts:
    """A host: its state, and what calls without a fault in them answered."""

    state: State
    structs: Mapping[str, Picture] = field(default_factory=dict)
    entries: Mapping[str, tuple[Picture, ...]] = field(default_factory=dict)

    @property
    def cpus(self) -> int:
        """How many CPUs there are, all of them online."""
        return len(self.entries["GET_CPUS"])

    def struct(self, command: str, given: Any) -> Picture:
        """What a call leaves in its struct, which was ``given``, besides count and sizes."""
        answered = self.structs.get(command)
        if answered is None:
            return Picture.of(STRUCTS[command], bytes(given.data))
        unchanged = {name: given.get(name) for name in ("size", "flags")}
        changing = self.state.changing.get(answered.struct, ())
        return answered.without(changing).with_members(**unchanged)

    def entry(self, command: str, index: int) -> Picture:
        """What a call leaves in an entry."""
        answered = self.entries[command][index]
        return answered.without(self.state.changing.get(answered.struct, ()))
