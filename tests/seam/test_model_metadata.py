# SPDX-License-Identifier: GPL-2.0-or-later
"""The library against the model: TDH.SYS.RD, RDALL and INFO with good and bad operands."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .binding import ALL_ONES, Library
from .machine import INFO, RD, RDALL
from .model import ModelLibrary
from .model_metadata import RD_MUST_BE_ZERO
from .model_pair import Pair, Step
from .model_steps import STAGES, Calls, bring_to, machine

PAGE_PA = 0x8000


@pytest.fixture(scope="module")
def pair(library: Library, model: ModelLibrary) -> Pair:
    """A module with handoff data, before TDH.SYS.UPDATE."""
    made = Pair(library, model, machine, module_hv=4, min_update_hv=2)
    bring_to(made, len(STAGES))
    return made


@settings(max_examples=1000)
@given(data=st.data(), leaf=st.sampled_from([RD, RD, RDALL, INFO]))
def test_any_operands(pair: Pair, calls: Calls, data: st.DataObject, leaf: int) -> None:
    pair.run(Step(data.draw(st.integers(0, 3)), leaf, data.draw(calls.registers(leaf))))
    pair.compare_memory()


def test_every_element_of_every_field_and_its_neighbours(pair: Pair, model: ModelLibrary) -> None:
    for field in model.reference.fields:
        for index in range(-1, field.elements + 1):
            pair.run(Step(0, RD, {"rdx": field.id + index}))


def test_every_list_that_begins_at_a_field(pair: Pair, model: ModelLibrary) -> None:
    for field in model.reference.fields:
        for index in {0, 1, field.elements - 1}:
            pair.run(Step(0, RDALL, {"rdx": PAGE_PA, "r8": field.id + index}))
            pair.compare_memory()


@pytest.mark.parametrize("register", ["rdx", "r8"])
def test_every_bit_of_an_id(pair: Pair, model: ModelLibrary, register: str) -> None:
    leaf = RD if register == "rdx" else RDALL
    for field in model.reference.fields[::7]:
        for bit in range(64):
            ids = {register: field.id ^ 1 << bit}
            pair.run(Step(1, leaf, {"rdx": PAGE_PA, **ids}))


def test_null_ids_and_almost_null_ids(pair: Pair) -> None:
    for bit in range(64):
        pair.run(Step(1, RD, {"rdx": ALL_ONES ^ 1 << bit}))
    pair.run(Step(1, RD, {"rdx": RD_MUST_BE_ZERO}))


def test_a_platform_s_numbers_show(library: Library, model: ModelLibrary) -> None:
    numbers = {"internal": 7, "build_num": 9, "build_date": 20260102, "no_downgrade": 1}
    made = Pair(library, model, machine, module_hv=4, min_update_hv=2, **numbers)
    bring_to(made, 3)
    for field in model.reference.fields:
        made.run(Step(0, RD, {"rdx": field.id}))
    made.run(Step(0, RDALL, {"rdx": PAGE_PA, "r8": ALL_ONES}))
    made.run(Step(0, INFO, {"rcx": 0x4000, "rdx": 1024, "r8": 0x6000, "r9": 32}))
    made.compare_memory()
