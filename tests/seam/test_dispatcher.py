# SPDX-License-Identifier: GPL-2.0-or-later
"""What the module answers before a leaf runs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .binding import DONE, FATAL, REGISTERS, VMFAILINVALID, Library
from .machine import (
    CONFIG,
    GIB,
    INFO,
    INIT,
    KEY_CONFIG,
    LP_INIT,
    LP_SHUTDOWN,
    OK,
    RAX,
    RD,
    RDALL,
    SHUTDOWN,
    TDMR_INIT,
    UPDATE,
    Host,
    Machine,
    config,
    layout,
)

BEFORE_READY = {KEY_CONFIG, INFO, INIT, RD, LP_INIT, RDALL, LP_SHUTDOWN, CONFIG, UPDATE}
READY_ONLY = {TDMR_INIT, SHUTDOWN}
BAD_RAX = ("TDX_OPERAND_INVALID", RAX)
ONE_TDMR = layout([(4 * GIB, GIB)], 6 * GIB)


def _ready(library: Library) -> Host:
    host = Host(library)
    host.bring_up(ONE_TDMR)
    return host


@given(
    bit=st.sampled_from([*range(24, 63)]),
    leaf=st.integers(0, 0xFFFF),
    other=st.integers(0, (1 << 64) - 1),
)
def test_a_reserved_bit_of_rax_is_refused_and_no_register_changes(
    library: Library, bit: int, leaf: int, other: int
) -> None:
    host = Host(library)
    regs = dict.fromkeys(REGISTERS[1:], other)
    result, out = host.module.call(0, rax=leaf | 1 << bit, **regs)
    assert (result, library.status_name(out["rax"])) == (DONE, "TDX_OPERAND_INVALID")
    assert {name: out[name] for name in regs} == regs


@given(leaf=st.integers(0, 0xFFFF), version=st.integers(1, 255))
def test_only_five_leaves_of_1_5_01_know_versions(
    library: Library, leaf: int, version: int
) -> None:
    expected = ("TDX_SYS_NOT_READY", 0) if leaf in {3, 11, 23, 26, 30} else BAD_RAX
    assert Host(library).status(leaf, version=version) == expected


@given(leaf=st.integers(0, 0xFFFF))
def test_before_ready_unknown_leaves_are_not_ready(library: Library, leaf: int) -> None:
    status = Host(library).status(leaf)
    assert (status == ("TDX_SYS_NOT_READY", 0)) == (leaf not in BEFORE_READY)


@given(leaf=st.integers(0, 0xFFFF))
def test_a_module_1_0_knows_nothing_that_came_with_1_5(library: Library, leaf: int) -> None:
    """TDX_SYS_NOT_READY for TDH.SYS.RD is what such hosts show (field case canonical-331)."""
    status = Host(library, minor=0, update=3).status(leaf)

    came_with_1_5 = {RD, RDALL, SHUTDOWN, UPDATE}
    assert (status == ("TDX_SYS_NOT_READY", 0)) == (leaf not in BEFORE_READY - came_with_1_5)


def test_a_module_1_0_that_is_ready_has_no_such_leaf(library: Library) -> None:
    host = Host(library, minor=0, update=3)
    host.bring_up(ONE_TDMR)

    assert {host.status(leaf) for leaf in (RD, RDALL, SHUTDOWN, UPDATE)} == {BAD_RAX}


def test_a_module_2_0_is_no_1_0(library: Library) -> None:
    host = Host(library, major=2, minor=0)

    assert host.status(RD) == ("TDX_SYS_LP_INIT_NOT_DONE", 0)


def test_some_leaves_wait_for_the_last_key(library: Library) -> None:
    host = Host(library)
    steps = (host.lp_init_all, lambda: host.config(ONE_TDMR), lambda: host.status(KEY_CONFIG))
    for step in steps:
        step()
        for leaf in READY_ONLY:
            assert host.status(leaf, rcx=4 * GIB) == ("TDX_SYS_NOT_READY", 0)
    assert host.status(KEY_CONFIG, host.lp_of(1)) == OK
    assert host.status(TDMR_INIT, rcx=4 * GIB) == OK


@given(leaf=st.integers(0x100, 0xFFFF))
def test_when_ready_unknown_leaves_are_invalid(library: Library, leaf: int) -> None:
    assert _ready(library).status(leaf) == BAD_RAX


def test_after_shutdown_only_lp_shutdown_answers(library: Library) -> None:
    host = _ready(library)
    assert host.status(SHUTDOWN) == OK
    for leaf in BEFORE_READY | READY_ONLY | {0, 999}:
        expected = OK if leaf == LP_SHUTDOWN else ("TDX_SYS_SHUTDOWN", 0)
        assert host.status(leaf) == expected
    assert host.status(INIT, version=1) == BAD_RAX


def test_lp_shutdown_does_nothing_in_any_state(library: Library) -> None:
    host = Host(library)
    assert host.status(LP_SHUTDOWN) == OK
    assert host.sys == 0
    host.bring_up(ONE_TDMR)
    assert host.status(LP_SHUTDOWN) == OK
    assert host.sys == 3


def test_without_a_module_seamcall_fails_and_changes_nothing(library: Library) -> None:
    host = Host(library, loaded=0)
    regs = dict.fromkeys(REGISTERS, 7) | {"rax": INIT}
    assert host.module.call(0, **regs) == (VMFAILINVALID, regs)


def test_after_a_fatal_error_nothing_answers(library: Library) -> None:
    host = Host(library)
    host.machine.msrs[0x480] = None
    assert host.ends_with(INIT) == FATAL
    assert host.ends_with(LP_SHUTDOWN, lp=1) == FATAL
    host.module.reload(keep_handoff=False)
    assert host.status(LP_SHUTDOWN) == OK


@pytest.mark.parametrize(
    "change", [{"lps": 0}, {"lps": 5000}, {"packages": 0}, {"packages": 9}, {"nr_cmrs": 33}]
)
def test_numbers_out_of_bounds_give_no_platform(library: Library, change: dict[str, Any]) -> None:
    machine = Machine()
    assert library.create(config(machine, **change), machine) is None


@pytest.mark.parametrize("update", [1, 16])
def test_versions_of_later_modules(library: Library, update: int) -> None:
    host = Host(library, update=update)
    assert host.status(INIT, version=1) == (OK if update > 1 else BAD_RAX)
    assert host.status(INIT, version=2) == BAD_RAX
    assert host.status(LP_INIT, version=1) == BAD_RAX
