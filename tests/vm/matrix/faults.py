# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults, as vtdx strikes with them."""

from __future__ import annotations

from dataclasses import dataclass

from tests.vm.matrix.contract import Answer

VMXON = "VMXON"


@dataclass(frozen=True)
class Fault:
    """What strikes: an instruction, on a CPU or any, from the Nth on, some times or always."""

    what: str
    answer: Answer
    cpu: int | None = None
    call: int = 1
    times: int | None = None

    @property
    def spec(self) -> str:
        """In vtdx's language; vtdx/README.md, Faults."""
        words = [self.what]
        words += [] if self.cpu is None else [f"cpu={self.cpu}"]
        words += [] if self.call == 1 else [f"call={self.call}"]
        words += [] if self.times is None else [f"times={self.times}"]
        return " ".join([*words, self.answer.words])


class Striker:
    """Counts calls, and says which of them are struck; the first fault that matches wins."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self._faults = faults
        self._calls = [0] * len(faults)

    def strike(self, what: str, cpu: int) -> Answer | None:
        """The answer of the fault that strikes this call."""
        struck: Answer | None = None
        for number, fault in enumerate(self._faults):
            if fault.what != what or fault.cpu not in (None, cpu):
                continue
            self._calls[number] += 1
            since = self._calls[number] - fault.call
            if since >= 0 and (fault.times is None or since < fault.times):
                struck = struck or fault.answer
        return struck
