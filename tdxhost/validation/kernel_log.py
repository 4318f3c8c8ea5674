# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's log whole, with levels: what in it no healthy machine has."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import Self

from tdxhost.host import KERNEL_LOG, log_records

#: Level of an error (include/linux/kern_levels.h, KERN_ERR); what is lower is worse.
ERROR = 3
#: Levels are the low three bits, the facility stands above them; the kernel's own is 0.
LEVEL_BITS, LEVELS = 3, 7
DRIVER = "tdxhost: "
LOADED = re.compile(r"tdxhost: provider \w+, (?!as told)")
#: Lines of defects in the kernel, of hangs, and of broken hardware.
COMPLAINT = re.compile(
    r"""(?x)
    WARNING:\ |\bBUG:\ |BUG\ at\ |\bOops\b|Call\ Trace:|general\ protection\ fault|double\ fault
    |Kernel\ panic|invalid\ opcode:|divide\ error:|unchecked\ MSR\ access|soft\ lockup|hard\ LOCKUP
    |self-detected\ stall|detected\ stalls|blocked\ for\ more\ than|scheduling\ while\ atomic
    |sleeping\ function\ called|TDX\ private\ memory\ error
    |\[Hardware\ Error\]|INFO:\ (?:possible|inconsistent|suspicious)|list_(?:add|del)\ corruption
    """
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the kernel's log: its level, when it was printed, and its text."""

    level: int
    time_us: int
    text: str

    @classmethod
    def of(cls, record: str) -> Self | None:
        """Reads a record of /dev/kmsg; None for those that user space has written, or cut ones."""
        head, _, text = record.partition(";")
        words = head.split(",")
        if len(words) < 3 or not (words[0].isdigit() and words[2].isdigit()):
            return None
        facility = int(words[0]) >> LEVEL_BITS
        if facility:
            return None
        return cls(int(words[0]) & LEVELS, int(words[2]), text.partition("\n")[0])

    def __str__(self) -> str:
        seconds, rest = divmod(self.time_us, 1_000_000)
        return f"[{seconds:5}.{rest:06}] {self.text}"


def read(path: Path = Path(KERNEL_LOG)) -> tuple[Line, ...]:
    """All that is kept of the log; NotRead where it can't be read."""
    return tuple(line for record in log_records(path) if (line := Line.of(record)))


def since_load(lines: Iterable[Line]) -> list[Line]:
    """The lines from the one on with which the driver was loaded first; all without that."""
    given = list(lines)
    kept = list(dropwhile(lambda line: not LOADED.search(line.text), given))
    return kept or given


def complaints(lines: Iterable[Line]) -> list[Line]:
    """The lines that no healthy machine has."""
    return [line for line in lines if COMPLAINT.search(line.text)]


def driver_errors(lines: Iterable[Line], expected: Sequence[re.Pattern[str]]) -> list[Line]:
    """The driver's errors but those that are expected."""
    return [
        line
        for line in lines
        if line.level <= ERROR
        and line.text.startswith(DRIVER)
        and not any(pattern.search(line.text) for pattern in expected)
    ]
