# SPDX-License-Identifier: GPL-2.0-or-later
"""What a reader of soak.readers takes for movement, and how it is told what to do."""

from dataclasses import replace
from typing import Any

import pytest

from tdxhost.records import Code, ModuleStatus, Status, Step
from tdxhost.validation.reading import Order, went_back

FIRST = Status(
    module_status=ModuleStatus.INITIALIZED,
    step=Step.TDMR_INIT,
    running=0,
    error=0,
    code=Code.NONE,
    trap=0,
    cpu=None,
    cpus_online=4,
    cpus_enabled=4,
    cpus_failed=0,
    leaf=0,
    seam_status=0,
    progress=8,
    progress_total=8,
    pamt_bytes=1 << 25,
    generation=30,
)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"module_status": ModuleStatus.ERROR}, "module_status was initialized, and is error"),
        ({"step": Step.CONFIG}, "step was tdmr_init, and is config"),
        ({"pamt_bytes": 0}, "pamt_bytes was 33554432, and is 0"),
        ({"cpus_failed": 1}, "cpus_failed was 0, and is 1"),
        ({"generation": 29}, "generation went back from 30 to 29"),
        ({"cpus_enabled": 3}, "cpus_enabled went back from 4 to 3"),
    ],
)
def test_a_state_that_moves_and_a_counter_that_goes_back_are_told(
    members: dict[str, Any], says: str
) -> None:
    assert list(went_back(FIRST, replace(FIRST, **members))) == [says]


def test_counters_may_grow() -> None:
    grown = replace(FIRST, generation=31, cpus_enabled=5, cpus_online=5, running=1)
    assert list(went_back(FIRST, grown)) == []


def test_an_order_is_read_back() -> None:
    order = Order(cpus=(0, 3), seed="1f")
    assert Order.of(str(order)) == order
