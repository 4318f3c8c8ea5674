# SPDX-License-Identifier: GPL-2.0-or-later
"""Cases from TDH.SYS.CONFIG's success on: there the TDX module keeps memory, so a
machine goes one way.

A chain takes a machine through the whole bring-up: at TDH.SYS.CONFIG, at the first,
two middle and the last package, and at the first, a middle and the last TDMR.INIT a
case of its own strikes, passes, and the next one is reached by RETRY. A status that
is final ends its machine.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.vm.matrix.cases import (
    CPUS,
    TIMES,
    TOPOLOGY,
    TRAPS,
    VMXON_ANSWERS,
    Case,
    Group,
)
from tests.vm.matrix.contract import UD, Answer
from tests.vm.matrix.faults import VMXON, Fault
from tests.vm.matrix.statuses import (
    ANSWERS,
    CONFIG,
    KEY_CONFIG,
    NON_RECOVERABLE,
    TDMR_INIT,
    VALUES,
    is_success,
)
from tests.vm.matrix.tdx_module import CALLS_PER_GIB

TDMR_CALLS = len(TOPOLOGY.tdmrs) * CALLS_PER_GIB
#: Where the middle of TDH.SYS.TDMR.INIT is.
MIDDLE_CALLS = 100
#: CPU of the callers: makes TDH.SYS.CONFIG.
CALLER = 1
#: CPU that makes TDH.SYS.TDMR.INIT: of the TDMR's node the first that has nothing to do.
WORKER = TOPOLOGY.cpus[0]

_PACKAGES = [cpus[0] for cpus in TOPOLOGY.packages]
_PACKAGE_NAMES = ("first", "second", "middle", "last")


class Strike:
    """What a case of a chain strikes with."""

    def __init__(self, what: str, answer: Answer, often: str) -> None:
        self.what = what
        self.answer = answer
        self.often = often
        self.times = TIMES[often]

    @property
    def name(self) -> str:
        """For the name of the case."""
        vmxon = "VMXON-" if self.what == VMXON else ""
        return f"{vmxon}{self.answer}-{self.often}"

    def fault(self, cpu: int | None = None) -> Fault:
        """The fault, from the next call on."""
        return Fault(self.what, self.answer, cpu, times=self.times)

    @property
    def calls(self) -> tuple[str, ...]:
        """Requests until it has passed: those that fail, a plain one, the one that goes on."""
        if self.answer.passing:
            return ("enable", "retry")
        return ("enable", *["retry"] * ((self.times or 1) + 1))

    @property
    def struck(self) -> int:
        """Calls of the leaf itself that it takes up."""
        return 0 if self.what == VMXON else self.times or 0


def _recoverable(leaf: str, often: str) -> list[Strike]:
    """Everything that RETRY can get over, past TDH.SYS.CONFIG."""
    answers = [
        Answer("status", VALUES[row.name] | row.low[0])
        for row in ANSWERS[leaf]
        if not is_success(VALUES[row.name]) and not VALUES[row.name] & NON_RECOVERABLE
    ]
    strikes = [Strike(leaf, answer, often) for answer in (*answers, *TRAPS)]
    return strikes + [Strike(VMXON, answer, often) for answer in VMXON_ANSWERS]


def _passing(leaf: str) -> list[Strike]:
    """Those that strike once or thrice."""
    return [*_recoverable(leaf, "once"), *_recoverable(leaf, "thrice")]


def _config_strikes() -> list[Strike]:
    """One failure of TDH.SYS.CONFIG for each machine: none of them is final."""
    answers = [Answer("status", VALUES[row.name] | row.low[-1]) for row in ANSWERS[CONFIG]]
    return [Strike(CONFIG, answer, "once") for answer in (*answers, *TRAPS)]


class Chain:
    """The cases of one machine, in the order in which it meets them."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self._tdmr_calls = 0

    def add(self, where: str, name: str, faults: tuple[Fault, ...], calls: tuple[str, ...]) -> None:
        """One more case."""
        self.cases.append(Case(f"{where}-{name}", faults, calls, CALLER))

    def config(self, strike: Strike) -> None:
        """TDH.SYS.CONFIG fails, and RETRY gets to the first package."""
        calls = ("enable",) if strike.answer.passing else ("enable", "enable", "retry")
        stop = Fault(KEY_CONFIG, UD)
        self.add(CONFIG, f"{strike.name}-recovered", (strike.fault(), stop), calls)

    def key_config(self, package: int, strike: Strike) -> None:
        """A package fails, then gets its key; what follows it fails."""
        last = package + 1 == len(_PACKAGES)
        stop = Fault(TDMR_INIT, UD) if last else Fault(KEY_CONFIG, UD, _PACKAGES[package + 1])
        name = f"{_PACKAGE_NAMES[package]}-{strike.name}"
        self.add(KEY_CONFIG, name, (strike.fault(_PACKAGES[package]), stop), strike.calls)

    def tdmr_init(self, position: str, strike: Strike, until: int) -> None:
        """A call fails, then it goes on until ``until`` calls have succeeded in all."""
        stop = Fault(TDMR_INIT, UD, call=until - self._tdmr_calls + strike.struck + 1)
        self._tdmr_calls = until
        name = f"{position}-{strike.name}"
        self.add(TDMR_INIT, name, (strike.fault(WORKER), stop), strike.calls)

    def always(self, leaf: str, position: str, strike: Strike) -> None:
        """What fails at the point that the machine is at, and goes on failing."""
        calls = ("enable", "retry", "retry")
        cpu = WORKER if leaf == TDMR_INIT else _PACKAGES[_PACKAGE_NAMES.index(position)]
        self.add(leaf, f"{position}-{strike.name}", (strike.fault(cpu),), calls)


def _turn(strikes: list[Strike], number: int, shift: int) -> Strike:
    return strikes[(number + shift) % len(strikes)]


def chain_groups() -> Iterator[Group]:
    """Machines enough for every strike to be at every position."""
    config = _config_strikes()
    keys, tdmrs = _passing(KEY_CONFIG), _passing(TDMR_INIT)
    keys_always = _recoverable(KEY_CONFIG, "always")
    tdmrs_always = _recoverable(TDMR_INIT, "always")
    for number in range(max(len(config), len(keys), len(tdmrs))):
        chain = Chain()
        chain.config(_turn(config, number, 0))
        for package, position in enumerate(_PACKAGE_NAMES):
            if number < len(keys_always) and position != "second":
                chain.always(KEY_CONFIG, position, keys_always[number])
            chain.key_config(package, _turn(keys, number, 3 * package))
        for turn, (position, until) in enumerate(_TDMR_POSITIONS if number < len(tdmrs) else ()):
            if number < len(tdmrs_always):
                chain.always(TDMR_INIT, position, tdmrs_always[number])
            chain.tdmr_init(position, _turn(tdmrs, number, 5 * turn), until)
        if number >= len(tdmrs):
            chain.add(TDMR_INIT, "undisturbed", (), ("enable", "retry", "enable"))
        yield Group(f"chain-{number:02}", tuple(chain.cases), reload=False)


# Calls that have succeeded when the next position is reached; after the last none is left.
_TDMR_POSITIONS = (
    ("first", MIDDLE_CALLS),
    ("middle", TDMR_CALLS - 1),
    ("last", TDMR_CALLS),
)

_TDMR_CALL = {"first": 1, "middle": MIDDLE_CALLS + 1, "last": TDMR_CALLS}


def _ending(leaf: str) -> list[Answer]:
    """Statuses past TDH.SYS.CONFIG that no RETRY gets over, or that end well at once."""
    values = [VALUES[row.name] | row.low[0] for row in ANSWERS[leaf]]
    return [Answer("status", v) for v in values if is_success(v) or v & NON_RECOVERABLE]


def ending_groups() -> Iterator[Group]:
    """Statuses that are final, and those of success class.

    The driver makes no call after a final status, so how often the fault would
    strike makes no difference that can be seen: the positions take turns at it.
    """
    for leaf in (KEY_CONFIG, TDMR_INIT):
        for shift, answer in enumerate(_ending(leaf)):
            for turn, (position, cpu) in enumerate(CPUS.items()):
                often = list(TIMES)[(shift + turn) % len(TIMES)]
                if leaf == KEY_CONFIG:
                    fault = Fault(leaf, answer, cpu, times=TIMES[often])
                else:
                    fault = Fault(leaf, answer, call=_TDMR_CALL[position], times=TIMES[often])
                name = f"{leaf}-{answer}-{position}-{often}"
                calls = ("enable", "enable", "retry", "retry")
                yield Group(name, (Case(name, (fault,), calls, CALLER),), reload=False)
