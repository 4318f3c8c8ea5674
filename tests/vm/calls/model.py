# SPDX-License-Identifier: GPL-2.0-or-later
"""The contract of the uapi header: which errno a call may have, and what it may change.

Written from the header alone. Where one thing is wrong with a call its errno is
determined; where several are, the header leaves open which of them is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tdxhost import abi
from tests.vm.calls.facts import CALLER_CPU, ENTRIES, STRUCTS, Facts, Picture, number
from tests.vm.calls.memory import Memory, readable, writable
from tests.vm.calls.wire import Call, Outcome

# Limits that the header names.
LEAST_STRUCT = 8
MOST_BYTES = 4096
MOST_FIELDS = 1024

_COMMANDS = {number(command): command for command in STRUCTS}
_NEED_TDX = ("CPU_ENABLE", "CPUS_ENABLE", "ENABLE", "SYS_RD")
_ENABLE_FLAGS = 0x7
_WAS_DONE = 0x2
_WORD = 4


@dataclass
class Expected:
    """What a call may come to.

    ``errors`` are all that is wrong with it. ``struct`` and ``entries`` are what
    it leaves when it is served, ``loose`` what else it may have changed by the
    time it finds that something is wrong.
    """

    errors: set[str] = field(default_factory=set)
    struct: tuple[int, Picture] | None = None
    entries: list[tuple[int, Picture]] = field(default_factory=list)
    loose: list[tuple[int, int]] = field(default_factory=list)

    def fails(self, name: str, when: bool = True) -> None:
        """Note something that is wrong."""
        if when:
            self.errors.add(name)


def judge(call: Call, outcome: Outcome, facts: Facts) -> str:
    """What the outcome of a call has against the header; empty when all is well."""
    before = call.memory()
    after = before.copy()
    for change in outcome.changes:
        after.write(change.address, change.data)
    expected = expect(call, before, facts)
    allowed = expected.errors or {"0"}
    if outcome.error not in allowed:
        return f"errno {outcome.error}, expected {' or '.join(sorted(allowed))}"
    wrong = _memory_after(before, after, expected, outcome.error).difference(after)
    if wrong:
        at = wrong[0]
        return f"errno {outcome.error}, {len(wrong)} bytes not as expected from {at:#x} on"
    return ""


def _memory_after(before: Memory, after: Memory, expected: Expected, error: str) -> Memory:
    """Memory as the header has it; where that leaves bytes open, as it is."""
    memory = before.copy()
    parts = list(expected.entries) if error == "0" else []
    if error in ("0", "EMSGSIZE") and expected.struct:
        parts.append(expected.struct)
    for address, picture in parts:
        memory.write(address, picture.data)
        for low, high in _open_runs(picture.known):
            memory.take_over(after, address + low, high - low)
    if error in ("EFAULT", "E2BIG"):
        for address, size in expected.loose:
            memory.take_over(after, address, size)
    return memory


def _open_runs(known: bytes) -> Iterator[tuple[int, int]]:
    """Where runs of bytes that are not known begin and end."""
    low = known.find(0)
    while low >= 0:
        high = known.find(1, low)
        yield low, high if high >= 0 else len(known)
        low = known.find(0, high) if high >= 0 else -1


def expect(call: Call, memory: Memory, facts: Facts) -> Expected:
    """What a call may come to on a host."""
    expected = Expected()
    command = _COMMANDS.get(call.number)
    if command is None:
        expected.fails("ENOTTY")
        return expected
    given = _struct(command, call.argument, memory, expected)
    if given is None:
        if "EFAULT" in expected.errors:
            _part(command, call.argument, memory, expected)
        return expected
    kernel_size = abi.size_of(STRUCTS[command])
    written = min(given.get("size"), kernel_size)
    expected.fails("ENODEV", command in _NEED_TDX and not facts.state.has_tdx)
    expected.fails("EINVAL", bool(given.get("flags") & ~(_flags(command))))
    if "__reserved" in _MEMBERS[command]:
        expected.fails("EINVAL", given.get("__reserved") != 0)
    if not writable(call.argument, written):
        expected.fails("EFAULT")
        expected.loose.append((call.argument, written))
    answer = _ANSWERS[command](Request(command, given, memory, facts, expected))
    expected.struct = (call.argument, answer.cut(written))
    return expected


_MEMBERS = {
    command: {name for name, _ in abi.ffi.typeof(f"struct {struct}").fields}
    for command, struct in STRUCTS.items()
}


def _flags(command: str) -> int:
    return _ENABLE_FLAGS if command == "ENABLE" else 0


def _struct(command: str, address: int, memory: Memory, expected: Expected) -> Picture | None:
    """The struct as the kernel has to take it, None when it can't."""
    if not readable(address, _WORD):
        expected.fails("EFAULT")
        return None
    size = int.from_bytes(memory.read(address, _WORD), "little")
    expected.fails("EINVAL", size < LEAST_STRUCT)
    expected.fails("E2BIG", size > MOST_BYTES)
    expected.fails("EFAULT", not readable(address, size))
    data = memory.read_some(address, min(size, MOST_BYTES))
    known = abi.size_of(STRUCTS[command])
    expected.fails("E2BIG", any(data[known:]))
    if expected.errors - {"E2BIG"} or size > MOST_BYTES:
        return None
    return Picture.of(STRUCTS[command], data[:known])


def _part(command: str, address: int, memory: Memory, expected: Expected) -> None:
    """A struct that can't be had whole may be served, and found out when it is written."""
    head = Picture.of(STRUCTS[command], memory.read_some(address, LEAST_STRUCT))
    expected.fails("EINVAL", bool(head.get("flags") & ~_flags(command)))
    expected.loose.append((address, min(head.get("size"), abi.size_of(STRUCTS[command]))))


@dataclass
class Request:
    """A call whose struct could be read."""

    command: str
    given: Picture
    memory: Memory
    facts: Facts
    expected: Expected

    @property
    def entry_bytes(self) -> int:
        """The kernel's sizeof() of an entry."""
        return abi.size_of(ENTRIES[self.command])

    def put(self, member: str, entries: list[Picture]) -> None:
        """Entries go to an array, whose room was checked."""
        address, size = self.given.get(member), self.given.get("entry_size")
        if not 0 < size <= MOST_BYTES:
            self.expected.fails("EINVAL")
            return
        for index, entry in enumerate(entries):
            self.expected.entries.append((address + index * size, entry.cut(size)))
        if not writable(address, size * len(entries)):
            self.expected.fails("EFAULT")
        self.expected.loose.append((address, size * len(entries)))

    def put_counted(self, member: str, entries: list[Picture]) -> Picture:
        """Entries go to an array with a count: the struct afterwards."""
        address, room = self.given.get(member), self.given.get("count")
        # With an address of 0 and no room the count alone is asked for.
        self.expected.fails("EMSGSIZE", bool(address or room) and room < len(entries))
        self.put(member, entries[:room])
        answer = self.facts.struct(self.command, self.given)
        unchanged = {member: address}
        return answer.with_members(count=len(entries), entry_size=self.entry_bytes, **unchanged)


def _plain(request: Request) -> Picture:
    return request.facts.struct(request.command, request.given)


def _counted(member: str) -> Callable[[Request], Picture]:
    def answer(request: Request) -> Picture:
        entries = range(len(request.facts.entries[request.command]))
        all_of_them = [request.facts.entry(request.command, index) for index in entries]
        return request.put_counted(member, all_of_them)

    return answer


def _enabled_result(request: Request, cpu: int) -> Picture:
    """What enabling a CPU comes to."""
    result = request.facts.entry("GET_CPUS", cpu)
    if request.facts.state.enabled:
        return result.with_members(flags=result.get("flags") | _WAS_DONE)
    return result


def _cpu_enable(request: Request) -> Picture:
    request.put("result", [_enabled_result(request, CALLER_CPU)])
    return request.given.with_members(entry_size=request.entry_bytes)


def _cpus(request: Request) -> Picture:
    cpus = _mask(request)
    if request.command == "GET_CPUS":
        entries = [request.facts.entry("GET_CPUS", cpu) for cpu in cpus]
    else:
        entries = [_enabled_result(request, cpu) for cpu in cpus]
    return request.put_counted("results", entries)


def _mask(request: Request) -> list[int]:
    """The CPUs that a mask names, as far as there are such."""
    address, size = request.given.get("mask"), request.given.get("mask_bytes")
    everyone = list(range(request.facts.cpus))
    fails = request.expected.fails
    if not address:
        fails("EINVAL", size != 0)
        return everyone
    fails("EINVAL", not 0 < size <= MOST_BYTES)
    fails("EFAULT", not readable(address, size))
    if not readable(address, size):
        return []
    bits = int.from_bytes(request.memory.read(address, size), "little")
    fails("EINVAL", bits >> len(everyone) != 0)
    return [cpu for cpu in everyone if bits >> cpu & 1]


def _sys_rd(request: Request) -> Picture:
    given, expected = request.given, request.expected
    expected.fails("ENXIO", request.facts.state.has_tdx and not request.facts.state.enabled)
    expected.fails("EINVAL", given.get("count") > MOST_FIELDS)
    expected.fails("EINVAL", given.get("entry_size") < 8)
    request.put("fields", list(_fields(request)))
    return given.with_members(entry_size=request.entry_bytes, cpu=CALLER_CPU)


def _fields(request: Request) -> Iterator[Picture]:
    """Entries of SYS_RD: only the id is known."""
    address, size = request.given.get("fields"), request.given.get("entry_size")
    if size > MOST_BYTES:
        return
    for index in range(min(request.given.get("count"), MOST_FIELDS)):
        at = address + index * size
        request.expected.fails("EFAULT", not readable(at, size))
        data = request.memory.read_some(at, size)
        request.expected.fails("E2BIG", any(data[request.entry_bytes :]))
        entry = Picture.of("tdxhost_field", data[: request.entry_bytes])
        yield entry.without(("value", "next_id", "seam_status", "error", "trap"))


_ANSWERS: dict[str, Callable[[Request], Picture]] = {
    "GET_INFO": _plain,
    "GET_STATUS": _plain,
    "CPU_ENABLE": _cpu_enable,
    "CPUS_ENABLE": _cpus,
    "GET_CPUS": _cpus,
    "ENABLE": _plain,
    "GET_STEPS": _counted("results"),
    "SYS_RD": _sys_rd,
    "GET_MEMORY": _counted("ranges"),
}
