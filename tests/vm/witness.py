# SPDX-License-Identifier: GPL-2.0-or-later
"""vtdx's log, read: what really happened, whatever the driver says."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

SUCCESS = "TDX_SUCCESS"

# What TDH.SYS.CONFIG lets be done one after another; TDX module ABI spec,
# platform initialisation.
_BRING_UP = (
    "TDH.SYS.INIT",
    "TDH.SYS.LP.INIT",
    "TDH.SYS.CONFIG",
    "TDH.SYS.KEY.CONFIG",
    "TDH.SYS.TDMR.INIT",
)


@dataclass(frozen=True)
class Call:
    """One SEAMCALL as vtdx saw it; ``event`` is its line."""

    cpu: int
    leaf: str
    status: str | None
    result: str
    fault: int | None
    event: dict[str, Any] = field(repr=False)

    @property
    def registers_in(self) -> dict[str, int]:
        """Registers before the call."""
        return _registers(self.event["in"])

    @property
    def registers_out(self) -> dict[str, int]:
        """Registers after it."""
        return _registers(self.event["out"])

    @property
    def tdmrs(self) -> list[dict[str, Any]]:
        """The TDMRs that TDH.SYS.CONFIG was given."""
        return list(self.event.get("tdmrs", ()))


@dataclass(frozen=True)
class Tdmr:
    """A TDMR as the guest's memory had it when TDH.SYS.CONFIG was called."""

    base: int
    size: int
    pamt_1g: tuple[int, int]
    pamt_2m: tuple[int, int]
    pamt_4k: tuple[int, int]
    reserved: tuple[tuple[int, int], ...]


class Witness:
    """The log of a machine, or a piece of it."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events = events

    @classmethod
    def read(cls, path: Path) -> Witness:
        """Read a log; every line has to be whole JSON."""
        return Log(path).witness()

    @cached_property
    def calls(self) -> list[Call]:
        """Every SEAMCALL, in order."""
        return [_call(event) for event in self.events if event["event"] == "seamcall"]

    def case(self, text: str) -> Witness:
        """What happened between a mark, which has to be there once, and the next."""
        marks = [n for n, event in enumerate(self.events) if event["event"] == "mark"]
        ends = dict(zip(marks, [*marks[1:], len(self.events)], strict=True))
        (start,) = [mark for mark in marks if self.events[mark]["text"] == text]
        return Witness(self.events[start + 1 : ends[start]])

    def of(self, leaf: str) -> list[Call]:
        """The calls of one leaf."""
        return [call for call in self.calls if call.leaf == leaf]

    def succeeded(self, leaf: str) -> list[Call]:
        """The calls of one leaf that the TDX module answered with success."""
        return [call for call in self.of(leaf) if call.status == SUCCESS]

    def cpus(self, leaf: str) -> Counter[int]:
        """How often a leaf succeeded on each CPU."""
        return Counter(call.cpu for call in self.succeeded(leaf))

    def order(self) -> list[str]:
        """The bring-up leaves that succeeded, runs of one leaf taken together."""
        names: list[str] = []
        for call in self.calls:
            if call.leaf in _BRING_UP and call.status == SUCCESS and names[-1:] != [call.leaf]:
                names.append(call.leaf)
        return names

    def tdmrs(self) -> list[Tdmr]:
        """What the successful TDH.SYS.CONFIG was given."""
        (config,) = self.succeeded("TDH.SYS.CONFIG")
        return [_tdmr(entry) for entry in config.tdmrs]

    def initialized_to(self, tdmr: Tdmr) -> int:
        """The highest address that TDH.SYS.TDMR.INIT returned for a TDMR."""
        calls = self.succeeded("TDH.SYS.TDMR.INIT")
        mine = [c.registers_out["rdx"] for c in calls if c.registers_in["rcx"] == tdmr.base]
        return max(mine, default=0)


class Log:
    """A log that grows: each line is read once, however often it is looked at."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_to = 0
        self._events: list[dict[str, Any]] = []

    def witness(self) -> Witness:
        """The log up to now."""
        with self._path.open("rb") as file:
            file.seek(self._read_to)
            # vtdx may be in the middle of the last line.
            whole, end, _ = file.read().rpartition(b"\n")
        self._events += [json.loads(line) for line in whole.splitlines()]
        self._read_to += len(whole + end)
        return Witness(list(self._events))


def _call(event: dict[str, Any]) -> Call:
    return Call(
        cpu=event["cpu"],
        leaf=event["leaf"],
        status=event["status"],
        result=event["result"],
        fault=event["fault"],
        event=event,
    )


def _registers(words: dict[str, str]) -> dict[str, int]:
    return {name: int(word, 16) for name, word in words.items()}


def _tdmr(entry: dict[str, Any]) -> Tdmr:
    def pair(words: list[str]) -> tuple[int, int]:
        return int(words[0], 16), int(words[1], 16)

    return Tdmr(
        base=int(entry["base"], 16),
        size=int(entry["size"], 16),
        pamt_1g=pair(entry["pamt_1g"]),
        pamt_2m=pair(entry["pamt_2m"]),
        pamt_4k=pair(entry["pamt_4k"]),
        reserved=tuple(pair(words) for words in entry["reserved"]),
    )
