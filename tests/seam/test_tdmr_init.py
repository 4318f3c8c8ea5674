# SPDX-License-Identifier: GPL-2.0-or-later
"""TDH.SYS.KEY.CONFIG and TDH.SYS.TDMR.INIT: keys, and what is written to the PAMT."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .binding import CONSTANTS, FATAL, Library
from .machine import (
    FIRST_HKID,
    GIB,
    KEY_CONFIG,
    MIB,
    OK,
    PAGE,
    RCX,
    TDMR_INIT,
    Host,
    Machine,
    Tdmr,
    layout,
)

KET = 187
SET_KEY_RANDOM = 1
AES_XTS_256_INTEGRITY, AES_XTS_128_INTEGRITY, AES_XTS_256, AES_XTS_128 = 8, 2, 4, 1
PAMT_AT = 20 * GIB
PER_CALL = 4 * MIB


def _configured(library: Library, machine: Machine | None = None, **more: Any) -> Host:
    host = Host(library, machine, **more)
    host.lp_init_all()
    assert host.config(layout([(4 * GIB, GIB)], PAMT_AT)) == OK
    return host


def _ready(library: Library, tdmrs: list[Tdmr]) -> Host:
    host = Host(library)
    host.bring_up(tdmrs)
    host.machine.memory.writes.clear()
    return host


def test_each_package_gets_its_key_once_and_the_last_makes_ready(library: Library) -> None:
    host = _configured(library, Machine(lps=8, packages=4))
    for package in range(4):
        assert host.sys == 2
        assert host.status(KEY_CONFIG, 2 * package) == OK
        if package < 3:
            assert host.status(KEY_CONFIG, 2 * package + 1) == ("TDX_KEY_CONFIGURED", 0)
    assert host.sys == 3
    assert host.status(KEY_CONFIG, 0) == ("TDX_SYS_KEY_CONFIG_NOT_PENDING", 0)
    ctrl = SET_KEY_RANDOM | AES_XTS_256_INTEGRITY << 8
    assert host.machine.pconfig_calls == [(lp, FIRST_HKID, ctrl) for lp in (0, 2, 4, 6)]


@pytest.mark.parametrize(
    ("algorithms", "no_integrity", "chosen"),
    [
        (0xF, 0, AES_XTS_256_INTEGRITY),
        (0x3, 0, AES_XTS_128_INTEGRITY),
        (0xF, 1, AES_XTS_256),
        (0x3, 1, AES_XTS_128),
    ],
)
def test_the_strongest_activated_algorithm_is_taken(
    library: Library, algorithms: int, no_integrity: int, chosen: int
) -> None:
    machine = Machine()
    machine.msrs[0x982] = algorithms << 48 | 6 << 32 | 3
    host = _configured(library, machine, no_integrity=no_integrity)
    assert host.status(KEY_CONFIG) == OK
    assert machine.pconfig_calls[0][2] == SET_KEY_RANDOM | chosen << 8


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ("SEAM_PCONFIG_NO_ENTROPY", ("TDX_KEY_GENERATION_FAILED", 0)),
        ("SEAM_PCONFIG_BUSY", ("TDX_OPERAND_BUSY", KET)),
    ],
)
def test_a_key_that_could_not_be_made_can_be_tried_again(
    library: Library, result: str, status: tuple[str, int]
) -> None:
    host = _configured(library)
    host.machine.pconfig_result = CONSTANTS[result]
    assert host.status(KEY_CONFIG) == status
    assert host.module.state()["packages"] == 0
    host.machine.pconfig_result = CONSTANTS["SEAM_PCONFIG_SUCCESS"]
    host.key_config_all()


@pytest.mark.parametrize("result", ["BAD_COMMAND", "BAD_KEYID", "BAD_ALGORITHM"])
def test_other_pconfig_errors_are_fatal(library: Library, result: str) -> None:
    host = _configured(library)
    host.machine.pconfig_result = CONSTANTS["SEAM_PCONFIG_" + result]
    assert host.ends_with(KEY_CONFIG) == FATAL


def test_256_calls_a_gib_and_rdx_goes_by_whole_gib(library: Library) -> None:
    base = 4 * GIB
    host = _ready(library, layout([(base, 2 * GIB)], PAMT_AT))
    answers = [host.seamcall(TDMR_INIT, n % 8, rcx=base, rdx=5)["rdx"] for n in range(512)]
    assert answers == [base] * 255 + [base + GIB] * 256 + [base + 2 * GIB]
    out = host.seamcall(TDMR_INIT, rcx=base, rdx=5)
    assert library.status_name(out["rax"]) == "TDX_TDMR_ALREADY_INITIALIZED"
    assert out["rdx"] == 0


@pytest.mark.parametrize("rcx", [5 * GIB, 4 * GIB + 1, 4 * GIB | 1 << 46, 1 << 52, 0])
def test_rcx_has_to_be_the_base_of_a_tdmr(library: Library, rcx: int) -> None:
    host = _ready(library, layout([(4 * GIB, 2 * GIB)], PAMT_AT))
    out = host.seamcall(TDMR_INIT, rcx=rcx, rdx=5)
    assert library.status_name(out["rax"]) == "TDX_OPERAND_INVALID"
    assert (out["rax"] & 0xFFFFFFFF, out["rcx"], out["rdx"]) == (RCX, rcx, 0)


@given(calls=st.lists(st.sampled_from([4 * GIB, 6 * GIB]), min_size=1, max_size=40))
def test_each_call_writes_the_next_piece_of_each_level(library: Library, calls: list[int]) -> None:
    tdmrs = {tdmr.base: tdmr for tdmr in layout([(4 * GIB, GIB), (6 * GIB, GIB)], PAMT_AT)}
    host = _ready(library, list(tdmrs.values()))
    done = dict.fromkeys(tdmrs, 0)
    for base in calls:
        assert host.status(TDMR_INIT, rcx=base) == OK
        tdmr, n = tdmrs[base], done[base]
        expected = {
            (tdmr.pamt_4k[0] + n * 1024 * 16, 1024 * 16),
            (tdmr.pamt_2m[0] + n * 2 * 16, 2 * 16),
        } | ({(tdmr.pamt_1g[0], 16)} if n == 0 else set())
        assert set(host.machine.memory.writes) == expected
        host.machine.memory.writes.clear()
        done[base] += 1


@given(
    areas=st.lists(
        st.tuples(st.integers(0, 3000), st.integers(1, 600)), max_size=8, unique_by=lambda a: a[0]
    )
)
def test_reserved_pages_get_type_1_and_every_other_byte_0(
    library: Library, areas: list[tuple[int, int]]
) -> None:
    reserved: list[tuple[int, int]] = []
    for start, count in sorted(areas):
        if not reserved or start >= sum(reserved[-1]):
            reserved.append((start, count))
    tdmr = layout([(4 * GIB, GIB)], PAMT_AT)[0]
    tdmr.reserved = [(start * PAGE, count * PAGE) for start, count in reserved]
    host = Host(library)
    host.bring_up([tdmr])
    size = 3 * 1024 * 16
    host.machine.memory.write(tdmr.pamt_4k[0], b"\xee" * size)
    for _ in range(3):
        assert host.status(TDMR_INIT, rcx=tdmr.base) == OK
    expected = bytearray(size)
    for start, count in reserved:
        for page in range(start, min(start + count, size // 16)):
            expected[page * 16 + 2] = 1
    assert host.machine.memory.read(tdmr.pamt_4k[0], size) == expected


def test_nothing_outside_the_pamts_is_written(library: Library) -> None:
    tdmrs = layout([(4 * GIB, GIB)], PAMT_AT)
    host = _ready(library, tdmrs)
    for _ in range(256):
        assert host.status(TDMR_INIT, rcx=4 * GIB) == OK
    levels = (tdmrs[0].pamt_4k, tdmrs[0].pamt_2m, tdmrs[0].pamt_1g)
    for pa, size in host.machine.memory.writes:
        assert any(base <= pa and pa + size <= base + length for base, length in levels)
    assert sum(size for _, size in host.machine.memory.writes) == 4 * MIB + 8192 + 16
