# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls the device in every way that the uapi header says something about.

Runs in the virtual machine. Prints one JSON object: what was tried, and the
name of the errno that came, or what else there is to know.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tdxhost import abi

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
    "CPUS_ENABLE": "tdxhost_cpu_result",
    "GET_CPUS": "tdxhost_cpu_result",
    "GET_STEPS": "tdxhost_step_result",
    "SYS_RD": "tdxhost_field",
    "GET_MEMORY": "tdxhost_range",
}
UNMAPPED = 0x10


class Caller:
    """The open device."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def raw(self, number: int, data: bytearray | int) -> str:
        """One ioctl; the name of its errno, or "0"."""
        try:
            fcntl.ioctl(self.fd, number, data)
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error.errno))
        return "0"

    def call(self, command: str, data: bytearray | int) -> str:
        """One of the driver's calls."""
        return self.raw(int(getattr(abi.lib, f"TDXHOST_{command}")), data)


def argument(command: str, **members: int) -> bytearray:
    """A struct as bytes, its size set."""
    made = abi.new(STRUCTS[command], **members)
    if command in ENTRIES and "entry_size" not in members:
        made.entry_size = abi.size_of(ENTRIES[command])
    if command == "CPU_ENABLE" and "entry_size" not in members:
        made.entry_size = abi.size_of("tdxhost_cpu_result")
    return bytearray(abi.buffer_of(made))


def with_size(data: bytearray, size: int) -> bytearray:
    """The struct with another size word, and as many bytes."""
    grown = data + bytes(max(0, size - len(data)))
    grown[0:4] = size.to_bytes(4, "little")
    return grown


def struct_rules(caller: Caller, found: dict[str, Any]) -> None:
    """Sizes, flags and addresses that every call treats alike."""
    for command in STRUCTS:
        data = argument(command)
        bad_flag = bytearray(data)
        bad_flag[7] = 0x80
        longer = with_size(data, len(data) + 16)
        longer[-1] = 1
        found[f"{command} flag"] = caller.call(command, bad_flag)
        found[f"{command} longer"] = caller.call(command, longer)
        found[f"{command} size 0"] = caller.call(command, with_size(data, 0))
        found[f"{command} size 4"] = caller.call(command, with_size(data, 4))
        found[f"{command} size huge"] = caller.call(command, with_size(data, 1 << 20))
        found[f"{command} unmapped"] = caller.call(command, UNMAPPED)


def array_rules(caller: Caller, found: dict[str, Any]) -> None:
    """Room, entry sizes and addresses of arrays."""
    for command, entry in ENTRIES.items():
        if command == "SYS_RD":
            continue
        size = abi.size_of(entry)
        asked = argument(command)
        found[f"{command} no room"] = caller.call(command, asked)
        count = count_of(command, asked)
        found[f"{command} count"] = count
        found[f"{command} unmapped array"] = caller.call(
            command, with_array(command, UNMAPPED, count)
        )
        found[f"{command} entry size 0"] = caller.call(command, argument(command, entry_size=0))
        room = abi.ffi.new("char[]", b"\xcc" * (count * (size + 8)))
        wide = with_array(command, abi.address_of(room), count, entry_size=size + 8)
        found[f"{command} wide entries"] = caller.call(command, wide)
        written = bytes(abi.ffi.buffer(room))
        tails = {written[i * (size + 8) + size :][:8] for i in range(count)}
        found[f"{command} wide tails"] = sorted(tail.hex() for tail in tails)


def count_of(command: str, data: bytearray) -> int:
    """The count member of a struct as it came back."""
    made = abi.ffi.from_buffer(f"struct {STRUCTS[command]} *", data)
    return int(made.count)


def with_array(command: str, address: int, count: int, **members: int) -> bytearray:
    """A struct that points at an array."""
    name = "ranges" if command == "GET_MEMORY" else "results"
    return argument(command, count=count, **{name: address}, **members)


def special_rules(caller: Caller, found: dict[str, Any]) -> None:
    """What only one call has."""
    found["unknown number"] = caller.raw(int(abi.lib.TDXHOST_GET_INFO) + 0x7F, 0)
    found["unknown type"] = caller.raw(0x5401, 0)
    found["SYS_RD too many"] = caller.call("SYS_RD", argument("SYS_RD", count=1025))
    fields = abi.new_array("tdxhost_field", 1)
    pointed = argument("SYS_RD", fields=abi.address_of(fields), count=1)
    found["SYS_RD before any CPU"] = caller.call("SYS_RD", pointed)
    mask = abi.ffi.new("unsigned char[]", b"\0" * 512 + b"\1")
    beyond = argument("CPUS_ENABLE", mask=abi.address_of(mask), mask_bytes=513)
    found["CPUS_ENABLE beyond"] = caller.call("CPUS_ENABLE", beyond)
    found["CPU_ENABLE unmapped result"] = caller.call(
        "CPU_ENABLE", argument("CPU_ENABLE", result=UNMAPPED)
    )


def opened(path: str, flags: int) -> str:
    """What open() says."""
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "0"


def main() -> None:
    """Try everything, print what came."""
    found: dict[str, Any] = {"mode": oct(Path("/dev/tdxhost").stat().st_mode & 0o7777)}
    fd = os.open("/dev/tdxhost", os.O_RDWR)
    rules: list[Callable[[Caller, dict[str, Any]], None]] = [
        special_rules,
        struct_rules,
        array_rules,
    ]
    for rule in rules:
        rule(Caller(fd), found)
    os.close(fd)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
