# SPDX-License-Identifier: GPL-2.0-or-later
"""The TDX module's metadata as tests need it: by name, and compared between CPUs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tdxhost.bringup import read_metadata
from tdxhost.device import Source
from tdxhost.fields import Field, FieldTable
from tdxhost.records import FieldValue
from tdxhost.topology import format_cpu_list
from tdxhost.validation.requirement import could_not_run

#: What TDH.SYS.RD answers for one element of a field: value, completion status, error, trap.
Answer = tuple[int, int, int, int]
#: The answers for each element of each field, in order.
Answers = tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Metadata:
    """Fields that the TDX module has: their values by name, one for each element."""

    values: Mapping[str, tuple[int, ...]]

    @classmethod
    def read(cls, source: Source, table: FieldTable) -> "Metadata":
        """Reads every field of the reference; ends the test where none can be read."""
        read = read_metadata(source, table)
        if read.not_read:
            could_not_run(f"the metadata can't be read: {read.not_read.message}")
        known = (one for one in read.readings if one.known)
        return cls({one.field.name: tuple(part.value for part in one.values) for one in known})

    def get(self, name: str) -> int | None:
        """A field of one element; None where the TDX module does not have it."""
        found = self.values.get(name)
        return found[0] if found else None

    def must(self, *names: str) -> tuple[int, ...]:
        """Fields of one element; ends the test where the TDX module lacks one."""
        missing = [name for name in names if name not in self.values]
        if missing:
            could_not_run(f"the TDX module does not tell {', '.join(missing)}")
        return tuple(self.values[name][0] for name in names)


def answers(values: Sequence[FieldValue]) -> Answers:
    """What is to be equal on every CPU and at any time."""
    return tuple((one.value, one.seam_status, one.error, one.trap) for one in values)


def element_names(table: FieldTable) -> list[str]:
    """A name for each of FieldTable.all_ids(), such as MAX_TDMRS or CMR_BASE[3]."""
    return [name for field in table.fields for name in _names_of(field)]


def _names_of(field: Field) -> Iterable[str]:
    if field.count == 1:
        return (field.name,)
    return (f"{field.name}[{index}]" for index in range(field.count))


def differing(
    by_cpu: Mapping[int, Answers], names: Sequence[str], name_of: Callable[[int], str | None]
) -> list[str]:
    """A sentence for each element that is not the same on every CPU: who has which value."""
    found = []
    for index, name in enumerate(names):
        said: dict[Answer, list[int]] = {}
        for cpu, answered in by_cpu.items():
            said.setdefault(answered[index], []).append(cpu)
        if len(said) > 1:
            each = (_on_cpus(answer, cpus, name_of) for answer, cpus in said.items())
            found.append(f"{name} is {', '.join(each)}")
    return found


def _on_cpus(answer: Answer, cpus: Sequence[int], name_of: Callable[[int], str | None]) -> str:
    where = f"on CPU{'s' if len(cpus) > 1 else ''} {format_cpu_list(cpus)}"
    return f"{told(answer, name_of)} {where}"


def told(answer: Answer, name_of: Callable[[int], str | None]) -> str:
    """An answer as a message has it: the value, or why there is none."""
    value, status, error, trap = answer
    if not error:
        return f"{value:#x}"
    return f"refused (trap {trap})" if trap else f"refused ({name_of(status) or hex(status)})"
