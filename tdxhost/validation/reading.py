# SPDX-License-Identifier: GPL-2.0-or-later
"""A process that reads everything from the driver for a while, and tells what did not stay.

Run as ``python -m tdxhost.validation.reading``. What to do comes as JSON in its argument. It says
READY on standard output, is told on standard input until when to read, and says as JSON what it
found.
"""

import json
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Self

from tdxhost.device import Device, Source
from tdxhost.fields import FieldTable
from tdxhost.records import Memory, RangeKind, Status
from tdxhost.topology import pinned
from tdxhost.validation.metadata import Answers, answers

READY = "ready"
#: Of many findings, those that a reader tells.
MOST_FOUND = 5
#: Fields that are read at a time.
SOME = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a reader is to do: on these CPUs, from a seed."""

    cpus: tuple[int, ...]
    seed: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Reads what str() has written."""
        said = json.loads(text)
        return cls(cpus=tuple(said["cpus"]), seed=said["seed"])

    def __str__(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Report:
    """What a reader found: rounds that it made, and a sentence for each thing that moved."""

    rounds: int
    moved: tuple[str, ...]


@dataclass
class Reader:
    """Reads one thing after another, and compares it with what it was at first."""

    source: Source
    ids: Sequence[int]
    rng: random.Random
    moved: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._first = {what: read() for what, read in self._fixed().items()}
        self._status = self.source.get_status()
        self._values = dict(zip(self.ids, answers(self.source.sys_rd(self.ids)), strict=True))

    def _fixed(self) -> dict[str, Callable[[], object]]:
        """What stays as it is when nobody does anything new."""
        return {
            "GET_INFO": self.source.get_info,
            "GET_CPUS": self.source.get_cpus,
            "GET_STEPS": self.source.get_steps,
            "GET_MEMORY": lambda: layout_of(self.source.get_memory()),
        }

    def turn(self, cpu: int) -> None:
        """Reads everything once on a CPU; of the metadata, some fields."""
        for what, read in self._fixed().items():
            if read() != self._first[what]:
                self.moved.append(f"CPU {cpu}: {what} tells something else than at first")
        status = self.source.get_status()
        self.moved += (f"CPU {cpu}: {one}" for one in went_back(self._status, status))
        self._status = status
        ids = self.rng.sample(self.ids, min(SOME, len(self.ids)))
        found: Answers = answers(self.source.sys_rd(ids))
        for number, answer in zip(ids, found, strict=True):
            if answer != self._values[number]:
                self.moved.append(
                    f"CPU {cpu}: field {number:#018x} was {self._values[number][0]:#x}"
                    f", and is {answer[0]:#x}"
                )


def layout_of(memory: Memory) -> list[object]:
    """Ranges of memory but System RAM, which is the kernel's."""
    return [part for part in memory.ranges if part.kind is not RangeKind.RAM]


def went_back(before: Status, after: Status) -> Iterator[str]:
    """What of GET_STATUS moved: the state at all, counters backwards."""
    for name in ("module_status", "step", "error", "code", "pamt_bytes", "cpus_failed"):
        if getattr(after, name) != getattr(before, name):
            was, now = (said(getattr(one, name)) for one in (before, after))
            yield f"{name} was {was}, and is {now}"
    for name in ("generation", "cpus_enabled"):
        if getattr(after, name) < getattr(before, name):
            yield f"{name} went back from {getattr(before, name)} to {getattr(after, name)}"


def said(value: object) -> str:
    """A member of a record as messages have it."""
    return str(getattr(value, "label", value))


def read_on(reader: Reader, cpus: Sequence[int], until: float) -> Report:
    """Reads on CPU after CPU by chance, until a time of CLOCK_MONOTONIC."""
    rounds = 0
    while time.monotonic() < until and len(reader.moved) < MOST_FOUND:
        cpu = reader.rng.choice(cpus)
        with pinned(cpu):
            reader.turn(cpu)
        rounds += 1
    return Report(rounds, tuple(reader.moved[:MOST_FOUND]))


@contextmanager
def started(orders: Sequence[Order], timeout: float) -> Iterator[list[subprocess.Popen[str]]]:
    """A reader for each order, in a process of its own, that is ready; none is left at the end.

    AssertionError where one is not ready in time.
    """
    running: list[subprocess.Popen[str]] = []
    try:
        for order in orders:
            command = [sys.executable, "-m", __name__, str(order)]
            pipe = subprocess.PIPE
            running.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
        until = time.monotonic() + timeout
        for process in running:
            _wait_ready(process, max(0.0, until - time.monotonic()))
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()


def _wait_ready(process: subprocess.Popen[str], timeout: float) -> None:
    out = process.stdout
    there = out is not None and bool(select.select([out], [], [], timeout)[0])
    if out is None or not there or out.readline().strip() != READY:
        raise AssertionError(
            "a process that reads from the driver did not start to: "
            + ("it ended" if there else f"it was not ready after {timeout:.0f} s")
        )


def begin(process: subprocess.Popen[str], until: float) -> None:
    """Lets a reader that is ready read until a time of CLOCK_MONOTONIC."""
    if process.stdin is not None:
        process.stdin.write(f"{until}\n")
        process.stdin.flush()


def report_of(process: subprocess.Popen[str], timeout: float) -> Report:
    """What a reader found, once it is over; AssertionError where it ended in another way."""
    try:
        text, _ = process.communicate(timeout=timeout)
        said = json.loads(text)
    except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        ended = process.poll()
        how = "did not end" if ended is None else f"ended with {ended}, and told nothing"
        raise AssertionError(f"a process that reads from the driver {how}") from error
    return Report(said["rounds"], tuple(said["moved"]))


def main() -> None:
    """Carries out the order in the argument; Ctrl-C is for whoever started this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = Order.of(sys.argv[1])
    with Device() as device:
        reader = Reader(device, FieldTable.load().all_ids(), random.Random(order.seed))
        print(READY, flush=True)
        until = float(sys.stdin.readline())
        print(json.dumps(asdict(read_on(reader, order.cpus, until))))


if __name__ == "__main__":
    main()
