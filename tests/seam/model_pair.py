# SPDX-License-Identifier: GPL-2.0-or-later
"""The library and the model side by side: the same machine, the same calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .binding import DONE, FATAL, REGISTERS, Library
from .machine import Machine, config
from .model import ModelLibrary

# What leaves do not touch comes back as it went in: garbage that is seen.
DIRT = {name: 0xD1D10000 + number for number, name in enumerate(REGISTERS) if name != "rax"}


class Entry(Protocol):
    """A module: the library's or the model."""

    def call(self, lp: int, **registers: int) -> tuple[int, dict[str, int]]: ...
    def reload(self, keep_handoff: bool) -> None: ...
    def state(self) -> dict[str, int]: ...


@dataclass(frozen=True)
class Step:
    """A SEAMCALL, how often, and the calls of other LPs while it is inside."""

    lp: int
    rax: int
    registers: Mapping[str, int] = field(default_factory=dict)
    inner: tuple[Step, ...] = ()
    repeat: int = 1


@dataclass
class Side:
    """A machine and the module on it."""

    machine: Machine
    module: Entry

    def run(self, step: Step) -> list[Any]:
        """What a step gives: answers, and what happened while it was held."""
        happened: list[Any] = []

        def hold(lp: int, leaf: int) -> None:
            happened.append(("held", lp, leaf))
            happened.extend(self.run(inner) for inner in step.inner)

        outer, self.machine.on_hold = self.machine.on_hold, hold
        try:
            for _ in range(step.repeat):
                registers = {**DIRT, **step.registers, "rax": step.rax}
                happened.append(self._answer(*self.module.call(step.lp, **registers)))
        finally:
            self.machine.on_hold = outer
        return happened

    @staticmethod
    def _answer(ending: int, regs: Mapping[str, int]) -> Any:
        """Registers don't count where the platform is reset."""
        counted = {} if ending == FATAL else regs
        return ending, {name: hex(value) for name, value in counted.items()}

    def seen(self) -> dict[str, Any]:
        """What can be seen of a side beside answers."""
        machine = self.machine
        return {
            "state": self.module.state(),
            "pconfig": list(machine.pconfig_calls),
            "interrupts left": machine.interrupts,
        }

    def pages(self) -> dict[int, bytes]:
        return {
            number: bytes(page)
            for number, page in self.machine.memory.pages()
            if page.count(0) < len(page)
        }


class Differ(AssertionError):
    """The library and the model answer differently."""


class Pair:
    """A library module and a model module in step."""

    def __init__(
        self,
        library: Library,
        model: ModelLibrary,
        build: Callable[[], Machine] = Machine,
        **settings: Any,
    ) -> None:
        self.sides: list[Side] = []
        self._names = model.status_name
        for create in (library.create, model.create):
            machine = build()
            module = create(config(machine, **settings), machine)
            if module is None:
                raise ValueError("seam_create() refused the configuration")
            self.sides.append(Side(machine, module))

    @property
    def machine(self) -> Machine:
        """Either machine, to look at."""
        return self.sides[0].machine

    @property
    def sys(self) -> int:
        return self.sides[0].module.state()["sys"]

    def each(self, change: Callable[[Machine], None]) -> None:
        """Changes both machines alike."""
        for side in self.sides:
            change(side.machine)

    def reload(self, keep_handoff: bool) -> None:
        for side in self.sides:
            side.module.reload(keep_handoff)

    def run(self, step: Step) -> tuple[int, dict[str, int]]:
        """A step on both; how its last call ended. Failures to come last no longer."""
        library, model = (side.run(step) for side in self.sides)
        if library != model:
            raise Differ(
                f"{step}:\n  library {self._named(library)}\n  model   {self._named(model)}"
            )
        seen = [side.seen() for side in self.sides]
        if seen[0] != seen[1]:
            raise Differ(f"{step}:\n  library {seen[0]}\n  model   {seen[1]}")
        self.each(_take_back_failures)
        ending, regs = library[-1]
        return ending, {name: int(value, 16) for name, value in regs.items()}

    def status(self, step: Step) -> str | None:
        """The name of the status of a step that completes."""
        ending, regs = self.run(step)
        assert ending == DONE
        return self._names(regs["rax"])

    def compare_memory(self) -> None:
        library, model = (side.pages() for side in self.sides)
        pages = sorted(library.keys() | model.keys())
        wrong = [hex(page) for page in pages if library.get(page) != model.get(page)]
        if wrong:
            raise Differ(f"memory differs in pages {wrong}")

    def _named(self, happened: Sequence[Any]) -> list[Any]:
        """With statuses by name, for people."""
        return [
            self._named(event) if isinstance(event, list) else self._with_name(event)
            for event in happened
        ]

    def _with_name(self, event: Any) -> Any:
        if not isinstance(event[1], dict) or not event[1]:
            return event
        return self._names(int(event[1]["rax"], 16)), event


def _take_back_failures(machine: Machine) -> None:
    machine.rdrand_failures = 0
    machine.pconfig_result = 0
