# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a plan can come through: what its tests need against what it says, and in which order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tdxhost.validation.nodes import Reader
from tdxhost.validation.plan import Boot, Item
from tdxhost.validation.stage import ANY, Stage


@dataclass(frozen=True, slots=True)
class DraftItem:
    """A test as it was read: None where nobody knows it; sure where its options are right."""

    item: Item | None
    sure: bool


@dataclass(frozen=True, slots=True)
class DraftBoot:
    """A boot as it was read."""

    name: str
    about: str
    line: int
    drafts: Sequence[DraftItem]

    @property
    def items(self) -> list[Item]:
        """The tests that are known."""
        return [draft.item for draft in self.drafts if draft.item]

    def made(self) -> Boot:
        """The boot, without what is not known."""
        return Boot(name=self.name, about=self.about, items=tuple(self.items))


def check(
    boots: Sequence[DraftBoot], stated: Mapping[str, int], reader: Reader, *, disturbs: bool
) -> None:
    """Notes what is wrong with the tests of a plan.

    stated has the limits that the plan states, and "machine", each with its line; disturbs is
    whether it says that it may disturb.
    """
    _check_names(boots, reader)
    for boot in boots:
        _check_twins(boot, reader)
        _check_stages(boot, reader)
    items = [item for boot in boots for item in boot.items]
    if not disturbs:
        _check_disturbing(items, reader)
    _check_stated(items, stated, reader)
    if all(draft.item for boot in boots for draft in boot.drafts):
        _check_read(items, stated, reader)


def _check_names(boots: Sequence[DraftBoot], reader: Reader) -> None:
    first: dict[str, int] = {}
    for boot in boots:
        line = first.setdefault(boot.name, boot.line)
        if boot.name and line != boot.line:
            reader.wrong(boot.line, f"a boot is called {boot.name} in line {line} already")


def _check_twins(boot: DraftBoot, reader: Reader) -> None:
    """The same test with the same options: results could not be told apart."""
    items = [draft.item for draft in boot.drafts if draft.item and draft.sure]
    for at, item in enumerate(items):
        twin = next((other for other in items[:at] if _same(other, item)), None)
        if twin:
            options = " with these options" if item.test.options else ""
            reader.wrong(
                item.line,
                f"{item.test.id} is in this boot{options} already, in line {twin.line}: "
                "their results could not be told apart",
            )


def _same(one: Item, other: Item) -> bool:
    return one.test.id == other.test.id and one.options == other.options


def _check_stages(boot: DraftBoot, reader: Reader) -> None:
    """Follows the TDX module through a boot, on which a test that nobody knows may do anything."""
    possible: frozenset[Stage] = frozenset({Stage.UNTOUCHED})
    cause: Item | None = None
    for item in (draft.item for draft in boot.drafts):
        if item is None:
            possible = ANY
            continue
        fitting = possible & item.test.needs
        if not fitting:
            reader.wrong(item.line, _misplaced(item, possible, cause))
        if item.test.leaves is not None:
            possible, cause = frozenset({item.test.leaves}), item
        else:
            possible = fitting or possible


def _misplaced(item: Item, possible: frozenset[Stage], cause: Item | None) -> str:
    by = f"{cause.test.id} in line {cause.line} leaves it so" if cause else "as it is at boot"
    needed, found = _labels(item.test.needs), _labels(possible)
    return f"{item.test.id} needs the TDX module {needed}, but here it is {found}: {by}"


def _labels(stages: frozenset[Stage]) -> str:
    labels = [stage.label for stage in sorted(stages)]
    return " or ".join(filter(None, (", ".join(labels[:-1]), labels[-1])))


def _check_disturbing(items: Sequence[Item], reader: Reader) -> None:
    for item in items:
        if item.test.disturbs:
            reader.wrong(
                item.line,
                f"{item.test.id} disturbs other work of the machine ({item.test.disturbs}); "
                "a plan that may do so says disturbs: true",
            )


def _check_stated(items: Sequence[Item], stated: Mapping[str, int], reader: Reader) -> None:
    for item in items:
        for name in item.test.reads:
            if name not in stated:
                told = _told(name)
                reader.wrong(item.line, f"{item.test.id} judges by {told}, which is not stated")


def _check_read(items: Sequence[Item], stated: Mapping[str, int], reader: Reader) -> None:
    read = {name for item in items for name in item.test.reads}
    for name in stated.keys() - read:
        told = _told(name)
        reader.wrong(stated[name], f"{told} is stated, but no test of the plan judges by it")


def _told(name: str) -> str:
    return name if name == "machine" else f"the limit {name}"
