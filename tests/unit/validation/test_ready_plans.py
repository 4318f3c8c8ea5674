# SPDX-License-Identifier: GPL-2.0-or-later
"""The plans that come with the package: what each is for, and what it may do."""

from pathlib import Path

import pytest
import yaml

from tdxhost.reference import DATA
from tdxhost.validation.collect import find_tests
from tdxhost.validation.options import duration
from tdxhost.validation.plan import with_time
from tdxhost.validation.plan_file import read_plan, ready_plans

NAMES = [name for name, _ in ready_plans()]
PLANS = {
    name: yaml.safe_load((Path(DATA) / "plans" / f"{name}.yaml").read_text(encoding="utf-8"))
    for name in NAMES
}


def ids(boot: dict[str, list[object]]) -> list[str]:
    """The tests of a boot."""
    return [next(iter(test)) if isinstance(test, dict) else str(test) for test in boot["tests"]]


def test_there_is_a_plan_for_each_occasion() -> None:
    assert NAMES == ["hotplug", "smoke", "soak", "standard"]


@pytest.mark.parametrize("name", NAMES)
def test_a_ready_plan_is_called_as_its_file(name: str) -> None:
    assert PLANS[name]["name"] == name
    assert dict(ready_plans())[name] == PLANS[name]["about"]


def test_only_the_plan_that_is_called_after_it_disturbs_the_machine() -> None:
    assert [name for name in NAMES if PLANS[name].get("disturbs")] == ["hotplug"]


@pytest.mark.parametrize("name", ["smoke", "soak"])
def test_short_and_long_plans_need_no_reboot(name: str) -> None:
    assert len(PLANS[name]["boots"]) == 1


def test_the_soak_takes_four_hours() -> None:
    times = [
        duration(options["for"])
        for test in PLANS["soak"]["boots"][0]["tests"]
        if isinstance(test, dict)
        for options in test.values()
    ]
    assert sum(times) == 4 * 3600


@pytest.mark.parametrize("name", NAMES)
def test_a_boot_ends_with_a_look_at_the_kernel_log(name: str) -> None:
    assert {ids(boot)[-1] for boot in PLANS[name]["boots"]} == {"log.clean"}


def test_the_standard_plan_tries_each_order_before_it_compares_them() -> None:
    orders = []
    for boot in PLANS["standard"]["boots"]:
        orders += [test["cpus.enable"]["order"] for test in boot["tests"] if "cpus.enable" in test]
        if "cpus.orders-agree" in ids(boot):
            break
    assert sorted(orders) == ["at-once", "backwards", "forwards", "shuffled"]


@pytest.mark.parametrize("name", NAMES)
def test_a_ready_plan_reads_cleanly_with_the_tests_that_there_are(name: str) -> None:
    plan = read_plan(name, find_tests())
    assert [boot.name for boot in plan.boots] == [boot["name"] for boot in PLANS[name]["boots"]]


def test_every_test_is_in_a_ready_plan_unless_it_needs_what_only_a_lab_can_state() -> None:
    planned = {id_ for plan in PLANS.values() for boot in plan["boots"] for id_ in ids(boot)}
    judging = {id_ for id_, test in find_tests().items() if test.reads}
    assert set(find_tests()) - planned == judging


def test_a_time_for_the_soak_is_shared_out() -> None:
    items = with_time(read_plan("soak", find_tests()), 60).boots[0].items
    times = [item.options["for"] for item in items if "for" in item.options]
    assert sum(times) == pytest.approx(60)
    assert len(times) == 3
