# SPDX-License-Identifier: GPL-2.0-or-later
"""What tdxhost trace shows: a line a call, a summary, a document."""

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from tdxhost.cli.tables import Block, Column, Row, Table
from tdxhost.documents import SCHEMA, Document
from tdxhost.leaves import leaf_name
from tdxhost.records import Provider
from tdxhost.trace import Call, Tally, Words, in_order, named
from tdxhost.words import count, duration, register

TITLES = f"{'TIME':>10}  CPU  {'TOOK':>7}  SEAMCALL"
INDENT = " " * TITLES.index("SEAMCALL")
NS_PER_S = 1_000_000_000
#: Where nobody says how wide a line may be, it may be as long as it is.
ENDLESS = 0

COLUMNS = (
    Column("LEAF"),
    Column("CALLS", right=True),
    Column("FAILED", right=True),
    Column("MEDIAN", right=True, rank=1),
    Column("MAX", right=True, rank=2),
    Column("TOTAL", right=True),
)


@dataclass
class Traced:
    """What a trace came to; calls alone where it keeps them."""

    provider: Provider
    keeps: bool
    began_ns: int = 0
    ended_ns: int = 0
    calls: list[Call] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    lost: dict[int, int] = field(default_factory=dict)
    gaps: int = 0

    def add(self, calls: Iterable[Call]) -> None:
        """Takes more calls."""
        for call in calls:
            self.tally.add(call)
            if self.keeps:
                self.calls.append(call)

    @property
    def not_traced(self) -> str:
        """Says whose SEAMCALLs pass no tracepoint; empty where they are all the driver's."""
        if self.provider is Provider.DIRECT:
            return ""
        return (
            f"The kernel makes SEAMCALLs of its own here (provider {self.provider.label}): they do "
            "not pass the driver's tracepoint, and are not traced."
        )


class Lines:
    """Writes calls to standard output as they come."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._width = shutil.get_terminal_size((ENDLESS, 0)).columns
        self._in_colour = _wants_colour()
        self.titled = False

    def show(self, calls: Iterable[Call], began_ns: int) -> None:
        """Writes a line for each, or more where it is narrow."""
        for call in calls:
            if not self.titled:
                print(TITLES)
                self.titled = True
            for line in self._wrapped(call_line(call, self._words, began_ns)):
                print(f"\x1b[31m{line}\x1b[0m" if call.failed and self._in_colour else line)
        sys.stdout.flush()

    def _wrapped(self, line: str) -> list[str]:
        if self._width == ENDLESS:
            return [line]
        return textwrap.wrap(line, self._width, subsequent_indent=INDENT, break_long_words=False)


def _wants_colour() -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


def call_line(call: Call, words: Words, began_ns: int) -> str:
    """A call in one line: when it began, CPU, how long, leaf, registers, how it ended."""
    began = (call.start_ns - began_ns) / NS_PER_S
    head = f"{began:10.6f}  {call.cpu:>3}  {duration(call.duration_ns):>7}"
    asked = words.asked(call)
    called = f"{leaf_name(call.leaf)} {asked}" if asked else leaf_name(call.leaf)
    return f"{head}  {called}  {words.answer(call)}"


def summary_blocks(traced: Traced) -> list[Block]:
    """How often each leaf was called, how often it failed, and how long that took."""
    tally = traced.tally
    took = duration(traced.ended_ns - traced.began_ns)
    blocks: list[Block] = []
    if tally.count:
        where = f"{count(tally.count, 'SEAMCALL')} on {count(len(tally.cpus), 'CPU')} in {took}"
        blocks += [f"{where}, {tally.failures or 'none'} of them failed", ""]
        blocks += [Table("", COLUMNS, tuple(_rows(tally)))]
    else:
        blocks += [f"No SEAMCALL was traced in {took}."]
    if traced.not_traced:
        blocks += ["", traced.not_traced]
    return blocks


def _rows(tally: Tally) -> Iterable[Row]:
    for found in tally.sums():
        times = (duration(ns) for ns in (found.median_ns, found.max_ns, found.total_ns))
        cells = (found.leaf, str(found.count), str(found.failures), *times)
        yield Row(cells, bad=found.failures > 0)


def trace_document(traced: Traced, words: Words, *, with_calls: bool) -> Document:
    """The document of trace; calls is null with --quiet, times are CLOCK_MONOTONIC ns."""
    calls = [_call(call, words) for call in in_order(traced.calls)]
    return {
        "schema": SCHEMA,
        "provider": traced.provider.label,
        "start_ns": traced.began_ns,
        "duration_ns": traced.ended_ns - traced.began_ns,
        "calls": calls if with_calls else None,
        "summary": [asdict(found) for found in traced.tally.sums()],
        "lost": sum(traced.lost.values()),
        "lost_by_cpu": [{"cpu": cpu, "lost": lost} for cpu, lost in sorted(traced.lost.items())],
        "driver_reloads": traced.gaps,
    }


def _call(call: Call, words: Words) -> Document:
    """A call; null where it did not answer."""
    return {
        "cpu": call.cpu,
        "start_ns": call.start_ns,
        "duration_ns": call.duration_ns,
        "leaf": leaf_name(call.leaf),
        "code": call.code.label,
        "trap": call.trap or None,
        "seam_status": register(call.status) if call.answered else None,
        "status_name": words.status_name(call),
        "asked": words.asked(call) or None,
        "answer": words.answer(call),
        "in": {"rax": register(call.leaf), **named(call.inputs)},
        "out": {"rax": register(call.status), **named(call.outputs)} if call.answered else None,
    }
