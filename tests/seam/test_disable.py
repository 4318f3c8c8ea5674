# SPDX-License-Identifier: GPL-2.0-or-later
"""TDH.SYS.DISABLE: semantics.md 3.10, leaves.yaml sys_disable."""

from __future__ import annotations

from typing import Any

import pytest

from .binding import Library
from .machine import (
    DISABLE,
    GIB,
    INFO,
    INIT,
    KEY_CONFIG,
    LP_INIT,
    LP_SHUTDOWN,
    NULL_ID,
    OK,
    RAX,
    RD,
    RDALL,
    SHUTDOWN,
    SYS_DISABLE,
    TDMR_INIT,
    UPDATE,
    Host,
    layout,
)

BUSY = ("TDX_SYS_BUSY", 0)
RESUMABLE = ("TDX_INTERRUPTED_RESUMABLE", 0)
INVALID_RAX = ("TDX_OPERAND_INVALID", RAX)
NOT_READY = ("TDX_SYS_NOT_READY", 0)
IS_SHUT_DOWN = ("TDX_SYS_SHUTDOWN", 0)
TDMRS = layout([(4 * GIB, 2 * GIB), (8 * GIB, GIB)], 20 * GIB)
DIRTY = {"rcx": 1, "rdx": 2, "r8": 8, "r9": 9, "r10": 10, "r11": 11}


def _host(library: Library, sys: int, **more: Any) -> Host:
    host = Host(library, **{"tdx_features0": SYS_DISABLE, **more})
    if sys >= 1:
        host.lp_init_all()
    if sys >= 2:
        assert host.config(TDMRS) == OK
    if sys >= 3:
        host.key_config_all()
    if sys >= 4:
        assert host.status(SHUTDOWN) == OK
    return host


@pytest.mark.parametrize("sys", range(4))
def test_afterwards_the_module_can_be_initialised_from_the_start(
    library: Library, sys: int
) -> None:
    host = _host(library, sys)
    assert host.status(DISABLE, lp=5) == OK
    assert host.module.state() == {"sys": 0, "lps": 0, "packages": 0}
    host.bring_up(layout([(12 * GIB, GIB)], 20 * GIB))
    assert host.module.state() == {"sys": 3, "lps": 8, "packages": 2}
    assert host.status(TDMR_INIT, rcx=12 * GIB) == OK
    assert host.status(TDMR_INIT, rcx=4 * GIB)[0] == "TDX_OPERAND_INVALID"


@pytest.mark.parametrize(("sys", "answer"), [(0, NOT_READY), (3, INVALID_RAX), (4, IS_SHUT_DOWN)])
@pytest.mark.parametrize("update", [1, 16])
def test_a_module_that_does_not_announce_it_has_not_got_it(
    library: Library, sys: int, answer: tuple[str, int], update: int
) -> None:
    host = _host(library, sys, tdx_features0=0, update=update)
    assert host.status(DISABLE) == answer


def test_a_module_that_is_shut_down_says_so(library: Library) -> None:
    assert _host(library, 4).status(DISABLE) == IS_SHUT_DOWN


def test_it_has_no_versions_and_touches_no_register_but_rax(library: Library) -> None:
    host = _host(library, 3)
    assert host.status(DISABLE, version=1) == INVALID_RAX
    out = host.seamcall(DISABLE, **DIRTY)
    assert {name: out[name] for name in DIRTY} == DIRTY


def test_an_interrupt_keeps_progress_and_every_call_makes_some(library: Library) -> None:
    host = _host(library, 3)
    host.machine.interrupts = 99
    assert [host.status(DISABLE, lp) for lp in (0, 1, 2)] == [RESUMABLE, RESUMABLE, OK]
    assert host.sys == 0


@pytest.mark.parametrize("leaf", [INIT, LP_INIT, RD, RDALL, INFO, TDMR_INIT, LP_SHUTDOWN])
def test_once_begun_other_leaves_are_locked_out_until_it_is_finished(
    library: Library, leaf: int
) -> None:
    host = _host(library, 3)
    host.machine.interrupts = 1
    assert host.status(DISABLE) == RESUMABLE
    out = host.seamcall(leaf, 3, **DIRTY)
    assert library.status_name(out["rax"]) == BUSY[0]
    assert {name: out[name] for name in DIRTY} == DIRTY
    assert host.sys == 3
    assert host.status(DISABLE, lp=7) == OK
    assert host.status(INIT) == OK


@pytest.mark.parametrize("leaf", [RD, LP_SHUTDOWN, TDMR_INIT, KEY_CONFIG, UPDATE])
def test_a_leaf_in_flight_makes_it_busy_and_new_ones_are_locked_out(
    library: Library, leaf: int
) -> None:
    host = _host(library, 3)
    met: list[tuple[str, int]] = []

    def inside(lp: int, _leaf: int) -> None:
        host.machine.on_hold = None
        met.extend([host.status(DISABLE, 1), host.status(RD, 2, rdx=NULL_ID)])

    host.machine.on_hold = inside
    answer = host.status(leaf, 0, rcx=4 * GIB, rdx=NULL_ID)
    assert answer[0] != BUSY[0]
    assert met == [BUSY, BUSY]
    assert host.status(RD, 2, rdx=NULL_ID) == BUSY
    assert host.status(DISABLE, 1) == OK


def test_a_second_one_is_busy_while_the_first_is_inside(library: Library) -> None:
    host = _host(library, 3)
    met: list[tuple[str, int]] = []

    def inside(_lp: int, _leaf: int) -> None:
        host.machine.on_hold = None
        met.append(host.status(DISABLE, 1))

    host.machine.on_hold = inside
    assert host.status(DISABLE, 0) == OK
    assert met == [BUSY]
    assert host.status(INIT) == OK


def test_handoff_data_goes_with_the_memory_that_it_describes(library: Library) -> None:
    host = _host(library, 4)
    host.module.reload(keep_handoff=True)
    assert host.status(DISABLE) == OK
    host.lp_init_all()
    assert host.status(UPDATE) == ("TDX_SYS_INVALID_HANDOFF", 0)


def test_a_new_module_ends_it(library: Library) -> None:
    host = _host(library, 3)
    host.machine.interrupts = 1
    assert host.status(DISABLE) == RESUMABLE
    host.module.reload(keep_handoff=False)
    assert host.status(INIT) == OK
