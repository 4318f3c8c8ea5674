# SPDX-License-Identifier: GPL-2.0-or-later
"""SEAMCALLs as tdxhost:seamcall told them: in words, summed up, as a Chrome trace."""

import statistics
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tdxhost.fields import FieldTable
from tdxhost.leaves import PSEAMLDR_BIT, leaf_name
from tdxhost.records import Code
from tdxhost.status import Decoded, Reference
from tdxhost.tracefs import Event
from tdxhost.wording import TRAPS
from tdxhost.words import NS_PER_US, count, register

#: The order of the tracepoint's in and out (kmod/trace.h).
REGISTERS = ("rcx", "rdx", "r8", "r9", "r10", "r11")

ALL_ONES = (1 << 64) - 1
KEYID_MASK = 0xFFFF
DYNAMIC_PAMT = 1 << 16

#: Chrome's colour for what went wrong.
BAD_COLOUR = "terrible"


@dataclass(frozen=True, slots=True)
class Call:
    """One try of a SEAMCALL; times in CLOCK_MONOTONIC ns."""

    cpu: int
    start_ns: int
    duration_ns: int
    leaf: int
    status: int
    code: Code
    trap: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @classmethod
    def of(cls, event: Event) -> "Call":
        """Takes it out of an event, which is written when the SEAMCALL is over."""
        one = {name: values[0] for name, values in event.fields.items()}
        return cls(
            cpu=event.cpu,
            start_ns=event.time_ns - one["duration_ns"],
            duration_ns=one["duration_ns"],
            leaf=one["leaf"],
            status=one["status"],
            code=Code(one["code"]),
            trap=one["trap"],
            inputs=event.fields["in"],
            outputs=event.fields["out"],
        )

    @property
    def failed(self) -> bool:
        """Whether the driver counts it as failed; one that it repeats is, too."""
        return self.code is not Code.NONE

    @property
    def answered(self) -> bool:
        """Whether there is a status: it did not fault, and somebody was there to answer."""
        return self.code in (Code.NONE, Code.SEAMCALL)

    @property
    def end_ns(self) -> int:
        """When it was over."""
        return self.start_ns + self.duration_ns

    @property
    def registers(self) -> dict[str, int]:
        """Output registers by name."""
        return dict(zip(REGISTERS, self.outputs, strict=True))


def in_order(calls: Iterable[Call]) -> list[Call]:
    """By when they began; those of a CPU never overlap."""
    return sorted(calls, key=lambda call: (call.start_ns, call.cpu))


@dataclass
class Words:
    """Puts SEAMCALLs in words."""

    reference: Reference = field(default_factory=Reference)

    @cached_property
    def _fields(self) -> dict[int, str]:
        """Metadata field id to name, elements of an array with their number."""
        fields = FieldTable.load().fields
        return {
            number: f"{row.name}[{number - row.id}]" if row.count > 1 else row.name
            for row in fields
            for number in row.ids
        }

    def field_name(self, number: int) -> str:
        """Names a metadata field; one that the reference lacks by its id."""
        if number == ALL_ONES:
            return "first field"
        return self._fields.get(number, f"field {number:#x}")

    def asked(self, call: Call) -> str:
        """What the input registers say, and what came of it; empty where there are none."""
        known = ASKED.get(call.leaf if call.leaf & PSEAMLDR_BIT else call.leaf & 0xFFFF)
        return known(self, call) if known else _raw(call)

    def answer(self, call: Call) -> str:
        """How it ended: status by name with its detail, or why there is none."""
        if not call.answered:
            return _unanswered(call)
        if call.status == 0:
            return self.status_name(call) or ""
        decoded = self.decode(call)
        return f"{decoded.label}: {decoded.says}" if decoded.says else decoded.label

    def status_name(self, call: Call) -> str | None:
        """The status by name; None where there is none, or none that is known."""
        return self.reference.name_of(call.status, call.leaf) if call.answered else None

    def decode(self, call: Call) -> Decoded:
        """The status as the reference has it."""
        return self.reference.decode(call.status, call.leaf, call.registers)


def _unanswered(call: Call) -> str:
    if call.code is Code.NO_MODULE:
        return "VMfailInvalid: no TDX module is there to answer"
    if call.trap:
        return f"fault {TRAPS.get(call.trap, f'vector {call.trap}')}"
    return f"no status: {call.code.label}"


def _raw(call: Call) -> str:
    pairs = zip(REGISTERS, call.inputs, strict=True)
    return ", ".join(f"{name.upper()} {value:#x}" for name, value in pairs if value)


def _metadata(words: Words, call: Call) -> str:
    name = words.field_name(call.inputs[1])
    return name if call.failed else f"{name} = {call.outputs[2]:#x}"


def _metadata_page(words: Words, call: Call) -> str:
    return f"to {call.inputs[1]:#x} from {words.field_name(call.inputs[2])}"


def _sys_init(_: Words, call: Call) -> str:
    return f"attributes {call.inputs[0]:#x}" if call.inputs[0] else ""


def _sys_info(_: Words, call: Call) -> str:
    info, size, cmrs, entries, *_rest = call.inputs
    return f"information to {info:#x} ({size} B), {count(entries, 'CMR')} to {cmrs:#x}"


def _config(_: Words, call: Call) -> str:
    array_pa, tdmrs, keyid, *_rest = call.inputs
    dynamic = ", dynamic PAMT" if keyid & DYNAMIC_PAMT else ""
    what = f"{count(tdmrs, 'TDMR')} listed at {array_pa:#x}"
    return f"{what}, global KeyID {keyid & KEYID_MASK}{dynamic}"


def _tdmr_init(_: Words, call: Call) -> str:
    tdmr = f"TDMR {call.inputs[0]:#x}"
    return tdmr if call.failed else f"{tdmr}, done up to {call.outputs[1]:#x}"


def _buffer(_: Words, call: Call) -> str:
    return f"buffer {call.inputs[0]:#x}"


def _page(_: Words, call: Call) -> str:
    return f"page {call.inputs[0]:#x}"


def _handoff(_: Words, call: Call) -> str:
    return f"handoff version {call.inputs[0]:#x}"


def _nothing(_: Words, __: Call) -> str:
    return ""


#: Leaf to what its registers say; TDX module ABI spec, and SEAM loader for the last two.
ASKED: Mapping[int, Callable[[Words, Call], str]] = {
    24: _page,
    31: _nothing,
    32: _sys_info,
    33: _sys_init,
    34: _metadata,
    35: _nothing,
    36: _tdmr_init,
    37: _metadata_page,
    44: _nothing,
    45: _config,
    52: _handoff,
    53: _nothing,
    PSEAMLDR_BIT: _buffer,
    PSEAMLDR_BIT | 1: _buffer,
}


@dataclass(frozen=True, slots=True)
class LeafSum:
    """What the calls of one leaf came to; the median is one of them."""

    leaf: str
    count: int
    failures: int
    median_ns: int
    max_ns: int
    total_ns: int


@dataclass
class Tally:
    """Sums calls up as they come; of each it keeps its duration alone."""

    _durations: dict[int, "array[int]"] = field(default_factory=dict)
    _failures: dict[int, int] = field(default_factory=dict)
    cpus: set[int] = field(default_factory=set)

    def add(self, call: Call) -> None:
        """Counts a call."""
        self._durations.setdefault(call.leaf, array("Q")).append(call.duration_ns)
        self._failures[call.leaf] = self._failures.get(call.leaf, 0) + call.failed
        self.cpus.add(call.cpu)

    @property
    def count(self) -> int:
        """All calls."""
        return sum(map(len, self._durations.values()))

    @property
    def failures(self) -> int:
        """Those that failed."""
        return sum(self._failures.values())

    def sums(self) -> list[LeafSum]:
        """By leaf, the one that took longest first."""
        sums = [
            LeafSum(
                leaf=leaf_name(leaf),
                count=len(durations),
                failures=self._failures[leaf],
                median_ns=statistics.median_low(durations),
                max_ns=max(durations),
                total_ns=sum(durations),
            )
            for leaf, durations in self._durations.items()
        ]
        return sorted(sums, key=lambda found: found.total_ns, reverse=True)


def named(registers: Iterable[int]) -> dict[str, str]:
    """Registers by name, as documents have them."""
    return {name: register(value) for name, value in zip(REGISTERS, registers, strict=True)}


def chrome_trace(calls: Iterable[Call], words: Words, began_ns: int) -> dict[str, Any]:
    """The calls as a Chrome trace (Trace Event Format, JSON object), a track a CPU.

    Perfetto and chrome://tracing open it. Times are in µs from the trace's beginning; threads
    are CPUs counted from 1, because 0 is the idle thread there.
    """
    ordered = in_order(calls)
    cpus = sorted({call.cpu for call in ordered})
    process = {"ph": "M", "pid": 1, "tid": 0, "name": "process_name", "args": {"name": "SEAMCALL"}}
    return {
        "displayTimeUnit": "ns",
        "traceEvents": [
            process,
            *(track for cpu in cpus for track in _tracks(cpu)),
            *(_slice(call, words, began_ns) for call in ordered),
        ],
    }


def _tracks(cpu: int) -> Iterable[dict[str, Any]]:
    head = {"ph": "M", "pid": 1, "tid": cpu + 1}
    yield {**head, "name": "thread_name", "args": {"name": f"CPU {cpu}"}}
    yield {**head, "name": "thread_sort_index", "args": {"sort_index": cpu}}


def _slice(call: Call, words: Words, began_ns: int) -> dict[str, Any]:
    colour = {"cname": BAD_COLOUR} if call.failed else {}
    return {
        "ph": "X",
        "cat": "seamcall",
        "name": leaf_name(call.leaf),
        "pid": 1,
        "tid": call.cpu + 1,
        "ts": (call.start_ns - began_ns) / NS_PER_US,
        "dur": call.duration_ns / NS_PER_US,
        **colour,
        "args": {
            "leaf": register(call.leaf),
            "asked": words.asked(call),
            "answer": words.answer(call),
            "status": register(call.status) if call.answered else None,
            "in": named(call.inputs),
            "out": named(call.outputs),
        },
    }
