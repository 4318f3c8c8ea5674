# SPDX-License-Identifier: GPL-2.0-or-later
"""The library against the model: sequences of calls from many LPs, some inside others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .binding import ALL_ONES, Library
from .machine import (
    CONFIG,
    DISABLE,
    FIRST_HKID,
    GIB,
    INFO,
    INIT,
    KEY_CONFIG,
    LP_INIT,
    LP_SHUTDOWN,
    RD,
    RDALL,
    SHUTDOWN,
    SYS_DISABLE,
    TDMR_INIT,
    UPDATE,
)
from .model import ModelLibrary
from .model_pair import Pair, Step
from .model_pseamldr import SEAMLDR_INFO
from .model_steps import GOOD_ARRAY, HV, LEAST_HV, MAX_DEPTH, STAGES, Calls, bring_to, machine

FAILURES: list[dict[str, int]] = [
    {"rdrand_failures": 1},
    *[{"pconfig_result": result} for result in range(1, 6)],
    *[{"interrupts": interrupts} for interrupts in (1, 9)],
]
EVENTS: list[dict[str, int]] = [*[{}] * 8, *FAILURES]
STAGE = st.integers(0, len(STAGES))

# Operands with which each leaf gets as far as the state lets it.
VALID: dict[int, dict[str, int]] = {
    INIT: {"rcx": 0, "r8": 0},
    LP_INIT: {},
    CONFIG: {"rcx": GOOD_ARRAY, "rdx": 2, "r8": FIRST_HKID},
    KEY_CONFIG: {},
    TDMR_INIT: {"rcx": 4 * GIB},
    RD: {"rdx": ALL_ONES},
    RDALL: {"rdx": 0x8000, "r8": ALL_ONES},
    INFO: {"rcx": 0x4000, "rdx": 1024, "r8": 0x6000, "r9": 32},
    LP_SHUTDOWN: {},
    SHUTDOWN: {"rcx": HV},
    UPDATE: {"r9": 0, "r10": 0},
    DISABLE: {},
    SEAMLDR_INFO: {"rcx": 0xC000},
}


def _pair(library: Library, model: ModelLibrary, **more: int) -> Pair:
    numbers = {"module_hv": HV, "min_update_hv": LEAST_HV, "tdx_features0": SYS_DISABLE, **more}
    return Pair(library, model, machine, **numbers)


def _set(pair: Pair, event: dict[str, int]) -> None:
    for name, value in event.items():
        for side in pair.sides:
            setattr(side.machine, name, value)


def _run(pair: Pair, data: st.DataObject, calls: Calls, depth: int, length: int) -> None:
    for _ in range(data.draw(st.integers(1, length))):
        _set(pair, data.draw(st.sampled_from(EVENTS)))
        pair.run(data.draw(calls.steps(depth)))
        if data.draw(st.integers(0, 19)) == 0:
            pair.reload(data.draw(st.booleans()))
    pair.compare_memory()


@settings(max_examples=400)
@given(data=st.data(), stage=STAGE)
def test_one_call_after_the_other(
    library: Library, model: ModelLibrary, calls: Calls, data: st.DataObject, stage: int
) -> None:
    pair = _pair(library, model)
    bring_to(pair, stage)
    _run(pair, data, calls, depth=0, length=12)


@settings(max_examples=300)
@given(data=st.data(), stage=STAGE)
def test_calls_inside_others(
    library: Library, model: ModelLibrary, calls: Calls, data: st.DataObject, stage: int
) -> None:
    pair = _pair(library, model)
    bring_to(pair, stage)
    _run(pair, data, calls, depth=MAX_DEPTH, length=5)


@settings(max_examples=200)
@given(data=st.data(), stage=STAGE, no_downgrade=st.sampled_from([0, 1]))
def test_later_modules(
    library: Library,
    model: ModelLibrary,
    late_calls: Calls,
    data: st.DataObject,
    stage: int,
    no_downgrade: int,
) -> None:
    pair = _pair(library, model, update=16, no_downgrade=no_downgrade)
    bring_to(pair, stage)
    _run(pair, data, late_calls, depth=1, length=8)


def _meetings() -> Iterator[tuple[int, int]]:
    for outer in VALID:
        for inner in VALID:
            yield outer, inner


@pytest.mark.parametrize("stage", range(len(STAGES) + 1))
@pytest.mark.parametrize("features0", [0, SYS_DISABLE], ids=["without DISABLE", "with DISABLE"])
def test_every_leaf_meets_every_leaf_in_every_state(
    library: Library, model: ModelLibrary, stage: int, features0: int
) -> None:
    for outer, inner in _meetings():
        pair = _pair(library, model, tdx_features0=features0)
        bring_to(pair, stage)
        meets = Step(2, inner, VALID[inner])
        pair.run(Step(3, outer, VALID[outer], inner=(meets, meets)))
        pair.run(meets)
        pair.compare_memory()


@pytest.mark.parametrize("stage", range(len(STAGES) + 1))
def test_every_leaf_meets_every_failure_in_every_state(
    library: Library, model: ModelLibrary, stage: int
) -> None:
    for leaf, registers in VALID.items():
        for failure in FAILURES:
            pair = _pair(library, model)
            bring_to(pair, stage)
            _set(pair, failure)
            for _ in range(3):
                pair.run(Step(3, leaf, registers))


def _leaves_and_versions() -> Iterator[int]:
    for leaf in [*range(72), 128, 163, 200, 254, 255, 0x8000, 0xFFFF]:
        for version in (0, 1, 2):
            yield leaf | version << 16
    for leaf in (INIT, RD, LP_SHUTDOWN, TDMR_INIT, 200):
        for bit in range(16, 63):
            yield leaf | 1 << bit


@pytest.mark.parametrize("stage", range(len(STAGES) + 1))
@pytest.mark.parametrize("update", [1, 16])
def test_every_leaf_number_with_versions_and_reserved_bits(
    library: Library, model: ModelLibrary, stage: int, update: int
) -> None:
    pair = _pair(library, model, update=update)
    bring_to(pair, stage)
    for rax in _leaves_and_versions():
        # What would lead to another state is refused by its operands.
        pair.run(Step(1, rax, {"rcx": 1, "rdx": 1, "r8": 1}))


def test_a_tdmr_is_initialised_to_its_end_and_no_further(
    library: Library, model: ModelLibrary
) -> None:
    pair = _pair(library, model)
    bring_to(pair, len(STAGES))
    assert pair.status(Step(0, UPDATE)) == "TDX_SUCCESS"
    for base, calls in ((4 * GIB, 257), (6 * GIB, 512 - 3 + 1)):
        last = Step(1, TDMR_INIT, {"rcx": base}, repeat=calls)
        assert pair.status(last) == "TDX_TDMR_ALREADY_INITIALIZED"
    pair.compare_memory()


@pytest.mark.parametrize("changes", [{}, {"no_integrity": 1}])
@pytest.mark.parametrize("algorithms", [0xF, 0x5, 0xA, 0x3, 0xC, 0x1, 0x2, 0x4, 0x8])
def test_the_key_is_of_the_kind_that_firmware_runs(
    library: Library, model: ModelLibrary, changes: dict[str, Any], algorithms: int
) -> None:
    pair = _pair(library, model, **changes)
    pair.each(lambda at: at.msrs.update({0x982: 6 << 32 | algorithms << 48 | 3}))
    for lp, leaf in [(0, INIT), *((lp, LP_INIT) for lp in range(4)), (0, CONFIG), (0, KEY_CONFIG)]:
        pair.run(Step(lp, leaf, VALID[leaf]))
