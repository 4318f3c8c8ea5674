# SPDX-License-Identifier: GPL-2.0-or-later
"""Many threads at once, one for each LP: what holds whoever comes first."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from .binding import Library
from .machine import (
    ARRAY_PA,
    CONFIG,
    DISABLE,
    FIRST_HKID,
    GIB,
    INIT,
    KEY_CONFIG,
    LP_INIT,
    NULL_ID,
    OK,
    RD,
    SHUTDOWN,
    SYS_DISABLE,
    TDMR_INIT,
    Host,
    layout,
    write_tdmrs,
)

LPS = 8
ROUNDS = 12
TIMEOUT_S = 60
BUSY = ("TDX_SYS_BUSY", 0)
TDMRS = layout([(4 * GIB, GIB), (6 * GIB, GIB)], 20 * GIB)
CALLS_A_GIB = 256

Answers = list[tuple[str, int]]


@pytest.fixture(autouse=True)
def _frequent_switches() -> Iterator[None]:
    """Python's threads take turns far more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def _host(library: Library) -> Host:
    host = Host(library, tdx_features0=SYS_DISABLE)
    write_tdmrs(host.machine.memory, TDMRS)
    return host


def _on_every_lp(work: Callable[[int], Answers]) -> list[Answers]:
    """Runs work on all LPs from the same moment on; answers by LP."""
    start = threading.Barrier(LPS, timeout=TIMEOUT_S)

    def run(lp: int) -> Answers:
        start.wait()
        return work(lp)

    with ThreadPoolExecutor(LPS) as pool:
        return list(pool.map(run, range(LPS), timeout=TIMEOUT_S))


def _until_not_busy(host: Host, leaf: int, lp: int, **regs: int) -> Answers:
    answers = [host.status(leaf, lp, **regs)]
    while answers[-1] == BUSY:
        answers.append(host.status(leaf, lp, **regs))
    return answers


def _count(answers: list[Answers]) -> Counter[str]:
    return Counter(name for of_lp in answers for name, _ in of_lp if name != BUSY[0])


def _everyone(host: Host, leaf: int, **regs: int) -> Counter[str]:
    return _count(_on_every_lp(lambda lp: _until_not_busy(host, leaf, lp, **regs)))


def _initialise_tdmrs(host: Host, lp: int) -> Answers:
    base = TDMRS[lp % len(TDMRS)].base
    answers: Answers = []
    while not answers or answers[-1][0] != "TDX_TDMR_ALREADY_INITIALIZED":
        answers.append(host.status(TDMR_INIT, lp, rcx=base))
    return answers


def test_each_step_of_a_bring_up_succeeds_once(library: Library) -> None:
    for _ in range(ROUNDS):
        host = _host(library)
        others = LPS - 1
        assert _everyone(host, INIT) == {"TDX_SUCCESS": 1, "TDX_SYS_INIT_NOT_PENDING": others}
        assert _everyone(host, LP_INIT) == {"TDX_SUCCESS": LPS}
        assert _everyone(host, LP_INIT) == {"TDX_SYS_LP_INIT_DONE": LPS}
        config = {"rcx": ARRAY_PA, "rdx": len(TDMRS), "r8": FIRST_HKID}
        assert _everyone(host, CONFIG, **config) == {
            "TDX_SUCCESS": 1,
            "TDX_SYS_CONFIG_NOT_PENDING": others,
        }
        keys = _everyone(host, KEY_CONFIG)
        assert keys["TDX_SUCCESS"] == 2
        assert set(keys) <= {"TDX_SUCCESS", "TDX_KEY_CONFIGURED", "TDX_SYS_KEY_CONFIG_NOT_PENDING"}
        assert len({lp // 4 for lp, _, _ in host.machine.pconfig_calls}) == 2
        assert host.module.state() == {"sys": 3, "lps": LPS, "packages": 2}


def test_pieces_of_tdmrs_are_neither_lost_nor_done_twice(library: Library) -> None:
    host = _host(library)
    host.bring_up(TDMRS)
    answers = _count(_on_every_lp(lambda lp: _initialise_tdmrs(host, lp)))
    assert answers["TDX_SUCCESS"] == len(TDMRS) * CALLS_A_GIB
    assert answers["TDX_TDMR_ALREADY_INITIALIZED"] == LPS
    assert set(answers) <= {"TDX_SUCCESS", "TDX_TDMR_ALREADY_INITIALIZED", "TDX_OPERAND_BUSY"}


def _read_until(host: Host, is_over: threading.Event, lp: int) -> Answers:
    answers = []
    while not is_over.is_set():
        answers.append(host.status(RD, lp, rdx=NULL_ID))
    return [*answers, host.status(RD, lp, rdx=NULL_ID)]


def test_shutdown_amid_readers_succeeds_and_ends_all_else(library: Library) -> None:
    for _ in range(ROUNDS):
        host = _host(library)
        host.bring_up(TDMRS)
        is_over = threading.Event()

        def work(lp: int, host: Host = host, is_over: threading.Event = is_over) -> Answers:
            if lp:
                return _read_until(host, is_over, lp)
            answers = _until_not_busy(host, SHUTDOWN, lp)
            is_over.set()
            return answers

        answers = _on_every_lp(work)
        assert answers[0][-1] == OK
        assert {of_lp[-1] for of_lp in answers[1:]} == {("TDX_SYS_SHUTDOWN", 0)}
        read = "TDX_METADATA_FIRST_FIELD_ID_IN_CONTEXT"
        assert set(_count(answers[1:])) <= {read, "TDX_SYS_SHUTDOWN"}


class _Disabling:
    """LP 0 repeats TDH.SYS.DISABLE; the others go on until it is done."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._begun = threading.Event()
        self._done = threading.Event()
        self.late: list[str] = []

    def work(self, lp: int) -> Answers:
        return self._initialise(lp) if lp else self._disable()

    def _disable(self) -> Answers:
        answers = [self._host.status(DISABLE)]
        self._begun.set()
        while answers[-1] != OK:
            answers.append(self._host.status(DISABLE))
        self._done.set()
        return answers

    def _initialise(self, lp: int) -> Answers:
        answers = []
        while not self._done.is_set():
            is_late = self._begun.is_set()
            answers.append(self._host.status(TDMR_INIT, lp, rcx=4 * GIB))
            if is_late:
                self.late.append(answers[-1][0])
        return answers


def test_disable_amid_others_gets_through_and_locks_them_out(library: Library) -> None:
    for _ in range(ROUNDS):
        host = _host(library)
        host.bring_up(TDMRS)
        disabling = _Disabling(host)
        answers = _on_every_lp(disabling.work)
        assert set(answers[0][:-1]) <= {BUSY}
        # Locked out, or, once it is done, before TDH.SYS.INIT.
        assert set(disabling.late) <= {BUSY[0], "TDX_SYS_NOT_READY"}
        assert host.module.state() == {"sys": 0, "lps": 0, "packages": 0}
        assert host.status(INIT) == OK
