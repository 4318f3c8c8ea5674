# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may run with whom, with real threads: a leaf held up meets the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from .binding import VMFAILINVALID, Library
from .machine import (
    ARRAY_PA,
    CONFIG,
    FIRST_HKID,
    GIB,
    INFO,
    INIT,
    KEY_CONFIG,
    LP_INIT,
    LP_SHUTDOWN,
    NULL_ID,
    OK,
    RCX,
    RD,
    SHUTDOWN,
    TDMR_INIT,
    UPDATE,
    Host,
    Machine,
    layout,
)

SYS_BUSY = ("TDX_SYS_BUSY", 0)
TIMEOUT_S = 20
TDMRS = layout([(4 * GIB, GIB), (6 * GIB, GIB)], 20 * GIB)


@contextmanager
def _held(host: Host, leaf: int, lp: int, **regs: int) -> Iterator[Callable[[], tuple[str, int]]]:
    """A leaf that stays inside, its locks held, until the block ends; gives its answer."""
    entered, leave = threading.Event(), threading.Event()

    def hold(holding_lp: int, holding_leaf: int) -> None:
        if (holding_lp, holding_leaf) == (lp, leaf):
            entered.set()
            leave.wait(TIMEOUT_S)

    def finish() -> tuple[str, int]:
        leave.set()
        return answer.result(TIMEOUT_S)

    host.machine.on_hold = hold
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(host.status, leaf, lp, **regs)
        try:
            assert entered.wait(TIMEOUT_S), "the leaf did not hold"
            yield finish
        finally:
            leave.set()
    host.machine.on_hold = None


def _at_state(library: Library, sys: int) -> Host:
    host = Host(library)
    if sys >= 1:
        host.lp_init_all()
    if sys >= 2:
        assert host.config(TDMRS) == OK
    if sys >= 3:
        host.key_config_all()
    return host


@pytest.mark.parametrize("tried", [INIT, LP_INIT, CONFIG, KEY_CONFIG, UPDATE])
@pytest.mark.parametrize(("holder", "sys"), [(INIT, 0), (CONFIG, 1), (KEY_CONFIG, 2), (UPDATE, 1)])
def test_an_exclusive_holder_makes_all_others_busy_whatever_else_is_wrong(
    library: Library, holder: int, sys: int, tried: int
) -> None:
    host = _at_state(library, sys)
    with _held(host, holder, 0):
        assert host.status(tried, 1, rcx=1, rdx=0) == SYS_BUSY


@pytest.mark.parametrize("holder", [INIT, CONFIG])
def test_reading_is_never_busy(library: Library, holder: int) -> None:
    host = _at_state(library, 1)
    with _held(host, holder, 0, rcx=1):
        assert host.status(RD, 1, rdx=NULL_ID)[0] == "TDX_METADATA_FIRST_FIELD_ID_IN_CONTEXT"
        assert host.status(INFO, 1, rcx=1) == ("TDX_OPERAND_INVALID", RCX)
        assert host.status(LP_SHUTDOWN, 1) == OK


def test_a_busy_init_has_cleared_its_outputs(library: Library) -> None:
    host = Host(library)
    with _held(host, INIT, 0):
        out = host.seamcall(INIT, 1, rcx=7, rdx=7, r8=7, r9=7, r10=7, r11=7)
        assert library.status_name(out["rax"]) == "TDX_SYS_BUSY"
        assert [out[reg] for reg in ("rcx", "rdx", "r8", "r9", "r10", "r11")] == [0] * 5 + [7]


def test_lp_inits_run_side_by_side_and_keep_exclusive_leaves_out(library: Library) -> None:
    host = Host(library)
    assert host.status(INIT) == OK
    with _held(host, LP_INIT, 0) as finish:
        assert host.status(LP_INIT, 1) == OK
        for leaf in (INIT, CONFIG, KEY_CONFIG, UPDATE):
            assert host.status(leaf, 2) == SYS_BUSY
        assert finish() == OK
    assert host.module.state()["lps"] == 2


def test_all_lps_at_once(library: Library) -> None:
    lps = 32
    host = Host(library, Machine(lps=lps, packages=4))
    assert host.status(INIT) == OK
    barrier = threading.Barrier(lps, timeout=TIMEOUT_S)

    def meet(_lp: int, _leaf: int) -> None:
        barrier.wait()

    host.machine.on_hold = meet
    with ThreadPoolExecutor(lps) as pool:
        answers = list(pool.map(lambda lp: host.status(LP_INIT, lp), range(lps)))
    assert answers == [OK] * lps
    assert host.module.state()["lps"] == lps


def test_one_of_many_inits_wins(library: Library) -> None:
    host = Host(library)
    barrier = threading.Barrier(8, timeout=TIMEOUT_S)

    def start(lp: int) -> tuple[str, int]:
        barrier.wait()
        return host.status(INIT, lp)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(start, range(8)))
    assert answers.count(OK) == 1
    assert set(answers) <= {OK, SYS_BUSY, ("TDX_SYS_INIT_NOT_PENDING", 0)}


def test_tdmr_init_collides_on_the_same_tdmr_only(library: Library) -> None:
    host = _at_state(library, 3)
    with _held(host, TDMR_INIT, 0, rcx=4 * GIB) as finish:
        assert host.status(TDMR_INIT, 1, rcx=4 * GIB) == ("TDX_OPERAND_BUSY", RCX)
        assert host.status(TDMR_INIT, 1, rcx=6 * GIB) == OK
        assert finish() == OK


def test_tdmrs_are_initialised_in_parallel_without_losing_a_piece(library: Library) -> None:
    host = _at_state(library, 3)

    def finish(args: tuple[int, int]) -> int:
        lp, base = args
        done = 0
        while True:
            name, _ = host.status(TDMR_INIT, lp, rcx=base)
            if name == "TDX_TDMR_ALREADY_INITIALIZED":
                return done
            done += name == "TDX_SUCCESS"

    jobs = [(lp, base) for lp, base in enumerate([4 * GIB, 6 * GIB] * 2)]
    with ThreadPoolExecutor(len(jobs)) as pool:
        done = list(pool.map(finish, jobs))
    assert done[0] + done[2] == 256
    assert done[1] + done[3] == 256


@pytest.mark.parametrize(
    ("inside", "regs"), [(TDMR_INIT, {"rcx": 4 * GIB}), (RD, {"rdx": NULL_ID})]
)
def test_shutdown_wants_nobody_else_inside(
    library: Library, inside: int, regs: dict[str, int]
) -> None:
    host = _at_state(library, 3)
    with _held(host, inside, 1, **regs):
        assert host.status(SHUTDOWN, 0) == SYS_BUSY
        assert host.sys == 3
    assert host.status(SHUTDOWN, 0) == OK


def test_config_holds_once_and_before_its_work(library: Library) -> None:
    host = _at_state(library, 1)
    held: list[tuple[int, int]] = []
    host.machine.on_hold = lambda lp, leaf: held.append((lp, leaf))
    assert host.status(CONFIG, 3, rcx=ARRAY_PA, rdx=0, r8=FIRST_HKID)[0] == "TDX_OPERAND_INVALID"
    assert host.status(TDMR_INIT, 3)[0] == "TDX_SYS_NOT_READY"
    assert held == [(3, CONFIG)]


def test_one_lp_at_a_time_in_the_loader(library: Library) -> None:
    host = Host(library)
    inner: list[int] = []
    host.machine.on["map_pa"] = lambda: inner.append(host.ends_with(1 << 63, lp=1, rcx=0x2000))
    assert host.status(1 << 63, rcx=0x1000) == OK
    assert inner == [VMFAILINVALID]
