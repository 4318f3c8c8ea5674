# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads kernel logs: SEAMCALL failures in every format so far, and other lines about TDX."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TypeVar

from tdxhost.decode import parse_leaf, parse_number
from tdxhost.klog.blocks import MAX_LINE, REGISTER, REGISTER_LINES, Interest, lines_of_interest
from tdxhost.reference import load

T = TypeVar("T")

#: What stands before the text: kmsg records, syslog priorities, dmesg -x, dmesg (any time format
#: and language, with or without caller), ISO times, syslog and journal lines.
PREFIXES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\d+,\d+,\d+,[^;]*;",
        r"<\d+>",
        r"(?:kern|user|daemon|syslog|auth|local\d)\s*:\s*\w+\s*:\s*",
        r"\[(?=[^\]]*\d|[\s.]*\])[^\]]*\]\s*",
        r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?\s?(?:Z|UTC|[+-]\d\d:?\d\d)?\s+",
        r"[^\[\]:]{1,24}\d\d?:\d\d:\d\d(?:[.,]\d+)?(?:\s(?:[a-z]{2,5}|[+-]\d{2,4}))?\s+"
        r"(?=\S+\s+kernel)",
        r"\S+\s+kernel(?:\[\d+\])?:\s*",
        r"kernel:\s*",
        r"\s+",
    )
)
MAX_PREFIXES = 8

_LEAF = r"(?P<leaf>0x[0-9a-f]+|\d+|[a-z][\w.]*[a-z0-9])"
_STATUS = r"(?:(?P<name>[a-z]\w+)\s*\(?\s*)?(?P<status>0x[0-9a-f]+|\d{10,20})"
_CPU = r"(?:\s+on\s+cpus?\s+(?P<cpu>\d+)(?:\s+and\s+\d+\s+more)?)?"
#: Formats in which a failed SEAMCALL has been printed.
CALLS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # Linux 6.8 to 7.3: SEAMCALL (0x21) failed: 0x..; trees of 5.15: SEAMCALL[TDH_..] failed
        # on cpu 3: NAME (0x..)
        rf"SEAMCALL\s*[(\[]\s*{_LEAF}\s*[)\]]\s*failed{_CPU}\s*:?\s*{_STATUS}",
        # Trees of 5.19 to 6.5: SEAMCALL failed: leaf 33, error 0x.., also with CPU 94: before leaf
        rf"SEAMCALL failed:\s*(?:CPU\s+(?P<cpu>\d+):?\s*)?leaf:?\s*{_LEAF}\s*,"
        rf"(?:\s*rcx \w+,)?\s*error:?\s*{_STATUS}",
        # Linux 6.16 on, KVM: SEAMCALL TDH_MEM_PAGE_ADD failed: 0x.., rcx 0x..
        rf"SEAMCALL\s+(?:leaf\s+)?{_LEAF}\s+failed{_CPU}\W*(?:with\s+|status\s+|error\s+)*{_STATUS}",
        # tdxhost's driver: tdx_enable() failed on CPU 3: TDH.SYS.LP.INIT: NAME 0x.. (-5)
        rf"failed{_CPU}:\s*(?P<leaf>(?:TDH|SEAMLDR)\.[\w.]+):\s*{_STATUS}",
        # Others: TDH.MNG.INIT failed with status: 0x..
        rf"(?P<leaf>(?:TDH|SEAMLDR)[._][\w.]*[a-z])(?:\(\))?\s+failed{_CPU}\W*"
        rf"(?:with\s+|status\s*|error\s*)*\W*{_STATUS}",
    )
)
#: What a boot always says, also one without TDX.
ABOUT_BOOT = {"boot", "cmdline", "virtual-machine", "tme", "tme-benign"}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log; text is without what stands before it."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Event:
    """A line about TDX that is known; words are what it says, by name."""

    id: str
    line: Line
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """A SEAMCALL that failed, as a kernel printed it; leaf is None where it is not known."""

    leaf: int | None
    status: int
    line: Line
    registers: Mapping[str, int] = field(default_factory=dict)
    cpu: int | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """What a log says about TDX: of its last boot that says anything; boots counts them all.

    left_out counts lines that say what MOST_ALIKE others say.
    """

    events: tuple[Event, ...] = ()
    calls: tuple[Call, ...] = ()
    boots: int = 1
    left_out: int = 0

    def of(self, *ids: str) -> tuple[Event, ...]:
        """The events with one of these ids, in order."""
        return tuple(event for event in self.events if event.id in ids)

    def has(self, *ids: str) -> bool:
        """Whether there is such an event."""
        return bool(self.of(*ids))

    @property
    def is_about_tdx(self) -> bool:
        """Whether there is more than what every boot says."""
        return bool(self.calls) or any(event.id not in ABOUT_BOOT for event in self.events)


#: So many lines alike are kept; of more, the first and the last.
MOST_ALIKE = 1000


@dataclass(slots=True)
class Boot:
    """What one boot has said so far. Memory is bounded: what is said ever again is dropped."""

    events: dict[str, list[Event]] = field(default_factory=dict)
    calls: dict[tuple[int | None, int], list[Call]] = field(default_factory=dict)
    #: Those like the last call, which they end with.
    latest: list[Call] = field(default_factory=list)
    left_out: int = 0

    @property
    def has_any(self) -> bool:
        """Whether anything was said."""
        return bool(self.events or self.calls)

    def add_event(self, event: Event) -> None:
        """Adds a line that is known."""
        self._add(self.events.setdefault(event.id, []), event)

    def add_call(self, call: Call) -> None:
        """Adds a SEAMCALL that failed."""
        self.latest = self.calls.setdefault((call.leaf, call.status), [])
        self._add(self.latest, call)

    def _add(self, alike: list[T], one: T) -> None:
        if len(alike) == MOST_ALIKE:
            alike.pop()
            self.left_out += 1
        alike.append(one)

    def log(self) -> Log:
        """What it comes to, in order."""
        events = sorted(chain.from_iterable(self.events.values()), key=lambda one: one.line.number)
        calls = sorted(chain.from_iterable(self.calls.values()), key=lambda one: one.line.number)
        return Log(tuple(events), tuple(calls), left_out=self.left_out)


@dataclass(frozen=True, slots=True)
class LogReader:
    """Knows the lines of data/klog.yaml."""

    patterns: tuple[tuple[str, re.Pattern[str]], ...]

    @classmethod
    def load(cls) -> "LogReader":
        """Reads data/klog.yaml."""
        rows = load("klog")["lines"]
        return cls(tuple((row["id"], re.compile(row["match"], re.IGNORECASE)) for row in rows))

    def read(self, lines: Iterable[str]) -> Log:
        """Reads a log; of several boots, the last that says anything about TDX."""
        return self._read(_of_interest(lines))

    def read_blocks(self, blocks: Iterable[bytes]) -> Log:
        """Reads a log of any size as read() does, from blocks of it as they come."""
        lines = lines_of_interest(blocks)
        return self._read(Line(number, plain_text(raw)) for number, raw in lines)

    def _read(self, lines: Iterable[Line]) -> Log:
        last, now, boots = Log(), Boot(), 1
        for line in lines:
            if "Linux version" in line.text and now.has_any:
                last, now, boots = _latest(last, now.log()), Boot(), boots + 1
            self._take(line, now)
        return replace(_latest(last, now.log()), boots=boots)

    def _take(self, line: Line, boot: Boot) -> None:
        if call := read_call(line):
            boot.add_call(call)
        elif boot.latest and (more := _continued(line, boot.latest[-1])):
            boot.latest[-1] = replace(boot.latest[-1], registers=more)
        elif event := self.event(line):
            boot.add_event(event)

    def event(self, line: Line) -> Event | None:
        """Recognises a line; None for one that is not known."""
        for name, pattern in self.patterns:
            if match := pattern.search(line.text):
                words = {key: word for key, word in match.groupdict().items() if word is not None}
                return Event(name, line, words)
        return None


def read_call(line: Line) -> Call | None:
    """Reads a line that says that a SEAMCALL failed, in whatever format; None for others."""
    for pattern in CALLS:
        match = pattern.search(line.text)
        status = parse_number(match["status"]) if match else None
        if match and status is not None:
            cpu = match.groupdict().get("cpu")
            rest = line.text[match.end("leaf") :]
            leaf = parse_leaf(match["leaf"])
            return Call(leaf, status, line, _registers(rest), int(cpu) if cpu else None)
    return None


def plain_text(raw: str) -> str:
    """A line without time, host, level and what else stands before its text."""
    text = raw.rstrip("\r\n")
    for _ in range(MAX_PREFIXES):
        match = next((found for prefix in PREFIXES if (found := prefix.match(text))), None)
        if match is None or not match.end():
            break
        text = text[match.end() :]
    return text.strip()


def _of_interest(lines: Iterable[str]) -> Iterator[Line]:
    interest = Interest()
    for number, whole in enumerate(lines, start=1):
        raw = whole[:MAX_LINE]
        if interest.takes(number, raw):
            yield Line(number, plain_text(raw))


def _latest(before: Log, now: Log) -> Log:
    """Of two boots the later one, unless that alone says nothing about TDX."""
    return before if before.is_about_tdx and not now.is_about_tdx else now


def _continued(line: Line, call: Call) -> Mapping[str, int] | None:
    """The registers of a call with those of a line that goes on with them."""
    if line.number - call.line.number > REGISTER_LINES:
        return None
    more = _registers(line.text)
    if not more or REGISTER.sub("", line.text).strip(" ,.:;").lower() not in EMPTY_REST:
        return None
    return {**call.registers, **more}


#: What is left of a line of registers when these are taken out.
EMPTY_REST = (
    *("", "additional output", "seamcall additional output", "tdx: additional output"),
    *("virt/tdx", "tdx", "kvm", "kvm_intel", "tdx: seamcall additional output"),
)


def _registers(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, number in REGISTER.findall(text):
        value = parse_number(number)
        if value is not None:
            found[_register_name(name)] = value
    return found


def _register_name(name: str) -> str:
    """r8 of R08 and R8."""
    return re.sub(r"^r0(?=[89])", "r", name.lower())


def numbers(event: Event, *names: str) -> Sequence[int]:
    """Words of an event as numbers; 0 where the line does not say."""
    return [parse_number(event.words.get(name, "")) or 0 for name in names]
