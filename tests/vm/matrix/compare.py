# SPDX-License-Identifier: GPL-2.0-or-later
"""What the driver showed and what vtdx logged, against the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.vm.matrix.cases import Case
from tests.vm.matrix.contract import Code, Record
from tests.vm.matrix.driver_model import DriverModel
from tests.vm.matrix.statuses import INIT, LEAVES
from tests.vm.matrix.tdx_module import Seen
from tests.vm.witness import Call

KERN_ERR = 3
COMPLAINTS = ("WARNING:", "BUG:", "Oops", "Call Trace", "general protection", "soft lockup", "hung")
REGISTERS = ("rcx", "rdx", "r8", "r9", "r10", "r11")
#: Free memory is not exact to the page. The PAMT of one TDMR is more.
SLACK_BYTES = 3 << 20

_KINDS = {"done": "status", "ud": "ud", "gp": "gp", "vmfailinvalid": "vmfail"}


def seen(call: Call) -> Seen:
    """A call of vtdx's log as the model has it."""
    status = call.registers_out["rax"] if call.result == "done" else 0
    kind = _KINDS.get(call.result, call.result)
    return Seen(call.leaf, call.cpu, kind, status, call.fault is not None)


class Comparison:
    """One machine's way, call by call; ``calls`` is all that vtdx has logged of it."""

    def __init__(self, model: DriverModel, calls: list[Call]) -> None:
        self.model = model
        self.calls = calls

    def case(self, case: Case, views: list[Record]) -> list[str]:
        """Go through the requests of a case; what is wrong."""
        self.model.caller = case.caller
        self.model.strike(case.faults)
        problems: list[str] = []
        for number, (request, view) in enumerate(zip(case.calls, views, strict=True), 1):
            where = f"request {number} ({request})"
            problems += [f"{where}: {problem}" for problem in self._request(request, view)]
        made, logged = len(self.model.module.seen), len(self.calls)
        if made != logged:
            problems.append(f"{logged} SEAMCALLs were logged, {made} had to be made")
        return problems

    def _request(self, request: str, view: Record) -> Iterator[str]:
        model = self.model
        before, lines = len(model.module.seen), len(model.log)
        name, _, cpu = request.partition(":")
        answer = (
            model.cpu_enable(int(cpu)) if name == "cpu" else model.enable(retry=name == "retry")
        )
        yield from differences("answer", view["answer"], answer)
        yield from differences("GET_STATUS", view["status"], model.shown())
        for got in view["cpus"]:
            expected = model.cpus[got["cpu"]].members()
            yield from differences(f"GET_CPUS {got['cpu']}", got, expected)
        for got, step in zip(view["steps"], model.steps.values(), strict=True):
            yield from differences(f"GET_STEPS {step.step.name}", got, step.members())
        for name in ("pamt_bytes", "pamt_ranges"):
            if view[name] != model.pamt_bytes:
                yield f"GET_MEMORY {name}: {view[name]}, expected {model.pamt_bytes}"
        yield from self._log(view["lines"], model.log[lines:])
        yield from self._calls(before)
        yield from self._registers(view)

    def _log(self, lines: list[tuple[int, str]], expected: list[str]) -> Iterator[str]:
        said = [text for level, text in lines if level <= KERN_ERR]
        wanted = [f"tdxhost: {line}" for line in expected]
        if said != wanted:
            yield f"kernel log: {said}, expected {wanted}"
        yield from complaints(lines)

    def _calls(self, before: int) -> Iterator[str]:
        """What vtdx saw in this request: the same calls on the same CPUs, in any order."""
        expected = Counter(self.model.module.seen[before:])
        logged = Counter(map(seen, self.calls[before : len(self.model.module.seen)]))
        for call, times in (logged - expected).items():
            yield f"vtdx's log has {times} more of {call}"
        for call, times in (expected - logged).items():
            yield f"vtdx's log has {times} less of {call}"

    def _registers(self, view: Record) -> Iterator[str]:
        """Output registers of a refused call are those that vtdx gave."""
        for got in (*view["cpus"], *view["steps"]):
            if got["code"] != Code.SEAMCALL:
                continue
            call = self._last_call(got["leaf"], got["cpu"])
            for name in REGISTERS if call else ():
                if got[name] != call.registers_out[name]:
                    yield f"{name} on CPU {got['cpu']}: {got[name]:#x}, vtdx gave {call}"

    def _last_call(self, leaf: int, cpu: int) -> Any:
        """The last call of a leaf; TDH.SYS.INIT is made by one CPU for all."""
        done = self.calls[: len(self.model.module.seen)]
        mine = [c for c in done if LEAVES.get(c.leaf) == leaf and (c.leaf == INIT or c.cpu == cpu)]
        return mine[-1] if mine else None


def differences(what: str, got: Record, expected: Record) -> Iterator[str]:
    """Members that are not as expected; those that nothing is expected of don't matter."""
    for name, value in expected.items():
        found = got[name] if got[name] is not None else 0xFFFFFFFF
        if found != value:
            yield f"{what}.{name}: {found:#x}, expected {value:#x}"


def complaints(lines: list[tuple[int, str]]) -> Iterator[str]:
    """Warnings, oopses and worse."""
    for _, text in lines:
        if any(word in text for word in COMPLAINTS):
            yield f"kernel log: {text}"


def leak(free: int, held: int, expected: int) -> Iterator[str]:
    """Memory that is gone, or that was given back though it had to be held.

    The kernel may have freed something of its own meanwhile, but not as much as a PAMT has.
    """
    lost, gained = expected - held - free, free - (expected - held)
    if lost > SLACK_BYTES or (held and gained > SLACK_BYTES + held // 2):
        yield f"{free} bytes are free and {held} held, where {expected} were free before"
