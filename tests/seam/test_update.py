# SPDX-License-Identifier: GPL-2.0-or-later
"""TDH.SYS.SHUTDOWN and TDH.SYS.UPDATE: the runtime update as the module sees it."""

from __future__ import annotations

from typing import Any

import pytest

from .binding import Library
from .machine import (
    GIB,
    KEY_CONFIG,
    OK,
    R9,
    R10,
    RCX,
    RD,
    SHUTDOWN,
    TDMR_INIT,
    UPDATE,
    Host,
    layout,
)

TDMRS = layout([(4 * GIB, GIB)], 20 * GIB)
HANDOFF_DATA_VALID = 0x8900000000000004
HANDOFF_DATA_HV = 0x8900000100000005
INVALID = "TDX_OPERAND_INVALID"
INVALID_HANDOFF = ("TDX_SYS_INVALID_HANDOFF", 0)


def _ready(library: Library, **more: Any) -> Host:
    host = Host(library, **more)
    host.bring_up(TDMRS)
    return host


def _updated(library: Library) -> Host:
    """A new module that has found handoff data and initialised its LPs."""
    host = _ready(library)
    for _ in range(3):
        assert host.status(TDMR_INIT, rcx=4 * GIB) == OK
    assert host.status(SHUTDOWN) == OK
    host.module.reload(keep_handoff=True)
    host.lp_init_all()
    return host


@pytest.mark.parametrize(
    ("hv", "accepted"), [(1, False), (2, True), (4, True), (5, False), (4 | 1 << 32, False)]
)
def test_shutdown_compares_rcx_whole_with_the_handoff_versions(
    library: Library, hv: int, accepted: bool
) -> None:
    host = _ready(library, module_hv=4, min_update_hv=2)
    assert host.status(SHUTDOWN, rcx=hv) == (OK if accepted else (INVALID, RCX))
    assert host.sys == (4 if accepted else 3)


@pytest.mark.parametrize(
    ("rcx", "accepted"), [(4, True), (4 | 1 << 16, True), (4 | 1 << 17, False), (1, False)]
)
def test_shutdown_of_later_modules_has_a_flag(library: Library, rcx: int, accepted: bool) -> None:
    host = _ready(library, update=16, module_hv=4, min_update_hv=2)
    assert host.status(SHUTDOWN, rcx=rcx) == (OK if accepted else (INVALID, RCX))


def test_without_downgrade_only_the_native_version_will_do(library: Library) -> None:
    host = _ready(library, module_hv=4, min_update_hv=2, no_downgrade=1)
    assert host.status(SHUTDOWN, rcx=3) == (INVALID, RCX)
    assert host.status(SHUTDOWN, rcx=4) == OK


def test_an_updated_module_is_ready_at_once_and_goes_on_where_it_was(library: Library) -> None:
    host = _updated(library)
    assert host.status(UPDATE) == OK
    assert host.module.state() == {"sys": 3, "lps": 8, "packages": 0}
    answers = [host.seamcall(TDMR_INIT, rcx=4 * GIB)["rdx"] for _ in range(253)]
    assert answers == [4 * GIB] * 252 + [5 * GIB]
    assert host.status(KEY_CONFIG) == ("TDX_SYS_KEY_CONFIG_NOT_PENDING", 0)


def test_update_consumes_the_handoff_data(library: Library) -> None:
    host = _updated(library)
    assert host.seamcall(RD, rdx=HANDOFF_DATA_VALID)["r8"] == 1
    assert host.status(UPDATE) == OK
    assert host.seamcall(RD, rdx=HANDOFF_DATA_VALID)["r8"] == 0
    assert host.status(UPDATE) == ("TDX_SYS_STATE_INCORRECT", 0)


def test_handoff_data_says_its_version(library: Library) -> None:
    host = _ready(library, module_hv=4, min_update_hv=2)
    assert host.status(SHUTDOWN, rcx=3) == OK
    host.module.reload(keep_handoff=True)
    host.lp_init_all()
    assert host.seamcall(RD, rdx=HANDOFF_DATA_HV)["r8"] == 3


@pytest.mark.parametrize(("keep_handoff", "version"), [(True, 3), (False, 0)])
def test_a_consumed_header_is_invalid_and_otherwise_stays_until_it_is_overwritten(
    library: Library, keep_handoff: bool, version: int
) -> None:
    host = _ready(library, module_hv=4, min_update_hv=2)
    assert host.status(SHUTDOWN, rcx=3) == OK
    host.module.reload(keep_handoff=True)
    host.lp_init_all()
    assert host.status(UPDATE) == OK
    host.module.reload(keep_handoff=keep_handoff)
    host.lp_init_all()
    assert host.seamcall(RD, rdx=HANDOFF_DATA_VALID)["r8"] == 0
    assert host.seamcall(RD, rdx=HANDOFF_DATA_HV)["r8"] == version


def test_without_handoff_data_config_stays_possible(library: Library) -> None:
    host = _ready(library)
    assert host.status(SHUTDOWN) == OK
    host.module.reload(keep_handoff=False)
    host.lp_init_all()
    assert host.status(UPDATE) == INVALID_HANDOFF
    assert host.status(UPDATE) == INVALID_HANDOFF
    assert host.config(TDMRS) == OK


def test_config_shuts_update_out(library: Library) -> None:
    host = _updated(library)
    assert host.config(TDMRS) == OK
    assert host.status(UPDATE) == ("TDX_SYS_STATE_INCORRECT", 0)


def test_update_waits_for_all_lps(library: Library) -> None:
    host = _ready(library)
    assert host.status(SHUTDOWN) == OK
    host.module.reload(keep_handoff=True)
    assert host.status(33) == OK
    assert host.status(35, 0) == OK
    assert host.status(UPDATE) == ("TDX_SYS_STATE_INCORRECT", 0)


def test_version_1_of_later_modules_names_features(library: Library) -> None:
    host = Host(library, update=16)
    host.lp_init_all()
    assert host.status(UPDATE, version=1, r9=1 << 60) == (INVALID, R9)
    assert host.status(UPDATE, version=1, r10=1) == (INVALID, R10)
    assert host.status(UPDATE, version=1) == INVALID_HANDOFF
    assert host.status(UPDATE, version=0, r9=1 << 60) == INVALID_HANDOFF
