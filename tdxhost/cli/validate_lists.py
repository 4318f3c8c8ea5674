# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests and plans of the validation suite, as tdxhost validate --list shows them."""

from collections.abc import Collection, Iterable, Iterator

from tdxhost.cli.tables import Block, Column, Row, Table
from tdxhost.validation.plan import Boot, Item, Plan
from tdxhost.validation.requirement import Requirement
from tdxhost.validation.result import TestResult
from tdxhost.validation.stage import ANY, Stage
from tdxhost.words import count

INDENT = "  "
TEST_COLUMNS = (Column("TEST"), Column("WHAT IT HOLDS (WHERE THAT COMES FROM)"))
PLAN_COLUMNS = (
    Column("PLAN"),
    Column("BOOTS", right=True, rank=1),
    Column("TESTS", right=True, rank=1),
    Column("WHAT IT IS FOR"),
)


def list_blocks(
    tests: Iterable[Requirement], plans: Iterable[Plan], *, verbose: bool = False
) -> list[Block]:
    """Tests by id and plans; verbose shows what each needs, and can be told."""
    tests, plans = sorted(tests, key=lambda test: test.id), list(plans)
    made: list[Block] = []
    if verbose:
        for test in tests:
            made += [*_test_lines(test), ""]
    elif tests:
        made += [Table("", TEST_COLUMNS, tuple(map(_test_row, tests))), ""]
    if plans:
        made += [Table("", PLAN_COLUMNS, tuple(map(_plan_row, plans))), ""]
    if verbose:
        for plan in plans:
            made += [*_plan_lines(plan), ""]
    more = "" if verbose else " (-v shows what each needs, and its options)"
    return [*made, f"{count(len(tests), 'test')}, {count(len(plans), 'plan')}{more}"]


def _test_row(test: Requirement) -> Row:
    return Row((test.id, f"{test.holds} ({test.source})"))


def _test_lines(test: Requirement) -> Iterator[str]:
    yield test.id
    yield f"{INDENT}{test.holds}"
    yield f"{INDENT}Source: {test.source}"
    yield f"{INDENT}Needs the TDX module {stages_text(test.needs)}"
    if test.leaves is not None:
        yield f"{INDENT}Leaves it {test.leaves.label}"
    for name, option in test.options.items():
        yield f"{INDENT}Option {name}: {option.help} (default: {option.default})"
    if test.reads:
        yield f"{INDENT}Judges by the plan's {', '.join(test.reads)}"
    if test.disturbs:
        yield f"{INDENT}Disturbs: {test.disturbs}"
    yield f"{INDENT}Ends after {test.timeout_s:g} s at the latest"


def stages_text(stages: Collection[Stage]) -> str:
    """Stages of the TDX module in words."""
    return "in any state" if set(stages) >= ANY else " or ".join(s.label for s in sorted(stages))


def _plan_row(plan: Plan) -> Row:
    number = sum(len(boot.items) for boot in plan.boots)
    about = f"{plan.about} (disturbs the machine's other work)" if plan.disturbs else plan.about
    return Row((plan.name, str(len(plan.boots)), str(number), about))


def _plan_lines(plan: Plan) -> Iterator[str]:
    yield f"Plan {plan.name}"
    for boot in plan.boots:
        yield f"{INDENT}{_boot_text(boot)}"


def _boot_text(boot: Boot) -> str:
    about = f", {boot.about}" if boot.about else ""
    return f"{boot.name}{about}: {', '.join(item_title(item) for item in boot.items)}"


def item_title(item: Item) -> str:
    """A test of a plan with the options that the plan says."""
    return TestResult(id=item.test.id, boot="", holds="", source="", options=item.said).title
